"""Find the least visible change from old to new footage, as a surface in space and time.

Points of the picture move with the wind, and each point changes from old to new footage
once. This module chooses the time of each point's change. The cost is the visible
difference of old and new footage in two cases: at a point when the point changes, and along
the border between changed and unchanged neighbours while that border exists. The best
border lies where both are alike, and moves with the clouds.

Sources: Kwatra, Schoedl, Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH 2003, for the
surface; Felzenszwalb and Huttenlocher, Efficient Belief Propagation for Early Vision, IJCV
2006, for the search, belief propagation from coarse to fine with messages in linear time.
"""

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from cloudconv.images import Floats, sample

TIMES = 14
"""Number of times at which a point may change."""

BETWEEN = 5
"""Number of positions of a moving point for each of these times; an odd number."""

# Costs are relative to the mean difference of old and new footage.
_ROUNDS = 12  # iterations of belief propagation on each grid
# Cost of a change that is too early or too late by the whole transition; the cost of others
# follows by the square.
_WANTED = 7.0
_NEVER = 1e4  # cost of a change that is too late by a frame


def drifts(wind: Floats, frames: int) -> tuple[Floats, tuple[int, int]]:
    """Return the positions of points that move with the wind.

    Args:
        wind: (h, w, 2) backward flow per frame, in pixels of the grid.
        frames: the number of frames of the whole transition.

    Returns:
        (``TIMES * BETWEEN``, h + 2 my, w + 2 mx, 2), the position (x, y) of each point in
        the middle of each interval; and the margins (my, mx), in pixels, outside the
        picture from which points enter.
    """
    height, width = wind.shape[:2]
    fastest = np.abs(wind).max((0, 1)) * frames
    mx, my = (
        int(min(np.ceil(v) + 1, s)) for v, s in zip(fastest, (width, height), strict=True)
    )
    rows, columns = np.mgrid[-my : height + my, -mx : width + mx].astype(np.float32)
    place = np.dstack([columns, rows])
    step = frames / (TIMES * BETWEEN)
    positions = []
    for number in range(TIMES * BETWEEN):
        steps = np.float32(step / 2 if number == 0 else step)
        place = place - steps * sample(wind, place, how=cv2.INTER_LINEAR)
        positions.append(place)
    return np.stack(positions), (my, mx)


def inside(positions: Floats, size: tuple[int, int]) -> Floats:
    """Return 1 for positions (..., h, w, 2) inside a picture of ``size`` (h, w), else 0."""
    x = positions[..., 0].round()
    y = positions[..., 1].round()
    within = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    return within.astype(np.float32)


def best_times(apart: Floats, times: Any, last: Floats, wanted: Floats) -> Floats:
    """Return points' times of change for which the whole transition is least visible.

    Args:
        apart: (``TIMES``, h, w), the difference of old and new footage at ``times``; 0
            outside the picture.
        times: (``TIMES``,), the times at which a point may change, in frames.
        last: (h, w), the last time at which a point may change.
        wanted: (h, w), the wanted time of change.

    Returns:
        (h, w) float32.
    """
    border: Any = apart / apart[apart > 0].mean()
    lasts = times[-1] + times[0]
    moments = times[:, None, None]
    late = _NEVER * (moments - last).clip(0)
    own = border + _WANTED * np.square((moments - wanted) / lasts) + late
    best, _ = _propagated(own.astype(np.float32), border.astype(np.float32))
    changes: Floats = np.minimum(times[best.argmin(0)], last).astype(np.float32)
    return changes


def _propagated(own: Floats, border: Floats) -> tuple[Floats, list[Floats]]:
    """Return the total cost of each time at each point, and the messages in it.

    The total is the point's ``own`` cost plus the costs of the borders to all other points.
    All arrays are (times, h, w). The search begins with the messages of a grid of half the
    size.
    """
    sides: Any = [np.s_[:, :, :-1], np.s_[:, :, 1:], np.s_[:, :-1], np.s_[:, 1:]]
    messages = [np.zeros_like(own) for _ in sides]
    height, width = own.shape[1:]
    if min(height, width) > 2:
        # A border between two blocks is two pixels long.
        _, coarse = _propagated(_in_blocks(own), _in_blocks(border) / np.float32(2))
        for message, above in zip(messages, coarse, strict=True):
            message += above.repeat(2, 1).repeat(2, 2)[:, :height, :width] / 2
    total: Floats = own + sum(messages)
    across = border[:, :, 1:] + border[:, :, :-1]
    down = border[:, 1:] + border[:, :-1]
    # The mean of two points at two times.
    steps: list[Floats] = [
        (costs[1:] + costs[:-1]) * np.float32(1 / 4) for costs in (across, down)
    ]
    for _ in range(_ROUNDS):
        for number, give in enumerate(sides):
            # A message to a neighbour leaves out the message from that neighbour.
            back = number ^ 1
            take = sides[number ^ 1]
            message = total[give] - messages[back][give]
            _spread(message, steps[number // 2])
            message -= message.min(0)
            # Damping keeps messages from oscillating.
            change = (message - messages[number][take]) / 2
            messages[number][take] += change
            total[take] += change
    return total, messages


def _in_blocks(values: Floats) -> Floats:
    """Return the sums over blocks of two by two points, (times, h / 2, w / 2), rounded up.

    The last row and column are repeated where the size is odd.
    """
    means: Floats = F.avg_pool2d(torch.from_numpy(values), 2, ceil_mode=True).numpy()
    return 4 * means


def _spread(message: Floats, steps: Floats) -> None:
    """Limit each time's cost to another time's plus the border between, in place.

    A border exists between two neighbours from the change of one until the change of the
    other. ``steps``: the cost of the border from each time to the next.
    """
    for number in range(1, len(message)):
        np.minimum(
            message[number], message[number - 1] + steps[number - 1], out=message[number]
        )
    for number in range(len(message) - 2, -1, -1):
        np.minimum(
            message[number], message[number + 1] + steps[number], out=message[number]
        )
