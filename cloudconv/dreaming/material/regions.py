"""Divide the picture into regions that move by themselves, and compare the frames of each.

The camera stands still and nothing ever moves between the regions, so each may be shown at a time
of its own: the edge between two regions cannot be seen. Related: Liao, Joshi and Hoppe, Automated
Video Looping with Progressive Dynamism, SIGGRAPH 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import grey

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Labels = NDArray[np.intp]

_MOST = 5  # regions
_RANGE = (
    6.0  # levels between the darkest and the brightest that a point is ever, if it stands still
)
_SMOOTH = 2.0  # pixels of the small picture: blur against noise
_APART = 0.02  # of the longer side: moving parts that are closer form one region
_LEAST = 0.004  # of the picture; a smaller region belongs to the nearest larger one
_TEXTURE = 2.0  # levels a pixel from which motion of a point is visible
_LOOKS = 8  # frames in which such points are searched
_CAMERA = 0.6  # of such points, or of all, that change: then the camera or everything moves

_WIDE = 160  # longest side of the pictures that are compared
_BLOCK = 10  # pixels of them
_NOISE = 1.5  # levels by which two pictures of the same scene differ at least


def regions_of(count: int, small: Callable[[int], _Bytes]) -> _Labels:
    """Return the region of each pixel: (h, w) of 0, 1, …; only 0 for a single region.

    Args:
        count: number of frames.
        small: returns a frame, (h, w, 3) uint8.
    """
    low: Any = None
    high: Any = None
    for k in range(count):
        shown = cv2.GaussianBlur(small(k), (0, 0), _SMOOTH)
        low = shown if low is None else cv2.min(low, shown)
        high = shown if high is None else cv2.max(high, shown)
    moves = (high.astype(np.int16) - low).max(2) > _RANGE
    nothing = np.zeros(moves.shape, np.intp)
    # Points that are textured in all frames are background before which other things move.
    looks = np.unique(np.linspace(0, count - 1, _LOOKS).round().astype(int))
    textured = np.min([_slope(small(int(k))) for k in looks], 0) > _TEXTURE
    camera = moves[textured].mean() > _CAMERA if textured.mean() > _LEAST else False
    if not moves.any() or camera or moves.mean() > _CAMERA:
        return nothing
    reach = max(1, round(_APART / 2 * max(moves.shape)))
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.dilate(moves.astype(np.uint8), around)
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    large = [n for n in np.argsort(-sizes)[:_MOST] if sizes[n] >= _LEAST * moves.size]
    if len(large) < 2:
        return nothing
    owner = _nearest([labels == n + 1 for n in large])
    # A small part joins one of the regions as a whole.
    for n in range(1, parts):
        if n - 1 not in large:
            here = labels == n
            owner[here] = np.bincount(owner[here]).argmax()
    return owner


def _slope(picture: _Bytes) -> Any:
    smooth = cv2.GaussianBlur(grey(picture), (0, 0), _SMOOTH).astype(np.float32)
    return cv2.magnitude(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)) / 8


def _nearest(parts: list[NDArray[np.bool_]]) -> _Labels:
    away = [cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 5) for part in parts]
    nearest: _Labels = np.argmin(away, 0)
    return nearest


@dataclass(frozen=True, slots=True)
class Likeness:
    """The differences between the frames of one region.

    ``unlike``: (n, n), the difference at the place where two frames differ most, relative to the
    difference of neighbours there. ``changes``: (n - 1,), between neighbours, in levels.
    """

    unlike: _Floats
    changes: _Floats


def likeness_of(count: int, small: Callable[[int], _Bytes], labels: _Labels) -> list[Likeness]:
    """Compare all pairs of frames within each region; ``small``: see :func:`regions_of`."""
    height, width = labels.shape
    factor = min(1.0, _WIDE / max(height, width))
    rows, columns = (max(1, round(side * factor / _BLOCK)) for side in (height, width))
    size = columns * _BLOCK, rows * _BLOCK
    pictures = [cv2.resize(small(k), size, interpolation=cv2.INTER_AREA) for k in range(count)]
    cut = np.stack(pictures).reshape(count, rows, _BLOCK, columns, _BLOCK, 3)
    own = cv2.resize(labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    own = own.reshape(rows, _BLOCK, columns, _BLOCK)
    total = int(labels.max()) + 1
    unlike = [np.zeros((count, count), np.float32) for _ in range(total)]
    changes = np.zeros((total, max(count - 1, 0)))
    for y, x, apart in _blocks(cut):
        near = np.diagonal(apart, 1)
        usual = max(float(near.mean()) if count > 1 else 0.0, _NOISE)
        for n in np.unique(own[y, :, x]):
            np.maximum(unlike[n], apart / usual, out=unlike[n])
            changes[n] += np.square(near)
    return [
        Likeness(found, np.sqrt(change).astype(np.float32))
        for found, change in zip(unlike, changes, strict=True)
    ]


def _blocks(cut: Any) -> Iterator[tuple[int, int, _Floats]]:
    """Yield each block's place, and the root mean square difference of all pairs of frames."""
    values = cut.shape[2] * cut.shape[4] * 3
    for y in range(cut.shape[1]):
        for x in range(cut.shape[3]):
            block = cut[:, y, :, x].reshape(len(cut), -1).astype(np.float32)
            block -= block.mean(0)
            squares = np.square(block).sum(1)
            apart = squares[:, None] + squares - 2 * (block @ block.T)
            yield y, x, np.sqrt(np.maximum(apart, 0) / values)
