"""Refuse PNG files whose compressed texts or colour profile would fill the memory.

FFmpeg unpacks these chunks without a limit. Format: PNG, third edition.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from cloudconv.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 1 << 26  # unpacked bytes of all these chunks


def is_png(path: Path) -> bool:
    """Return whether a file is a PNG or APNG.

    Raises:
        InputError: the compressed texts and the colour profile have more than 64 MiB.
    """
    room = _MOST
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return False
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[:4], "big")
            begin = file.tell()
            if head[4:] in (b"iCCP", b"zTXt"):
                # The compressed data follows a name, a zero and the number of the method.
                packed = file.read(min(size, _MOST)).partition(b"\0")[2][1:]
                room -= _unpacked(packed, room)
            if room <= 0:
                raise InputError(
                    f"large-png: {path} has a colour profile or texts of more than "
                    f"{_MOST >> 20} MiB: remove them from the picture."
                )
            file.seek(begin + size + 4)
    return True


def _unpacked(packed: bytes, most: int) -> int:
    try:
        return len(zlib.decompressobj().decompress(packed, most))
    except zlib.error:
        return 0
