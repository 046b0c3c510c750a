"""Write H.264 video whose pictures are pairs of fields, each in a packet of its own.

No encoder of FFmpeg writes such video. All macroblocks are samples as they are (I_PCM).
Syntax: ITU-T H.264, sections 7.3.2 and 7.3.3.
"""

from fractions import Fraction
from pathlib import Path

import av

_FIELD = Fraction(1, 50)


class _Bits:
    """Bits of a unit, written by the descriptors of the standard."""

    def __init__(self) -> None:
        self._bits = ""

    def u(self, count: int, *values: int) -> "_Bits":
        """Append numbers of so many bits each."""
        self._bits += "".join(f"{value:0{count}b}" for value in values)
        return self

    def ue(self, *values: int) -> "_Bits":
        """Append numbers without a sign, in Exp-Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self._bits += "0" * (len(code) - 1) + code
        return self

    def align(self) -> "_Bits":
        """Append zeros up to a whole byte."""
        self._bits += "0" * (-len(self._bits) % 8)
        return self

    def unit(self, head: int) -> bytes:
        """Return the unit with its start code; no content has to be escaped."""
        self.u(1, 1).align()
        data = int(self._bits, 2).to_bytes(len(self._bits) // 8, "big")
        return b"\0\0\0\1" + bytes([head]) + data


def _field(number: int, *, second: bool) -> bytes:
    """Return the packet of a field of 32 x 16 pixels, of picture ``number``."""
    is_first = number == 0 and not second
    packet = _Bits().u(3, 7).unit(9)  # access unit delimiter
    if is_first:
        sequence = _Bits().u(8, 77, 0, 30).ue(0, 0, 0, 4, 1).u(1, 0).ue(1, 0)
        sequence.u(1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1).u(32, 1, 50).u(1, 1, 0, 0, 0, 0)
        picture = _Bits().ue(0, 0).u(1, 0, 0).ue(0, 0, 0).u(1, 0, 0, 0)
        packet += sequence.unit(0x67) + picture.ue(0, 0, 0).u(1, 0, 0, 0).unit(0x68)
    field = _Bits().ue(0, 7, 0).u(4, number % 16).u(1, 1, int(second))
    if is_first:
        field.ue(0)
    field.u(8, 2 * number + second)
    field.u(1, *((0, 0) if is_first else (0,))).ue(0)
    for _ in range(2):
        field.ue(25).align().u(8, *[40 + 5 * number] * 256, *[128] * 128)
    return packet + field.unit(0x65 if is_first else 0x61)


def write_field_pairs(path: Path, count: int = 20, zeroed: tuple[int, ...] = ()) -> Path:
    """Write 25 pictures a second; the fields with numbers in ``zeroed`` are zeros."""
    raw = path.with_suffix(".h264")
    fields = [_field(k // 2, second=bool(k % 2)) for k in range(2 * count)]
    raw.write_bytes(b"".join(fields))
    with av.open(str(raw)) as clip, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(clip.streams.video[0], opaque=True)
        for number, data in enumerate(fields):
            packet = av.Packet(bytes(len(data)) if number in zeroed else data)
            packet.stream = stream
            packet.time_base = Fraction(1, 90000)
            packet.pts = packet.dts = int(number * _FIELD / packet.time_base)
            packet.duration = int(_FIELD / packet.time_base)
            packet.is_keyframe = number == 0
            out.mux(packet)
    return path
