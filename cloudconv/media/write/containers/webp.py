"""Write animated WebP."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.write.containers.base import Container, Writer
from cloudconv.media.write.encode import EncodingPlan


class _Webp(Container):
    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        return _WebpWriter(path, plan.open_encoder())

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None, Fraction]:
        # FFmpeg cannot read animated WebP.
        return written if path.stat().st_size else 0, None, Fraction(0)


class _WebpWriter:
    """A writer of an animated WebP, which its encoder returns in one piece at the end."""

    def __init__(self, path: Path, context: Any) -> None:
        self.warnings: list[Warned] = []
        self._path = path
        self._animation = b""
        self.encoder = context

    def write(self, packet: Any) -> None:
        self._animation = bytes(packet)

    def finish(self, end: int, lasts: int) -> None:
        self._path.write_bytes(with_last_duration(self._animation, end))

    def abandon(self) -> None:
        return


def with_last_duration(webp: bytes, end: int) -> bytes:
    """Return the animation with its last frame shown until ``end`` (ms), which the encoder guesses.

    Raises OutputError if the data is no WebP. Format: WebP Container Specification, RFC 9649.
    """
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP":
        raise OutputError("not-webp")
    frames: list[int] = []
    at = 12
    while at + 8 <= len(webp):
        kind, size = struct.unpack_from("<4sI", webp, at)
        if kind == b"ANMF":
            # The chunk's head is followed by position and size, three bytes each.
            frames.append(at + 8 + 12)
        at += 8 + size + size % 2
    if not frames:
        return webp
    durations = [int.from_bytes(webp[at : at + 3], "little") for at in frames]
    last = max(end - sum(durations[:-1]), 1)
    at = frames[-1]
    return webp[:at] + last.to_bytes(3, "little") + webp[at + 3 :]


WEBP = _Webp(
    name="WebP",
    suffixes=(".webp",),
    encoders=("libwebp_anim",),
    reader="webp",
    clock=Fraction(1, 1000),
    counts_in_clock=True,
)
