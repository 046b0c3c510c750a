"""Cut between old and new footage: the surface of least error in space and time.

Each point that travels with the wind gets a time of change. The cost is the visible difference of
old and new footage: at each point when the point changes, and along the border between changed and
unchanged neighbours, for as long as that border lasts. So the border follows the clouds, and moves
with them. Source: Kwatra, Schoedl, Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH
2003, whose cut is a surface in the same space; here it is found by belief propagation with
messages of linear cost, after Felzenszwalb and Huttenlocher, Efficient Belief Propagation for
Early Vision, IJCV 2006.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TIMES = 14
"""Number of times at which a point may change."""

_ROUNDS = 48
_TURNS = 1.0  # weight of the difference where a point changes, relative to a frame of border
_WANTED = 0.5  # cost of a change at another time than wanted, of the mean difference …
_ROOM = 0.2  # … beyond that share of the whole
_NEVER = 1e4  # cost of a point that shows unknown footage
_FLOOR = 0.15  # of the mean difference: least cost of a border, against frayed borders in flat sky


def drifts(wind: Floats, frames: int) -> tuple[Floats, tuple[int, int]]:
    """Follow points along the wind.

    Args:
        wind: (2, h, w) backward flow a frame, in pixels of the grid.
        frames: number of frames.

    Returns:
        (``TIMES``, 2, h + 2 my, w + 2 mx), the place (x, y) of each point in the middle of each
        time, and the margins (my, mx) around the picture from which points come in.
    """
    height, width = wind.shape[1:]
    fastest = np.abs(wind).max((1, 2)) * frames
    mx, my = (int(min(np.ceil(v) + 1, s)) for v, s in zip(fastest, (width, height), strict=True))
    y, x = np.mgrid[-my : height + my, -mx : width + mx].astype(np.float32)
    step = frames / TIMES
    places = []
    for number in range(TIMES):
        part = np.float32(step / 2 if number == 0 else step)
        moves = [
            cv2.remap(axis, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for axis in wind
        ]
        x, y = x - part * moves[0], y - part * moves[1]
        places.append(np.stack([x, y]))
    return np.stack(places).astype(np.float32), (my, mx)


def carried(values: Floats, places: Floats) -> Floats:
    """Return values (h, w), or (h, w, C), at places (2, h', w'), edges continued."""
    made: Floats = cv2.remap(
        values, places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return made


def inside(places: Floats, size: tuple[int, int]) -> Floats:
    """Return 1 where places (..., 2, h, w) are within the picture of that size, else 0."""
    x, y = places[..., 0, :, :], places[..., 1, :, :]
    within = (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
    return within.astype(np.float32)


def least_seen(apart: Floats, wanted: Floats, unknown: Floats | None = None) -> Floats:
    """Return the least visible time of change of each point.

    Args:
        apart: (``TIMES``, h, w), the difference of old and new at each time; 0 outside the picture.
        wanted: (h, w), the wanted time of change, from 0 to 1.
        unknown: (``TIMES``, h, w), 1 where the old footage is unknown: the point must have changed
            before.

    Returns:
        (h, w) float32 from 0 to 1.
    """
    usual = max(float(apart[apart > 0].mean()) if (apart > 0).any() else 0.0, 1e-6)
    apart = apart / usual
    seen = (apart > 0).astype(np.float32)
    times = (np.arange(TIMES, dtype=np.float32) + 0.5) / TIMES
    away = np.maximum(np.abs(times[:, None, None] - wanted) - _ROOM, 0)
    own = _TURNS * apart + _WANTED * TIMES * away
    if unknown is not None:
        late: Any = np.cumsum(unknown, 0) - unknown
        own = own + _NEVER * np.minimum(late, 1)
    border = apart + _FLOOR * seen
    across = (border[:, :, 1:] + border[:, :, :-1]) / 2
    down = (border[:, 1:] + border[:, :-1]) / 2
    best = _propagated(own.astype(np.float32), *(b.astype(np.float32) for b in (across, down)))
    chosen = best.argmin(0)
    made: Floats = cv2.GaussianBlur(times[chosen], (0, 0), 0.7)
    return made


def _propagated(own: Floats, across: Floats, down: Floats) -> Floats:
    """Return the cost of each time at each point, neighbours included."""
    right, left, below, above = (np.zeros_like(own) for _ in range(4))
    for _ in range(_ROUNDS):
        for target, costs, axis, ahead in (
            (right, across, 2, True),
            (left, across, 2, False),
            (below, down, 1, True),
            (above, down, 1, False),
        ):
            total = own + right + left + below + above
            back = {(2, True): left, (2, False): right, (1, True): above, (1, False): below}
            # A message to a neighbour leaves out the message from that neighbour.
            sent = total - back[axis, ahead]
            give, take = _sides(sent.ndim, axis, ahead)
            message = sent[give].copy()
            _spread(message, costs)
            message -= message.min(0)
            # Damping keeps messages from oscillating.
            target[take] = 0.5 * target[take] + 0.5 * message
    return own + right + left + below + above


def _sides(dimensions: int, axis: int, ahead: bool) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    first, second = [slice(None)] * dimensions, [slice(None)] * dimensions
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    return (tuple(first), tuple(second)) if ahead else (tuple(second), tuple(first))


def _spread(message: Floats, costs: Floats) -> None:
    """Lower each time's cost to that of another plus the border between the two, in place."""
    steps = (costs[1:] + costs[:-1]) / 2
    for number in range(1, TIMES):
        other = message[number - 1] + steps[number - 1]
        np.minimum(message[number], other, out=message[number])
    for number in range(TIMES - 2, -1, -1):
        other = message[number + 1] + steps[number]
        np.minimum(message[number], other, out=message[number])


def upright_seam(apart: Floats, first: int, last: int) -> Floats:
    """Return the column of the least upright cut in each row: (h,) float32.

    Args:
        apart: (h, w), the difference of two pictures.
        first: the first column that the cut may take.
        last: the last such column.
    """
    costs = apart[:, first : last + 1] + 1e-3
    total = costs.copy()
    for row in range(1, len(total)):
        padded = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    column = int(total[-1].argmin())
    path = [column]
    for row in range(len(total) - 2, -1, -1):
        low = max(column - 1, 0)
        column = low + int(total[row, low : column + 2].argmin())
        path.append(column)
    made: Floats = np.array(path[::-1], np.float32) + first
    return made
