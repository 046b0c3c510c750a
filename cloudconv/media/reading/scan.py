"""Read the packets of a video for their times.

MP4 and MOV have an index of all packets: the data of a packet is read only where a decoder
or a parser looks at the data.
"""

import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from cloudconv.media.frames.clock import VideoClock, format_of
from cloudconv.media.frames.deinterlace import FieldMeter
from cloudconv.media.frames.formats import is_opaque
from cloudconv.media.frames.timing import Key, Stamps
from cloudconv.media.reading import demux
from cloudconv.media.reading.adts import SoundFormats
from cloudconv.media.reading.sparse import SparseFile

_NO_TIME = -(2**63)  # before every time
# Frames to read before the rate of an arriving input, or the start of a file, is known.
_FRAMES_FOR_RATE = 48
_KEYS_APART = Fraction(1, 10)  # seconds between the key frames that are kept
# Bytes at the ends of a packet in which parsers find its kind and whether it is shown.
_PACKET_HEAD = 4096
_SHOWN_IN_DATA = ("vp8", "vp9")  # codecs that say in a packet whether it is shown


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
        self._keys_at = set[int]()  # the positions of key frames whose data is hidden

    def read(self, sparse: SparseFile | None) -> Stamps:
        """Read the packets."""
        is_brief = False
        if self._sounds.streams:
            sparse = None  # each of their packets is looked at
        for packet in self._wanted(sparse):
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

    def _wanted(self, sparse: SparseFile | None) -> Iterator[Any]:
        """Yield the packets; the data of later ones is hidden where an index has them."""
        streams = [self._stream, *self._sounds.streams]
        packets = demux.read_packets(self._container, streams)
        for packet in packets:
            yield packet
            if self._has_rate and not self._wants_pictures:
                break
        else:
            return
        if sparse is not None:
            self._hide_packets(sparse)
        yield from packets

    def _hide_packets(self, sparse: SparseFile) -> None:
        entries = self._stream.index_entries
        keys = {entry.pos for entry in entries if entry.is_keyframe}
        # An index without key frames calls all packets so, and a parser finds them.
        looks = self._codec in _SHOWN_IN_DATA or len(keys) == len(entries)
        self._keys_at = set() if looks else keys
        sparse.hide_packets(self._container.streams, _PACKET_HEAD if looks else 0)

    def _take(self, packet: Any) -> None:
        if not self._clock.move(packet):
            return
        self._decode(packet)
        self._packets += 1
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
        return Stamps(
            tick=Fraction(stream.time_base),
            times=known,
            packets=self._packets,
            shown=len(times),
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


def _decoded(decoder: Any, packet: Any) -> list[VideoFrame]:
    try:
        frames: list[VideoFrame] = decoder.decode(packet)
    except av.error.BlockingIOError:  # the system starts no more threads
        raise
    except av.error.FFmpegError:
        return []
    return [frame for frame in frames if frame.width and frame.height]
