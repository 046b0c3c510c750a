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
from math import inf, log
from statistics import fmean, median
from typing import NamedTuple

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
_REGULAR = Fraction(3, 4)  # least fraction of cycles of one kind
_TWO_STEPS = 1.5  # usual change over two steps, in changes over one, if none is known
_LOST = 0.05  # least median of the weights; 0 where steps say nothing


class Change(NamedTuple):
    """The changes of a frame from the frame before, ``one``, and from that before it."""

    one: float
    two: float


FIRST = Change(0.0, inf)
"""The change of a frame that is the first one."""


@dataclass(slots=True)
class _Cycle:
    """A cycle; ``times`` are those of its different frames, then those of the repeats."""

    times: list[Fraction] = field(default_factory=list)
    repeats: int = 0
    # The last changes between two different frames.
    changes: deque[Change] = field(default_factory=partial(deque, maxlen=3))

    @property
    def distinct(self) -> int:
        return len(self.times) - self.repeats

    def weigh(self, after: float) -> list[float]:
        """Return how much nearer the step after the repeats is to two steps than to one.

        0 is in the middle, above 0 is nearer to two steps. The list is empty if the cycle
        does not show this.
        """
        ones = [change.one for change in self.changes]
        twos = [change.two for change in self.changes][1:]
        twos = twos or [_TWO_STEPS * one for one in ones]
        if not twos or not all(0 < change < inf for change in (after, *ones, *twos)):
            return []
        return [log(after / fmean(ones)) - log(fmean(twos) / fmean(ones)) / 2]

    @property
    def kept(self) -> list[Placed]:
        """Return the frames at their own times, and None for repeats."""
        return [*self.times[: self.distinct], *[None] * self.repeats]

    def placed(self, end: Fraction) -> list[Placed]:
        """Return frames at even times from the start to ``end``, and None for repeats."""
        step = (end - self.times[0]) / self.distinct
        return [self.times[0] + k * step for k in range(self.distinct)] + [
            None
        ] * self.repeats


class Cadence:
    """A detector of a cadence, which gives the different frames even times.

    The different frames of a cycle are spread evenly over the duration of the cycle, so
    that new frames have even distances. Two one-frame cycles in a row are spread together
    if their lengths differ by one (24 fps in a 60 fps file: shown 2, 3, 2, 3 … times). Some
    frames keep their times: more than ``MAX_DISTINCT`` different frames without a repeat,
    more than ``MAX_REPEATS`` repeats in a row, and frames without a repeat before a cut or
    the end. All frames keep their times, and only repeats are left out, while the steps
    after repeats are about twice as large as others: there frames are lost. With ``fills``
    a single repeat after many different frames is left out, too. Nothing is spread across a
    cut. The result of a frame is delayed by at most ``lookahead`` frames.
    """

    lookahead = MAX_DISTINCT + 2 * MAX_REPEATS + 1

    def __init__(self, *, fills: bool = False) -> None:
        self._fills = fills
        self._cycle = _Cycle()
        # A complete one-frame cycle that may join the next.
        self._partner: _Cycle | None = None
        self._loose = False  # frames keep their own times until a new cycle begins
        self._after_repeat = False
        # (distinct, repeats) of complete cycles.
        self._kinds: Counter[tuple[int, int]] = Counter()
        self._frames = 0
        self._single: list[Fraction] = []  # the times of repeats after many other frames
        self._weights: deque[float] = deque(maxlen=_CERTAIN_CYCLES)

    def push(
        self,
        time: Fraction,
        repeats: bool,
        cut: bool = False,
        change: Change | None = None,
    ) -> list[Placed]:
        """Add the next frame, and return the frames that are now decided, in order.

        ``time`` is later than that of the frame before. ``repeats``: the frame shows the
        same picture as the frame before. A ``cut`` begins a new scene, and never counts as
        a repeat. ``change``: that of the frame, if it is known.
        """
        repeats = repeats and not cut and self._frames > 0
        if not self._frames:
            self._start = time
        begins = not repeats and (cut or self._after_repeat)
        self._frames += 1
        self._after_repeat = repeats
        placed = []
        if begins:
            if change is not None and not cut:
                self._weights.extend(self._cycle.weigh(change.one))
            placed = self._close(time, last=cut)
            self._loose = False
        elif change is not None and not repeats:
            self._cycle.changes.append(change)
        # A repeat after a long run of different frames may stand for a lost one.
        if self._loose and not (repeats and self._cycle.changes):
            return [*placed, time]
        self._cycle.times.append(time)
        self._cycle.repeats += repeats
        if self._cycle.distinct > MAX_DISTINCT or self._cycle.repeats > MAX_REPEATS:
            placed += [*self._release_partner(), *self._cycle.times]
            if repeats:  # the picture really stands still
                self._cycle.changes.clear()
            self._cycle = _Cycle(changes=self._cycle.changes)
            self._loose = True
        return placed

    def finish(self, end: Fraction) -> list[Placed]:
        """Return the remaining frames; ``end`` is the time at which the last frame ends."""
        return self._close(end, last=True)

    @property
    def certain(self) -> bool:
        """Return whether enough cycles support :attr:`description` before the end."""
        return self._kinds.total() >= _CERTAIN_CYCLES

    @property
    def distinct_fraction(self) -> Fraction:
        """Return the fraction of different frames among all frames of complete cycles."""
        frames = sum((d + r) * n for (d, r), n in self._kinds.items())
        return Fraction(sum(d * n for (d, _), n in self._kinds.items()), frames or 1)

    @property
    def description(self) -> str | None:
        """Return the clip's regular cadence, or None if there is none.

        A cadence is regular if the clip has at least four cycles, if these make up at least
        half of the clip, and if three quarters of them are of one kind, or differ from that
        kind by one frame.
        """
        cycles = self._kinds.total()
        covered = sum((d + r) * n for (d, r), n in self._kinds.items())
        if cycles < _ENOUGH_CYCLES or 2 * covered < self._frames:
            return None
        (distinct, repeats), _ = self._kinds.most_common(1)[0]
        slips = (-1, 0, 1) if distinct > 1 and repeats == 1 else (0,)
        # The kinds of cycles, their number of repeats, and their length.
        regular = [
            ({(distinct + slip, repeats) for slip in slips}, repeats, distinct + repeats)
        ]
        if distinct == 1:
            other = max((repeats - 1, repeats + 1), key=lambda count: self._kinds[1, count])
            regular.append(
                ({(1, repeats), (1, other)}, repeats + other, 2 + repeats + other)
            )
        for kinds, repeated, length in regular:
            if sum(self._kinds[kind] for kind in kinds) >= _REGULAR * cycles:
                verb = plural(repeated, "repeats", "repeat")
                return f"{repeated} of every {length} frames {verb} the one before"
        return None

    @property
    def advice(self) -> str | None:
        """Return what the repeats are, and what --refill does with them, or None."""
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
        count = len(self._single)
        return (
            f"{counted(count, 'frame')} of the video {plural(count, 'repeats', 'repeat')} "
            f"the one before, the first at {float(self._single[0] - self._start):.3f} s, "
            "as where recordings were joined: --refill makes "
            f"{plural(count, 'a new frame in its', 'new frames in their')} place."
            if count
            else None
        )

    @property
    def _loses(self) -> bool:
        """Return whether repeats stand for lost frames."""
        return median(self._weights or [0]) > _LOST

    def _close(self, end: Fraction, *, last: bool) -> list[Placed]:
        """End the cycle at ``end``; return decided frames.

        ``last``: a cut or the end follows.
        """
        cycle = self._cycle
        self._cycle = _Cycle()
        partner = self._partner
        if not cycle.repeats:
            return [*self._release_partner(), *cycle.times]
        self._kinds[cycle.distinct, cycle.repeats] += 1
        if self._loses:
            return [*self._release_partner(), *cycle.kept]
        if not cycle.distinct:
            self._single += cycle.times
            return cycle.kept if self._fills else [*cycle.times]
        if cycle.distinct > 1:
            return [*self._release_partner(), *cycle.placed(end)]
        if partner is not None and abs(partner.repeats - cycle.repeats) == 1:
            self._partner = None
            middle = (partner.times[0] + end) / 2
            return [*partner.placed(cycle.times[0]), middle, *cycle.placed(end)[1:]]
        placed = self._release_partner()
        self._partner = cycle
        return placed + self._release_partner() if last else placed

    def _release_partner(self) -> list[Placed]:
        partner = self._partner
        self._partner = None
        return [] if partner is None else partner.placed(partner.times[-1])
