"""Write APNG."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

from cloudconv.media.carry.carry import Carry
from cloudconv.media.write.containers.base import Container

_LARGEST_FIELD = 2**16 - 1


class _Apng(Container):
    def options(self, tick: Fraction, carry: Carry | None, *, amends: bool) -> dict[str, str]:
        return {"plays": "0"}  # repeat without end

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        # Format: PNG, third edition.
        with path.open("rb+") as file:
            file.seek(8)
            last = None
            while len(head := file.read(8)) == 8:
                size, kind = struct.unpack(">I4s", head)
                if kind == b"fcTL":
                    last = file.tell()
                file.seek(size + 4, io.SEEK_CUR)
            if last is not None:
                file.seek(last)
                control = bytearray(file.read(26))
                delay = duration.limit_denominator(
                    max(min(_LARGEST_FIELD, int(_LARGEST_FIELD / duration)), 1)
                )
                fields = min(delay.numerator, _LARGEST_FIELD), delay.denominator
                control[20:24] = struct.pack(">HH", *fields)
                file.seek(last)
                file.write(control + struct.pack(">I", zlib.crc32(b"fcTL" + control)))

    def rounding(self, frames: int, tick: Fraction) -> Fraction:
        # The file stores durations exactly. Readers round each one, and add up the rounded ones.
        return frames * tick


APNG = _Apng(name="APNG", muxer="apng", suffixes=(".apng",), encoders=("apng",), reader="apng")
