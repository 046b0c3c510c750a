"""Decode the frames of a file in order and at exact times, even from damaged files."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path
from typing import Any, Self

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import VideoFrame

from cloudconv.errors import InputError, UnfitInputError
from cloudconv.events import Warned
from cloudconv.media.filters import deinterlace
from cloudconv.media.formats import repack, working_format
from cloudconv.media.frame import Frame
from cloudconv.media.input import images
from cloudconv.media.input.demux import (
    continuous,
    is_shown,
    main_video,
    only,
    open_container,
    open_decoder,
)
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.input.spool import discard
from cloudconv.media.read.probe import probe

# Distances of a seek before the wanted time, in seconds; each is tried in turn.
_SEEK_BACK = (0, 1, 2, 4, 8, 16)

_NVDEC = "nvdec"  # the GPU's decoder; the other names are FFmpeg's kinds of threads
# Codecs that NVDEC decodes bit by bit as the CPU does.
_NVDEC_CODECS = ("h264", "hevc", "vp9")

_Decoded = Generator[tuple[VideoFrame, Fraction | None]]


_DRIFT = Fraction(1, 4)  # largest distance from the grid, in frames


class Source:
    """The frames of a video, decoded on demand; a context manager.

    ``path_or_info`` is a file, a folder of pictures, a pattern such as ``frames/%05d.png``, a glob,
    ``-`` for standard input, or the result of :func:`cloudconv.media.read.probe.probe`. ``start``
    (inclusive) and ``end`` (exclusive) are seconds from the first frame. ``threads`` is the
    decoder's number of threads; None lets the decoder choose. ``deinterlace`` makes whole frames
    from pairs of fields. ``nvdec`` is the number of an NVIDIA GPU for decoding. If the GPU cannot
    decode the file, the CPU does, and a warning gives the reason. ``by_gpu`` tells which one
    decodes, from the first frame on.

    Raises InputError if the input contains no video or the span contains no frame.
    """

    def __init__(
        self,
        path_or_info: MediaInfo | Path | str,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        threads: int | None = None,
        deinterlace: bool = False,
        nvdec: int | None = None,
    ) -> None:
        """Probe the input if necessary; see the class for the arguments.

        Raises:
            InputError: the input contains no video.
        """
        self.lost_frames = 0
        self.by_gpu = False
        self.warnings: list[Warned] = []
        self._deinterlace = deinterlace
        self._nvdec = nvdec
        self._threads = threads
        self.info = path_or_info if isinstance(path_or_info, MediaInfo) else probe(path_or_info)
        timing = self.info.timing
        self._start = timing.start + max(start or Fraction(0), Fraction(0))
        self._whole = start is None and end is None
        ends = [] if end is None else [timing.start + end]
        if timing.rate is not None and timing.stamped:
            ends.append(timing.end)
        self._end = min(ends, default=None)

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the copy of standard input."""
        self.close()

    def close(self) -> None:
        """Delete the copy of standard input; further calls do nothing."""
        discard(self.info.path)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in presentation order, each in its working pixel format.

        With a constant rate, times are exactly ``timing.start + k / rate``. Otherwise they are the
        file's own. A frame lasts until the next one. A frame whose time is not after that of the
        frame before is left out. ``lost_frames`` and ``warnings`` are complete at the end.
        """
        self.lost_frames = 0
        self.warnings = [
            warned
            for warned in self.info.warnings
            if warned.code != "interlaced" or not self._deinterlace
        ]
        tally = _Tally()
        waiting: Frame | None = None
        for frame in self._timed(tally):
            if frame.time < self._start:
                continue
            if waiting is not None:
                tally.delivered += 1
                yield waiting.at(waiting.time, frame.time - waiting.time)
                waiting = None
            if self._end is not None and frame.time >= self._end:
                break
            waiting = frame
        if waiting is not None:
            tally.delivered += 1
            yield waiting.at(waiting.time, self._last_duration(waiting.time))
        self._sum_up(tally)

    def _last_duration(self, time: Fraction) -> Fraction:
        timing = self.info.timing
        if timing.rate is None and time < timing.end:
            return min(timing.end - time, timing.last_duration) or timing.last_duration
        return timing.last_duration

    def _sum_up(self, tally: _Tally) -> None:
        if tally.errors:
            self.lost_frames = max(tally.promised - tally.delivered, 0)
        if not tally.delivered:
            if not self._whole:
                timing = self.info.timing
                length = float(timing.end - timing.start)
                raise InputError("part-without-frame", path=self.info.path, seconds=length)
            raise InputError("no-frame-decoded", path=self.info.path)
        self.warnings += tally.changes.values()
        if self.lost_frames:
            self.warnings.append(Warned("frames-lost", {"count": self.lost_frames}))
        if tally.corrupt:
            self.warnings.append(Warned("frames-damaged", {"count": tally.corrupt}))
        if tally.out_of_order:
            self.warnings.append(Warned("frames-out-of-order", {"count": tally.out_of_order}))

    def _timed(self, tally: _Tally) -> Iterator[Frame]:
        """Yield frames at strictly rising exact times, with provisional durations."""
        info, timing = self.info, self.info.timing
        last_raw: Fraction | None = None
        last: Fraction | None = None
        late = Fraction(0)
        index = -1
        decoded: Iterator[tuple[VideoFrame, Fraction | None]] = self._raw(tally)
        if self._deinterlace:
            # No picture has an interlaced flag, so the user's request decides.
            decoded = deinterlace(decoded, every=not info.interlaced)
        for picture, raw in decoded:
            if not timing.stamped and timing.rate is not None:
                raw = timing.start if last is None else last + 1 / timing.rate
            elif raw is None:
                raw = timing.start if last is None else last + timing.last_duration
            elif not timing.stamped:
                # Decode times replace presentation times: they differ by a constant delay.
                late = raw - timing.start if last is None else late
                raw -= late
            time = raw
            if timing.pace is not None:
                nearest = round((raw - timing.start) * timing.pace)
                if nearest <= index and last_raw is not None and raw > last_raw:
                    nearest = index + 1
                time = timing.start + nearest / timing.pace
                if timing.open_ended and abs(time - raw) * timing.pace > _DRIFT:
                    at = float(raw - timing.start)
                    raise UnfitInputError("rate-changes", at=at)
            if last is not None and time <= last:
                tally.out_of_order += 1
                continue
            if timing.pace is not None:
                index = nearest
            last_raw, last = raw, time
            self._check(picture, time)
            if self._wanted(time):
                self._compare(picture, time, tally)
            tally.corrupt += bool(picture.is_corrupt)
            picture = repack(picture, info.working_pix_fmt)
            yield Frame(picture, time, Fraction(0), info.tags)

    def _fits(self, picture: VideoFrame) -> bool:
        """Return whether the picture has the probed size and pixel format."""
        info, name = self.info, picture.format.name
        same_size = (picture.width, picture.height) == (info.width, info.height)
        return same_size and (name == info.pix_fmt or _holds(name, info.working_pix_fmt))

    def _compare(self, picture: VideoFrame, time: Fraction, tally: _Tally) -> None:
        """Record the first change of a property that the output has only once."""
        at = float(time - self.info.timing.start)
        known = tally.first_aspect = tally.first_aspect or tally.aspect or Fraction(1)
        aspect = tally.aspect or Fraction(1)
        # The decoder runs ahead of the reordered pictures, and the aspect changes at key frames
        # only.
        if aspect != known and picture.key_frame:
            tally.changes.setdefault(
                "aspect",
                Warned(
                    "aspect-changes",
                    {
                        "before": _ratio(known),
                        "after": _ratio(aspect),
                        "time": at,
                        "used": _ratio(self.info.aspect or Fraction(1)),
                    },
                ),
            )
        if not self._deinterlace and picture.interlaced_frame != self.info.interlaced:
            kinds = ("interlaced", "progressive")
            before, now = kinds if self.info.interlaced else kinds[::-1]
            tally.changes.setdefault(
                "fields",
                Warned("fields-change", {"before": before, "after": now, "time": at}),
            )

    def _check(self, picture: VideoFrame, time: Fraction) -> None:
        if self._fits(picture):
            return
        info, name = self.info, picture.format.name
        at = float(time - info.timing.start)
        raise UnfitInputError(
            "picture-changes",
            path=info.path,
            before=f"{info.width}x{info.height} {info.pix_fmt}",
            after=f"{picture.width}x{picture.height} {name}",
            at=at,
        )

    def _raw(self, tally: _Tally) -> _Decoded:
        pictures = images.open_pictures(self.info.path, self.info.timing.rate)
        if pictures is not None:
            if self._nvdec is not None:
                self.warnings.append(Warned("not-nvdec", {"why": "the input is pictures"}))
            yield from self._from_pictures(pictures, tally)
        elif self._start <= self.info.timing.start or not self._can_seek:
            yield from self._decode(None, tally)
        else:
            yield from self._from_seek(self._start, tally)

    @property
    def _can_seek(self) -> bool:
        timing = self.info.timing
        return self.info.reader.seeks and timing.stamped and not timing.shifts

    def _from_pictures(self, pictures: images.Pictures, tally: _Tally) -> _Decoded:
        time = Fraction(0)
        for picture, duration in zip(pictures.pictures(), pictures.durations, strict=True):
            tally.promised += self._wanted(time)
            if picture is None:
                tally.errors += 1
            else:
                yield picture, time
            time += duration

    def _from_seek(self, start: Fraction, tally: _Tally) -> _Decoded:
        """Yield pictures from a key frame before ``start``; repeat a seek that lands too late."""
        for back in _SEEK_BACK:
            aim = start - back
            if aim <= self.info.timing.start:
                break
            decoded = self._decode(aim, tally)
            first = next(decoded, None)
            if first is not None and first[1] is not None and first[1] <= start:
                yield first
                yield from decoded
                return
            decoded.close()
            tally.promised = tally.errors = 0
        yield from self._decode(None, tally)

    def _decode(self, seek: Fraction | None, tally: _Tally) -> _Decoded:
        """Yield pictures from the beginning, or from a key frame before ``seek``.

        Frame threads are faster, but lose good frames near a damaged one. A GPU treats damage in
        its own way. After the first error decoding therefore continues without either.
        """
        last: Fraction | None = None
        ways = ["AUTO", "SLICE"] if self.info.timing.stamped else ["SLICE"]
        if self._nvdec is not None:
            ways.insert(0, _NVDEC)
        for way in ways:
            reached = last
            try:
                for picture, time in self._decode_once(seek, tally, way):
                    if reached is None or time is None or time > reached:
                        yield picture, time
                        last = time if time is not None else last
                return
            except _OtherWayError as error:
                tally.promised = 0
                if way == _NVDEC:
                    self._nvdec, self.by_gpu = None, False  # also for later seeks
                    self.warnings.append(Warned("not-nvdec", {"why": str(error)}))

    def _decode_once(self, seek: Fraction | None, tally: _Tally, way: str) -> _Decoded:
        timing = self.info.timing
        with self._opened(way) as container:
            stream, decoder = self._decoder(container, way)
            if seek is not None:
                with contextlib.suppress(av.error.FFmpegError):  # else read from the start
                    container.seek(int(seek / stream.time_base), stream=stream, backward=True)
            packets: Iterator[Any] = continuous(container, stream, [])
            first = None
            if seek is not None:
                packets = dropwhile(lambda p: not p.is_keyframe or p.pts is None, packets)
            newest = None
            for packet in packets:
                if seek is not None and first is None:
                    first = packet.pts
                if is_shown(packet, self.info.codec):
                    due = None if packet.pts is None else packet.pts * timing.time_base
                    tally.promised += due is None or self._wanted(due)
                    newest = due if newest is None else max(newest, due or newest)
                pictures = _decoded(decoder, packet, tally, way)
                tally.aspect = decoder.sample_aspect_ratio
                yield from self._stamped(pictures, first, way)
            errors = tally.errors
            pictures = _decoded(decoder, None, tally, way)
            if way != "SLICE" and tally.errors == errors:
                # When the threads are flushed, errors are visible only as missing frames.
                latest = max((p.pts for p in pictures if p.pts is not None), default=None)
                if latest is not None and latest * timing.time_base < (newest or timing.start):
                    raise _OtherWayError(_FAILS)
            yield from self._stamped(pictures, first, way)

    def _decoder(self, container: InputContainer, way: str) -> tuple[Any, Any]:
        stream = main_video(container, self.info.path)
        only(container, stream)
        decoder = open_decoder(stream)
        if way == _NVDEC and not _is_hardware(decoder):
            raise _OtherWayError(f"this FFmpeg has none for {self.info.codec}")
        decoder.thread_type = "AUTO" if way == "AUTO" else "SLICE"
        if self._threads is not None:
            decoder.thread_count = self._threads
        return stream, decoder

    def _stamped(self, pictures: Iterable[VideoFrame], first: int | None, way: str) -> _Decoded:
        """Yield the pictures with their times.

        After a seek, yield those from ``first`` on: frames before that key frame refer to frames
        that were not read.
        """
        timing = self.info.timing
        for picture in pictures:
            if way == _NVDEC and not self.by_gpu:
                # The GPU may return pictures without cropping, for example.
                if not self._fits(picture):
                    raise _OtherWayError("its pictures have another size or format")
                self.by_gpu = True
            stamp = picture.pts if timing.stamped else picture.dts
            if first is None or stamp is None or stamp >= first:
                yield picture, None if stamp is None else stamp * timing.time_base

    def _opened(self, way: str) -> InputContainer:
        if way != _NVDEC:
            return open_container(self.info.path)
        codec, timing = self.info.codec, self.info.timing
        if codec not in _NVDEC_CODECS or not timing.stamped:
            kind = codec if timing.stamped else "video without time stamps"
            raise _OtherWayError(f"it is for {', '.join(_NVDEC_CODECS)} here, not for {kind}")
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return open_container(self.info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _OtherWayError("there is no NVIDIA GPU that can") from error

    def _wanted(self, time: Fraction) -> bool:
        return time >= self._start and (self._end is None or time < self._end)


_FAILS = "it fails on the file's data"


class _OtherWayError(Exception):
    """A packet cannot be decoded in this way; the message gives the reason."""


def _decoded(decoder: Any, packet: Any, tally: _Tally, way: str) -> list[VideoFrame]:
    """Return the pictures of a packet, or the remaining ones for None.

    Damaged packets are counted. If another way of decoding is left, they raise an error instead.
    """
    try:
        pictures: list[VideoFrame] = decoder.decode(packet)
    except av.error.FFmpegError:
        if way != "SLICE":
            raise _OtherWayError(_FAILS) from None
        tally.errors += 1
        return []
    return pictures


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"


def _is_hardware(decoder: Any) -> bool:
    return bool(decoder.is_hwaccel)


class _Tally:
    """The counts and changes during decoding."""

    def __init__(self) -> None:
        """Create empty counts."""
        self.promised = self.delivered = self.errors = self.corrupt = self.out_of_order = 0
        # The sample aspect ratio of the last decoded picture, and of the first wanted one.
        self.aspect: Fraction | None = None
        self.first_aspect: Fraction | None = None
        self.changes: dict[str, Warned] = {}


def _holds(pix_fmt: str, working: str) -> bool:
    try:
        return working_format(pix_fmt) == working
    except ValueError:
        return False
