"""Conversion of planes to RGB and back."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from cloudconv.media.colour.color import (
    ColorSpace,
    alpha_from_float,
    alpha_to_float,
    block_means,
    color_space,
    from_rgb,
    rgb_of,
    thumbnail,
    to_rgb,
)
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame, make_picture
from tests.helpers.factory import picture

MATRICES = ("bt601", "bt709", "bt2020", "fcc", "smpte240m", "ycgco")
FORMATS = [
    *("yuv410p", "yuv411p", "yuv420p", "yuv422p", "yuv440p", "yuv444p", "yuva420p"),
    *(
        "yuv420p9le",
        "yuv420p10le",
        "yuv422p12le",
        "yuv444p14le",
        "yuv420p16le",
        "yuv444p16le",
    ),
    *("yuv440p10le", "yuva444p10le", "gray", "gray10le", "gray16le"),
    *("gbrp", "gbrp10le", "gbrp16le", "gbrap", "gbrap12le"),
]


def space_of(kind, matrix, full_range):
    return ColorSpace("rgb" if kind.family == "rgb" else matrix, full_range)


def noise(kind, width, height, seed=0):
    """Return random planes over all codes of the bit depth."""
    generator = torch.Generator().manual_seed(seed)
    small = (
        -(-height // (1 << kind.chroma_shift_y)),
        -(-width // (1 << kind.chroma_shift_x)),
    )
    shapes = [(height, width)]
    if kind.family != "gray":
        shapes += [small, small, (height, width)][: 3 if kind.alpha else 2]
    dtype = torch.uint8 if kind.depth <= 8 else torch.uint16
    return [
        torch.randint(0, 1 << kind.depth, s, generator=generator).to(dtype) for s in shapes
    ]


def flat(kind, codes, width=8, height=8):
    planes = noise(kind, width, height)
    return [torch.full_like(p, code) for p, code in zip(planes, codes, strict=True)]


@pytest.mark.full
@settings(deadline=None, max_examples=150)
@given(
    pix_fmt=st.sampled_from(FORMATS),
    matrix=st.sampled_from(MATRICES),
    full_range=st.booleans(),
    width=st.integers(1, 41),
    height=st.integers(1, 41),
    seed=st.integers(0, 1000),
)
def test_conversion_to_rgb_and_back_is_exact(
    pix_fmt, matrix, full_range, width, height, seed
):
    """The input is white noise over all codes, mostly outside of RGB, also in odd sizes."""
    kind = layout(pix_fmt)
    space = space_of(kind, matrix, full_range)
    planes = noise(kind, width, height, seed)
    rgb = to_rgb(planes, kind, space)
    assert (rgb.shape, rgb.dtype) == ((3, height, width), torch.float32)
    before = rgb.clone()
    back = list(from_rgb(rgb, kind, space))
    assert torch.equal(rgb, before)
    if kind.alpha:
        opacity = alpha_to_float(planes[3], kind)
        assert opacity.shape == (1, height, width)
        assert 0 <= opacity.min() <= opacity.max() <= 1
        back.append(alpha_from_float(opacity, kind))
    for plane, again in zip(planes, back, strict=True):
        assert plane.dtype == again.dtype
        assert torch.equal(plane, again)


RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "full_range", "rgb", "codes"),
    [
        ("yuv420p", "bt709", False, RED, (63, 102, 240)),
        ("yuv444p", "bt601", False, RED, (81, 90, 240)),
        ("yuv422p", "bt601", True, BLUE, (29, 255, 107)),
        ("yuv420p10le", "bt709", False, RED, (250, 409, 960)),
        ("yuv420p", "bt2020", False, RED, (74, 97, 240)),
        ("yuv444p", "fcc", False, RED, (82, 90, 240)),
        ("yuv444p", "smpte240m", False, BLUE, (35, 240, 116)),
        ("yuv444p", "ycgco", True, GREEN, (128, 255, 128)),
        ("yuv420p", "bt709", False, (1.0, 1.0, 1.0), (235, 128, 128)),
        ("yuv420p", "bt709", False, (0.0, 0.0, 0.0), (16, 128, 128)),
        ("yuv420p12le", "bt709", True, (1.0, 1.0, 1.0), (4095, 2048, 2048)),
        ("gray10le", "bt709", False, (1.0, 1.0, 1.0), (940,)),
        ("gbrp", "rgb", True, RED, (0, 0, 255)),
        ("gbrp10le", "rgb", False, BLUE, (64, 940, 64)),
    ],
)
def test_known_colours_have_their_codes(pix_fmt, matrix, full_range, rgb, codes):
    kind = layout(pix_fmt)
    space = ColorSpace(matrix, full_range)
    colour = torch.tensor(rgb)[:, None, None].expand(3, 6, 10)
    planes = from_rgb(colour, kind, space)
    assert tuple(int(p[0, 0]) for p in planes) == codes
    level = 2.5 / 2 ** min(kind.depth, 10)
    assert torch.allclose(to_rgb(planes, kind, space), colour, atol=level)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv411p", "yuv410p", "yuv440p"])
def test_chroma_is_interpolated_smoothly(pix_fmt):
    """A ramp stays a ramp, without steps of the size of a chroma sample."""
    kind = layout(pix_fmt)
    space = ColorSpace("bt709", False)
    luma, u, v = flat(kind, (128, 128, 128), 64, 64)
    across, down = kind.chroma_shift_x, kind.chroma_shift_y
    y, x = torch.meshgrid(torch.arange(u.shape[0]), torch.arange(u.shape[1]), indexing="ij")
    v = (60 + (x << across) + (y << down)).to(torch.uint8)
    red = to_rgb((luma, u, v), kind, space)[0]
    edge = 1 << max(across, down)
    inner = red[edge:-edge, edge:-edge]
    assert torch.allclose(inner.diff(dim=0), inner.diff(dim=0).mean(), atol=1e-5)
    assert torch.allclose(inner.diff(dim=1), inner.diff(dim=1).mean(), atol=1e-5)
    assert inner.diff(dim=0).mean() > 0.002


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p", "gray", "gbrp"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("weight", [0.5, 0.25, 0.8])
def test_mixing_frames_keeps_the_mean(pix_fmt, full_range, weight):
    """Half of all mixed pixels are exactly between two codes: rounding has no bias."""
    kind = layout(pix_fmt)
    space = space_of(kind, "bt709", full_range)
    ours, theirs = (
        [(p.to(torch.float32) * 0.4 + 60).to(p.dtype) for p in noise(kind, 480, 320, seed)]
        for seed in (1, 2)
    )
    mixed = to_rgb(ours, kind, space).lerp(to_rgb(theirs, kind, space), weight)
    for a, b, plane in zip(ours, theirs, from_rgb(mixed, kind, space), strict=True):
        expected = a.double().mean() * (1 - weight) + b.double().mean() * weight
        assert abs(plane.double().mean() - expected) < 0.02


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gbrp", "gray16le"])
def test_colours_and_opacity_beyond_the_codes_are_clamped(pix_fmt):
    kind = layout(pix_fmt)
    space = space_of(kind, "bt709", False)
    for value, code in ((9.0, (1 << kind.depth) - 1), (-9.0, 0)):
        plane = from_rgb(torch.full((3, 4, 4), value), kind, space)[0]
        opacity = alpha_from_float(torch.full((1, 4, 4), value), kind)
        assert torch.cat([plane, opacity]).to(torch.int32).unique().tolist() == [code]


def test_half_precision_pictures_are_converted():
    kind = layout("yuv420p")
    planes = from_rgb(
        torch.ones(3, 5, 7, dtype=torch.bfloat16), kind, ColorSpace("bt709", False)
    )
    assert [tuple(p.shape) for p in planes] == [(5, 7), (3, 4), (3, 4)]
    assert [int(p[0, 0]) for p in planes] == [235, 128, 128]


@pytest.mark.parametrize(
    ("tags", "pix_fmt", "size", "expected"),
    [
        (ColorTags(), "yuv420p", (640, 480), ColorSpace("bt601", False)),
        (ColorTags(), "yuv420p", (720, 576), ColorSpace("bt601", False)),
        (ColorTags(), "yuv420p", (1280, 544), ColorSpace("bt709", False)),
        (ColorTags(), "yuv420p", (608, 1080), ColorSpace("bt709", False)),
        (ColorTags(range=2), "yuv420p", (640, 480), ColorSpace("bt601", True)),
        (ColorTags(matrix=1, range=1), "yuv420p", (64, 48), ColorSpace("bt709", False)),
        (ColorTags(matrix=4), "yuv420p", (64, 48), ColorSpace("fcc", False)),
        (ColorTags(matrix=5), "yuv420p", (1920, 1080), ColorSpace("bt601", False)),
        (ColorTags(matrix=6), "yuv420p", (1920, 1080), ColorSpace("bt601", False)),
        (ColorTags(matrix=7), "yuv420p", (64, 48), ColorSpace("smpte240m", False)),
        (ColorTags(matrix=8), "yuv444p", (64, 48), ColorSpace("ycgco", False)),
        (ColorTags(matrix=9), "yuv420p10le", (64, 48), ColorSpace("bt2020", False)),
        (ColorTags(matrix=10), "yuv420p10le", (64, 48), ColorSpace("bt2020", False)),
        (ColorTags(matrix=99), "yuv420p", (64, 48), ColorSpace("bt601", False)),
        (ColorTags(matrix=1), "gbrp", (64, 48), ColorSpace("rgb", True)),
        (ColorTags(range=1), "gbrp", (64, 48), ColorSpace("rgb", False)),
        (ColorTags(), "gray", (64, 48), ColorSpace("bt601", True)),
        (ColorTags(range=1), "gray", (64, 48), ColorSpace("bt601", False)),
    ],
)
def test_the_colour_space_follows_tags_and_size(tags, pix_fmt, size, expected):
    assert color_space(tags, layout(pix_fmt), *size) == expected


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p10le", "gbrp", "gray16le", "yuva420p"]
)
@pytest.mark.parametrize("size", [(96, 64), (101, 51), (7, 5)])
def test_thumbnails_average_luma(pix_fmt, size):
    frame = Frame(picture(2, *size, pix_fmt), Fraction(0), Fraction(1))
    small = thumbnail(frame, 8, 12)
    assert (small.shape, small.dtype) == ((8, 12), torch.float32)
    assert 0 <= small.min() <= small.max() <= 1
    luma = torch.tensor([0.2126, 0.7152, 0.0722]) @ rgb_of(frame).flatten(1)
    assert thumbnail(frame, 1, 1).item() == pytest.approx(luma.mean().item(), abs=0.02)


@pytest.mark.parametrize(
    ("code", "extent", "expected"),
    [(16, 0, 0), (235, 0, 1), (255, 0, 1), (255, 2, 1), (0, 2, 0)],
)
def test_thumbnails_reach_black_and_white(code, extent, expected):
    result = make_picture(flat(layout("yuv420p"), (code, 128, 128)), "yuv420p", 8, 8)
    frame = Frame(result, Fraction(0), Fraction(1), ColorTags(range=extent))
    assert thumbnail(frame, 4, 4).unique().tolist() == [expected]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gray10le", "gray16le"])
@pytest.mark.parametrize("size", [(160, 96), (37, 61), (8, 8), (5, 300)])
def test_means_of_blocks_include_smaller_blocks_at_the_edges(size, pix_fmt):
    plane = Frame(picture(3, *size, pix_fmt, noise=9), Fraction(0), Fraction(1)).planes()[0]
    expected = avg_pool2d(plane.to(torch.float32)[None], 8, ceil_mode=True)[0]
    torch.testing.assert_close(block_means(plane), expected)
