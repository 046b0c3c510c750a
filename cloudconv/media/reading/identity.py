"""Decide whether an input is the one of an earlier run, or has changed since a probe.

Of an input of up to 64 MB all bytes count. A file of a larger one is known by its size, its
date and its inode. No other module compares inputs.
"""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cloudconv.errors import UnfitInputError
from cloudconv.files import reading
from cloudconv.media.containers.input import Copy, check_kind
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.pictures import files_of

MOST_HASHED = 64_000_000  # bytes of an input whose bytes are all hashed
FRESH = 2 * 10**9  # nanoseconds; a change after that time has another time
_BLOCK = 1 << 16  # bytes that are read at once
_HAS_CHANGE_TIME = os.name != "nt"  # on Windows st_ctime is the time of creation


def input_fingerprint(path: Path) -> str:
    """Return a hash of the size and content of each file of an input.

    Of an input above 64 MB, the date and the inode of each file stand for the content.
    Raises InputError if the input does not exist, or cannot be read.
    """
    digest = hashlib.sha256()
    versions = input_version(path)
    is_large = sum(size for *_, size, _ in versions) > MOST_HASHED
    for file, (_, inode, size, date) in zip(files_of(path), versions, strict=True):
        with reading(file):
            check_kind(file)
            digest.update(f"{size};".encode())
            if is_large:
                digest.update(f"{inode} {date};".encode())
            else:
                with io.FileIO(file) as opened:
                    # Some files of the system, of size 0, have no end.
                    for _ in range(0, size, _BLOCK):
                        digest.update(opened.read(_BLOCK))
    return digest.hexdigest()


def input_version(path: Path) -> tuple[tuple[int, ...], ...]:
    """Return values that change if a file of an input is replaced or written again.

    They are the device, the inode, the size in bytes, and the date in nanoseconds.
    """
    return tuple(
        (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
        for about in _states(path)
    )


def input_stamp(path: Path) -> str:
    """Return a text that differs if any file of an input was written, renamed or replaced.

    The text also differs after changes of other kinds, such as a new link to a file. The
    text is empty on systems that do not record the time of such changes, and if a file was
    changed so recently that another change could have the same time.
    """
    changes = [about.st_ctime_ns for about in _states(path)]
    if not _HAS_CHANGE_TIME or time.time_ns() - max(changes) < FRESH:
        return ""
    return hashlib.sha256(f"{input_version(path)} {changes}".encode()).hexdigest()


def _states(path: Path) -> Iterator[os.stat_result]:
    for file in files_of(path):
        with reading(file):
            about = file.stat()
        yield about


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
