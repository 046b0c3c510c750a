"""Start encoders, which only log what they refuse."""

from fractions import Fraction
from functools import cache
from typing import Any, Literal

import av

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.media.containers.ffmpeg import (
    LogLine,
    log_lines,
    reason_of,
    tidy,
    unchanged_priority,
)
from cloudconv.media.writing.encoders import EncoderChoice
from cloudconv.media.writing.known_encoders import known_encoder

_SIDE = 256  # side in pixels of the picture that tests whether an encoder works


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
            f"and {options or 'no options'} ({'; '.join(map(tidy, lines))}): give other "
            "options, or another --encoder."
        ) from error
    for _, name, line in log:
        if name == choice.encoder and tidy(line).startswith(
            ("Error parsing option", "Unknown option", "Invalid value")
        ):
            parameters = known_encoder(choice.encoder).parameters
            option = "an option" if parameters is None else parameters.option
            raise EncoderUsageError(
                f"encoder-refuses-option: {choice.encoder} does not accept the value of "
                f"{option} ({tidy(line)}): give another value."
            )


@cache
def encoder_state(name: str) -> Literal["works", "missing", "fails"]:
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
