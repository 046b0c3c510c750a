"""Read and change the boxes of MP4 and MOV that FFmpeg neither reads nor writes.

ISO/IEC 14496-12 defines the boxes.
"""

import struct
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_SHOWN = 1  # the flag of a track that players show unless somebody chooses another
_EDIT = struct.Struct(">Iii")  # duration, place in the media (-1 for none), speed
_LONG_EDIT = struct.Struct(">Qqi")
_ONE = 1 << 16  # of a speed


def edit_speeds(path: Path) -> list[Fraction]:
    """Return the speeds, but 1, at which an edit list plays parts of the file's tracks."""
    speeds = set[Fraction]()
    with path.open("rb") as file:
        for track in _tracks(file, path.stat().st_size):
            for edits in _boxes(file, b"edts", *track):
                for start, end in _boxes(file, b"elst", *edits):
                    file.seek(start)
                    edit = _LONG_EDIT if file.read(8)[:1] == b"\1" else _EDIT
                    for _ in range((end - start - 8) // edit.size):
                        entry = file.read(edit.size)
                        if len(entry) < edit.size:
                            break
                        _, place, speed = edit.unpack(entry)
                        # Some programs write a speed of 0 for 1.
                        if place >= 0 and speed not in (0, _ONE):
                            speeds.add(Fraction(speed, _ONE))
    return sorted(speeds)


def hide(path: Path, numbers: Collection[int]) -> None:
    """Mark tracks, in place, as shown only if somebody chooses them.

    The first track has the number 1. FFmpeg's muxer marks the first track of subtitles as
    shown if none is the default one, and players then show subtitles that nobody has
    chosen.
    """
    with path.open("rb+") as file:
        for track in _tracks(file, path.stat().st_size):
            for header, _ in _boxes(file, b"tkhd", *track):
                file.seek(header)
                version, *flags = file.read(4)
                file.seek(16 if version else 8, 1)  # the times of creation and of a change
                if int.from_bytes(file.read(4), "big") in numbers:
                    file.seek(header + 3)
                    file.write(bytes([flags[-1] & ~_SHOWN]))


def _tracks(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    for movie in _boxes(file, b"moov", 0, size):
        yield from _boxes(file, b"trak", *movie)


def _boxes(file: BinaryIO, kind: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the content of all boxes of a kind between two places."""
    while start + 8 <= end:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:  # the length follows in 64 bits
            length = int.from_bytes(file.read(8), "big")
            head = 16
        elif length == 0:  # the last box of the file
            length = end - start
        following = start + max(length, head)
        if name == kind:
            yield start + head, min(following, end)
        start = following
