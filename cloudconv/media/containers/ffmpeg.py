"""Learn what this build of FFmpeg has, and read its log."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import av
from av.logging import Capture

FFMPEG = str(av.ffmpeg_version_info)  # FFmpeg's own version name, such as ``8.1``

LogLine = tuple[int, str, str]  # the level, component and text of a line

_READING = threading.Lock()
# Both levels of the log are below the level of every line: PyAV's and FFmpeg's.
_NOTHING, _SILENT = -1, -8


def libraries() -> dict[str, str]:
    """Return the versions of FFmpeg's libraries: ``{"libavcodec": "62.11.100", …}``."""
    return {
        name: ".".join(map(str, version)) for name, version in av.library_versions.items()
    }


def has_filter(name: str) -> bool:
    """Return whether this build of FFmpeg has the filter, for example ``libvmaf``."""
    return name in av.filter.filters_available


def reason_of(error: Exception) -> str:
    """Return the last line that FFmpeg logged, or else the words of the error."""
    logged = getattr(error, "log", None)
    reason = logged[2] if logged else getattr(error, "strerror", None) or str(error)
    return tidy(reason)


def tidy(line: str) -> str:
    """Return a line of the log without its margins and its full stop."""
    return line.strip().rstrip(".")


@contextmanager
def log_lines() -> Iterator[list[LogLine]]:
    """Collect the lines that FFmpeg logs in this thread within the block.

    All other lines are dropped. PyAV compares a line with the level of its log when the
    line's thread gets the interpreter, perhaps after the block (PyAV-Org/PyAV#2276, #2394).
    PyAV cannot compare with the level None, so the level never becomes None again. After
    the block FFmpeg's own callback silences the log.
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


@contextmanager
def unchanged_priority() -> Iterator[None]:
    """Undo a change of the process's scheduling at the end of the context.

    If root starts SVT-AV1 on Linux, SVT-AV1 gives its threads the highest real-time
    priority, as `chrt -a -p PID` shows. Other processes then hardly run until the encoding
    ends.
    """
    if sys.platform != "linux":
        yield
        return
    policy = os.sched_getscheduler(0)
    parameters = os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in map(int, os.listdir("/proc/self/task")):
                with suppress(ProcessLookupError):  # the thread has ended
                    os.sched_setscheduler(thread, policy, parameters)
