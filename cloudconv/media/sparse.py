"""Read a file without the data of packets that nobody needs.

FFmpeg's readers take every byte of a packet before they return the packet, also where only
its time is wanted. A `SparseFile` returns zeros for hidden data, which it does not read.
The positions of packets are known from the index of MP4 and MOV (`hide_packets`), and from
the blocks of Matroska and WebM on the way (`hide_blocks`, `keep_blocks`). A cluster of
Matroska with nothing but hidden blocks becomes an element that a reader skips.
"""

import io
import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from weakref import finalize

from cloudconv.media.matroska import children, header, void

# Elements of Matroska (RFC 9559) whose content is other elements, and those with a packet.
_SEGMENT, _CLUSTER, _GROUP = 0x18538067, 0x1F43B675, 0xA0
_BLOCKS = 0xA3, 0xA1
# The other elements between a cluster and the next.
_TIME = 0xE7
_BESIDE = {_TIME, 0xA7, 0xAB, 0x5854, 0xAF, 0x75A1, 0x9B, 0xFA, 0xFB, 0xA4, 0x75A2, 0x8E}
_BESIDE |= {0xEC, 0xBF, 0xFD, 0xC8}
_FIRST_LEVEL = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770}
_FIRST_LEVEL |= {0x1254C367, 0x1A45DFA3, 0xEC, 0xBF}
_TRACKS, _ENTRY, _NUMBER, _TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x83
VIDEO, SUBTITLES = b"\1", b"\x11"  # kinds of tracks
_MATROSKA = b"\x1aE\xdf\xa3"
_LONGEST_HEADER = 12  # bytes of an element's id and size
_HEAD = 64  # bytes, which contain the time of a cluster
_REACH = 1 << 15  # ticks by which the time of a block may differ from that of its cluster
_NEVER = (math.inf, -math.inf)
_BLOCK_HEAD = 4  # bytes before the data of a block: track of one byte, time and flags
_PARENTS = {_SEGMENT, _CLUSTER, _GROUP}
_KNOWN = _PARENTS | {*_BLOCKS} | _BESIDE | _FIRST_LEVEL
_ALL = 1 << 62
_AT_ONCE = 1 << 15  # bytes to read, which may all be in vain after the next seek
_FAR = 1 << 22  # bytes before a position in which elements are found one after the other


def sparse_file(path: Path) -> "SparseFile | None":
    """Return a file object on an MP4, MOV, Matroska or WebM file; None for others."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(8)
        if head[4:] == b"ftyp" or head[:4] == _MATROSKA:
            return SparseFile(path)
    return None


Spans = Mapping[int, tuple[float, float]]
"""The least and the greatest time in ticks of the blocks to keep, by number of track."""


class Extents(Protocol):
    """The division of a file into bytes to read and hidden bytes."""

    def at(self, position: int) -> tuple[int, bytes | None]:
        """Return the end of the extent at a position, and what stands for its bytes.

        None is the bytes of the file; zeros follow others.
        """
        ...


class SparseFile:
    """A file object for FFmpeg, which reads everything until something is hidden."""

    def __init__(self, path: Path) -> None:
        self.name = f"file:{os.fspath(path)}"
        self._file = io.FileIO(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self._position = 0
        self._extents: Extents | None = None
        finalize(self, self._file.close)

    def read(self, size: int) -> bytes:
        """Return the next bytes, with zeros in the place of hidden ones."""
        if self._extents is None:
            data = self.read_at(self._position, size)
            self._position += len(data)
            return data
        parts = []
        size = min(size, self.size - self._position)
        room = _AT_ONCE
        while size > 0 and room > 0:
            end, shown = self._extents.at(self._position)
            count = min(size, end - self._position)
            if shown is None:
                part = self.read_at(self._position, min(count, room))
                room -= len(part)
            else:
                part = shown[:count].ljust(count, b"\0")
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)

    def read_at(self, position: int, size: int) -> bytes:
        """Return bytes of the file itself."""
        self._file.seek(position)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set and return the position of the next read."""
        start = {os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence, 0)
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def tracks(self) -> list[tuple[int, bytes]]:
        """Return number and kind of the tracks of a Matroska file, in order.

        The result is empty if the tracks come after the packets.
        """
        at = 0
        while len(data := self.read_at(at, _LONGEST_HEADER)) == _LONGEST_HEADER:
            name, body, end = header(data, 0)
            if name == _TRACKS:
                tracks = children(self.read_at(at + body, end - body))
                entries = [dict(children(data)) for name, data in tracks if name == _ENTRY]
                return [(entry[_NUMBER][-1], entry.get(_TYPE, b"")) for entry in entries]
            if name == _CLUSTER:
                break
            at += body if name == _SEGMENT else end
        return []

    def hide_packets(self, streams: Iterable[Any], ends: int = 0) -> None:
        """Hide the data of these streams, as far as the file's index has their packets.

        The first and the last ``ends`` bytes of each packet stay visible.
        """
        entries = chain.from_iterable(stream.index_entries for stream in streams)
        self._extents = _Packets(
            sorted(
                (entry.pos + ends, entry.pos + entry.size - ends)
                for entry in entries
                if entry.size > 2 * ends
            )
        )

    def hide_blocks(self, head: int = 0, tail: int = 0) -> None:
        """Hide the data of all blocks of Matroska.

        The first ``head`` and the last ``tail`` bytes of each block stay visible.
        """
        self._extents = _Blocks(self, None, head, tail)

    def keep_blocks(self, spans: Spans) -> None:
        """Hide the blocks of Matroska that are not in the span of their track."""
        self._extents = _Blocks(self, spans)


class _Packets:
    """The hidden spans of a file, in order."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def at(self, position: int) -> tuple[int, bytes | None]:
        number = bisect_right(self._starts, position)
        if number and position < self._ends[number - 1]:
            return self._ends[number - 1], b""
        return self._starts[number] if number < len(self._starts) else _ALL, None


class _Blocks:
    """The blocks of a Matroska file, found one after the other.

    After a seek to anything but a cluster, or where an element is damaged, all bytes are
    visible. Without ``spans``, the data of all blocks is hidden.
    """

    def __init__(
        self, file: SparseFile, spans: Spans | None, head: int = 0, tail: int = 0
    ) -> None:
        self._file = file
        self._begin = file.tell()  # a reader has read a part of what begins before
        self._spans = spans
        self._head = head
        self._tail = tail
        self._start = self._end = 0  # of the element that was found last
        self._hidden = (0, 0)  # in that element
        self._void = b""  # in the place of the hidden part
        self._time: int | None = None  # of the cluster; None if unknown

    def at(self, position: int) -> tuple[int, bytes | None]:
        if not self._start <= position < self._end and not self._reach(position):
            return _ALL, None
        start, end = self._hidden
        if position < start:
            return start, None
        return (
            (end, self._void[position - start :]) if position < end else (self._end, None)
        )

    def _reach(self, position: int) -> bool:
        """Find the element that contains a position; return False if that is not known."""
        if self._find(position):
            return True
        while self._end <= position < self._end + _FAR:
            if not self._find(self._end):
                return False
        return self._start <= position < self._end

    def _find(self, position: int) -> bool:
        """Find the element at a position; return False if there may be none."""
        data = self._file.read_at(position, _LONGEST_HEADER + _BLOCK_HEAD)
        known = _KNOWN if position == self._end else _PARENTS
        if len(data) < _LONGEST_HEADER + _BLOCK_HEAD or not data[0]:
            return False
        kind, body, end = header(data, 0)
        if kind not in known:
            return False
        self._start = position
        self._end = position + (body if kind in _PARENTS else end)
        self._hidden = self._end, self._end
        self._void = b""
        skips = False
        if kind == _CLUSTER:
            self._time = _time_of(self._file.read_at(position + body, _HEAD))
            skips = self._skips_cluster()
        elif kind in _BLOCKS and data[body] & 0x80:
            skips = self._skips_block(data[body:])
        if skips and self._begin <= position <= self._file.size - end:
            self._end = position + end
            self._hidden = position, self._end
            self._void = void(end)
        elif kind in _BLOCKS and self._spans is None:
            last = self._end - self._tail
            self._hidden = min(position + body + _BLOCK_HEAD + self._head, last), last
        return True

    def _skips_cluster(self) -> bool:
        """Return whether no block of a cluster can be in the span of its track."""
        time = self._time
        if self._spans is None or time is None:
            return False
        return all(
            time + _REACH < least or time - _REACH > most
            for least, most in self._spans.values()
        )

    def _skips_block(self, block: bytes) -> bool:
        if self._spans is None:
            return False
        least, most = self._spans.get(block[0] & 0x7F, _NEVER)
        later = int.from_bytes(block[1:3], signed=True)
        time = None if self._time is None else self._time + later
        return least > most or (time is not None and not least <= time <= most)


def _time_of(cluster: bytes) -> int | None:
    """Return the time in ticks that stands at the beginning of a cluster."""
    at = 0
    while at + _LONGEST_HEADER < len(cluster):
        kind, body, end = header(cluster, at)
        if kind == _TIME:
            return int.from_bytes(cluster[body:end])
        at = end
    return None
