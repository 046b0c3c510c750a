"""Parse rates, factors, times and speeds of options exactly, and write rates.

All are Fractions, never floats. A number that was rounded means the exact one near it.
"""

import re
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

from cloudconv.errors import SettingsError
from cloudconv.messages import short
from cloudconv.timemap import LEAST_SPEED, MOST_SPEED, Point

_LONGEST_NUMBER = 60  # characters
MOST = 1_000_000_000  # the largest number of an option without a limit of its own
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+|\d+/\d+", re.ASCII)
_UNITS = re.compile(
    r"(?=.)(?:(\d{1,6}(?:\.\d{1,40})?) ?h ?)?(?:(\d{1,8}(?:\.\d{1,40})?) ?m ?)?"
    r"(?:(\d{1,12}(?:\.\d{1,40})?) ?s)?",
    re.ASCII,
)
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2}(?:\.\d{1,40})?)", re.ASCII)


def parse_rate(value: Fraction | float | str) -> Fraction:
    """Parse a frame rate: ``60``, ``12.5``, ``60000/1001``, or a rounded NTSC rate.

    An NTSC rate is a multiple of 12 or 15 frames per second times 1000/1001. A decimal
    number with at least two places that equals such a rate after rounding means the exact
    rate: 23.976 and 23.98 are 24000/1001. A number with more than nine places means the
    simplest fraction near it. Raises SettingsError for anything but a number above 0.
    """
    rate = _ratio(value, "a frame rate", "60, 59.94 or 60000/1001")
    _, point, places = str(value).strip().partition(".")
    if point and not isinstance(value, Fraction) and len(places) >= 2:
        whole = round(rate * 1001 / 1000)
        exact = Fraction(whole * 1000, 1001)
        if (whole % 12 == 0 or whole % 15 == 0) and round(exact, len(places)) == rate:
            return exact
    return rate


def parse_factor(value: Fraction | float | str) -> Fraction:
    """Parse a factor of frame rate or of slow motion, above 0: ``4``, ``2.5``, ``5/2``."""
    return _ratio(value, "a factor", "2, 4 or 2.5")


def parse_time(value: Fraction | float | str) -> Fraction:
    """Parse seconds (``12.5``, ``1001/24``), units (``1m30s``) or a clock (``1:02:03.5``).

    Raises SettingsError for anything else.
    """
    time = _number(value)
    text = str(value).strip()
    match = _UNITS.fullmatch(text) or _CLOCK.fullmatch(text)
    if time is None and match is not None:
        hours, minutes, seconds = (Fraction(text or 0) for text in match.groups())
        if match.re is _UNITS or (seconds < 60 and (minutes < 60 or not hours)):
            time = hours * 3600 + minutes * 60 + seconds
    if time is None or time < 0:
        raise SettingsError(
            f"not-a-time: {f'{value!s:.60}'!r} is not a time: give seconds (12.5), units "
            "(1m30s) or hours:minutes:seconds (1:02:03)."
        )
    return time


def parse_speed(value: Any) -> tuple[Point, ...]:
    """Parse points of a map: ``0=1,4=1,4=0.25,6=1``, or pairs of a time and a speed.

    Raises SettingsError for anything else, for times that fall, and for a speed outside of
    1/100 to 100.
    """
    such = "such as 0=1,4=0.25,6=1 (time=speed)"
    pairs = value
    if isinstance(value, str):
        pairs = [part.split("=") for part in value.split(",")]
    points: list[Point] = []
    try:
        for time, speed in pairs:
            points.append((parse_time(time), _ratio(speed, "a speed", "0.25 or 2")))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"not-a-speed: {f'{value!s:.60}'!r} is no list of speeds: give one {such}."
        ) from error
    if not points:
        raise SettingsError(f"not-a-speed: No speed is given: give one {such}.")
    for _, speed in points:
        if not LEAST_SPEED <= speed <= MOST_SPEED:
            raise SettingsError(
                f"speed-out-of-range: A speed must be from {LEAST_SPEED} to {MOST_SPEED}, "
                f"got {speed}."
            )
    for (earlier, _), (later, _) in pairwise(points):
        if later < earlier:
            raise SettingsError(
                "times-fall: The times of speeds must not fall, got "
                f"{short(float(later))} s after {short(float(earlier))} s: sort them."
            )
    return tuple(points)


def _ratio(value: Fraction | float | str, kind: str, such: str) -> Fraction:
    """Return a number above 0 as :func:`_number` does; a long decimal as files store it."""
    number = _number(value)
    if number is None or number <= 0:
        raise SettingsError(
            f"not-a-number: {f'{value!s:.60}'!r} is not {kind}: give one such as {such}."
        )
    return (
        number
        if isinstance(value, Fraction) or number.denominator <= 10**9
        else _near(number)
    )


def _number(value: Fraction | float | str) -> Fraction | None:
    """Return the exact value of a whole number, a plain decimal or a quotient.

    A float with at most nine decimal places is that decimal. Any other float, such as ``1 /
    3`` and ``0.1 + 0.2``, is the result of a computation: its value is the simplest
    fraction that differs by at most 5e-11, so the time of a frame is exact again. None
    means that the value has another form.
    """
    if isinstance(value, Fraction):
        return value
    text = str(value).strip()
    if isinstance(value, float) and not re.fullmatch(r"\d+\.\d{1,9}", text):
        if not 0 <= value <= MOST:  # also if not a number
            return None
        return _near(Fraction(value))
    if (
        len(text) > _LONGEST_NUMBER
        or not _NUMBER.fullmatch(text)
        or re.search(r"/0+$", text)
    ):
        return None
    number = Fraction(text.rstrip("."))
    return number if number <= MOST else None


def _near(number: Fraction) -> Fraction:
    span = min(number, Fraction(1)) / (2 * 10**10)
    return simplest(number - span, number + span)


def simplest(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction from ``low`` (at least 0) to ``high`` of smallest denominator."""
    whole = ceil(low)
    if whole <= high:
        return Fraction(whole)
    return whole - 1 + 1 / simplest(1 / (high - whole + 1), 1 / (low - whole + 1))
