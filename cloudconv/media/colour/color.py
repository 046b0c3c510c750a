"""Convert between the planes of a picture and RGB for a network, without loss.

Both conversions are linear, and RGB is neither clamped nor rounded. Pixels that a network
does not change therefore return to exactly the same codes, whatever their colour.

A chroma sample describes a *cell*, the group of pixels that the sample covers, at the
centre of the cell. Enlarging makes chroma a linear function within each cell, whose mean is
the sample (as in finite-volume methods; for halved chroma this is bilinear interpolation
with the mean restored). Reducing takes the mean of each cell, which is the sample again.

Matrices and code ranges: ITU-T H.273, section 8.3 (MatrixCoefficients).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.media.frames.formats import PixelLayout, is_float, layout
from cloudconv.media.frames.frame import ColorTags, Frame
from cloudconv.transfer import upload

Matrix = Literal["bt601", "bt709", "bt2020", "fcc", "smpte240m", "ycgco", "rgb"]
BLOCK = 8  # side in pixels; the mean over a block removes most of a codec's noise
_TIE = 64  # values are rounded to 1/64 of a level first, see `to_codes`
_Rows = tuple[tuple[float, ...], ...]

# The weights of red and of blue in luma. Green has the rest.
_LUMA: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
# The matrices of H.273's MatrixCoefficients. Number 10, constant-luminance BT.2020, is not
# linear. Players and this table treat 10 as 9, the non-constant variant. A round trip
# remains exact.
_TAGGED: dict[int, Matrix] = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020",
    10: "bt2020",
}


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """The meaning of code values: the matrix, and whether they use the full code range."""

    matrix: Matrix
    full_range: bool


def color_space(
    tags: ColorTags, layout: PixelLayout, width: int, height: int
) -> ColorSpace:
    """Return the colour space of a picture from its tags; guess missing tags as players do.

    An unspecified matrix is BT.709 from 1280 pixels of width or above 576 lines, else
    BT.601. Unspecified YUV is limited range, unspecified RGB and gray full range.
    """
    full_range = tags.range == 2 or (tags.range != 1 and layout.family != "yuv")
    if layout.family == "rgb":
        return ColorSpace("rgb", full_range)
    guess: Matrix = "bt709" if width >= 1280 or height > 576 else "bt601"
    return ColorSpace(_TAGGED.get(tags.matrix, guess), full_range)


def description_of(frame: Frame) -> tuple[PixelLayout, ColorSpace]:
    """Return the layout and the colour space of a frame."""
    form = layout(frame.pix_fmt)
    return form, color_space(frame.tags, form, frame.width, frame.height)


def to_rgb(planes: Sequence[Tensor], layout: PixelLayout, space: ColorSpace) -> Tensor:
    """Convert planes to RGB: (3, H, W) float32 on their device, nominally in [0, 1].

    RGB is not clamped. The planes are (H, W) each, in FFmpeg's plane order: integer codes,
    or float32 for gray and RGB pictures that a Python caller gives. An alpha plane at the
    end is ignored.
    """
    (luma_scale, luma_zero), _ = _code_range(layout, space)
    if layout.family == "gray":
        gray = planes[0].to(torch.float32).sub_(luma_zero).div_(luma_scale)
        return gray.expand(3, -1, -1).contiguous()
    if layout.family == "rgb":
        rgb = torch.empty((3, *planes[0].shape), device=planes[0].device)
        for channel, plane in zip((1, 2, 0), planes, strict=False):
            rgb[channel].copy_(plane)
        return rgb.sub_(luma_zero).div_(luma_scale)
    luma, u, v = (plane.to(torch.float32) for plane in planes[:3])
    rgb = torch.empty((3, *luma.shape), device=luma.device)
    rows, offsets = rgb_matrix(layout, space)
    # The weights of luma in R, G and B: equal but for rounding.
    lumas = [row[0] for row in rows]
    # The chroma and the offsets are summed on the small planes, then enlarged.
    tints = (
        (u * from_u).add_(v, alpha=from_v).add_(offset)
        for (_, from_u, from_v), offset in zip(rows, offsets, strict=True)
    )
    # A CPU processes the channels one after the other, because one channel fits the caches.
    # A GPU processes all channels together, because that needs fewer kernels.
    if rgb.device.type == "cpu":
        parts = zip(rgb, lumas, tints, strict=True)
    else:
        parts = zip([rgb], lumas[:1], [torch.stack(list(tints))], strict=True)
    for target, from_luma, tint in parts:
        # Enlarge the width first, while there are few rows. Enlarging the width is the slow
        # step, because the writes have a stride.
        tint = _spread(tint, -1, 1 << layout.chroma_shift_x, luma.shape[1])
        tint = _spread(tint, -2, 1 << layout.chroma_shift_y, luma.shape[0])
        torch.add(tint, luma, alpha=from_luma, out=target)
    return rgb


def from_rgb(rgb: Tensor, layout: PixelLayout, space: ColorSpace) -> tuple[Tensor, ...]:
    """Convert RGB to colour planes; unchanged results of `to_rgb` give the same planes.

    ``rgb`` is (3, H, W), nominally in [0, 1]; it is not changed. At the end, values are
    clamped to the bit depth and, except for floats, rounded without bias. The planes are
    (H, W) each, in FFmpeg's plane order without alpha, uint8, uint16 above 8 bits, or
    float32 for a floating-point layout.
    """
    rgb = rgb.to(torch.float32)
    if layout.family == "rgb":
        (scale, zero), _ = _code_range(layout, space)
        return tuple(to_codes(rgb[channel] * scale, zero, layout) for channel in (1, 2, 0))
    rows, zeros = code_matrix(layout, space)
    luma = to_codes(_mixed(rgb, rows[0]), zeros[0], layout)
    if layout.family == "gray":
        return (luma,)
    low = _summed(rgb, -2, 1 << layout.chroma_shift_y)
    cells = _summed(low, -1, 1 << layout.chroma_shift_x)
    per_pixel = 1 / (1 << (layout.chroma_shift_x + layout.chroma_shift_y))
    u, v = (
        to_codes(_mixed(cells, row, per_pixel), zero, layout)
        for row, zero in zip(rows[1:], zeros[1:], strict=True)
    )
    return luma, u, v


def alpha_to_float(plane: Tensor, layout: PixelLayout) -> Tensor:
    """Convert an alpha plane, (H, W) of full range, to opacity: (1, H, W) float32."""
    return plane.to(torch.float32).div_(white(layout))[None]


def alpha_from_float(alpha: Tensor, layout: PixelLayout) -> Tensor:
    """Convert (1, H, W) opacity to an alpha plane: the inverse of `alpha_to_float`."""
    return to_codes(alpha[0].to(torch.float32) * white(layout), 0.0, layout)


def to_channels(planes: Sequence[Tensor], frame: Frame) -> Tensor:
    """Convert a frame's planes on any device to RGB and opacity: (3 or 4, H, W) floats."""
    form, space = description_of(frame)
    rgb = to_rgb(planes, form, space)
    return torch.cat((rgb, alpha_to_float(planes[-1], form))) if form.alpha else rgb


def from_channels(channels: Tensor, frame: Frame) -> list[Tensor]:
    """Convert (3 or 4, H, W) to planes of the frame's format: inverts `to_channels`."""
    form, space = description_of(frame)
    alpha = [alpha_from_float(channels[3:], form)] if form.alpha else []
    return [*from_rgb(channels[:3], form, space), *alpha]


def rgb_of(
    frame: Frame,
    device: torch.device | str = "cpu",
    area: tuple[slice, slice] = (slice(None), slice(None)),
) -> Tensor:
    """Return a frame as RGB without alpha, (3, H, W) float32 on ``device``.

    See :func:`to_rgb`. ``area``: the rows and the columns of the result.
    """
    form, space = description_of(frame)
    planes = frame.planes()[: 1 if form.family == "gray" else 3]
    # The cells beside the area have a part in its chroma.
    (rows, inner_rows), (columns, inner_columns) = (
        _cells(span, side, shift)
        for span, side, shift in zip(
            area, planes[0].shape, (form.chroma_shift_y, form.chroma_shift_x), strict=True
        )
    )
    chosen = [planes[0][rows, columns]]
    down, across = (
        slice(span.start >> shift, -(-span.stop // (1 << shift)))
        for span, shift in ((rows, form.chroma_shift_y), (columns, form.chroma_shift_x))
    )
    chosen += [plane[down, across] for plane in planes[1:]]
    return to_rgb(upload(chosen, device), form, space)[:, inner_rows, inner_columns]


def _cells(span: slice, side: int, shift: int) -> tuple[slice, slice]:
    """Return a part of a side in whole cells, a cell around, and its place in these."""
    start, stop, _ = span.indices(side)
    first = max(((start >> shift) - 1) << shift, 0)
    last = min((((stop - 1) >> shift) + 2) << shift, side)
    return slice(first, last), slice(start - first, stop - first)


def block_means(plane: Tensor) -> Tensor:
    """Return the means of blocks of 8x8 samples: (ceil(H / 8), ceil(W / 8)) float32 codes.

    Blocks at the lower and the right edge may be smaller.
    """
    return F.avg_pool2d(plane.to(torch.float32)[None], BLOCK, ceil_mode=True)[0]


def cell_means(plane: Tensor) -> Tensor:
    """Return the means of 2x2 samples: (ceil(H / 2), ceil(W / 2)) float32 codes."""
    return F.avg_pool2d(plane.to(torch.float32)[None], 2, ceil_mode=True)[0]


def thumbnail(frame: Frame, height: int, width: int) -> Tensor:
    """Return the luma of a frame averaged over areas: (height, width) float32 in [0, 1]."""
    form, space = description_of(frame)
    planes = frame.planes()
    (scale, zero), _ = _code_range(form, space)

    def small(number: int) -> Tensor:
        plane = planes[number]
        fine = plane.shape[0] >= 2 * BLOCK * height and plane.shape[1] >= 2 * BLOCK * width
        if not fine or plane.device.type != "cpu":
            return F.adaptive_avg_pool2d(plane.to(torch.float32)[None], (height, width))[0]
        import cv2  # imported here, because every command loads this module

        means: Any = block_means(plane).numpy()
        few = cv2.resize(means, (width, height), interpolation=cv2.INTER_AREA)
        return torch.from_numpy(few)

    if form.family == "rgb":
        red, blue = _LUMA["bt709"]
        green = (1 - red - blue) * small(0)
        luma = green + blue * small(1) + red * small(2)
    else:
        luma = small(0)
    return luma.sub_(zero).div_(scale).clamp_(0, 1)


def _code_range(
    layout: PixelLayout, space: ColorSpace
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (codes per unit, code of zero) of luma, gray and RGB, and that of chroma."""
    step = 2.0 ** (layout.depth - 8)
    top = float(white(layout))
    if space.full_range:
        return (top, 0.0), (top, 128 * step)
    return (219 * step, 16 * step), (224 * step, 128 * step)


def white(layout: PixelLayout) -> int:
    """Return the code of white in full range, and of full opacity; 1 for floating point."""
    return 1 if is_float(layout.name) else (1 << layout.depth) - 1


@cache
def code_matrix(layout: PixelLayout, space: ColorSpace) -> tuple[_Rows, tuple[float, ...]]:
    """Return the matrix from RGB to codes, (rows, zeros): codes = rows @ rgb + zeros.

    A row for each plane, in FFmpeg's plane order without alpha.
    """
    luma, chroma = _code_range(layout, space)
    r, g, b = torch.eye(3, dtype=torch.float64)
    if layout.family == "rgb":
        rows = torch.stack((g, b, r)) * luma[0]
        return tuple(map(tuple, rows.tolist())), (luma[1],) * 3
    if space.matrix == "ycgco":
        rows = torch.tensor(
            [[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]], dtype=torch.float64
        )
    else:
        red, blue = _LUMA.get(space.matrix, _LUMA["bt709"])
        y = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
        rows = torch.stack((y, (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))))
    rows = rows * torch.tensor([[luma[0]], [chroma[0]], [chroma[0]]], dtype=torch.float64)
    zeros = luma[1], chroma[1], chroma[1]
    count = 1 if layout.family == "gray" else 3
    return tuple(map(tuple, rows[:count].tolist())), zeros[:count]


@cache
def rgb_matrix(layout: PixelLayout, space: ColorSpace) -> tuple[_Rows, tuple[float, ...]]:
    """Return the matrix from codes to RGB, (rows, offsets): rgb = rows @ codes + them."""
    rows, zeros = code_matrix(layout, space)
    if layout.family == "gray":
        (scale, zero), _ = _code_range(layout, space)
        return ((1 / scale,),) * 3, (-zero / scale,) * 3
    inverse = torch.linalg.inv(torch.tensor(rows, dtype=torch.float64))
    offsets = -inverse @ torch.tensor(zeros, dtype=torch.float64)
    return tuple(map(tuple, inverse.tolist())), tuple(offsets.tolist())


def _mixed(
    rgb: Tensor | Sequence[Tensor], row: Sequence[float], factor: float = 1.0
) -> Tensor:
    mixed = rgb[0] * (row[0] * factor)
    return mixed.add_(rgb[1], alpha=row[1] * factor).add_(rgb[2], alpha=row[2] * factor)


def to_codes(values: Tensor, zero: float, layout: PixelLayout) -> Tensor:
    """Return ``values``, which change in place, plus ``zero`` as clamped codes."""
    if is_float(layout.name):
        return values.add_(zero).clamp_(0, 1)
    # In the average of two frames, half of all pixels are ties: exactly between two levels.
    # The float error of the matrices is the same for all pixels. The error would round
    # nearly all ties in one direction, and shift the mean by a quarter of a level. The
    # values are therefore rounded to fractions of a level first.
    values.add_(zero).mul_(_TIE).round_().div_(_TIE).round_()
    dtype = torch.uint8 if layout.depth <= 8 else torch.uint16
    return values.clamp_(0, (1 << layout.depth) - 1).to(dtype)


def _every(x: Tensor, dim: int, phase: int, factor: int) -> Tensor:
    return x[..., phase::factor] if dim == -1 else x[..., phase::factor, :]


def _spread(x: Tensor, dim: int, factor: int, size: int) -> Tensor:
    """Enlarge ``x`` along ``dim`` to ``size`` pixels: a sample becomes ``factor`` pixels.

    If ``size`` leaves fewer pixels to the last cell, these are constant.
    """
    if factor == 1:
        return x
    count = x.shape[dim]
    # Twice the change per cell; beyond an edge, the edge sample.
    slope = torch.empty_like(x)
    if count > 1:
        inner, last = count - 2, count - 1
        torch.sub(
            x.narrow(dim, 2, inner),
            x.narrow(dim, 0, inner),
            out=slope.narrow(dim, 1, inner),
        )
        torch.sub(x.select(dim, 1), x.select(dim, 0), out=slope.select(dim, 0))
        torch.sub(x.select(dim, last), x.select(dim, inner), out=slope.select(dim, last))
    if count == 1 or size < count * factor:
        slope.select(dim, count - 1).zero_()
    shape = (*x.shape[:-1], size) if dim == -1 else (*x.shape[:-2], size, x.shape[-1])
    spread = torch.empty(shape, device=x.device)
    for phase in range(factor):
        pixels = _every(spread, dim, phase, factor)
        count = pixels.shape[dim]
        offset = (phase + 0.5) / factor - 0.5
        torch.add(
            x.narrow(dim, 0, count),
            slope.narrow(dim, 0, count),
            alpha=offset / 2,
            out=pixels,
        )
    return spread


def _summed(x: Tensor, dim: int, factor: int) -> Tensor:
    """Return the sum of each cell of ``factor`` pixels.

    A short last cell repeats one pixel.
    """
    if factor == 1:
        return x
    missing = -x.shape[dim] % factor
    if missing:
        beyond = (0, missing, 0, 0) if dim == -1 else (0, 0, 0, missing)
        x = F.pad(x[None], beyond, mode="replicate")[0]
    total = _every(x, dim, 0, factor) + _every(x, dim, 1, factor)
    for phase in range(2, factor):
        total.add_(_every(x, dim, phase, factor))
    return total
