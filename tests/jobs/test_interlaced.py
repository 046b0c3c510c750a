"""Every command takes both fields of an interlaced picture as source frames."""

from fractions import Fraction as F

import numpy as np
import pytest

import cloudconv
from cloudconv import jobs
from cloudconv.events import Progress, Warned
from cloudconv.settings import (
    CompareSettings,
    DreamSettings,
    ExtrapolateSettings,
    InterpSettings,
    TrainSettings,
)
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import (
    FIELD_STEP,
    FIELDS,
    interlaced,
    picture,
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
    return write_clip(path, pictures, rate=25, codec="libx264", options=FIELDS, audio=["aac"])


def test_a_factor_refers_to_both_fields(clip, tmp_path):
    out = tmp_path / "b.mp4"
    result = calls.interpolate(clip, out, factor=2, model="blend", deinterlace=True, **SMALL)
    assert (result.source_fps, result.output_fps) == ("50", "100")
    assert (result.source_frames, result.output_frames) == (2 * COUNT, 4 * COUNT)
    assert read_times(out) == [F(k, 100) for k in range(4 * COUNT)]
    assert result.duration == pytest.approx(COUNT / 25)
    shown = read_planes(out)
    for field in range(4, 2 * COUNT - 2):
        truth = read_planes_of(field)
        assert np.abs(shown[2 * field][0].astype(float) - truth).mean() < 1.5


def read_planes_of(field):
    luma = picture(field, 96, 64, step=FIELD_STEP).planes[0]
    return np.frombuffer(luma, np.uint8).reshape(64, -1)[:, :96].astype(float)


@pytest.mark.parametrize(("fps", "frames"), [(50, 20), (60, 24)])
def test_a_rate_refers_to_both_fields(clip, tmp_path, fps, frames):
    given = {"fps": fps, "model": "blend", "deinterlace": True, **SMALL}
    result = calls.interpolate(clip, tmp_path / "b.mp4", **given)
    assert result.output_frames == frames
    assert result.new_frames == (0 if fps == 50 else result.new_frames)
    plan = cloudconv.estimate(InterpSettings(clip, tmp_path / "c.mp4", **given))
    assert (plan.source_fps, plan.output_frames) == ("50", frames)


def test_a_forecast_follows_the_second_field(clip, tmp_path):
    out = tmp_path / "b.mp4"
    result = calls.extrapolate(clip, out, frames=3, model="linear", deinterlace=True, **SMALL)
    assert (result.source_frames, result.output_fps) == (2 * COUNT, "50")
    assert read_times(out) == [F(k, 50) for k in range(2 * COUNT + 3)]


@pytest.mark.full
def test_a_dream_follows_the_second_field(clip, tmp_path):
    out = tmp_path / "b.mp4"
    result = calls.dream(clip, out, frames=3, mode="flow", deinterlace=True, **SMALL)
    assert (result.source_frames, result.output_fps) == (2 * COUNT, "50")
    assert read_times(out) == [F(k, 50) for k in range(2 * COUNT + 3)]


def test_fields_are_compared(clip):
    result = calls.compare(clip, model=("blend",), drop=2, deinterlace=True, **SMALL)
    assert result.scored_frames == COUNT - 1
    assert [row["pts_seconds"] for row in result.per_frame][:2] == [0.02, 0.06]
    assert result.skipped_frames == 0


@pytest.mark.full
def test_fields_are_trained_on(clip, tmp_path):
    """A clip of 10 pictures has windows of 13 frames only if both fields count."""
    given = {"model": "tiny", "steps": 1, "crop": 32, "batch": 1, "val_windows": 1, "gap": 12}
    given |= {"train_part": "0:1", "val_part": "0:1", "val_crop": 32, **SMALL}
    with pytest.raises(cloudconv.CloudconvError, match="frames"):
        calls.train([str(clip)], tmp_path / "a.safetensors", **given)
    result = calls.train([str(clip)], tmp_path / "b.safetensors", deinterlace=True, **given)
    assert result.steps == 1


def settings_of(command, clip, folder):
    match command:
        case "interp":
            return InterpSettings(clip, folder / "b.mp4", factor=2, model="blend", **SMALL)
        case "extrapolate":
            return ExtrapolateSettings(clip, folder / "b.mp4", frames=1, model="linear", **SMALL)
        case "dream":
            return DreamSettings(clip, folder / "b.mp4", frames=1, mode="flow", **SMALL)
        case "compare":
            return CompareSettings(clip, model=("blend",), frames=1, **SMALL)
        case _:
            given = {"model": "tiny", "steps": 1, "crop": 32, "batch": 1, "val_crop": 32}
            part = {"train_part": "0:1", "val_part": "0:1"}
            return TrainSettings([str(clip)], folder / "b.safetensors", **given, **part, **SMALL)


@pytest.mark.parametrize("command", ["interp", "extrapolate", "dream", "compare", "train"])
def test_the_warning_comes_before_the_work(command, clip, tmp_path):
    job = jobs.run(settings_of(command, clip, tmp_path))
    for event in job:
        assert not isinstance(event, Progress) or event.done == 0
        if isinstance(event, Warned) and event.code == "interlaced":
            break
    else:
        pytest.fail("no warning")
    job.close()


def test_a_dry_run_warns_before_its_trial(clip, monkeypatch):
    def stop(plan):
        raise RuntimeError("the trial starts")

    monkeypatch.setattr("cloudconv.jobs.interp.run.estimate", stop)
    options = ["--factor", "2", "--dry-run", "--model", "blend", "--device", "cpu"]
    done = invoke("interp", clip, *options)
    (warning,) = [line for line in done.stderr.splitlines() if "interlaced" in line]
    assert warning.startswith("warning: ")
    assert "--deinterlace makes" in warning
