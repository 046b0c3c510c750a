"""Map the time of an output frame to the source time that the frame shows.

A map is made of ramps. Between two points the speed changes evenly in output time. Source
time is therefore a quadratic of output time, with exact coefficients. Only the inverse is a
root, which is rounded.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, isqrt

LEAST_SPEED, MOST_SPEED = Fraction(1, 100), Fraction(100)
_FINE = 10**9  # parts of a second, or of a speed, to which roots are rounded


Point = tuple[Fraction, Fraction]
"""A source time in seconds and the speed there; 1 is the speed of the source."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A part of a map: from ``source`` and ``output`` on, both in seconds.

    The speed changes evenly from ``first`` to ``last`` while the output lasts ``lasts``
    seconds. The last ramp of a map has no end: ``lasts`` is None, and the speed ``first``.
    """

    source: Fraction
    output: Fraction
    lasts: Fraction | None
    first: Fraction
    last: Fraction

    def source_at(self, output: Fraction) -> Fraction:
        """Return the source time at an output time of the ramp."""
        past = output - self.output
        if self.lasts is None or self.first == self.last:
            return self.source + past * self.first
        rise = (self.last - self.first) / (2 * self.lasts)
        return self.source + past * (self.first + past * rise)

    def output_at(self, source: Fraction) -> Fraction:
        """Return the output time that shows a source time, rounded where it is a root."""
        past = source - self.source
        if self.lasts is None or self.first == self.last:
            return self.output + past / self.first
        return self.output + 2 * past / (self.first + self.speed_at(source))

    def speed_at(self, source: Fraction) -> Fraction:
        """Return the speed at a source time of the ramp, rounded where it is a root."""
        if self.lasts is None or self.first == self.last:
            return self.first
        # The square of the speed changes evenly in source time.
        rise = (self.last - self.first) / self.lasts
        square = self.first**2 + 2 * rise * (source - self.source)
        return Fraction(isqrt(int(square * _FINE**2)), _FINE)


@dataclass(frozen=True, slots=True)
class TimeMap:
    """A strictly rising map from output time to source time; both begin at 0.

    Times before the first point, and behind the last one, have the speed of that point.
    """

    ramps: tuple[Ramp, ...]

    @classmethod
    def even(cls, speed: Fraction | int = 1) -> "TimeMap":
        """Return the map of one speed."""
        return cls.through([(Fraction(0), Fraction(speed))])

    @classmethod
    def through(cls, points: Sequence[Point]) -> "TimeMap":
        """Return the map through points: pairs of a source time and the speed there.

        Times do not fall. Two points at one time are a step of the speed.
        """
        source = output = Fraction(0)
        ramps: list[Ramp] = []
        for (begins, first), (ends, last) in pairwise([(source, points[0][1]), *points]):
            if ends > begins:
                lasts = 2 * (ends - begins) / (first + last)
                ramps.append(Ramp(begins, output, lasts, first, last))
                output += lasts
                source = ends
        final = points[-1][1]
        return cls((*ramps, Ramp(source, output, None, final, final)))

    @property
    def speed(self) -> Fraction | None:
        """Return the speed; None if it changes."""
        return self.fastest if len(self._speeds) == 1 else None

    @property
    def fastest(self) -> Fraction:
        """Return the highest speed."""
        return max(self._speeds)

    @property
    def _speeds(self) -> set[Fraction]:
        return {speed for ramp in self.ramps for speed in (ramp.first, ramp.last)}

    def after(self, source: Fraction) -> "TimeMap":
        """Return the map of the source from a time on, which becomes 0."""
        if not source or self.speed is not None:
            return self
        ramp = self._ramp_at(source)
        later = self.ramps[self.ramps.index(ramp) + 1 :]
        ends = [(one.source, one.first) for one in later]
        points = [(Fraction(0), ramp.speed_at(source))]
        for one, (time, first) in zip([ramp, *later], ends, strict=False):
            points += [(time - source, one.last), (time - source, first)]
        return TimeMap.through(points)

    def parts(self, end: Fraction) -> list[tuple[Ramp, Fraction]]:
        """Return the ramps before a source time, each with the time at which it ends."""
        ends = [*(ramp.source for ramp in self.ramps[1:]), end]
        return [
            (ramp, min(after, end))
            for ramp, after in zip(self.ramps, ends, strict=True)
            if ramp.source < end
        ]

    def source(self, output: Fraction) -> Fraction:
        """Return the source time that is shown at an output time."""
        begins = [ramp.output for ramp in self.ramps]
        return self.ramps[max(bisect_right(begins, output) - 1, 0)].source_at(output)

    def output(self, source: Fraction) -> Fraction:
        """Return the output time that shows a source time, exact or within 1e-8 s."""
        return self._ramp_at(source).output_at(source)

    def speed_at(self, source: Fraction) -> Fraction:
        """Return the speed from a source time on."""
        return self._ramp_at(source).speed_at(source)

    def frames(self, source: Fraction, rate: Fraction) -> int:
        """Return how many frames of an output at a rate are before a source time."""
        count = ceil(self.output(source) * rate)
        while self.source(count / rate) < source:
            count += 1
        while count and self.source((count - 1) / rate) >= source:
            count -= 1
        return count

    def _ramp_at(self, source: Fraction) -> Ramp:
        begins = [ramp.source for ramp in self.ramps]
        return self.ramps[max(bisect_right(begins, source) - 1, 0)]
