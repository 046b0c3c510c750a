"""Read the packets of a video for their times.

MP4 and MOV have an index of all packets, which gives their times if it foretells those of
the first packets. Otherwise, of a part only the first frames are read, and those around it.
"""

from array import array
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from cloudconv.media.containers import mp4
from cloudconv.media.frames.clock import Part, VideoClock, format_of
from cloudconv.media.frames.deinterlace import FieldMeter
from cloudconv.media.frames.formats import is_opaque
from cloudconv.media.frames.timing import UNSURE, Key, Stamps
from cloudconv.media.reading import demux
from cloudconv.media.reading.adts import SoundFormats

_NO_TIME = -(2**63)  # before every time
_NEVER = 2**63  # after every time
# Frames to read before the rate of an arriving input, or the start of a file, is known.
_FRAMES_FOR_RATE = 48


class Scan:
    """The time stamps of a video's packets, from one reading of a file.

    ``meter`` gets the first pictures, and ``sounds`` the packets of some sound. With
    ``briefly``, only the first seconds are read. Of a ``part``, only the first frames are
    read, and those around it.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: Any,
        decoder: Any,
        meter: FieldMeter,
        sounds: SoundFormats,
        *,
        briefly: bool = False,
        part: Part,
    ) -> None:
        self._container = container
        self._stream = stream
        self._sounds = sounds
        self._briefly = briefly
        self._part = part
        self._begin: int | None = None  # the time of the first frame of the file
        self._last: Fraction | int = _NEVER  # the end of the part
        self._after = 0  # frames after that
        self._kind = format_of(container.format.name)
        self._clock = VideoClock(container, stream)
        self._decoder = decoder
        self._meter = meter
        # FFmpeg gives each GIF and each palette an opacity.
        meter.is_opaque = decoder.codec.canonical_name == "gif" or decoder.pix_fmt == "pal8"
        self._shown = array("q")  # the times of the first pictures, in ticks
        # If a codec reorders frames, and the times still increase, they may be decode
        # times.
        self._may_decode = decoder.reorder_depth > 0 and not briefly
        self._packets = 0
        self._keys = list[Key]()
        self._stamps, self._durations = array("q"), array("q")

    def read(self) -> Stamps:
        """Read the packets, or the first ones if they tell how to find the others."""
        is_begun = False
        for packet in demux.read_packets(
            self._container, [self._stream, *self._sounds.streams]
        ):
            self._take(packet)
            has_rate = len(self._stamps) >= _FRAMES_FOR_RATE
            if has_rate and not (is_begun or self._wants_pictures):
                is_begun = True
                if self._briefly:
                    return self._result(ends=False)
                if self._is_whole() and self._take_index():
                    break
                if self._is_whole():
                    self._seek(*self._part)
            if self._after > UNSURE:
                return self._result(ends=False)
        self._decode(None)
        return self._result(ends=True)

    @property
    def _wants_pictures(self) -> bool:
        meter = self._meter
        is_few = self._may_decode and len(self._shown) < _FRAMES_FOR_RATE
        return meter.pictures < meter.most or meter.is_opaque or is_few

    def _decode(self, packet: Any) -> None:
        """Decode one of the first packets for the meter; None after the last one."""
        meter = self._meter
        for picture in _decoded(self._decoder, packet):
            meter.is_opaque = meter.is_opaque and is_opaque(picture)
            self._shown.append(_NO_TIME if picture.pts is None else picture.pts)
            if meter.pictures < meter.most:
                if meter.first is None:
                    meter.aspect = self._decoder.sample_aspect_ratio
                meter.push(picture)

    def _is_whole(self) -> bool:
        """Return whether the file has all packets that its index lists."""
        last = max((entry.pos for entry in self._stream.index_entries), default=0)
        return last < int(self._container.size)

    def _take_index(self) -> bool:
        """Take all packets from an index that foretells those that were read.

        The index of MP4 has decode times, and a table how much later each picture is shown.
        """
        stream = self._stream
        entries = list(stream.index_entries)
        # Each packet of some sound is looked at, and an edit list may have cut the index.
        if (
            self._sounds.streams
            or not self._kind.has_index
            or not len(entries) == stream.frames > 0
        ):
            return False
        decoded = np.array([entry.timestamp for entry in entries])
        times = decoded + mp4.shown_later(
            Path(self._container.name.removeprefix("file:")), stream.index, len(entries)
        )
        shown = np.array([not entry.is_discard for entry in entries])
        keyed = np.array([entry.is_keyframe for entry in entries])
        times += self._stamps[0] - times[shown][0]
        known = slice(self._packets)
        if times[known][shown[known]].tolist() != self._stamps.tolist() or times[known][
            keyed[known]
        ].tolist() != [key.pts for key in self._keys]:
            return False
        gaps = np.diff(decoded)
        self._stamps = array("q", times[shown].tolist())
        self._durations = array("q", np.append(gaps, gaps[-1])[shown].tolist())
        self._packets = len(entries)
        self._keys = [Key(time, time) for time in times[keyed].tolist()]
        return True

    def _seek(self, start: Fraction | None, end: Fraction | None) -> None:
        """Seek to a key frame before a part, unless the first frames reach the part."""
        if not (any((start, end)) and self._kind.finds_shown) or _NO_TIME in self._stamps:
            return
        tick = Fraction(self._stream.time_base)
        self._begin = begin = max(min(self._stamps), self._shown[0])
        if end is not None:
            self._last = begin + end / tick
        # The first frames last longer than those that decide about the first of the part.
        latest = max(self._stamps)
        place = begin + (start or 0) / tick - (latest - begin)
        if place > latest:
            self._container.seek(int(place), stream=self._stream, backward=True)
            self._stamps = array("q")
            self._durations = array("q")

    def _take(self, packet: Any) -> None:
        if self._sounds.take(packet) or not self._clock.move(packet):
            return
        if self._wants_pictures:
            self._decode(packet)
        self._packets += 1
        if packet.is_keyframe and packet.pts is not None:
            by_shown = self._kind.finds_shown or packet.dts is None
            self._keys.append(Key(packet.pts, packet.pts if by_shown else packet.dts))
        if not demux.is_shown(packet, self._stream.codec_context.codec.canonical_name):
            return
        stamps = self._stamps
        self._may_decode &= packet.pts is not None and (
            not stamps or packet.pts > stamps[-1]
        )
        stamps.append(_NO_TIME if packet.pts is None else packet.pts)
        self._durations.append(packet.duration or 0)
        self._after += stamps[-1] > self._last

    def _result(self, *, ends: bool) -> Stamps:
        stream = self._stream
        first = self._meter.first
        times = np.array(self._stamps, np.int64)
        rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
        # The header also counts frames that an edit list hides; the reader's index does
        # not.
        is_cut_off = (
            self._kind.has_index
            and self._begin is None
            and len(stream.index_entries) > self._packets
        )
        end = None
        if ends and self._kind.has_index and not is_cut_off and stream.duration:
            start = stream.start_time
            end = None if start is None else start + stream.duration
        known = np.unique(times[times != _NO_TIME])
        return Stamps(
            tick=Fraction(stream.time_base),
            times=known,
            packets=self._packets,
            shown=len(times),
            unstamped=int((times == _NO_TIME).sum()),
            durations=frozenset(self._durations),
            last_duration=self._durations[int(times.argmax())] if len(times) else 0,
            first=None if first is None else first.pts,
            header_rates=tuple(Fraction(rate) for rate in rates if rate),
            is_rate_guessed=self._kind.guesses_rate,
            end=end,
            is_cut_off=is_cut_off,
            is_brief=self._briefly and not ends,
            ends=ends,
            begin=self._begin,
            in_order=self._may_decode
            and len(times) > 1
            and (
                self._kind.stamps_decoding
                or any(after < before for before, after in pairwise(self._shown))
            ),
            restarts=self._clock.restarts,
            keys=tuple(self._keys),
            hurried=self._clock.hurried,
            late=self._clock.late,
        )


def _decoded(decoder: Any, packet: Any) -> list[VideoFrame]:
    try:
        frames: list[VideoFrame] = decoder.decode(packet)
    except av.error.BlockingIOError:  # the system starts no more threads
        raise
    except av.error.FFmpegError:
        return []
    return [frame for frame in frames if frame.width and frame.height]
