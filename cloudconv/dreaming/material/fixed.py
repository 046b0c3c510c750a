"""Find the fixed parts of a clip: horizon, trees, buildings, a watermark.

Brightness does not separate a dark hill from a dark cloud, and flow runs on from clouds into flat
ground below them. Two signs do: edges that lie at the same place in every frame, and areas that
never change and end at such edges. An area of blue sky that never changes ends at clouds.
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
_NOISE_BLUR = 1.5
_WINDOW = 2.2  # sigma of the area in which edges are compared over time
_DETAIL = 12.0  # coarser differences are light
_EDGE = 1.5  # levels a pixel from which an edge counts
_SHARP = 3.0  # sigma of what is coarser than sharp detail …
_STRONG = 1.4  # … that counts from so many levels on, whatever changes behind it
_COHERENT, _SURE = 0.8, 0.95  # share of gradients, of detail, that is the same in all frames
_MOVED = 0.4  # pixels by which a fixed edge seems to have moved after half the clip, at most
_FLOWS, _STRAYS = 4, 0.5  # pairs of frames, and pixels that a fixed edge seems to go between them
_RANGE = 6.0  # levels within which a flat area stays that never changes
_BOUND = 0.65  # share of such an area's rim that is fixed edges
_REACH = 7  # pixels from an edge to the area that ends there
_LEAST_AREA, _LEAST_SPOT = 0.001, 0.01  # of the picture
_LEAST_SHARP, _LEAST_FLAT = 0.1, 0.3  # shares of a smaller spot: sharp detail, or flat


def fixed_parts(pictures: Sequence[_Bytes]) -> _Floats:
    """Return where nothing moves in any picture: (h, w) float32, 0 or 1.

    Args:
        pictures: (h, w, 3) uint8 each, spread over the clip, in order; at least two.
    """
    height, width = pictures[0].shape[:2]
    scale = max(height, width) / LONGEST_SIDE
    luma = [_blurred(grey(p).astype(np.float32), _NOISE_BLUR * scale + 0.3) for p in pictures]
    window = _WINDOW * scale + 0.3
    slopes = [np.stack([_slope(one, axis) for axis in (0, 1)]) for one in luma]
    usual: Any = sum(slopes) / np.float32(len(slopes))
    lasting = _blurred(np.square(usual).sum(0), window)
    energy = _blurred(sum(np.square(one).sum(0) for one in slopes) / len(slopes), window)
    same = lasting / np.maximum(energy, 1e-3)
    detail = [one - _blurred(one, _DETAIL * scale) for one in luma]
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
    found = _with_areas(edges, flat, max(1, round(_REACH * scale / 2)))
    return _kept(found, strong, flat, _strayed(pictures) / scale)


def _sharp(luma: list[_Floats], window: float, scale: float) -> NDArray[np.bool_]:
    """Return where sharp detail is the same in all frames: a twig, the letters of a watermark."""
    fine = [one - _blurred(one, _SHARP * scale) for one in luma]
    usual = np.square(sum(fine) / len(fine))
    lasting = _blurred(usual, window)
    every = _blurred(sum(np.square(one) for one in fine) / len(fine), window)
    found: NDArray[np.bool_] = (lasting > _STRONG**2) & (lasting > _SURE * every)
    return found


def _with_areas(edges: NDArray[np.bool_], flat: NDArray[np.bool_], reach: int) -> Any:
    """Return the edges and the flat areas that end at them."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    wide = cv2.dilate(edges.astype(np.uint8), kernel) > 0
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(
        (flat & ~wide).astype(np.uint8), connectivity=4
    )
    found = edges.copy()
    for number in range(1, parts):
        if stats[number, cv2.CC_STAT_AREA] < _LEAST_AREA * flat.size:
            continue
        here = labels == number
        rim = (cv2.dilate(here.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~here
        if not rim.any() or wide[rim].mean() > _BOUND:
            found |= here
    return cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, kernel)


def _strayed(pictures: Sequence[_Bytes]) -> _Floats:
    """Return how far each point goes in half of the clip, as flow sees it: (h, w)."""
    half = max(1, len(pictures) // 2)
    starts = np.unique(np.linspace(0, len(pictures) - 1 - half, _FLOWS).round().astype(int))
    ways = [
        np.linalg.norm(measured_flow(grey(pictures[k + half]), grey(pictures[k])), axis=-1)
        for k in starts
    ]
    made: _Floats = np.median(ways, axis=0).astype(np.float32)
    return made


def _kept(
    found: Any, strong: NDArray[np.bool_], flat: NDArray[np.bool_], strayed: _Floats
) -> _Floats:
    """Return ``found`` without small spots, but for sharp ones that do not move.

    Clouds that hardly move look fixed in a short clip.
    """
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= _LEAST_SPOT * found.size
    sharp = np.bincount(labels.ravel(), strong.ravel(), parts) / np.maximum(areas, 1) > _LEAST_SHARP
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    for number in np.flatnonzero(~kept):
        here = labels == number
        if sharp[number] and np.median(strayed[here & strong]) < _STRAYS:
            kept[number] = True
        elif number in rim:
            # The corner of a roof: flow runs over what is small, but it ends at the picture's edge.
            kept[number] = flat[here].mean() > _LEAST_FLAT
    kept[0] = False
    made: _Floats = kept[labels].astype(np.float32)
    return made


def _blurred(values: Any, sigma: float) -> Any:
    return cv2.GaussianBlur(np.ascontiguousarray(values), (0, 0), sigma)


def _slope(luma: _Floats, axis: int) -> Any:
    return cv2.Sobel(luma, cv2.CV_32F, 1 - axis, axis, scale=0.125)
