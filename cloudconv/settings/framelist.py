"""Name source frames by their numbers or by times, such as ``100-104,0:12.48,300``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import floor
from numbers import Integral
from typing import Any

from cloudconv.errors import SettingsError
from cloudconv.messages import short
from cloudconv.settings.numbers import parse_time

LONGEST_ROW = 2
"""The most seconds of frames in a row that are made again."""

Place = int | Fraction
"""A source frame by its number from 0, or by a time in seconds at which it is shown."""

FrameSpan = tuple[Place, Place]
"""Source frames from a first place to a last one, both included."""

_NUMBER = re.compile(r"\d{1,12}", re.ASCII)
_SUCH = "such as 100-104,0:12.48,300"


@dataclass(frozen=True, slots=True)
class FrameList:
    """Source frames whose numbers and times count from the first frame of the input.

    This first frame is at ``zero`` on the source's clock. With a constant ``rate`` the
    times of frames give their numbers.
    """

    spans: tuple[FrameSpan, ...] = ()
    zero: Fraction = Fraction(0)
    rate: Fraction | None = None

    @property
    def needs_counting(self) -> bool:
        """Return whether all frames before must be counted to find a named one."""
        places = chain.from_iterable(self.spans)
        return self.rate is None and any(isinstance(place, int) for place in places)

    def has(self, number: int, begins: Fraction, ends: Fraction) -> bool:
        """Return whether a frame is named; ``number`` counts without a constant rate.

        The source shows the frame from ``begins`` to ``ends`` on its clock.
        """
        if self.rate is not None:
            number = round((begins - self.zero) * self.rate)

        def is_from(place: Place) -> bool:
            if isinstance(place, int):
                return number >= place
            return ends > self.zero + place

        def is_to(place: Place) -> bool:
            if isinstance(place, int):
                return number <= place
            return begins <= self.zero + place

        return any(is_from(first) and is_to(last) for first, last in self.spans)

    def check(self, frames: int, length: Fraction) -> None:
        """Refuse places after the end of the input, spans that fall, and long rows.

        At a variable rate the order of a number and a time, and the length of a row, are
        known only when the frames are.
        """
        for place in chain.from_iterable(self.spans):
            if place >= (frames if isinstance(place, int) else length):
                unit = "frame " if isinstance(place, int) else "the time "
                raise SettingsError(
                    f"replace-after-end: --replace names {unit}{short(float(place))}, and "
                    f"the input has the frames 0 to {frames - 1} and lasts "
                    f"{short(float(length))} s: give earlier frames."
                )
        if self.rate is None:
            return
        begin = end = -2  # of a row of frames; the first one begins another row
        numbers = []
        for first, last in self.spans:
            numbers.append((self._number(first, self.rate), self._number(last, self.rate)))
            _check_order(*numbers[-1], f"{_words(first)}-{_words(last)}")
        for first, last in sorted(numbers):
            if first > end + 1:
                begin = first
            end = max(end, last)
            check_row((end + 1 - begin) / self.rate)

    def _number(self, place: Place, rate: Fraction) -> int:
        if isinstance(place, int):
            return place
        return floor(place * rate)


NO_FRAMES = FrameList()


def check_row(lasts: Fraction) -> None:
    """Refuse to make so many seconds of frames in a row again."""
    if lasts > LONGEST_ROW:
        raise SettingsError(
            f"replace-too-long: --replace names {float(lasts):.2f} s of frames in a "
            f"row, and at most {LONGEST_ROW} s can be made again: cut that part out, or "
            "name fewer frames."
        )


def parse_frames(value: Any) -> tuple[FrameSpan, ...]:
    """Parse source frames: text, or numbers, texts, and pairs of a first and a last place.

    Raises SettingsError for anything else, and for a span that ends before its begin.
    """
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, Integral):
        items = [items]
    if not isinstance(items, Sequence) or not items:
        raise SettingsError(
            f"not-frames: {f'{value!s:.60}'!r} is no list of frames: give one {_SUCH}."
        )
    return tuple(_span(item) for item in items)


def _span(item: Any) -> FrameSpan:
    places = item.split("-") if isinstance(item, str) else item
    if not isinstance(places, Sequence):
        places = [places]
    if len(places) not in (1, 2) or "" in places:
        raise _no_frame(item)
    first, last = _place(places[0]), _place(places[-1])
    if type(first) is type(last):
        _check_order(first, last, f"{item!s:.60}")
    return first, last


def _check_order(first: Place, last: Place, words: str) -> None:
    if last < first:
        raise SettingsError(
            f"frames-fall: {words} names frames that end before they begin: give the "
            "first one first."
        )


def _words(place: Place) -> str:
    return str(place) if isinstance(place, int) else f"{short(float(place))}s"


def _place(value: Any) -> Place:
    if isinstance(value, Fraction):
        return value
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    if ":" in text or text.endswith(("h", "m", "s")):
        return parse_time(text)
    raise _no_frame(value)


def _no_frame(value: Any) -> SettingsError:
    return SettingsError(
        f"not-a-frame: {f'{value!s:.60}'!r} is no frame: give the number of a frame, or a "
        f"time with a colon or a unit, {_SUCH} or 12.48s."
    )
