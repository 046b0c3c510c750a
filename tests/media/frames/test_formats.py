"""Repacking moves samples between pixel formats and changes none of them."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import names
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.frames import formats
from cloudconv.media.frames.formats import layout, repack, working_format
from tests.helpers.factory import planes_of, same, write_clip

TWO_WAY = [name for name in sorted(names) if formats.is_exact(name)]
assert len(TWO_WAY) > 150


def noise(width, height, pix_fmt, seed=0):
    """Return a frame of random legal samples in a working format."""
    frame = VideoFrame(width, height, pix_fmt)
    random = np.random.default_rng(seed)
    depth = layout(pix_fmt).depth
    dtype = np.dtype(np.uint16 if depth > 8 else np.uint8)
    for plane in frame.planes:
        samples = np.frombuffer(plane, dtype)
        samples[:] = random.integers(0, 2**depth, samples.shape)
    return frame


@pytest.mark.full
@settings(deadline=None, max_examples=300)
@given(st.sampled_from(TWO_WAY), st.integers(1, 20), st.integers(1, 12), st.integers(0, 9))
def test_repacking_there_and_back_is_exact(name, width, height, seed):
    if name.startswith("yuvj"):
        width, height = 4 * width, 4 * height  # FFmpeg refuses odd sizes of yuvj formats
    source = noise(width, height, working_format(name), seed)
    source.pts = 7
    source.time_base = Fraction(1, 24)
    stored = repack(source, name)
    back = repack(stored, working_format(name))
    packed, working = layout(name), layout(back.format.name)
    assert (packed.alpha, packed.depth) == (working.alpha, working.depth)
    assert stored.format.name == name
    assert same(planes_of(source), planes_of(back))
    assert (back.pts, back.time_base) == (7, Fraction(1, 24))


@pytest.mark.parametrize(
    "name",
    [
        *("rgb24", "bgra", "0rgb", "rgb48be", "rgba64le", "x2rgb10le", "yuv422p10be"),
        *("nv12", "nv21", "yuyv422", "uyvy422", "p010le", "p010be", "nv24"),
    ],
)
def test_packed_samples_agree_with_ffmpeg(name):
    planar = noise(16, 8, working_format(name))
    ours = repack(planar, name)
    theirs = planar.reformat(format=name, threads=1)
    back = working_format(name) if layout(name).family == "yuv" else "gbrap16le"
    assert same(
        *(planes_of(frame.reformat(format=back, threads=1)) for frame in (ours, theirs))
    )


def test_a_palette_keeps_colours_and_opacity(tmp_path):
    from PIL import Image

    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "p.png", transparency=bytes([255, 128, 0]))
    with av.open(str(tmp_path / "p.png")) as clip:
        frame = next(clip.decode(video=0))
    result = repack(frame, working_format(frame.format.name))
    assert result.format.name == "gbrap"
    green, blue, red, alpha = (plane[0].tolist() for plane in planes_of(result))
    assert (red, green, blue) == ([10, 40, 70], [20, 50, 80], [30, 60, 90])
    assert alpha == [255, 128, 0]


def test_jpeg_range_gray_with_alpha_and_single_bits_become_plain_formats():
    frame = VideoFrame(16, 8, "yuvj420p")
    frame.color_range = 0
    assert repack(frame, "yuv420p").color_range == 2
    frame = VideoFrame(4, 1, "ya8")
    np.frombuffer(frame.planes[0], np.uint8)[:8] = [1, 255, 2, 0, 3, 9, 4, 8]
    planes = [plane[0].tolist() for plane in planes_of(repack(frame, "gbrap"))]
    assert planes == [[1, 2, 3, 4]] * 3 + [[255, 0, 9, 8]]
    frame = VideoFrame(8, 1, "monob")
    np.frombuffer(frame.planes[0], np.uint8)[:] = 0b1010_0000
    result = repack(frame, "gray")
    assert planes_of(result)[0][0].tolist() == [255, 0, 255, 0, 0, 0, 0, 0]
    assert result.color_range == 2


def test_bottom_up_rows_are_reversed(tmp_path):
    frame = VideoFrame(4, 3, "bgr24")
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(3, -1)
    rows[:] = np.array([[10], [20], [30]])
    path = write_clip(tmp_path / "up.avi", [frame], codec="rawvideo")
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 16
    assert int.from_bytes(data[at : at + 4], "little", signed=True) == -3
    data[at : at + 4] = (3).to_bytes(4, "little")  # a positive height means bottom-up rows
    path.write_bytes(data)
    with av.open(str(path)) as clip:
        decoded = next(clip.decode(video=0))
    assert decoded.planes[0].line_size < 0
    assert [row[0] for row in planes_of(repack(decoded, "gbrp"))[0]] == [30, 20, 10]


@pytest.mark.parametrize(
    "name", ["grayf", "bayer_rggb8", "cuda", "xyz12le", "rgbf16le", "gray32le", "nonsense"]
)
def test_an_unsupported_format_is_named(name):
    with pytest.raises(ValueError, match=name):
        working_format(name)
