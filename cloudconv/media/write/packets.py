"""Store the encoded pictures of a segment in a packet file until all segments can be joined.

No container is suitable. Matroska rounds times to the millisecond. MP4 hides frames in edit lists
and cannot store the alpha of VP9. Neither can prove later that every byte is unchanged. A packet
file is one line of JSON, then one record per packet in decoding order: a head, the payload, the
side data, and a checksum of all three.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.write.encode import EncodingPlan, extradata_hash, open_strictly
from cloudconv.media.write.target import writing

_KIND = "cloudconv packets 1"
_HEAD = struct.Struct("<qqIBB")  # time, duration, payload bytes, key frame, side data items
_SIDE = struct.Struct("<HI")  # FFmpeg's number of the type, bytes
_SUM = struct.Struct("<I")
# Side data that only the encoder needs.
_IDLE = ("quality_stats",)


@dataclass(frozen=True, slots=True)
class PacketSummary:
    """The summary of a complete packet file.

    ``packets`` is the number of packets, ``bytes`` the size of the file. ``first`` and ``last`` are
    the times of the first and the last picture, in ticks. ``delay`` is the number of packets that a
    decoder must read before the first picture can be shown. ``extradata`` is a hash of the
    decoder's configuration.
    """

    packets: int
    bytes: int
    first: int
    last: int
    delay: int
    extradata: str


class PacketWriter:
    """A writer of packets into a packet file instead of a container."""

    def __init__(self, path: Path, muxer: str, plan: EncodingPlan) -> None:
        """Open the encoder and the file.

        Args:
            path: the packet file, which must not exist.
            muxer: FFmpeg's name of the final container's muxer.
            plan: the settings of the encoding.
        """
        self.warnings: list[Warned] = []
        self._times: list[int] = []
        self._early = 0
        # No packet is muxed: the muxer only sets the encoder up for the container.
        self._out = av.open(io.BytesIO(), "w", format=muxer)
        with ExitStack() as undo:
            undo.callback(self._out.close)
            self.encoder = plan.add_video(self._out)
            open_strictly(plan.choice, self._out.start_encoding)
            self._file = path.open("xb")
            undo.callback(self._file.close)
            self._file.write(json.dumps({"kind": _KIND, "tick": str(plan.tick)}).encode() + b"\n")
            undo.pop_all()

    def write(self, packet: Any) -> None:
        """Write a packet with its side data and a checksum."""
        self._times.append(packet.pts)
        self._early += packet.dts < self._times[0]
        record = _record(packet)
        self._file.write(record + _SUM.pack(zlib.crc32(record)))

    def finish(self) -> None:
        """Write everything to the disk and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._bytes = self._file.tell()
        self._file.close()
        self._out.close()

    def abandon(self) -> None:
        """Close the file and the encoder in any state."""
        # Closing fails if the rest of the data does not fit on the disk. The data is not needed.
        with suppress(OSError):
            self._file.close()
        self._out.close()

    @property
    def summary(self) -> PacketSummary:
        """Return the summary of the finished file."""
        return PacketSummary(
            packets=len(self._times),
            bytes=self._bytes,
            first=min(self._times),
            last=max(self._times),
            delay=max(self._early, _depth(self._times)),
            extradata=extradata_hash(self.encoder),
        )


def read_packets(path: Path) -> Iterator[Any]:
    """Yield the packets with times in ticks, without decode times.

    Raises OutputError if the file cannot be read or is damaged. A damaged file is deleted.
    """
    with writing(path), path.open("rb") as file:
        tick = Fraction(_read_kind(file, path)["tick"])
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                raise _damaged(path)
            time, duration, length, key, side_data = _HEAD.unpack(head)
            payload = _exactly(file, length, path)
            record = [head, payload]
            packet = av.Packet(payload)
            for _ in range(side_data):
                start = _exactly(file, _SIDE.size, path)
                kind, length = _SIDE.unpack(start)
                record += [start, _exactly(file, length, path)]
                side = PacketSideData(kind, length)  # type: ignore[call-arg]
                side.update(record[-1])
                packet.set_sidedata(side, move=True)
            checksum = 0
            for part in record:
                checksum = zlib.crc32(part, checksum)
            if _SUM.unpack(_exactly(file, _SUM.size, path)) != (checksum,):
                raise _damaged(path)
            packet.pts, packet.duration, packet.time_base = time, duration, tick
            packet.is_keyframe = bool(key)
            yield packet


def _record(packet: Any) -> bytes:
    payload = bytes(packet)
    sides = [side for side in packet.iter_sidedata() if side.data_type not in _IDLE]
    head = packet.pts, packet.duration, len(payload), packet.is_keyframe, len(sides)
    parts = [_HEAD.pack(*head), payload]
    for side in sides:
        kind = packet_sidedata_type_from_literal(side.data_type)
        parts += [_SIDE.pack(kind, side.data_size), bytes(side)]
    return b"".join(parts)


def _depth(times: Sequence[int]) -> int:
    """Return the largest number of places by which a packet lies behind its presentation order."""
    shown = sorted(times)
    return max((k - bisect_left(shown, time) for k, time in enumerate(times)), default=0)


def _read_kind(file: BinaryIO, path: Path) -> dict[str, str]:
    try:
        head: dict[str, str] = json.loads(file.readline(1000))
    except ValueError as error:
        raise _damaged(path) from error
    if head.get("kind") != _KIND:
        raise _damaged(path)
    return head


def _exactly(file: BinaryIO, length: int, path: Path) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise _damaged(path)
    return data


def _damaged(path: Path) -> OutputError:
    # The damaged file is useless. A resumed run makes it again.
    path.unlink(missing_ok=True)
    return OutputError("segment-damaged", path=path)
