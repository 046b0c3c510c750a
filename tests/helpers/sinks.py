"""Sinks from the description of an output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.media.frame import ColorTags
from cloudconv.media.info import MediaInfo, Timing
from cloudconv.media.plan import plan_encoding
from cloudconv.media.sink import Sink


def open_sink(
    path: Path | str, info: MediaInfo, *, overwrite: bool = False, **options: Any
) -> Sink:
    """Plan the encoding of an output and open its sink."""
    return Sink(plan_encoding(Path(path), info, **options), overwrite=overwrite)


def described(pix_fmt: str, width: int, height: int, *, transfer: int = 2) -> MediaInfo:
    """Describe a video of four frames that does not exist."""
    second = Fraction(1)
    return MediaInfo(
        path=Path("a.nut"),
        container="nut",
        suffix=".nut",
        codec="rawvideo",
        width=width,
        height=height,
        pix_fmt=pix_fmt,
        working_pix_fmt=pix_fmt,
        tags=ColorTags(transfer=transfer),
        timing=Timing(0 * second, 4, 4 * second, second / 4, second / 4, second),
        warnings=(),
    )
