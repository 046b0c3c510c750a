"""Hide tracks of finished files of FFmpeg's MP4 muxer.

The muxer marks the first track of subtitles as shown if none is the default one. Players
then show subtitles that nobody has chosen. ISO/IEC 14496-12 defines the boxes.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

_SHOWN = 1  # the flag of a track that players show unless somebody chooses another


def hide(path: Path, numbers: Collection[int]) -> None:
    """Mark tracks, in place, as shown only if somebody chooses them.

    The first track has the number 1.
    """
    with path.open("rb+") as file:
        for header in _track_headers(file, path.stat().st_size):
            file.seek(header)
            version, *flags = file.read(4)
            file.seek(16 if version else 8, 1)  # the times of creation and of a change
            if int.from_bytes(file.read(4), "big") in numbers:
                file.seek(header + 3)
                file.write(bytes([flags[-1] & ~_SHOWN]))


def _track_headers(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the place of the content of each track's header."""
    for movie in _boxes(file, b"moov", 0, size):
        for track in _boxes(file, b"trak", *movie):
            for header, _ in _boxes(file, b"tkhd", *track):
                yield header


def _boxes(file: BinaryIO, kind: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the content of all boxes of a kind between two places."""
    while start < end:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:  # the length follows in 64 bits
            length = int.from_bytes(file.read(8), "big")
            head = 16
        if name == kind:
            yield start + head, start + length
        start += length
