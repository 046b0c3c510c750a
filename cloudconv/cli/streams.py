"""The standard streams: where text for eyes leaves, and what stands in for one that is closed."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cloudconv.messages import plain

closed: set[str] = set()
"""The names in :mod:`sys` of the streams that were closed when the command began."""


def open_all() -> None:
    """Open every standard stream that is closed, onto nothing, and name errors of standard output.

    Or its number would be that of the next file that is opened, which libraries then complain into.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            closed.add(name)
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number, which is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    given = sys.stdout
    if isinstance(given, io.TextIOWrapper):
        encoding, lines, through = given.encoding, given.line_buffering, given.write_through
        # A file name, or a dash in a help text, need not be in the code page of a Windows pipe.
        sys.stdout = _Stdout(
            given.detach(),
            encoding,
            "backslashreplace",
            line_buffering=lines,
            write_through=through,
        )


def tell(line: str) -> None:
    """Write one line to stderr, wrapped between words on a terminal, which may be gone by now."""
    shown = plain(" ".join(line.split("\n")))
    with suppress(OSError):
        if sys.stderr.isatty() and not shown.startswith("{"):
            width = shutil.get_terminal_size().columns
            shown = textwrap.fill(shown, width, break_long_words=False, break_on_hyphens=False)
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()


class StdoutError(OSError):
    """Standard output takes nothing any more, such as on a full disk; a reader may have gone."""


class _Stdout(io.TextIOWrapper):
    """Standard output whose errors can be told from all others."""

    def write(self, text: str) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The interpreter flushes once more as it leaves; that must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise StdoutError(
            error.errno, f"standard output cannot be written: {error.strerror}"
        ) from error


def print_result(text: str) -> None:
    """Write a result to stdout, at once, so that a reader who has gone is noticed here."""
    # A file name need not be text that the terminal can show.
    encoding = sys.stdout.encoding
    shown = plain(text).encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(shown + "\n")
    sys.stdout.flush()
