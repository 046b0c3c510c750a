"""Even times for the frames of a clip that repeats some of them. No av, no torch.

A *cycle* is one or more frames that differ, followed by those that repeat the last of them. A 24
fps film in a 30 fps file has cycles of four frames and one repeat; animation on twos has cycles of
one frame and one repeat.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

Placed = tuple[Fraction, Fraction | None]

MAX_DISTINCT = 12
"""Differing frames of a cycle; a longer stretch without a repeat is no cadence."""

MAX_REPEATS = 5
"""Repeats in a row; more of them are a picture that really stands still."""

_ENOUGH_CYCLES = 4
_CERTAIN_CYCLES = 12
_REGULAR = Fraction(3, 4)
_GAPS = 600
_LIKE = Fraction(1, 5000)


@dataclass(slots=True)
class _Cycle:
    """``times`` of the differing frames, then of their repeats."""

    times: list[Fraction] = field(default_factory=list)
    repeats: int = 0

    @property
    def distinct(self) -> int:
        return len(self.times) - self.repeats

    def as_shown(self) -> list[Placed]:
        return [(time, time) for time in self.times]

    def spread(self, end: Fraction) -> list[Placed]:
        """The differing frames at even times from the cycle's start up to ``end``, without it."""
        step = (end - self.times[0]) / self.distinct
        return [
            (time, self.times[0] + k * step if k < self.distinct else None)
            for k, time in enumerate(self.times)
        ]


class Cadence:
    """Says when the content of each frame belongs once repeats are taken out.

    The differing frames of a cycle are spread evenly over the time that the cycle takes, so that
    new frames fall at even distances. Two cycles of one frame each whose lengths differ by one (24
    fps in a 60 fps file: shown 2, 3, 2, 3 … times) are spread together. Left as they are shown:
    more than ``MAX_DISTINCT`` differing frames without a repeat, more than ``MAX_REPEATS`` repeats
    in a row, and frames without a repeat before a cut or the end. Nothing is spread across a cut.
    At most ``lookahead`` frames are held back.
    """

    lookahead = MAX_DISTINCT + 2 * MAX_REPEATS + 1

    def __init__(self) -> None:
        self._cycle = _Cycle()
        self._partner: _Cycle | None = None  # a whole cycle of one frame, waiting for the next
        self._loose = False  # in a stretch that is left as it is, up to where a new cycle begins
        self._after_repeat = False
        self._kinds: Counter[tuple[int, int]] = Counter()  # (distinct, repeats) of whole cycles
        self._frames = 0
        self._last = Fraction(0)
        self._gaps: list[Fraction] = []

    def push(self, time: Fraction, repeats: bool, cut: bool = False) -> list[Placed]:
        """Take the next frame.

        Args:
            time: when the frame is shown, in seconds; later than the one before.
            repeats: whether it shows the same as the frame before.
            cut: whether a new scene begins with it; such a frame is never taken for a repeat.

        Returns:
            ``(time, shows)`` of the frames that are decided by now, in order. ``shows`` is when the
            frame's content belongs (strictly increasing), or None for a repeat to be left out.
        """
        if self._frames and len(self._gaps) < _GAPS:
            self._gaps.append(time - self._last)
        repeats = repeats and not cut and self._frames > 0
        begins = not repeats and (cut or self._after_repeat)
        self._frames += 1
        self._last = time
        self._after_repeat = repeats
        placed = []
        if begins:
            placed = self._close(time, last=cut)
            self._loose = False
        if self._loose:
            return [*placed, (time, time)]
        self._cycle.times.append(time)
        self._cycle.repeats += repeats
        if self._cycle.distinct > MAX_DISTINCT or self._cycle.repeats > MAX_REPEATS:
            placed += [*self._release_partner(), *self._cycle.as_shown()]
            self._cycle = _Cycle()
            self._loose = True
        return placed

    def finish(self, end: Fraction) -> list[Placed]:
        """Place what is still held back; ``end`` is when the last frame stops being shown."""
        return self._close(end, last=True)

    @property
    def certain(self) -> bool:
        """Whether enough was seen to rely on :attr:`description` before the end."""
        return self._kinds.total() >= _CERTAIN_CYCLES

    @property
    def share(self) -> Fraction:
        """What share of the frames of whole cycles differ from the one before."""
        frames = sum((d + r) * n for (d, r), n in self._kinds.items())
        return Fraction(sum(d * n for (d, _), n in self._kinds.items()), frames or 1)

    @property
    def description(self) -> str | None:
        """The clip's regular cadence in words, or None when there is none.

        Regular: at least three quarters of the cycles are of one kind, give or take a frame, and
        the cycles make up at least half of the clip.
        """
        cycles = self._kinds.total()
        covered = sum((d + r) * n for (d, r), n in self._kinds.items())
        if cycles < _ENOUGH_CYCLES or 2 * covered < self._frames:
            return None
        (distinct, repeats), _ = self._kinds.most_common(1)[0]
        length = distinct + repeats

        def share(kinds: set[tuple[int, int]]) -> Fraction:
            return Fraction(sum(self._kinds[kind] for kind in kinds), cycles)

        def rates(share: Fraction) -> str:
            shown = self._usual_rate()
            return f"({_number(shown * share)} fps material in a {_number(shown)} fps file)"

        slips = {(distinct + slip, repeats) for slip in (-1, 0, 1)}
        if repeats == 1 and distinct > 1 and share(slips) >= _REGULAR:
            return (
                f"every {_ordinal(length)} frame repeats the one before "
                f"{rates(Fraction(distinct, length))}"
            )
        if share({(distinct, repeats)}) >= _REGULAR:
            if distinct == 1:
                return f"each picture is shown {length} times {rates(Fraction(1, length))}"
            return (
                f"{repeats} of every {length} frames repeat the one before "
                f"{rates(Fraction(distinct, length))}"
            )
        other = max((repeats - 1, repeats + 1), key=lambda r: self._kinds[1, r])
        if distinct == 1 and share({(1, repeats), (1, other)}) >= _REGULAR:
            few, many = sorted((length, other + 1))
            mean = Fraction(few + many, 2)
            return f"each picture is shown {few} or {many} times {rates(1 / mean)}"
        return None

    def _usual_rate(self) -> Fraction:
        """Return the frames per second where none are lost, from the first gaps between frames."""
        usual = sorted(self._gaps)[len(self._gaps) // 2]
        even = [gap for gap in self._gaps if usual < 2 * gap < 3 * usual]
        rate = len(even) / sum(even, Fraction(0))
        for exact in (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)):
            if abs(rate - exact) <= _LIKE * rate:
                return exact
        return rate

    def _close(self, end: Fraction, *, last: bool) -> list[Placed]:
        """End the cycle at ``end``; ``last`` before a cut or the end, where nothing can wait."""
        cycle, self._cycle = self._cycle, _Cycle()
        partner = self._partner
        if not cycle.repeats:
            return [*self._release_partner(), *cycle.as_shown()]
        self._kinds[cycle.distinct, cycle.repeats] += 1
        if cycle.distinct > 1:
            return [*self._release_partner(), *cycle.spread(end)]
        if partner is not None and abs(partner.repeats - cycle.repeats) == 1:
            self._partner = None
            middle = (partner.times[0] + end) / 2
            return [
                *partner.spread(cycle.times[0]),
                (cycle.times[0], middle),
                *cycle.spread(end)[1:],
            ]
        placed = self._release_partner()
        self._partner = cycle
        return placed + self._release_partner() if last else placed

    def _release_partner(self) -> list[Placed]:
        """A cycle of one frame by itself: the frame belongs where it is."""
        partner, self._partner = self._partner, None
        return [] if partner is None else partner.spread(partner.times[-1])


def _number(value: Fraction) -> str:
    return f"{float(value):.3f}".rstrip("0").rstrip(".")


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
