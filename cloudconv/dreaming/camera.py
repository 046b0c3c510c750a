"""How the camera of a clip moves: a slow pan, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.analysis import grey, measured_flow

_Floats = NDArray[np.float32]
_Path = NDArray[np.float64]

_LEAST_FRAMES = 24
_LEAST_TRAVEL = 0.03  # of the longer side, over the whole clip
_FASTEST = 0.01  # of the longer side a frame; beyond, it is no slow pan
_ALIKE = 0.3  # pixels: flow so near to the camera's is the camera's
_LEAST_SHARE = 0.2  # of the picture that moves with the camera
_LAG = 16  # frames between those that are laid over each other to take out what adds up
_RIGID = 0.35  # of the change that is left where the camera's motion is taken out, at most
_TEXTURED = 6.0  # levels of change between frames laid over each other unmoved, at least
_LEAST_TEXTURED = 0.05  # of the picture


def camera_path(
    count: int, small: Callable[[int], NDArray[np.uint8]], flow: Callable[[int], _Floats]
) -> _Path | None:
    """Where the view of each frame lies, against the last one's; None if the camera stands still.

    The camera's motion is the one that a good part of the picture has, and that lays frames far
    apart over each other exactly: landscapes do, clouds change on their way. Only shifts are
    looked for. What adds up from pair to pair is taken out by frames further apart.

    Args:
        count: how many frames there are.
        small: each, (h, w, 3) uint8.
        flow: the backward flow from each (from 1 on) to the one before.

    Returns:
        (count, 2) (x, y) in pixels of the small picture; the last one is 0.
    """
    if count < _LEAST_FRAMES:
        return None
    longest = max(small(0).shape)
    flows = [flow(k) for k in range(1, count)]
    best: _Path | None = None
    most = _LEAST_SHARE
    height = flows[0].shape[0]
    for rows in (slice(height // 2, None), slice(None), slice(0, height // 2)):
        steps = np.array([_shift(field, rows) for field in flows])
        travel = np.abs(steps.sum(0)).max()
        if travel < _LEAST_TRAVEL * longest or travel > _FASTEST * longest * count:
            continue
        # What was further right one frame before is seen by a view that has gone to the right.
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
        share = _rigid_share(path, small)
        if share > most:
            most, best = share, _corrected(path, small)
    return None if best is None else best - best[-1]


def _shift(field: _Floats, rows: slice) -> NDArray[np.float64]:
    """The shift (dx, dy) that most of a flow agrees on, starting from the middle of some rows."""
    values = field.reshape(-1, 2)
    centre = np.median(field[rows].reshape(-1, 2), 0)
    for reach in (3 * _ALIKE, _ALIKE):
        near = np.abs(values - centre).max(1) < reach
        if near.any():
            centre = np.median(values[near], 0)
    return np.asarray(centre, np.float64)


def _rigid_share(path: _Path, small: Callable[[int], NDArray[np.uint8]]) -> float:
    """The share of the picture's detail that lies still once the path is taken out."""
    shares = []
    for k in np.linspace(0, len(path) - 1 - _LAG, 5).astype(int):
        first, second = _overlap(small(k), small(k + _LAG), path[k + _LAG] - path[k])
        if first.size == 0:
            return 0.0
        height, width = first.shape[:2]
        unmoved = np.abs(small(k + _LAG).astype(np.float32) - small(k)).mean(-1)[:height, :width]
        moved = np.abs(first.astype(np.float32) - second).mean(-1)
        textured = unmoved > _TEXTURED
        rigid = textured & (moved < _RIGID * unmoved)
        shares.append(float(rigid.mean() / max(textured.mean(), _LEAST_TEXTURED)))
    return float(np.median(shares))


def _overlap(
    first: NDArray[np.uint8], second: NDArray[np.uint8], way: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The parts of two frames that show the same, to the nearest pixel.

    ``way``: how far the view went from the first to the second.
    """
    x, y = (int(v) for v in np.round(way))
    height, width = first.shape[:2]
    if abs(x) >= width or abs(y) >= height:
        return first[:0, :0], second[:0, :0]
    one = first[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    two = second[max(-y, 0) : height + min(-y, 0), max(-x, 0) : width + min(-x, 0)]
    return one, two


def _corrected(path: _Path, small: Callable[[int], NDArray[np.uint8]]) -> _Path:
    """The path with what its steps add up to replaced by what frames further apart say."""
    path = path.copy()
    for k in range(0, len(path) - 1, _LAG):
        end = min(k + _LAG, len(path) - 1)
        way = path[end] - path[k]
        first, second = _overlap(small(k), small(end), way)
        if min(first.shape[:2]) < 32:
            continue
        later, earlier = (grey(np.ascontiguousarray(part)) for part in (second, first))
        rest = _shift(measured_flow(later, earlier), slice(None))
        error = np.round(way) + rest - way
        if np.abs(error).max() > 2.0:
            continue
        share = np.linspace(0, 1, end - k + 1)[:, None]
        path[k : end + 1] += share * error
        path[end + 1 :] += error
    return path
