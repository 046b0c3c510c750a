"""``interp --shutter``: motion blur in linear light, from file to file."""

import shutil
from fractions import Fraction as F

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudconv
from cloudconv.errors import Interrupted, OutputError, SettingsError
from tests.helpers import calls
from tests.helpers.command import invoke
from tests.helpers.factory import (
    packets_of,
    picture,
    read_planes,
    read_times,
    same,
    write_clip,
)
from tests.helpers.jobs import stop_after

LOSSLESS = {**calls.LOSSLESS, "device": "cpu", "precision": "fp32", "threads": 1}
DARK, BRIGHT = 16, 235
LINEAR, BT709 = 8, 1


def interp(clip, out, **settings):
    options = {"model": "blend", **LOSSLESS, **settings}
    return calls.interpolate(clip, clip.with_name(out), **options)


def bar(left, width, size=(192, 64)):
    """Return a bright bar before a dark background; its edges may be within pixels."""
    x = np.arange(size[0])
    cover = np.clip(x + 1 - left, 0, 1) * np.clip(left + width - x, 0, 1)
    luma = np.rint(DARK + (BRIGHT - DARK) * cover).astype(np.uint8)
    chroma = np.full((size[1] // 2, size[0]), 128, np.uint8)
    return VideoFrame.from_ndarray(
        np.concatenate([np.tile(luma, (size[1], 1)), chroma]), "yuv420p"
    )


def moving_bar(path, step, count=12, width=40, transfer=LINEAR, rate=48):
    pictures = [bar(20 + k * step, width) for k in range(count)]
    return write_clip(path, pictures, rate=rate, colour=(1, transfer, 1, 1))


def light(row):
    """Return a row's linear light, for a clip with a linear transfer function."""
    return (row.astype(float) - DARK) / (BRIGHT - DARK)


@pytest.mark.full
@pytest.mark.parametrize(
    ("step", "fps", "degrees"),
    [(4, 12, 180), (6, 12, 360), (8, 24, 180), (8, 48, 360), (3, 16, 90), (6, 24, 270)],
)
def test_a_bar_that_moves_evenly_becomes_a_trapezoid(tmp_path, step, fps, degrees):
    clip = moving_bar(tmp_path / "a.mkv", step)
    result = interp(clip, "b.mkv", fps=fps, shutter=degrees, model="cloud-best")
    assert (result.shutter, result.new_frames > 0) == (degrees, True)
    every = F(48, fps)
    seen = float(step * every * degrees / 360)  # pixels that the bar moves meanwhile
    x = np.arange(192)
    for k, planes in enumerate(read_planes(tmp_path / "b.mkv")):
        if (k + 1) * every > 11:
            break
        left = 20 + float(k * every * step)
        # The integral of a box over the motion, over each pixel: exactly a trapezoid.
        edges = np.linspace(0, seen, 401)
        covers = [
            np.clip(x + 1 - left - moved, 0, 1) * np.clip(left + moved + 40 - x, 0, 1)
            for moved in edges
        ]
        truth = np.mean(covers, 0)
        found = light(planes[0][32])
        assert np.abs(found - truth).max() < 0.17
        assert np.abs(found - truth).mean() < 0.01
        assert found.sum() == pytest.approx(40, abs=1)
        assert (found * x).sum() / found.sum() + 0.5 == pytest.approx(
            left + seen / 2 + 20, abs=0.5
        )
        half = np.flatnonzero(found >= 0.5)
        assert half[-1] - half[0] + 1 == pytest.approx(40, abs=1)
        wide = np.flatnonzero(found > 0.02)
        assert wide[-1] - wide[0] + 1 == pytest.approx(40 + seen, abs=3)


@settings(deadline=None, max_examples=6)
@given(st.integers(1, 360), st.sampled_from([10, 24, 60]))
def test_a_shutter_changes_nothing_on_a_still_clip(tmp_path_factory, degrees, fps):
    folder = tmp_path_factory.mktemp("still")
    clip = write_clip(folder / "a.mkv", [picture(0)] * 12, rate=24, audio=["flac"])
    result = interp(clip, "b.mkv", fps=fps, shutter=degrees)
    assert result.new_frames == 0
    source = read_planes(clip)[0]
    assert all(same([planes], [source]) for planes in read_planes(folder / "b.mkv"))
    assert packets_of(folder / "b.mkv", "audio") == packets_of(clip, "audio")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "gbrp16le", "yuva420p"])
def test_what_stands_still_beside_motion_keeps_every_bit(tmp_path, pix_fmt):
    stands = picture(0, 96, 64, pix_fmt)
    pictures = []
    for k in range(8):
        moved = picture(k, 96, 64, pix_fmt, step=3)
        for plane, own in zip(moved.planes, stands.planes, strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
            half = plane.height // 2
            rows[:half] = np.frombuffer(own, np.uint8).reshape(plane.height, -1)[:half]
        pictures.append(moved)
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=48)
    interp(clip, "b.mkv", fps=24, shutter=180, model="cloud-fast")
    for planes in read_planes(tmp_path / "b.mkv"):
        for plane, own in zip(planes, read_planes(clip)[0], strict=True):
            upper = len(plane) // 4
            assert np.array_equal(plane[:upper], own[:upper])


def test_light_is_mixed_and_not_codes(tmp_path):
    """Half of the time bright, half of the time dark: more than the middle code."""
    levels = [BRIGHT, BRIGHT, DARK, DARK] * 4
    pictures = [bar(-500, 1000 if level == BRIGHT else 1) for level in levels]
    for transfer, low, high in ((LINEAR, 123, 128), (BT709, 168, 172)):
        clip = write_clip(
            tmp_path / f"{transfer}.mkv", pictures, rate=48, colour=(1, transfer, 1, 1)
        )
        options = {"scene_cut": "off", "overwrite": True, "model": "hold"}
        interp(clip, "b.mkv", fps=12, shutter=360, **options)
        made = read_planes(tmp_path / "b.mkv")
        assert low <= made[1][0].mean() <= high


def test_cuts_and_the_ends_are_respected(tmp_path):
    pictures = [picture(k, scene=k // 24) for k in range(48)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=48)
    result = interp(clip, "b.mkv", fps=10, shutter=360)
    assert result.cuts == [0.5]
    made, source = read_planes(tmp_path / "b.mkv"), read_planes(clip)
    for k, planes in enumerate(made):
        scene = np.array([frame[0] for n, frame in enumerate(source) if n // 24 == k // 5])
        assert (planes[0] >= scene.min(0) - 1).all()
        assert (planes[0] <= scene.max(0) + 1).all()
    interp(clip, "c.mkv", fps=48, shutter=180)
    assert same(read_planes(tmp_path / "c.mkv")[-1:], source[-1:])


def test_a_faster_source_is_seen_completely(tmp_path):
    """At three times the speed each frame is the mean of what it stands for."""
    clip = moving_bar(tmp_path / "a.mkv", 2, 24)
    fast = interp(clip, "b.mkv", speed="0=3", shutter=360)
    slow = interp(clip, "c.mkv", fps=16, shutter=360)
    assert fast.output_frames == slow.output_frames == 8
    assert same(read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "c.mkv"))


def test_a_shutter_may_keep_the_rate(tmp_path):
    clip = moving_bar(tmp_path / "a.mkv", 8, count=6)
    interp(clip, "b.mkv", factor=1, shutter=180)
    interp(clip, "c.mkv", fps=48, shutter=180)
    assert read_times(tmp_path / "b.mkv") == read_times(clip)
    one, other = (read_planes(tmp_path / name) for name in ("b.mkv", "c.mkv"))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))


def test_the_times_are_those_of_a_run_without_a_shutter(tmp_path):
    times = [F(k, 1000) for k in (0, 40, 100, 133, 301, 317)]
    clip = write_clip(tmp_path / "a.mkv", 6, times=times)
    for options in ({"factor": 3}, {"fps": 25}, {"slowmo": 2}):
        interp(clip, "b.mkv", overwrite=True, **options)
        interp(clip, "c.mkv", overwrite=True, shutter=90, **options)
        assert read_times(tmp_path / "b.mkv") == read_times(tmp_path / "c.mkv")


def test_replaced_frames_are_not_exposed(tmp_path):
    clips = []
    for name, damaged in (("a.mkv", 5), ("good.mkv", -1)):
        pictures = [picture(k, scene=k == damaged) for k in range(16)]
        clips.append(write_clip(tmp_path / name, pictures, rate=48))
    for clip, out in zip(clips, ("b.mkv", "c.mkv"), strict=True):
        interp(clip, out, fps=12, shutter=360, replace=5)
    assert same(read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "c.mkv"))


def test_an_interrupted_run_is_resumed_with_the_same_shutter_only(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 64, rate=48)
    options = {"factor": 2, "shutter": 180, "model": "tiny"}
    interp(clip, "whole.mkv", **options)
    with pytest.raises(Interrupted):
        interp(clip, "b.mkv", **options, watch=stop_after(60))
    with pytest.raises(OutputError, match="differs in shutter"):
        interp(clip, "b.mkv", **{**options, "shutter": 90})
    assert interp(clip, "b.mkv", **options).resumed
    assert same(read_planes(tmp_path / "b.mkv"), read_planes(tmp_path / "whole.mkv"))


@pytest.mark.usefixtures("ray")
@pytest.mark.full
def test_batches_workers_and_tiles_see_the_same(tmp_path):
    pictures = [picture(k, 320, 96, scene=k // 14, step=3.5) for k in range(28)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=48)
    shared = {"fps": 16, "shutter": 180, "model": "cloud-turbo"}
    whole = interp(clip, "whole.mkv", batch=2, **shared)
    expected = read_planes(tmp_path / "whole.mkv")
    for options in ({"workers": "local:2", "batch": 7}, {"threads": 2}, {"tile": 256}):
        result = interp(clip, f"{len(options)}.mkv", **shared, **options, overwrite=True)
        assert result.new_frames == whole.new_frames
        made = read_planes(tmp_path / f"{len(options)}.mkv")
        if "tile" not in options:
            assert same(made, expected), options
        for planes, others in zip(made, expected, strict=True):
            assert np.abs(planes[0].astype(int) - others[0]).max() <= 3


@pytest.mark.parametrize("options", [{"shutter": 361}, {"shutter": -1}, {"shutter": "x"}])
def test_a_shutter_is_from_0_to_360_degrees(tmp_path, options):
    clip = write_clip(tmp_path / "a.mkv", 4)
    with pytest.raises(SettingsError, match=r"`shutter` must be a number from 0 to 360"):
        interp(clip, "b.mkv", factor=2, **options)
    with pytest.raises(SettingsError, match="`refill` and `shutter`"):
        interp(clip, "b.mkv", factor=1)


def test_the_plan_names_the_shutter(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 24, rate=48)
    settings = cloudconv.InterpSettings(clip, fps=12, shutter=172.8)
    plan = cloudconv.plan(settings)
    assert (plan["shutter"], plan["output_frames"]) == (172.8, 6)
    assert plan["output"].endswith("a_12fps_shutter172.8.mkv")
    assert cloudconv.plan(settings.changed(shutter=None))["shutter"] is None


def test_compare_has_neither_option(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 4)
    for words in (["--shutter", "180"], ["--replace", "2"]):
        refused = invoke("compare", clip, *words)
        assert refused.exit_code == 2
        assert words[0] in refused.stderr


def test_a_batch_exposes_each_input(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a.mkv", 12, rate=48)
    shutil.copy(folder / "a.mkv", folder / "b.mkv")
    results = cloudconv.interpolate_many(
        [folder], out_dir=tmp_path / "made", fps=24, shutter=180, model="blend", **LOSSLESS
    )
    assert [result.shutter for result in results] == [180, 180]
