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
from typing import Any, NamedTuple

import av
from av.packet import packet_sidedata_type_from_literal

from cloudconv import files
from cloudconv.errors import OutputError
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.muxing import add_side_data
from cloudconv.media.writing.encoding import EncodingPlan, extradata_hash
from cloudconv.media.writing.opening import open_strictly
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


class Shown(NamedTuple):
    """The frames of an output: their number, and times of the last one in seconds."""

    frames: int = 0
    last: Fraction = Fraction(0)  # its time
    end: Fraction = Fraction(0)
    lasts: Fraction = Fraction(0)  # 0 if packets were copied


class Writer(ABC):
    """An open encoder, and an open file into which its packets are written.

    ``file`` is the unfinished file or folder; None for standard output and the null device.
    """

    def __init__(
        self,
        plan: EncodingPlan,
        file: Path | None,
        url: Any,
        options: dict[str, str] | None = None,
    ) -> None:
        """Open the encoder and the container's muxer, which writes to ``url``."""
        self.file = file
        self._plan = plan
        self._container = container_of(plan.target)
        self._opened = ExitStack()
        with self.abandoned_on_error():
            muxer = self._container.muxer or "image2pipe"
            self._out = av.open(url, "w", format=muxer, container_options=options)
            self._opened.callback(self._out.close)
            self.encoder = plan.add_video(self._out)
            self._add_streams()
            open_strictly(plan.choice, self._out.start_encoding)

    def _add_streams(self) -> None:  # noqa: B027
        """Add further streams to the output before its header is written."""

    @abstractmethod
    def write(self, packet: Any) -> None:
        """Write a packet of the encoder, with its times in ticks."""

    def _check(self, packet: Any) -> None:
        tick = self._plan.tick
        span = max(packet.pts - packet.dts, packet.duration)
        self._container.check_span(packet.pts * tick, span * tick, tick)

    def finish(self, shown: Shown) -> Any:
        """Complete the output, whose frames are ``shown``, and close everything."""
        self._opened.close()

    @contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """Delete the output if the block raises an error, which may become OutputError."""
        with files.undone_on_error(self.abandon), writing(self._plan.target):
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
        if self.file is not None:
            files.remove(self.file)


class PacketFile(Writer):
    """A writer of packets into a packet file instead of a container."""

    def __init__(self, plan: EncodingPlan, path: Path) -> None:
        """Open the encoder for the final container, and the file, which must not exist."""
        # No packet is muxed: the muxer only sets the encoder up for the container.
        super().__init__(plan, path, io.BytesIO())
        self._times: list[int] = []
        self._early = 0
        with self.abandoned_on_error():
            self._file = self._opened.enter_context(path.open("xb"))

    def write(self, packet: Any) -> None:
        """Write a packet with its side data and a checksum."""
        self._times.append(packet.pts)
        self._early += packet.dts < self._times[0]
        self._check(packet)
        record = _record(packet, self._plan.tick.denominator)
        self._file.write(_start(record) + record)

    def finish(self, shown: Shown) -> PacketSummary:
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
            extradata=extradata_hash(self.encoder),
        )
        self._file.flush()
        os.fsync(self._file.fileno())
        super().finish(shown)
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
