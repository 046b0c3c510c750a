"""Decode the frames of a video in order and at exact times, also from damaged files."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Self
from weakref import WeakSet

from av.video.frame import VideoFrame

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.events import Warned
from cloudconv.media.decode import Decoder, TimeRange
from cloudconv.media.filters import Timed, frames_of_fields
from cloudconv.media.formats import repack
from cloudconv.media.frame import Frame
from cloudconv.media.identity import check_unchanged
from cloudconv.media.info import MediaInfo, Timing
from cloudconv.media.probe import probe
from cloudconv.messages import counted, plural

# The largest distance, in frames, of a time stamp from the constant rate of an arriving input.
_DRIFT = Fraction(1, 4)


class Source:
    """The frames of a video, decoded on demand; a context manager that closes the file.

    ``path_or_info`` is a file, a folder of pictures, a pattern such as ``frames/%05d.png``, a glob,
    ``-`` for standard input, or the result of :func:`cloudconv.media.probe.probe`. ``start``
    (inclusive) and ``end`` (exclusive) are seconds from the first frame. ``threads`` is the
    decoder's number of threads; None lets the decoder choose. ``nvdec`` is the number of an NVIDIA
    GPU for decoding. If the GPU cannot decode the file, the CPU does, and a warning gives the
    reason. ``warnings`` are complete after the last frame. If the probe's result has ``fields``,
    two frames are made from each picture of the file. With ``following``, the frames end with the
    one that follows ``end``, if the source goes on. A source that ``stays_open`` only seeks when
    frames from another time are wanted.
    """

    def __init__(
        self,
        path_or_info: MediaInfo | Path | str,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        threads: int | None = None,
        nvdec: int | None = None,
        following: bool = False,
        stays_open: bool = False,
    ) -> None:
        self.warnings: list[Warned] = []
        self.info = path_or_info if isinstance(path_or_info, MediaInfo) else probe(path_or_info)
        self._whole = start is None and end is None
        self._start, self._following = start or Fraction(0), following
        timing = self.info.timing
        ends = [] if end is None else [timing.start + end]
        if timing.rate is not None and timing.has_timestamps:
            ends.append(timing.end)
        self._end = min(ends, default=None)
        self._wanted = TimeRange(timing.start, self._end)
        self._open: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self._decoder = Decoder(self.info, threads=threads, nvdec=nvdec, stays_open=stays_open)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for frames in self._open:
            frames.close()
        self._decoder.close()

    @property
    def by_gpu(self) -> bool:
        """Return whether a GPU decodes; known after the first frame."""
        return self._decoder.by_gpu

    def frames(self, start: Fraction | None = None) -> Generator[Frame, None, None]:
        """Yield the frames in presentation order, each in its working pixel format.

        ``start`` replaces that of the source. If ``timing.gap_rate`` is known, times are exactly
        ``timing.start + k / gap_rate``. Otherwise the times are the file's own. A frame lasts until
        the next one. A frame is left out if its time is not after the time of the previous frame.
        Raises InputError if there is no frame, and UnfitInputError if the size, the pixel format,
        the rate of an arriving input or the file has changed.
        """
        frames = self._decoded(self._start if start is None else start)
        self._open.add(frames)
        return frames

    def _decoded(self, start: Fraction) -> Generator[Frame, None, None]:
        self.warnings = []
        tally = _Tally()
        info, waiting = self.info, None
        self._wanted = TimeRange(info.timing.start + max(start, Fraction(0)), self._end)
        pictures: Iterator[Timed] = self._pictures(tally)
        if info.fields is not None:
            pictures = frames_of_fields(pictures, info.fields, info.file_timing.second_field)
        for picture, time in pictures:
            if time < self._wanted.start:
                continue
            if waiting is not None:
                tally.delivered += 1
                yield waiting.at(waiting.time, self._until(time) - waiting.time)
                waiting = None
            if time not in self._wanted:
                if self._following and time < info.timing.end:
                    yield Frame(picture, time, info.timing.last_duration, info.tags)
                break
            waiting = Frame(picture, time, Fraction(0), info.tags)
        if waiting is not None:
            tally.delivered += 1
            ends = waiting.time + self._last_duration(waiting.time)
            yield waiting.at(waiting.time, self._until(ends) - waiting.time)
        self._sum_up(tally)

    def _pictures(self, tally: _Tally) -> Iterator[Timed]:
        """Yield the pictures of the file in their working pixel format, with their exact times."""
        grid = _Grid(self.info.file_timing)
        known: tuple[object, ...] = ()
        for picture, stamp in self._decoder.pictures(self._wanted):
            time = grid.time_of(stamp)
            if time is None:
                tally.out_of_order += 1
                continue
            tally.corrupt += bool(picture.is_corrupt)
            seen = (
                (picture.width, picture.height, picture.format.name),
                (self._decoder.aspect, picture.interlaced_frame),
                (picture.key_frame, time in self._wanted),
            )
            if seen != known:
                self._inspect(picture, time, tally)
                known = seen
            if self.info.fields is not None or time >= self._wanted.start:
                yield repack(picture, self.info.working_pix_fmt), time

    def _until(self, time: Fraction) -> Fraction:
        """Return the end of a frame that the source shows until ``time``.

        At a variable rate, the part ends within a frame. At a constant rate, the part consists of
        whole frames. The rate of an arriving input is that of its first frames: a gap may follow.
        """
        end, timing = self._wanted.end, self.info.timing
        if end is None or (timing.rate is not None and not timing.open_ended):
            return time
        if timing.rate is not None:
            end = timing.start + ceil((end - timing.start) * timing.rate) / timing.rate
        return min(time, end)

    def _last_duration(self, time: Fraction) -> Fraction:
        timing = self.info.timing
        if timing.rate is None and time < timing.end:
            return min(timing.end - time, timing.last_duration) or timing.last_duration
        return timing.last_duration

    def _sum_up(self, tally: _Tally) -> None:
        """Set ``warnings`` after the last frame; raise an error if there was no frame."""
        info = self.info
        if not tally.delivered:
            check_unchanged(info)
            if not self._whole:
                length = float(info.timing.end - info.timing.start)
                raise InputError(
                    f"part-without-frame: {info.path} lasts {length:.3f} s and has no frame in the "
                    "part that was given: choose another part."
                )
            raise InputError(
                f"no-frame-decoded: No frame of {info.path} can be decoded: the file is damaged. "
                "Give a complete file."
            )
        self.warnings += [*self._decoder.warnings, *tally.changes.values()]
        lost = self._decoder.promised * (1 if info.fields is None else 2) - tally.delivered
        told = [
            ("lost", lost * bool(self._decoder.errors), "could not be decoded and {are} missing"),
            ("damaged", tally.corrupt, "decoded from damaged data may look wrong"),
            ("out-of-order", tally.out_of_order, "with a repeated or backward time {are} left out"),
        ]
        for code, number, what in told:
            if number > 0:
                text = what.format(are=plural(number, "is", "are"))
                self.warnings.append(Warned(f"frames-{code}: {counted(number, 'frame')} {text}."))

    def _inspect(self, picture: VideoFrame, time: Fraction, tally: _Tally) -> None:
        """Record the first change of aspect and of interlacing: the output stores one value each.

        Raise UnfitInputError if the size or the pixel format has changed.
        """
        at = float(time - self.info.timing.start)
        if not self._decoder.fits(picture):
            info, name = self.info, picture.format.name
            check_unchanged(info)  # raises its own error if another file has replaced the input
            raise UnfitInputError(
                f"picture-changes: {info.path} changes from {info.width}x{info.height} "
                f"{info.pix_fmt} to {picture.width}x{picture.height} {name} at {at:.3f} s: cut it "
                "there, or convert it to one size and pixel format first."
            )
        if time not in self._wanted:
            return
        aspect = self._decoder.aspect or Fraction(1)
        known = tally.first_aspect = tally.first_aspect or aspect
        # The aspect changes at key frames only. At other pictures the decoder may already return
        # the next aspect, because the decoder has read later packets.
        if aspect != known and picture.key_frame:
            tally.note(
                f"aspect-changes: The sample aspect ratio changes from {_ratio(known)} to "
                f"{_ratio(aspect)} at {at:.3f} s; the output has "
                f"{_ratio(self.info.aspect or Fraction(1))} throughout."
            )
        if self.info.fields is None and picture.interlaced_frame != self.info.interlaced:
            kinds = ("interlaced", "progressive")
            before, now = kinds if self.info.interlaced else kinds[::-1]
            tally.note(
                f"fields-change: The video changes from {before} to {now} at {at:.3f} s; its "
                "pictures are used as they are. --deinterlace makes two whole frames of each "
                "interlaced picture."
            )


class _Grid:
    """The exact times of frames.

    With a ``gap_rate``, each time stamp is moved to ``start + k / gap_rate``. ``_last_raw`` and
    ``_last`` are the last frame's time before and after the move. ``_index`` is the last frame's k.
    ``_late`` is the constant difference between decode times and presentation times.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._last_raw: Fraction | None = None
        self._last: Fraction | None = None
        self._late = Fraction(0)
        self._index = -1

    def time_of(self, stamp: Fraction | None) -> Fraction | None:
        """Return the time of the next frame; None if not after the time of the previous frame.

        Raise UnfitInputError if the frame rate changes in an input that is still arriving.
        """
        timing, last = self._timing, self._last
        if stamp is None or (not timing.has_timestamps and timing.rate is not None):
            raw = timing.start if last is None else last + timing.last_duration
        elif timing.has_timestamps:
            raw = stamp
        else:
            # The file has decode times only. They differ from presentation times by a constant.
            self._late = stamp - timing.start if last is None else self._late
            raw = stamp - self._late
        time = raw
        if timing.gap_rate is not None:
            nearest = round((raw - timing.start - timing.lag) * timing.gap_rate)
            # A later time stamp than the last one means a new frame, which needs the next k.
            if nearest <= self._index and self._last_raw is not None and raw > self._last_raw:
                nearest = self._index + 1
            time = timing.start + nearest / timing.gap_rate
            if timing.open_ended and abs(time - raw) * timing.gap_rate > _DRIFT:
                raise UnfitInputError(
                    f"rate-changes: The frame rate changes at {float(raw - timing.start):.3f} s, "
                    "and an input that is read while it arrives cannot be checked for that "
                    "first: write the input to a file."
                )
        if last is not None and time <= last:
            return None
        if timing.gap_rate is not None:
            self._index = nearest
        self._last_raw, self._last = raw, time
        return time


@dataclass(slots=True)
class _Tally:
    """The counts of frames during decoding, and the first change of each property by its code."""

    delivered: int = 0
    corrupt: int = 0
    out_of_order: int = 0
    first_aspect: Fraction | None = None  # of the first frame
    changes: dict[str, Warned] = field(default_factory=dict)

    def note(self, text: str) -> None:
        warned = Warned(text)
        self.changes.setdefault(warned.code, warned)


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"
