"""Decode the frames of a video in order and at exact times, also from damaged files.

Pictures are decoded on CPU threads or a GPU, from the start or after a seek.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, dropwhile
from math import ceil
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.events import Warned
from cloudconv.media.demux import (
    VideoClock,
    is_shown,
    main_video,
    only,
    open_container,
    open_decoder,
    read_packets,
)
from cloudconv.media.filters import Timed, frames_of_fields
from cloudconv.media.formats import can_widen, widened, working_format
from cloudconv.media.frame import Frame
from cloudconv.media.identity import check_unchanged, input_fingerprint
from cloudconv.media.info import MediaInfo, Timing
from cloudconv.media.pictures import open_pictures
from cloudconv.media.probe import probe
from cloudconv.media.rates import filmed
from cloudconv.media.sidedata import CAPTIONS, KINDS, readable
from cloudconv.messages import counted, plural

# Distances of a seek before the wanted time, in seconds; each is tried in turn.
_SEEK_BACK = (0, 1, 2, 4, 8, 16)
# Seconds to decode before the first frame of fields, which depends on the pictures before.
_EARLY_SECONDS = Fraction(1, 2)
_NVDEC = "nvdec"  # the GPU's decoder; the other modes are FFmpeg's kinds of threads
# Codecs for which NVDEC returns exactly the CPU's samples.
_NVDEC_CODECS = ("h264", "hevc", "vp9")
# The largest distance, in frames, of a time stamp from the constant rate of an arriving input.
_DRIFT = Fraction(1, 4)


Decoded = Generator[tuple[VideoFrame, Fraction | None], None, None]
"""Pictures with their times on the source's clock in seconds, None without a time stamp."""


class Source:
    """The frames of a video, decoded on demand; a context manager that closes the file.

    ``path_or_info`` is a file, a folder of pictures, a pattern such as ``frames/%05d.png``, ``-``
    for standard input, or the result of :func:`cloudconv.media.probe.probe`. ``start``
    (inclusive) and ``end`` (exclusive) are seconds from the first frame. ``threads`` is the
    decoder's number of threads; None lets the decoder choose. ``nvdec`` is the number of an NVIDIA
    GPU for decoding. ``by_gpu`` is whether it decodes, known after the first frame; if it does not,
    the CPU does, and a warning gives the reason. ``warnings`` are complete after the last frame. If
    the probe's result has ``fields``, two frames are made from each picture of the file. With
    ``following``, the frames end with the one that follows ``end``, if the source goes on. The file
    stays open, so frames are taken from one call of :meth:`frames` at a time.
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
    ) -> None:
        self.warnings: list[Warned] = []
        self.info = path_or_info if isinstance(path_or_info, MediaInfo) else probe(path_or_info)
        self._whole = start is None and end is None
        self._start, self._following = start or Fraction(0), following
        self._begin = self.info.timing.start
        timing = self.info.timing
        # The wanted part on the source's clock, without its end.
        ends = [] if end is None else [timing.start + end]
        if timing.rate is not None and timing.has_timestamps:
            ends.append(timing.end)
        self._end = min(ends, default=None)
        self._captions: dict[Fraction, bytes] = {}  # of decoded pictures, by time
        self._open: WeakSet[Generator[Frame, None, None]] = WeakSet()
        self.by_gpu = False
        self._threads, self._nvdec = threads, nvdec
        self._promised = self._errors = 0  # the wanted packets, and the damaged ones
        self._aspect: Fraction | None = None  # of a sample of the last decoded picture
        self._newest: Fraction | None = None  # the latest time of a packet
        self._stamps = array("q")  # the times of all packets, if the file is in order
        self._shown: list[int] = []  # the times of the packets of the pictures so far
        self._file: tuple[object, InputContainer] | None = None
        self._reader: Iterator[Frame] | None = None  # of `onward`, and its latest frames
        self._latest: deque[Frame] = deque(maxlen=8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for frames in self._open:
            frames.close()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file[1].close()
            self._file = None

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
        self._reader = None
        return frames

    @property
    def _seeks(self) -> bool:
        timing = self.info.file_timing
        return self.info.reader.seeks and timing.has_timestamps and not timing.shifts

    def onward(self, start: Fraction) -> Iterator[Frame]:
        """Return the frames from ``start`` on; a file without seeking is read once for all calls.

        Each call may begin some frames before the end of the last one, else the file is read again.
        """
        if self._seeks or self.info.reader.is_pictures:
            return self.frames(start)
        begin = self.info.timing.start + start
        if self._reader is None or not self._latest or self._latest[0].time > begin:
            self._latest.clear()
            reader = self.frames(Fraction(0))
            self._reader = reader
        return self._from(begin, self._reader)

    def _from(self, begin: Fraction, reader: Iterator[Frame]) -> Iterator[Frame]:
        yield from [frame for frame in self._latest if frame.time >= begin]
        for frame in reader:
            self._latest.append(frame)
            if frame.time >= begin:
                yield frame

    def _decoded(self, start: Fraction) -> Generator[Frame, None, None]:
        self.warnings = []
        tally = _Tally()
        info, waiting = self.info, None
        self._begin = info.timing.start + max(start, Fraction(0))
        pictures: Iterator[Timed] = self._timed(tally)
        if info.fields is not None:
            pictures = frames_of_fields(pictures, info.fields, info.file_timing.second_field)
        for picture, time in pictures:
            captions = self._captions.pop(time, b"")
            if time < self._begin:
                continue
            if waiting is not None:
                tally.delivered += 1
                yield waiting.at(waiting.time, self._until(time) - waiting.time)
                waiting = None
            if not self._wants(time):
                if self._following and time < info.timing.end:
                    yield Frame(picture, time, info.timing.last_duration, info.tags)
                break
            waiting = Frame(picture, time, Fraction(0), info.tags, captions)
        if waiting is not None:
            tally.delivered += 1
            lasts, left = info.timing.last_duration, info.timing.end - waiting.time
            if info.timing.rate is None and left > 0:
                lasts = min(left, lasts) or lasts
            yield waiting.at(waiting.time, self._until(waiting.time + lasts) - waiting.time)
        self._sum_up(tally)

    def _timed(self, tally: _Tally) -> Iterator[Timed]:
        """Yield the pictures of the file in their working pixel format, with their exact times."""
        grid = _Grid(self.info.file_timing)
        known: tuple[object, ...] = ()
        for picture, stamp in self._pictures():
            time = grid.time_of(stamp)
            if time is None:
                tally.out_of_order += 1
                continue
            tally.corrupt += bool(picture.is_corrupt)
            self._note_side_data(picture, time, tally)
            seen = (
                (picture.width, picture.height, picture.format.name),
                (self._aspect, picture.interlaced_frame),
                (picture.key_frame, self._wants(time)),
            )
            if seen != known:
                self._inspect(picture, time, tally)
                known = seen
            if self.info.fields is not None or time >= self._begin:
                yield widened(picture, self.info.working_pix_fmt), time

    def _note_side_data(self, picture: VideoFrame, time: Fraction, tally: _Tally) -> None:
        """Keep the picture's captions; record side data that the first picture does not have."""
        if self.info.codec in ("png", "apng"):
            return
        side_data = {}
        with suppress(ValueError):
            side_data = readable(picture)
        if (captions := side_data.pop(CAPTIONS, None)) is not None:
            self._captions[time] = captions
        for kind in side_data.keys() - self.info.side_data.keys():
            if words := KINDS[kind]:
                at = float(time - self.info.timing.start)
                text = f"The {words} of the source begin at {at:.3f} s and are left out."
                tally.changes.setdefault(kind, Warned(f"side-data-late: {text}"))

    def _wants(self, time: Fraction) -> bool:
        return self._begin <= time and (self._end is None or time < self._end)

    def _until(self, time: Fraction) -> Fraction:
        """Return the end of a frame that the source shows until ``time``.

        At a variable rate, the part ends within a frame. At a constant rate, the part consists of
        whole frames. The rate of an arriving input is that of its first frames: a gap may follow.
        """
        end, timing = self._end, self.info.timing
        if end is None or (timing.rate is not None and not timing.open_ended):
            return time
        if timing.rate is not None:
            end = timing.start + ceil((end - timing.start) * timing.rate) / timing.rate
        return min(time, end)

    def _sum_up(self, tally: _Tally) -> None:
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
        self.warnings += tally.changes.values()
        lost = self._promised * (1 if info.fields is None else 2) - tally.delivered
        told = [
            ("lost", lost * bool(self._errors), "could not be decoded and {are} missing"),
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
        if not self._fits(picture):
            info, name = self.info, picture.format.name
            check_unchanged(info)  # raises its own error if another file has replaced the input
            raise UnfitInputError(
                f"picture-changes: {info.path} changes from {info.width}x{info.height} "
                f"{info.pix_fmt} to {picture.width}x{picture.height} {name} at {at:.3f} s: cut it "
                "there, or convert it to one size and pixel format first."
            )
        if not self._wants(time):
            return
        aspect = self._aspect or Fraction(1)
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

    def _pictures(self) -> Decoded:
        """Return the pictures from a key frame before the wanted ones, or from the beginning."""
        self._promised = self._errors = 0
        info, timing, start = self.info, self.info.file_timing, self._begin
        if (pictures := open_pictures(info.path, timing.rate)) is not None:
            if self._nvdec is not None:
                self._without_nvdec("the input is pictures")
            for picture, time in pictures.timed(start):
                self._promised += self._wants(time)
                self._errors += picture is None
                if picture is not None:
                    yield picture, time
            return
        if info.fields is not None:
            start -= _EARLY_SECONDS
        if self._seeks:
            for aim in (start - back for back in _SEEK_BACK if start - back > timing.start):
                decoded = self._decode(aim)
                first = next(decoded, None)
                if first is not None and first[1] is not None and first[1] <= start:
                    yield first
                    yield from decoded
                    return
                decoded.close()
                self._promised = self._errors = 0
        yield from self._decode(None)

    def _next(self, picture: VideoFrame) -> int | None:
        """Return the time of the next picture of a file in order, in ticks; None if unknown."""
        own = picture.pts  # the time of its packet
        if not self._stamps or own is None:
            return None
        if picture.pict_type != PictureType.B:
            # The pictures of all earlier packets have been shown, or do not exist.
            before = bisect_left(self._stamps, own) + sum(each > own for each in self._shown[-16:])
            self._shown += [own] * (before - len(self._shown))
        self._shown.append(own)
        number = len(self._shown)
        return self._stamps[number - 1] if number <= len(self._stamps) else None

    def _fits(self, picture: VideoFrame) -> bool:
        info, name = self.info, picture.format.name
        with suppress(ValueError):
            alike = name == info.pix_fmt or working_format(name) == info.working_pix_fmt
            alike |= info.reader.is_pictures and can_widen(name, info.working_pix_fmt)
            return alike and (picture.width, picture.height) == (info.width, info.height)
        return False

    def _without_nvdec(self, why: str) -> None:
        self.warnings.append(Warned(f"not-nvdec: The CPU decodes, not NVDEC: {why}."))

    def _decode(self, seek: Fraction | None) -> Decoded:
        """Yield pictures from the beginning, or from a key frame before ``seek``.

        Frame threads are faster than slice threads, but lose good frames near a damaged one. GPUs
        and CPUs return different pictures after damage. An error therefore starts the next mode:
        first the GPU, then frame threads, then slice threads. Each mode decodes from the same
        place, and leaves out the pictures that were already yielded. The last mode continues after
        errors and counts them.
        """
        timing = self.info.file_timing
        modes = ["AUTO", "SLICE"] if timing.has_timestamps or timing.in_order else ["SLICE"]
        if self._nvdec is not None:
            modes.insert(0, _NVDEC)
        shown: Fraction | None = None  # the time of the latest picture
        untimed = 0  # the number of pictures without a time stamp
        for mode in modes:
            after, seen = shown, 0
            try:
                with ExitStack() as stack:
                    container = self._opened(mode, seek)
                    stream, decoder = self._opened_decoder(container, mode)
                    # PyAV frees a decoder, and waits for its threads, without releasing the
                    # interpreter. While PyAV collects log lines, a thread that logs waits for the
                    # interpreter, so the threads must be idle by then.
                    stack.callback(decoder.flush_buffers)
                    packets, first = self._packets(container, stream, seek)
                    for packet in packets:
                        for picture in self._pictures_of(decoder, packet, mode):
                            self._aspect = decoder.sample_aspect_ratio
                            stamp = picture.pts if timing.has_timestamps else self._next(picture)
                            time = None if stamp is None else stamp * timing.time_base
                            if time is None:
                                seen += 1
                                is_next, untimed = seen > untimed, max(untimed, seen)
                            else:
                                is_next = first is None or time >= first
                                is_next &= after is None or time > after
                                shown = time if is_next else shown
                            if is_next:
                                yield picture, time
                return
            except _NextModeError as error:
                self._promised = 0
                if mode == _NVDEC:
                    self._nvdec, self.by_gpu = None, False  # also for later seeks
                    self._without_nvdec(str(error))

    def _packets(
        self, container: InputContainer, stream: Any, seek: Fraction | None
    ) -> tuple[Iterator[Any], Fraction | None]:
        """Return the packets, and the time of the first picture to show or None for all.

        After a seek the time is that of the key frame: earlier pictures refer to frames that were
        not read.
        """
        self._newest = None
        self._stamps, self._shown = array("q"), []
        packets: Iterator[Any] = read_packets(container, stream, VideoClock(container, stream))
        if seek is None:
            return chain(packets, [None]), None
        with suppress(av.error.FFmpegError):  # else read from the start
            container.seek(int(seek / stream.time_base), stream=stream, backward=True)
        packets = chain(dropwhile(lambda p: not p.is_keyframe or p.pts is None, packets), [None])
        first = next(packets)
        time = None if first is None else first.pts * self.info.file_timing.time_base
        return chain([first], packets), time

    def _pictures_of(self, decoder: Any, packet: Any, mode: str) -> list[VideoFrame]:
        """Decode a packet, None for the end; raise _NextModeError if another mode may do better."""
        timing = self.info.file_timing
        if packet is not None and is_shown(packet, self.info.codec):
            due = None if packet.pts is None else packet.pts * timing.time_base
            self._promised += due is None or self._wants(due)
            self._newest = due if self._newest is None else max(self._newest, due or self._newest)
            if timing.in_order:
                self._stamps.append(packet.pts)
        try:
            pictures: list[VideoFrame] = decoder.decode(packet)
        except av.error.FFmpegError:
            if mode != "SLICE":
                raise _NextModeError("NVDEC could not decode a packet") from None
            self._errors += 1
            return []
        if packet is None and mode != "SLICE":
            # When threads return their last pictures, errors are visible only as missing pictures.
            own = [p.pts for p in pictures if p.pts is not None]
            latest = max(own + self._shown[-16:], default=None)
            if latest is not None and latest * timing.time_base < (self._newest or timing.start):
                raise _NextModeError("NVDEC could not decode a packet")
        if mode == _NVDEC and not self.by_gpu and pictures:
            if not self._fits(pictures[0]):  # such as uncropped
                raise _NextModeError(
                    "NVDEC's pictures have another size or format than the file says"
                )
            self.by_gpu = True
        return pictures

    def _opened(self, mode: str, seek: Fraction | None) -> InputContainer:
        """Open the file; for a seek, use the file that is open already if possible."""
        # The size and date show whether another file has replaced the input.
        key = None if seek is None else (mode, input_fingerprint(self.info.path, content=False))
        if key is None or self._file is None or self._file[0] != key:
            self._close()
            self._file = key, self._container(mode)
        return self._file[1]

    def _opened_decoder(self, container: InputContainer, mode: str) -> tuple[Any, Any]:
        stream = main_video(container, self.info.path, self.info.video_index)
        only(container, (stream.index,))
        decoder = open_decoder(stream)
        if mode == _NVDEC and not is_hardware(decoder):
            raise _NextModeError(f"this FFmpeg has no NVDEC decoder for {self.info.codec}")
        if not decoder.is_open:
            decoder.thread_type = "AUTO" if mode == "AUTO" else "SLICE"
            if self._threads is not None:
                decoder.thread_count = self._threads
        return stream, decoder

    def _container(self, mode: str) -> InputContainer:
        if mode != _NVDEC:
            return open_container(self.info.path)
        codec, is_timed = self.info.codec, self.info.file_timing.has_timestamps
        if not is_timed or codec not in _NVDEC_CODECS:
            other = codec if is_timed else "video without time stamps"
            raise _NextModeError(
                f"NVDEC is used for {', '.join(_NVDEC_CODECS)} only, not for {other}"
            )
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return open_container(self.info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _NextModeError("there is no NVIDIA GPU that can decode") from error


class _Grid:
    """The exact times of frames.

    With a ``gap_rate``, each time stamp is moved to ``start + k / gap_rate``. ``_last_raw`` and
    ``_last`` are the last frame's time before and after the move. ``_index`` is the last frame's k.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._last_raw: Fraction | None = None
        self._last: Fraction | None = None
        self._index = -1

    def time_of(self, stamp: Fraction | None) -> Fraction | None:
        """Return the time of the next frame; None if not after the time of the previous frame.

        Raise UnfitInputError if the frame rate changes in an input that is still arriving.
        """
        timing, last = self._timing, self._last
        if stamp is None:
            stamp = timing.start if last is None else last + timing.last_duration
        raw, time = stamp, filmed(timing.film, stamp)
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


class _NextModeError(Exception):
    """The error that leads to the next mode of decoding; its text is the reason for NVDEC."""


def is_hardware(decoder: Any) -> bool:
    """Return whether a decoder runs on a GPU."""
    return bool(decoder.is_hwaccel)
