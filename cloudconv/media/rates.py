"""Find the exact constant rate of time stamps that were rounded to a clock's ticks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudconv.timeline import simplest

# Lengths of a clock's tick, in seconds.
_FINE = Fraction(1, 10_000)  # the longest tick for which equal gaps show the rate exactly
_VERY_FINE = Fraction(1, 200_000)  # with this tick or a shorter one, 33333 µs may mean 1/30 s
_COARSE = Fraction(1, 600)  # the longest tick of an earlier clock, see `constant_rate`
_FIELD, _SLOWEST = Fraction(1, 60), Fraction(1001, 1000)  # seconds of a field, and a longer one
_FEWEST_FILM = 8  # pairs of a picture of two fields and one of three fields, in a row
_JITTER = Fraction(1, 10_000)  # greatest error of a stamp of a common rate, in seconds
# Rates of television and film, in frames per second: n·1000/1001.
_BROADCAST = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 60, 48, 120, 240, 15, 12, 90, 72, 96))


def constant_rate(
    times: Sequence[int] | NDArray[np.int64], time_base: Fraction, hints: Sequence[Fraction] = ()
) -> Fraction | None:
    """Return the constant rate of two or more time stamps in frames per second; None if variable.

    ``times`` are ticks of ``time_base`` seconds. A rate fits if there is an ``offset`` for which
    every frame k is at ``offset + k / rate`` or at most one tick later. In a file copied from
    Matroska or QuickTime, all stamps may be multiples of the earlier clock's tick, which counts
    then. With equal gaps and a tick from ``_VERY_FINE`` (excluded) to ``_FINE``, the rate follows
    exactly from the gaps. Otherwise the first rate that fits is returned: one of the header's rates
    (``hints``), a whole number, n·1000/1001, the fraction with the smallest denominator, then one
    of the first three kinds that fits to within 0.1 ms, which cameras write, then that of equal
    gaps. Stamps that do not increase give None, and uneven stamps if a frame of the likeliest rate
    lasts one or two ticks.
    """
    ticks = np.asarray(times, np.int64)
    ticks = ticks - ticks[0]
    gaps = np.diff(ticks)
    least, most = int(gaps.min()), int(gaps.max())
    if least <= 0:
        return None
    if least == most and _VERY_FINE < time_base <= _FINE:
        return 1 / (least * time_base)
    common = int(np.gcd.reduce(gaps))
    tick = Fraction(common if least != most and common * time_base <= _COARSE else 1)
    span, count = int(ticks[-1]), len(ticks) - 1
    for slack in (tick, _JITTER / time_base):
        if slack < tick or most - least > 2 * slack or span <= slack:
            continue
        low, high = (count / ((span + s) * time_base) for s in (slack, -slack))
        for rate in _candidates(low, high, hints):
            step = 1 / (rate * time_base)
            if step.denominator == 1 and step <= 2 * slack:
                # Stamps of whole ticks need no rounding: an uneven gap lacks a frame, as in AVI.
                return rate if least == most else None
            if _fits(ticks, step, slack):
                return rate
        rate = simplest(low, high)
        if slack == tick and _fits(ticks, 1 / (rate * time_base), tick):
            return rate
    return 1 / (least * time_base) if least == most else None


class Film(NamedTuple):
    """A part of a video that was filmed at even times; in seconds.

    The file shows its pictures for two and three fields of 1/60 s in turn: soft telecine.
    """

    first: Fraction  # the time of the first picture in the file
    last: Fraction
    lasts: Fraction  # the even duration of a picture


def film_parts(times: NDArray[np.int64], time_base: Fraction) -> tuple[Film, ...]:
    """Return the parts that are film, from all times in ticks of ``time_base`` seconds."""
    if time_base > _COARSE:
        return ()
    gaps, length = np.diff(times), 5 * _FIELD / time_base
    pairs = gaps[1:] + gaps[:-1]
    # The difference between three gaps of two fields and two gaps of three fields, in ticks.
    off = 3 * np.minimum(gaps[1:], gaps[:-1]) - 2 * np.maximum(gaps[1:], gaps[:-1])
    least, most = math.floor(length) - 1, math.ceil(length * _SLOWEST) + 1
    is_film = (abs(off) <= 5) & (least <= pairs) & (pairs <= most)
    edges = np.flatnonzero(np.diff(is_film, prepend=False, append=False)).tolist()
    parts = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= _FEWEST_FILM:
            count = (end + 1 - begin) // 2 * 2
            first, even, last = (int(times[k]) * time_base for k in (begin, begin + count, end + 1))
            parts.append(Film(first, last, (even - first) / count))
    return tuple(parts)


def filmed(parts: Sequence[Film], time: Fraction) -> Fraction:
    """Return the even time of a picture that is film; for any other, its ``time`` in the file."""
    number = bisect_right(parts, time, key=lambda part: part.first)
    for part in parts[max(number - 1, 0) : number]:
        if time <= part.last:
            return part.first + round((time - part.first) / part.lasts) * part.lasts
    return time


def film_rate(
    times: NDArray[np.int64], time_base: Fraction, hints: Sequence[Fraction]
) -> Fraction | None:
    """Return the rate of film if all stamps are within a field of it; None for a change of rate."""
    rates = (hint * part for hint in hints for part in (Fraction(4, 5), Fraction(2, 5)))
    rate = next((rate for rate in rates if abs(rate - 24) < Fraction(1, 10)), _BROADCAST[0])
    earliest, latest = _distances(times - times[0], 1 / (rate * time_base))
    return rate if latest - earliest <= 2 * _FIELD / time_base else None


def _candidates(low: Fraction, high: Fraction, hints: Sequence[Fraction]) -> Iterator[Fraction]:
    for hint in hints:  # such as 29.97, which rounds 30000/1001
        exact = [rate for rate in _BROADCAST if abs(hint / rate - 1) < Fraction(1, 100_000)]
        yield from (rate for rate in (*exact, hint) if low <= rate <= high)
    for whole in range(max(1, math.ceil(low)), min(math.floor(high), math.ceil(low) + 3) + 1):
        yield Fraction(whole)
    for rate in _BROADCAST:
        if low <= rate <= high:
            yield rate


def _fits(ticks: NDArray[np.int64], step: Fraction, slack: Fraction) -> bool:
    """Return whether some offset is at most ``slack`` before every stamp less ``k * step``."""
    earliest, latest = _distances(ticks, step)
    return latest - earliest <= slack


def middle_distance(
    times: Sequence[int] | NDArray[np.int64], time_base: Fraction, rate: Fraction
) -> Fraction:
    """Return the middle distance in seconds of the stamps from ``times[0] + k / rate``."""
    ticks = np.asarray(times, np.int64)
    return sum(_distances(ticks - ticks[0], 1 / (rate * time_base))) * time_base / 2


def _distances(ticks: NDArray[np.int64], step: Fraction) -> tuple[Fraction, Fraction]:
    """Return the least and the greatest distance of the stamps from ``k * step``, in ticks."""
    count, span = len(ticks), int(ticks[-1])
    fits = max(span * step.denominator, count * step.numerator) < 2**62
    kind: Any = np.int64 if fits else object  # Python's integers have no limit, but are slow
    stamps, numbers = ticks.astype(kind), np.arange(count).astype(kind)
    distances = stamps * step.denominator - numbers * step.numerator
    least, most = int(distances.min()), int(distances.max())
    return Fraction(least, step.denominator), Fraction(most, step.denominator)
