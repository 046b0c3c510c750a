"""Read the packets of a video for their times.

MP4 and MOV have an index of all packets: at a constant rate, it alone gives their times.
Otherwise, of a part only the first frames are read, and those around it.
"""

from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

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
_SHOWN_IN_DATA = ("vp8", "vp9")  # codecs that say in a packet whether it is shown


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
        self._decoder = decoder
        self._meter = meter
        self._sounds = sounds
        self._briefly = briefly
        self._part = part
        self._begin: int | None = None  # the time of the first frame of the file
        self._last: Fraction | int = _NEVER  # the end of the part
        self._after = 0  # frames after that
        self._kind = format_of(container.format.name)
        self._codec = decoder.codec.canonical_name
        self._clock = VideoClock(container, stream)
        # FFmpeg gives each GIF and each palette an opacity.
        meter.is_opaque = self._codec == "gif" or decoder.pix_fmt == "pal8"
        # If a codec reorders frames, and the times still increase, they may be decode
        # times.
        self._may_decode = decoder.reorder_depth > 0 and not briefly
        self._packets = 0
        self._keys = list[Key]()
        self._stamps, self._durations, self._decoded = array("q"), array("q"), array("q")

    def read(self) -> Stamps:
        """Read the packets."""
        for packet in self._wanted():
            if self._sounds.take(packet):
                continue
            self._take(packet)
            is_brief = self._briefly and self._meter.first is not None and self._has_rate
            if is_brief or self._after > UNSURE:
                return self._result(ends=False)
        self._decode(None)
        return self._result(ends=True)

    @property
    def _has_rate(self) -> bool:
        return len(self._stamps) >= _FRAMES_FOR_RATE

    @property
    def _wants_pictures(self) -> bool:
        meter = self._meter
        more = self._may_decode and len(self._decoded) < _FRAMES_FOR_RATE
        return meter.pictures < meter.most or meter.is_opaque or more

    def _wanted(self) -> Iterator[Any]:
        """Yield the packets, or only the first ones if an index has the times of all."""
        streams = [self._stream, *self._sounds.streams]
        packets = demux.read_packets(self._container, streams)
        for packet in packets:
            yield packet
            if self._has_rate and not self._wants_pictures:
                break
        else:
            return
        entries = list(self._stream.index_entries)
        # Not if the file is cut off after its index.
        last = max((entry.pos for entry in entries), default=0)
        is_sure = self._kind.finds_shown and last < self._container.size
        if is_sure and self._has_times(entries):
            self._take_index(entries)
            return
        if is_sure and any(self._part) and _NO_TIME not in self._stamps:
            self._seek(*self._part)
        yield from packets

    def _seek(self, start: Fraction | None, end: Fraction | None) -> None:
        """Seek to a key frame before a part, unless the first frames reach the part."""
        tick = Fraction(self._stream.time_base)
        self._begin = begin = max(min(self._stamps), self._decoded[0])
        if end is not None:
            self._last = begin + end / tick
        # The first frames last longer than those that decide about the first of the part.
        latest = max(self._stamps)
        place = begin + (start or 0) / tick - (latest - begin)
        if place > latest:
            self._container.seek(int(place), stream=self._stream, backward=True)
            self._stamps = array("q")
            self._durations = array("q")

    def _has_times(self, entries: list[Any]) -> bool:
        """Return whether an index of all packets tells when they are shown.

        The index has decode times. Pictures that are stored in their order are shown then;
        others are shown in the steps of decode times, if these are even.
        """
        first = min(self._stamps)
        steps = {b.timestamp - a.timestamp for a, b in pairwise(entries)}
        is_even = len(steps) == 1 and not any(
            (t - first) % max(steps) for t in self._stamps
        )
        in_order = not self._decoder.reorder_depth and not any(
            time - first != entry.timestamp - entries[0].timestamp
            for time, entry in zip(self._stamps, entries, strict=False)
        )
        return (
            self._kind.has_index
            and min(steps, default=0) > 0
            and (is_even or in_order)
            # An index without key frames calls all packets so.
            and (
                self._decoder.codec.intra_only
                or not all(entry.is_keyframe for entry in entries)
            )
            # Each packet of such sound is looked at.
            and not self._sounds.streams
            and self._codec not in _SHOWN_IN_DATA
            and len(entries) == self._stream.frames
            and len(self._keys) > 0
            and not any(entry.is_discard for entry in entries)
        )

    def _take_index(self, entries: list[Any]) -> None:
        """Take all packets from an index, which tells when they are shown."""
        later = min(self._stamps) - entries[0].timestamp
        self._stamps = array("q", [entry.timestamp + later for entry in entries])
        gaps = [after - before for before, after in pairwise(self._stamps)]
        self._durations = array("q", [*gaps, gaps[-1]])
        self._packets = len(entries)
        keyed = [entry.timestamp for entry in entries if entry.is_keyframe]
        # After a seek, pictures that follow a key frame may be shown before it.
        later = self._keys[-1].pts - keyed[: len(self._keys)][-1]
        self._keys = [Key(time + later, time + later) for time in keyed]

    def _take(self, packet: Any) -> None:
        if not self._clock.move(packet):
            return
        self._decode(packet)
        self._packets += 1
        if packet.is_keyframe and packet.pts is not None:
            by_shown = self._kind.finds_shown or packet.dts is None
            self._keys.append(Key(packet.pts, packet.pts if by_shown else packet.dts))
        if not demux.is_shown(packet, self._codec):
            return
        stamps = self._stamps
        self._may_decode &= packet.pts is not None and (
            not stamps or packet.pts > stamps[-1]
        )
        stamps.append(_NO_TIME if packet.pts is None else packet.pts)
        self._durations.append(packet.duration or 0)
        self._after += not self._wants_pictures and stamps[-1] > self._last

    def _decode(self, packet: Any) -> None:
        meter = self._meter
        if not self._wants_pictures:
            return
        for picture in _decoded(self._decoder, packet):
            meter.is_opaque = meter.is_opaque and is_opaque(picture)
            self._decoded.append(_NO_TIME if picture.pts is None else picture.pts)
            if meter.pictures < meter.most:
                if meter.first is None:
                    meter.aspect = self._decoder.sample_aspect_ratio
                meter.push(picture)

    def _result(self, *, ends: bool) -> Stamps:
        stream = self._stream
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
            first=None if self._meter.first is None else self._meter.first.pts,
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
                or any(after < before for before, after in pairwise(self._decoded))
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
