"""Write to the standard streams, and format numbers, tables and fields for people."""

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from types import SimpleNamespace
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.messages import amount, clock, plain, rate_name

closed_streams: set[str] = set()
"""The names in :mod:`sys` of the streams that were closed when the command started."""


def replace_closed() -> None:
    """Open each closed standard stream on the null device.

    The next opened file would otherwise get the stream's number, and messages of libraries.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            closed_streams.add(name)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: ``number``
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Escape characters of file names and help texts that a Windows code page lacks.
        sys.stdout.reconfigure(errors="backslashreplace")


messages = SimpleNamespace(as_objects=False)
"""The form of all lines on stderr: text, or with ``--progress json`` objects."""


def print_message(line: str, kind: str = "note", /, **facts: Any) -> None:
    """Write one line to stderr, wrapped between words on a terminal.

    Errors in writing are ignored. If lines are JSON, the object has the ``type`` ``kind``,
    and the ``facts`` in place of the line, if there are some.
    """
    if messages.as_objects:
        print_object(kind, **(facts or {"text": line}))
        return
    line = plain(line).replace("\n", "\\n")
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    _write(line)


def named(text: str, name: str | None) -> str:
    """Return a text after the name that it is about, unless the text has the name."""
    return text if name is None or name in text else f"{name}: {text}"


def print_object(kind: str, /, **values: Any) -> None:
    """Write a JSON object with the key ``type`` to stderr as one line.

    Errors in writing are ignored.
    """
    _write(json.dumps({"type": kind, **values}, allow_nan=False))


def _write(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def print_result(text: str) -> None:
    """Write a result to stdout and flush; a closed pipe raises ``BrokenPipeError``."""
    if "stdout" in closed_streams:
        raise OutputError("stdout-closed: standard output is closed, so nothing is printed")
    try:
        sys.stdout.write(plain(text) + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Use the null device: the interpreter flushes once more at its end, and must not
        # fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(
            f"stdout-not-writable: standard output cannot be written: {error.strerror}"
        ) from error


_LABELS = {
    "arbitrary_timestep": "any timestep",
    "at": "new frames from",
    "half_precision": "16 bits",
    "bits_per_second": "bit rate",
    "source_timing": "source rate",
    "why": "reason",
    "gain": "gain over the naive picture",
    "gained": "gained over its base",
    "psnr": "PSNR in dB",
    "detail": "share of the detail",
    "blend": "blending",
    "hold": "repeating the last",
    "naive": "the naive picture",
}
"""Labels of fields whose names are too short for people."""


def rate(rational: str | None) -> str:
    """Return a frame rate for people: 119.88 fps for 120000/1001."""
    return "a variable rate" if rational is None else f"{rate_name(Fraction(rational))} fps"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return columns aligned with spaces, for people and for ``awk`` alike."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def field_rows(values: Mapping[str, Any], width: int = 0) -> str:
    """Return a row for each field that has a value: its name in words, and the value.

    The name determines the unit. ``width`` limits the columns of a value; 0 for no limit.
    """
    rows = []
    for label, text in _field_rows(values):
        wrapped = (textwrap.wrap(line, width or 10**6) for line in text.split("\n"))
        for line in chain.from_iterable(wrapped):
            rows.append([label, line])
            label = ""
    return table(rows[0], rows[1:])


def _field_rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and any(
            isinstance(item, dict) for item in value.values()
        ):
            yield from _field_rows(value, f"{prefix}{_label(name)}: ")
        elif text := format_value(name, value):
            yield prefix + _label(name), text


def _label(name: str) -> str:
    return _LABELS.get(name, name.removesuffix("_bytes").replace("_", " "))


def format_value(name: str, value: Any) -> str:
    """Return the value of a field for people.

    The text is empty for None, except for a rate, and for an empty value.
    """
    if name.endswith("_fps"):
        return rate(value)
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return amount(value)
    if name in ("input", "output"):
        return str(value).replace("\n", "\\n")
    if name == "bits_per_second":
        return f"{value / 1e6:.1f} Mbit/s" if value >= 1e6 else f"{value / 1e3:.0f} kbit/s"
    if name in ("at", "duration") or name.endswith("seconds"):
        return clock(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        parts = {_label(key): format_value(key, item) for key, item in value.items()}
        return ", ".join(f"{key} {text}" for key, text in parts.items() if text)
    if isinstance(value, list):
        separator = "\n" if value and isinstance(value[0], dict) else ", "
        return separator.join(format_value("", item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
