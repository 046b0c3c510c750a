"""Read the packets of the streams beside a video, of MP4 and MOV only near a part.

The data of the video is not read there: `media/reading/sparse.py`.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
from av.packet import packet_sidedata_type_from_literal

from cloudconv.media.containers.muxing import add_side_data, kind_of, stamp_of
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.demux import only, open_container, read_packets
from cloudconv.media.reading.sparse import sparse_file

# The first packets of each stream that are tried: so many, and from so many seconds of the
# file.
_TRIED = 16
_TRIED_SECONDS = 2
_AROUND = Fraction(2)  # seconds of sound around a part, also for the start of a decoder


Time = Fraction | float
"""A time in seconds, or infinite."""


class BesideFile:
    """The file of a video, open for the streams beside the video."""

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        self._sparse = sparse_file(info.path)
        self.container = open_container(info.path, sparse=self._sparse)
        if self._sparse is not None:
            self._sparse.hide_packets([self.container.streams[info.video_index]])
        self._packets = read_packets(self.container, self._with_packets())
        self._first: list[Any] = []

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _with_packets(self) -> list[Any]:
        return [stream for stream in self.container.streams if stream.type != "attachment"]

    def first_packets(self) -> dict[int, list[Any]]:
        """Return copies of the first packets of each stream beside the video, by number.

        They are from the first seconds of the file. Of an input that still arrives, only
        those that need no wait are returned.
        """
        packets = defaultdict[int, list[Any]](list)
        lacking = {each.index for each in self._with_packets()} - {self._info.video_index}
        begin: Time = math.inf
        for packet in self._packets if lacking else ():
            number = packet.stream.index
            self._first.append(packet)
            if number in lacking:
                packets[number].append(_copy_of(packet))
            if kind_of(packet.stream) == "still" or len(packets[number]) == _TRIED:
                lacking.discard(number)
            elif packet.dts is not None:
                time = packet.dts * packet.time_base
                begin = min(begin, time)
                if self._info.timing.open_ended or time > begin + _TRIED_SECONDS:
                    break
            if not lacking:
                break
        return packets

    def packets(
        self, indices: Collection[int], begin: Fraction | None, end: Fraction | None
    ) -> Iterator[Any]:
        """Yield the packets of these streams, in the order of the file.

        Of MP4 and MOV, packets long before ``begin`` and long after ``end`` may be left
        out, but for subtitles that may still be shown at ``begin``. The times are on the
        source's clock; None is no bound.
        """
        container = self.container
        video: Any = container.streams[self._info.video_index]
        first: Time = -math.inf
        last: Time = math.inf
        is_part = self._sparse is not None and not self._info.timing.restarts
        if is_part and begin is not None:
            first = begin - _AROUND
        if is_part and end is not None:
            last = end + _AROUND
        packets: Iterator[Any] = chain(self._first, self._packets)
        # Sound may begin before the first frame.
        if first > self._info.timing.start:
            container.seek(int(first / video.time_base), stream=video, backward=True)
            packets = read_packets(container, self._with_packets())
        only(container, indices)
        for packet in packets:
            # By the index, the streams are at most a second apart. A cover has no time.
            stamp = stamp_of(packet)
            if stamp is not None and stamp * packet.time_base > last:
                return
            if packet.stream.index in indices:
                yield packet


def _copy_of(packet: Any) -> Any:
    copy: Any = av.Packet(bytes(packet))
    for name in ("stream", "time_base", "pts", "dts", "duration", "is_keyframe"):
        setattr(copy, name, getattr(packet, name))
    for side in packet.iter_sidedata():
        add_side_data(copy, packet_sidedata_type_from_literal(side.data_type), bytes(side))
    return copy
