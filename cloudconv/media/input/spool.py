"""Copy standard input and named pipes to files, because a video is read more than once.

A copy exists as long as an object refers to its path, such as the description of the input in the
plan of a job. Nothing has to delete a copy.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary, finalize

from cloudconv.errors import InputError

_CHUNK = 1 << 20  # bytes
_PAUSE = 0.02  # seconds
PATIENCE = 10.0
"""The time in seconds within which another process must open a named pipe for writing."""
# The start of an address such as https://. A single letter is a drive instead. On Windows a path
# has backslashes.
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):[/\\]+")
_MATROSKA = b"\x1a\x45\xdf\xa3"


class Copy(type(Path())):  # type: ignore[misc] # the class of this system's paths
    """The path of a temporary copy, which messages show as the name of the pipe.

    ``growth`` is set if a thread writes the copy.
    """

    shown: str
    growth: Growth | None = None

    def text(self, _: object) -> str:
        """Return the name for messages."""
        return getattr(self, "shown", str(self))


_copies: WeakValueDictionary[str, Copy] = WeakValueDictionary()  # by the names of the pipes


class Growth:
    """A growing copy of standard input, which a thread writes while others read it."""

    def __init__(self, copy: Path, head: bytes) -> None:
        """Write the first bytes and start the thread.

        Args:
            copy: the file to write.
            head: the bytes that were read already.
        """
        self.copy = copy
        self._ended = threading.Event()
        self._error: OSError | None = None
        copy.write_bytes(head)
        threading.Thread(target=self._fill, name="cloudconv-stdin", daemon=True).start()

    def _fill(self) -> None:
        try:
            with self.copy.open("ab", buffering=0) as target:
                # os.read takes no lock. sys.stdin.read would hold a lock when the process ends.
                while data := os.read(sys.stdin.fileno(), _CHUNK):
                    target.write(data)
        except OSError as error:
            self._error = error
        self._ended.set()

    def has_ended(self) -> bool:
        """Wait 0.02 s at most for the end, and return whether the copy is complete.

        Raises InputError if standard input cannot be read, or the copy cannot be written.
        """
        ended = self._ended.wait(_PAUSE)
        if self._error is not None:
            folder, why = self.copy.parent.parent, self._error.strerror
            raise InputError("copy-not-kept", name="-", folder=folder, why=why) from self._error
        return ended


class GrowthReader:
    """A file object for FFmpeg on a growing copy, without seeking."""

    def __init__(self, growth: Growth) -> None:
        """Open the copy."""
        self._growth = growth
        self._file = growth.copy.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes, after a wait if necessary; no bytes at the end."""
        while not (data := self._file.read(size)):
            if self._growth.has_ended():
                return self._file.read(size)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_copy(path: Path) -> bool:
    """Return whether the path is that of a temporary copy of a pipe."""
    return isinstance(path, Copy)


def is_growing(path: Path) -> bool:
    """Return whether the path is a copy of standard input that may be incomplete."""
    return isinstance(path, Copy) and path.growth is not None


def growth_reader(path: Path) -> GrowthReader | None:
    """Return a reader of the path if it is a growing copy; else None."""
    growth = path.growth if isinstance(path, Copy) else None
    return None if growth is None else GrowthReader(growth)


def local_file(path: Path | str, *, live: bool = False) -> Path:
    """Return the path, or a temporary copy of ``-`` (standard input) or of a named pipe.

    The copy is made once and exists as long as the returned path. With ``live``, Matroska from
    standard input is returned at once. The copy then grows, and `growth_reader` returns its reader.
    Raises InputError for a network address, if no data arrives, or if the copy cannot be written.
    """
    path = Path(path)
    # Path has reduced the two slashes of an address to one.
    if (address := _ADDRESS.match(str(path))) is not None and not path.exists():
        rest = str(path)[address.end() :].replace("\\", "/")
        raise InputError("is-an-address", address=f"{address[1]}://{rest}")
    name = str(path)
    if (known := _copies.get(name)) is not None:
        return known
    try:
        if name != "-" and not stat.S_ISFIFO(path.stat().st_mode):
            return path
    except OSError:
        return path
    folder = Path(tempfile.mkdtemp(prefix="cloudconv-"))
    source = "standard input" if name == "-" else name
    copy = Copy(folder / ("standard-input" if name == "-" else path.name))
    copy.shown = source
    finalize(copy, shutil.rmtree, folder, ignore_errors=True)
    try:
        if live and name == "-" and (head := _matroska_head()) is not None:
            copy.growth = Growth(Path(os.fspath(copy)), head)
        else:
            with copy.open("wb") as target:
                if name == "-":
                    shutil.copyfileobj(sys.stdin.buffer, target, _CHUNK)
                else:
                    _copy_pipe(path, target)
        empty = not copy.stat().st_size
    except OSError as error:
        raise InputError(
            "copy-not-kept", name=name, folder=folder.parent, why=error.strerror
        ) from error
    if empty:
        raise InputError("nothing-arrived", name=source)
    _copies[name] = copy
    return copy


def read_whole(path: Path) -> bytes:
    """Return the content of a file or of a named pipe.

    Raises:
        OSError: the path cannot be read.
        InputError: no data arrives through the pipe.
    """
    if not stat.S_ISFIFO(path.stat().st_mode):
        return path.read_bytes()
    content = io.BytesIO()
    _copy_pipe(path, content)
    if not content.tell():
        raise InputError("nothing-arrived", name=path)
    return content.getvalue()


def _copy_pipe(path: Path, target: BinaryIO) -> None:
    """Copy the content of a named pipe; nothing if no process opens its other end in 10 s."""
    if sys.platform == "win32":
        return  # named pipes are no files on this system
    # Without O_NONBLOCK, open would block until another process writes.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        deadline = time.monotonic() + PATIENCE
        # None: a writer exists and has not written yet; empty: there is no writer.
        while (first := pipe.read(_CHUNK)) == b"":
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE)
        os.set_blocking(pipe.fileno(), True)
        target.write(first or b"")
        shutil.copyfileobj(pipe, target, _CHUNK)


def _matroska_head() -> bytes | None:
    """Return the first bytes of standard input if they are Matroska's; else read nothing."""
    given = sys.stdin.buffer
    if not isinstance(given, io.BufferedReader) or not given.peek(4).startswith(_MATROSKA):
        return None
    return given.read1()
