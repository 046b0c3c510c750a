"""Compute even times for the frames of a clip that repeats some of them.

A *cycle* is one or more different frames, followed by repeats of the last of them. A 24 fps
film in a 30 fps file has cycles of four frames and one repeat. Animation on twos has cycles
of one frame and one repeat. In a camera's file, by contrast, a repeat may stand where a
frame was lost. Then the step that follows is as large as two steps. This module uses
neither av nor torch.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import inf, isnan, log, nan
from statistics import fmean, median
from typing import NamedTuple, Self

from cloudconv.messages import counted, plural

Placed = Fraction | None
"""The time of a frame after even spacing; None for a repeat."""

MAX_DISTINCT = 12
"""The most different frames in a cycle; a longer run without a repeat is no cadence."""

MAX_REPEATS = 5
"""The most repeats in a row; a longer run of repeats shows a picture that really stands
still."""

_ENOUGH_CYCLES = 4  # least number of cycles of a cadence
_CERTAIN_CYCLES = 12  # number of cycles after which a cadence is reported before the end
_TWO_STEPS = 1.5  # usual change over two steps, in changes over one, if none is known
_LOST = 0.05  # least median of the weights; 0 where steps say nothing
_SLACK = 4  # steps of one motion differ by less
_NOISE = 0.225  # of a step: a coder changes less, where no cadence tells a repeat


class Change(NamedTuple):
    """The changes of a frame from the frame before, ``one``, and from that before it."""

    one: float
    two: float


UNKNOWN = Change(nan, nan)
"""A change that says nothing: no comparison with it is true."""


@dataclass(slots=True)
class _Cycle:
    """A cycle; ``times`` are those of its different frames, then those of the repeats.

    ``before``, ``after``: the steps to its first frame and to the next cycle, unknown at a
    cut. ``end``: the time of the next cycle. ``noise``: the largest change of a repeat.
    ``stands``: the picture stands still after the different frames. ``regular``: a cycle
    beside this one is alike.
    """

    before: float = nan
    after: float = nan
    times: list[Fraction] = field(default_factory=list)
    end: Fraction = Fraction(0)
    repeats: int = 0
    noise: float = 0.0
    stands: bool = False
    regular: bool = False
    # The last changes between two different frames.
    changes: deque[Change] = field(default_factory=partial(deque, maxlen=3))

    @property
    def distinct(self) -> int:
        return len(self.times) - self.repeats

    @property
    def motion(self) -> float:
        """Return the usual step between two different frames."""
        return fmean([change.one for change in self.changes] or [self.before])

    @property
    def moves_on(self) -> bool:
        """Return whether the motion goes on after the repeats, each for a lost frame."""
        return not (
            self.stands
            or self.motion > _SLACK * self.after
            or self.after > _SLACK * (self.repeats + 1) * self.motion
        )

    def leads_to(self, later: Self) -> bool:
        """Return whether the motion goes on in a cycle, and by no much larger steps."""
        return not (
            later.stands
            or later.motion > _SLACK * self.after
            or later.after > _SLACK * self.after
        )

    @property
    def is_sure(self) -> bool:
        """Return whether the repeats change as a coder changes them, and by no motion."""
        return not (
            self.noise > _NOISE * self.motion
            or self.noise > _NOISE * self.after
            # A picture may be held at the end of a scene.
            or (isnan(self.after) and self.repeats > 1)
        )

    def is_like(self, other: Self) -> bool:
        """Return whether both are of one cadence."""
        apart = abs(self.distinct - other.distinct), abs(self.repeats - other.repeats)
        fits = sum(apart) <= 1 and (apart[1] == 0 or self.distinct == 1)
        return fits and min(self.distinct, other.distinct) > 0

    def weigh(self) -> list[float]:
        """Return how much nearer the step after the repeats is to two steps than to one.

        0 is in the middle, above 0 is nearer to two steps. The list is empty if the cycle
        does not show this.
        """
        ones = [change.one for change in self.changes]
        twos = [change.two for change in self.changes][1:] or [
            _TWO_STEPS * one for one in ones
        ]
        if not twos or not all(0 < change < inf for change in (self.after, *ones, *twos)):
            return []
        return [log(self.after / fmean(ones)) - log(fmean(twos) / fmean(ones)) / 2]

    @property
    def kept(self) -> list[Placed]:
        """Return the frames at their own times, and None for repeats."""
        return [*self.times[: self.distinct], *[None] * self.repeats]

    def spread(self) -> None:
        """Move the different frames to even times up to the end of the cycle."""
        step = (self.end - self.times[0]) / self.distinct
        self.times = [self.times[0] + k * step for k in range(len(self.times))]


class Cadence:
    """A detector of a cadence, which gives the different frames even times.

    A repeat is one only if the motion goes on after it by a step that is about as large as
    those before and after; n lost frames make it n + 1 times as large. A smaller step
    belongs to a picture that stands still, and so does a run of more than ``MAX_REPEATS``
    repeats, or more than one at the end of a scene. Such a picture holds no repeats.

    In a cadence two cycles in a row are alike. The different frames of its cycles are
    spread evenly over the duration of each, so that new frames have even distances. Two
    one-frame cycles in a row are spread together if the second is longer by one (24 fps in
    a 60 fps file: shown 2, 3, 2, 3 … times). All other frames keep their times, and so do
    all frames while the steps after repeats are about twice as large as others: there
    frames are lost. Unless it ``fills``, a single repeat keeps its time. The result of a
    frame is delayed by at most ``lookahead`` frames.
    """

    lookahead = 2 * (MAX_DISTINCT + MAX_REPEATS) + 1

    def __init__(self, *, fills: bool = True) -> None:
        self._fills = fills
        self._cycle = _Cycle()
        # A complete cycle, which waits for the next one.
        self._complete = _Cycle()
        self._frames = 0
        # (distinct, repeats) of the cycles of a cadence.
        self._kinds: Counter[tuple[int, int]] = Counter()
        self._single: list[Fraction] = []  # the times of repeats outside of a cadence
        self._weights: deque[float] = deque(maxlen=_CERTAIN_CYCLES)

    def push(
        self,
        time: Fraction,
        repeats: bool,
        cut: bool = False,
        change: Change = UNKNOWN,
    ) -> list[Placed]:
        """Add the next frame, and return the frames that are now decided, in order.

        ``time`` is later than that of the frame before. ``repeats``: the frame shows the
        same picture as the frame before. A ``cut`` begins a new scene, and never counts as
        a repeat. ``change``: that of the frame.
        """
        if not self._frames:
            self._start = time
        cut |= not self._frames
        self._frames += 1
        cycle = self._cycle
        was_same = cycle.stands or cycle.repeats > 0
        # A step that is much smaller than the motion belongs to a still picture.
        is_small = was_same and not repeats and _SLACK * change.one < cycle.motion
        cycle.stands |= is_small
        repeats = (repeats or is_small) and not cut
        placed = []
        if cut or (was_same and not repeats):
            cycle.after = nan if cut else change.one
            placed = self._close(time, last=cut)
            cycle = self._cycle = _Cycle(nan if cut else change.one)
        elif repeats:
            cycle.noise = max(cycle.noise, change.one)
        else:
            cycle.changes.append(change)
        cycle.times.append(time)
        cycle.repeats += repeats
        if cycle.distinct > MAX_DISTINCT or cycle.repeats > MAX_REPEATS:
            # After so many repeats, the picture stands still until it moves as before.
            cycle.stands |= repeats
            placed += self._close(time, last=True)
            self._cycle = _Cycle(cycle.before, stands=repeats, changes=cycle.changes)
        return placed

    def finish(self, end: Fraction) -> list[Placed]:
        """Return the remaining frames; ``end`` is the time at which the last frame ends."""
        return self._close(end, last=True)

    @property
    def certain(self) -> bool:
        """Return whether enough cycles support :attr:`description` before the end."""
        return self._kinds.total() >= _CERTAIN_CYCLES

    @property
    def _covered(self) -> int:
        """Return the number of frames in cycles of a cadence."""
        return sum((d + r) * n for (d, r), n in self._kinds.items())

    @property
    def distinct_fraction(self) -> Fraction:
        """Return the fraction of different frames among all frames of a cadence."""
        return Fraction(sum(d * n for (d, _), n in self._kinds.items()), self._covered or 1)

    @property
    def description(self) -> str | None:
        """Return the clip's regular cadence, or None if there is none.

        A cadence is regular if the clip has at least four cycles that are like the one
        before or after, and if these are at least half of the clip.
        """
        if self._kinds.total() < _ENOUGH_CYCLES or 2 * self._covered < self._frames:
            return None
        part = (1 - self.distinct_fraction).limit_denominator(MAX_DISTINCT + 1)
        return (
            f"{part.numerator} of every {part.denominator} frames "
            f"{plural(part.numerator, 'repeats', 'repeat')} the one before"
        )

    @property
    def advice(self) -> str | None:
        """Return what the repeats are, and what --refill does with them, or None."""
        count = len(self._single)
        return self._habit or (
            f"{counted(count, 'frame')} of the video {plural(count, 'repeats', 'repeat')} "
            f"the one before, the first at {float(self._single[0] - self._start):.3f} s, "
            "as where recordings were joined: --refill makes "
            f"{plural(count, 'a new frame in its', 'new frames in their')} place."
            if count
            else None
        )

    @property
    def _habit(self) -> str | None:
        """Return what most repeats are, and what --refill does, if there are enough."""
        if self._loses and len(self._weights) >= _ENOUGH_CYCLES:
            return (
                "The video repeats a frame where another one was lost: --refill makes new "
                "frames in place of the repeats, and leaves all others as they are."
            )
        if self.description is not None:
            return (
                f"The video repeats frames: {self.description}. --refill makes the motion "
                "even."
            )
        return None

    @property
    def _loses(self) -> bool:
        """Return whether repeats stand for lost frames."""
        return median(self._weights or [0]) > _LOST

    def _close(self, end: Fraction, *, last: bool) -> list[Placed]:
        """End the cycle at ``end``; return decided frames.

        ``last``: no cycle follows that may be like this one.
        """
        self._cycle.end = end
        placed = self._decided(self._cycle)
        return placed + self._decided(_Cycle()) if last else placed

    def _decided(self, later: _Cycle) -> list[Placed]:
        """Return the frames of the cycle that waits; from now on a ``later`` one waits."""
        cycle = self._complete
        self._complete = later
        is_like = cycle.moves_on and later.moves_on and cycle.is_like(later)
        if is_like:
            cycle.regular = later.regular = True
        moves_on = cycle.moves_on and (cycle.regular or cycle.leads_to(later))
        if not (cycle.repeats and moves_on):
            return [*cycle.times]
        self._weights.extend(cycle.weigh())
        if not cycle.regular:
            is_sure = self._habit is not None or cycle.is_sure
            self._single += cycle.times[cycle.distinct :] * is_sure
            return cycle.kept if is_sure and self._fills else [*cycle.times]
        self._kinds[cycle.distinct, cycle.repeats] += 1
        if is_like and later.repeats > cycle.repeats:
            later.times[0] = (cycle.times[0] + later.end) / 2
        if not self._loses:
            cycle.spread()
        return cycle.kept
