"""Outputs without a rotation flag show pictures turned as a player shows the source."""

import base64
import io
import re
import struct
from functools import partial

import av
import numpy as np
import pytest
from PIL import Image

import cloudconv
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from tests.helpers.factory import write_clip

WIDTH, HEIGHT = 48, 32
# Upper left 2x2 part of the matrix: the corner in which the stored top left corner is
# shown.
TURNS = {
    (0, 1, -1, 0): "top right",  # a quarter turn clockwise: a phone held upright
    (0, -1, 1, 0): "bottom left",
    (-1, 0, 0, -1): "bottom right",
    (-1, 0, 0, 1): "top right",
    (1, 0, 0, -1): "bottom left",
    (0, 1, 1, 0): "top left",
    (0, -1, -1, 0): "bottom right",
}
QUARTER = (0, 1, -1, 0)


def clip(path, turn, pix_fmt="yuv420p", frames=6):
    """Write a dark clip with a red top left quarter that slowly becomes brighter."""
    a, b, c, d = (round(value * (1 << 16)) for value in turn)
    pictures = []
    for k in range(frames):
        rgb = np.full((HEIGHT, WIDTH, 3), 8 + 4 * k, np.uint8)
        rgb[: HEIGHT // 2, : WIDTH // 2] = (220, 10, 10)
        pictures.append(
            av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
        )
    return write_clip(
        path, pictures, matrix=struct.pack("<9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )


def red_corner(image):
    """Return the corner of the only red quarter."""
    red, green, _ = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
    width, height = image.width // 2 * 2, image.height // 2 * 2
    quarters = (red - green)[:height, :width].reshape(2, height // 2, 2, width // 2)
    means = quarters.mean((1, 3)).flatten()
    assert np.sort(means)[-2] < 40
    assert means.max() > 150
    return ("top left", "top right", "bottom left", "bottom right")[means.argmax()]


make = partial(cloudconv.interpolate, factor=2, model="blend")


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_for_every_rotation_flag(tmp_path, turn):
    result = make(clip(tmp_path / "a.mp4", turn), tmp_path / "out" / "%03d.png")
    assert not any("turn" in text or "rotat" in text for text in map(str, result.warnings))
    for name in ("001.png", "002.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == ((HEIGHT, WIDTH) if turn[1] else (WIDTH, HEIGHT))
            assert red_corner(image) == TURNS[turn]


SUBSAMPLED = ["yuv422p", "yuv411p", "yuv440p", "yuv422p10le"]  # in one direction


@pytest.mark.parametrize(
    ("name", "pix_fmt"),
    [*((f"b.{kind}", "yuv420p") for kind in ("gif", "webp", "apng")),
     *(("out/%d.jpg", pix_fmt) for pix_fmt in SUBSAMPLED)],
)  # fmt: skip
def test_animations_and_all_kinds_of_chroma_are_turned(tmp_path, name, pix_fmt):
    make(clip(tmp_path / "a.mkv", QUARTER, pix_fmt), tmp_path / name)
    with Image.open(tmp_path / name.replace("%d", "1")) as image:
        assert image.size == (HEIGHT, WIDTH)
        assert red_corner(image) == "top right"


def test_an_angle_that_is_no_quarter_turn_gives_a_warning(tmp_path):
    source = clip(tmp_path / "a.mp4", (0.7, 0.7, -0.7, 0.7))
    result = make(source, tmp_path / "b.gif")
    assert any("not a quarter turn" in text for text in map(str, result.warnings))
    with Image.open(tmp_path / "b.gif") as image:
        assert red_corner(image) == "top left"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_in_a_folder_are_upright_by_their_exif_orientation(tmp_path, suffix):
    """Eight cameras were held in all ways and show the same."""
    turns = Image.Transpose
    stored = {
        1: None,
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
    }
    stored |= {
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    upright = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    )
    upright = upright.resize((32, 48), Image.Resampling.NEAREST)  # blocks, which JPEG keeps
    how = {"jpg": {"subsampling": 0, "quality": 95}, "webp": {"lossless": True}}.get(
        suffix, {}
    )
    for orientation, turn in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = upright if turn is None else upright.transpose(turn)
        image.save(tmp_path / f"{orientation}.{suffix}", exif=exif, **how)
    info = probe(tmp_path)
    assert (info.width, info.height) == (32, 48)
    with Source(info) as source:
        shown = [
            frame.picture.to_ndarray(format="rgb24").astype(int)
            for frame in source.frames()
        ]
    assert len(shown) == 8
    for picture in shown:
        assert abs(picture - np.asarray(upright)).max() <= (
            0 if suffix in ("png", "tif") else 12
        )


def pictures_of(page):
    result = re.findall(
        r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page.read_text("utf-8")
    )
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in result]


def test_a_report_shows_upright_pictures(tmp_path):
    source = clip(tmp_path / "a.mp4", QUARTER, frames=12)
    compared = tmp_path / "compared"
    cloudconv.compare(source, model=("hold",), report=compared, metrics=("psnr",))
    pictures = pictures_of(compared / "index.html")
    assert all(image.width < image.height for image in pictures)
    assert red_corner(pictures[0]) == "top right"
    side_by_side = probe(compared / "side_by_side.mp4")
    assert side_by_side.height > WIDTH, "panels must be upright, below a label"
