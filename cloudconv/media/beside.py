"""Read the packets of the streams beside a video, of a part only near the part.

The data of the video is not read: `media/sparse.py`.
"""

from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.stream import Disposition

from cloudconv.media.demux import only, open_container, read_packets
from cloudconv.media.frame import MediaInfo
from cloudconv.media.input import growth_of
from cloudconv.media.sparse import SUBTITLES, VIDEO, SparseFile, sparse_file

# The seconds by which a packet of a stream may come later in a file than those of other
# streams of the same time: FFmpeg's muxers wait for so long (``max_interleave_delta``).
_APART = Fraction(10)
_NEVER = 1 << 62  # a position after every file
_DELAY = Fraction(1)  # seconds; more than that of any codec
_LEAD = Fraction(2)  # seconds of sound around a part, also for the start of a decoder


class BesideFile:
    """The file of a video, open for the streams beside the video."""

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        self._sparse = None if growth_of(info.path) is not None else sparse_file(info.path)
        self.container = open_container(info.path, sparse=self._sparse)

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def packets(
        self, indices: Collection[int], begin: Fraction | None, end: Fraction | None
    ) -> Iterator[Any]:
        """Yield the packets of these streams, in the order of the file.

        Packets long before ``begin`` and long after ``end`` are left out, but for subtitles
        that may still be shown at ``begin``. The times are on the source's clock; None is
        no bound.
        """
        if self._sparse is None or self._info.timing.restarts:
            begin = end = None
        video: Any = self.container.streams[self._info.video_index]
        streams = [self.container.streams[index] for index in indices]
        is_blocks = _is_matroska(self.container)
        first = None if begin is None else begin - _LEAD
        last = None if end is None else end + _LEAD
        if first is not None and not self._can_seek(indices, first):
            first = None
        self._hide(indices, video.time_base, first, last)
        early = -1  # the position of the last packet that was read before a seek
        if first is not None:
            early = yield from self._texts(indices, first - _APART)
            _seek(self.container, video, first - (_APART if is_blocks else 0))
        bound = None
        if end is not None:
            place = self._place_after(indices, end)
            bound = _Bound(streams, end, _APART if is_blocks else _LEAD, place)
        # The index of MP4 orders packets by time. Those of Matroska are stored about as the
        # video.
        read = [*streams, video] if bound is not None and is_blocks else streams
        only(self.container, {stream.index for stream in read})
        for packet in read_packets(self.container, read):
            if bound is not None and bound.ends_with(packet):
                return
            if packet.stream.index in indices and _is_wanted(packet, first, last, early):
                yield packet

    def _hide(
        self,
        kept: Collection[int],
        tick: Fraction,
        first: Fraction | None,
        last: Fraction | None,
    ) -> None:
        """Hide the data of videos that are not kept, and of sound outside of a part."""
        sparse = self._sparse
        if sparse is None:
            return
        container = self.container
        if not _is_matroska(container):
            sparse.hide_packets(s for s in container.streams if s.index not in kept)
            return
        cover = Disposition.attached_pic
        videos = [s for s in container.streams.video if not s.disposition & cover]
        numbers = sparse.tracks(VIDEO)
        if len(videos) != len(numbers):  # they are not certain
            numbers = []
        pairs = zip(videos, numbers, strict=False)
        hidden = {number for stream, number in pairs if stream.index not in kept}
        texts = {*sparse.tracks(SUBTITLES)}

        def hides(track: int, ticks: int | None) -> bool:
            if track in hidden or track in texts or ticks is None:
                return track in hidden
            # A reader subtracts the delay of a codec from the times of blocks.
            time = ticks * tick
            is_early = first is not None and time < first - _DELAY
            return is_early or (last is not None and time > last + _DELAY)

        sparse.hide_blocks(hides)

    @contextmanager
    def _again(
        self, indices: Collection[int]
    ) -> Iterator[tuple[SparseFile, list[Any], Iterator[Any]]]:
        """Open the file again; yield its data, its video and these streams, and packets."""
        sparse = SparseFile(self._info.path)
        with open_container(self._info.path, sparse=sparse) as container:
            numbers = [self._info.video_index, *indices]
            only(container, numbers)
            streams = [container.streams[number] for number in numbers]
            yield sparse, streams, read_packets(container, streams)

    def _can_seek(self, indices: Collection[int], time: Fraction) -> bool:
        """Return whether no packet after a time is stored before those of the video.

        MP4 has an index of each stream.
        """
        video: Any = self.container.streams[self._info.video_index]
        if time - _APART <= (video.start_time or 0) * video.time_base:
            return False
        if not _is_matroska(self.container):
            return True
        with self._again(indices) as (sparse, streams, packets):
            waiting = {stream.index for stream in streams[1:] if stream.type == "audio"}
            sparse.hide_blocks(lambda *_: True)
            _seek(streams[0].container, streams[0], time - _APART)
            for packet in packets:
                at = time_of(packet)
                if at is not None and at >= time:
                    break
                waiting.discard(packet.stream.index)
        return not waiting

    def _place_after(self, indices: Collection[int], end: Fraction) -> int:
        """Return a position after the subtitles before a time, by a Matroska file's index.

        Subtitles may be stored much later than pictures of their time.
        """
        texts = self._texts_of(indices)
        if not texts or not _is_matroska(self.container):
            return 0
        with self._again(texts) as (_, (video, *streams), _):
            _seek(video.container, video, end)  # FFmpeg reads the index then
            clusters = [entry.pos for s in (video, *streams) for entry in s.index_entries]
            entries = ((s.time_base, entry) for s in streams for entry in s.index_entries)
            places = [e.pos for tick, e in entries if e.timestamp * tick < end]
        if not places:
            return 0
        return min((pos for pos in clusters if pos > max(places)), default=_NEVER)

    def _texts_of(self, indices: Collection[int]) -> set[int]:
        streams = self.container.streams
        return {index for index in indices if streams[index].type == "subtitle"}

    def _texts(self, indices: Collection[int], end: Fraction) -> Generator[Any, None, int]:
        """Yield the subtitles of a Matroska file before a time.

        Return the position after which they are still to be read. In MP4 a seek finds the
        subtitle of a time, however long it lasts.
        """
        texts = self._texts_of(indices)
        position = -1
        if not texts or not _is_matroska(self.container):
            return position
        with self._again(texts) as (sparse, _, packets):
            shown = {*sparse.tracks(SUBTITLES)}
            sparse.hide_blocks(lambda track, _: track not in shown)
            for packet in packets:
                time = time_of(packet)
                position = packet.pos
                if packet.stream.index in texts:
                    yield packet
                elif time is not None and time > end:
                    break
        return position


def _seek(container: InputContainer, video: Any, time: Fraction) -> None:
    container.seek(int(time / video.time_base), stream=video, backward=True)


def _is_wanted(
    packet: Any, first: Fraction | None, last: Fraction | None, early: int
) -> bool:
    """Return whether a packet is near the part, and was not read before a seek."""
    if packet.stream.type == "subtitle":
        return bool(packet.pos > early)
    time = time_of(packet)
    if time is None:
        return True
    if first is not None and (time < first or packet.is_discard):
        return False
    return last is None or time < last


class _Bound:
    """The end of the packets of a part: each stream of sound has passed ``end``.

    No subtitle of the part is at ``place`` in the file or later, and after packets that
    are ``apart`` seconds later.
    """

    def __init__(
        self, streams: list[Any], end: Fraction, apart: Fraction, place: int
    ) -> None:
        self._end = end
        self._apart = apart
        self._place = place
        self._now = end - apart  # the latest time of any packet
        self._waiting = {stream.index for stream in streams if stream.type == "audio"}

    def ends_with(self, packet: Any) -> bool:
        """Take a packet, and return whether no more packets are needed."""
        time = time_of(packet)
        if time is None:
            return False
        self._now = max(self._now, time)
        if time >= self._end:
            self._waiting.discard(packet.stream.index)
        is_late = self._now >= self._end + self._apart and packet.pos >= self._place
        return is_late and not self._waiting


def _is_matroska(container: InputContainer) -> bool:
    return container.format.name.startswith("matroska")


def time_of(packet: Any) -> Fraction | None:
    """Return the time of a packet in seconds; None if unknown."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else Fraction(stamp * packet.time_base)
