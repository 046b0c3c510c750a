"""Write GIF."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from cloudconv.media.carry.carry import Carry
from cloudconv.media.convert import Palette
from cloudconv.media.write.containers.base import Container, Writer
from cloudconv.media.write.encode import EncodingPlan

_LARGEST_FIELD = 2**16 - 1


class _Gif(Container):
    def options(self, tick: Fraction, carry: Carry | None, *, amends: bool) -> dict[str, str]:
        return {"loop": "0"}  # repeat without end

    def preparation(self, width: int, height: int) -> Callable[[VideoFrame], VideoFrame]:
        return Palette(width, height).reduce

    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        return super().open_writer(path, replace(plan, choice=replace(plan.choice, pix_fmt="pal8")))

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        # Format: GIF89a.
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
                file.write(min(round(duration * 100), _LARGEST_FIELD).to_bytes(2, "little"))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


GIF = _Gif(
    name="GIF",
    muxer="gif",
    suffixes=(".gif",),
    encoders=("gif",),
    reader="gif",
    clock=Fraction(1, 100),
    counts_in_clock=True,
    # Players show frames of less than two hundredths of a second for longer.
    fastest=Fraction(50),
    has_palette=True,
)
