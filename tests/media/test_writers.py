"""Durations, colours and names of animations and picture files."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cloudconv.errors import OutputError
from cloudconv.media.frame import ColorTags
from tests.helpers.factory import planes_of
from tests.helpers.sinks import info_of
from tests.media.test_sink import even, write


def test_gif_has_exact_centiseconds(tmp_path):
    path = tmp_path / "clip.gif"
    assert write(path, even(6, rate=30), rate=30).encoder == "gif"
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        durations = [shown.info["duration"] for shown in ImageSequence.Iterator(image)]
    assert durations == [30, 40, 30, 30, 40, 30]


@pytest.mark.parametrize(
    ("name", "rate", "is_even"),
    [("clip.gif", 60, True), ("clip.mkv", 1200, True), ("clip.gif", 100, False)],
)
def test_a_rate_too_high_for_the_container_is_an_error(tmp_path, name, rate, is_even):
    clock = {"rate": rate if is_even else None, "time_base": Fraction(1, rate)}
    with pytest.raises(OutputError, match=r"write an \.mp4"):
        write(tmp_path / name, even(3, rate=rate), **clock)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001)])
def test_apng_is_exact_and_lossless_for_rgb(tmp_path, rate):
    path, frames = tmp_path / "clip.apng", even(4, (33, 21), "gbrp", rate=rate)
    write(path, frames, info_of((33, 21), "gbrp"), rate=rate)
    with Image.open(path) as image:
        for frame, shown in zip(frames, ImageSequence.Iterator(image), strict=True):
            assert shown.info["duration"] == pytest.approx(float(1000 / rate), rel=1e-9)
            green, blue, red = planes_of(frame.picture)
            made = np.asarray(shown.convert("RGB"))
            np.testing.assert_array_equal(made, np.stack([red, green, blue], -1))


@pytest.mark.parametrize("name", ["out/%03d.png", "out/%03d.tif", "out/%03d.jpg", "clip.gif"])
def test_each_picture_format_stores_its_colours(tmp_path, name):
    tags = ColorTags(1, 1, 1, 1)
    frames = even(3, (34, 22), "yuv420p", tags)
    write(tmp_path / name, frames, info_of((34, 22), tags=tags), rate=24)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert names == ([name % k for k in (1, 2, 3)] if "%" in name else [name])
    with Image.open(tmp_path / names[0]) as image:
        made = np.asarray(image.convert("RGB")).astype(float)
    shown = frames[0].picture
    shown.colorspace, shown.color_range = 1, 1
    wanted = shown.to_ndarray(format="rgb24").astype(float)
    assert abs(wanted.mean((0, 1)) - made.mean((0, 1))).max() < 2
    assert abs(wanted - made).mean() < (6 if name == "clip.gif" else 2)


def test_overwriting_a_sequence_leaves_no_old_pictures(tmp_path):
    for count in (4, 2):
        write(tmp_path / "%02d.png", even(count), rate=24)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01.png", "02.png"]
