"""Read an input for FFmpeg, and copy standard input to a file first.

A copy exists as long as an object refers to its path, such as the description of the input
in the plan of a job. Nothing has to delete a copy.
"""

import errno
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from weakref import WeakValueDictionary, finalize

from filelock import FileLock, Timeout

from cloudconv.errors import InputError
from cloudconv.files import storing_temporarily
from cloudconv.messages import amount
from cloudconv.pipeline import is_closing

_CHUNK = 1 << 20  # bytes
# Bytes of the disk that a copy leaves free, or else half of what is free.
_RESERVE = 1 << 30
_PREFIX = "cloudconv-stdin-"
_LOCK = "lock"
_NEW = 10  # seconds in which a folder may not have its lock yet
_PAUSE = 0.02  # seconds
# The start of an address such as https://. A single letter is a drive instead. On Windows a
# path has backslashes.
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):[/\\]+")
_MATROSKA = b"\x1a\x45\xdf\xa3"


def _store(read: Callable[[], bytes], target: BinaryIO, folder: Path) -> None:
    """Write what arrives to a file.

    Raise OSError before the disk has no room for anything else.
    """
    reserve = min(_RESERVE, shutil.disk_usage(folder).free // 2)
    while data := read():
        if shutil.disk_usage(folder).free - len(data) < reserve:
            raise OSError(errno.ENOSPC, f"less than {amount(reserve)} would stay free")
        target.write(data)


def _leave_no_copies() -> None:
    """Delete the copies of runs that were killed: those whose lock no process has."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            lock = folder / _LOCK
            about = folder.lstat()
            if (
                not stat.S_ISDIR(about.st_mode)
                or about.st_uid != getattr(os, "getuid", int)()
            ):
                continue  # another user's
            if lock.is_file() and time.time() - about.st_mtime > _NEW:
                with FileLock(lock, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)


class Growth:
    """A growing copy of standard input, which a thread writes while others read it."""

    def __init__(self, copy: Path, head: bytes) -> None:
        self.copy = copy
        self.interrupt: KeyboardInterrupt | None = None
        self._ended = threading.Event()
        self._error: OSError | None = None
        copy.write_bytes(head)
        threading.Thread(target=self._fill, name="cloudconv-stdin", daemon=True).start()

    def _fill(self) -> None:
        try:
            with self.copy.open("ab", buffering=0) as target:
                # os.read takes no lock. sys.stdin.read would hold a lock when the process
                # ends.
                _store(
                    partial(os.read, sys.stdin.fileno(), _CHUNK), target, self.copy.parent
                )
        except OSError as error:
            self._error = error
        self._ended.set()

    def has_ended(self) -> bool:
        """Wait 0.02 s at most for the end, and return whether the copy is complete."""
        ended = self._ended.wait(_PAUSE)
        if self._error is not None:
            with storing_temporarily():
                raise self._error
        return ended


def _discard(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


class Copy(type(Path())):  # type: ignore[misc] # the class of this system's paths
    """The path of a temporary copy, which messages show as standard input.

    ``growth`` is set if a thread writes the copy.
    """

    shown: str
    growth: Growth | None = None

    def __format__(self, _: str) -> str:
        return getattr(self, "shown", str(self))


_copies: WeakValueDictionary[str, Copy] = WeakValueDictionary()  # "-" to its copy


class GrowthReader:
    """A file object for FFmpeg on a growing copy, without seeking."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._file = growth.copy.open("rb", buffering=0)
        self.close = self._file.close

    def read(self, size: int) -> bytes:
        """Return 1 to ``size`` bytes, after a wait if necessary.

        Returns no bytes at the end, after an interrupt, and while the caller's pipeline is
        closed.
        """
        try:
            while not (data := self._file.read(size)):
                if self._growth.has_ended():
                    return self._file.read(size)
                if self._growth.interrupt or is_closing():
                    return b""
        except KeyboardInterrupt as error:
            # FFmpeg calls this function, and PyAV loses the interrupt: Ctrl-C during the
            # header of an input that does not go on.
            self._growth.interrupt = error
            return b""
        return data


def reader_of(path: Path) -> GrowthReader | None:
    """Return a file object for FFmpeg; None for a file that FFmpeg opens itself."""
    growth = growth_of(path)
    return None if growth is None else GrowthReader(growth)


_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".exr"),
    *(".tga", ".dpx", ".jp2", ".ppm", ".avif", ".jxl", ".sgi", ".pcx", ".xwd"),
    *(".jpe", ".jfif", ".heic", ".heif", ".qoi", ".pgm", ".pbm", ".pnm", ".hdr"),
}


def is_picture(file: Path) -> bool:
    """Return whether the name has the suffix of a picture file."""
    return file.suffix.lower() in _SUFFIXES


def growth_of(path: Path) -> Growth | None:
    """Return the growth of a copy of standard input; None for any other path."""
    return path.growth if isinstance(path, Copy) else None


def local_file(path: Path | str, *, live: bool = False) -> Path:
    """Return the path, or a temporary copy of ``-``, standard input.

    The copy is made once and exists as long as the returned path. With ``live``, Matroska
    from standard input is returned at once. The copy then grows, and `growth_of` returns
    its growth. Raises InputError for what is no readable file, and if the copy cannot be
    written.
    """
    path = Path(path)
    if (name := str(path)) != "-":
        check_there([path])
        return path
    if (held_copy := _copies.get(name)) is not None:
        return held_copy
    with storing_temporarily():
        _leave_no_copies()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
        lock.acquire()
        copy = Copy(folder / "standard-input")
        copy.shown = "standard input"
        finalize(copy, _discard, folder, lock)
        source: Any = sys.stdin.buffer
        live = live and isinstance(source, io.BufferedReader)
        if live and source.peek(4).startswith(_MATROSKA):
            copy.growth = Growth(Path(os.fspath(copy)), source.read1())
        else:
            with copy.open("wb") as target:
                _store(partial(source.read, _CHUNK), target, folder)
        if not copy.stat().st_size:
            raise InputError(
                "nothing-arrived: Nothing came through standard input: send a video file "
                "into it."
            )
    _copies[name] = copy
    return copy


def check_there(names: Iterable[Path | str]) -> None:
    """Check each name by :func:`check_kind`, except patterns and standard input."""
    for path in map(Path, names):
        if str(path) != "-" and (address_of(path) or not is_pattern(path)):
            check_kind(path)


def address_of(path: Path) -> str | None:
    """Return the address that a path was made of, such as https://a/b; None for others."""
    if (start := _ADDRESS.match(str(path))) is None:
        return None
    # Path has reduced the slashes of an address to one.
    slashes = "///" if start[1].lower() == "file" else "//"
    rest = str(path)[start.end() :].replace("\\", "/")
    return f"{start[1]}:{slashes}{rest}"


def check_kind(path: Path) -> None:
    """Raise InputError for what is missing, empty, an address, or no file or folder.

    The readers of forbidden files and folders raise errors that say more.
    """
    if (address := address_of(path)) is not None and not path.exists():
        raise InputError(
            f"is-an-address: {address} is an address, and only files on this machine are "
            "read: download it first, or give the path of the file."
        )
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"no-file: There is no file {path}: check the name.") from error
    except OSError:
        return
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        kind = "a named pipe" if stat.S_ISFIFO(about.st_mode) else "a device or a socket"
        raise InputError(
            f"not-a-file: {path} is {kind}: give a file, or send the video to standard "
            "input (named -)."
        )
    # Some files of the system have no size, and wait for data without end.
    if stat.S_ISREG(about.st_mode) and not about.st_size:
        raise InputError(
            f"empty-file: {path} is empty (0 bytes): give a complete video file."
        )


_NUMBER = re.compile(r"((?:[^%]|%%)*)%0?(\d{0,2})d((?:[^%]|%%)*)")


class Numbered(NamedTuple):
    """The parts of a pattern such as ``%05d.png``: numbers of ``width`` or more digits."""

    before: str
    width: int
    after: str

    def name(self, number: int) -> str:
        """Return the file name of picture ``number``."""
        return f"{self.before}{number:0{self.width or 1}d}{self.after}"


def is_stdout(path: Path) -> bool:
    """Return whether the output is ``-``, standard output."""
    return str(path) == "-"


def numbered(path: Path) -> Numbered | None:
    """Return the pattern of a name with exactly one number field.

    ``%%`` stands for a ``%``.
    """
    if (match := _NUMBER.fullmatch(path.name)) is None:
        return None
    before, width, after = match.groups()
    return Numbered(before.replace("%%", "%"), int(width or 0), after.replace("%%", "%"))


def is_pattern(path: Path) -> bool:
    """Return whether a name stands for several pictures: ``%05d.png``, ``*.png``."""
    is_wild = any(sign in path.name for sign in "*?[") and not path.exists()
    return is_wild or numbered(path) is not None


def pictures_of(path: Path) -> Iterator[Path]:
    """Yield the existing files that match a pattern, unsorted."""
    if not is_pattern(path) or not path.parent.is_dir():
        return
    pattern = numbered(path)
    for file in path.parent.iterdir():
        if pattern is None:
            if fnmatch(file.name, path.name) and not file.name.startswith("."):
                yield file
            continue
        digits = file.name[len(pattern.before) : len(file.name) - len(pattern.after)]
        if digits.isdecimal() and pattern.name(int(digits)) == file.name:
            yield file
