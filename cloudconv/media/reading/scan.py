"""Read the packets of a video for their times: all of them, or those around a part.

The data of packets is read only where a decoder or a parser looks at the data: MP4 and MOV
have an index of all packets, and in Matroska the start of each block is enough. A part of a
Matroska file is found by seeking. The times between the start, the part and the end of the
file are then filled in (`bridged` in `frames/timing.py`), which changes no
time of the part.
"""

import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from cloudconv.media.frames.clock import VideoClock, format_of
from cloudconv.media.frames.deinterlace import FieldMeter
from cloudconv.media.frames.formats import is_opaque
from cloudconv.media.frames.timing import Key, Stamps, bridged, film_parts
from cloudconv.media.reading import demux
from cloudconv.media.reading.adts import SoundFormats
from cloudconv.media.reading.sparse import SparseFile

_NO_TIME = -(2**63)  # before every time
# Frames to read before the rate of an arriving input, or the start of a file, is known.
_FRAMES_FOR_RATE = 48
_KEYS_APART = Fraction(1, 10)  # seconds between the key frames that are kept
# Bytes at the ends of a packet in which parsers find its kind and whether it is shown.
_PACKET_HEAD, _PACKET_TAIL = 4096, 64
_SHOWN_IN_DATA = ("vp8", "vp9")  # codecs that say in a packet whether it is shown


class Part(NamedTuple):
    """The part of a video that is needed, in seconds from its first frame.

    With ``frames``, that is the last so many frames before ``end``.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None


class UnclearPartError(Exception):
    """The times of a part depend on packets outside of the part."""


class Scan:
    """The time stamps of a video's packets, from one reading of a file.

    ``meter`` gets the first pictures, and ``sounds`` the packets of some sound. With
    ``briefly``, only the first seconds are read.
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
    ) -> None:
        self._container = container
        self._stream = stream
        self._decoder = decoder
        self._meter = meter
        self._sounds = sounds
        self._briefly = briefly
        self._kind = format_of(container.format.name)
        self._codec = decoder.codec.canonical_name
        self._clock = VideoClock(container, stream)
        # FFmpeg gives each GIF and each palette an opacity.
        meter.is_opaque = self._codec == "gif" or decoder.pix_fmt == "pal8"
        self._apart = math.ceil(_KEYS_APART / stream.time_base)
        # If a codec reorders frames, and the times still increase, they may be decode
        # times.
        self._may_decode = decoder.reorder_depth > 0 and not briefly
        self._packets = 0
        self._keys = list[Key]()
        self._stamps, self._durations, self._decoded = array("q"), array("q"), array("q")
        # The packets before which others are left out: the number of each, and the decode
        # time of the one before.
        self._jumps: list[tuple[int, int]] = []
        self._keys_at = set[int]()  # the positions of key frames whose data is hidden
        self._position = -1  # of the last packet in the file
        self._latest: int | None = None  # the last decode time

    def read(self, sparse: SparseFile | None, part: Part | None) -> Stamps:
        """Read the packets.

        Raise UnclearPartError if all are needed, and ``part`` is given.
        """
        is_brief = False
        if self._sounds.streams:
            sparse = None  # each of their packets is looked at
        for packet in self._wanted(sparse, part):
            if self._sounds.take(packet):
                continue
            self._take(packet)
            if self._briefly and self._meter.first is not None and self._has_rate:
                is_brief = True
                break
        else:
            self._decode(None)
        return self._result(is_brief=is_brief)

    @property
    def _has_rate(self) -> bool:
        return len(self._stamps) >= _FRAMES_FOR_RATE

    @property
    def _wants_pictures(self) -> bool:
        meter = self._meter
        more = self._may_decode and len(self._decoded) < _FRAMES_FOR_RATE
        return meter.pictures < meter.most or meter.is_opaque or more

    def _wanted(self, sparse: SparseFile | None, part: Part | None) -> Iterator[Any]:
        """Yield the packets; those before the part, and after the part, are left out."""
        streams = [self._stream, *self._sounds.streams]
        packets = demux.read_packets(self._container, streams)
        for packet in packets:
            yield packet
            if self._has_rate and not self._wants_pictures:
                break
        else:
            return
        if sparse is not None and self._kind.has_index:
            self._hide_packets(sparse)
        elif sparse is not None and part is not None:
            sparse.hide_blocks(_PACKET_HEAD, _PACKET_TAIL)
            yield from self._around(part, packets)
        yield from packets

    def _hide_packets(self, sparse: SparseFile) -> None:
        entries = self._stream.index_entries
        keys = {entry.pos for entry in entries if entry.is_keyframe}
        # An index without key frames calls all packets so, and a parser finds them.
        looks = self._codec in _SHOWN_IN_DATA or len(keys) == len(entries)
        self._keys_at = set() if looks else keys
        sparse.hide_packets(self._container.streams, _PACKET_HEAD if looks else 0)

    def _around(self, part: Part, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield the packets of a part of Matroska, and seek to the end of the file."""
        stream = self._stream
        tick = stream.time_base
        times = np.sort(np.array(self._stamps))
        if self._may_decode or _NO_TIME in times or self._container.duration is None:
            raise UnclearPartError
        begins = getattr(self._meter.first, "pts", None) or 0
        zero = int(times[times >= begins][0])
        last = int(Fraction(self._container.duration, av.time_base) / tick)
        end = last if part.end is None else min(zero + int(part.end / tick), last)
        if part.frames is not None:
            begin = end - part.frames * math.ceil(np.diff(times).mean())
        else:
            begin = zero + int((part.start or 0) / tick)
        yield from self._from(begin, packets)
        after = 0  # key frames after the part
        for packet in packets:
            yield packet
            after += packet.is_keyframe and (packet.pts or 0) >= end
            if after > 1 or (after and packet.dts is not None and packet.dts >= end):
                break
        yield from self._from(last, packets)

    def _from(self, time: int, packets: Iterator[Any]) -> Iterator[Any]:
        """Seek to a key frame at or before a time, and yield that packet."""
        if self._latest is None or time <= self._latest:
            return
        self._container.seek(time, stream=self._stream, backward=True)
        for packet in packets:
            if packet.pos is None:
                raise UnclearPartError
            if packet.pos > self._position:
                if packet.pts is None or not packet.is_keyframe or packet.pts > time:
                    raise UnclearPartError
                self._jumps.append((len(self._stamps), self._latest))
                yield packet
                return
            if packet.pos == self._position:  # the seek has gone back: no packet lacks
                return

    def _take(self, packet: Any) -> None:
        if not self._clock.move(packet):
            return
        self._decode(packet)
        self._packets += 1
        self._position = -1 if packet.pos is None else packet.pos
        self._latest = self._latest if packet.dts is None else packet.dts
        is_key = packet.is_keyframe or packet.pos in self._keys_at
        if is_key and packet.pts is not None:
            by_shown = self._kind.finds_shown or packet.dts is None
            key = Key(packet.pts, packet.pts if by_shown else packet.dts)
            if not self._keys or key.pts >= self._keys[-1].pts + self._apart:
                self._keys.append(key)
        if not demux.is_shown(packet, self._codec):
            return
        stamps = self._stamps
        self._may_decode &= packet.pts is not None and (
            not stamps or packet.pts > stamps[-1]
        )
        stamps.append(_NO_TIME if packet.pts is None else packet.pts)
        self._durations.append(packet.duration or 0)

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

    def _result(self, *, is_brief: bool) -> Stamps:
        stream = self._stream
        kind = self._kind
        times = np.array(self._stamps, np.int64)
        durations = self._durations
        jumps = any(after < before for before, after in pairwise(self._decoded))
        rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
        hints = tuple(Fraction(rate) for rate in rates if rate)
        # The header also counts frames that an edit list hides; the reader's index does
        # not.
        is_cut_off = kind.has_index and len(stream.index_entries) > self._packets
        end = None
        if kind.has_index and not is_cut_off and stream.duration:
            start = stream.start_time
            end = None if start is None else start + stream.duration
        known = np.unique(times[times != _NO_TIME])
        latest = durations[int(times.argmax())] if durations else 0
        packets = self._packets
        shown = len(times)
        if self._jumps:
            known = self._filled(times, hints)
            packets = shown = len(known)
        return Stamps(
            tick=Fraction(stream.time_base),
            times=known,
            packets=packets,
            shown=shown,
            unstamped=int((times == _NO_TIME).sum()),
            durations=frozenset(durations),
            last_duration=latest,
            first=None if self._meter.first is None else self._meter.first.pts,
            header_rates=hints,
            is_rate_guessed=kind.guesses_rate,
            end=end,
            is_cut_off=is_cut_off,
            is_brief=is_brief,
            in_order=self._may_decode
            and len(times) > 1
            and (jumps or kind.stamps_decoding),
            restarts=self._clock.restarts,
            keys=tuple(self._keys),
            hurried=self._clock.hurried,
            late=self._clock.late,
        )

    def _filled(
        self, times: NDArray[np.int64], hints: tuple[Fraction, ...]
    ) -> NDArray[np.int64]:
        """Return the times with those that were left out, as far as they can be known."""
        tick = Fraction(self._stream.time_base)
        numbers = [number for number, _ in self._jumps]
        windows = [np.unique(window) for window in np.split(times, numbers)]
        # Of pictures that are shown later, some before them are not known.
        for number, (_, latest) in enumerate(self._jumps):
            windows[number] = windows[number][windows[number] <= latest]
        is_film = any(film_parts(window, tick) for window in windows)
        if self._clock.restarts or _NO_TIME in times or is_film:
            raise UnclearPartError
        return bridged(windows, tick, hints)


def _decoded(decoder: Any, packet: Any) -> list[VideoFrame]:
    try:
        frames: list[VideoFrame] = decoder.decode(packet)
    except av.error.BlockingIOError:  # the system starts no more threads
        raise
    except av.error.FFmpegError:
        return []
    return [frame for frame in frames if frame.width and frame.height]
