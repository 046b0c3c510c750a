"""Find the exact times of a video's frames in the time stamps of its packets.

A header may be wrong, and time stamps are rounded to the ticks of a clock, or missing.
`timing_of` has a function for each case.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from cloudconv.media.frames.clock import Restart
from cloudconv.messages import rate_name
from cloudconv.settings.numbers import simplest

# Lengths of a clock's tick, in seconds.
_EXACT_TICK = Fraction(
    1, 10_000
)  # the longest tick for which equal gaps show the rate exactly
# With this tick or a shorter one, 33333 µs may mean 1/30 s.
_MICROSECOND_TICK = Fraction(1, 200_000)
_EARLIER_TICK = Fraction(
    1, 600
)  # the longest tick of an earlier clock, see `constant_rate`
# Seconds of a field, and a longer one.
_FIELD = Fraction(1, 60)
_SLOWEST = Fraction(1001, 1000)
_FEWEST_FILM = 8  # pairs of a picture of two fields and one of three fields, in a row
_JITTER = Fraction(1, 10_000)  # greatest error of a stamp of a common rate, in seconds
# Rates of television and film, in frames per second: n·1000/1001.
_BROADCAST = tuple(
    Fraction(n * 1000, 1001) for n in (24, 30, 60, 48, 120, 240, 15, 12, 90, 72, 96)
)

_LONG_GAP = 2  # a last frame that lasts so many times as long as the others is intended
_LONGEST_LAST = 600  # seconds; a longer last frame is an error of the file
# Packets for each one without a time, from which on the others give the times of the
# frames.
_FEW_UNSTAMPED = 10
_UNKNOWN_RATE = Fraction(25)  # of frames without times and rate, in frames per second
# Latest times of the first seconds, among which frames stored out of order are absent.
UNSURE = 24
_ROUNDED = Fraction(1, 1000)  # seconds; tables and players print times with three decimals
_FAR_FUTURE = 10**9  # seconds; the assumed length of an input that is still arriving


class Film(NamedTuple):
    """A part of a video that was filmed at even times; in seconds.

    The file shows its pictures for two and three fields of 1/60 s in turn: soft telecine.
    """

    first: Fraction  # the time of the first picture in the file
    last: Fraction
    lasts: Fraction  # the even duration of a picture


class Key(NamedTuple):
    """A key frame: its time, and the time by which a seek finds it, in ticks."""

    pts: int
    found_by: int


@dataclass(frozen=True, slots=True)
class Stamps:
    """The time stamps of a video's packets, in ticks of ``tick`` seconds."""

    tick: Fraction
    times: NDArray[np.int64]  # of the visible frames, without repeated ones, sorted
    packets: int
    shown: int  # the packets with a visible frame
    durations: frozenset[int]  # of the packets
    last_duration: int  # of the packet with the latest time
    is_rate_guessed: bool  # by FFmpeg, because the header states none
    unstamped: int = 0  # packets with a visible frame without a time
    first: int | None = None  # the time of the first picture that can be decoded
    header_rates: tuple[Fraction, ...] = ()
    end: int | None = None  # of the track by the index of the file
    is_cut_off: bool = False  # the index lists more packets
    # Of an input that is still arriving, only the first packets are known.
    is_brief: bool = False
    ends: bool = True  # whether the last packets are known
    # The time of the file's first frame if only frames around a part are known.
    begin: int | None = None
    in_order: bool = False  # see `Timing`
    restarts: tuple[Restart, ...] = ()
    keys: tuple[Key, ...] = ()
    # Pictures of an animation that get a longer duration, see `VideoClock`.
    hurried: int = 0
    length: Fraction | None = None  # of the track in seconds by its tags
    late: int = 0  # packets that are left out, see `VideoClock`

    @property
    def early(self) -> int:
        """Return the number of frames before the first one that can be decoded."""
        if self.first is None or self.in_order:
            return 0
        return int((self.times < self.first).sum())


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the frames, in seconds on the source's own clock."""

    start: Fraction  # the time of the first frame
    frames: int  # that a player shows; an edit list may hide others
    # Constant, with frame k at ``start + k / rate``; None if variable.
    rate: Fraction | None
    last_duration: Fraction  # of the last frame
    time_base: Fraction  # the container's tick
    end: Fraction  # of the last frame
    # Whether the file has usable presentation times. If not, and the file is ``in_order``,
    # the k-th frame has the k-th time of the packets. Otherwise the rate gives the times.
    has_timestamps: bool = True
    in_order: bool = False
    restarts: tuple[Restart, ...] = ()  # of the clock
    # Of all frames but the last, if only that is longer.
    rate_before_last: Fraction | None = None
    film: tuple[Film, ...] = ()  # the parts that are film, whose pictures get even times
    # The input still arrives, so ``frames`` and ``end`` have no meaning.
    open_ended: bool = False
    # Gaps between two frames; None at a constant rate, or if there is one frame.
    median_gap: Fraction | None = None
    shortest_gap: Fraction | None = None
    longest_gap: tuple[Fraction, Fraction] | None = None  # the times of its two frames
    # The middle distance of the time stamps from ``start + k / gap_rate``. With a coarse
    # clock, the first stamp may be up to a tick earlier or later than all others.
    lag: Fraction = Fraction(0)
    keys: tuple[Key, ...] = ()  # some of the key frames, in order
    # Only the first frames and those around a part were read: the number of all frames is
    # approximate.
    is_part: bool = False
    # The stamps of the frames that are known at a variable rate.
    ticks: Any = field(default=(), compare=False, repr=False)

    @property
    def in_words(self) -> str:
        """Return the rate for people."""
        return "a variable rate" if self.rate is None else f"{rate_name(self.rate)} fps"

    @property
    def usual_rate(self) -> Fraction:
        """Return the constant rate, or else that of the median gap between frames."""
        return self.rate or 1 / (self.median_gap or self.last_duration)

    @property
    def fastest_rate(self) -> Fraction | None:
        """Return the constant rate, or else that of the shortest frame; None if unknown."""
        if self.rate is not None or self.shortest_gap is None:
            return self.rate
        return 1 / min(self.shortest_gap, self.last_duration)

    def at(self, seconds: Fraction) -> Fraction:
        """Return the time on the source's clock that a user means, from the first frame.

        A printed time is rounded: less than a millisecond, and at most a quarter of a
        frame, beside the begin of a frame, or the end of the last one, it means that begin
        or end.
        """
        time = self.start + seconds
        reach = min(_ROUNDED, 1 / (4 * self.usual_rate))
        known = ((abs(begin - time), begin) for begin in self._around(time))
        return min((one for one in known if one[0] < reach), default=(reach, time))[1]

    def span(
        self, start: Fraction | None = None, end: Fraction | None = None
    ) -> tuple[Fraction, Fraction]:
        """Return the bounds of a part on the source's clock, none after the last frame.

        ``start`` and ``end`` are in seconds from the first frame; None is no bound.
        """
        last = self.end if end is None else min(self.end, self.at(end))
        return self.at(start or Fraction(0)), last

    def next_frame(self, time: Fraction) -> Fraction:
        """Return the time of the first frame from ``time`` on, or the end of the last one.

        The result is ``time`` itself where the frames are not known.
        """
        return min((begin for begin in self._around(time) if begin >= time), default=time)

    def _around(self, time: Fraction) -> list[Fraction]:
        """Return the times of frames before and after a time, as far as they are known."""
        last = self.end - self.last_duration
        if time > last:
            return [last, self.end]
        rate = self.gap_rate
        if rate is not None:
            number = math.floor((time - self.start) * rate)
            return [self.start + k / rate for k in (number, number + 1)]
        index = bisect_left(self.ticks, time / self.time_base)
        near = self.ticks[max(index - 2, 0) : index + 2]
        return [filmed(self.film, int(tick) * self.time_base) for tick in near]

    @property
    def gap_rate(self) -> Fraction | None:
        """Return the rate of all frames but the last.

        The result is None if the gaps between them differ.
        """
        return self.rate or self.rate_before_last

    def second_field(self, time: Fraction, following: Fraction | None) -> Fraction:
        """Return the time of the second field of the picture at ``time``.

        A field lasts half as long as a picture usually does, but at a variable rate at most
        half as long as its own picture. ``following`` is the time of the next picture, None
        for the last.
        """
        if self.gap_rate is not None:
            return time + 1 / (2 * self.gap_rate)
        length = self.last_duration if following is None else following - time
        ticks = (self.end - self.start) / max(self.frames, 1) // self.time_base
        return time + min(length, max(ticks, 1) * self.time_base) / 2

    def of_fields(self) -> Self:
        """Return the times of two frames for each picture, one for each field."""
        last = self.second_field(Fraction(0), None)
        return replace(
            self,
            frames=2 * self.frames,
            rate=None if self.rate is None else 2 * self.rate,
            last_duration=self.last_duration - last,
            time_base=self.time_base / 2,
            rate_before_last=None
            if self.rate_before_last is None
            else 2 * self.rate_before_last,
            median_gap=None if self.median_gap is None else self.median_gap / 2,
            # A field lasts shorter than its picture, but not always by half.
            shortest_gap=None,
            ticks=2 * self.ticks,
        )


def timing_of(stamps: Stamps, picture_rate: Fraction | None) -> Timing:
    """Return the times of all frames.

    ``picture_rate`` is that of a picture without a duration.
    """
    times = stamps.times
    if stamps.first is not None and not stamps.in_order:
        # The recording starts mid-stream: frames before the first key frame cannot be
        # decoded.
        times = times[times >= stamps.first]
    if not stamps.ends:
        times = times[:-UNSURE]
    stamps = replace(stamps, times=times)
    is_timed = len(times) > 1 or stamps.shown == len(times) == 1
    if is_timed and stamps.unstamped * _FEW_UNSTAMPED <= stamps.shown:
        # Each frame without a time gets one in the middle of one of the longest gaps.
        gaps = np.diff(times)
        longest = np.argsort(gaps)[len(gaps) - min(stamps.unstamped, len(gaps)) :]
        times = np.union1d(times, times[longest] + gaps[longest] // 2)
        timing = _measured(stamps, times, picture_rate)
    else:
        timing = _counted(stamps, times)
    about = _gaps(stamps, timing) | {"restarts": stamps.restarts, "keys": stamps.keys}
    timing = replace(timing, in_order=stamps.in_order, **about)
    if stamps.is_brief:
        end = timing.start + _FAR_FUTURE
        timing = replace(timing, end=end, rate_before_last=None, open_ended=True)
    if stamps.begin is not None:
        timing = _of_whole(stamps, timing, stamps.begin * stamps.tick)
    return timing


def _of_whole(stamps: Stamps, timing: Timing, start: Fraction) -> Timing:
    """Return the timing of all frames, of which those around a part are known."""
    last = timing.end - timing.last_duration
    if timing.gap_rate is not None:
        last = start + round((last - start) * timing.gap_rate) / timing.gap_rate
    # The length that the file states may be that of its sound.
    stated = start if stamps.ends else stamps.length or start
    end = max(last + timing.last_duration, stated)
    frames = round((end - start) * timing.usual_rate)
    return replace(timing, start=start, end=end, frames=frames, is_part=True)


def _counted(stamps: Stamps, times: NDArray[np.int64]) -> Timing:
    """Return the times of frames that have an order and a rate, but no times.

    Elementary streams and some program streams are such.
    """
    duration = next(iter(stamps.durations)) if len(stamps.durations) == 1 else 0
    stated = next(iter(stamps.header_rates), _UNKNOWN_RATE)
    rate = 1 / (duration * stamps.tick) if duration else stated
    start = (int(times[0]) if len(times) else stamps.first or 0) * stamps.tick
    end = start + stamps.shown / rate
    return Timing(start, stamps.shown, rate, 1 / rate, stamps.tick, end, False)


def _measured(
    stamps: Stamps, times: NDArray[np.int64], picture_rate: Fraction | None
) -> Timing:
    tick = stamps.tick
    count = len(times)
    constant, film = _rate(stamps, times, picture_rate)
    lasts = _last_duration(stamps, times) * tick
    start = int(times[0]) * tick
    last = int(times[-1]) * tick if constant is None else start + (count - 1) / constant
    before = constant
    even = None
    lag = Fraction(0)
    if constant is not None and (count == 1 or not _is_long(lasts, constant, tick)):
        before = None
        even = constant
        lasts = 1 / constant
        lag = sum(_distances(times - times[0], 1 / (constant * tick))) * tick / 2
    about: Any = {
        "rate_before_last": before,
        "film": film,
        "lag": lag,
        "ticks": times if constant is None else (),
    }
    return Timing(
        start, count, even, lasts, tick, last + lasts, not stamps.in_order, **about
    )


def _rate(
    stamps: Stamps, times: NDArray[np.int64], picture_rate: Fraction | None
) -> tuple[Fraction | None, tuple[Film, ...]]:
    """Return the rate of all frames but the last, or None, and the parts of film."""
    hints = stamps.header_rates
    if len(times) == 1 and (picture_rate is not None or not stamps.last_duration):
        return picture_rate or next((r for r in hints if 1 <= r <= 1000), _UNKNOWN_RATE), ()
    stamped = times if len(times) > 1 else np.array([0, stamps.last_duration])
    if stamps.is_rate_guessed:  # but equal gaps were written exactly
        steps = set(np.diff(stamped).tolist())
        hints = (1 / (steps.pop() * stamps.tick),) if len(steps) == 1 else ()
    rate = constant_rate(stamped, stamps.tick, hints)
    if rate is not None and stamps.begin is not None:
        number = int(times[0] - stamps.begin) * stamps.tick * rate
        if abs(number - round(number)) > stamps.tick * rate:
            rate = None  # there is a gap before the part
    if rate is not None or stamps.is_brief:
        return rate, ()
    film = film_parts(times, stamps.tick)
    return film_rate(times, stamps.tick, hints) if film else None, film


def _is_long(lasts: Fraction, rate: Fraction, tick: Fraction) -> bool:
    """Return whether the last frame of an even video lasts longer on purpose.

    ``tick`` is what the file rounds times to: two frames may last one tick less, if that
    differs from one frame by more than a tick.
    """
    if lasts > 1 / rate + tick:
        lasts += tick
    return lasts >= _LONG_GAP / rate


def _last_duration(stamps: Stamps, times: NDArray[np.int64]) -> int:
    """Return the duration of the last frame in ticks; 0 for a single one without duration.

    The duration is the first possible one of: the rest of the track's length, that of the
    packet, and the median of the others.
    """
    possible = [stamps.last_duration]
    if stamps.length and stamps.ends:
        # Matroska rarely states a frame's duration, so the length of the track gives the
        # duration.
        left = int(stamps.length / stamps.tick) - int(times[-1])
        if left > _LONG_GAP * (stamps.last_duration or 1):
            possible.insert(0, left)
    if stamps.end is not None:
        # The last packet in decode order is not the last one shown, so its duration may
        # belong to another frame. The length of the track gives the right duration.
        possible.insert(0, stamps.end - int(times[-1]))
    gaps = np.sort(np.diff(times))
    least, usual = (int(gaps[0]) // 4, int(gaps[len(gaps) // 2])) if len(gaps) else (0, 0)
    most = int(_LONGEST_LAST / stamps.tick)
    return next((ticks for ticks in possible if max(least, 1) <= ticks <= most), usual)


def _gaps(stamps: Stamps, timing: Timing) -> dict[str, Any]:
    """Return the fields about gaps between the frames of a variable rate."""
    times = stamps.times
    tick = stamps.tick
    if timing.rate is not None or len(times) < 2:
        return {}
    gaps = np.diff(times)
    at = int(gaps.argmax())
    return {
        "median_gap": int(np.sort(gaps)[len(gaps) // 2]) * tick,
        "shortest_gap": int(gaps.min()) * tick,
        "longest_gap": (int(times[at]) * tick, int(times[at + 1]) * tick),
    }


def constant_rate(
    times: Sequence[int] | NDArray[np.int64],
    time_base: Fraction,
    hints: Sequence[Fraction] = (),
) -> Fraction | None:
    """Return the rate of two or more time stamps in frames per second; None if variable.

    ``times`` are ticks of ``time_base`` seconds. A rate fits if there is an ``offset`` for
    which every frame k is at ``offset + k / rate`` or at most one tick later. In a file
    copied from Matroska or QuickTime, all stamps may be multiples of the earlier clock's
    tick, which counts then. With equal gaps and a tick from ``_MICROSECOND_TICK``
    (excluded) to ``_EXACT_TICK``, the rate follows exactly from the gaps. Otherwise the
    first rate that fits is returned: one of the header's rates (``hints``), a whole number
    near the mean rate, n·1000/1001, the fraction with the smallest denominator, then one of
    the first three kinds that fits to within 0.1 ms, which cameras write, then that of
    equal gaps. Stamps that do not increase give None, and uneven stamps if a frame of the
    likeliest rate lasts one or two ticks.
    """
    ticks = np.asarray(times, np.int64)
    ticks = ticks - ticks[0]
    gaps = np.diff(ticks)
    least, most = int(gaps.min()), int(gaps.max())
    if least <= 0:
        return None
    if least == most and _MICROSECOND_TICK < time_base <= _EXACT_TICK:
        return 1 / (least * time_base)
    common = int(np.gcd.reduce(gaps))
    tick = Fraction(common if least != most and common * time_base <= _EARLIER_TICK else 1)
    span = int(ticks[-1])
    count = len(ticks) - 1
    for slack in (tick, _JITTER / time_base):
        if slack < tick or most - least > 2 * slack or span <= slack:
            continue
        low, high = (count / ((span + s) * time_base) for s in (slack, -slack))
        for rate in _candidates(low, high, hints):
            step = 1 / (rate * time_base)
            if step.denominator == 1 and step <= 2 * slack:
                # Stamps of whole ticks need no rounding: an uneven gap lacks a frame, as in
                # AVI.
                return rate if least == most else None
            if _fits(ticks, step, slack):
                return rate
        rate = simplest(low, high)
        if slack == tick and _fits(ticks, 1 / (rate * time_base), tick):
            return rate
    return 1 / (least * time_base) if least == most else None


def film_parts(times: NDArray[np.int64], time_base: Fraction) -> tuple[Film, ...]:
    """Return the parts that are film, from all times in ticks of ``time_base`` seconds."""
    if time_base > _EARLIER_TICK:
        return ()
    gaps = np.diff(times)
    length = 5 * _FIELD / time_base
    pairs = gaps[1:] + gaps[:-1]
    # The difference between three gaps of two fields and two gaps of three fields, in
    # ticks.
    off = 3 * np.minimum(gaps[1:], gaps[:-1]) - 2 * np.maximum(gaps[1:], gaps[:-1])
    least = math.floor(length) - 1
    most = math.ceil(length * _SLOWEST) + 1
    is_film = (abs(off) <= 5) & (least <= pairs) & (pairs <= most)
    edges = np.flatnonzero(np.diff(is_film, prepend=False, append=False)).tolist()
    parts = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= _FEWEST_FILM:
            count = (end + 1 - begin) // 2 * 2
            first, even, last = (
                int(times[k]) * time_base for k in (begin, begin + count, end + 1)
            )
            parts.append(Film(first, last, (even - first) / count))
    return tuple(parts)


def filmed(parts: Sequence[Film], time: Fraction) -> Fraction:
    """Return the even time of a picture that is film.

    Any other picture keeps its ``time`` in the file.
    """
    number = bisect_right(parts, time, key=lambda film: film.first)
    if number and time <= (film := parts[number - 1]).last:
        return film.first + round((time - film.first) / film.lasts) * film.lasts
    return time


def film_rate(
    times: NDArray[np.int64], time_base: Fraction, hints: Sequence[Fraction]
) -> Fraction | None:
    """Return the rate of film if all stamps are within a field of it.

    The result is None for a change of rate.
    """
    shares = (Fraction(4, 5), Fraction(2, 5))
    rates = (hint * share for hint, share in product(hints, shares))
    rate = next((rate for rate in rates if abs(rate - 24) < Fraction(1, 10)), _BROADCAST[0])
    fits = _fits(times - times[0], 1 / (rate * time_base), 2 * _FIELD / time_base)
    return rate if fits else None


def _candidates(
    low: Fraction, high: Fraction, hints: Sequence[Fraction]
) -> Iterator[Fraction]:
    for hint in hints:  # such as 29.97, which rounds 30000/1001
        exact = [rate for rate in _BROADCAST if abs(hint / rate - 1) < Fraction(1, 100_000)]
        yield from (rate for rate in (*exact, hint) if low <= rate <= high)
    mean = 2 * low * high / (low + high)
    near = (Fraction(round(mean) + by) for by in (0, 1, -1, 2, -2))
    yield from (rate for rate in near if rate >= 1 and low <= rate <= high)
    yield from (rate for rate in _BROADCAST if low <= rate <= high)


def _fits(ticks: NDArray[np.int64], step: Fraction, slack: Fraction) -> bool:
    """Return whether an offset is at most ``slack`` before all stamps less ``k * step``."""
    earliest, latest = _distances(ticks, step)
    return latest - earliest <= slack


def _distances(ticks: NDArray[np.int64], step: Fraction) -> tuple[Fraction, Fraction]:
    """Return the stamps' least and greatest distances from ``k * step``, in ticks."""
    span = int(ticks[-1])
    fits = max(span * step.denominator, len(ticks) * step.numerator) < 2**62
    # Python's integers have no limit, but are slow.
    kind: Any = np.int64 if fits else object
    numbers = np.arange(len(ticks)).astype(kind)
    distances = ticks.astype(kind) * step.denominator - numbers * step.numerator
    least, most = int(distances.min()), int(distances.max())
    return Fraction(least, step.denominator), Fraction(most, step.denominator)
