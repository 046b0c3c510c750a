"""Write APNG."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

from cloudconv.media.input.images import shows_of
from cloudconv.media.write.containers.base import Container, last_packet
from cloudconv.media.write.encode import EncodingPlan

_LARGEST_FIELD = 2**16 - 1


class _Apng(Container):
    def options(self, plan: EncodingPlan) -> dict[str, str]:
        return {"plays": str(shows_of(plan.info.path))}  # 0 without end

    def longest_frame(self, tick: Fraction) -> Fraction:
        return Fraction(_LARGEST_FIELD)

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        # A packet begins with a chunk fcTL (PNG, third edition), which contains the duration.
        if start := last_packet(path):
            with path.open("rb+") as file:
                file.seek(start + 8)
                control = bytearray(file.read(26))
                delay = duration.limit_denominator(
                    max(min(_LARGEST_FIELD, int(_LARGEST_FIELD / duration)), 1)
                )
                fields = min(delay.numerator, _LARGEST_FIELD), delay.denominator
                control[20:24] = struct.pack(">HH", *fields)
                file.seek(start + 8)
                file.write(control + struct.pack(">I", zlib.crc32(b"fcTL" + control)))

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None]:
        # The file stores durations exactly. Readers round each one, and add up the rounded ones.
        return super().read_back(path, written)[0], None


APNG = _Apng(name="APNG", muxer="apng", suffixes=(".apng",), encoders=("apng",))
