"""Find a slow pan of the camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import LONGEST_SIDE

_Floats = NDArray[np.float32]
_Path = NDArray[np.float64]

_SLOW = 0.15  # pixels of the small picture per frame, below which a part stands still
_SLOW_SHARE = 0.01  # fraction of the picture; smaller regions count as moving
_SLOW_BLUR = 4.0  # sigma of the blur of speed, in pixels of the small picture
_LEAST_FRAMES = 24
_LEAST_TRAVEL = 0.03  # least distance that the view moves over the whole clip, of the longer side
_FASTEST = 0.01  # greatest speed of a slow pan per frame, of the longer side
_ALIKE = 0.3  # greatest difference of a flow that counts as the camera's, in pixels
_LEAST_SHARE = 0.03  # least fraction of the picture that moves with the camera
_LOOKED_AT = 48  # number of pairs in which parts that move with the camera are searched
_FAR = 40  # frames between two frames that are compared after alignment by the path
_RIGID = 0.5  # greatest change of a still pixel after alignment, relative to the change before
_MOSTLY = 0.5  # least fraction of a candidate's parts that lies still after alignment
_TEXTURED = 6.0  # least change of a compared pixel before alignment, in levels


def pans_slowly(
    count: int, small: Callable[[int], NDArray[np.uint8]], flow: Callable[[int], _Floats]
) -> bool:
    """Return whether the camera pans slowly over a landscape.

    Candidates for the camera's motion are the shifts of four bands of the picture and of the whole
    picture. A candidate is right if the parts that move with the candidate look the same in distant
    frames that are aligned by the candidate. A landscape looks the same, but clouds change on their
    way. Only shifts are searched.

    Args:
        count: number of frames.
        small: returns a frame, (h, w, 3) uint8.
        flow: returns the backward flow from a frame (from 1 on) to the one before.
    """
    if count < _LEAST_FRAMES:
        return False
    longest = max(small(0).shape)
    flows = [flow(k) for k in range(1, count)]
    height = flows[0].shape[0]
    quarters = [slice(k * height // 4, (k + 1) * height // 4) for k in range(4)]
    for rows in (*quarters, slice(None)):
        steps = np.array([_shift(field, rows) for field in flows])
        travel = np.abs(steps.sum(0)).max()
        if travel < _LEAST_TRAVEL * longest or travel > _FASTEST * longest * count:
            continue
        some = range(0, count - 1, max(1, count // _LOOKED_AT))
        rests = [flows[k] - steps[k].astype(np.float32) for k in some]
        fixed = _slow_parts(rests)
        if fixed.mean() < _LEAST_SHARE:
            continue
        steps = np.array([np.median(field[fixed], 0) for field in flows])
        # The view moves right where a point was further right one frame before.
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
        if _rigid(path, small, fixed) > _MOSTLY:
            return True
    return False


def _shift(field: _Floats, rows: slice) -> NDArray[np.float64]:
    """Return the median shift (dx, dy) of the flow that is near the median of ``rows``."""
    values = field.reshape(-1, 2)
    centre = np.median(field[rows].reshape(-1, 2), 0)
    near = np.abs(values - centre).max(1) < _ALIKE
    if near.any():
        centre = np.median(values[near], 0)
    return np.asarray(centre, np.float64)


def _rigid(
    path: _Path, small: Callable[[int], NDArray[np.uint8]], fixed: NDArray[np.bool_]
) -> float:
    """Return the fraction of ``fixed``, (h, w), that lies still after alignment by the path."""
    lag = min(_FAR, len(path) // 2)
    fractions = []
    for k in np.linspace(0, len(path) - 1 - lag, 5).astype(int):
        shift = path[k + lag] - path[k]
        first, second = _overlap(small(k), small(k + lag), shift)
        if first.size == 0:
            return 0.0
        height, width = first.shape[:2]
        there, _ = _overlap(fixed, fixed, shift)
        unmoved = np.abs(small(k + lag).astype(np.float32) - small(k)).mean(-1)
        top, left = (max(round(float(v)), 0) for v in (shift[1], shift[0]))
        unmoved = unmoved[top : top + height, left : left + width]
        moved = np.abs(first.astype(np.float32) - second).mean(-1)
        detail = there & (unmoved > _TEXTURED)
        still = detail & (moved < _RIGID * unmoved)
        fractions.append(float(still.sum() / max(int(detail.sum()), 1)))
    return float(np.median(fractions))


def _overlap(
    first: NDArray[Any], second: NDArray[Any], shift: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the parts of two frames that show the same, to the nearest pixel.

    ``shift``: the displacement (x, y) of the view from the first frame to the second, in pixels.
    """
    x, y = (int(v) for v in np.round(shift))
    height, width = first.shape[:2]
    if abs(x) >= width or abs(y) >= height:
        return first[:0, :0], second[:0, :0]
    one = first[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
    two = second[max(-y, 0) : height + min(-y, 0), max(-x, 0) : width + min(-x, 0)]
    return one, two


def _slow_parts(flows: Sequence[_Floats]) -> NDArray[np.bool_]:
    """Return a mask of the parts that stand still in flows (h, w, 2): (h, w) bool.

    Speed is averaged over time and blurred. Only connected regions of at least 1 % of the picture
    count.
    """
    height, width = flows[0].shape[:2]
    speed: Any = np.mean([np.hypot(flow[..., 0], flow[..., 1]) for flow in flows], 0)
    speed = cv2.GaussianBlur(speed, (0, 0), _SLOW_BLUR * max(height, width) / LONGEST_SIDE + 0.5)
    slow = (speed < _SLOW).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(slow)
    large = stats[:, cv2.CC_STAT_AREA] >= _SLOW_SHARE * height * width
    large[0] = False
    slow_regions: NDArray[np.bool_] = large[labels]
    return slow_regions
