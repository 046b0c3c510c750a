"""Decode the pictures of a file in every way that is possible: threads, the GPU, after a seek."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
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
    continuous,
    is_shown,
    main_video,
    only,
    open_container,
    open_decoder,
)
from cloudconv.media.input.info import MediaInfo

# Distances of a seek before the wanted time, in seconds; each is tried in turn.
_SEEK_BACK = (0, 1, 2, 4, 8, 16)

_NVDEC = "nvdec"  # the GPU's decoder; the other names are FFmpeg's kinds of threads
# Codecs that NVDEC decodes bit by bit as the CPU does.
_NVDEC_CODECS = ("h264", "hevc", "vp9")

Decoded = Generator[tuple[VideoFrame, Fraction | None]]
"""Pictures with their times on the source's clock in seconds, None without a time stamp."""


class Decoder:
    """The pictures of a file as they come from the decoder.

    ``promised`` counts the wanted packets and ``errors`` the damaged ones. ``aspect`` is the sample
    aspect ratio of the last decoded picture. ``by_gpu`` tells whether a GPU decodes. ``warnings``
    give the reason if the requested GPU does not.
    """

    def __init__(
        self,
        info: MediaInfo,
        is_wanted: Callable[[Fraction], bool],
        *,
        threads: int | None,
        nvdec: int | None,
    ) -> None:
        """Open nothing yet; see ``Source`` for the arguments."""
        self.promised = self.errors = 0
        self.aspect: Fraction | None = None
        self.by_gpu = False
        self.warnings: list[Warned] = []
        self._info, self._is_wanted = info, is_wanted
        self._threads, self._nvdec = threads, nvdec
        self._newest: Fraction | None = None  # the latest time of a packet

    def pictures(self, start: Fraction) -> Decoded:
        """Return the pictures from a key frame at or before ``start``, or from the beginning."""
        self.promised = self.errors = 0
        self.warnings.clear()
        info, timing = self._info, self._info.timing
        pictures = images.open_pictures(info.path, timing.rate)
        if pictures is not None:
            if self._nvdec is not None:
                self.warnings.append(Warned("nvdec-of-pictures"))
            return self._from_pictures(pictures)
        can_seek = info.reader.seeks and timing.stamped and not timing.shifts
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
        for picture, duration in zip(pictures.pictures(), pictures.durations, strict=True):
            self.promised += self._is_wanted(time)
            if picture is None:
                self.errors += 1
            else:
                yield picture, time
            time += duration

    def _from_seek(self, start: Fraction) -> Decoded:
        """Yield pictures from a key frame before ``start``; repeat a seek that lands too late."""
        for back in _SEEK_BACK:
            aim = start - back
            if aim <= self._info.timing.start:
                break
            decoded = self._decode(aim)
            first = next(decoded, None)
            if first is not None and first[1] is not None and first[1] <= start:
                yield first
                yield from decoded
                return
            decoded.close()
            self.promised = self.errors = 0
        yield from self._decode(None)

    def _decode(self, seek: Fraction | None) -> Decoded:
        """Yield pictures from the beginning, or from a key frame before ``seek``.

        Frame threads are faster, but lose good frames near a damaged one. A GPU treats damage in
        its own way. After the first error decoding therefore continues without either.
        """
        last: Fraction | None = None
        ways = ["AUTO", "SLICE"] if self._info.timing.stamped else ["SLICE"]
        if self._nvdec is not None:
            ways.insert(0, _NVDEC)
        for way in ways:
            reached = last
            try:
                for picture, time in self._decode_once(seek, way):
                    if reached is None or time is None or time > reached:
                        yield picture, time
                        last = time if time is not None else last
                return
            except _OtherWayError as error:
                self.promised = 0
                if way == _NVDEC:
                    self._nvdec, self.by_gpu = None, False  # also for later seeks
                    self.warnings.append(error.warned)

    def _decode_once(self, seek: Fraction | None, way: str) -> Decoded:
        """Yield pictures with their times.

        After a seek, yield those from its key frame on: earlier frames refer to frames that were
        not read.
        """
        timing = self._info.timing
        self._newest = None
        with self._opened(way) as container:
            stream, decoder = self._decoder(container, way)
            if seek is not None:
                with contextlib.suppress(av.error.FFmpegError):  # else read from the start
                    container.seek(int(seek / stream.time_base), stream=stream, backward=True)
            packets: Iterator[Any] = continuous(container, stream, [])
            first = None
            if seek is not None:
                packets = dropwhile(lambda p: not p.is_keyframe or p.pts is None, packets)
            for packet in chain(packets, [None]):
                if seek is not None and first is None and packet is not None:
                    first = packet.pts
                for picture in self._pictures_of(packet, decoder, way):
                    stamp = picture.pts if timing.stamped else picture.dts
                    if first is None or stamp is None or stamp >= first:
                        yield picture, None if stamp is None else stamp * timing.time_base

    def _pictures_of(self, packet: Any, decoder: Any, way: str) -> list[VideoFrame]:
        """Return the pictures of a packet, or the remaining ones for None.

        Damaged packets are counted. If another way of decoding is left, they raise an error.
        """
        timing = self._info.timing
        if packet is not None and is_shown(packet, self._info.codec):
            due = None if packet.pts is None else packet.pts * timing.time_base
            self.promised += due is None or self._is_wanted(due)
            self._newest = due if self._newest is None else max(self._newest, due or self._newest)
        try:
            pictures: list[VideoFrame] = decoder.decode(packet)
        except av.error.FFmpegError:
            if way != "SLICE":
                raise _OtherWayError from None
            self.errors += 1
            return []
        if packet is not None:
            self.aspect = decoder.sample_aspect_ratio
        elif way != "SLICE":
            # When the threads are flushed, errors are visible only as missing frames.
            latest = max((p.pts for p in pictures if p.pts is not None), default=None)
            if latest is not None and latest * timing.time_base < (self._newest or timing.start):
                raise _OtherWayError
        if way == _NVDEC and not self.by_gpu and pictures:
            # The GPU may return pictures without cropping, for example.
            if not self.fits(pictures[0]):
                raise _OtherWayError(Warned("nvdec-other-frames"))
            self.by_gpu = True
        return pictures

    def _decoder(self, container: InputContainer, way: str) -> tuple[Any, Any]:
        stream = main_video(container, self._info.path)
        only(container, stream)
        decoder = open_decoder(stream)
        if way == _NVDEC and not is_hardware(decoder):
            raise _OtherWayError(Warned("nvdec-not-built", {"codec": self._info.codec}))
        decoder.thread_type = "AUTO" if way == "AUTO" else "SLICE"
        if self._threads is not None:
            decoder.thread_count = self._threads
        return stream, decoder

    def _opened(self, way: str) -> InputContainer:
        if way != _NVDEC:
            return open_container(self._info.path)
        codec, timing = self._info.codec, self._info.timing
        if codec not in _NVDEC_CODECS or not timing.stamped:
            refused = {"known": _NVDEC_CODECS, "codec": codec if timing.stamped else None}
            raise _OtherWayError(Warned("nvdec-of-codec", refused))
        try:
            hardware = HWAccel("cuda", str(self._nvdec), allow_software_fallback=False)
            return open_container(self._info.path, hardware)
        except (InputError, RuntimeError) as error:
            raise _OtherWayError(Warned("nvdec-no-gpu")) from error


class _OtherWayError(Exception):
    """A packet cannot be decoded in this way; ``warned`` gives the reason for NVDEC."""

    def __init__(self, warned: Warned | None = None) -> None:
        """Create the error; without a reason a packet could not be decoded."""
        super().__init__()
        self.warned = warned or Warned("nvdec-fails")


def is_hardware(decoder: Any) -> bool:
    """Return whether a decoder runs on a GPU."""
    return bool(decoder.is_hwaccel)
