"""The last step of each kind of output: encoded packets into a file, or into picture files."""

from __future__ import annotations

import hashlib
import struct
from contextlib import ExitStack
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
from av.codec.context import Flags
from av.container import OutputContainer

from cloudconv.errors import EncoderError
from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry, needs_free_tags, needs_unlisted
from cloudconv.media.carry.copier import Copier
from cloudconv.media.carry.muxer import open_muxer
from cloudconv.media.formats import layout
from cloudconv.media.frame import ColorTags
from cloudconv.media.log import LogLine, log_lines
from cloudconv.media.matroska import add_chapters
from cloudconv.media.write.animation import LAST_DURATION, with_last_duration
from cloudconv.media.write.encoder_options import parameters_key
from cloudconv.media.write.encoders import Choice
from cloudconv.media.write.target import Container, is_stdout, numbered

_MOST_TICKS = 2**31 - 1
FEW = 2
"""Given no more pictures than this, libx265 leaves decode times unset: any number may be there."""
_STAND_IN_RATE = Fraction(30)


class Writer(Protocol):
    """Encodes pictures, each once and in order, and finishes the output."""

    warnings: list[Warned]

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        """Encode a picture shown for ``duration`` ticks from ``tick``."""

    def finish(self) -> None:
        """Flush the encoder and close everything that was opened."""

    def abandon(self) -> None:
        """Close everything, whatever state it is in."""


def set_up(
    context: Any,
    choice: Choice,
    *,
    size: tuple[int, int],
    tick: Fraction,
    tags: ColorTags,
    aspect: Fraction | None,
    threads: int | None,
) -> None:
    """Fill in an encoder's context; it is opened later."""
    context.width, context.height = size
    context.pix_fmt = choice.pix_fmt
    context.time_base = tick
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.colorspace, context.color_range = tags.matrix, tags.range
    context.sample_aspect_ratio = aspect or Fraction(1)
    if choice.codec_tag is not None:
        context.codec_tag = choice.codec_tag
    # The default, slices only, makes libx264 compress worse.
    context.thread_type = "AUTO"
    context.thread_count = threads or 0


def add_video(
    out: OutputContainer, choice: Choice, *, rate: Fraction | None, tick: Fraction, **common: Any
) -> Any:
    """A video stream that encodes, added to ``out``; ``common`` is for :func:`set_up`."""
    # Encoders weigh quality by the rate, so a variable one needs a plausible stand-in; libvpx
    # refuses one with less than a tick a frame.
    stand_in = min(_STAND_IN_RATE, 1 / tick)
    stream: Any = out.add_stream(
        choice.encoder, rate=rate or stand_in, options=dict(choice.options)
    )
    set_up(stream.codec_context, choice, tick=tick, **common)
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


class FileWriter:
    """Everything that has a muxer: videos with the source's other streams, GIF and APNG."""

    def __init__(
        self,
        path: Path,
        container: Container,
        choice: Choice,
        *,
        size: tuple[int, int],
        rate: Fraction | None,
        tick: Fraction,
        tags: ColorTags,
        aspect: Fraction | None,
        display_matrix: bytes | None,
        threads: int | None,
        carry: Carry | None,
        amends: bool,
    ) -> None:
        self.warnings: list[Warned] = []
        self._durations: dict[int, int] = {}
        self._copies = False
        self._taken = 0
        self._tick = tick
        uneven = rate is None and container.muxer in ("mp4", "mov")
        self._order = _DecodeTimes() if uneven else None
        url = "pipe:1" if is_stdout(path) else f"file:{path}"
        unlisted = carry is not None and needs_unlisted(carry, container)
        options = _container_options(container, tick, carry, amends=amends or unlisted)
        self._path = path
        self._lasts = 0
        self._animation = LAST_DURATION.get(container.muxer)
        self._out = open_muxer(url, container.muxer, options, unlisted=unlisted)
        self._copier: Copier | None = None
        with ExitStack() as undo:
            undo.callback(self.abandon)
            stream = add_video(
                self._out,
                choice,
                rate=rate,
                tick=tick,
                size=size,
                tags=tags,
                aspect=aspect,
                threads=threads,
            )
            self._stream = stream
            if unlisted:
                stream.codec_context.flags |= Flags.global_header
            if carry is not None and container.kind == "video":
                self._copier = Copier(
                    carry, self._out, container, seekable=not is_stdout(path), unlisted=unlisted
                )
                self._copier.describe_video(stream, rate)
            if choice.encoder.startswith("libvpx") and layout(choice.working).alpha:
                # Readers look for alpha beside the packets only where this tag says so.
                stream.metadata["alpha_mode"] = "1"
            if display_matrix is not None and container.kind == "video":
                stream.set_display_matrix(struct.unpack("<9i", display_matrix))
            open_strictly(choice, self._out.start_encoding)
            undo.pop_all()
        if self._copier is not None:
            self.warnings += self._copier.warnings
            self._copier.warnings.clear()

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        picture.pts, picture.time_base = tick, self._tick
        self._durations[tick] = self._lasts = duration
        self._taken += 1
        self._mux(self._stream.encode(picture))

    def copy(self, packet: Any) -> None:
        """Write a packet of another run of the same encoder; nothing may be encoded beside it."""
        self._copies = True
        packet.stream = self._stream
        self._send([packet] if self._order is None else self._order.push(packet))

    @property
    def extradata(self) -> str:
        """A hash of what a decoder must know before the first packet."""
        return extradata_hash(self._stream)

    def rehearse(self) -> None:
        """Write what is copied, without a picture, to the end of the file."""
        # What has to be encoded anew takes its time, and no container refuses it.
        if self._copier is not None and not self._copier.encodes:
            self._copier.until(None)
            self._out.close()

    def finish(self) -> None:
        if not self._copies:
            last = self._stream.encode(None)
            if self._taken <= FEW:
                for packet in last:
                    packet.dts = packet.pts
            self._mux(last)
        if self._order is not None:
            self._send(self._order.finish())
        if self._copier is not None:
            self._copier.until(None)
            self._copier.close()
            self.warnings += self._copier.warnings
        self._out.close()
        if self._lasts and self._animation is not None:
            self._animation(self._path, self._lasts * self._tick)
        chapters = b"" if self._copier is None else self._copier.chapters
        if chapters and not add_chapters(self._path, chapters):
            self.warnings.append(Warned("chapters-no-room"))

    def abandon(self) -> None:
        if self._copier is not None:
            self._copier.close()
        try:
            self._out.close()
        except (av.error.FFmpegError, OSError, ValueError):
            # The file is thrown away; why it could not be finished has been said already.
            return

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._send([packet] if self._order is None else self._order.push(packet))

    def _send(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._copier is not None:
                self._copier.until(packet.dts * self._tick)
            self._out.mux(packet)


class _DecodeTimes:
    """Decode times of a variable rate that add up to the length of an MP4 track.

    There a packet's duration is stored as the gap to the next decode time, and the sum of all is
    taken for the track's length. Encoders that reorder frames start to decode early by as long as
    their first few frames are shown, and end with a packet that need not be shown last: the sum is
    too long or too short by seconds where the gaps differ. So the packets decoded before the first
    frame is shown are put a tick apart, and the last one lasts as long as is left. All times are
    in ticks; no time of showing changes.
    """

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._first: int | None = None
        self._end = 0
        self._early = 0

    def push(self, packet: Any) -> list[Any]:
        """Take the next packet; returns those that may be written, always keeping the newest."""
        self._first = packet.pts if self._first is None else self._first
        self._end = max(self._end, packet.pts + packet.duration)
        self._held.append(packet)
        if packet.dts < self._first:
            return []
        self._number_early()
        ready, self._held = self._held[:-1], self._held[-1:]
        return ready

    def finish(self) -> list[Any]:
        """The packets that are left."""
        if self._first is not None:
            self._number_early()
            last = self._held[-1]
            last.duration = self._end - self._early - last.dts
            # Nothing may seem to be shown for longer than the track lasts.
            late = max(last.pts + last.duration - self._end, 0)
            last.dts += late
            last.duration -= late
        return self._held

    def _number_early(self) -> None:
        if self._early or self._first is None:
            return
        early = [packet for packet in self._held if packet.dts < self._first]
        self._early = len(early)
        for number, packet in enumerate(early):
            packet.dts = self._first + number - self._early


def _container_options(
    container: Container, tick: Fraction, carry: Carry | None, *, amends: bool
) -> dict[str, str]:
    if container.muxer in ("mp4", "mov"):
        # Edit lists and durations count in movie ticks: they must divide a video tick, and be
        # fine enough for the audio's.
        scale = tick.denominator
        for factor in (48000, 44100):
            finer = lcm(scale, factor)
            scale = finer if finer <= _MOST_TICKS else scale
        flags = "+faststart"
        if carry is not None and needs_free_tags(carry, container):
            flags += "+use_metadata_tags"
        return {"movie_timescale": str(scale), "movflags": flags}
    if container.muxer in ("matroska", "webm"):
        # Checksums would not survive the amendments to the header.
        return {"write_crc32": "0"} if amends else {}
    if container.muxer == "gif":
        return {"loop": "0"}
    return {"plays": "0"} if container.muxer == "apng" else {}


class PictureWriter:
    """A file a frame, numbered from 1; times are not kept."""

    def __init__(self, folder: Path, pattern: Path, context: Any, choice: Choice) -> None:
        self.warnings: list[Warned] = []
        self._folder, self._pattern = folder, pattern
        self._context = context
        self._taken = 0
        self._count = 0
        open_strictly(choice, context.open)

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        # Files come out later than pictures go in: the encoder's threads hold some back.
        picture.pts, picture.time_base = self._taken, self._context.time_base
        self._taken += 1
        self._save(self._context.encode(picture))

    def finish(self) -> None:
        self._save(self._context.encode(None))

    def abandon(self) -> None:
        return

    def _save(self, packets: list[Any]) -> None:
        for packet in packets:
            self._count += 1
            (self._folder / numbered(self._pattern, self._count)).write_bytes(bytes(packet))


class WebpWriter:
    """An animated WebP, which its encoder hands out as one piece at the end."""

    def __init__(self, path: Path, context: Any, choice: Choice) -> None:
        self.warnings: list[Warned] = []
        self._path = path
        self._context = context
        self._end = 0
        open_strictly(choice, context.open)

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        picture.pts, picture.time_base = tick, self._context.time_base
        self._end = tick + duration
        for packet in self._context.encode(picture):
            self._path.write_bytes(bytes(packet))

    def finish(self) -> None:
        for packet in self._context.encode(None):
            self._path.write_bytes(with_last_duration(bytes(packet), self._end))

    def abandon(self) -> None:
        return
