"""Write GIF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from cloudconv.media.convert import Palette
from cloudconv.media.input.images import shows_of
from cloudconv.media.write.containers.base import Container, Writer, last_packet
from cloudconv.media.write.encode import EncodingPlan


class _Gif(Container):
    def options(self, plan: EncodingPlan) -> dict[str, str]:
        shows = shows_of(plan.info.path)
        # A GIF has the number of repeats, 0 without end. FFmpeg takes -1 for no repeat.
        return {"loop": str(-1 if shows == 1 else max(shows - 1, 0))}

    def preparation(self, width: int, height: int) -> Callable[[VideoFrame], VideoFrame]:
        return Palette(width, height).reduce

    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        return super().open_writer(path, replace(plan, choice=replace(plan.choice, pix_fmt="pal8")))

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        # A packet begins with a graphic control extension (GIF89a), which contains the duration.
        if start := last_packet(path):
            with path.open("rb+") as file:
                file.seek(start + 4)
                file.write(round(duration * 100).to_bytes(2, "little"))


GIF = _Gif(
    name="GIF",
    muxer="gif",
    suffixes=(".gif",),
    encoders=("gif",),
    clock=Fraction(1, 100),
    # Players show frames of less than two hundredths of a second for longer.
    fastest=Fraction(50),
    has_palette=True,
    most_ticks=2**16 - 1,
)
