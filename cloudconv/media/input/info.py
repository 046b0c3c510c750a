"""Describe a probed file: its video, its exact timing, and everything else in it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.frame import ColorTags
from cloudconv.media.input.readers import Reader, reader_of


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the frames, in seconds on the source's own clock.

    ``frames`` is the number of shown packets; frames that an edit list hides do not count. ``rate``
    is None if the gaps differ (VFR). ``steady`` is set if only the last gap differs: the rate of
    all frames but the last, which is shown for longer. With a constant rate, frame k belongs at
    ``start + k / rate``, and ``end`` is ``start + frames / rate``. Otherwise ``end`` is the last
    frame's time plus ``last_duration``. ``time_base`` is the container's tick. ``stamped`` is False
    if the file has no usable presentation times and frames are counted instead. ``shifts`` gives,
    for each restart of the clock, the offset that is added to all later times. ``open_ended`` marks
    an input that is still arriving; then ``frames`` and ``end`` have no meaning.
    """

    start: Fraction
    frames: int
    rate: Fraction | None
    last_duration: Fraction
    time_base: Fraction
    end: Fraction
    stamped: bool = True
    shifts: tuple[Fraction, ...] = ()
    steady: Fraction | None = None
    open_ended: bool = False

    @property
    def pace(self) -> Fraction | None:
        """Return the rate of all frames but the last; None if the gaps between them differ."""
        return self.rate or self.steady


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream beside the main video; ``start`` in seconds, None if not stated."""

    index: int
    kind: str
    codec: str
    language: str | None
    title: str | None
    start: Fraction | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A readable video and everything else in its file.

    ``container`` is FFmpeg's short name. ``pix_fmt`` is the decoded format, ``working_pix_fmt`` the
    format of the frames. ``aspect`` is the sample aspect ratio, None for square samples.
    ``display_matrix`` (36 bytes), ``mastering_display`` and ``content_light`` are FFmpeg's own
    structures. ``dynamic_hdr`` names metadata that no encoder here can write. ``chapters`` is the
    number of chapters. ``fingerprint`` is a hash of the files at the time of probing; empty for an
    input that is still arriving.
    """

    path: Path
    container: str
    suffix: str
    codec: str
    video_index: int
    width: int
    height: int
    pix_fmt: str
    working_pix_fmt: str
    tags: ColorTags
    aspect: Fraction | None
    display_matrix: bytes | None
    mastering_display: bytes | None
    content_light: bytes | None
    dynamic_hdr: tuple[str, ...]
    interlaced: bool
    timing: Timing
    streams: tuple[StreamInfo, ...]
    metadata: dict[str, str]
    warnings: tuple[Warned, ...]
    chapters: int = 0
    fingerprint: str = ""

    @property
    def reader(self) -> Reader:
        """Return the special behaviour of the input's reader."""
        return reader_of(self.container)
