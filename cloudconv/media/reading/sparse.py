"""Read a file without the data of packets that nobody needs.

FFmpeg's readers take every byte of a packet before they return the packet, also where only
its time is wanted. A `SparseFile` returns zeros for hidden data, which it does not read.
The positions of packets are known from the index of MP4 and MOV.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import finalize

from cloudconv.media.containers.input import growth_of

_ALL = 1 << 62
_AT_ONCE = 1 << 16  # bytes to read, which may all be in vain after the next seek


def sparse_file(path: Path) -> "SparseFile | None":
    """Return a file object on an MP4 or MOV file; None for others.

    The result is None for a file that still grows, too.
    """
    if growth_of(path) is not None:
        return None
    with suppress(OSError), path.open("rb") as file:
        if file.read(8)[4:] == b"ftyp":
            return SparseFile(path)
    return None


class SparseFile:
    """A file object for FFmpeg, which reads everything until something is hidden."""

    def __init__(self, path: Path) -> None:
        self.name = f"file:{os.fspath(path)}"
        self._file = io.FileIO(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self._position = 0
        self._edges = [_ALL]  # where hidden bytes begin and end in turn
        finalize(self, self._file.close)

    def read(self, size: int) -> bytes:
        """Return some of the next bytes, with zeros in the place of hidden ones."""
        number = bisect_right(self._edges, self._position)
        end = min(self._edges[number], self.size)
        count = max(min(size, end - self._position), 0)
        if number % 2:
            data = bytes(count)
        else:
            self._file.seek(self._position)
            data = self._file.read(min(count, _AT_ONCE))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set and return the position of the next read."""
        start = {os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence, 0)
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def hide_packets(self, streams: Iterable[Any], ends: int = 0) -> None:
        """Hide the data of these streams, as far as the file's index has their packets.

        The first and the last ``ends`` bytes of each packet stay visible.
        """
        entries = chain.from_iterable(stream.index_entries for stream in streams)
        edges: list[int] = []
        for start, end in sorted(
            (entry.pos + ends, entry.pos + entry.size - ends)
            for entry in entries
            if entry.size > 2 * ends
        ):
            if edges and start <= edges[-1]:
                edges[-1] = max(edges[-1], end)
            else:
                edges += (start, end)
        self._edges = [*edges, _ALL]
