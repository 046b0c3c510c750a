"""Where a clip may turn back or jump without that being seen, and what that costs in the long run.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000, sections 3.1 to 3.3.
Their graph of frames is one of (frame, direction) here: time may run backwards, so there is always
a way on that shows real frames only, and a jump is taken only where nothing betrays it. Where jumps
lead on, it plays forwards; it turns where none does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Costs = NDArray[np.float64]

GIVEN = -1
"""The number of the picture that a loop leads to, where that is no frame of the clip."""

_NEAR = 30  # a shorter jump makes the motion stutter; a quarter of a clip that is short itself
_LAGS = (-2, -1, 0, 1)  # frames around a jump that must match, so that motion does
_POWER = 2.0  # one turn at full motion is worse than two at half of it
_EACH = 1.0  # what any turn or jump costs: longer runs rather than more turns where it is calm
_BACKWARDS = 0.2  # what each frame costs that is played backwards: it is the last choice
_HOLD = 0.05  # what it costs to show a frame twice where it turns
_FUTURE = 0.995  # how much what comes later counts
_SWEEPS = 400
_CHANCE = 0.2  # how readily worse turns are taken
_RUN = 12  # frames between two turns at least, where the clip allows
_PACE = (_BACKWARDS, 0.0)  # what a frame costs, backwards and forwards
_FORCED = 1000.0  # what a jump costs that will be seen


@dataclass(frozen=True, slots=True)
class Step:
    """A frame to show; ``forced`` where it follows though it does not fit the one before."""

    frame: int
    forward: bool
    forced: bool = False


class Graph:
    """Which frame may follow which, in which direction.

    Args:
        unlike: (n, n), how far two frames are apart at their most unlike place, 1 being what
            neighbours differ by there.
        motion: (n,) how much moves at each frame, 1 being the usual.
    """

    def __init__(self, unlike: Floats, motion: Floats) -> None:
        self.count = count = len(motion)
        self.rests = bool(motion.max() < 1e-6)
        self._turn = motion.astype(np.float64) ** _POWER + _EACH
        frames = np.arange(count)
        self._on = np.stack([frames - 1, frames + 1])
        self._runs = np.stack([frames > 0, frames < count - 1])
        self._jump = np.stack([_jumps(unlike, way) for way in (-1, 1)])
        self._forced = _FORCED * (1 + np.minimum(unlike, 1e3).astype(np.float64))
        ahead = np.zeros((2, count))
        for _ in range(_SWEEPS if count > 1 else 0):
            ahead = self._best(_FUTURE * ahead).min(0)
        self._ahead = _FUTURE * ahead
        self._totals = self._best(self._ahead)

    def walk(self, random: np.random.Generator, start: Step) -> Iterator[Step]:
        """Frames to show after ``start``, without an end."""
        here, since = start, 0
        while True:
            way = int(here.forward)
            if self.count == 1:
                yield here
                continue
            if since < _RUN and self._runs[way, here.frame]:
                here, since = Step(int(self._on[way, here.frame]), here.forward), since + 1
                yield here
                continue
            totals = self._totals[:, way, here.frame]
            jumps = _PACE[way] + self._jump[way, here.frame] + self._ahead[way]
            options = np.r_[totals[:2], jumps]
            chances = np.exp((options.min() - options) / _CHANCE)
            chosen = int(random.choice(len(options), p=chances / chances.sum()))
            since = since + 1 if chosen == 0 else 0
            here = self._taken(here, chosen)
            yield here

    def path(self, start: Step, steps: int, target: int, same: bool = True) -> list[Step]:
        """The ``steps`` frames to show after ``start`` so that frame ``target`` may follow.

        One more step is that frame; it is ``GIVEN`` if what follows is not the ``same`` as it.

        Source: dynamic programming, as for video loops in section 3.3 of the paper, over frames
        instead of over compound loops. Where there is no way, it jumps all the same.
        """
        ahead = np.full((2, self.count), np.inf)
        ahead[:, target] = 0
        choices = np.zeros((steps + 1, 2, self.count), np.int32)
        for step in reversed(range(steps + 1)):
            options = self._all(ahead)
            choices[step] = options.argmin(0)
            ahead = options.min(0)
        found, here = [], start
        for step in range(steps):
            here = self._taken(here, int(choices[step, int(here.forward), here.frame]))
            found.append(here)
        last = self._taken(here, int(choices[steps, int(here.forward), here.frame]))
        return [*found, last if same else Step(GIVEN, True, forced=True)]

    def _best(self, ahead: Costs) -> Costs:
        """What it costs to go on, to turn, and to jump: (3, 2, n)."""
        options = np.full((3, 2, self.count), np.inf)
        for way, on in enumerate(self._on):
            runs, turns = self._runs[way], self._runs[1 - way]
            back = self._on[1 - way]
            options[0, way, runs] = _PACE[way] + ahead[way, on[runs]]
            turned = self._turn + _PACE[1 - way] + np.r_[ahead[1 - way], 0][back]
            options[1, way, turns] = turned[turns]
            options[2, way] = _PACE[way] + (self._jump[way] + ahead[way]).min(1)
        return options

    def _all(self, ahead: Costs) -> Costs:
        """The same for each single frame to jump to, with turns that hold: (n + 3, 2, n)."""
        options = np.full((2 * self.count + 3, 2, self.count), np.inf)
        options[:2] = self._best(ahead)[:2]
        for way in (0, 1):
            options[2 : 2 + self.count, way] = _PACE[way] + (self._jump[way] + ahead[way]).T
            options[2 + self.count, way] = self._turn + _HOLD + _PACE[1 - way] + ahead[1 - way]
            options[3 + self.count :, way] = _PACE[way] + (self._forced + ahead[way]).T
        return options

    def _taken(self, here: Step, option: int) -> Step:
        way = int(here.forward)
        if option == 0:
            return Step(int(self._on[way, here.frame]), here.forward)
        if option == 1:
            return Step(int(self._on[1 - way, here.frame]), not here.forward)
        if option < 2 + self.count:
            return Step(option - 2, here.forward)
        if option == 2 + self.count:
            return Step(here.frame, not here.forward)
        return Step(option - 3 - self.count, here.forward, forced=True)


def _jumps(unlike: Floats, way: int) -> Costs:
    """What it costs to show frame j after frame i, both played forwards (1) or backwards (-1)."""
    count = len(unlike)
    worst, known = np.zeros((count, count)), np.zeros((count, count), bool)
    i, j = np.arange(count)[:, None], np.arange(count)[None]
    for lag in _LAGS:
        wanted, shown = i + way * (1 + lag), j + way * lag
        inside = (wanted >= 0) & (wanted < count) & (shown >= 0) & (shown < count)
        there = unlike[wanted.clip(0, count - 1), shown.clip(0, count - 1)]
        worst = np.maximum(worst, np.where(inside, there, 0))
        known |= inside & (lag in (-1, 0))
    far = np.abs(j - (i + way)) >= min(_NEAR, max(count // 4, 2))
    return np.where(far & known & (worst <= 1), worst**_POWER + _EACH, np.inf)


def motion_of(apart: Floats) -> Floats:
    """How much moves at each frame against the usual, from what changes between neighbours."""
    if not len(apart):
        return np.zeros(1, np.float32)
    around = np.r_[apart[:1], (apart[1:] + apart[:-1]) / 2, apart[-1:]]
    made: Floats = around / np.float32(max(float(apart.mean()), 1e-6))
    return made
