"""Move the packets of the streams beside a video into an output.

`BesideFile` reads the packets; of MP4 and MOV without the data of the video, and only near
a part. A packet first moves to the clock of the whole video (`_shift`). A stream is then
encoded again, or copied: a copied packet is left out, or moves to the output's clock, and
its decode time moves later if it steps back (`_ordered`). `OtherStreams` writes a packet as
soon as the video has reached its time.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import islice, tee
from math import ceil
from typing import Any

import av
from av.container import OutputContainer
from av.format import Flags

from cloudconv.events import Warned, Warnings
from cloudconv.media.carried.carry import Carry
from cloudconv.media.containers.containers import Container
from cloudconv.media.containers.muxing import codec_name, label_of, stamp_of
from cloudconv.media.frames.clock import Clock, shift
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.demux import only, open_container, read_packets
from cloudconv.media.reading.sparse import sparse_file
from cloudconv.messages import counted, plural

LONG_AGO = Fraction(-(10**9))  # a time in seconds before that of every packet

# The seconds of audio before the kept part that are copied too, because a decoder needs
# this audio to start. An edit list, as in MP4, hides this audio from players.
_COPIED_BEFORE = Fraction(1, 10)
# The same for a container without an edit list, because players play this audio. Audio that
# begins so little before the first picture is the priming of an encoder.
PRIMING = Fraction(1, 20)
# The longest usable tick in seconds, and the upper limit of the tick that replaces a longer
# one. A tick of AVI can be a whole audio packet; a cut between two ticks needs finer ones.
_LONGEST_TICK = Fraction(1, 500)
_SHORT_TICK = Fraction(1, 90_000)
# Prefix of codecs whose decoders leave out the priming themselves; a stated delay replaces
# that.
_SKIPPING = "wma"
# Positions, colours and fonts in the codes of ASS, to which FFmpeg decodes every text
# subtitle.
_STYLE = re.compile(rb"\\(an?\d|pos|move|\d?c&|fn)")
# FFmpeg's mark of a bitmap subtitle that is shown until the next one is 2^32 - 1 ms; files
# hold that as a duration, which MP4 refuses.
_ENDLESS = Fraction(1 << 31, 1000)

Timed = tuple[Fraction, Any]
"""A packet after its decode time on the output's clock, in seconds."""

_NOT_YET: Timed = (LONG_AGO, None)  # in the place of a packet that is not known yet
_FIRST = 100  # packets among which those of covers and time codes are
_AROUND = Fraction(2)  # seconds of sound around a part, also for the start of a decoder


class BesideFile:
    """The file of a video, open for the streams beside the video."""

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        self._sparse = sparse_file(info.path)
        self.container = open_container(info.path, sparse=self._sparse)
        if self._sparse is not None:
            self._sparse.hide_packets([self.container.streams[info.video_index]])
        self._packets = self._read()

    def _read(self) -> Iterator[Any]:
        streams = [each for each in self.container.streams if each.type != "attachment"]
        return read_packets(self.container, streams)

    def first_data(self, stream: Any) -> bytes | None:
        """Return the data of a stream's first packet among the first ones of the file.

        The packet itself waits for its track. Return None without such a packet.
        """
        first, self._packets = tee(self._packets)
        own = (p for p in islice(first, _FIRST) if p.stream.index == stream.index)
        return next(map(bytes, own), None)

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
        is_part = self._sparse is not None and not self._info.timing.restarts
        last = end + _AROUND if is_part and end is not None else None
        packets = self._packets
        # Sound may begin before the first frame.
        if is_part and begin is not None and begin - _AROUND > self._info.timing.start:
            first = int((begin - _AROUND) / video.time_base)
            container.seek(first, stream=video, backward=True)
            packets = self._read()
        only(container, indices)
        for packet in packets:
            # By the index, the streams are at most a second apart. A cover has no time.
            stamp = stamp_of(packet)
            if last is not None and stamp is not None and stamp * packet.time_base > last:
                return
            if packet.stream.index in indices:
                yield packet


class CarriedTrack(ABC):
    """A stream of the source on its way into the ``target`` stream of the output.

    ``others`` are the tracks of all streams. ``delay`` is the number of seconds by which
    the first packet precedes 0. The file states this delay, and readers subtract it from
    all times. ``led`` is the number of seconds of audio that were left out before the first
    video frame.
    """

    delay = Fraction(0)
    led = Fraction(0)

    def __init__(
        self, source: Any, target: Any, carry: Carry, others: Collection[CarriedTrack]
    ) -> None:
        self.source = source
        self.target = target
        self.begin = carry.begin  # of the packets that it needs, on the source's clock
        self._carry = carry
        self._is_heard = False  # whether a packet has come that no edit list hides
        # A recording that was joined from several parts has a clock for each.
        restarts = carry.info.timing.restarts
        self._clock = Clock(source.container, restarts)
        self._offsets = [Fraction(0), *(restart.offset for restart in restarts)]
        self._number = 0  # of the part
        self._begins_part = False  # whether the next packet is the first one of a part
        # Of this part, and the last packet's end.
        self._offset = self._reached = Fraction(0)
        self._others = others

    def packets(self, packet: Any) -> Iterator[Timed]:
        """Yield the packets to write for one of the source."""
        if packet.is_discard and self._is_heard and self.source.type == "audio":
            return  # an edit list cuts this out
        self._is_heard |= not packet.is_discard
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is not None:
            self._shift(packet, stamp * packet.time_base)
        yield from self._written(packet)

    def _shift(self, packet: Any, time: Fraction) -> None:
        """Move a packet to the clock of the whole video.

        ``time`` is the packet's own time in seconds.
        """
        self._clock.take(time, packet)
        number = self._clock.part
        if self.source.type == "subtitle":
            # Subtitles are so far apart that their own times may not show the next part's
            # start.
            parts = (other._clock.part for other in self._others)
            number = min(max(parts, default=0), len(self._offsets) - 1)
        if number != self._number:
            # A part that the video does not have directly follows the part before.
            alone = number >= len(self._offsets)
            self._offset = self._reached - time if alone else self._offsets[number]
            self._number = number
            self._begins_part = True
        base = packet.time_base
        self._reached = time + self._offset + (packet.duration or 0) * base
        shift(packet, round(self._offset / base))

    @abstractmethod
    def _written(self, packet: Any) -> Iterator[Timed]:
        """Yield packets for one on the video's clock."""

    def continued(self) -> Iterator[Timed]:
        """Yield packets that go on after the film, as far as they are known."""
        yield from ()

    def finish(self) -> Iterator[Timed]:
        """Yield the packets after the last one of the source."""
        yield from ()

    def warnings(self, label: str) -> Iterator[str]:
        """Yield the warnings about the packets, after the last one."""
        yield from ()


class CopiedTrack(CarriedTrack):
    """A track whose packets are copied: of data or video, if no child class is for them.

    ``seekable`` is whether the output can be written at any position.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        carry: Carry,
        others: Collection[CarriedTrack],
        container: Container,
        *,
        seekable: bool,
    ) -> None:
        super().__init__(source, target, carry, others)
        self._container = container
        self._states_delay = container.states_delay and seekable
        self._ends: Fraction | None = None  # the last packet's end in the output
        self._moved = 0  # packets whose decode time steps back
        self._last: int | None = None  # the decode time of the last packet in ticks
        # Whether the last packet was moved, or one before that it follows.
        self._steps_back = False
        self._skipped = 0  # packets of the part before its first key frame

    def _written(self, packet: Any) -> Iterator[Timed]:
        if packet.time_base > _LONGEST_TICK:
            _divide_ticks(packet)
        stamp = stamp_of(packet)
        if stamp is None:
            return
        time = stamp * packet.time_base
        kept = None if self._carry.is_over(time) else self._kept(packet, time)
        if kept is None:
            return
        begin, end = map(self._carry.on_output, kept)
        time = self._placed(begin)
        lasts = end - begin
        self._ends = time + lasts
        copied = self._copied(packet, time, lasts)
        if copied is not None:
            yield self._ordered(copied)

    def _kept(self, packet: Any, begin: Fraction) -> tuple[Fraction, Fraction] | None:
        """Return start and end of the packet's used part on the source's clock, or None."""
        is_early = begin < self._carry.begin
        if self._ends is None and (is_early or not packet.is_keyframe):
            self._skipped += not is_early
            return None
        return begin, begin + (packet.duration or 0) * packet.time_base

    def _placed(self, time: Fraction) -> Fraction:
        """Return the output's time of a packet that belongs to that time."""
        return time

    def _copied(self, packet: Any, time: Fraction, lasts: Fraction) -> Any:
        """Return the packet with that time and duration; None if it is empty."""
        stamp = stamp_of(packet)
        packet.pts = round(time / packet.time_base)
        if packet.dts is not None:
            packet.dts = min(packet.dts - (stamp - packet.pts), packet.pts)
        packet.stream = self.target
        return packet

    def _ordered(self, packet: Any) -> Timed:
        """Return a packet after all others, later by the delay, or later still.

        No muxer accepts a decode time before that of the last packet, and some refuse an
        equal one.
        """
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        tick = self.target.time_base
        if packet.dts is None and self.source.type == "video":
            return stamp * base, packet
        if self._last is not None:
            flags = Flags(self.target.container.format.flags)
            alike = self.source.type == "subtitle" or flags & Flags.ts_nonstrict
            least = self._last + (0 if alike else ceil(tick / base))
            if stamp < least:
                self._steps_back |= stamp < self._last
                self._moved += self._steps_back
                stamp = least
                packet.dts = stamp
                packet.pts = max(packet.pts, stamp)
            else:
                self._steps_back = False
        self._last = stamp
        later = round(round(self.delay / tick) * tick / base)
        if later:
            packet.pts = packet.pts + later
            packet.dts = stamp + later
        return (stamp + later) * base, packet

    def warnings(self, label: str) -> Iterator[str]:
        """Yield warnings about skipped pictures, and about times that step back."""
        if self._skipped:
            yield (
                f"begins-late: {label} begins with its first key frame in the part: "
                f"{counted(self._skipped, 'packet')} before "
                f"{plural(self._skipped, 'is', 'are')} left out. "
                "Begin the part at such a frame to keep all of them."
            )
        if self._moved:
            yield (
                f"clock-steps-back: The time stamps of {label} step back: "
                f"{self._moved} of its packets are moved to later times."
            )


def _divide_ticks(packet: Any) -> None:
    count = ceil(packet.time_base / _SHORT_TICK)
    times = {name: getattr(packet, name) for name in ("pts", "dts", "duration")}
    packet.time_base /= count
    for name, ticks in times.items():
        setattr(packet, name, None if ticks is None else ticks * count)


class CopiedAudio(CopiedTrack):
    """A track of audio whose packets are copied; the file may state a delay."""

    def _kept(self, packet: Any, begin: Fraction) -> tuple[Fraction, Fraction] | None:
        carry = self._carry
        first = carry.begin
        end = begin + (packet.duration or 0) * packet.time_base
        if self._container.has_edit_lists:
            leads = end > first - _COPIED_BEFORE  # is kept for the start of a decoder
        else:
            # No edit list hides this audio. After a cut, the audio would be heard.
            leads = carry.start is None and begin >= first - PRIMING
        if begin < first and not leads:
            # An edit list may hide sound from players.
            if carry.start is None and not packet.is_discard:
                self.led = max(self.led, first - begin)
            return None
        if self._begins_part and self._ends is not None:
            # Each part of a joined recording begins with samples for the start of the
            # decoder, or ends with surplus samples.
            if self._ends - (begin - carry.zero) > (end - begin) / 2:
                return None
            self._begins_part = False
        return begin, end

    def _placed(self, time: Fraction) -> Fraction:
        earliest = self._earliest()
        is_plain = not earliest and not codec_name(self.source).startswith(_SKIPPING)
        if self._states_delay and self._ends is None and is_plain:
            self.delay = max(-time, Fraction(0))
        return max(time, earliest - self.delay)

    def _earliest(self) -> Fraction:
        """Return the earliest packet time that does not move the whole file."""
        if self._container.has_edit_lists:
            return Fraction(-1)
        # A muxer without edit lists adds the codec's delay to all times. A packet may thus
        # precede 0 by the delay. A still earlier packet would move the whole file.
        is_opus = codec_name(self.source) == "opus"
        context = self.source.codec_context
        if not (is_opus or self._carry.info.input_format.states_delay):
            return Fraction(0)
        return -Fraction(int(context.delay), context.sample_rate)


class CopiedSubtitles(CopiedTrack):
    """A track of subtitles whose packets are copied, as long as they are still shown."""

    def _kept(self, packet: Any, begin: Fraction) -> tuple[Fraction, Fraction] | None:
        carry = self._carry
        first = carry.begin
        end = begin + (packet.duration or 0) * packet.time_base
        if end - begin >= _ENDLESS:
            end = max(carry.info.timing.end, begin)
        if end <= first and begin < first:
            return None
        visible = max(begin, first)
        return visible, max(end if carry.end is None else min(end, carry.end), visible)

    def _copied(self, packet: Any, time: Fraction, lasts: Fraction) -> Any:
        copied = super()._copied(packet, time, lasts)
        copied.duration = round(lasts / copied.time_base)
        return copied


class ConvertedText(CopiedSubtitles):
    """A track of text subtitles that are converted to the codec of the target."""

    def __init__(
        self, source: Any, target: Any, *about: Any, seekable: bool, is_plain: bool
    ) -> None:
        """``is_plain``: whether a warning has named the loss of styles."""
        super().__init__(source, target, *about, seekable=seekable)
        self._may_lose_style = codec_name(target) != "subrip" and not is_plain
        self._unreadable = 0  # texts that cannot be converted
        self._styled = 0  # texts that lose positions, colours or fonts

    def _copied(self, packet: Any, time: Fraction, lasts: Fraction) -> Any:
        try:
            decoded = self.source.codec_context.decode2(packet)
            if not decoded:
                return None
            converted = self.target.codec_context.encode_subtitle(decoded)
            if self._may_lose_style:
                self._styled += any(_STYLE.search(text.ass) for text in decoded)
        except (av.error.FFmpegError, UnicodeError):
            self._unreadable += 1
            return None
        converted.time_base = Fraction(1, 1000)
        converted.stream = self.target
        converted.pts = converted.dts = round(time * 1000)
        converted.duration = round(lasts * 1000)
        return converted

    def warnings(self, label: str) -> Iterator[str]:
        """Yield warnings about damaged texts, lost styles, and times that step back."""
        if count := self._unreadable:
            yield (
                f"subtitles-damaged: {counted(count, 'text')} of {label} "
                f"{plural(count, 'is', 'are')} damaged and left out."
            )
        if count := self._styled:
            yield (
                f"subtitles-plain: {label} becomes {codec_name(self.target)}, in "
                "which FFmpeg writes no positions, colours or fonts: "
                f"{counted(count, 'text')} {plural(count, 'loses', 'lose')} them."
            )
        yield from super().warnings(label)


class OtherStreams:
    """The streams beside a video on their way into an output.

    ``tracks`` are by their number in the source; ``covers`` are the packets of cover art.
    """

    def __init__(
        self,
        carry: Carry,
        out: OutputContainer,
        container: Container,
        warnings: Warnings,
    ) -> None:
        self._warnings = warnings
        self.tracks: dict[int, CarriedTrack] = {}
        self.covers: list[Timed] = []
        self._carry = carry
        self._out = out
        self._container = container
        self._file = BesideFile(carry.info)
        self._queue = self._packets()
        self._pending: Timed | None = None
        self._filled = set[int]()  # the numbers of the output's streams with packets

    @property
    def delays(self) -> list[Fraction]:
        """Return the delays in seconds that the file must state, one per audio track."""
        tracks = self.tracks.values()
        return [track.delay for track in tracks if track.target.type == "audio"]

    def until(self, time: Fraction | None) -> Iterator[Any]:
        """Yield every packet at or before ``time`` on the output's clock; all with None.

        After all, name the streams that MP4 does not store.
        """
        while True:
            self._pending = self._pending or next(self._queue, None)
            if self._pending is _NOT_YET:
                self._pending = None
                return
            if self._pending is None or (time is not None and self._pending[0] > time):
                break
            packet = self._pending[1]
            self._pending = None
            self._filled.add(packet.stream.index)
            yield packet
        for track in self.tracks.values():
            is_empty = time is None and track.target.index not in self._filled
            if is_empty and self._container.has_edit_lists:
                self._warn(
                    f"stream-lost: {label_of(track.source)} is left out: FFmpeg stores no "
                    f"stream without packets in {self._container.name}."
                )

    def close(self) -> None:
        """Close the source.

        Add warnings about damaged, moved and left-out audio and packets.
        """
        for track in self.tracks.values():
            for text in track.warnings(label_of(track.source)):
                self._warn(text)
        led = max((track.led for track in self.tracks.values()), default=Fraction(0))
        # Audio from before a chosen start is not missed.
        if led > PRIMING and self._carry.start is None:
            self._warn(
                f"early-sound: {float(led):.3f} s of audio from before the first video "
                "frame are left out."
            )
        self._file.container.close()

    def _warn(self, message: str) -> None:
        self._warnings.add(Warned(message))

    def _packets(self) -> Iterator[Timed]:
        yield from self.covers
        tracks = self.tracks
        carry = self._carry
        if not tracks:
            return
        begin = min(track.begin for track in tracks.values())
        begins = None if carry.start is None else begin
        for packet in self._file.packets(tracks, begins, carry.end):
            yield from tracks[packet.stream.index].packets(packet)
        playlist = carry.playlist
        while playlist is not None and not playlist.is_complete:
            for track in tracks.values():
                yield from track.continued()
            if not playlist.is_complete:  # by now
                yield _NOT_YET
        for track in tracks.values():
            yield from track.finish()
