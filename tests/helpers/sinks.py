"""Sinks from the description of an output."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cloudconv.media.carried.carry import Carry
from cloudconv.media.frames.formats import working_format
from cloudconv.media.frames.frame import ColorTags, MediaInfo, Timing
from cloudconv.media.writing.encoding import EncodingPlan, draft_encoding
from cloudconv.media.writing.sink import Sink


def plan_encoding(
    path: Path | str,
    info: MediaInfo,
    *,
    rate: Fraction | None,
    spans: Sequence[Fraction] = (),
    offset: Fraction = Fraction(0),
    carry: Carry | None = None,
    **settings: Any,
) -> EncodingPlan:
    """Return the complete plan of an encoding."""
    draft = draft_encoding(
        Path(path), info, rate=rate, carries=carry is not None, **settings
    )
    return draft.at(spans, offset, carry)


def open_sink(
    path: Path | str, info: MediaInfo, *, overwrite: bool = False, **options: Any
) -> Sink:
    """Plan the encoding of an output and open its sink."""
    return Sink(plan_encoding(path, info, **options), overwrite=overwrite)


def info_of(
    size: tuple[int, int] = (96, 64), pix_fmt: str = "yuv420p", **changes: Any
) -> MediaInfo:
    """Describe an MP4 of one frame that does not exist."""
    second = Fraction(1)
    plain = MediaInfo(
        path=Path("absent.mp4"),
        container="mov,mp4,m4a,3gp,3g2,mj2",
        suffix=".mp4",
        codec="h264",
        width=size[0],
        height=size[1],
        pix_fmt=pix_fmt,
        working_pix_fmt=working_format(pix_fmt),
        tags=ColorTags(),
        timing=Timing(0 * second, 1, 24 * second, second / 24, second / 24, second / 24),
        warnings=(),
    )
    return replace(plain, **changes)
