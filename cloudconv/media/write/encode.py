"""Set up and open encoders, and add them to containers."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

import av
import av.codec.codec
import av.error
from av.container import OutputContainer

from cloudconv.errors import EncoderError
from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry
from cloudconv.media.frame import ColorTags
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.log import LogLine, log_lines
from cloudconv.media.turn import Turn
from cloudconv.media.write.encoder_options import EncoderChoice, known_encoder

FEW = 2
"""The largest number of pictures for which libx265 does not set decode times.

The decode times are arbitrary then.
"""
_STAND_IN_RATE = Fraction(30)  # frames per second, for encoders of a variable rate
_SIDE = 256  # side in pixels of the picture that tests whether an encoder works

EncoderState = Literal["works", "missing", "fails"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingPlan:
    """The settings of the encoding, and the other contents of the output.

    Attributes:
        target: the final name of the output.
        info: the description of the source, with the width and height of the turned pictures.
        turn: the rotation of the pictures before they are encoded.
        choice: the encoder.
        rate: the constant rate; None for a variable one.
        tick: the tick of the encoder's clock, in seconds.
        tags: the colour description of the output.
        threads: the number of the encoder's threads; None for the encoder's default.
        carry: the contents to carry over from the source; None for none.
        amends: whether the finished file is corrected afterwards.
        warnings: warnings about the choice, and about contents that the output cannot store.
    """

    target: Path
    info: MediaInfo
    turn: Turn
    choice: EncoderChoice
    rate: Fraction | None
    tick: Fraction
    tags: ColorTags
    threads: int | None
    carry: Carry | None
    amends: bool
    warnings: tuple[Warned, ...] = ()

    @property
    def ticks_per_frame(self) -> int:
        """Return the number of ticks from one frame to the next; 1 at a variable rate."""
        return 1 if self.rate is None else round(1 / (self.rate * self.tick))

    def set_up(self, context: Any) -> Any:
        """Set up an encoder's context, which is opened later, and return the context."""
        context.width, context.height = self.info.width, self.info.height
        context.pix_fmt = self.choice.pix_fmt
        context.time_base = self.tick
        tags = self.tags
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.colorspace, context.color_range = tags.matrix, tags.range
        context.sample_aspect_ratio = self.info.aspect or Fraction(1)
        if self.choice.codec_tag is not None:
            context.codec_tag = self.choice.codec_tag
        # By default, PyAV allows slice threads only, with which libx264 compresses worse.
        context.thread_type = "AUTO"
        context.thread_count = self.threads or 0
        return context

    def open_encoder(self) -> Any:
        """Return a separate open encoder; raise EncoderError if it does not start."""
        context: Any = av.CodecContext.create(self.choice.encoder, "w")
        context.options = dict(self.choice.options)
        open_strictly(self.choice, self.set_up(context).open)
        return context

    def add_video(self, out: OutputContainer) -> Any:
        """Return a video stream with an encoder, added to ``out``; the encoder is opened later."""
        # Encoders adapt the quality to the rate, so a variable rate needs a plausible substitute.
        # libvpx refuses a rate with less than one tick per frame.
        rate = self.rate or min(_STAND_IN_RATE, 1 / self.tick)
        options = dict(self.choice.options)
        stream: Any = out.add_stream(self.choice.encoder, rate=rate, options=options)
        self.set_up(stream.codec_context)
        return stream


def open_strictly(choice: EncoderChoice, start: Any) -> None:
    """Call ``start``, which opens the encoder, and raise an error for a refused parameter.

    The encoder libraries behind FFmpeg only log unknown parameters.

    Raises:
        EncoderError: a parameter was refused, or the encoder or the container does not start.
    """
    log: list[LogLine] = []
    try:
        with log_lines() as log, unchanged_priority():
            start()
    except (av.error.ArgumentError, av.error.ExternalError, av.error.InvalidDataError,
            av.error.PermissionError, av.error.PatchWelcomeError, av.error.UnknownError,
            NotImplementedError, ValueError) as error:  # fmt: skip
        lines = "; ".join(line for _, _, line in _tidy(log)) or str(error)
        options = ", ".join(f"{key}={value}" for key, value in choice.options.items())
        raise EncoderError(
            f"encoder-not-started: {choice.encoder} did not start with {choice.pix_fmt} and "
            f"{options or 'no options'} ({lines}): give other options, or "
            "another --encoder."
        ) from error
    for _, name, line in _tidy(log):
        if name == choice.encoder and line.startswith(("Error parsing option", "Unknown option",
                                                       "Invalid value")):  # fmt: skip
            key = known_encoder(choice.encoder).parameters
            raise EncoderError(
                f"encoder-refuses-option: {choice.encoder} does not accept the value of {key} "
                f"({line}): give another value."
            )


@contextmanager
def unchanged_priority() -> Iterator[None]:
    """Undo a change of the process's scheduling at the end of the context.

    If root starts SVT-AV1 on Linux, SVT-AV1 gives the calling thread and its own threads the
    highest real-time priority. Other processes then hardly run until the encoding ends.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
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
    codec = av.codec.Codec(name, "w")
    formats = [f.name for f in codec.video_formats or ()]
    picture = av.VideoFrame(_SIDE, _SIDE, "yuv420p")
    picture = picture.reformat(format="yuv420p" if "yuv420p" in formats else formats[0])
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    context: Any = av.CodecContext.create(name, "w")
    context.width = context.height = _SIDE
    context.pix_fmt, context.time_base = picture.format.name, Fraction(1, 25)
    context.options = dict(known_encoder(name).options)
    try:
        with unchanged_priority():
            context.open()
        packets = [*context.encode(picture), *context.encode(None)]
    except av.error.FFmpegError:
        return "fails"
    return "works" if any(packet.size for packet in packets) else "fails"


def extradata_hash(stream: Any) -> str:
    """Return a hash of the data that a decoder needs before the first packet.

    An encoder's data exists only after the encoder was opened.
    """
    extradata: bytes = stream.codec_context.extradata or b""
    return hashlib.sha256(extradata).hexdigest()


def _tidy(log: list[LogLine]) -> list[LogLine]:
    return [(level, name, line.strip().rstrip(".")) for level, name, line in log if line.strip()]
