"""Decode the pictures of a video file from a key frame on, also if the file is damaged.

`VideoFile` decides where to begin (`decode`) and which decoder to use (`_from`). Frame
threads are faster than slice threads, but lose good frames near a damaged one. GPUs and
CPUs return different pictures after damage. An error therefore starts the next mode: first
the GPU, then frame threads, then slice threads. Each mode decodes from the same place, and
leaves out the pictures that were already yielded. The last mode continues after errors and
counts them.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain, dropwhile
from typing import Any, NamedTuple

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame

from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.media.frames.clock import VideoClock
from cloudconv.media.frames.formats import can_widen, working_format
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.frames.timing import Key, Timing
from cloudconv.media.reading import demux
from cloudconv.media.reading.account import Account
from cloudconv.media.reading.identity import input_version
from cloudconv.media.reading.pictures import open_pictures

_NVDEC = "nvdec"  # the GPU's decoder; the other modes are FFmpeg's kinds of threads
# NVDEC returns exactly the CPU's samples of these.
_NVDEC_CODECS = ("h264", "hevc", "vp9", "av1")
# Which key frames before the wanted time are tried in turn. The last ones are for video
# that has no whole picture at a key frame, but refreshes its pictures part by part.
_KEYS_BEFORE = (1, 2, 5)


class Decoded(NamedTuple):
    """A picture, its time in seconds (None without a time stamp), and its aspect ratio."""

    picture: VideoFrame
    time: Fraction | None
    aspect: Fraction | None = None


class VideoFile:
    """The file or the pictures of an input; a file stays open for the next seek.

    ``threads`` and ``nvdec`` are those of :class:`cloudconv.media.reading.source.Source`.
    ``by_gpu`` is whether a GPU decodes, known after the first picture. ``seeks`` is whether
    times are right after a seek.
    """

    def __init__(self, info: MediaInfo, threads: int | None, nvdec: int | None) -> None:
        self.by_gpu = False
        self._info = info
        self._threads = threads
        self._nvdec = nvdec
        self._file: tuple[object, InputContainer] | None = None
        timing = info.file_timing
        self.seeks = (
            info.input_format.seeks and timing.has_timestamps and not timing.restarts
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file[1].close()
            self._file = None

    def decode(self, start: Fraction, account: Account) -> Iterator[Decoded]:
        """Return the pictures from a key frame at or before ``start``, or all pictures."""
        timing = self._info.file_timing
        if (pictures := open_pictures(self._info.path, timing.rate)) is not None:
            if self._nvdec is not None:
                self._without_nvdec("the input is pictures", account)
            return _readable(pictures.timed(start), account)
        keys = timing.keys if self.seeks else ()
        following = bisect_right(keys, start // timing.time_base, key=lambda key: key.pts)
        for key in (keys[following - k] for k in _KEYS_BEFORE if following > k):
            decoded = self._from(key, account)
            first = next(decoded, None)
            if first is not None and first.time is not None and first.time <= start:
                return chain([first], decoded)
            decoded.close()
        return self._from(None, account)

    def _from(self, key: Key | None, account: Account) -> Generator[Decoded, None, None]:
        timing = self._info.file_timing
        modes = ["AUTO", "SLICE"] if timing.has_timestamps or timing.in_order else ["SLICE"]
        if self._nvdec is not None:
            modes.insert(0, _NVDEC)
        # After a seek, pictures before the key frame refer to frames that were not read.
        first = None if key is None else key.pts * timing.time_base
        latest: Fraction | None = None  # the time of the latest picture
        untimed = 0  # the number of pictures without a time stamp
        for mode in modes:
            after = latest
            seen = 0
            try:
                for decoded in self._pictures(mode, key, account):
                    if (time := decoded.time) is None:
                        seen += 1
                        is_next = seen > untimed
                        untimed = max(untimed, seen)
                    else:
                        is_next = first is None or time >= first
                        is_next &= after is None or time > after
                        latest = time if is_next else latest
                    if is_next:
                        yield decoded
                return
            except _NextModeError as error:
                if mode == _NVDEC:
                    self._nvdec = None  # also for later seeks
                    self.by_gpu = False
                    self._without_nvdec(str(error), account)

    def _pictures(self, mode: str, key: Key | None, account: Account) -> Iterator[Decoded]:
        """Decode in one mode; raise _NextModeError if another mode may do better."""
        info = self._info
        queue = _Queue(self._info.file_timing)
        is_timed = info.file_timing.has_timestamps
        container, stream, decoder = self._opened(mode, key)
        account.restart(reorders=decoder.codec.reorder, is_timed=is_timed)
        with ExitStack() as stack:
            # PyAV frees a decoder, and waits for its threads, without releasing the
            # interpreter. While PyAV collects log lines, a thread that logs waits for the
            # interpreter, so the threads must be idle by then (PyAV-Org/PyAV#751, #1053).
            stack.callback(decoder.flush_buffers)
            for packet in chain(_packets(container, stream, key), [None]):
                if packet is not None and demux.is_shown(packet, info.codec):
                    account.expect(queue.add(packet))
                try:
                    pictures: list[VideoFrame] = decoder.decode(packet)
                except av.error.FFmpegError:
                    if mode != "SLICE":
                        raise _NextModeError("NVDEC could not decode a packet") from None
                    account.has_errors = True
                    continue
                if mode == _NVDEC and not self.by_gpu and pictures:
                    if not fits(pictures[0], info):  # for example not cropped
                        raise _NextModeError(
                            "NVDEC's pictures have another size or format than the file "
                            "says"
                        )
                    self.by_gpu = True
                for picture in pictures:
                    time = queue.time_of(picture)
                    account.show(time, has_fields=bool(picture.interlaced_frame))
                    yield Decoded(picture, time, decoder.sample_aspect_ratio)
            # At the end, errors of threads are visible only as missing pictures.
            if mode != "SLICE" and account.lacks_last:
                raise _NextModeError("NVDEC could not decode a packet")
            account.finish(info.file_timing.end)

    def _opened(self, mode: str, key: Key | None) -> tuple[InputContainer, Any, Any]:
        """Open the file; for a seek, use the file that is open already if possible."""
        # Another file may have replaced the input.
        now = None if key is None else (mode, input_version(self._info.path))
        if now is None or self._file is None or self._file[0] != now:
            self.close()
            self._file = now, self._container(mode)
        container = self._file[1]
        stream = demux.main_video(container, self._info.path, self._info.video_index)
        demux.only(container, (stream.index,))
        decoder = demux.open_decoder(stream)
        if mode == _NVDEC and not is_hardware(decoder):
            raise _NextModeError(f"this FFmpeg has no NVDEC decoder for {self._info.codec}")
        if not decoder.is_open:
            decoder.thread_type = "AUTO" if mode == "AUTO" else "SLICE"
            if self._threads is not None:
                decoder.thread_count = self._threads
        return container, stream, decoder

    def _container(self, mode: str) -> InputContainer:
        if mode != _NVDEC:
            return demux.open_container(self._info.path)
        codec = self._info.codec
        is_timed = self._info.file_timing.has_timestamps
        if not is_timed or codec not in _NVDEC_CODECS:
            other = codec if is_timed else "video without time stamps"
            raise _NextModeError(
                f"NVDEC is used for {', '.join(_NVDEC_CODECS)} only, not for {other}"
            )
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return demux.open_container(self._info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _NextModeError("there is no NVIDIA GPU that can decode") from error

    def _without_nvdec(self, why: str, account: Account) -> None:
        account.warnings.add(Warned(f"not-nvdec: The CPU decodes, not NVDEC: {why}."))


def _readable(
    pictures: Iterable[tuple[VideoFrame | None, Fraction]], account: Account
) -> Iterator[Decoded]:
    end = account.begin
    for picture, time in pictures:
        account.expect(time)
        end = time
        if picture is not None:
            account.show(time)
            yield Decoded(picture, time)
    account.finish(end)


def _packets(container: InputContainer, stream: Any, key: Key | None) -> Iterator[Any]:
    packets = demux.read_packets(container, stream, VideoClock(container, stream))
    if key is None:
        return packets
    with suppress(av.error.FFmpegError):  # else read from the start
        container.seek(key.found_by, stream=stream, backward=True)
    return dropwhile(
        lambda packet: not packet.is_keyframe or packet.pts is None or packet.pts < key.pts,
        packets,
    )


class _Queue:
    """The times of packets that a decoder was given, and of pictures it has returned."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._stamps = array("q")  # the times of all packets, if the file is in order
        self._shown: list[int] = []  # the times of the packets of the pictures so far

    def add(self, packet: Any) -> Fraction | None:
        """Add a packet with a visible frame, and return its time in seconds."""
        due = None if packet.pts is None else packet.pts * self._timing.time_base
        if self._timing.in_order:
            self._stamps.append(packet.pts)
        return due

    def time_of(self, picture: VideoFrame) -> Fraction | None:
        """Return the time of the next picture in seconds; None if unknown."""
        timing = self._timing
        stamp = picture.pts if timing.has_timestamps else self._next(picture)
        return None if stamp is None else stamp * timing.time_base

    def _next(self, picture: VideoFrame) -> int | None:
        own = picture.pts  # the time of its packet
        if not self._stamps or own is None:
            return None
        if picture.pict_type != PictureType.B:
            # The pictures of all earlier packets have been shown, or do not exist.
            before = bisect_left(self._stamps, own) + sum(
                later > own for later in self._shown[-16:]
            )
            self._shown += [own] * (before - len(self._shown))
        self._shown.append(own)
        number = len(self._shown)
        return self._stamps[number - 1] if number <= len(self._stamps) else None


class _NextModeError(Exception):
    """The error that leads to the next mode of decoding.

    Its text is the reason for NVDEC.
    """


def fits(picture: VideoFrame, info: MediaInfo) -> bool:
    """Return whether a picture has the size and the samples that the probe has found."""
    name = picture.format.name
    with suppress(ValueError):
        alike = name == info.pix_fmt or working_format(name) == info.working_pix_fmt
        is_jpeg = info.suffix in (".jpg", ".jpeg")
        wide = info.working_pix_fmt
        alike |= info.input_format.is_pictures and can_widen(name, wide, is_jpeg=is_jpeg)
        return alike and (picture.width, picture.height) == (info.width, info.height)
    return False


def is_hardware(decoder: Any) -> bool:
    """Return whether a decoder runs on a GPU."""
    return bool(decoder.is_hwaccel)
