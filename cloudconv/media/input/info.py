"""What is known of a file: its video, its exact timing, and everything else it carries."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.frame import ColorTags
from cloudconv.media.input.readers import Reader, reader_of


@dataclass(frozen=True, slots=True)
class Timing:
    """When the frames are shown, in seconds on the source's own clock.

    ``frames`` is what the packets promise; frames that an edit list hides do not count. ``rate``
    is None where the gaps differ (VFR); ``steady`` is then the rate of all frames but the last, if
    they have one and only the last is shown for longer. With a constant rate the frames belong at
    ``start + k / rate``, and ``end`` is ``start + frames / rate``; else ``end`` is the last
    frame's time plus ``last_duration``. ``time_base`` is the container's tick. ``stamped`` is
    False where the file keeps no usable presentation times and frames are counted instead.
    ``shifts`` says for each place where the clock starts again by how much later than stamped
    everything after it is shown. ``open_ended``: it is read as it comes, so ``frames`` and ``end``
    mean nothing.
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
        """The rate that the frames keep, whatever the last one does; None where they keep none."""
        return self.rate or self.steady


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream beside the main video; ``start`` in seconds, None where the file does not say."""

    index: int
    kind: str
    codec: str
    language: str | None
    title: str | None
    start: Fraction | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A readable video and what comes with it.

    ``container`` is FFmpeg's short name, ``pix_fmt`` the format as decoded, ``working_pix_fmt`` the
    one that frames arrive in. ``aspect`` is the sample aspect ratio, None for square samples.
    ``display_matrix`` (36 bytes), ``mastering_display`` and ``content_light`` are FFmpeg's own
    structures; ``dynamic_hdr`` names metadata that no encoder here can write again. ``chapters`` is
    their number. ``fingerprint`` is a hash of the files as they were when they were probed; empty
    for what is read as it comes.
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
        """What reads it does in a way of its own."""
        return reader_of(self.container)
