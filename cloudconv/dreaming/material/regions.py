"""Divide the picture into regions that move independently, and compare the frames of each region.

Regions exist only if the camera stands still. Nothing ever moves between two regions, so an output
picture may combine regions of different source frames without a visible edge. Related: Liao, Joshi
and Hoppe, Automated Video Looping with Progressive Dynamism, SIGGRAPH 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import COARSE_SIDE

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Labels = NDArray[np.intp]

_MOST = 5  # greatest number of regions
_RANGE = 6.0  # greatest range of a still pixel over the clip, in levels
_SMOOTH = 2.0  # sigma of the blur against noise, in pixels of the small picture
_APART = 0.02  # moving parts that are closer form one region; relative to the longer side
_LEAST = 0.004  # area of the smallest region, relative to the picture
_CAMERA = 0.6  # fraction of pixels that change when the camera moves

_BLOCK = 10  # side of the blocks that are compared, in pixels of pictures of ``COARSE_SIDE``
_NOISE = 1.5  # least difference of two pictures of the same scene, in levels


def regions_of(count: int, small: Callable[[int], _Bytes]) -> _Labels:
    """Return the number of each pixel's region, counted from 0: (h, w); all 0 for one region.

    Args:
        count: number of frames.
        small: a function that returns a frame by its number, (h, w, 3) uint8.
    """
    low: Any = None
    high: Any = None
    for k in range(count):
        shown = cv2.GaussianBlur(small(k), (0, 0), _SMOOTH)
        low = shown if low is None else cv2.min(low, shown)
        high = shown if high is None else cv2.max(high, shown)
    moves = (high.astype(np.int16) - low).max(2) > _RANGE
    undivided = np.zeros(moves.shape, np.intp)
    if not moves.any() or moves.mean() > _CAMERA:
        return undivided
    reach = max(1, round(_APART / 2 * max(moves.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.dilate(moves.astype(np.uint8), disc)
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    large = [n for n in np.argsort(-sizes)[:_MOST] if sizes[n] >= _LEAST * moves.size]
    if len(large) < 2:
        return undivided
    owner = _nearest([labels == n + 1 for n in large])
    # A small moving part belongs to one region only, the one that is nearest to most of it.
    for n in range(1, parts):
        if n - 1 not in large:
            here = labels == n
            owner[here] = np.bincount(owner[here]).argmax()
    return owner


def _nearest(parts: list[NDArray[np.bool_]]) -> _Labels:
    away = [cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 5) for part in parts]
    nearest: _Labels = np.argmin(away, 0)
    return nearest


@dataclass(frozen=True, slots=True)
class Likeness:
    """The differences between the n frames of one region.

    ``unlike``: (n, n), the difference of two frames in the block where they differ most, relative
    to the typical difference of consecutive frames in that block. ``changes``: (n - 1,), the
    differences of consecutive frames, in levels, as the root of the sum of squares over all blocks.
    """

    unlike: _Floats
    changes: _Floats


def likeness_of(count: int, small: Callable[[int], _Bytes], labels: _Labels) -> list[Likeness]:
    """Compare all pairs of frames within each region of ``labels``, (h, w).

    ``count`` and ``small``: see :func:`regions_of`.
    """
    height, width = labels.shape
    factor = min(1.0, COARSE_SIDE / max(height, width))
    rows, columns = (max(1, round(side * factor / _BLOCK)) for side in (height, width))
    size = columns * _BLOCK, rows * _BLOCK
    pictures = [cv2.resize(small(k), size, interpolation=cv2.INTER_AREA) for k in range(count)]
    blocks = np.stack(pictures).reshape(count, rows, _BLOCK, columns, _BLOCK, 3)
    own = cv2.resize(labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    own = own.reshape(rows, _BLOCK, columns, _BLOCK)
    total = int(labels.max()) + 1
    unlike = [np.zeros((count, count), np.float32) for _ in range(total)]
    changes = np.zeros((total, max(count - 1, 0)))
    for y, x, apart in _blocks(blocks):
        near = np.diagonal(apart, 1)
        typical = max(float(near.mean()) if count > 1 else 0.0, _NOISE)
        for n in np.unique(own[y, :, x]):
            np.maximum(unlike[n], apart / typical, out=unlike[n])
            changes[n] += np.square(near)
    return [
        Likeness(differences, np.sqrt(change).astype(np.float32))
        for differences, change in zip(unlike, changes, strict=True)
    ]


def _blocks(blocks: Any) -> Iterator[tuple[int, int, _Floats]]:
    """Yield the row and column of each block, and the differences of all pairs of frames: (n, n).

    A difference is a root mean square in levels.
    """
    values = blocks.shape[2] * blocks.shape[4] * 3
    for y in range(blocks.shape[1]):
        for x in range(blocks.shape[3]):
            block = blocks[:, y, :, x].reshape(len(blocks), -1).astype(np.float32)
            block -= block.mean(0)
            squares = np.square(block).sum(1)
            apart = squares[:, None] + squares - 2 * (block @ block.T)
            yield y, x, np.sqrt(np.maximum(apart, 0) / values)
