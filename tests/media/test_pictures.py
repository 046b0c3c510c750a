"""The content of a picture or an animation decides how it is read, not its name."""

import io
import struct
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cloudconv.errors import InputError
from cloudconv.media.probe import probe
from cloudconv.media.source import Source
from tests.helpers.factory import animation, planes_of, write_clip

ANIMATED = ["gif", "png", "webp", "tif", "avif"]


def frames_of(path):
    with Source(path) as source:
        return [(f.time, planes_of(f.picture)[0].mean()) for f in source.frames()]


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_read_from_standard_input_and_under_any_name(
    tmp_path, monkeypatch, kind
):
    path = animation(tmp_path / f"a.{kind}", [100] * 3)
    frames = frames_of(path)
    assert len(frames) == 3
    for name in ("a", "b.mp4", *(f"c.{other}" for other in ANIMATED if other != kind)):
        (tmp_path / name).write_bytes(path.read_bytes())
        assert frames_of(tmp_path / name) == frames
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    assert frames_of("-") == frames


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "webp", "tif", "avif", "bmp"])
def test_a_single_picture_has_no_rate_of_its_own(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (32, 16), (90, 30, 30)).save(path, duration=700)
    assert probe(path).timing.rate == 25
    timing = probe(path, Fraction(30)).timing
    assert (timing.frames, timing.rate, timing.last_duration) == (1, 30, Fraction(1, 30))


def test_a_video_of_one_frame_keeps_its_rate(tmp_path):
    path = write_clip(tmp_path / "a.mp4", 1)
    assert probe(path).timing.rate == 24
    with pytest.raises(InputError, match="times of its own"):
        probe(path, Fraction(30))


def box(name, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full_box(name, *parts, version=0, flags=0):
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def tiled(path, tiles):
    """Write an AVIF whose picture is a row of tiles, as phones write their photos."""
    coded = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(coded, "avif")
    data = coded.getvalue()
    begin = data.index(b"av1C") - 4
    settings = data[begin : begin + int.from_bytes(data[begin : begin + 4])]
    tile = data[data.index(b"mdat") + 4 :]
    grid = struct.pack(">4B2H", 0, 0, 0, tiles - 1, 64 * tiles, 64)
    numbers = range(1, tiles + 1)
    whole = tiles + 1
    items = [(number, b"av01", 1) for number in numbers] + [(whole, b"grid", 0)]
    names = [
        full_box(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2, flags=hidden)
        for number, kind, hidden in items
    ]
    sizes = [full_box(b"ispe", struct.pack(">2I", width, 64)) for width in (64, 64 * tiles)]
    uses = [struct.pack(">HBBB", number, 2, 0x81, 2) for number in numbers]
    uses.append(struct.pack(">HBB", whole, 1, 3))
    lengths = [len(tile)] * tiles + [len(grid)]

    def head(begins):
        places = [
            struct.pack(">3H2I", number, 0, 1, begins + len(tile) * (number - 1), length)
            for number, length in enumerate(lengths, 1)
        ]
        refers = box(b"dimg", struct.pack(f">{tiles + 2}H", whole, tiles, *numbers))
        return box(b"ftyp", b"avif\0\0\0\0avifmif1") + full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s13x", 0, b"pict")),
            full_box(b"pitm", struct.pack(">H", whole)),
            full_box(b"iloc", struct.pack(">2BH", 0x44, 0, whole), *places),
            full_box(b"iinf", struct.pack(">H", whole), *names),
            full_box(b"iref", refers),
            box(
                b"iprp",
                box(b"ipco", settings, *sizes),
                full_box(b"ipma", struct.pack(">I", whole), *uses),
            ),
        )

    path.write_bytes(head(len(head(0)) + 8) + box(b"mdat", tile * tiles, grid))
    return path


def test_a_photo_in_tiles_is_refused_and_never_shown_as_one_tile(tmp_path):
    path = tiled(tmp_path / "a.avif", 3)
    with Image.open(path) as whole:
        assert whole.size == (192, 64)
    with pytest.raises(InputError, match="a photo in 3 tiles"):
        probe(path)
    tiled(tmp_path / "b.avif", 3)
    with pytest.raises(InputError, match="a photo in 3 tiles"):
        probe(tmp_path)
    assert probe(path, stream=1).width == 64
