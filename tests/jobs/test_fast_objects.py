"""``interp`` shows a ball that flies whole and in its place, from file to file."""

from fractions import Fraction as F

import av
import numpy as np
import pytest

import cloudconv
from cloudconv.errors import Interrupted
from tests.helpers import calls
from tests.helpers.balls import BALL, STEP, around, film, frames, ground
from tests.helpers.factory import read_planes, same, write_clip
from tests.helpers.jobs import stop_after
from tests.helpers.tiers import MODELS

OPTIONS = {
    **calls.LOSSLESS,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "model": "cloud-turbo",
}


def written(path, times, pix_fmt="yuv444p", **options):
    pictures = [frame.picture for frame in frames(times, pix_fmt)]
    return write_clip(path, pictures, rate=25, pix_fmt=pix_fmt, **options)


def interp(clip, out, **settings):
    return calls.interpolate(clip, clip.with_name(out), **OPTIONS, **settings)


def shown(picture, time):
    """Return how much of the ball a picture shows at its place, 0 to 1; RGB in [0, 1]."""
    area = around(time)
    behind = ground(time)[area] / 255
    ball = film(time)[area] / 255 - behind
    return float(((picture[area] - behind) * ball).sum() / (ball * ball).sum())


def without_search(monkeypatch):
    monkeypatch.setattr("cloudconv.schedule.detection.Search.blobs", lambda _: [])


@pytest.mark.parametrize("model", MODELS)
def test_a_ball_is_whole_at_each_time(monkeypatch, model):
    pictures = [film(time) / np.float32(255) for time in range(9)]
    made = [*cloudconv.interpolate_frames(pictures, 4, model=model, device="cpu")]
    new = {F(k, 4): picture for k, picture in enumerate(made) if k % 4 and 4 < k < 28}
    assert min(shown(picture, float(time)) for time, picture in new.items()) > 0.85
    without_search(monkeypatch)
    plain = [*cloudconv.interpolate_frames(pictures, 2, model=model, device="cpu")]
    assert np.mean([shown(plain[k], k / 2) for k in (3, 5, 7, 9)]) < 0.7
    # Elsewhere nothing changes.
    assert np.array_equal(plain[7][120:], made[14][120:])


def on_a_board(time):
    """Return a picture of a ball on a dark board that moves with the ball, to the right."""
    picture = film(time, flies=False)
    x = 40 + round(STEP * time)
    picture[66:94, max(x - 20, 0) : x + 20] = 30
    rows, columns = np.indices(picture.shape[:2])
    picture[np.hypot(rows - 80, columns - x) < 5] = BALL
    return picture / np.float32(255)


@pytest.mark.parametrize("model", MODELS)
def test_no_new_frame_of_a_part_of_something_larger_is_worse(monkeypatch, model):
    pictures = [on_a_board(time) for time in range(9)]
    made = [*cloudconv.interpolate_frames(pictures, 2, model=model, device="cpu")]
    without_search(monkeypatch)
    plain = [*cloudconv.interpolate_frames(pictures, 2, model=model, device="cpu")]
    for number in range(1, 17, 2):
        errors = [np.square(x[number] - on_a_board(number / 2)) for x in (made, plain)]
        assert errors[0].mean() <= errors[1].mean()


@pytest.mark.full
@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_a_ball_in_high_dynamic_range_has_its_own_levels(tmp_path, transfer):
    clip = written(tmp_path / "a.mkv", range(9), "yuv444p10le", colour=(9, transfer, 9, 1))
    interp(clip, "b.mkv", factor=2)
    source, made = read_planes(clip), read_planes(tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as file:
        assert file.streams.video[0].codec_context.color_trc == transfer
    for number in (5, 7, 9):
        planes = zip(made[number], source[number // 2], strict=True)
        for plane, before in planes:
            middle = plane[around(number / 2, 2)].mean()
            assert abs(middle - before[around(number // 2, 2)].mean()) < 8


@pytest.mark.parametrize(
    ("pix_fmt", "depth"), [("yuv420p10le", 10), ("gbrp16le", 16), ("gbrap16le", 16)]
)
def test_a_ball_in_other_formats(tmp_path, pix_fmt, depth):
    written(tmp_path / "a.mkv", range(9), pix_fmt)
    interp(tmp_path / "a.mkv", "b.mkv", factor=2)
    for number in (5, 7, 9):
        plane = read_planes(tmp_path / "b.mkv")[number][0] / (2**depth - 1)
        middle = plane[around(number / 2, 2)].mean()
        expected = BALL[1] / 255 if pix_fmt.startswith("g") else 0.85
        assert abs(middle - expected) < 0.05, number


@pytest.mark.usefixtures("ray")
def test_batches_workers_tiles_and_a_resumed_run_make_the_same_frames(tmp_path):
    clip = written(tmp_path / "a.mkv", [k % 10 for k in range(40)], "yuv420p")
    whole = interp(clip, "whole.mkv", factor=3)
    expected = read_planes(tmp_path / "whole.mkv")
    for name, options in {
        "workers": {"workers": "local:2"},
        "batch": {"batch": 5},
        "tile": {"tile": 256},
    }.items():
        result = interp(clip, f"{name}.mkv", factor=3, **options)
        assert result.new_frames == whole.new_frames
        made = read_planes(tmp_path / f"{name}.mkv")
        if name == "tile":
            for planes, others in zip(made, expected, strict=True):
                assert np.abs(planes[0].astype(int) - others[0]).max() <= 3
        else:
            assert same(made, expected), name
    with pytest.raises(Interrupted):
        interp(clip, "resumed.mkv", factor=3, watch=stop_after(70))
    assert interp(clip, "resumed.mkv", factor=3).resumed
    assert same(read_planes(tmp_path / "resumed.mkv"), expected)


def test_a_part_a_slow_motion_a_replaced_frame_and_a_shutter_show_the_ball(tmp_path):
    clip = written(tmp_path / "a.mkv", range(10), "gbrp10le")

    def rgb(name, number):
        green, blue, red = read_planes(tmp_path / name)[number]
        return np.stack((red, green, blue), -1) / 1023

    interp(clip, "slow.mkv", slowmo=4)
    assert shown(rgb("slow.mkv", 17), 4.25) > 0.85
    interp(clip, "part.mkv", factor=2, start=0.04, end=0.36)
    assert shown(rgb("part.mkv", 7), 4.5) > 0.85
    interp(clip, "replaced.mkv", factor=2, replace=8)
    assert shown(rgb("replaced.mkv", 9), 4.5) > 0.85
    interp(clip, "over.mkv", factor=2, replace=5)
    assert min(shown(rgb("over.mkv", k), k / 2) for k in (7, 9, 10, 11, 13)) > 0.85
    interp(clip, "ramp.mkv", speed="0=0.5")
    assert shown(rgb("ramp.mkv", 9), 4.5) > 0.85
    # A quarter of a frame's time is a step of about the ball's own size.
    interp(clip, "shutter.mkv", factor=2, shutter=180)
    area = around(4.625, 1)
    assert (rgb("shutter.mkv", 9)[area] - ground(4.625)[area] / 255).mean() > 0.15


def perceptual(light):
    """Return PQ (SMPTE ST 2084) of light, of which 1 is a thousand cd/m²."""
    power = (light / 10).clip(0) ** 0.1593017578125
    part = (0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)
    return (part**78.84375).astype(np.float32)


@pytest.mark.parametrize(
    "curve",
    [np.float32, pytest.param(perceptual, marks=pytest.mark.full)],
    ids=["SDR", "PQ"],
)
@pytest.mark.parametrize(
    "light",
    [lambda k: 1 - 0.02 * k, lambda k: 1 + 0.4 * (k == 4), lambda k: 1 - 0.3 * (k > 3)],
    ids=["fades", "flashes", "steps"],
)
def test_a_change_of_light_does_not_make_a_ball_worse(monkeypatch, light, curve):
    pictures = [curve(film(k) / 360 * light(k)) for k in range(9)]

    def errors():
        made = [*cloudconv.interpolate_frames(pictures, 2, model="cloud-turbo")]
        middles = [
            curve(film(k + 0.5) / 360 * (light(k) + light(k + 1)) / 2) for k in range(8)
        ]
        return np.array(
            [
                np.abs(made[2 * k + 1] - middle)[around(k + 0.5)].mean()
                for k, middle in enumerate(middles)
            ]
        )

    found = errors()
    without_search(monkeypatch)
    plain = errors()
    assert np.all(found < plain + 0.005)
    assert found[1:7].mean() <= plain[1:7].mean()
