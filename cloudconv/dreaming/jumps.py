"""Where a video texture may jump, and what that costs in the long run.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000, sections 3.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.likeness import Floats, distances

_REACH = 4  # frames before and after a jump whose motion must match
_NEAR = 30  # a shorter jump makes the motion stutter; a quarter of a clip that is short itself
_POWER = 2.0  # several small jumps are better than a large one
_FUTURE = 0.995  # how much what a jump leads to counts
_SWEEPS = 300
_CHANCE = 0.25  # how readily worse jumps are taken, as a share of what the usual one costs
_EACH = 0.01  # what any jump costs, so that a loop takes no more of them than it needs
_LEVEL = 0.5  # least distance of neighbours that others are held against, in levels


class Jumps:
    """Which frame may follow which.

    Args:
        rows: (n, d) thumbnails, a distance being in levels.
        room: frames that must be left to play after a jump.
    """

    def __init__(self, rows: Floats, room: int) -> None:
        self._count = count = len(rows)
        self._rows, self._room = rows, room
        apart = distances(rows)
        self._usual = max(float(np.mean(np.diagonal(apart, 1))), _LEVEL) if count > 1 else _LEVEL
        self._unlike = _unlikeness(apart) / self._usual
        following = np.arange(count)[:, None] + 1
        jumps = np.arange(count)[None]
        allowed = (
            (abs(jumps - following) >= min(_NEAR, count // 4))
            & (jumps >= 1)
            & (jumps < count - room)
        )
        cost = np.where(allowed, self._unlike**_POWER + _EACH, np.inf)
        cost[np.arange(count - 1), np.arange(1, count)] = 0
        if not np.isfinite(cost[-1]).any():
            # Too short for any of that: begin again.
            cost[-1, 0] = 1
        self._cost = cost
        ahead = np.zeros(count)
        for _ in range(_SWEEPS):
            ahead = (cost + _FUTURE * ahead).min(1)
        self._total = cost + _FUTURE * ahead
        least = np.where(allowed, cost, np.inf).min(1)
        usual = least[np.isfinite(least)]
        self._spread = max(_CHANCE * float(np.median(usual)) if usual.size else 0, _EACH / 4)

    def walk(self, random: np.random.Generator, start: int) -> Iterator[int]:
        """Frames to show after frame ``start``, without an end."""
        shown, since = start, self._room
        while True:
            if since < self._room and shown < self._count - 1:
                shown, since = shown + 1, since + 1
            else:
                chosen = self._next(shown, random)
                since = since + 1 if chosen == shown + 1 else 0
                shown = chosen
            yield shown

    def path(self, start: int, steps: int, target: Floats) -> list[int]:
        """The ``steps`` frames to show after ``start`` that best lead into a picture.

        ``target`` is its thumbnail, a row. Source: dynamic programming, as for video loops in
        section 3.3 of the paper, over frames instead of over compound loops.
        """
        ahead = self._leading_to(target)
        choices = np.zeros((steps, self._count), np.int32)
        for step in reversed(range(steps)):
            total = self._cost + ahead
            choices[step] = total.argmin(1)
            ahead = total[np.arange(self._count), choices[step]]
        found = []
        for step in range(steps):
            start = int(choices[step, start])
            found.append(start)
        return found

    def _next(self, shown: int, random: np.random.Generator) -> int:
        total = self._total[shown]
        chances = np.exp((total.min() - total) / self._spread)
        return int(random.choice(self._count, p=chances / chances.sum()))

    def _leading_to(self, target: Floats) -> NDArray[np.float64]:
        """What it costs to go over from each frame to the target."""
        to = distances(self._rows, target[None])[:, 0]
        same = int(to.argmin())
        known = np.isfinite(self._unlike[:, same])
        if to[same] < self._usual and known.any():
            # A frame of the clip, whose motion is known.
            cost = self._unlike[:, same] ** _POWER
            if same:
                cost[same - 1] = 0
            return np.where(known, cost, cost[known].max())
        next_one = np.minimum(np.arange(self._count) + 1, self._count - 1)
        return (to[next_one] / self._usual).astype(np.float64) ** _POWER


def _unlikeness(apart: Floats) -> NDArray[np.float64]:
    """How unlike what would follow frame i is to frame j, with the frames around: (n, n).

    The root mean square over the frames before and after that exist on both sides; infinite where
    there are none.
    """
    count = len(apart)
    total, known = np.zeros((count, count)), np.zeros((count, count))
    squares = np.square(apart, dtype=np.float64)
    for lag in range(-_REACH, _REACH):
        # Frame i + 1 + lag against frame j + lag.
        i = np.arange(max(0, -1 - lag), min(count, count - 1 - lag))
        j = np.arange(max(0, -lag), min(count, count - lag))
        total[np.ix_(i, j)] += squares[np.ix_(i + 1 + lag, j + lag)]
        known[np.ix_(i, j)] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known > 0, np.sqrt(total / known), np.inf)
