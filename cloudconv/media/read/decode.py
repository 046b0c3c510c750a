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
from cloudconv.media.formats import working_format
from cloudconv.media.input import images
from cloudconv.media.input.demux import (
    VideoClock,
    is_shown,
    main_video,
    only,
    open_container,
    open_decoder,
    read_packets,
)
from cloudconv.media.input.fingerprint import input_fingerprint
from cloudconv.media.input.info import MediaInfo

# Distances of a seek before the wanted time, in seconds; each is tried in turn.
_SEEK_BACK = (0, 1, 2, 4, 8, 16)

# Seconds to decode before the first frame of fields, which depends on the pictures before.
_EARLY_SECONDS = Fraction(1, 2)

_NVDEC = "nvdec"  # the GPU's decoder; the other names are FFmpeg's kinds of threads
# Codecs for which NVDEC returns exactly the CPU's samples.
_NVDEC_CODECS = ("h264", "hevc", "vp9")

Decoded = Iterator[tuple[VideoFrame, Fraction | None]]
"""Pictures with their times on the source's clock in seconds, None without a time stamp."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The wanted part of a video, in seconds on the source's clock; ``end`` is exclusive."""

    start: Fraction
    end: Fraction | None

    def __contains__(self, time: Fraction) -> bool:
        """Return whether a frame at this time is wanted."""
        return self.start <= time and (self.end is None or time < self.end)


class DecoderCache:
    """A cache of the last open file with its decoder; a later source only seeks in the file.

    A source removes the file from the cache while it uses the file. So the sources of one thread
    may share a cache.
    """

    def __init__(self) -> None:
        """Create an empty cache."""
        self._idle: dict[object, InputContainer] = {}

    def take(self, key: object) -> InputContainer | None:
        """Remove and return the file if ``key`` matches; else close the file and return None."""
        found = self._idle.pop(key, None)
        self.close()
        return found

    def put(self, key: object, container: InputContainer) -> None:
        """Add a file that is no longer in use; close the previous file."""
        self.close()
        self._idle[key] = container

    def close(self) -> None:
        """Close the file and its decoder."""
        while self._idle:
            self._idle.popitem()[1].close()


class Decoder:
    """The pictures of a file as they come from the decoder.

    ``promised`` counts the wanted packets and ``errors`` the damaged ones. ``aspect`` is the sample
    aspect ratio of the last decoded picture. ``by_gpu`` is true if a GPU decodes. If a GPU was
    requested and does not decode, ``warnings`` give the reason.
    """

    def __init__(
        self,
        info: MediaInfo,
        wanted: TimeRange,
        *,
        threads: int | None,
        nvdec: int | None,
        cache: DecoderCache | None,
    ) -> None:
        """Store the arguments and open nothing yet; ``Source`` explains most of them."""
        self.promised = self.errors = 0
        self.aspect: Fraction | None = None
        self.by_gpu = False
        self.warnings: list[Warned] = []
        self._info, self._wanted = info, wanted
        self._threads, self._nvdec, self._cache = threads, nvdec, cache
        self._newest: Fraction | None = None  # the latest time of a packet

    def pictures(self) -> Decoded:
        """Return the pictures from a key frame before the wanted ones, or from the beginning."""
        self.promised = self.errors = 0
        self.warnings.clear()
        info, timing = self._info, self._info.file_timing
        pictures = images.open_pictures(info.path, timing.rate)
        if pictures is not None:
            if self._nvdec is not None:
                self.warnings.append(
                    Warned("nvdec-of-pictures: The CPU decodes, not NVDEC: the input is pictures.")
                )
            return self._from_pictures(pictures)
        can_seek = info.reader.seeks and timing.has_timestamps and not timing.shifts
        start = self._wanted.start
        if info.fields is not None:
            start -= _EARLY_SECONDS
        if start > timing.start and can_seek:
            return self._from_seek(start)
        return self._decode(None)

    def fits(self, picture: VideoFrame) -> bool:
        """Return whether a picture has the probed size and pixel format."""
        info, name = self._info, picture.format.name
        if (picture.width, picture.height) != (info.width, info.height):
            return False
        try:
            return name == info.pix_fmt or working_format(name) == info.working_pix_fmt
        except ValueError:
            return False

    def _from_pictures(self, pictures: images.Pictures) -> Decoded:
        time = Fraction(0)
        for picture, duration in zip(pictures.decode(), pictures.durations, strict=True):
            self.promised += time in self._wanted
            if picture is None:
                self.errors += 1
            else:
                yield picture, time
            time += duration

    def _from_seek(self, start: Fraction) -> Decoded:
        """Return the pictures from a key frame before ``start``; seek further back if necessary."""
        for back in _SEEK_BACK:
            aim = start - back
            if aim <= self._info.file_timing.start:
                break
            decoded = self._decode(aim)
            first = next(decoded, None)
            if first is not None and first[1] is not None and first[1] <= start:
                return chain([first], decoded)
            decoded.close()
            self.promised = self.errors = 0
        return self._decode(None)

    def _decode(
        self, seek: Fraction | None
    ) -> Generator[tuple[VideoFrame, Fraction | None], None, None]:
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
                        self._count(packet)
                        try:
                            pictures: list[VideoFrame] = decoder.decode(packet)
                        except av.error.FFmpegError:
                            if mode != "SLICE":
                                raise _NextModeError from None
                            self.errors += 1
                            continue
                        if packet is None and mode != "SLICE":
                            self._check_end(pictures)
                        if mode == _NVDEC and not self.by_gpu and pictures:
                            self._check_gpu(pictures[0])
                        for picture in pictures:
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
                    self.warnings.append(error.warned)

    def _packets(
        self, container: InputContainer, stream: Any, seek: Fraction | None
    ) -> tuple[Iterator[Any], Fraction | None]:
        """Return the packets, and the time of the first picture to show or None for all.

        The packets begin at the start of the file, or at a key frame before ``seek``. After a seek
        the time is that of the key frame: earlier pictures refer to frames that were not read.
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

    def _count(self, packet: Any) -> None:
        """Count a packet whose frame is wanted; update the latest time of a packet."""
        if packet is not None and is_shown(packet, self._info.codec):
            due = None if packet.pts is None else packet.pts * self._info.file_timing.time_base
            self.promised += due is None or due in self._wanted
            self._newest = due if self._newest is None else max(self._newest, due or self._newest)

    def _check_end(self, pictures: list[VideoFrame]) -> None:
        """Raise _NextModeError if the decoder's last picture is before the last packet.

        When threads return their last pictures, errors are visible only as missing pictures.
        """
        timing = self._info.file_timing
        latest = max((p.pts for p in pictures if p.pts is not None), default=None)
        if latest is not None and latest * timing.time_base < (self._newest or timing.start):
            raise _NextModeError

    def _check_gpu(self, picture: VideoFrame) -> None:
        """Set ``by_gpu``; raise _NextModeError if pictures are not as probed, such as uncropped."""
        if not self.fits(picture):
            raise _NextModeError(
                Warned(
                    "nvdec-other-frames: The CPU decodes, not NVDEC: NVDEC's pictures have "
                    "another size or format than the file says."
                )
            )
        self.by_gpu = True

    @contextlib.contextmanager
    def _opened(self, mode: str, seek: Fraction | None) -> Iterator[InputContainer]:
        """Open the file within the block; for a seek, use the cached open file if possible."""
        cache, path = self._cache, self._info.path
        if cache is None:
            with self._container(mode) as container:
                yield container
            return
        # The size and date show whether another file has replaced the input.
        key = path, mode, self._threads, self._nvdec, input_fingerprint(path, content=False)
        container = (seek is not None and cache.take(key)) or self._container(mode)
        try:
            yield container
        finally:
            cache.put(key, container)

    def _decoder(self, container: InputContainer, mode: str) -> tuple[Any, Any]:
        stream = main_video(container, self._info.path)
        only(container, (stream.index,))
        decoder = open_decoder(stream)
        if mode == _NVDEC and not is_hardware(decoder):
            raise _NextModeError(
                Warned(
                    "nvdec-not-built: The CPU decodes, not NVDEC: this FFmpeg has no NVDEC "
                    f"decoder for {self._info.codec}."
                )
            )
        if not decoder.is_open:
            decoder.thread_type = "AUTO" if mode == "AUTO" else "SLICE"
            if self._threads is not None:
                decoder.thread_count = self._threads
        return stream, decoder

    def _container(self, mode: str) -> InputContainer:
        if mode != _NVDEC:
            return open_container(self._info.path)
        codec, timing = self._info.codec, self._info.file_timing
        if not timing.has_timestamps:
            raise _NextModeError(
                Warned(
                    "nvdec-without-times: The CPU decodes, not NVDEC: NVDEC is used for "
                    f"{', '.join(_NVDEC_CODECS)} only, not for video without time stamps."
                )
            )
        if codec not in _NVDEC_CODECS:
            raise _NextModeError(
                Warned(
                    "nvdec-of-codec: The CPU decodes, not NVDEC: NVDEC is used for "
                    f"{', '.join(_NVDEC_CODECS)} only, not for {codec}."
                )
            )
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return open_container(self._info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _NextModeError(
                Warned(
                    "nvdec-no-gpu: The CPU decodes, not NVDEC: there is no NVIDIA GPU that can "
                    "decode."
                )
            ) from error


class _NextModeError(Exception):
    """The error that leads to the next mode of decoding; ``warned`` gives NVDEC's reason."""

    def __init__(self, warned: Warned | None = None) -> None:
        """Create the error; the default reason is that NVDEC cannot decode a packet."""
        super().__init__()
        self.warned = warned or Warned(
            "nvdec-fails: The CPU decodes, not NVDEC: NVDEC could not decode a packet."
        )


def is_hardware(decoder: Any) -> bool:
    """Return whether a decoder runs on a GPU."""
    return bool(decoder.is_hwaccel)
