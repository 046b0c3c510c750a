"""Comparison of models on a clip: the scored frames, their scores, and the verdict."""

import json
import math
import os
import re
import sys
import tempfile
import tracemalloc
from fractions import Fraction as F
from itertools import pairwise
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloudconv import metrics
from cloudconv.errors import CloudconvError, InputError, ModelError, OutputError
from cloudconv.jobs import plan
from cloudconv.jobs.compare.methods import ShownFrame
from cloudconv.jobs.compare.plan import evenly, windows
from cloudconv.jobs.compare.run import CompareSettings, decide
from cloudconv.jobs.compare.score import SequenceMeter, verdict
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.report.data import COLUMNS, Row
from tests.helpers import calls
from tests.helpers.factory import picture, read_times, write_clip
from tests.helpers.system import largest_file

QUICK = {"device": "cpu", "precision": "fp32", "threads": 1}
REPORT = {"index.html", "side_by_side.mp4", "result.json"}


def compare(clip, **options):
    return calls.compare(clip, **{**QUICK, "scene_cut": "off", **options})


def gray(levels, path, **options):
    """Write a lossless clip of frames with these levels.

    A level may be one for each pixel.
    """
    pictures = []
    for level in levels:
        pictures.append(picture(0, 64, 48, "gray"))
        np.frombuffer(pictures[-1].planes[0], np.uint8)[:] = level
    return write_clip(
        path, pictures, pix_fmt="gray", size=(64, 48), colour=(2, 2, 2, 2), **options
    )


@pytest.fixture
def clip(tmp_path):
    """Return 16 frames, each four levels brighter than the one before."""
    return gray([20 + 4 * k for k in range(16)], tmp_path / "a.mkv")


@pytest.fixture
def two_shots(tmp_path):
    """Return 22 frames with a cut before frame 11."""
    pictures = [picture(k, scene=int(k >= 11) * 3, step=1) for k in range(22)]
    return write_clip(tmp_path / "a.mkv", pictures)


@pytest.mark.full
@pytest.mark.parametrize("drop", [2, 3, 4, 8])
@pytest.mark.parametrize("frames", [17, 20])
def test_every_dropped_frame_is_scored_at_its_own_timestep(tmp_path, drop, frames):
    # Brightness grows evenly and blending gives just that, so all its frames are right.
    clip = gray([20 + 4 * k for k in range(frames)], tmp_path / "a.mkv")
    result = compare(clip, drop=drop, model=("blend",), against=("hold",))
    windows = (frames - 1) // drop
    expected = [k for k in range(windows * drop + 1) if k % drop]
    assert [row["index"] for row in result.per_frame] == expected
    assert [row["pts_seconds"] for row in result.per_frame] == [
        float(F(k, 24)) for k in expected
    ]
    assert result.scored_frames == len(expected)
    assert result.methods["blend"]["psnr"] > 52
    for row in result.per_frame:
        assert row["blend"]["psnr"] > 52
        # Holding is wrong by 4 levels for each frame since the last kept frame.
        away = (row["index"] % drop) * 4 / 255
        assert row["hold"]["psnr"] == pytest.approx(-20 * math.log10(away), abs=0.01)


@pytest.mark.full
def test_scored_frames_are_those_that_interp_makes_of_the_kept_frames(tmp_path):
    """The frames are equal with a model that uses outer frames."""
    pictures = [picture(k, step=0.3 * k) for k in range(21)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=24)
    kept = write_clip(tmp_path / "kept.mkv", pictures[::2], rate=12)
    target = tmp_path / "made.mkv"
    calls.interpolate(
        kept, target, factor=2, model="tiny", encoder="ffv1", scene_cut="off", **QUICK
    )
    expected = [
        float(metrics.psnr(metrics.eight_bit(rgb_of(a)), metrics.eight_bit(rgb_of(b))))
        for a, b in zip(frames_of(target)[1:-1:2], frames_of(clip)[1::2], strict=True)
    ]
    result = compare(clip, model=("tiny",))
    scores = [row["tiny"]["psnr"] for row in result.per_frame]
    assert scores == pytest.approx(expected, abs=0.01)


def frames_of(path):
    with Source(probe(path)) as source:
        return list(source.frames())


def test_the_verdict_and_the_frames_that_lose_to_blending_are_about_the_model(tmp_path):
    # Frame 1 is the mean of its neighbours (blending wins); frame 3 repeats frame 2
    # (holding wins).
    clip = gray([50, 60, 70, 70, 90], tmp_path / "a.mkv")
    result = compare(clip, model=("hold",))
    assert result.as_json()["loses_to_blend"] == [1]
    rows = [row["hold"]["psnr"] for row in result.per_frame]
    assert result.methods["hold"]["psnr"] == pytest.approx(sum(rows) / 2)
    assert result.verdict.startswith("hold is")
    assert result.verdict.endswith("it is worse on 1 of 2 frames, most at 0.042 s")
    other = compare(clip, model=("hold",), against=("tiny",))
    assert " than tiny" in other.verdict
    assert (other.baseline, other.loses_to_blend) == ("tiny", [1])


def test_a_method_has_options_of_its_own(tmp_path):
    # Exact shifts would make whole steps alike at any scale.
    clip = write_clip(tmp_path / "a.mkv", 5, step=6.3)
    methods = {"model": ("cloud-turbo",), "against": ("cloud-turbo:scale=0.25",)}
    result = compare(clip, **methods, metrics=("psnr",))
    assert result.baseline == "cloud-turbo:scale=0.25"
    usual, quarter = (scores["psnr"] for scores in list(result.methods.values())[:2])
    everywhere = compare(clip, model=("cloud-turbo",), scale=0.25, metrics=("psnr",))
    assert quarter == everywhere.methods["cloud-turbo"]["psnr"]
    assert usual != quarter
    with pytest.raises(CloudconvError, match="can have scale of its own"):
        compare(clip, against=("cloud-turbo:batch=2",))
    with pytest.raises(CloudconvError, match="The scale 9 is not one of"):
        compare(clip, against=("cloud-turbo:scale=9",))


def test_a_blend_of_two_noises_has_less_texture(tmp_path):
    random = np.random.default_rng(1)
    clip = gray([random.integers(60, 190, 64 * 48) for _ in range(9)], tmp_path / "a.mkv")
    result = compare(clip, model=("blend",), against=("hold",), report=tmp_path / "report")
    assert result.methods["blend"]["texture"] == pytest.approx(-3, abs=0.4)
    assert result.methods["hold"]["texture"] == pytest.approx(0, abs=0.4)
    assert all(-3.6 < row["blend"]["texture"] < -2.4 for row in result.per_frame)
    assert result.filmed["texture"] == pytest.approx(0, abs=0.4)
    page = (tmp_path / "report" / "index.html").read_text("utf-8")
    assert "the texture of the dropped frames is" in page
    # The loss of texture is greatest half-way between two frames and small at an eighth.
    steps = compare(clip, drop=8, model=("blend",), metrics=("texture",)).per_frame
    curve = [row["blend"]["texture"] for row in steps]
    assert curve[:4] == sorted(curve[:4], reverse=True)


def test_frames_of_a_variable_rate_are_made_at_their_own_times(tmp_path):
    gaps = [1, 3, 2, 2, 4, 1, 1, 1]
    times = [F(sum(gaps[:k]), 60) for k in range(9)]
    # Brightness depends on the time, not on the number of the frame.
    levels = [30 + 6 * sum(gaps[:k]) for k in range(9)]
    clip = gray(levels, tmp_path / "a.mkv", times=times, time_base=F(1, 60000))
    result = compare(clip, model=("blend",), against=("hold",))
    assert [row["index"] for row in result.per_frame] == [1, 3, 5, 7]
    assert [row["pts_seconds"] for row in result.per_frame] == pytest.approx(
        [float(times[k]) for k in (1, 3, 5, 7)], abs=0.001
    )
    # Times rounded to milliseconds change the brightness by at most one level.
    assert all(row["blend"]["psnr"] > 45 for row in result.per_frame)


def test_cuts_are_left_out_and_counted(two_shots):
    result = compare(two_shots, drop=4, model=("hold",), scene_cut="auto")
    assert (result.cuts, result.skipped_frames) == ([float(F(11, 24))], 3)
    indices = [row["index"] for row in result.per_frame]
    assert indices == [k for k in range(21) if k % 4 and not 8 < k < 12]
    assert result.scored_frames == len(indices)
    careless = compare(two_shots, drop=4, model=("hold",))
    assert (careless.cuts, careless.skipped_frames, careless.scored_frames) == ([], 0, 15)


@given(st.integers(1, 400), st.integers(1, 400))
def test_sampled_frames_are_spread_evenly(total, wanted):
    chosen = [k for k in range(total) if evenly(total, wanted)(k)]
    assert len(chosen) == min(total, wanted)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_number_of_scored_frames_can_be_limited(tmp_path):
    clip = gray([20 + 4 * k for k in range(21)], tmp_path / "a.mkv")
    for wanted, scored in ((1, 1), (5, 3), (7, 6), (100, 15)):
        result = compare(clip, drop=4, model=("blend",), frames=wanted)
        assert (result.scored_frames, result.warnings) == (scored, [])


def test_the_flicker_of_a_method_covers_every_change_beside_its_frames(tmp_path):
    # Frame 1 is 10 levels too dark when frame 0 is held, and right when blended.
    clip = gray([50, 60, 70], tmp_path / "a.mkv")
    result = compare(clip, model=("hold",))
    assert result.methods["hold"]["flicker"] == pytest.approx(10 / 255, abs=1e-4)
    assert result.methods["blend"]["flicker"] == pytest.approx(0, abs=2 / 255)
    # No change is measured across an interruption.
    dark, grey, light = (
        ShownFrame(torch.full((3, 4, 5), level)) for level in (0.1, 0.5, 0.9)
    )
    meter = SequenceMeter(())
    for made in (dark, light):
        assert meter.follow(grey, made) == []
        assert meter.interrupt() == []


@pytest.mark.full
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gray"])
def test_vmaf_is_scored(tmp_path, pix_fmt):
    pictures = [picture(k, 191, 129, pix_fmt, step=1) for k in range(7)]
    clip = write_clip(tmp_path / "a.mkv", pictures, size=(191, 129), pix_fmt=pix_fmt)
    result = compare(clip, model=("blend",), against=("hold",), metrics=("vmaf",))
    assert 0 < result.methods["hold"]["vmaf"] < result.methods["blend"]["vmaf"] <= 100
    still = write_clip(
        tmp_path / "b.mkv", [pictures[0]] * 5, size=(191, 129), pix_fmt=pix_fmt
    )
    assert compare(still, model=("hold",), metrics=("vmaf",)).methods["hold"]["vmaf"] > 95


def test_vmaf_in_a_full_temporary_folder_names_the_folder(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    clip = write_clip(tmp_path / "a.mkv", 8, size=(256, 256))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        largest_file(10_000),
        pytest.raises(OutputError, match=f" {tmp_path} .* free some space there, or set"),
    ):
        compare(clip, model=("blend",), metrics=("vmaf",))


def test_vmaf_that_cannot_be_measured_is_an_error(clip, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'No such filter: libvmaf' >&2\nexit 8\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(ModelError, match="No such filter: libvmaf"):
        compare(clip, model=("blend",), metrics=("vmaf",))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(CloudconvError, match=re.escape('pip install "cloudconv[vmaf]"')):
        compare(clip, model=("blend",), metrics=("vmaf",))


@pytest.mark.parametrize("kind", [{"drop": 3}, {"horizon": 2}])
def test_a_plan_writes_nothing_and_is_correct(clip, tmp_path, kind):
    options = {"model": ("linear",) if "horizon" in kind else ("blend",), **kind}
    options |= {"report": tmp_path / "r"}
    settings = CompareSettings(clip, **options, **QUICK)
    planned = plan(settings)
    assert os.listdir(tmp_path) == ["a.mkv"]
    result = compare(clip, **options)
    assert planned["methods"] == list(result.methods)
    with pytest.raises(OutputError, match=r"index\.html"):
        plan(settings)


# Forecasts


def test_forecasts_are_scored_against_the_frames_that_follow(clip):
    result = compare(clip, horizon=3, model=("linear",), against=("hold",))
    expected = [
        (start + k, k + 1) for start in (2, 8, 14) for k in range(3) if start + k < 16
    ]
    assert [(row["index"], row["horizon"]) for row in result.per_frame] == expected
    for step in (1, 2, 3):
        scores = result.methods["hold"][str(step)]
        assert scores["psnr"] == pytest.approx(-20 * math.log10(step * 4 / 255), abs=0.01)
        assert scores["seconds_per_frame"] >= 0
    assert result.methods["linear"]["1"]["psnr"] > result.methods["hold"]["1"]["psnr"] + 10
    assert "better than holding the last frame" in result.verdict
    actual = result.as_json()
    assert (actual["loses_to_hold"], actual["horizon"], "drop" in actual) == ([], 3, False)


def test_horizons_beyond_the_clip_are_left_out_and_named(clip):
    result = compare(clip, horizon=50, model=("linear",), against=("hold",))
    assert [list(scores) for scores in result.methods.values()] == [
        [*map(str, range(1, 15))]
    ] * 2
    (warned,) = result.warnings
    assert "50 frames ahead: the scores end at 14" in warned.text


@pytest.mark.full
def test_forecasts_end_at_a_cut_and_none_starts_with_one_in_its_context(
    two_shots, monkeypatch
):
    monkeypatch.setattr("cloudconv.jobs.compare.plan.EVERY", 1)
    result = compare(
        two_shots, horizon=3, model=("linear",), against=("hold",), scene_cut="auto"
    )
    # (the last frame of the context, horizon)
    rows = {(row["index"] - row["horizon"], row["horizon"]) for row in result.per_frame}
    assert rows == {
        (last, step)
        for last in range(1, 21)
        for step in (1, 2, 3)
        if last + step < 22 and last != 11 and not last < 11 <= last + step
    }


@pytest.mark.full
def test_a_frozen_picture_has_the_largest_fault_where_anything_moves(tmp_path):
    """At few frames the alignment with the true frame would excuse the missing motion."""
    pictures = [picture(k, 96, 64, step=1.0, scene=2) for k in range(16)]
    clip = write_clip(tmp_path / "a.mkv", pictures)
    result = compare(clip, horizon=5, model=("linear",), against=("hold", "flow"))
    for scores in zip(*(by.values() for by in result.methods.values()), strict=True):
        linear, held, flow = (score["fault"] for score in scores)
        assert held > 0.9
        assert held > max(linear, flow)
    still = write_clip(tmp_path / "b.mkv", [picture(0, 96, 64)] * 16)
    assert compare(still, horizon=5, model=("hold",)).methods["hold"]["5"]["fault"] == 0


@given(st.integers(0, 30), st.integers(1, 8), st.integers(1, 7), st.data())
def test_forecast_windows_are_regular_and_within_the_clip(total, most, step, data):
    least = data.draw(st.integers(1, most))
    numbers = range(total)
    expected = [tuple(numbers[k : k + most]) for k in range(0, total - least + 1, step)]
    assert list(windows(iter(numbers), most, step, least)) == expected


# What is left out


@pytest.mark.full
def test_repeats_of_a_cadence_are_left_out(tmp_path):
    """24 fps material at 30 fps: without the repeats, blending makes all frames exactly."""
    content = [20 + 2 * k for k in range(80)]
    shown = [level for k, level in enumerate(content) for _ in range(1 + (k % 4 == 3))]
    clip = gray(shown, tmp_path / "a.mkv", rate=30)
    result = compare(clip, model=("blend",), against=("hold",))
    assert result.skipped_frames == 20
    assert result.scored_frames == 39
    assert min(row["blend"]["psnr"] for row in result.per_frame) == 100
    numbers = {row["index"] for row in result.per_frame}
    assert not numbers & {k for k in range(1, len(shown)) if shown[k] == shown[k - 1]}
    ahead = compare(
        clip, horizon=2, model=("linear",), against=("hold",), metrics=("psnr",)
    )
    assert ahead.skipped_frames == 20
    assert ahead.methods["linear"]["1"]["psnr"] == 100


def test_a_part_is_compared(tmp_path):
    clip = gray([20 + 2 * k for k in range(48)], tmp_path / "a.mkv", rate=24)
    result = compare(clip, model=("blend",), start=F(1, 2), end=F(3, 2))
    times = [row["pts_seconds"] for row in result.per_frame]
    assert times == [float(F(12 + k, 24)) for k in range(1, 23, 2)]


def test_the_default_methods(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 9)
    drop, ahead = (decide(CompareSettings(clip, horizon=count)) for count in (None, 5))
    assert (drop.drop, drop.methods, drop.baseline) == (2, ("cloud-best", "blend"), "blend")
    assert ({"hold", "linear"} <= set(ahead.methods), ahead.baseline) == (True, "hold")


def test_the_verdict_names_a_method_without_frames_and_no_difference_below_a_tenth():
    for own, other, blamed in ((30.0, None, "blend"), (None, 30.0, "tiny")):
        rows = [Row(1, F(1), None, {"tiny": {"psnr": own}, "blend": {"psnr": other}})]
        assert (
            verdict("tiny", "blend", rows) == f"{blamed} made no frame that could be scored"
        )
    rows = [
        Row(k, F(k), None, {"tiny": {"psnr": 30.0}, "blend": {"psnr": 30.0 + lost}})
        for k, lost in enumerate((0.09, 0.05, -0.01, 0.11))
    ]
    said = verdict("tiny", "blend", rows[:3])
    assert said == "tiny is as good as blending; it is worse on none of 3 frames"
    assert verdict("tiny", "blend", rows).endswith(
        "it is worse on 1 of 4 frames, most at 3.000 s"
    )
    assert COLUMNS["psnr"].text(-0.001) == "0.00"


@pytest.mark.parametrize(
    "kind", [{"model": ("blend",)}, {"horizon": 3, "model": ("linear",)}]
)
def test_a_clip_with_a_cut_at_every_frame_has_nothing_to_score(tmp_path, kind):
    options = {"clip": write_clip(tmp_path / "a.mkv", 12), "scene_cut": 0.0, **kind}
    with pytest.raises(InputError, match="could be scored, because of its cuts"):
        compare(**options)


# Memory


@pytest.mark.full
@pytest.mark.parametrize("options", [{"drop": 2}, {"horizon": 2}])
def test_memory_does_not_grow_with_the_clip(tmp_path, options):
    def peak(frames):
        clip = gray([50 + k % 9 for k in range(frames)], tmp_path / f"{frames}.mkv")
        name = "blend" if "drop" in options else "linear"
        tracemalloc.start()
        compare(clip, model=(name,), metrics=("psnr",), **options)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    # Scores take a few hundred bytes a frame; a frame as RGB takes 36,864 bytes.
    # A forecast looks at up to 45 frames, so both clips are longer.
    assert peak(120) - peak(60) < 60 * 4000


# The report


def test_a_report_has_all_scores_and_pictures(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 11, step=1)
    folder = tmp_path / "deep" / "report"
    options = {"against": ("hold",), "report": folder, "metrics": ("psnr", "ssim")}
    result = compare(clip, drop=2, model=("tiny",), **options)
    assert {path.name for path in folder.iterdir()} == REPORT
    assert [path.name for path in folder.parent.iterdir()] == ["report"]
    actual = json.loads((folder / "result.json").read_text("utf-8"))
    assert actual == json.loads(json.dumps(result.as_json()))
    assert [row["index"] for row in actual["per_frame"]] == [1, 3, 5, 7, 9]
    assert set(actual["per_frame"][0]["tiny"]) == {"psnr", "ssim"}
    # Kept and new frames, without the last kept frame, which starts no window.
    assert read_times(folder / "side_by_side.mp4") == [F(k, 24) for k in range(10)]
    assert result.verdict in (folder / "index.html").read_text("utf-8")
    with pytest.raises(OutputError, match="`overwrite`"):
        compare(clip, model=("tiny",), report=folder)
    before = (folder / "result.json").read_bytes()
    compare(clip, model=("hold",), report=folder, overwrite=True)
    assert (folder / "result.json").read_bytes() != before
    assert {path.name for path in folder.iterdir()} == REPORT


def test_the_video_of_a_report_is_not_squeezed(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, codec="libx264", aspect=F(2), size=(32, 64))
    compare(clip, model=("blend",), report=tmp_path / "r")
    info = probe(tmp_path / "r" / "side_by_side.mp4")
    assert (info.width, info.height, info.aspect) == (2 * 64, 64 + 32, None)


@pytest.mark.parametrize("there", [False, True])
def test_a_report_that_fails_leaves_nothing(clip, tmp_path, there, monkeypatch):
    if there:
        compare(clip, model=("hold",), report=tmp_path / "report")
    old = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    broken = Mock(side_effect=RuntimeError("no page"))
    monkeypatch.setattr("cloudconv.jobs.compare.run.render", broken)
    with pytest.raises(RuntimeError, match="no page"):
        compare(clip, model=("tiny",), report=tmp_path / "report", overwrite=there)
    assert {
        path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")
    } == old
