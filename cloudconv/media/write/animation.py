"""How long an animation shows its last frame: its encoder or its muxer guesses that."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from cloudconv.errors import OutputError

_MOST = 2**16 - 1


def with_last_duration(webp: bytes, end: int) -> bytes:
    """The animation with its last frame shown until ``end`` (ms); the encoder guesses that.

    Raises OutputError if the data is no WebP. Format: WebP Container Specification, RFC 9649.
    """
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP":
        raise OutputError("The WebP encoder wrote something that is no WebP.")
    frames: list[int] = []
    at = 12
    while at + 8 <= len(webp):
        kind, size = struct.unpack_from("<4sI", webp, at)
        if kind == b"ANMF":
            # After the chunk's head come position and size, three bytes each.
            frames.append(at + 8 + 12)
        at += 8 + size + size % 2
    if not frames:
        return webp
    durations = [int.from_bytes(webp[place : place + 3], "little") for place in frames]
    last = max(end - sum(durations[:-1]), 1)
    place = frames[-1]
    return webp[:place] + last.to_bytes(3, "little") + webp[place + 3 :]


def hold_last_of_gif(path: Path, duration: Fraction) -> None:
    """Let a finished GIF show its last frame for so many seconds. Format: GIF89a."""
    with path.open("rb+") as file:
        last = None
        head = file.read(13)
        file.seek(_palette_bytes(head[10]), io.SEEK_CUR)
        while (kind := file.read(1)) in (b"!", b","):
            if kind == b"!":
                if file.read(1) == b"\xf9":
                    last = file.tell() + 2
            else:
                file.seek(_palette_bytes(file.read(9)[8]) + 1, io.SEEK_CUR)
            while size := file.read(1)[0]:
                file.seek(size, io.SEEK_CUR)
        if last is not None:
            file.seek(last)
            file.write(min(round(duration * 100), _MOST).to_bytes(2, "little"))


def hold_last_of_apng(path: Path, duration: Fraction) -> None:
    """Let a finished APNG show its last frame for so many seconds. Format: PNG, third edition."""
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
            delay = duration.limit_denominator(max(min(_MOST, int(_MOST / duration)), 1))
            fields = min(delay.numerator, _MOST), delay.denominator
            control[20:24] = struct.pack(">HH", *fields)
            file.seek(last)
            file.write(control + struct.pack(">I", zlib.crc32(b"fcTL" + control)))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


LAST_DURATION: dict[str, Callable[[Path, Fraction], None]] = {
    "gif": hold_last_of_gif,
    "apng": hold_last_of_apng,
}
"""By muxer: what lets a finished file show its last frame for so many seconds."""
