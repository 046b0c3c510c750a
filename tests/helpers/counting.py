"""Count the bytes of a file that are read by FFmpeg, and to identify the file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import finalize

import av
import pytest

from cloudconv.media.containers import input as inputs
from cloudconv.media.reading import demux, identity


class Count:
    """The number of bytes that were read of a file."""

    def __init__(self) -> None:
        self.bytes = 0


class Reader:
    """A file object for FFmpeg, which is closed when nobody refers to it."""

    def __init__(self, name: str, file: io.FileIO) -> None:
        self.name = name
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
        finalize(self, file.close)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, path: Path, buffer: int) -> Iterator[Count]:
    """Count what is read of a file in the block, with buffers of that size in FFmpeg."""
    count = Count()

    class Counting(io.FileIO):
        def read(self, size: int | None = -1, /) -> Any:
            data = super().read(size)
            if Path(str(self.name)) == path:
                count.bytes += len(data or b"")
            return data

        def readinto(self, buffer: Any, /) -> Any:
            size = super().readinto(buffer)
            if Path(str(self.name)) == path:
                count.bytes += size or 0
            return size

    real = av.open

    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if file != f"file:{path}" or "w" in (*arguments, options.get("mode")):
            return real(file, *arguments, **options)
        return real(Reader(file, Counting(path)), *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(av, "open", opened)
        patch.setattr(demux, "_BUFFER", buffer)
        patch.setattr(identity, "io", SimpleNamespace(FileIO=Counting))
        kinds = {"FileIO": Counting, "BufferedReader": io.BufferedReader}
        patch.setattr(inputs, "io", SimpleNamespace(**kinds))
        yield count
