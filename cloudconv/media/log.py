"""Silence FFmpeg's log, except for lines that one thread reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av.logging
from av.logging import Capture

_READING = threading.Lock()
# Both levels are below the level of every line.
_NOTHING = -1  # for PyAV
_SILENT = -8  # for FFmpeg

LogLine = tuple[int, str, str]
"""The level, component and text of a line."""


@contextmanager
def log_lines() -> Iterator[list[LogLine]]:
    """Collect the lines that FFmpeg logs in this thread within the block; drop all other lines.

    The level of PyAV's log belongs to the whole process, and decoder threads log at any time. PyAV
    compares a line with the level when the line's thread gets the interpreter. This may be after
    the block. PyAV cannot compare with the level None, so the level never becomes None again. After
    the block FFmpeg's own callback silences the log, because that callback needs no interpreter.
    """
    with _READING, Capture(local=False), Capture(local=True) as lines:
        before = av.logging.get_level()
        av.logging.set_level(av.logging.WARNING)
        try:
            yield lines
        finally:
            av.logging.set_level(_NOTHING if before is None else before)
            if before in (None, _NOTHING):
                av.logging.set_libav_level(_SILENT)
                av.logging.restore_default_callback()
