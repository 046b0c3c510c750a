"""Describe an input that was probed: its video, exact timing, and other streams."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.filters import FieldKind
from cloudconv.media.frame import ColorTags
from cloudconv.media.rates import Film
from cloudconv.messages import clock
from cloudconv.timeline import rate_name


@dataclass(frozen=True, slots=True)
class Reader:
    """The special behaviour of one reader."""

    # Whether time stamps are right after a seek. Other readers, above all that of MPEG program
    # streams, return wrong time stamps after a seek.
    seeks: bool = False
    has_index: bool = False  # the header lists all frames and gives the right length of the track
    stamps_decoding: bool = False  # it knows decode times only; see `VideoClock`
    stamps_audio: bool = True  # audio has times of its own, and does not simply begin at 0
    states_delay: bool = False  # it subtracts the delay of an audio codec from its time stamps
    guesses_rate: bool = False  # FFmpeg guesses the rate, because the header states none
    is_pictures: bool = False  # it reads one or several picture files, which have no times
    # Whether it reads pictures or an animation. Both are often RGB, which few players show in MP4.
    is_drawn: bool = False


_READERS = {
    "mov": Reader(seeks=True, has_index=True),
    "matroska": Reader(seeks=True, states_delay=True),
    "avi": Reader(seeks=True, stamps_decoding=True, stamps_audio=False),
    "asf": Reader(seeks=True, stamps_decoding=True),
    **dict.fromkeys(("mpegvideo", "gxf"), Reader(stamps_decoding=True, stamps_audio=False)),
    "image2": Reader(is_pictures=True, is_drawn=True),
    "gif": Reader(is_drawn=True, guesses_rate=True),
    **dict.fromkeys(("apng", "webp"), Reader(is_drawn=True)),
    **dict.fromkeys(("mpegts", "flv", "nut"), Reader(seeks=True)),
}


def reader_of(container: str) -> Reader:
    """Return the behaviour of the reader with FFmpeg's name, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return Reader(is_pictures=True, is_drawn=True)
    return _READERS.get(container.split(",")[0], Reader())


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the frames, in seconds on the source's own clock."""

    start: Fraction  # the time of the first frame
    frames: int  # that a player shows; an edit list may hide others
    rate: Fraction | None  # constant, with frame k at ``start + k / rate``; None if variable
    last_duration: Fraction  # of the last frame
    time_base: Fraction  # the container's tick
    end: Fraction  # of the last frame
    # Whether the file has usable presentation times. If not, and the file is ``in_order``, the k-th
    # frame has the k-th time of the packets. Otherwise the rate gives the times.
    has_timestamps: bool = True
    in_order: bool = False
    shifts: tuple[Fraction, ...] = ()  # the offset that each restart of the clock adds to all times
    rate_before_last: Fraction | None = None  # of all frames but the last, if only that is longer
    film: tuple[Film, ...] = ()  # the parts that are film, whose pictures get even times
    open_ended: bool = False  # the input still arrives, so ``frames`` and ``end`` have no meaning
    # Gaps between two frames; None at a constant rate, or if there is one frame.
    median_gap: Fraction | None = None
    shortest_gap: Fraction | None = None
    longest_gap: tuple[Fraction, Fraction] | None = None  # the times of its two frames
    # The middle distance of the time stamps from ``start + k / gap_rate``. With a coarse clock, the
    # first stamp may be up to a tick earlier or later than all others.
    lag: Fraction = Fraction(0)
    rate_but_gap: Fraction | None = None  # that of all frames but for the longest gap

    @property
    def in_words(self) -> str:
        """Return the rate for people; an even rate with one gap is named as such."""
        if self.rate is not None:
            return f"{rate_name(self.rate)} fps"
        if self.rate_but_gap is None or self.longest_gap is None:
            return "a variable rate"
        begins, ends = self.longest_gap
        gap, at = clock(float(ends - begins)), clock(float(begins - self.start))
        return f"{rate_name(self.rate_but_gap)} fps, with a gap of {gap} at {at}"

    @property
    def usual_rate(self) -> Fraction:
        """Return the constant rate, or else that of the median gap between frames."""
        return self.rate or 1 / (self.median_gap or self.last_duration)

    @property
    def fastest_rate(self) -> Fraction | None:
        """Return the constant rate, or else that of the shortest frame; None if unknown."""
        if self.rate is not None or self.shortest_gap is None:
            return self.rate
        return 1 / min(self.shortest_gap, self.last_duration)

    def next_frame(self, time: Fraction) -> Fraction:
        """Return the end of the longest gap or of the last frame that contains ``time``.

        Return ``time`` itself if ``time`` is in none of them.
        """
        gaps = (self.longest_gap or (time, time), (self.end - self.last_duration, self.end))
        return next((ends for begins, ends in gaps if begins < time < ends), time)

    @property
    def gap_rate(self) -> Fraction | None:
        """Return the rate of all frames but the last; None if the gaps between them differ."""
        return self.rate or self.rate_before_last

    def second_field(self, time: Fraction, following: Fraction | None) -> Fraction:
        """Return the time of the second field of the picture at ``time``.

        A field lasts half as long as a picture usually does, but at a variable rate at most half as
        long as its own picture. ``following`` is the time of the next picture, None for the last.
        """
        if self.gap_rate is not None:
            return time + 1 / (2 * self.gap_rate)
        length = self.last_duration if following is None else following - time
        ticks = (self.end - self.start) / max(self.frames, 1) // self.time_base
        return time + min(length, max(ticks, 1) * self.time_base) / 2

    def of_fields(self) -> Timing:
        """Return the times of two frames for each picture, one for each field."""
        last = self.second_field(Fraction(0), None)
        return replace(
            self,
            frames=2 * self.frames,
            rate=None if self.rate is None else 2 * self.rate,
            last_duration=self.last_duration - last,
            time_base=self.time_base / 2,
            rate_before_last=None if self.rate_before_last is None else 2 * self.rate_before_last,
            median_gap=None if self.median_gap is None else self.median_gap / 2,
            shortest_gap=None,  # a field lasts shorter than its picture, but not always by half
        )


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream beside the main video; ``start`` in seconds, None if the file states no start."""

    kind: str
    start: Fraction | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The description of an input: the main video, and everything else in the file."""

    path: Path  # the file, folder or pattern
    container: str  # FFmpeg's short name of the container
    suffix: str  # of the file name, in lower case
    codec: str  # FFmpeg's name of the video codec
    width: int
    height: int
    pix_fmt: str  # the pixel format of the decoder
    working_pix_fmt: str  # the planar pixel format to which decoded frames are converted
    tags: ColorTags
    timing: Timing  # of the pictures in the file, or of both frames that are made from each
    warnings: tuple[Warned, ...]  # of the probe
    profile: str = ""  # of the codec, such as "HQ" of ProRes
    video_index: int = 0  # of the video stream
    aspect: Fraction | None = None  # the aspect ratio of a sample; None for square samples
    display_matrix: bytes | None = None  # the rotation, as FFmpeg's structure of 36 bytes
    # The other side data of the first picture, as FFmpeg's structures; see media/sidedata.py.
    side_data: dict[str, bytes] = field(default_factory=dict)
    chroma_location: str | None = None  # FFmpeg's name for the place of chroma samples
    interlaced: bool = False  # whether the first picture is interlaced
    fields: FieldKind | None = None  # if two frames are made from each picture
    coded: Timing | None = None  # then the times of the pictures in the file
    streams: tuple[StreamInfo, ...] = ()  # the other streams
    metadata: dict[str, str] = field(default_factory=dict)  # of the file, such as a title
    chapters: int = 0
    fingerprint: str = ""  # a hash of the files when they were probed; empty if they still arrive
    stamp: str = ""  # stays the same while no file is changed on this machine; may be empty

    @property
    def file_timing(self) -> Timing:
        """Return the times of the pictures in the file."""
        return self.coded or self.timing

    @property
    def reader(self) -> Reader:
        """Return the behaviour of FFmpeg's reader for this container, for example after a seek."""
        return reader_of(self.container)
