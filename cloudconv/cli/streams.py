"""Write to the standard streams, and replace streams that are closed."""

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
    """Open every closed standard stream onto nothing, and mark the errors of standard output.

    Otherwise the next file that is opened gets the stream's number, and libraries write messages
    into that file.
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
        # The code page of a Windows pipe may lack characters of file names and help texts.
        sys.stdout = _Stdout(
            given.detach(),
            encoding,
            "backslashreplace",
            line_buffering=lines,
            write_through=through,
        )


def say(line: str) -> None:
    """Write one line to stderr, wrapped between words on a terminal; ignore a closed terminal."""
    shown = plain(" ".join(line.split("\n")))
    with suppress(OSError):
        if sys.stderr.isatty() and not shown.startswith("{"):
            width = shutil.get_terminal_size().columns
            shown = textwrap.fill(shown, width, break_long_words=False, break_on_hyphens=False)
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()


class StdoutError(OSError):
    """Standard output cannot be written any more, for example on a full disk."""


class _Stdout(io.TextIOWrapper):
    """Standard output that raises its errors as :class:`StdoutError`."""

    def write(self, text: str) -> int:
        """Write text; see :class:`io.TextIOWrapper`."""
        with _named():
            return super().write(text)

    def flush(self) -> None:
        """Write what is buffered; see :class:`io.TextIOWrapper`."""
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The interpreter flushes once more at its end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise StdoutError(
            error.errno, f"standard output cannot be written: {error.strerror}"
        ) from error


def print_result(text: str) -> None:
    """Write a result to stdout at once, so that the end of the reader is noticed here."""
    # A file name may contain characters that the terminal cannot show.
    encoding = sys.stdout.encoding
    shown = plain(text).encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(shown + "\n")
    sys.stdout.flush()
