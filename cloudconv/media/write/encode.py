"""Encoders set up and opened, and encoded packets muxed into a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer

from cloudconv.errors import EncoderError
from cloudconv.media.carry.carry import Carry
from cloudconv.media.frame import ColorTags
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.log import LogLine, log_lines
from cloudconv.media.write.encoder_options import Choice, parameters_key

FEW = 2
"""Given no more pictures than this, libx265 leaves decode times unset: any number may be there."""
_STAND_IN_RATE = Fraction(30)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingPlan:
    """What is encoded and how, and what else goes into the output.

    Attributes:
        target: the name that the output gets in the end.
        info: the source, turned as the pictures are.
        rate: the constant rate; None if it varies.
        tick: the clock that the encoder counts in, in seconds.
        amends: whether the finished file is to be amended.
    """

    target: Path
    info: MediaInfo
    choice: Choice
    rate: Fraction | None
    tick: Fraction
    tags: ColorTags
    threads: int | None
    carry: Carry | None
    amends: bool

    def set_up(self, context: Any) -> Any:
        """Fill in an encoder's context, which is opened later, and return it."""
        context.width, context.height = self.info.width, self.info.height
        context.pix_fmt = self.choice.pix_fmt
        context.time_base = self.tick
        tags = self.tags
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.colorspace, context.color_range = tags.matrix, tags.range
        context.sample_aspect_ratio = self.info.aspect or Fraction(1)
        if self.choice.codec_tag is not None:
            context.codec_tag = self.choice.codec_tag
        # The default, slices only, makes libx264 compress worse.
        context.thread_type = "AUTO"
        context.thread_count = self.threads or 0
        return context

    def open_encoder(self) -> Any:
        """Return an open encoder of its own; raises EncoderError where it refuses to start."""
        context: Any = av.CodecContext.create(self.choice.encoder, "w")
        context.options = dict(self.choice.options)
        open_strictly(self.choice, self.set_up(context).open)
        return context

    def add_video(self, out: OutputContainer) -> Any:
        """Return a video stream that encodes, added to ``out``; it is opened later."""
        # Encoders weigh quality by the rate, so a variable one needs a plausible stand-in; libvpx
        # refuses one with less than a tick a frame.
        rate = self.rate or min(_STAND_IN_RATE, 1 / self.tick)
        options = dict(self.choice.options)
        stream: Any = out.add_stream(self.choice.encoder, rate=rate, options=options)
        self.set_up(stream.codec_context)
        return stream


def open_strictly(choice: Choice, start: Any) -> None:
    """Call ``start``, which opens the encoder, and take its complaints for errors.

    The libraries behind FFmpeg pass over unknown parameters with a line in the log. Raises
    EncoderError for those, and where the encoder or the container refuses to start.
    """
    said: list[LogLine] = []
    try:
        with log_lines() as said:
            start()
    except (av.error.ArgumentError, av.error.ExternalError, av.error.InvalidDataError,
            av.error.PermissionError, av.error.PatchWelcomeError, av.error.UnknownError,
            NotImplementedError, ValueError) as error:  # fmt: skip
        lines = "; ".join(line for _, _, line in _tidy(said)) or str(error)
        asked = ", ".join(f"{key}={value}" for key, value in choice.options.items())
        raise EncoderError(
            f"{choice.encoder} would not start with {choice.pix_fmt} and {asked or 'no options'}: "
            f"{lines}."
        ) from error
    for _, name, line in _tidy(said):
        if name == choice.encoder and line.startswith(("Error parsing option", "Unknown option",
                                                       "Invalid value")):  # fmt: skip
            key = parameters_key(choice.encoder)
            raise EncoderError(f"{choice.encoder} does not take this in {key}: {line}.")


def extradata_hash(stream: Any) -> str:
    """Of what a decoder must know before the first packet; an encoder's after it was opened."""
    extradata: bytes = stream.codec_context.extradata or b""
    return hashlib.sha256(extradata).hexdigest()


def _tidy(said: list[LogLine]) -> list[LogLine]:
    return [(level, name, line.strip().rstrip(".")) for level, name, line in said if line.strip()]
