"""Every command takes both fields of an interlaced picture as source frames."""

import shutil
from fractions import Fraction as F

import numpy as np
import pytest

import cloudconv
from cloudconv import jobs
from cloudconv.events import Progress, Warned
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import (
    FIELD_STEP,
    FIELDS,
    interlaced,
    picture,
    planes_of,
    read_planes,
    read_times,
    write_clip,
)

COUNT = 10
SMALL = {"device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "fields.mkv"
    pictures = [interlaced(k) for k in range(COUNT)]
    return write_clip(
        path, pictures, rate=25, codec="libx264", options=FIELDS, audio=["aac"]
    )


def test_a_factor_refers_to_both_fields(clip, tmp_path):
    out = tmp_path / "b.mp4"
    result = calls.interpolate(
        clip, out, factor=2, model="blend", deinterlace=True, **SMALL
    )
    assert (result.source_fps, result.output_fps) == ("50", "100")
    assert (result.source_frames, result.output_frames) == (2 * COUNT, 4 * COUNT)
    assert read_times(out) == [F(k, 100) for k in range(4 * COUNT)]
    assert result.duration == pytest.approx(COUNT / 25)
    planes = read_planes(out)
    for field in range(4, 2 * COUNT - 2):
        truth = planes_of(picture(field, 96, 64, step=FIELD_STEP))[0].astype(float)
        assert np.abs(planes[2 * field][0] - truth).mean() < 1.5


@pytest.mark.parametrize(("fps", "frames"), [(50, 20), (60, 24)])
def test_a_rate_refers_to_both_fields(clip, tmp_path, fps, frames):
    options = {"fps": fps, "model": "blend", "deinterlace": True, **SMALL}
    plan = cloudconv.plan(cloudconv.InterpSettings(clip, tmp_path / "b.mp4", **options))
    assert (plan["source_fps"], plan["output_frames"]) == ("50", frames)
    result = calls.interpolate(clip, tmp_path / "b.mp4", **options)
    assert (result.output_frames, result.new_frames > 0) == (frames, fps != 50)


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (calls.extrapolate, {"model": "linear"}),
        pytest.param(calls.dream, {"mode": "flow"}, marks=pytest.mark.full),
    ],
)
def test_a_forecast_and_a_dream_follow_the_second_field(clip, tmp_path, call, given):
    out = tmp_path / "b.mp4"
    result = call(clip, out, frames=3, deinterlace=True, **given, **SMALL)
    assert (result.source_frames, result.output_fps) == (2 * COUNT, "50")
    assert read_times(out) == [F(k, 50) for k in range(2 * COUNT + 3)]


def test_fields_are_compared(clip):
    result = calls.compare(clip, model=("blend",), drop=2, deinterlace=True, **SMALL)
    assert result.scored_frames == COUNT - 1
    assert [row["pts_seconds"] for row in result.per_frame][:2] == [0.02, 0.06]
    assert result.skipped_frames == 0


TRAIN = {"model": "tiny", "steps": 1, "crop": 32, "batch": 1, "val_crop": 32}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (cloudconv.InterpSettings, {"factor": 2, "model": "blend"}),
        (cloudconv.ExtrapolateSettings, {"frames": 1, "model": "linear"}),
        (cloudconv.DreamSettings, {"frames": 1, "mode": "flow"}),
        (cloudconv.CompareSettings, {"frames": 1, "model": ("blend",)}),
        (cloudconv.TrainSettings, {"val_part": "0.5:1", **TRAIN}),
    ],
)
def test_the_warning_comes_before_the_work(kind, given, clip, tmp_path):
    suffix = ".safetensors" if kind is cloudconv.TrainSettings else ".mp4"
    output = (
        {} if kind is cloudconv.CompareSettings else {"output": tmp_path / f"b{suffix}"}
    )
    job = jobs.run(kind(clip, **output, **given, **SMALL))
    for event in job:
        assert not isinstance(event, Progress) or event.done == 0
        if isinstance(event, Warned) and event.code == "interlaced":
            break
    else:
        pytest.fail("no warning")
    job.close()


@pytest.mark.full
def test_fields_are_trained_on(clip, tmp_path):
    """A clip of 10 pictures has windows of 13 frames only if both fields count."""
    held_back = str(shutil.copy(clip, tmp_path))
    options = {"val_windows": 1, "gap": 12, "val": held_back, **TRAIN, **SMALL}
    with pytest.raises(cloudconv.CloudconvError, match="frames"):
        calls.train([str(clip)], tmp_path / "a.safetensors", **options)
    result = calls.train(
        [str(clip)], tmp_path / "b.safetensors", deinterlace=True, **options
    )
    assert result.steps == 1


def test_a_dry_run_warns(clip):
    options = ["--factor", "2", "--dry-run", "--model", "blend", "--device", "cpu"]
    done = invoke("interp", clip, *options)
    (warning,) = [line for line in done.stderr.splitlines() if "interlaced" in line]
    assert warning.startswith("warning: ")
    assert "--deinterlace makes" in warning
