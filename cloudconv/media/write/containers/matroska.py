"""Write Matroska and WebM."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from cloudconv.media import matroska
from cloudconv.media.write.containers.base import Container
from cloudconv.media.write.encode import EncodingPlan

_MILLISECOND = Fraction(1, 1000)
# Encoders whose bitstreams contain the sample aspect ratio.
_STATE_ASPECT = ("libx264", "libx265")


class _Matroska(Container):
    def options(self, plan: EncodingPlan) -> dict[str, str]:
        # Checksums would be wrong after the corrections to the header.
        return {"write_crc32": "0"} if plan.amends else {}

    def needs_amending(self, encoder: str, *, aspect: Fraction | None, varies: bool) -> bool:
        return varies or (aspect is not None and encoder not in _STATE_ASPECT)

    def amend(self, path: Path, plan: EncodingPlan, delays: list[Fraction]) -> None:
        info, varies = plan.info, plan.rate is None
        matroska.amend(path, (info.width, info.height), info.aspect, delays, varies=varies)


MKV = _Matroska(
    name="Matroska",
    muxer="matroska",
    suffixes=(".mkv",),
    encoders=("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"),
    is_video=True,
    clock=_MILLISECOND,
    states_delay=True,
    attachments=True,
    subtitles="subrip",
    takes_unlisted=True,
)
WEBM = _Matroska(
    name="WebM",
    muxer="webm",
    suffixes=(".webm",),
    encoders=("libvpx-vp9", "libsvtav1"),
    is_video=True,
    clock=_MILLISECOND,
    states_delay=True,
    subtitles="webvtt",
)
