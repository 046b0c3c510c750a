"""Parse parts of clips, written after a path as fractions of the clip's length."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fractions import Fraction

from cloudconv.errors import SettingsError

Span = tuple[Fraction, Fraction]

WHOLE: tuple[Span, ...] = ((Fraction(0), Fraction(1)),)

HELD_BACK: tuple[Span, ...] = tuple(
    (Fraction(a, 100), Fraction(b, 100)) for a, b in ((30, 36), (64, 70), (94, 100))
)
"""Parts of each clip to validate on, if no others were given."""

HELD_LAST: tuple[Span, ...] = ((Fraction(82, 100), Fraction(1)),)
"""The same length in one part, for clips in which three parts would be too short for a window."""


def parse_spans(text: str) -> tuple[Span, ...]:
    """Parse one part, ``0:0.75``, or several, ``0:0.3,0.5:1``."""
    try:
        parts = (part.split(":") for part in text.split(","))
        spans = tuple((Fraction(begin or 0), Fraction(end or 1)) for begin, end in parts)
        edges = [edge for span in spans for edge in span]
        if edges != sorted(edges) or edges[0] < 0 or edges[-1] > 1 or any(a == b for a, b in spans):
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(
            f"not-a-part: {text!r} is no part of a clip: give fractions of its length from 0 to "
            "1, such as 0:0.75, or several, such as 0:0.3,0.5:1."
        ) from error
    return spans


def without(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the parts of a clip that are outside of ``spans``."""
    edges = [Fraction(0), *(edge for span in spans for edge in span), Fraction(1)]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


def split_path(text: str) -> tuple[str, str | None, int | None]:
    """Split ``clips[0:0.75]@480`` into path, part and size; None for a missing part or size.

    The name of an existing file or folder is not split.
    """
    match = re.fullmatch(r"(.+?)(?:\[([\d.,:/]+)\])?(?:@(\d+))?", text, re.DOTALL)
    # Unlike Path.exists, this is False for a text that is too long for a file.
    if match is None or os.path.exists(text):
        return text, None, None
    return match[1], match[2], int(match[3]) if match[3] else None
