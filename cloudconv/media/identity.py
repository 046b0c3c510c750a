"""Detect by the content of the files whether an input has changed since a probe."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cloudconv.errors import UnfitInputError
from cloudconv.files import reading
from cloudconv.media.frame import MediaInfo
from cloudconv.media.input import Copy, check_kind
from cloudconv.media.pictures import files_of

BLOCK = 1 << 20  # bytes
BLOCKS = 4096  # of an input to read at most; a larger input is read in parts
FRESH = 2 * 10**9  # nanoseconds; a change after that time has another time
_HAS_CHANGE_TIME = os.name != "nt"  # on Windows st_ctime is the time of creation


def input_fingerprint(path: Path) -> str:
    """Return a hash of the size and content of each file of an input.

    Of inputs above 4 GiB, blocks of 1 MiB at even distances are hashed, at least two of
    each file, and the date of a file with other blocks. The date of a temporary copy of
    standard input has no meaning. Raises InputError if the input does not exist, or cannot
    be read.
    """
    digest = hashlib.sha256()
    files = list(files_of(path))
    most = max(BLOCKS // len(files), 2)
    for file in files:
        with reading(file):
            about = file.stat()
            is_hashed_whole = about.st_size <= most * BLOCK or isinstance(path, Copy)
            date = "" if is_hashed_whole else about.st_mtime_ns
            digest.update(f"{about.st_size} {date};".encode())
            check_kind(file)
            for block in _blocks(file, about.st_size, most):
                digest.update(block)
    return digest.hexdigest()


def input_version(path: Path) -> list[tuple[int, ...]]:
    """Return values that change if a file of an input is replaced or written again."""
    versions: list[tuple[int, ...]] = []
    for file in files_of(path):
        with reading(file):
            about = file.stat()
        versions.append((about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns))
    return versions


def input_stamp(path: Path) -> str:
    """Return a text that differs if any file of an input was written, renamed or replaced.

    The text also differs after changes of other kinds, such as a new link to a file. The
    text is empty on systems that do not record the time of such changes, and if a file was
    changed so recently that another change could have the same time.
    """
    stamps = []
    for file in files_of(path) if _HAS_CHANGE_TIME else ():
        with reading(file):
            about = file.stat()
        times = about.st_mtime_ns, about.st_ctime_ns
        stamps.append(f"{about.st_dev} {about.st_ino} {about.st_size} {times};")
        if time.time_ns() - about.st_ctime_ns < FRESH:
            return ""
    return hashlib.sha256("".join(stamps).encode()).hexdigest() if stamps else ""


def _blocks(file: Path, size: int, most: int) -> Iterator[bytes]:
    """Yield a file's content, or ``most`` blocks of it: first, last, and some between."""
    with io.FileIO(file) as opened:
        if size <= most * BLOCK:
            # Some files of the system, of size 0, have no end.
            for _ in range(0, size, BLOCK):
                yield opened.read(BLOCK)
            return
        for number in range(most):
            opened.seek((size - BLOCK) * number // (most - 1))
            yield opened.read(BLOCK)


def has_changed(info: MediaInfo) -> bool:
    """Return whether an input has changed since it was probed."""
    # Only this process writes to a copy of standard input. The copy grows, but does not
    # change.
    is_ours = not info.fingerprint or isinstance(info.path, Copy)
    if is_ours or (info.stamp and input_stamp(info.path) == info.stamp):
        return False
    return input_fingerprint(info.path) != info.fingerprint


def check_unchanged(info: MediaInfo) -> None:
    """Raise UnfitInputError if an input has changed since it was probed."""
    if has_changed(info):
        raise UnfitInputError(
            f"input-changed: {info.path} was changed while it was read, so the parts of "
            "the output do not belong together: run the command again."
        )
