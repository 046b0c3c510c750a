"""Decode the pictures of a file, on CPU threads or a GPU, from the start or after a seek."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.frame import VideoFrame

from cloudconv.errors import InputError
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
from cloudconv.media.formats import working_format
from cloudconv.media.identity import input_fingerprint
from cloudconv.media.info import MediaInfo
from cloudconv.media.pictures import open_pictures

# Distances of a seek before the wanted time, in seconds; each is tried in turn.
_SEEK_BACK = (0, 1, 2, 4, 8, 16)
# Seconds to decode before the first frame of fields, which depends on the pictures before.
_EARLY_SECONDS = Fraction(1, 2)
_NVDEC = "nvdec"  # the GPU's decoder; the other modes are FFmpeg's kinds of threads
# Codecs for which NVDEC returns exactly the CPU's samples.
_NVDEC_CODECS = ("h264", "hevc", "vp9")

Decoded = Generator[tuple[VideoFrame, Fraction | None], None, None]
"""Pictures with their times on the source's clock in seconds, None without a time stamp."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The wanted part of a video, in seconds on the source's clock; ``end`` is exclusive."""

    start: Fraction
    end: Fraction | None

    def __contains__(self, time: Fraction) -> bool:
        return self.start <= time and (self.end is None or time < self.end)


class Decoder:
    """The pictures of a file as they come from the decoder.

    ``promised`` counts the wanted packets and ``errors`` the damaged ones. ``aspect`` is the sample
    aspect ratio of the last decoded picture. ``by_gpu`` is true if a GPU decodes. If a GPU was
    requested and does not decode, ``warnings`` give the reason.
    """

    def __init__(
        self, info: MediaInfo, *, threads: int | None, nvdec: int | None, stays_open: bool
    ) -> None:
        self.promised = self.errors = 0
        self.aspect: Fraction | None = None
        self.by_gpu = False
        self.warnings: list[Warned] = []
        self._info, self._threads, self._nvdec = info, threads, nvdec
        self._wanted = TimeRange(info.timing.start, None)
        self._newest: Fraction | None = None  # the latest time of a packet
        self._stays_open = stays_open
        self._open: tuple[object, InputContainer] | None = None

    def pictures(self, wanted: TimeRange) -> Decoded:
        """Return the pictures from a key frame before the wanted ones, or from the beginning."""
        self.promised = self.errors = 0
        self.warnings.clear()
        self._wanted = wanted
        info, timing, start = self._info, self._info.file_timing, wanted.start
        if (pictures := open_pictures(info.path, timing.rate)) is not None:
            if self._nvdec is not None:
                self._without_nvdec("the input is pictures")
            for picture, time in pictures.timed():
                self.promised += time in wanted
                self.errors += picture is None
                if picture is not None:
                    yield picture, time
            return
        if info.fields is not None:
            start -= _EARLY_SECONDS
        if info.reader.seeks and timing.has_timestamps and not timing.shifts:
            for aim in (start - back for back in _SEEK_BACK if start - back > timing.start):
                decoded = self._decode(aim)
                first = next(decoded, None)
                if first is not None and first[1] is not None and first[1] <= start:
                    yield first
                    yield from decoded
                    return
                decoded.close()
                self.promised = self.errors = 0
        yield from self._decode(None)

    def fits(self, picture: VideoFrame) -> bool:
        """Return whether a picture has the probed size and pixel format."""
        info, name = self._info, picture.format.name
        with contextlib.suppress(ValueError):
            alike = name == info.pix_fmt or working_format(name) == info.working_pix_fmt
            return alike and (picture.width, picture.height) == (info.width, info.height)
        return False

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

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
        timing = self._info.file_timing
        modes = ["AUTO", "SLICE"] if timing.has_timestamps else ["SLICE"]
        if self._nvdec is not None:
            modes.insert(0, _NVDEC)
        shown: Fraction | None = None  # the time of the latest picture
        for mode in modes:
            after = shown
            try:
                with self._opened(mode, seek) as container, contextlib.ExitStack() as stack:
                    stream, decoder = self._decoder(container, mode)
                    # PyAV frees a decoder, and waits for its threads, without releasing the
                    # interpreter. While PyAV collects log lines, a thread that logs waits for the
                    # interpreter, so the threads must be idle by then.
                    stack.callback(decoder.flush_buffers)
                    packets, first = self._packets(container, stream, seek)
                    for packet in packets:
                        for picture in self._pictures(decoder, packet, mode):
                            self.aspect = decoder.sample_aspect_ratio
                            stamp = picture.pts if timing.has_timestamps else picture.dts
                            time = None if stamp is None else stamp * timing.time_base
                            if time is None or (
                                (first is None or time >= first) and (after is None or time > after)
                            ):
                                yield picture, time
                                shown = shown if time is None else time
                return
            except _NextModeError as error:
                self.promised = 0
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
        packets: Iterator[Any] = read_packets(container, stream, VideoClock(container, stream))
        if seek is None:
            return chain(packets, [None]), None
        with contextlib.suppress(av.error.FFmpegError):  # else read from the start
            container.seek(int(seek / stream.time_base), stream=stream, backward=True)
        packets = chain(dropwhile(lambda p: not p.is_keyframe or p.pts is None, packets), [None])
        first = next(packets)
        time = None if first is None else first.pts * self._info.file_timing.time_base
        return chain([first], packets), time

    def _pictures(self, decoder: Any, packet: Any, mode: str) -> list[VideoFrame]:
        """Decode a packet, None for the end; raise _NextModeError if another mode may do better."""
        timing = self._info.file_timing
        if packet is not None and is_shown(packet, self._info.codec):
            due = None if packet.pts is None else packet.pts * timing.time_base
            self.promised += due is None or due in self._wanted
            self._newest = due if self._newest is None else max(self._newest, due or self._newest)
        try:
            pictures: list[VideoFrame] = decoder.decode(packet)
        except av.error.FFmpegError:
            if mode != "SLICE":
                raise _NextModeError("NVDEC could not decode a packet") from None
            self.errors += 1
            return []
        if packet is None and mode != "SLICE":
            # When threads return their last pictures, errors are visible only as missing pictures.
            latest = max((p.pts for p in pictures if p.pts is not None), default=None)
            if latest is not None and latest * timing.time_base < (self._newest or timing.start):
                raise _NextModeError("NVDEC could not decode a packet")
        if mode == _NVDEC and not self.by_gpu and pictures:
            if not self.fits(pictures[0]):  # such as uncropped
                raise _NextModeError(
                    "NVDEC's pictures have another size or format than the file says"
                )
            self.by_gpu = True
        return pictures

    @contextlib.contextmanager
    def _opened(self, mode: str, seek: Fraction | None) -> Iterator[InputContainer]:
        """Open the file within the block; for a seek, use the file that stays open if possible."""
        if not self._stays_open:
            with self._container(mode) as container:
                yield container
            return
        # The size and date show whether another file has replaced the input.
        key = mode, input_fingerprint(self._info.path, content=False)
        if seek is None or self._open is None or self._open[0] != key:
            self.close()
            self._open = key, self._container(mode)
        yield self._open[1]

    def _decoder(self, container: InputContainer, mode: str) -> tuple[Any, Any]:
        stream = main_video(container, self._info.path)
        only(container, (stream.index,))
        decoder = open_decoder(stream)
        if mode == _NVDEC and not is_hardware(decoder):
            raise _NextModeError(f"this FFmpeg has no NVDEC decoder for {self._info.codec}")
        if not decoder.is_open:
            decoder.thread_type = "AUTO" if mode == "AUTO" else "SLICE"
            if self._threads is not None:
                decoder.thread_count = self._threads
        return stream, decoder

    def _container(self, mode: str) -> InputContainer:
        if mode != _NVDEC:
            return open_container(self._info.path)
        codec, is_timed = self._info.codec, self._info.file_timing.has_timestamps
        if not is_timed or codec not in _NVDEC_CODECS:
            other = codec if is_timed else "video without time stamps"
            raise _NextModeError(
                f"NVDEC is used for {', '.join(_NVDEC_CODECS)} only, not for {other}"
            )
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return open_container(self._info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _NextModeError("there is no NVIDIA GPU that can decode") from error


class _NextModeError(Exception):
    """The error that leads to the next mode of decoding; its text is the reason for NVDEC."""


def is_hardware(decoder: Any) -> bool:
    """Return whether a decoder runs on a GPU."""
    return bool(decoder.is_hwaccel)
