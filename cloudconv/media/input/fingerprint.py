"""Detect by sizes, dates and both ends of the files whether an input has changed since a probe."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.media.input import images
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.input.spool import is_copy

_EDGE = 1 << 20  # bytes


def input_fingerprint(path: Path, *, ends: bool = True) -> str:
    """Return a hash of the size, date and both ends of each file of an input.

    Pictures of a folder or pattern are hashed by size and date only. The date of a temporary copy
    of standard input has no meaning and is left out.

    Args:
        path: the probed path.
        ends: whether to hash both ends of a file, and of the files that a playlist names.

    Raises:
        InputError: the input does not exist, or cannot be read.
    """
    known = hashlib.sha256()
    lasting = not is_copy(path)
    for file in images.files_of(path):
        try:
            about = file.stat()
            known.update(f"{about.st_size} {about.st_mtime_ns if lasting else ''};".encode())
            if ends and path.is_file():
                known.update(both_ends(file))
        except OSError as error:
            raise InputError("unreadable", path=file, why=error.strerror) from error
    return known.hexdigest()


def both_ends(file: Path) -> bytes:
    """Return the first and the last MiB of a file, which differ between most files."""
    with file.open("rb") as opened:
        head = opened.read(_EDGE)
        opened.seek(max(file.stat().st_size - _EDGE, 0))
        return head + opened.read(_EDGE)


def has_changed(info: MediaInfo) -> bool:
    """Return whether an input has changed since it was probed.

    Raises:
        InputError: the input no longer exists, or cannot be read.
    """
    # Only this process writes to a copy of standard input. The copy grows, but does not change.
    if not info.fingerprint or is_copy(info.path):
        return False
    return input_fingerprint(info.path) != info.fingerprint


def check_unchanged(info: MediaInfo) -> None:
    """Check that an input is the same as when it was probed.

    Raises:
        UnfitInputError: the input has changed.
        InputError: the input no longer exists, or cannot be read.
    """
    if has_changed(info):
        raise UnfitInputError("input-changed", path=info.path)
