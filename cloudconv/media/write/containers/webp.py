"""Write animated WebP."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from cloudconv.media.input.images import shows_of
from cloudconv.media.webp import frame_durations
from cloudconv.media.write.containers.base import Container
from cloudconv.media.write.encode import EncodingPlan


class _Webp(Container):
    def options(self, plan: EncodingPlan) -> dict[str, str]:
        return {"loop": str(shows_of(plan.info.path))}  # 0 without end

    def hold_last(self, path: Path, end: Fraction, duration: Fraction) -> None:
        # The encoder guesses the duration of the last frame, and joins equal frames to one.
        with path.open("rb+") as file:
            durations = list(frame_durations(file))
            if durations:
                before = sum(milliseconds for _, milliseconds in durations[:-1])
                file.seek(durations[-1][0])
                file.write(max(round(end * 1000) - before, 1).to_bytes(3, "little"))

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None]:
        # FFmpeg cannot read animated WebP.
        return written if path.stat().st_size else 0, None


WEBP = _Webp(
    name="WebP",
    muxer="webp",
    suffixes=(".webp",),
    encoders=("libwebp_anim",),
    clock=Fraction(1, 1000),
    most_ticks=2**24 - 1,
)
