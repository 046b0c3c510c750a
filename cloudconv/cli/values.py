"""What options take: the words they choose from, and texts that are parsed."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from typing import TypeVar

import typer

from cloudconv.errors import SettingsError
from cloudconv.timeline import parse_factor, parse_rate, parse_time

_Number = TypeVar("_Number", int, float)


class Precision(StrEnum):
    """Number formats of ``--precision``."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Duplicates(StrEnum):
    """What ``--duplicates`` does with repeated frames."""

    KEEP = "keep"
    REFILL = "refill"


class Audio(StrEnum):
    """What ``--audio`` does with the sound, above all that of slow motion."""

    DROP = "drop"
    STRETCH = "stretch"
    COPY = "copy"


class QualityLevel(StrEnum):
    """What ``--quality`` chooses from."""

    BEST = "best"
    FAST = "fast"
    TURBO = "turbo"


class HardwareDecoder(StrEnum):
    """What may decode in the place of the CPU."""

    NONE = "none"
    NVDEC = "nvdec"


class ProgressShown(StrEnum):
    """How ``--progress`` tells how far a run has come."""

    AUTO = "auto"
    JSON = "json"
    OFF = "off"


class FallbackTo(StrEnum):
    """What ``--fallback`` puts in the place of motion that fails."""

    BLEND = "blend"
    OFF = "off"


def rate(text: str) -> Fraction:
    """``60``, ``60000/1001`` or ``59.94``, which means 60000/1001."""
    return _usage(parse_rate, text)


def time(text: str) -> Fraction:
    """Seconds or ``h:mm:ss.s``."""
    return _usage(parse_time, text)


def factor(text: str) -> Fraction:
    """``4``, ``2.5`` or ``5/2``."""
    return _usage(parse_factor, text)


def scene_cut(text: str) -> str | float:
    """``auto``, ``off`` or a threshold."""
    return _word_or(text, ("auto", "off"), _fraction_of_one, "a number from 0 to 1")


def batch(text: str) -> str | int:
    """``auto`` or a count."""
    return _word_or(text, ("auto",), _positive, "a whole number from 1")


def tile(text: str) -> str | int:
    """``auto``, ``off`` or a side in pixels."""
    return _word_or(text, ("auto", "off"), _positive, "a whole number of pixels")


def key_value(text: str) -> tuple[str, str]:
    """``key=value``."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not of the form key=value")
    return key, value


def _usage(parse: Callable[[str], Fraction], text: str) -> Fraction:
    try:
        return parse(text)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from error


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _fraction_of_one(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise ValueError(text)
    return value


def _word_or(
    text: str, words: tuple[str, ...], number: Callable[[str], _Number], accepted: str
) -> str | _Number:
    if text in words:
        return text
    try:
        return number(text)
    except ValueError as error:
        choices = ", ".join([*words, accepted])
        raise typer.BadParameter(f"{text!r} is none of: {choices}") from error
