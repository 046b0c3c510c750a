"""Define the base class of all containers and their default behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from av.video.frame import VideoFrame

from cloudconv.events import Warned
from cloudconv.media.carry.holder import Holder
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.encode import EncodingPlan


class Writer(Protocol):
    """An open output into which packets of ``encoder`` are written."""

    warnings: list[Warned]
    encoder: Any

    def write(self, packet: Any) -> None:
        """Write a packet of the encoder, with its times in ticks."""

    def finish(self, end: int, lasts: int) -> None:
        """Complete the output and close everything that was opened.

        Args:
            end: the end of the last picture in ticks; 0 if packets were copied.
            lasts: the duration of the last picture in ticks; 0 if packets were copied.
        """

    def abandon(self) -> None:
        """Close everything without completing the output, whatever was written before."""


@dataclass(frozen=True, kw_only=True)
class Container(Holder):
    """A kind of output: a file format, or a folder of pictures.

    Attributes:
        suffixes: the file name suffixes of the container.
        encoders: the encoders of its video, in the order of preference; a container that holds
            nothing but pictures has a single one.
        reader: FFmpeg's name of the reader of this container. The default output of a source of
            that reader has this container, too; empty for none.
        sources: the suffixes of the sources for which ``reader`` holds; None for all.
        is_video: whether it stores other streams, rotation and aspect, and is joined from segments.
        is_folder: whether it is a folder of pictures without times.
        clock: the tick that all times are rounded to; None for any tick.
        counts_in_clock: whether the time base of encoders must be ``clock``.
        fastest: the fastest constant rate that players show; None for any.
        refuses: encoders whose codecs FFmpeg's muxer lists, although it cannot write them.
        refuses_alpha: encoders whose transparency the container cannot store.
        hevc_tag: the tag that players need for HEVC.
        needs_plain: whether few players show RGB, 4:4:4 or transparency in the container.
        keeps_alpha: whether it keeps transparency although ``needs_plain`` is set.
        has_palette: whether pictures are reduced to few colours.
        sums_gaps: whether a track's length is the sum of the gaps between decode times.
    """

    suffixes: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    reader: str = ""
    sources: tuple[str, ...] | None = None
    is_video: bool = False
    is_folder: bool = False
    clock: Fraction | None = None
    counts_in_clock: bool = False
    fastest: Fraction | None = None
    refuses: tuple[str, ...] = ()
    refuses_alpha: tuple[str, ...] = ()
    hevc_tag: str | None = None
    needs_plain: bool = False
    keeps_alpha: bool = False
    has_palette: bool = False
    sums_gaps: bool = False

    def is_of(self, info: MediaInfo) -> bool:
        """Return whether the default output of a source has this container."""
        named = self.reader in info.container.split(",")
        return named and (self.sources is None or info.suffix in self.sources)

    def plays(self, rate: Fraction | None) -> bool:
        """Return whether the container supports a constant rate, or a variable one (None)."""
        if self.fastest is not None:
            return rate is not None and rate <= self.fastest
        return rate is None or self.clock is None or rate * self.clock <= 1

    def needs_amending(self, encoder: str, *, aspect: Fraction | None, varies: bool) -> bool:
        """Return whether the muxer misstates the sample aspect ratio or a variable rate."""
        return False

    def amend(
        self, path: Path, size: tuple[int, int], *, aspect: Fraction | None, varies: bool
    ) -> bool:
        """Correct these values in the finished file; return False if that is impossible."""
        return False

    def preparation(self, width: int, height: int) -> Callable[[VideoFrame], VideoFrame]:
        """Return the function that converts each picture before it is encoded."""
        return lambda picture: picture

    def open_writer(self, path: Path, plan: EncodingPlan) -> Writer:
        """Return a writer into ``path``, the temporary file of the plan's target."""
        raise NotImplementedError

    def read_back(self, path: Path, written: int) -> tuple[int, Fraction | None, Fraction]:
        """Read a finished output of ``written`` frames back.

        Return the number of frames found, the last one's time in seconds (None if the container
        stores no times), and the least tolerance of that time in seconds.
        """
        raise NotImplementedError
