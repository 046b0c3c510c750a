"""Forecasts from file to file: context, cadence, times, audio and pixels."""

import io
import itertools
import sys
from fractions import Fraction as F
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import InputError, ModelError, OutputError, SettingsError
from cloudconv.events import Measured
from cloudconv.jobs.extend import extrapolate as job
from cloudconv.jobs.extend.ending import continued, read_ending
from cloudconv.media.reading.probe import probe
from tests.forecasting.test_layers import square_before_a_still_camera
from tests.helpers import calls
from tests.helpers.factory import (
    assert_same_frames,
    packets_of,
    picture,
    planes_of,
    read_planes,
    read_times,
    same,
    write_clip,
)
from tests.helpers.tiers import first_full


def forecast(path, out, **options):
    length = {} if "seconds" in options else {"frames": 4}
    options = {"model": "linear", **calls.lossless(out), **length, **options}
    return calls.extrapolate(path, path.with_name(out), **options)


def distance(a, b):
    """Return the mean luma difference, without the borders where new content enters."""
    return float(
        np.abs(a[0][8:-8, 24:-8].astype(int) - b[0][8:-8, 24:-8].astype(int)).mean()
    )


def shots(*lengths):
    """Return scenes without common content: patches of many sizes that move right."""
    scenes = []
    for number, length in enumerate(lengths):
        random = np.random.default_rng(number)
        wide = np.zeros((96, 192))
        for size in (4, 8, 16, 32):
            patches = random.uniform(0, 60, (96 // size, 192 // size))
            wide += np.kron(patches, np.ones((size, size)))
        drawn = [wide[:, 60 - 2 * k : 188 - 2 * k] for k in range(length)]
        scenes.append(
            [av.VideoFrame.from_ndarray(x.astype(np.uint8), "gray") for x in drawn]
        )
    return scenes


@pytest.mark.parametrize("rate", [F(24000, 1001), F(25), F(60)])
def test_source_frames_are_unchanged_and_new_ones_follow_at_the_same_rate(tmp_path, rate):
    clip = write_clip(
        tmp_path / "a.mp4", 12, rate=rate, codec="libx264", options={"bf": "2"}
    )
    result = forecast(clip, "b.mp4", frames=5)
    assert (result.source_frames, result.new_frames, result.output_frames) == (12, 5, 17)
    assert result.at == float(12 / rate)
    assert read_times(tmp_path / "b.mp4") == [k / rate for k in range(17)]
    before, after = read_planes(clip), read_planes(tmp_path / "b.mp4")
    assert same(before, after[:12])
    assert not same(after[12], after[11])


@pytest.mark.parametrize("turns", [False, True])
def test_a_trial_says_how_far_a_forecast_held(tmp_path, turns):
    """Motion that goes on is forecast to the end; motion that turns around is not."""
    places = [*range(12), *(12 - 4 * k for k in range(1, 4))] if turns else range(24)
    pictures = [picture(20 + place, step=4.0 if turns else 2.0) for place in places]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=24)
    result = forecast(clip, "b.mkv", frames=3, model="flow")
    warned = [str(w) for w in result.warnings if w.code == "forecast-did-not-hold"]
    assert result.tried_ahead == 3
    assert result.held_ahead == (0 if turns else 3)
    assert len(warned) == turns
    assert all(
        "flow does not hold for a single frame. For a longer" in said for said in warned
    )
    assert all("'cloudconv dream'" in said for said in warned)


def test_a_thing_that_stops_at_the_real_end_does_not_hold(tmp_path):
    """The known frames nearly stand still, but for the last one."""
    pictures = [picture(1, step=0.5 * k + 3 * (k == 15)) for k in range(16)]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=24)
    result = forecast(clip, "b.mkv", frames=3, model="hold")
    assert (result.held_ahead, result.tried_ahead) == (1, 3)


@pytest.mark.parametrize("step", [0.5, 9.0])
def test_by_default_a_forecast_is_as_long_as_it_holds(tmp_path, step):
    clip = write_clip(
        tmp_path / "a.mkv", [picture(k, step=step) for k in range(40)], rate=24
    )
    result = forecast(clip, "b.mkv", frames=None, model="flow")
    assert result.tried_ahead == 15
    assert (result.held_ahead < 15) == (step > 1)
    assert (result.new_frames, result.output_frames) == (
        result.held_ahead,
        40 + result.held_ahead,
    )
    assert not result.warnings


@pytest.mark.parametrize("count", [None, 4])
def test_a_forecast_that_holds_for_no_frame_says_so(tmp_path, monkeypatch, count):
    def trial(*_):
        yield from ()
        return "linear", 0, 15

    monkeypatch.setattr(job, "_trial", trial)
    result = forecast(write_clip(tmp_path / "a.mkv", 20), "b.mkv", frames=count)
    assert (result.held_ahead, result.new_frames) == (0, count or 1)
    (said,) = [w.text for w in result.warnings]
    assert said.startswith(
        "From the first new frame on, things that move probably look torn"
    )
    assert ("linear does not hold for a single frame, so only one is made." in said) == (
        not count
    )
    assert "holds for 0" not in said


def test_new_frames_alone_have_a_constant_rate(tmp_path):
    """The last frame of the source is longer than the others."""
    clip = write_clip(tmp_path / "a.mkv", 12, rate=24, last_duration=F(1, 4))
    result = forecast(clip, "c.mkv", model="hold", only_new=True)
    times = read_times(tmp_path / "c.mkv")
    gaps = {round((b - a) * F(result.output_fps), 1) for a, b in itertools.pairwise(times)}
    assert (result.source_fps, result.source_frames, result.output_frames) == (None, 0, 4)
    assert gaps == {1}


@pytest.mark.parametrize("at", [F(20, 24), F(20, 24) - F(1, 100)])
def test_a_forecast_can_start_at_any_time(tmp_path, at):
    result = forecast(write_clip(tmp_path / "a.mkv", 40), "b.mkv", at=at)
    forecast(write_clip(tmp_path / "s.mkv", 20), "c.mkv")
    assert (result.source_frames, result.at) == (20, float(F(20, 24)))
    assert result.output_frames == 24
    assert_same_frames(tmp_path / "b.mkv", tmp_path / "c.mkv")


def test_uneven_times_continue_with_the_usual_gap(tmp_path):
    times = [F(k, 1000) for k in (0, 40, 81, 121, 250, 290, 331, 371)]
    options = {"last_duration": F(50, 1000), "codec": "libx264", "options": {"bf": "0"}}
    clip = write_clip(tmp_path / "a.mp4", 8, times=times, **options)
    result = forecast(clip, "b.mp4", seconds=F(1, 10))
    assert (result.source_fps, result.output_fps) == (None, None)
    written_times = read_times(tmp_path / "b.mp4")
    assert (written_times[:8], written_times[8], len(written_times)) == (
        times,
        F(421, 1000),
        11,
    )
    gaps = {b - a for a, b in itertools.pairwise(written_times[8:])}
    assert gaps in ({F(40, 1000)}, {F(41, 1000)})


@pytest.mark.full
@pytest.mark.parametrize("phase", range(5))
def test_a_cadence_continues(tmp_path, phase):
    contents = [(4 * k) // 5 for k in range(35 + phase)]
    pictures = [picture(content) for content in contents]
    clip = write_clip(tmp_path / "a.mkv", pictures, rate=30)
    result = forecast(clip, "b.mkv", model="flow", frames=10)
    assert "1 of every 5 frames repeats" in str(result.cadence)
    planes = read_planes(tmp_path / "b.mkv")
    count = len(contents)
    expected = [(4 * k) // 5 for k in range(count + 10)]
    for k in range(count, count + 10):
        assert same(planes[k], planes[k - 1]) == (expected[k] == expected[k - 1])
    truth = planes_of(picture(expected[-1]))
    last = planes_of(picture(contents[-1]))
    assert distance(planes[-1], truth) < 0.4 * distance(last, truth)


def test_a_picture_that_came_to_rest_stays_at_rest(tmp_path):
    pictures = [picture(min(k, 12)) for k in range(24)]
    forecast(write_clip(tmp_path / "a.mkv", pictures), "b.mkv")
    planes = read_planes(tmp_path / "b.mkv")
    assert same(planes[24:], [planes[23]] * 4)


def test_a_forecast_uses_no_frame_before_a_cut(tmp_path):
    first, second = shots(20, 4)
    result = forecast(
        write_clip(tmp_path / "a.mkv", [*first, *second]), "b.mkv", model="flow"
    )
    forecast(write_clip(tmp_path / "s.mkv", second), "c.mkv", model="flow")
    assert result.context_frames == 4
    assert same(read_planes(tmp_path / "b.mkv")[20:], read_planes(tmp_path / "c.mkv"))


def test_a_forecast_uses_no_frame_before_the_end_of_a_dissolve(tmp_path):
    first, last = (np.stack([f.to_ndarray() for f in shot]) for shot in shots(30, 30))
    weights = np.clip((np.arange(30) - 9) / 11, 0, 1)[:, None, None]
    mixed = np.rint((1 - weights) * first + weights * last).astype(np.uint8)
    images = [av.VideoFrame.from_ndarray(levels, "gray") for levels in mixed]
    clip = write_clip(tmp_path / "a.mkv", images, pix_fmt="gray", size=(128, 96), rate=25)
    for scene_cut, cut in (("auto", True), (1.0, False), ("off", False)):
        options = {"at": None, "scene_cut": scene_cut, "threads": 1, "different": 30}
        scene = read_ending(probe(clip), 30, **options)
        assert (scene.cut is not None) == cut
        assert 5 <= len(scene.frames) <= 10 if cut else len(scene.frames) == 30
        assert scene.frames[0].time == scene.items[0].frame.time


def test_a_single_frame_after_a_cut_is_not_enough(tmp_path):
    first, second = shots(20, 8)
    clip = write_clip(tmp_path / "a.mkv", [*first, *second])
    with pytest.raises(InputError, match=r"a single frame after a cut at 0\.83"):
        forecast(clip, "b.mkv", at=F(21, 24))
    for out, more in (("b.mkv", {"scene_cut": "off"}), ("c.mkv", {"model": "hold"})):
        assert forecast(clip, out, at=F(21, 24), **more).new_frames == 4


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mkv", marks=pytest.mark.full)])
def test_audio_ends_with_the_source(tmp_path, suffix):
    options = {"codec": "libx264", "audio": ["aac"], "metadata": {"title": "Sky"}}
    clip = write_clip(tmp_path / f"a{suffix}", 24, **options)
    whole = forecast(clip, f"b{suffix}", frames=24, **calls.EXACT)
    assert packets_of(whole.output) == packets_of(clip)
    of_part = forecast(clip, f"c{suffix}", frames=24, at=F(1, 2), **calls.EXACT)
    (kept,), (all_of_it,) = packets_of(of_part.output), packets_of(clip)
    assert kept == all_of_it[: len(kept)]
    assert len(kept) < 0.6 * len(all_of_it)
    with av.open(of_part.output) as output:
        assert output.metadata["title"] == "Sky"


def test_standard_input_is_forecast(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 8)
    piped = io.TextIOWrapper(io.BytesIO(clip.read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    with pytest.raises(SettingsError, match="name the output"):
        calls.extrapolate("-", frames=2, model="linear")
    assert piped.buffer.tell() == 0
    result = calls.extrapolate("-", tmp_path / "b.mkv", frames=2, model="linear")
    assert result.output_frames == 10


@pytest.mark.full
def test_by_default_a_trial_chooses_the_model(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 20)
    result = calls.extrapolate(clip, frames=2, threads=1)
    assert Path(result.output).name == "a_forecast.mkv"
    assert result.model in job.CANDIDATES
    assert (result.tried_ahead, result.context_frames, result.output_frames) == (2, 6, 22)
    short = calls.extrapolate(write_clip(tmp_path / "s.mkv", 4), frames=2, threads=1)
    assert (short.model, short.tried_ahead, short.output_frames) == ("voxelflow", 0, 6)


def test_the_better_of_two_forecasts_is_taken(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mkv", 16)
    for names in (("hold", "flow"), ("flow", "hold")):
        monkeypatch.setattr(job, "CANDIDATES", names)
        assert forecast(clip, f"{names[0]}.mkv", model="auto").model == "flow"


@pytest.mark.full
def test_layers_are_taken_for_a_thing_before_a_still_camera(tmp_path):
    frames, _ = square_before_a_still_camera(30)
    pictures = np.ascontiguousarray(
        frames.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    )
    images = [
        av.VideoFrame.from_ndarray(x, "rgb24").reformat(format="yuv444p") for x in pictures
    ]
    result = calls.extrapolate(write_clip(tmp_path / "a.mkv", images), frames=8, threads=1)
    assert (result.model, result.held_ahead, result.tried_ahead) == ("layers", 8, 8)


def test_impossible_requests_are_refused_before_any_work(tmp_path):
    clip, still = (
        write_clip(tmp_path / name, n) for name, n in (("a.mkv", 6), ("s.mkv", 1))
    )
    for changes, path, error, said in (
        ({"at": F(3)}, clip, InputError, r"lasts 0\.25 s"),
        ({"model": "blend"}, clip, ModelError, "one to predict is needed"),
        ({}, still, InputError, "a single frame to forecast from"),
    ):
        with pytest.raises(error, match=said):
            forecast(path, "b.mkv", **changes)
    with pytest.raises(OutputError):
        forecast(clip, "a.mkv")
    assert forecast(still, "c.mkv", model="hold").output_frames == 5
    assert not (tmp_path / "b.mkv").exists()


@settings(deadline=None, max_examples=60)
@given(
    distinct=st.integers(1, 8),
    repeats=st.integers(1, 4),
    cycles=st.integers(3, 6),
    data=st.data(),
)
def test_a_regular_rhythm_continues_from_any_phase(distinct, repeats, cycles, data):
    cycle = [False] * distinct + [True] * repeats
    begin = data.draw(st.integers(0, len(cycle) - 1))
    length = data.draw(st.integers(cycles * len(cycle), (cycles + 1) * len(cycle)))
    endless = itertools.islice(itertools.cycle(cycle), begin, None)
    rhythm = list(itertools.islice(endless, length + 20))
    assert list(itertools.islice(continued(rhythm[:length]), 20)) == rhythm[length:]


FIVE = [False, False, False, False, True]
PULLDOWN = [False, True, False, True, True]


def test_an_uneven_rhythm_continues_and_one_irregular_repeat_does_not_end_it():
    for length in range(30, 40):
        rhythm = (PULLDOWN * 12)[: length + 15]
        assert list(itertools.islice(continued(rhythm[:length]), 15)) == rhythm[length:]
    repeats = [*FIVE * 6, False, *FIVE, False, False]
    expected = [False, False, True, *FIVE, *FIVE[:4]]
    assert list(itertools.islice(continued(repeats), 12)) == expected


def scrolled(speed, count=40, size=(320, 208)):
    """Return pictures of a page of text that scrolls up by ``speed`` pixels a frame."""
    width, height = size
    page = np.full((height + int(speed * count), width), 250, np.uint8)
    random = np.random.default_rng(0)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "rain"]
    for row in range(16, len(page), 18):
        text = " ".join(random.choice(words, 9))
        cv2.putText(
            page, text, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 20, 1, cv2.LINE_AA
        )
    return [page[int(speed * k) :][:height] for k in range(count)]


@pytest.mark.parametrize("speed", first_full([8, 2]))
def test_mirrored_text_that_comes_in_does_not_hold(tmp_path, speed):
    """The forecast invents what comes in at the lower border of a page that scrolls."""
    images = [av.VideoFrame.from_ndarray(picture, "gray") for picture in scrolled(speed)]
    clip = write_clip(tmp_path / "a.mkv", images, pix_fmt="gray", size=(320, 208), rate=25)
    events = []
    result = calls.extrapolate(
        clip, tmp_path / "b.mkv", frames=8, threads=1, watch=events.append
    )
    assert result.held_ahead <= 1
    # A line says so before the other models are tried.
    early = [number for number, event in enumerate(events) if isinstance(event, Measured)]
    later = [at for at in events[early[0] :] if getattr(at, "stage", "") == "checking"]
    assert "cloudconv dream" in events[early[0]].values
    assert len(later) >= later[0].total / 2
    (warning,) = result.warnings
    assert warning.code == "forecast-did-not-hold"
