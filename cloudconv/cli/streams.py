"""Write to the standard streams, and replace streams that are closed."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cloudconv.messages import plain

closed_streams: set[str] = set()
"""The names in :mod:`sys` of the streams that were closed when the command started."""


def replace_closed() -> None:
    """Open each closed standard stream on the null device, and wrap standard output.

    The next opened file would otherwise get the stream's number, and messages of libraries.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            closed_streams.add(name)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: ``number``
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    given = sys.stdout
    if isinstance(given, io.TextIOWrapper):
        encoding, lines, through = given.encoding, given.line_buffering, given.write_through
        # Escape characters of file names and help texts that a Windows code page lacks.
        sys.stdout = _Stdout(
            given.detach(),
            encoding,
            "backslashreplace",
            line_buffering=lines,
            write_through=through,
        )


def is_terminal() -> bool:
    """Return whether standard output is a terminal, whose width limits tables."""
    return sys.stdout.isatty()


def print_message(line: str) -> None:
    """Write one line to stderr, wrapped between words on a terminal; ignore errors in writing."""
    shown = plain(line).replace("\n", "\\n")
    with suppress(OSError):
        if sys.stderr.isatty() and not shown.startswith("{"):
            width = shutil.get_terminal_size().columns
            shown = textwrap.fill(shown, width, break_long_words=False, break_on_hyphens=False)
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()


class StdoutError(OSError):
    """An error in writing standard output, such as a full disk, other than a closed pipe."""


class _Stdout(io.TextIOWrapper):
    """Standard output that raises :class:`StdoutError`; for a closed pipe ``BrokenPipeError``."""

    def write(self, text: str) -> int:
        if "stdout" in closed_streams:
            raise StdoutError(errno.EBADF, "standard output is closed, so nothing is printed")
        with _converted_errors():
            return super().write(text)

    def flush(self) -> None:
        with _converted_errors():
            super().flush()


@contextmanager
def _converted_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Use the null device: the interpreter flushes once more at its end, and must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise StdoutError(
            error.errno, f"standard output cannot be written: {error.strerror}"
        ) from error


def print_result(text: str) -> None:
    """Write a result to stdout and flush, so that a closed pipe raises its error here."""
    sys.stdout.write(plain(text) + "\n")
    sys.stdout.flush()
