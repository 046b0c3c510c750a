"""Store a segment's encoded pictures in a packet file until all segments are joined.

No container is suitable. Matroska rounds times to the millisecond. MP4 hides frames in edit
lists and cannot store the alpha of VP9. Neither can prove later that every byte is
unchanged. A packet file is one record per packet in decoding order: its size and a
checksum, a head, the payload, and the side data.
"""

import io
import os
import struct
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.packet import packet_sidedata_type_from_literal

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.events import Warnings
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.muxing import add_side_data
from cloudconv.media.frames.frame import Frame
from cloudconv.media.writing.encoding import Encoder, EncodingPlan, Shown, open_strictly
from cloudconv.media.writing.output import writing

_START = struct.Struct("<II")  # bytes that follow, their checksum
# Time, duration, ticks per second, payload bytes, key frame.
_HEAD = struct.Struct("<qqII?")
_SIDE = struct.Struct("<HI")  # FFmpeg's number of the type, bytes
_IDLE = ("quality_stats",)  # side data that only the encoder needs


@dataclass(frozen=True, slots=True)
class PacketSummary:
    """The summary of a complete packet file."""

    packets: int
    bytes: int  # the size of the file
    first: int  # the time of the first picture, in ticks
    last: int
    delay: int  # the packets that a decoder must read before the first picture can be shown
    extradata: str  # a hash of the decoder's configuration
    # What the maker of the pictures says of them, as JSON data.
    notes: dict[str, Any] = field(default_factory=dict)


class Writer(ABC):
    """An encoder, and an unfinished file into which its packets are written.

    ``part`` is that file, or a folder for pictures; None for standard output and a trial,
    whose ``file`` is the name of the output. ``warnings`` get those about the encoding.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        part: Path | None,
        url: Any,
        warnings: Warnings,
        options: dict[str, str] | None = None,
    ) -> None:
        """Open the encoder and the container's muxer, which writes to ``url``."""
        self._part = part
        self.file = part or plan.target
        self.plan = plan
        self.warnings = warnings
        self._container = container_of(plan.target)
        self._is_complete = False
        self._opened = ExitStack()
        with self.abandoned_on_error():
            muxer = self._container.muxer or "image2pipe"
            self._out = av.open(url, "w", format=muxer, container_options=options)
            self._opened.callback(self._out.close)
            self.encoder = Encoder(plan, self._out, warnings)
            self._add_streams()
            open_strictly(plan.choice, self.encoder.stream.codec_context.open)
            self._out.start_encoding()

    def _add_streams(self) -> None:  # noqa: B027
        """Add further streams to the output before its header is written."""

    def write(self, frame: Frame) -> None:
        """Encode a frame, as :meth:`Encoder.encode` does, and store finished packets."""
        with writing(self.plan.target):
            for packet in self.encoder.encode(frame):
                self.store(packet)

    @abstractmethod
    def store(self, packet: Any) -> None:
        """Store a packet of the encoder, with its times in ticks."""

    def _check(self, packet: Any) -> None:
        tick = self.plan.tick
        span = max(packet.pts - packet.dts, packet.duration)
        self._container.check_span(packet.pts * tick, span * tick, tick)

    def complete(self, joined: Shown | None = None) -> Any:
        """Complete the file; further calls do nothing.

        ``joined`` are the frames whose packets were stored without the encoder.
        """
        if self._is_complete:
            return None
        with self.abandoned_on_error():
            shown = joined or self.encoder.shown
            if not shown.frames:
                raise OutputError(
                    f"no-frames: There are no frames to write, so {self.plan.target} was "
                    "not made: choose another part."
                )
            if joined is None:
                for packet in self.encoder.flush():
                    self.store(packet)
            self._is_complete = True
            return self._finish(shown)

    @abstractmethod
    def _finish(self, shown: Shown) -> Any:
        """Complete the output, whose frames are ``shown``, and close everything."""

    @contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """Delete the output if the block raises an error, which may become OutputError."""
        with files.undone_on_error(self.abandon), writing(self.plan.target):
            yield

    def abandon(self) -> None:
        """Close everything and delete the file, in any state."""
        # When the MP4 muxer is closed, it opens its file again and rewrites everything to
        # move the index to the start. The muxer does not rewrite a file that was deleted
        # before. But some systems refuse to delete an open file.
        self._delete()
        # The caller reports the error that ended the writing.
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._opened.close()
        self._delete()

    def _delete(self) -> None:
        if self._part is not None:
            files.remove(self._part)


class PacketFile(Writer):
    """A segment of an output, encoded for the output's container into a packet file."""

    def __init__(self, plan: EncodingPlan, path: Path, warnings: Warnings) -> None:
        """Open the encoder and the file, which must not exist."""
        # No packet is muxed: the muxer only sets the encoder up for the container.
        super().__init__(plan, path, io.BytesIO(), warnings)
        self._times: list[int] = []
        self._early = 0
        with self.abandoned_on_error():
            self._file = self._opened.enter_context(path.open("xb"))

    def store(self, packet: Any) -> None:
        """Store a packet with its side data and a checksum."""
        self._times.append(packet.pts)
        self._early += packet.dts < self._times[0]
        self._check(packet)
        record = _record(packet, self.plan.tick.denominator)
        self._file.write(_start(record) + record)

    def _finish(self, _: Shown) -> PacketSummary:
        """Write everything to the disk and close the file; return the summary."""
        times = sorted(self._times)
        # The number of places by which a packet lies behind its presentation order.
        behind = (
            place - bisect_left(times, time) for place, time in enumerate(self._times)
        )
        summary = PacketSummary(
            packets=len(self._times),
            bytes=self._file.tell(),
            first=times[0],
            last=times[-1],
            delay=max(self._early, *behind),
            extradata=self.encoder.extradata_hash,
        )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._opened.close()
        return summary


def read_segment(path: Path, summary: PacketSummary) -> Iterator[Any]:
    """Yield the packets with times in ticks, without decode times.

    A damaged file, or one that differs from the summary, is deleted, and OutputError is
    raised.
    """
    times: list[int] = []
    with writing(path), path.open("rb") as file:
        while file.tell() < summary.bytes:
            start = file.read(_START.size)
            record = file.read(int.from_bytes(start[:4], "little"))
            if start != _start(record) or (packet := _packet(record)) is None:
                break
            times.append(packet.pts)
            yield packet
        end = file.tell()
    read = (end, len(times), min(times, default=0), max(times, default=0))
    if read != (summary.bytes, summary.packets, summary.first, summary.last):
        with writing(path):
            path.unlink(missing_ok=True)
        raise OutputError(
            f"segment-damaged: The finished segment {path} was damaged on the disk and is "
            "deleted: run the command again."
        )


def _start(record: bytes) -> bytes:
    # A checksum that begins with 1 differs from 0 for a file of zeros.
    return _START.pack(len(record), zlib.crc32(record, 1))


def _record(packet: Any, ticks: int) -> bytes:
    payload = bytes(packet)
    head = _HEAD.pack(packet.pts, packet.duration, ticks, len(payload), packet.is_keyframe)
    parts = [head, payload]
    for side in packet.iter_sidedata():
        if side.data_type not in _IDLE:
            kind = packet_sidedata_type_from_literal(side.data_type)
            parts += [_SIDE.pack(kind, side.data_size), bytes(side)]
    return b"".join(parts)


def _packet(record: bytes) -> Any:
    """Return the packet of a record; None if another program made the record."""
    try:
        time, duration, ticks, length, is_key = _HEAD.unpack_from(record)
        at = _HEAD.size + length
        packet: Any = av.Packet(record[_HEAD.size : at])
        while at < len(record):
            kind, length = _SIDE.unpack_from(record, at)
            at += _SIDE.size + length
            add_side_data(packet, kind, record[at - length : at])
        packet.pts = time
        packet.duration = duration
        packet.time_base = Fraction(1, ticks)
    except (struct.error, ValueError, ArithmeticError):
        return None
    packet.is_keyframe = is_key
    return packet
