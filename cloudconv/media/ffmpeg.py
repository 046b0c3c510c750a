"""Learn what this build of FFmpeg has, and start its encoders.

Encoders only log what they refuse.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import av
from av.logging import Capture

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.media.encoders import EncoderChoice
from cloudconv.media.known_encoders import known_encoder

FFMPEG = str(av.ffmpeg_version_info)  # FFmpeg's own version name, such as ``8.1``

EncoderState = Literal["works", "missing", "fails"]
LogLine = tuple[int, str, str]  # the level, component and text of a line

_SIDE = 256  # side in pixels of the picture that tests whether an encoder works
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


def open_strictly(choice: EncoderChoice, start: Any) -> None:
    """Call ``start``, which opens the encoder; raise EncoderError if it does not start.

    The same error is raised for a refused parameter, which the encoder libraries only log.
    """
    log: list[LogLine] = []
    try:
        with log_lines() as log, unchanged_priority():
            start()
    except (MemoryError, BlockingIOError):  # the machine refuses, not the encoder
        raise
    except (av.error.FFmpegError, NotImplementedError, ValueError) as error:
        lines = [line for _, _, line in log if line.strip()] or [reason_of(error)]
        options = ", ".join(f"{key}={value}" for key, value in choice.options.items())
        works = encoder_state(choice.encoder) == "works"
        raise (EncoderUsageError if works else EncoderError)(
            f"encoder-not-started: {choice.encoder} did not start with {choice.pix_fmt} "
            f"and {options or 'no options'} ({'; '.join(map(_tidy, lines))}): give other "
            "options, or another --encoder."
        ) from error
    for _, name, line in log:
        if name == choice.encoder and _tidy(line).startswith(
            ("Error parsing option", "Unknown option", "Invalid value")
        ):
            parameters = known_encoder(choice.encoder).parameters
            option = "an option" if parameters is None else parameters.option
            raise EncoderUsageError(
                f"encoder-refuses-option: {choice.encoder} does not accept the value of "
                f"{option} ({_tidy(line)}): give another value."
            )


def reason_of(error: Exception) -> str:
    """Return the last line that FFmpeg logged, or else the words of the error."""
    logged = getattr(error, "log", None)
    reason = logged[2] if logged else getattr(error, "strerror", None) or str(error)
    return _tidy(reason)


def _tidy(line: str) -> str:
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


@cache
def encoder_state(name: str) -> EncoderState:
    """Encode a test picture, and return the state of the encoder on this machine.

    "missing": FFmpeg was built without the encoder. "fails": the encoder makes no packet.
    """
    if name not in av.codec.codecs_available:
        return "missing"
    formats = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    picture = av.VideoFrame(_SIDE, _SIDE, "yuv420p" if "yuv420p" in formats else formats[0])
    picture.pts = 0
    picture.time_base = Fraction(1, 25)
    context: Any = av.CodecContext.create(name, "w")
    context.width = context.height = _SIDE
    context.pix_fmt = picture.format.name
    context.time_base = Fraction(1, 25)
    context.options = dict(known_encoder(name).options)
    try:
        with unchanged_priority():
            context.open()
        packets = [*context.encode(picture), *context.encode(None)]
    except av.error.FFmpegError:
        return "fails"
    return "works" if any(packet.size for packet in packets) else "fails"
