"""Resize, sample, blur and fill pictures.

A picture is (H, W, 3) float32 RGB, nominally in [0, 1] and not clamped; other values are
(h, w) or (h, w, channels).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Area = tuple[slice, slice]
"""Rows and columns of a part of a picture."""
Motion = NDArray[np.float64]
"""A (3, 3) affine map from positions in one picture to positions in another, in pixels."""
Array = TypeVar("Array", bound=NDArray[Any])

LONGEST_SIDE = 480
"""Longest side of the pictures that motion is measured on, in pixels."""

COARSE_SIDE = 160
"""Longest side of the pictures of trials, and of those in which faults are searched, in
pixels."""

MIDDLE_SIDE = 320
"""Longest side of weights, and of pictures that are compared in time, in pixels."""

LEAST_SIDE = 16
"""The smallest side of a picture whose flow is measured; smaller ones are padded, and
``dream`` refuses them."""

_SHORTEST = 8  # least side of a reduced picture, enough for OpenCV
# Frames, spread over a clip, from which a property of the whole clip is measured.
_MOST_SPREAD = 40

THUMB_SIDE = 72
"""Longest side of the pictures that are compared with many others, in pixels."""

UNSEEN = 16.0
"""The levels by which two pictures that are mixed may differ at a place, and few see it."""

TINY = 1e-6
"""Least divisor of a value that may be 0."""

_SMALLER = 4  # least ratio of a picture's sides to those of its weights


def reduced_size(
    size: Sequence[int], longest: int, least: int = _SHORTEST
) -> tuple[int, int]:
    """Return height and width, so that no side exceeds ``longest``, at least ``least``."""
    factor = min(1.0, longest / max(size))
    return max(least, round(size[0] * factor)), max(least, round(size[1] * factor))


def weight_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the map of weights with which a picture is blended.

    The sides are at most a quarter of the picture's, rounded up, and at most 320 pixels.
    """
    factor = max(_SMALLER, -(-max(height, width) // MIDDLE_SIDE))
    return -(-height // factor), -(-width // factor)


def picture_of(frame: Frame, area: Area = (slice(None), slice(None))) -> Floats:
    """Return a frame, or an area of it, as a picture."""
    return picture_from(rgb_of(frame, area=area))


def picture_from(rgb: Tensor) -> Floats:
    """Return the picture that a network made, (3, H, W) on any device."""
    return cv2.merge([channel.numpy() for channel in rgb.detach().float().cpu()])


def tensor_of(picture: Floats) -> Tensor:
    """Return a picture for a network: (3, H, W) float32 in main memory."""
    channels = np.empty((3, *picture.shape[:2]), np.float32)
    cv2.split(picture, list(channels))
    return torch.from_numpy(channels)


def small_copy(picture: Floats, size: tuple[int, int]) -> Bytes:
    """Return a picture averaged over areas: (h, w, 3) uint8.

    Values that are no numbers become black.
    """
    small = resized(picture, size)
    if not np.isfinite(small.sum()):
        small = np.nan_to_num(small, nan=0, posinf=1, neginf=0)
    return levels_of(small)


def levels_of(picture: Floats) -> Bytes:
    """Return a picture as levels, (h, w, 3) uint8."""
    return cv2.multiply(picture, (255,) * 4, dtype=cv2.CV_8U)


def as_picture(levels: Bytes) -> Floats:
    """Return levels, (h, w, 3) uint8, as a picture."""
    return levels.astype(np.float32) / np.float32(255)


def luma(pictures: Array) -> Array:
    """Return the luma, as in ITU-R BT.601: (…, h, w, 3) to (…, h, w) of the same type."""
    rows = pictures.reshape(-1, *pictures.shape[-2:])
    brightness: Array = cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY).reshape(pictures.shape[:-1])
    return brightness


def gradients(luma: Floats) -> tuple[Floats, Floats]:
    """Return the gradients along x and y, in levels a pixel."""
    x, y = (cv2.Sobel(luma, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    return x, y


def reduced(values: NDArray[Any], longest: int, least: int = _SHORTEST) -> NDArray[Any]:
    """Average values (h, w) or (h, w, channels) to :func:`reduced_size`."""
    size = reduced_size(values.shape[:2], longest, least)[::-1]
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def parts(mask: Mask, longest: int) -> Mask:
    """Return a mask (h, w) at the size of :func:`reduced`.

    An empty mask gives the whole picture.
    """
    inside: Mask = reduced(mask.astype(np.float32), longest).round() > 0
    return inside if inside.any() else ~inside


def resized(values: Floats, size: Sequence[int]) -> Floats:
    """Resize values: smaller by averages of areas, larger by bilinear filtering."""
    height, width = size
    if values.shape[:2] == (height, width):
        return values
    smaller = height <= values.shape[0] and width <= values.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(values, (width, height), interpolation=how)


def resized_flow(flow: Floats, size: Sequence[int]) -> Floats:
    """Resize a field of displacements and its values: (h, w, 2) to (H, W, 2), in pixels."""
    height, width = size
    scale = width / flow.shape[1], height / flow.shape[0]
    return resized(cv2.multiply(flow, (*scale, 0, 0)), size)


@lru_cache(8)
def _grid(height: int, width: int) -> Floats:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def grid_of(size: Sequence[int]) -> Floats:
    """Return the position (x, y) of each pixel of ``size``, (H, W): (H, W, 2)."""
    return _grid(size[0], size[1])


def pointed(flow: Floats, size: Sequence[int]) -> Floats:
    """Return the places to which a flow of any size points: (H, W, 2) of ``size``."""
    return cv2.add(resized_flow(flow, size), grid_of(size))


def warp(
    picture: Array, flow: Floats, *, how: int = cv2.INTER_CUBIC, mirrors: bool = False
) -> Array:
    """Sample a picture where the flow points, see :func:`sample`.

    Args:
        picture: (H, W) or (H, W, channels).
        flow: (h, w, 2) backward flow (dx, dy) in pixels, of any size.
        how: the filter of OpenCV.
        mirrors: continue the picture by its mirror image; its edges are repeated otherwise.

    Returns:
        The picture, of the same shape.
    """
    return sample(picture, pointed(flow, picture.shape[:2]), how=how, mirrors=mirrors)


def sample(
    picture: Array, places: Floats, *, how: int = cv2.INTER_CUBIC, mirrors: bool = False
) -> Array:
    """Return the values at places, (h, w, 2), rounded to 1/32 pixel; see :func:`warp`."""
    # OpenCV never ends on the mirror image of a single row or column (as in
    # opencv/opencv#29867).
    has_mirror_image = mirrors and min(picture.shape[:2]) > 1
    border = cv2.BORDER_REFLECT_101 if has_mirror_image else cv2.BORDER_REPLICATE
    return cv2.remap(picture, places, None, how, borderMode=border)


def transformed(
    picture: Array,
    motion: Motion,
    area: Area | None = None,
    *,
    how: int = cv2.INTER_LINEAR,
    outside: int = cv2.BORDER_REPLICATE,
) -> Array:
    """Return ``area`` of a moved picture of any kind: what is where ``motion`` leads to."""
    rows, columns = area or whole(picture.shape)
    start = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]])
    size = columns.stop - columns.start, rows.stop - rows.start
    backward = how | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, (motion @ start)[:2], size, flags=backward, borderMode=outside
    )


def translation(shift: Sequence[float] | NDArray[Any]) -> Motion:
    """Return the motion that shows a picture moved by (dx, dy) pixels."""
    return np.array([[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1]], float)


def translate(
    picture: Array, shift: NDArray[Any], outside: int = cv2.BORDER_REPLICATE
) -> Array:
    """Return a picture moved by (dx, dy) pixels, with bicubic filtering."""
    return transformed(picture, translation(shift), how=cv2.INTER_CUBIC, outside=outside)


def whole(size: Sequence[int]) -> Area:
    """Return the area of a whole picture of ``size``, (H, W)."""
    return slice(0, size[0]), slice(0, size[1])


def needed_by(area: Area, flow: Floats, size: Sequence[int]) -> Area:
    """Return the area of a picture of ``size`` that an area of the moved picture shows.

    The mirror image of the picture continues the picture.
    """
    spans = []
    inside = tuple(
        slice(max(span.start * few // side - 1, 0), span.stop * few // side + 2)
        for span, few, side in zip(area, flow.shape, size, strict=False)
    )
    near = flow[inside]
    for span, side, axis in zip(area, size, (1, 0), strict=True):
        scale = side / flow.shape[1 - axis]
        least, most, *_ = cv2.minMaxLoc(cv2.extractChannel(near, axis))
        first = span.start + int(np.floor(scale * least)) - 2
        last = span.stop + int(np.ceil(scale * most)) + 2
        before, beyond = max(-first, 0), max(last - side, 0)
        first, last = min(first, side - beyond - 1), max(last, before + 1)
        spans.append(slice(max(min(first, span.start), 0), min(max(last, span.stop), side)))
    return spans[0], spans[1]


def within(area: Area, window: Area) -> Area:
    """Return an area by its place in a window that has all of it."""
    rows, columns = (
        slice(span.start - around.start, span.stop - around.start)
        for span, around in zip(area, window, strict=True)
    )
    return rows, columns


def placed_in(window: Area, area: Area, flow: Floats, size: Sequence[int]) -> Floats:
    """Return the places in a window to which the flow of an area, (h, w, 2), points."""
    return cv2.add(flow, grid_of(size)[within(area, window)])


def fill_weights(known: Floats) -> list[Floats]:
    """Return the weights with which :func:`filled` fills pictures.

    ``known``: (h, w) in [0, 1], 1 where values are known.
    """
    weights = [known]
    while min(known.shape) > 1:
        height, width = known.shape
        known = resized(known, (-(-height // 2), -(-width // 2)))
        weights.append(known)
    return weights


def filled(values: Floats, weights: Sequence[Floats]) -> Floats:
    """Fill unknown values from the known values around, with more weight for nearer ones.

    Source: push-pull, Gortler et al., The Lumigraph, SIGGRAPH 1996.

    Args:
        values: (h, w, channels).
        weights: the result of :func:`fill_weights`.

    Returns:
        (h, w, channels): ``values`` where they are known. Zero if nothing is known; values
        fade to zero further from all known values than about the shorter side.
    """
    count = values.shape[2]
    levels = [cv2.multiply(values, in_channels(weights[0], count))]
    for weight in weights[1:]:
        levels.append(resized(levels[-1], weight.shape))
    # A few known pixels are enough, because the last level is divided by its weight.
    result: Floats = levels.pop() / weights[-1].clip(TINY)[..., None]
    for below, weight in zip(reversed(levels), reversed(weights[:-1]), strict=True):
        unknown = in_channels(1 - weight, count)
        result = below + unknown * resized(result, weight.shape).reshape(below.shape)
    return result


def blurred(values: Floats, sigma: float) -> Floats:
    """Blur values by a Gaussian of ``sigma`` pixels, with continued edges."""
    # A wide Gaussian leaves no fine detail, so a smaller picture is blurred.
    factor = max(1, int(sigma / 2))
    height, width = values.shape[:2]
    small = resized(values, (-(-height // factor), -(-width // factor)))
    sigma /= factor
    side = 2 * max(1, round(3 * sigma)) + 1
    small = cv2.GaussianBlur(small, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return resized(small, (height, width))


def in_channels(weight: Floats, count: int = 3) -> Floats:
    """Return a weight, (H, W), for each channel: (H, W, channels)."""
    if not weight.size:  # OpenCV refuses an empty picture
        return np.empty((*weight.shape, count), np.float32)
    # NumPy is slow where it repeats values along a short last axis.
    return cv2.merge([weight] * count)


def lerp_into(target: Floats, other: Floats, weight: Floats | float) -> None:
    """Move a target to a picture by a weight, of its shape or one for all pixels."""
    apart = cv2.subtract(other, target)
    apart *= weight
    target += apart


def lerp(one: Floats, two: Floats, share: float) -> Floats:
    """Return a picture between two, by the share of the second one."""
    return one + np.float32(share) * (two - one)


def centres(count: int) -> Floats:
    """Return the places of ``count`` pixels side by side, from 0 to 1."""
    return (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)


def spread(count: int, first: int = 0, most: int = _MOST_SPREAD) -> list[int]:
    """Return up to ``most`` evenly spread numbers from ``first`` to ``count - 1``."""
    numbers = np.linspace(first, count - 1, min(count - first, most))
    return sorted({round(number) for number in numbers.tolist()})


def bounds(weights: NDArray[Any], margin: int = 0) -> Area:
    """Return rows and columns that contain all values above zero of ``weights``, (H, W).

    ``margin``: the pixels around them that are contained as well.
    """
    left, top, width, height = cv2.boundingRect((weights > 0).astype(np.uint8))
    return (
        slice(max(top - margin, 0), min(top + height + margin, weights.shape[0])),
        slice(max(left - margin, 0), min(left + width + margin, weights.shape[1])),
    )


def wider(mask: Array, reach: int) -> Array:
    """Return a mask, (h, w), with the square of pixels around each."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    wide: Array = cv2.dilate(mask.astype(np.uint8), square).astype(mask.dtype)
    return wide


def solid(mask: NDArray[Any], least: float = 0.0) -> Bytes:
    """Return the outer outlines in a mask, filled: (h, w), 0 or 1.

    ``least``: the area in pixels of an outline that counts.
    """
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    large = [outline for outline in outlines if cv2.contourArea(outline) >= least]
    filled_in = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled_in, large, -1, 1, cv2.FILLED)
    return filled_in


def connected(mask: NDArray[Any], least: float, connectivity: int = 8) -> list[Bytes]:
    """Return the connected parts of a mask of at least some pixels: (h, w) each, 0 or 1."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )
    large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least) + 1
    return [(labels == number).astype(np.uint8) for number in large]


def smooth(values: Array, sigma: float) -> Array:
    """Blur values by a Gaussian of ``sigma`` pixels, with mirrored edges."""
    return cv2.GaussianBlur(values, (0, 0), sigma)


def measured_flow(later: Bytes, earlier: Bytes, *, quick: bool = False) -> Floats:
    """Return the backward flow: the position of each pixel of ``later`` in ``earlier``.

    The pictures are (h, w); the flow is (h, w, 2): dx and dy in pixels. ``quick``: estimate
    at half the usual resolution, which takes a sixth of the time.
    """
    height, width = later.shape
    # OpenCV crashes where a picture of the finest level is smaller than a patch
    # (opencv/opencv#14554).
    least = 2 * LEAST_SIDE if quick else LEAST_SIDE
    missing = ((0, max(least - height, 0)), (0, max(least - width, 0)))
    later, earlier = (np.pad(picture, missing, mode="edge") for picture in (later, earlier))
    preset = cv2.DISOPTICAL_FLOW_PRESET_FAST if quick else cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    method = cv2.DISOpticalFlow_create(preset)
    flow: Floats = method.calc(later, earlier, None)
    return flow[:height, :width]


def flow_between(before: Bytes, picture: Bytes) -> Floats:
    """Return the quick backward flow of a picture, (h, w, 3), to the one before."""
    return measured_flow(luma(picture), luma(before), quick=True)


def shift_between(one: Floats, two: Floats) -> NDArray[np.float64]:
    """Return the shift (dx, dy) from one picture, (h, w), to another, in pixels.

    Source: phase correlation, Kuglin and Hines 1975, in OpenCV's version.
    """
    # OpenCV is wrong by half a pixel along odd sides (opencv/opencv#9144), and multiplies
    # its inputs by the window, in place, at some sizes.
    rows, columns = (side // 2 * 2 for side in one.shape)
    pictures = [picture[-rows:, :columns].astype(np.float32) for picture in (one, two)]
    window = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    return np.array(cv2.phaseCorrelate(*pictures, window)[0])
