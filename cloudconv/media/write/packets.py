"""Encoded pictures in a file of their own, until everything before and after them is there too.

No container would do. Matroska rounds times to the millisecond, MP4 hides frames in edit lists and
holds no alpha of VP9, and neither says afterwards whether every byte is still as it was written.
A packet file is one line of JSON, then a record a packet, in decoding order: a head, the payload,
the side data, and a checksum of all three.
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
from cloudconv.media.write.encode import (
    FEW,
    EncodingPlan,
    extradata_hash,
    open_strictly,
)

_KIND = "cloudconv packets 1"
_HEAD = struct.Struct("<qqIBB")  # time, duration, payload bytes, key frame, pieces of side data
_SIDE = struct.Struct("<HI")  # FFmpeg's number of the type, bytes
_SUM = struct.Struct("<I")
# What it measured matters to the encoder only.
_IDLE = ("quality_stats",)


@dataclass(frozen=True, slots=True)
class PacketSummary:
    """What a whole packet file holds.

    ``bytes`` is its size. Times are in ticks: ``first`` and ``last`` are when its first and last
    picture are shown. ``delay`` is how many packets a decoder must take in before it can show the
    first picture. ``extradata`` is a hash of the decoder's configuration.
    """

    packets: int
    bytes: int
    first: int
    last: int
    delay: int
    extradata: str


class PacketWriter:
    """Encodes into a packet file, as a container's writer encodes into the output."""

    def __init__(self, path: Path, muxer: str, plan: EncodingPlan) -> None:
        self.warnings: list[Warned] = []
        self._tick = plan.tick
        self._durations: dict[int, int] = {}
        self._times: list[int] = []
        self._early = 0
        # Nothing is muxed into it: it tells the encoder what the container wants of it.
        self._out = av.open(io.BytesIO(), "w", format=muxer)
        with ExitStack() as undo:
            undo.callback(self._out.close)
            self._stream = plan.add_video(self._out)
            open_strictly(plan.choice, self._out.start_encoding)
            self._file = path.open("xb")
            undo.callback(self._file.close)
            self._file.write(json.dumps({"kind": _KIND, "tick": str(plan.tick)}).encode() + b"\n")
            undo.pop_all()

    def write(self, picture: av.VideoFrame, tick: int, duration: int) -> None:
        picture.pts, picture.time_base = tick, self._tick
        self._durations[tick] = duration
        self._save(self._stream.encode(picture))

    def finish(self) -> None:
        """Flush the encoder, and return when the file is safe on the disk."""
        self._save(self._stream.encode(None))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._bytes = self._file.tell()
        self._file.close()
        self._out.close()

    def abandon(self) -> None:
        # What is still in the buffer may not fit the disk, but it is not wanted either.
        with suppress(OSError):
            self._file.close()
        self._out.close()

    @property
    def summary(self) -> PacketSummary:
        """Of the finished file."""
        return PacketSummary(
            packets=len(self._times),
            bytes=self._bytes,
            first=min(self._times),
            last=max(self._times),
            delay=max(self._early if len(self._times) > FEW else 0, _depth(self._times)),
            extradata=extradata_hash(self._stream),
        )

    def _save(self, packets: list[Any]) -> None:
        for packet in packets:
            self._times.append(packet.pts)
            self._early += packet.dts < self._times[0]
            record = _record(packet, self._durations.pop(packet.pts))
            self._file.write(record + _SUM.pack(zlib.crc32(record)))


def read_times(path: Path) -> list[int]:
    """The ticks at which the packets are shown, in the order of the file.

    Raises OutputError if the file is damaged.
    """
    with path.open("rb") as file:
        _read_kind(file, path)
        size = os.fstat(file.fileno()).st_size
        times = []
        while file.tell() < size:
            time, _, length, _, pieces = _HEAD.unpack(_exactly(file, _HEAD.size, path))
            times.append(time)
            file.seek(length, os.SEEK_CUR)
            for _ in range(pieces):
                _, length = _SIDE.unpack(_exactly(file, _SIDE.size, path))
                file.seek(length, os.SEEK_CUR)
            file.seek(_SUM.size, os.SEEK_CUR)
    return times


def read_packets(path: Path) -> Iterator[Any]:
    """The packets with times in ticks, without decode times. Raises OutputError if damaged."""
    with path.open("rb") as file:
        tick = Fraction(_read_kind(file, path)["tick"])
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                raise _damaged(path)
            time, duration, length, key, pieces = _HEAD.unpack(head)
            payload = _exactly(file, length, path)
            record = [head, payload]
            packet = av.Packet(payload)
            for _ in range(pieces):
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


def _record(packet: Any, duration: int) -> bytes:
    payload = bytes(packet)
    sides = [side for side in packet.iter_sidedata() if side.data_type not in _IDLE]
    head = packet.pts, duration, len(payload), packet.is_keyframe, len(sides)
    parts = [_HEAD.pack(*head), payload]
    for side in sides:
        kind = packet_sidedata_type_from_literal(side.data_type)
        parts += [_SIDE.pack(kind, side.data_size), bytes(side)]
    return b"".join(parts)


def _depth(times: Sequence[int]) -> int:
    """By how many places a packet lies, at most, behind its place in the order of showing."""
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
    # It serves nobody any more, and whoever misses it makes it again.
    path.unlink(missing_ok=True)
    return OutputError(f"The finished segment {path} was damaged on the disk and is deleted.")
