"""Find the fixed parts of a clip: horizon, trees, buildings, a watermark.

Brightness does not separate a dark hill from a dark cloud. Optical flow does not either: the
estimated motion of clouds spreads into flat ground below them. Two signs are reliable: edges at the
same position in every frame, and areas that never change and are bounded by such edges. Blue sky
may never change either, but moving clouds bound it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import LONGEST_SIDE, grey
from cloudconv.models.flow import measured_flow

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

# Lengths are in pixels of a picture whose longest side is LONGEST_SIDE.
_NOISE_BLUR = 1.5  # sigma of the blur that removes noise
_WINDOW = 2.2  # sigma of the area in which edges are compared over time
_DETAIL = 12.0  # sigma of the blur that removes changes of light: only finer detail is compared
_EDGE = 1.5  # least gradient of an edge, in levels per pixel
_SHARP = 3.0  # sigma of the blur that separates sharp detail from the rest
_STRONG = 1.4  # least amplitude of fixed sharp detail, in levels
_COHERENT = 0.8  # least fraction of an edge's squared gradient that is the same in all frames
_SURE = 0.95  # least fraction of squared sharp detail that is the same in all frames
_MOVED = 0.4  # greatest apparent motion of a fixed edge after half of the clip, in pixels
_FLOWS = 4  # pairs of frames in which the flow of fixed detail is measured
_STRAYS = 0.5  # median flow in these pairs below which detail is fixed, in pixels
_RANGE = 6.0  # greatest range of an area that never changes, in levels
_BOUND = 0.65  # least fraction of such an area's rim that lies near fixed edges
_REACH = 7  # width of the band along an edge that counts as near, in pixels
_LEAST_AREA = 0.001  # smallest area that never changes, relative to the picture
_LEAST_SPOT = 0.01  # smallest fixed part that needs no further evidence, relative to the picture
_LEAST_SHARP = 0.1  # least fraction of sharp detail in a smaller part …
_LEAST_FLAT = 0.3  # … or of pixels that never change, in a part at the edge of the picture


def fixed_parts(pictures: Sequence[_Bytes]) -> _Floats:
    """Return a mask of the fixed parts: (h, w) float32, 1 where nothing moves, else 0.

    Args:
        pictures: frames from all over the clip, in order, (h, w, 3) uint8 each; at least two.
    """
    height, width = pictures[0].shape[:2]
    scale = max(height, width) / LONGEST_SIDE
    luma = [_blurred(grey(p).astype(np.float32), _NOISE_BLUR * scale + 0.3) for p in pictures]
    window = _WINDOW * scale + 0.3
    slopes = [np.stack([_slope(one, axis) for axis in (0, 1)]) for one in luma]
    # The mean gradient keeps edges that stay; the mean energy keeps all edges.
    mean_slope: Any = sum(slopes) / np.float32(len(slopes))
    lasting = _blurred(np.square(mean_slope).sum(0), window)
    energy = _blurred(sum(np.square(one).sum(0) for one in slopes) / len(slopes), window)
    same = lasting / np.maximum(energy, 1e-3)
    detail = [one - _blurred(one, _DETAIL * scale) for one in luma]
    # The change over half of the clip, relative to the gradient, is a motion in pixels.
    half = max(1, len(detail) // 2)
    changes = [np.square(b - a) for a, b in zip(detail[:-half], detail[half:], strict=True)]
    change = _blurred(sum(changes) / len(changes), window)
    moved = np.sqrt(change / np.maximum(energy, 1e-3))
    edges = (np.sqrt(energy) * scale > _EDGE) & (moved < _MOVED) & (same > _COHERENT)
    strong = _sharp(luma, window, scale)
    edges |= strong
    stack = np.stack(luma)
    low, high = np.quantile(stack, (0.05, 0.95), axis=0)
    flat = high - low < _RANGE
    mask = _with_areas(edges, flat, max(1, round(_REACH * scale / 2)))
    return _without_small_parts(mask, strong, flat, _strayed(pictures) / scale)


def _sharp(luma: list[_Floats], window: float, scale: float) -> NDArray[np.bool_]:
    """Return a mask of sharp detail that is the same in all frames, such as twigs or letters."""
    fine = [one - _blurred(one, _SHARP * scale) for one in luma]
    mean = np.square(sum(fine) / len(fine))
    lasting = _blurred(mean, window)
    total = _blurred(sum(np.square(one) for one in fine) / len(fine), window)
    fixed: NDArray[np.bool_] = (lasting > _STRONG**2) & (lasting > _SURE * total)
    return fixed


def _with_areas(edges: NDArray[np.bool_], flat: NDArray[np.bool_], reach: int) -> Any:
    """Return a mask of the fixed edges and of the ``flat`` areas that these edges bound: (h, w)."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    wide = cv2.dilate(edges.astype(np.uint8), kernel) > 0
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(
        (flat & ~wide).astype(np.uint8), connectivity=4
    )
    fixed = edges.copy()
    for number in range(1, parts):
        if stats[number, cv2.CC_STAT_AREA] < _LEAST_AREA * flat.size:
            continue
        here = labels == number
        rim = (cv2.dilate(here.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~here
        if not rim.any() or wide[rim].mean() > _BOUND:
            fixed |= here
    return cv2.morphologyEx(fixed.astype(np.uint8), cv2.MORPH_CLOSE, kernel)


def _strayed(pictures: Sequence[_Bytes]) -> _Floats:
    """Return how far each point moves in half of the clip, in pixels: (h, w).

    The result is the median over pairs of frames that are half of the clip apart.
    """
    half = max(1, len(pictures) // 2)
    starts = np.unique(np.linspace(0, len(pictures) - 1 - half, _FLOWS).round().astype(int))
    lengths = [
        np.linalg.norm(measured_flow(grey(pictures[k + half]), grey(pictures[k])), axis=-1)
        for k in starts
    ]
    median: _Floats = np.median(lengths, axis=0).astype(np.float32)
    return median


def _without_small_parts(
    mask: Any, strong: NDArray[np.bool_], flat: NDArray[np.bool_], strayed: _Floats
) -> _Floats:
    """Return the mask of fixed parts without small parts that may be slow clouds.

    In a short clip, a cloud that hardly moves looks fixed. A small part stays in the mask in two
    cases: its sharp detail (``strong``) does not move (``strayed``), or the part touches the edge
    of the picture and hardly changes (``flat``).
    """
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= _LEAST_SPOT * mask.size
    sharp = np.bincount(labels.ravel(), strong.ravel(), parts) / np.maximum(areas, 1) > _LEAST_SHARP
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    for number in np.flatnonzero(~kept):
        here = labels == number
        if sharp[number] and np.median(strayed[here & strong]) < _STRAYS:
            kept[number] = True
        elif number in rim:
            # For example the corner of a roof, whose flow is not reliable.
            kept[number] = flat[here].mean() > _LEAST_FLAT
    kept[0] = False
    cleaned: _Floats = kept[labels].astype(np.float32)
    return cleaned


def _blurred(values: Any, sigma: float) -> Any:
    return cv2.GaussianBlur(np.ascontiguousarray(values), (0, 0), sigma)


def _slope(luma: _Floats, axis: int) -> Any:
    return cv2.Sobel(luma, cv2.CV_32F, 1 - axis, axis, scale=0.125)
