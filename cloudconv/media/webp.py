"""Find the durations in an animated WebP, which FFmpeg can write but not read.

Format: WebP Container Specification, RFC 9649.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO


def frame_durations(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the offset of each frame's duration in the file, and the duration in milliseconds.

    A duration has three bytes, the lowest one first.
    """
    position = 12
    while len(chunk := _at(file, position, 8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if not any(kind):  # a hole in the file, or another file
            return
        # The duration follows the chunk's head and the frame's x, y, width and height, three bytes
        # each.
        offset = position + 20
        if kind == b"ANMF" and len(duration := _at(file, offset, 3)) == 3:
            yield offset, int.from_bytes(duration, "little")
        position += 8 + size + size % 2


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
