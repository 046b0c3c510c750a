"""Describe an input that was probed: its video, exact timing, and other streams."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.fields import FieldKind
from cloudconv.media.frame import ColorTags


@dataclass(frozen=True, slots=True)
class Reader:
    """The special behaviour of one reader.

    Attributes:
        seeks: whether time stamps are right after a seek. Other readers, above all that of MPEG
            program streams, return wrong time stamps after a seek.
        has_index: whether the header lists all frames and gives the right length of the track.
        stamps_decoding: whether the reader returns decode times instead of presentation times.
        states_delay: whether the reader subtracts the delay of an audio codec from its time stamps.
        guesses_rate: whether FFmpeg guesses the rate, because the header states none.
        is_pictures: whether the reader reads one or several picture files, which have no times.
        is_drawn: whether the reader reads pictures or an animation. Both are often RGB, which few
            players show in MP4.
    """

    seeks: bool = False
    has_index: bool = False
    stamps_decoding: bool = False
    states_delay: bool = False
    guesses_rate: bool = False
    is_pictures: bool = False
    is_drawn: bool = False


_READERS = {
    "mov": Reader(seeks=True, has_index=True),
    "matroska": Reader(seeks=True, states_delay=True),
    "avi": Reader(seeks=True, stamps_decoding=True),
    "image2": Reader(is_pictures=True, is_drawn=True),
    "gif": Reader(is_drawn=True, guesses_rate=True),
    **dict.fromkeys(("apng", "webp"), Reader(is_drawn=True)),
    **dict.fromkeys(("mpegts", "flv", "asf", "nut"), Reader(seeks=True)),
}


def reader_of(container: str) -> Reader:
    """Return the behaviour of the reader with FFmpeg's name, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return Reader(is_pictures=True, is_drawn=True)
    return _READERS.get(container.split(",")[0], Reader())


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the frames, in seconds on the source's own clock.

    Attributes:
        start: the time of the first frame.
        frames: the number of frames that a player shows; an edit list may hide others.
        rate: the constant rate, with frame k at ``start + k / rate``; None for a variable rate.
        last_duration: the duration of the last frame.
        time_base: the length of the container's tick.
        end: the end of the last frame.
        has_timestamps: whether the file has usable presentation times; if not, the number of a
            frame and the rate give its time, or without a rate its decode time does.
        shifts: for each restart of the clock, the offset that is added to all later times.
        rate_before_last: the rate of all frames but the last one, if only the last one is shown for
            longer; otherwise None.
        open_ended: whether the input still arrives; then ``frames`` and ``end`` have no meaning.
        median_gap: the median time between two frames; None at a constant rate, or if there is one
            frame.
        shortest_gap: the shortest time between two frames; None as ``median_gap``.
        longest_gap: the times of the two frames between which the longest time passes; None as
            ``median_gap``.
        lag: the middle distance in seconds of the time stamps from ``start + k / gap_rate``. With a
            coarse clock, the first stamp may be up to a tick earlier or later than all others.
    """

    start: Fraction
    frames: int
    rate: Fraction | None
    last_duration: Fraction
    time_base: Fraction
    end: Fraction
    has_timestamps: bool = True
    shifts: tuple[Fraction, ...] = ()
    rate_before_last: Fraction | None = None
    open_ended: bool = False
    median_gap: Fraction | None = None
    shortest_gap: Fraction | None = None
    longest_gap: tuple[Fraction, Fraction] | None = None
    lag: Fraction = Fraction(0)

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
    codec: str
    start: Fraction | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The description of an input: the main video, and everything else in the file.

    Attributes:
        path: the file, folder or pattern.
        container: FFmpeg's short name of the container.
        suffix: the suffix of the file name, in lower case.
        codec: FFmpeg's name of the video codec.
        width: the width in pixels.
        height: the height in pixels.
        pix_fmt: the pixel format of the decoder.
        working_pix_fmt: the planar pixel format to which decoded frames are converted.
        tags: the colour description.
        timing: the times of the frames: of the pictures in the file, or of both frames that are
            made from each of them.
        warnings: the warnings of the probe.
        video_index: the index of the video stream.
        aspect: the aspect ratio of a sample; None for square samples.
        display_matrix: the rotation, as FFmpeg's structure of 36 bytes.
        mastering_display: HDR metadata, as FFmpeg's structure.
        content_light: HDR metadata, as FFmpeg's structure.
        dynamic_hdr: the names of HDR metadata that no encoder here can write.
        interlaced: whether the first picture is interlaced.
        fields: the fields of the pictures, if two frames are made from each; otherwise None.
        coded: the times of the pictures in the file, if two frames are made from each; otherwise
            None.
        streams: the other streams.
        metadata: the file's metadata, such as a title.
        chapters: the number of chapters.
        fingerprint: a hash of the files when they were probed; empty if the input still arrives.
        stamp: a text that stays the same while no file is changed on this machine; may be empty.
    """

    path: Path
    container: str
    suffix: str
    codec: str
    width: int
    height: int
    pix_fmt: str
    working_pix_fmt: str
    tags: ColorTags
    timing: Timing
    warnings: tuple[Warned, ...]
    video_index: int = 0
    aspect: Fraction | None = None
    display_matrix: bytes | None = None
    mastering_display: bytes | None = None
    content_light: bytes | None = None
    dynamic_hdr: tuple[str, ...] = ()
    interlaced: bool = False
    fields: FieldKind | None = None
    coded: Timing | None = None
    streams: tuple[StreamInfo, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: int = 0
    fingerprint: str = ""
    stamp: str = ""

    @property
    def file_timing(self) -> Timing:
        """Return the times of the pictures in the file."""
        return self.coded or self.timing

    @property
    def reader(self) -> Reader:
        """Return the behaviour of FFmpeg's reader for this container, for example after a seek."""
        return reader_of(self.container)
