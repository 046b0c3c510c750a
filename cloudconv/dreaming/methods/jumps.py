"""Find where a clip can reverse or jump invisibly, and the long-term cost of each step.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000, sections 3.1 to 3.3.
The nodes of the paper's graph are frames. Here each node is a frame and a direction of play. Play
may run backwards, so a walk never needs a visible jump. A walk prefers to play forwards, and
reverses where no invisible jump leads on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Costs = NDArray[np.float64]

GIVEN = -1
"""The frame number that stands for a loop's target, if the target is no frame of the clip."""

_NEAR = 30  # least length of a jump, at most a quarter of the clip: short jumps make motion stutter
_LAGS = (-2, -1, 0, 1)  # frames around a jump that must match, so that the motion matches
_EACH = 1.0  # added to the cost of each turn or jump, so that calm clips do not turn more often
_BACKWARDS = 0.2  # cost of each frame that is played backwards, or twice at a turn
_FUTURE = 0.995  # factor of all later costs, for each step: 200 steps count
_CHANCE = 0.2  # temperature of the random choice between going on, turning and jumping
_RUN = 12  # least number of frames between two turns or jumps, where the clip allows
_FORCED = 1000.0  # least cost of a visible jump


@dataclass(frozen=True, slots=True)
class Step:
    """A frame to show and the direction of play; ``forced``: reached by a visible jump."""

    frame: int
    forward: bool
    forced: bool = False


class Graph:
    """A graph whose nodes are frames and directions of play, with the cost of each step.

    Args:
        unlike: (n, n), symmetric: the difference of two frames at the place where they differ most,
            relative to the typical difference of consecutive frames at that place.
        motion: (n,), the motion at each frame relative to the typical motion.
    """

    def __init__(self, unlike: Floats, motion: Floats) -> None:
        """Compute the costs of turns and jumps, and the cost of all that follows them."""
        self.count = count = len(motion)
        self.rests = bool(motion.max() < 1e-6)
        self._turn = np.square(motion.astype(np.float64)) + _EACH
        frames = np.arange(count)
        self._on = np.stack([frames - 1, frames + 1])
        self._runs = np.stack([frames > 0, frames < count - 1])
        self._jump = np.stack([_jumps(unlike, sign) for sign in (-1, 1)])
        self._forced = _FORCED * (1 + np.minimum(unlike, 1e3).astype(np.float64))
        ahead = np.zeros((2, count))
        for _ in range(round(2 / (1 - _FUTURE)) if count > 1 else 0):
            ahead = self._options(_FUTURE * ahead).min(0)
        self._costs = self._options(_FUTURE * ahead)

    def walk(self, random: np.random.Generator, start: Step) -> Iterator[Step]:
        """Yield the frames to show after ``start``, without an end."""
        here, since = start, 0
        while True:
            forward = int(here.forward)
            if self.count == 1:
                yield here
                continue
            if since < _RUN and self._runs[forward, here.frame]:
                here, since = Step(int(self._on[forward, here.frame]), here.forward), since + 1
                yield here
                continue
            options = self._costs[:, forward, here.frame]
            chances = np.exp((options.min() - options) / _CHANCE)
            chosen = int(random.choice(len(options), p=chances / chances.sum()))
            since = since + 1 if chosen == 0 else 0
            here = self._taken(here, chosen)
            yield here

    def path(self, start: Step, steps: int, target: int, same: bool = True) -> list[Step]:
        """Return ``steps`` steps from ``start`` on, and one more step that shows ``target``.

        The last step is ``GIVEN`` if the loop's target picture is not the ``same`` as that frame.
        The path contains a visible jump only if no other path leads to the target.

        Source: dynamic programming, as for video loops in section 3.3 of the paper, over frames
        instead of over compound loops.
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

    def _options(self, ahead: Costs) -> Costs:
        """Return the costs of all invisible options at each node: (n + 2, 2, n).

        The options are: go on, turn, n jumps.
        """
        options = np.empty((self.count + 2, 2, self.count))
        options[:2] = np.inf
        for forward, on in enumerate(self._on):
            runs, turns = self._runs[forward], self._runs[1 - forward]
            back = self._on[1 - forward]
            options[0, forward, runs] = _pace(forward) + ahead[forward, on[runs]]
            turned = self._turn + _pace(1 - forward) + np.r_[ahead[1 - forward], 0][back]
            options[1, forward, turns] = turned[turns]
            after = _pace(forward) + ahead[forward, :, None]
            np.add(self._jump[forward], after, out=options[2:, forward])
        return options

    def _all(self, ahead: Costs) -> Costs:
        """Return the costs of all options at each node: (2 n + 3, 2, n).

        The options are: go on, turn, n jumps, turn with a repeat, n visible jumps.
        """
        pace = np.array([_pace(0), _pace(1)])[:, None]
        # After a turn the cost is that of the other direction.
        repeats = self._turn + _BACKWARDS + (ahead + pace)[::-1]
        visible_jumps = self._forced[:, None] + ahead.T[..., None] + pace
        return np.concatenate([self._options(ahead), repeats[None], visible_jumps])

    def _taken(self, here: Step, option: int) -> Step:
        forward = int(here.forward)
        if option == 0:
            return Step(int(self._on[forward, here.frame]), here.forward)
        if option == 1:
            return Step(int(self._on[1 - forward, here.frame]), not here.forward)
        if option < 2 + self.count:
            return Step(option - 2, here.forward)
        if option == 2 + self.count:
            return Step(here.frame, not here.forward)
        return Step(option - 3 - self.count, here.forward, forced=True)


def _pace(forward: int) -> float:
    """Return the cost of a frame in one direction."""
    return 0.0 if forward else _BACKWARDS


def _jumps(unlike: Floats, sign: int) -> Costs:
    """Return the cost of frame j after frame i: (j, i), infinite if the jump is visible or short.

    ``sign``: 1 if both are played forwards, -1 if backwards.
    """
    count = len(unlike)
    worst, known = np.zeros((count, count)), np.zeros((count, count), bool)
    i, j = np.arange(count)[None], np.arange(count)[:, None]
    for lag in _LAGS:
        wanted, shown = i + sign * (1 + lag), j + sign * lag
        inside = (wanted >= 0) & (wanted < count) & (shown >= 0) & (shown < count)
        there = unlike[wanted.clip(0, count - 1), shown.clip(0, count - 1)]
        worst = np.maximum(worst, np.where(inside, there, 0))
        known |= inside & (lag in (-1, 0))
    far = np.abs(j - (i + sign)) >= min(_NEAR, max(count // 4, 2))
    return np.where(far & known & (worst <= 1), np.square(worst) + _EACH, np.inf)


def relative_motion(apart: Floats) -> Floats:
    """Return the motion at each frame, (n,), relative to the mean of the changes (n - 1,)."""
    if not len(apart):
        return np.zeros(1, np.float32)
    around = np.r_[apart[:1], (apart[1:] + apart[:-1]) / 2, apart[-1:]]
    made: Floats = around / np.float32(max(float(apart.mean()), 1e-6))
    return made
