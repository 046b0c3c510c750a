"""Decide whether an input is the one of an earlier run, or has changed since a probe.

Of an input of up to 64 MB all bytes count. Of a larger one the size and samples count, and
dates and inodes, because samples cannot show each change. No other module compares inputs.
"""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.files import reading
from cloudconv.media.containers.input import Copy, check_kind
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.pictures import files_of

MOST_HASHED = 64_000_000  # bytes of an input whose bytes are all hashed
HASHED = 32_000_000  # bytes of a larger input
SAMPLE = 1 << 16  # bytes; at least so many of each picture
_FEWEST = 8  # samples of each picture, which meet each change of a seventh of its bytes
FRESH = 2 * 10**9  # nanoseconds; a change after that time has another time
_HAS_CHANGE_TIME = os.name != "nt"  # on Windows st_ctime is the time of creation


def input_fingerprint(path: Path) -> str:
    """Return a hash of the size and content of each file of an input.

    Of an input above 64 MB, samples at even distances are hashed, 32 MB in all, and at
    least 64 KiB of each picture. No date counts. Raises InputError if the input does not
    exist, or cannot be read.
    """
    digest = hashlib.sha256()
    files = files_of(path)
    share = max(HASHED // len(files), SAMPLE) if is_sampled(path) else None
    for file in files:
        with reading(file):
            size = file.stat().st_size
            digest.update(f"{size};".encode())
            check_kind(file)
            for block in _blocks(file, size, share):
                digest.update(block)
    return digest.hexdigest()


def identify(path: Path) -> dict[str, Any]:
    """Return what shows later changes of an input, as fields of a description.

    The stamp is taken before the content.
    """
    stamp = input_stamp(path)
    dates = input_dates(path)
    return {"stamp": stamp, "dates": dates, "fingerprint": input_fingerprint(path)}


def input_dates(path: Path) -> str:
    """Return a hash of the date and the inode of each file of a large input.

    The text is empty for an input whose bytes are all hashed.
    """
    if not is_sampled(path):
        return ""
    dates = [(about.st_ino, about.st_mtime_ns) for about in _states(path)]
    return hashlib.sha256(f"{dates}".encode()).hexdigest()


def is_sampled(path: Path) -> bool:
    """Return whether only samples of an input are hashed."""
    return sum(size for *_, size, _ in input_version(path)) > MOST_HASHED


def input_version(path: Path) -> tuple[tuple[int, ...], ...]:
    """Return values that change if a file of an input is replaced or written again."""
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


def _blocks(file: Path, size: int, share: int | None) -> Iterator[bytes]:
    """Yield a file's content, or samples of ``share`` bytes in all at even distances."""
    with io.FileIO(file) as opened:
        if share is None or size <= share:
            # Some files of the system, of size 0, have no end.
            for _ in range(0, size, SAMPLE):
                yield opened.read(SAMPLE)
            return
        length = min(SAMPLE, share // _FEWEST)
        count = share // length
        for number in range(count):
            opened.seek((size - length) * number // (count - 1))
            yield opened.read(length)


def has_changed(info: MediaInfo) -> bool:
    """Return whether the content of an input has changed since it was probed."""
    # Only this process writes to a copy of standard input. The copy grows, but does not
    # change.
    is_ours = not info.fingerprint or isinstance(info.path, Copy)
    if is_ours or (info.stamp and input_stamp(info.path) == info.stamp):
        return False
    return input_fingerprint(info.path) != info.fingerprint


def check_unchanged(info: MediaInfo) -> None:
    """Raise UnfitInputError if an input has changed since it was probed.

    Raise InputError if a large one was written or replaced, and its samples are the same.
    """
    if has_changed(info):
        raise UnfitInputError(
            f"input-changed: {info.path} was changed while it was read, so the parts of "
            "the output do not belong together: run the command again."
        )
    if info.dates and info.dates != input_dates(info.path):
        raise InputError(
            f"input-touched: {info.path} was written or replaced while it was read (its "
            "date or its inode is new), and so large a file is compared in samples only: "
            "start again with --no-resume."
        )
