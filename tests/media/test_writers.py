"""Durations, colours and names of animations and picture files."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from cloudconv.errors import OutputError
from cloudconv.media.frame import ColorTags
from cloudconv.settings import EncodeSettings
from tests.helpers.factory import planes_of
from tests.helpers.sinks import info_of, open_sink
from tests.media.test_sink import constant, frames_of, write


def test_gif_has_exact_centiseconds(tmp_path):
    path = tmp_path / "clip.gif"
    rate = Fraction(30)
    sink = write(path, frames_of(constant(rate, 6), 1 / rate), rate=rate, encode=EncodeSettings())
    assert sink.encoder == "gif"
    with Image.open(path) as image:
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    assert durations == [30, 40, 30, 30, 40, 30]


def test_gif_colours_are_close(tmp_path):
    path = tmp_path / "clip.gif"
    frames = list(frames_of([Fraction(0)], Fraction(1), tags=ColorTags(6, 6, 6, 1)))
    info = info_of(tags=ColorTags(6, 6, 6, 1))
    write(path, frames, info, rate=Fraction(1), encode=EncodeSettings())
    shown = frames[0].picture
    shown.colorspace, shown.color_range = 5, 1
    wanted = shown.to_ndarray(format="rgb24").astype(float)
    with Image.open(path) as image:
        made = np.asarray(image.convert("RGB")).astype(float)
    assert abs(wanted.mean((0, 1)) - made.mean((0, 1))).max() < 2
    assert abs(wanted - made).mean() < 6


@pytest.mark.parametrize(
    ("name", "rate", "words"),
    [("clip.gif", 60, "write an .mp4"), ("clip.mkv", 1200, "write an .mp4")],
)
def test_a_rate_too_high_for_the_container_is_an_error(tmp_path, name, rate, words):
    with pytest.raises(OutputError, match=words):
        open_sink(tmp_path / name, info_of(), rate=Fraction(rate), time_base=Fraction(1, rate))
    assert not list(tmp_path.iterdir())


def test_gif_with_close_variable_times_is_refused(tmp_path):
    path = tmp_path / "clip.gif"
    frames = frames_of(constant(100, 3), Fraction(1, 100))
    with pytest.raises(OutputError, match=r"write an \.mp4"):
        write(path, frames, time_base=Fraction(1, 100), encode=EncodeSettings())
    assert not list(tmp_path.iterdir())


def test_apng_is_exact_and_lossless_for_rgb(tmp_path):
    path = tmp_path / "clip.apng"
    rate = Fraction(24000, 1001)
    frames = list(frames_of(constant(rate, 4), 1 / rate, (33, 21), "gbrp"))
    write(path, frames, info_of((33, 21), "gbrp"), rate=rate, encode=EncodeSettings())
    with Image.open(path) as image:
        assert image.n_frames == 4
        for index, frame in enumerate(frames):
            image.seek(index)
            assert image.info["duration"] == pytest.approx(float(1000 / rate))
            green, blue, red = planes_of(frame.picture)
            made = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(made, np.stack([red, green, blue], -1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_each_picture_format_stores_its_colours(tmp_path, suffix):
    pattern = tmp_path / "out" / f"frame_%03d{suffix}"
    tags = ColorTags(1, 1, 1, 1)
    frames = list(frames_of(constant(24, 3), Fraction(1, 24), (34, 22), "yuv420p", tags))
    write(pattern, frames, info_of((34, 22), tags=tags), rate=Fraction(24), encode=EncodeSettings())
    names = sorted(found.name for found in pattern.parent.iterdir())
    assert names == [f"frame_{k:03d}{suffix}" for k in (1, 2, 3)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    with Image.open(pattern.parent / names[0]) as image:
        made = np.asarray(image.convert("RGB")).astype(float)
    shown = frames[0].picture
    shown.colorspace, shown.color_range = 1, 1
    wanted = shown.to_ndarray(format="rgb24").astype(float)
    assert abs(wanted - made).mean() < 2


def test_overwriting_a_sequence_leaves_no_old_pictures(tmp_path):
    pattern = tmp_path / "out" / "%02d.png"
    for count in (4, 2):
        frames = frames_of(constant(24, count), Fraction(1, 24))
        write(pattern, frames, rate=Fraction(24), encode=EncodeSettings())
    assert sorted(p.name for p in pattern.parent.iterdir()) == ["01.png", "02.png"]
