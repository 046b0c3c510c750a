"""Move the packets of the streams beside a video onto the output's clock.

`BesideFile` reads the packets, on the clock of the whole video, and only near a part; of
MP4 and MOV without the data of the video. A track takes the packets of its stream, and
yields those of the output, each after its decode time. `CopiedTrack` leaves packets out, or
copies them to the output's clock, later if their decode times step back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import islice, tee
from typing import Any

import av
from av.format import Flags

from cloudconv.media.carried.carry import Carry
from cloudconv.media.containers.containers import Container
from cloudconv.media.containers.muxing import codec_name, label_of, nearest, stamp_of
from cloudconv.media.frames.clock import BesideClock
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.reading.demux import only, open_container, read_packets
from cloudconv.messages import counted, plural

# The seconds of audio before the kept part that are copied too, because a decoder needs
# this audio to start. An edit list, as in MP4, hides this audio from players.
_COPIED_BEFORE = Fraction(1, 10)
# The same for a container without an edit list, because players play this audio. Audio that
# begins so little before the first picture is the priming of an encoder.
PRIMING = Fraction(1, 20)
# Prefix of codecs whose decoders leave out the priming themselves; a stated delay replaces
# that.
_SKIPPING = "wma"
# Positions, colours and fonts in the codes of ASS, to which FFmpeg decodes every text
# subtitle.
_STYLE = re.compile(rb"\\(an?\d|pos|move|\d?c&|fn)")
# FFmpeg's mark of a bitmap subtitle that is shown until the next one is 2^32 - 1 ms; files
# hold that as a duration, which MP4 refuses.
_ENDLESS = Fraction(1 << 31, 1000)
_AROUND = Fraction(2)  # seconds of sound around a part, also for the start of a decoder
_EARLY = Fraction(60)  # seconds of subtitles before a part, which may still be shown
_FIRST = 100  # packets among which those of covers and time codes are

Timed = tuple[Fraction, Any]
"""A packet after its decode time on the output's clock, in seconds."""


class BesideFile:
    """The file of a video, open for the streams beside the video."""

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        # Small blocks, so that not much is read between packets that an index lists.
        options: Any = {"blocksize": "4096"} if info.input_format.has_index else {}
        self.container = open_container(info.path, **options)
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
    ) -> Iterator[tuple[Any, bool]]:
        """Yield the packets of these streams, in the order of the file.

        Each is on the clock of the whole video, and before whether it begins a part of a
        joined recording. Where a seek is sure, packets long before ``begin`` and long after
        ``end`` may be left out. The times are on the source's clock; None is no bound.
        """
        container = self.container
        info = self._info
        restarts = info.timing.restarts
        has_index = info.input_format.has_index
        # A search by time goes astray where a clock starts again.
        is_sure = not restarts and (has_index or info.input_format.is_transport)
        is_part = info.timing.is_part or is_sure
        last = end + _AROUND if is_part and end is not None else None
        packets = self._packets
        texts = [each for each in container.streams.subtitles if each.index in indices]
        # Without an index of all packets, a subtitle that begins earlier may be shown.
        around = _EARLY if texts and not has_index else _AROUND
        # Sound may begin before the first frame.
        if is_part and begin is not None and begin - around > info.timing.start:
            video: Any = container.streams[info.video_index]
            place = int((begin - around) / video.time_base)
            if not info.input_format.finds_shown:
                keys = [k.found_by for k in info.timing.keys if k.pts <= place]
                place = max(keys, default=0)
            container.seek(place, stream=video, backward=True)
            packets = self._read()
        only(container, indices)
        clocks = {
            number: BesideClock(container, container.streams[number], restarts)
            for number in indices
        }
        for packet in packets:
            # By the index, the streams are at most a second apart. A cover has no time.
            stamp = stamp_of(packet)
            if last is not None and stamp is not None and stamp * packet.time_base > last:
                return
            clock = clocks.get(packet.stream.index)
            if clock is not None and clock.move(packet, clocks.values()):
                yield packet, clock.begins_part


class CopiedTrack:
    """A stream of the source whose packets are copied into the ``target`` stream.

    ``begin`` is the start of the packets that the track needs, on the source's clock.
    ``delay`` is the number of seconds by which the first packet precedes 0. The file states
    this delay, and readers subtract it from all times. ``priming`` is the number of seconds
    of audio that were left out before the first video frame. ``seekable`` is whether the
    output can be written at any position.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        carry: Carry,
        container: Container,
        *,
        seekable: bool,
    ) -> None:
        self.source = source
        self.target = target
        self.begin = carry.begin
        self.delay = self.priming = Fraction(0)
        self._carry = carry
        self._container = container
        self._states_delay = container.states_delay and seekable
        spans = {"audio": self._heard, "subtitle": self._visible}
        self._span = spans.get(source.type, self._from_key)
        flags = Flags(target.container.format.flags)
        # The ticks between two decode times, at least.
        self._step = int(source.type != "subtitle" and not flags & Flags.ts_nonstrict)
        self._begins_part = False  # whether the last packets may overlap those before
        self._ends: Fraction | None = None  # the last packet's end in the output
        self._moved = 0  # packets whose decode time steps back
        self._last: int | None = None  # the decode time of the last packet in ticks
        # Whether the last packet was moved, or one before that it follows.
        self._steps_back = False
        self._skipped = 0  # packets of the part before its first key frame
        context = source.codec_context
        self._is_bitmap = context is not None and context.codec.bitmap_sub
        # The last bitmap that begins before the part. It may be shown until the next one.
        self._held: list[Any] = []

    def take(self, packet: Any, *, begins_part: bool) -> Iterator[Timed]:
        """Yield the packet to write for one of the source, if there is one."""
        stamp = stamp_of(packet)
        if stamp is None:
            return
        self._begins_part |= begins_part
        begin = stamp * packet.time_base
        if self._is_bitmap and begin < self.begin:
            if self._held and stamp_of(self._held[0]) != stamp:
                self._held.clear()
            self._held.append(packet)
            return
        if begin > self.begin:
            yield from self.flush()
        self._held.clear()
        yield from self._written(packet)

    def flush(self) -> Iterator[Timed]:
        """Yield the packets after the last one of the source."""
        for packet in self._held:
            yield from self._written(packet)

    def _written(self, packet: Any) -> Iterator[Timed]:
        stamp = stamp_of(packet)
        base = packet.time_base
        begin = stamp * base
        is_over = self._carry.is_over(begin)
        end = begin + (packet.duration or 0) * base
        span = None if is_over else self._span(packet, begin, end)
        if span is None:
            return
        begin, end = map(self._carry.on_output, span)
        lasts = end - begin
        if self.source.type == "audio":
            begin = self._placed(begin)
        self._ends = begin + lasts
        early = None if packet.dts is None else (stamp - packet.dts) * base
        copied = self._converted(packet)
        if copied is not None:
            yield self._ordered(copied, begin, early, lasts)

    def _from_key(
        self, packet: Any, begin: Fraction, end: Fraction
    ) -> tuple[Fraction, Fraction] | None:
        """Return start and end of the packet's used part on the source's clock, or None."""
        is_early = begin < self._carry.begin
        if self._ends is None and (is_early or not packet.is_keyframe):
            self._skipped += not is_early
            return None
        return begin, end

    def _heard(
        self, packet: Any, begin: Fraction, end: Fraction
    ) -> tuple[Fraction, Fraction] | None:
        carry = self._carry
        first = carry.begin
        if self._container.has_edit_lists:
            leads = end > first - _COPIED_BEFORE  # is kept for the start of a decoder
        else:
            # No edit list hides this audio. After a cut, the audio would be heard.
            leads = carry.start is None and begin >= first - PRIMING
        if begin < first and not leads:
            # An edit list may hide sound from players.
            if carry.start is None and not packet.is_discard:
                self.priming = max(self.priming, first - begin)
            return None
        if self._begins_part and self._ends is not None:
            # Each part of a joined recording begins with samples for the start of the
            # decoder, or ends with surplus samples.
            if self._ends - (begin - carry.zero) > (end - begin) / 2:
                return None
            self._begins_part = False
        return begin, end

    def _visible(
        self, _: Any, begin: Fraction, end: Fraction
    ) -> tuple[Fraction, Fraction] | None:
        carry = self._carry
        first = carry.begin
        is_open = self._is_bitmap and end == begin
        # The track of an MP4 ends where its last packet ends.
        if end - begin >= _ENDLESS or (is_open and self._container.has_edit_lists):
            end = max(carry.info.timing.end, begin)
        if end <= first and begin < first and not is_open:
            return None
        visible = max(begin, first)
        return visible, max(end if carry.end is None else min(end, carry.end), visible)

    def _placed(self, time: Fraction) -> Fraction:
        """Return the earliest time at or after ``time`` that does not move the whole file.

        A muxer without edit lists adds the codec's delay to all times. A packet may thus
        precede 0 by the delay. A still earlier packet would move the whole file.
        """
        if self._container.has_edit_lists:
            return max(time, Fraction(-1))
        name = codec_name(self.source)
        earliest = Fraction(0)
        if name == "opus" or self._carry.info.input_format.states_delay:
            context = self.source.codec_context
            earliest = -Fraction(int(context.delay), context.sample_rate)
        is_plain = not earliest and not name.startswith(_SKIPPING)
        if self._states_delay and self._ends is None and is_plain:
            self.delay = max(-time, Fraction(0))
        return max(time, earliest - self.delay)

    def _converted(self, packet: Any) -> Any:
        """Return the packet to write; None if it is empty."""
        return packet

    def _ordered(
        self, packet: Any, time: Fraction, early: Fraction | None, lasts: Fraction
    ) -> Timed:
        """Return a packet after all others, later by the delay, or later still.

        ``early`` is how long before ``time`` the packet is decoded; None if unknown. No
        muxer accepts a decode time before that of the last packet, and some refuse an equal
        one.
        """
        tick = self.target.time_base
        later = nearest(self.delay / tick)
        shown = decoded = nearest(time / tick)
        gap = 0
        if early is not None:
            decoded = min(nearest((time - early) / tick), shown)
        if early is not None or self.source.type != "video":
            least = decoded if self._last is None else self._last + self._step
            if decoded < least:
                self._steps_back |= decoded < least - self._step
                self._moved += self._steps_back
                decoded = least
                shown = max(shown, decoded)
            else:
                self._steps_back = False
            gap = decoded - least + self._step
            self._last = decoded
            packet.dts = decoded + later
        packet.pts = shown + later
        # A track of MP4 ends where its last packet ends, which may state no length. Only a
        # subtitle without a length has none.
        packet.duration = nearest(lasts / tick) or gap * self._step
        packet.time_base = tick
        packet.stream = self.target
        return (decoded + later) * tick, packet

    def warnings(self) -> Iterator[str]:
        """Yield warnings about skipped pictures, and about times that step back."""
        label = label_of(self.source)
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


class ConvertedText(CopiedTrack):
    """A track of text subtitles that are converted to the codec of the target.

    ``is_plain``: whether a warning has named the loss of styles.
    """

    def __init__(
        self, source: Any, target: Any, *about: Any, seekable: bool, is_plain: bool
    ) -> None:
        super().__init__(source, target, *about, seekable=seekable)
        self._may_lose_style = codec_name(target) != "subrip" and not is_plain
        self._unreadable = 0  # texts that cannot be converted
        self._styled = 0  # texts that lose positions, colours or fonts

    def _converted(self, packet: Any) -> Any:
        try:
            decoded = self.source.codec_context.decode2(packet)
            if not decoded:
                return None
            converted = self.target.codec_context.encode_subtitle(decoded)
        except (av.error.FFmpegError, UnicodeError):
            self._unreadable += 1
            return None
        if self._may_lose_style:
            self._styled += any(_STYLE.search(text.ass) for text in decoded)
        return converted

    def warnings(self) -> Iterator[str]:
        """Yield warnings about damaged texts, lost styles, and times that step back."""
        label = label_of(self.source)
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
        yield from super().warnings()
