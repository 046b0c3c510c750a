"""Select the packets of the streams that are carried over, and set their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from av.container import InputContainer, OutputContainer
from av.format import Flags

from cloudconv.media.audio import Stretcher
from cloudconv.media.carry import Carry
from cloudconv.media.containers import Container
from cloudconv.media.demux import Clock, only, read_packets

# The seconds of audio before the kept part that are copied too, because a decoder needs this
# audio to start. An edit list, as in MP4, hides this audio from players.
_PREROLL = Fraction(1, 10)
PRIMING = Fraction(1, 20)
"""The same for a container without an edit list, in which players play this audio."""
# The longest usable tick in seconds, and the upper limit of the tick that replaces a longer one. A
# tick of AVI can be a whole audio packet; a cut between two ticks needs finer ones.
_COARSE, _FINE = Fraction(1, 500), Fraction(1, 90_000)
# Prefix of codecs whose decoders leave out the priming themselves; a stated delay replaces that.
_SKIPPING = "wma"
LONG_AGO = Fraction(-(10**9))
"""A time in seconds before that of every packet."""


@dataclass(slots=True)
class Track:
    """A stream that is carried over: copied, converted or slowed."""

    source: Any  # the stream of the source
    target: Any  # the stream of the output
    clock: Clock  # for this, part, shift and reached see `Tracks._shift`
    converts: bool = False  # text subtitles to the codec of the target
    slowed: Stretcher | None = None
    ends: Fraction | None = None  # the end of the last packet in seconds, on the output's clock
    part: int = 0
    shift: Fraction = Fraction(0)
    reached: Fraction = Fraction(0)
    joins: bool = False  # whether the next packet is the first one after a join
    decoded: int | None = None  # the decode time of the last packet in ticks
    moved: int = 0  # the number of packets that `Tracks._in_order` has moved
    # The number of seconds by which the first packet precedes 0. The file states this delay, and
    # readers subtract it from all times.
    delay: Fraction = Fraction(0)


class Tracks:
    """The streams that are carried over; ``by_index`` maps their index in the source to them.

    ``led`` is the length in seconds of the audio that was left out before the first video frame.
    An output that is not ``seekable`` cannot state the delay of an audio track.
    """

    def __init__(
        self, carry: Carry, out: OutputContainer, container: Container, *, seekable: bool
    ) -> None:
        self.by_index: dict[int, Track] = {}
        self.led = Fraction(0)
        self._carry, self._out, self._container = carry, out, container
        self._states_delay = container.is_amended and seekable
        self._shifts = (Fraction(0), *carry.info.timing.shifts)

    def add(
        self, source: Any, target: Any, *, converts: bool = False, slowed: Stretcher | None = None
    ) -> None:
        """Add a stream of the source, and the stream of the output that gets its packets."""
        clock = Clock(source.container)
        self.by_index[source.index] = Track(source, target, clock, converts, slowed)

    def packets(self, source: InputContainer) -> Iterator[tuple[Fraction, Any]]:
        """Yield every packet to write with its decode time, both on the output's clock."""
        only(source, self.by_index)
        for packet in read_packets(source, [source.streams[index] for index in self.by_index]):
            track = self.by_index[packet.stream.index]
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None:
                self._shift(packet, stamp * packet.time_base, track)
            if track.slowed is not None:
                yield from map(_timed, track.slowed.feed(packet))
                continue
            if packet.time_base > _COARSE:
                _refine(packet)
            made = self._placed(packet, track)
            if made is not None:
                yield self._in_order(made, track)
        for track in self.by_index.values():
            if track.slowed is not None:
                yield from map(_timed, track.slowed.finish())

    def _shift(self, packet: Any, time: Fraction, track: Track) -> None:
        """Move a packet of a recording that was joined from parts to the clock of the whole video.

        ``time`` is the packet's own time in seconds. The track gets the number of the packet's
        part, the seconds added to the packet's times, and the packet's end on that clock.
        """
        track.clock.take(time)
        part = track.clock.part
        if track.source.type == "subtitle":
            # Subtitles are so far apart that their own times may not show the next part's start.
            part = max(other.clock.part for other in self.by_index.values())
            part = min(part, len(self._shifts) - 1)
        if part != track.part:
            # A part that the video does not have directly follows the part before.
            alone = part >= len(self._shifts)
            track.shift = track.reached - time if alone else self._shifts[part]
            track.part, track.joins = part, True
        base = packet.time_base
        track.reached = time + track.shift + (packet.duration or 0) * base
        later = round(track.shift / base)
        packet.pts = None if packet.pts is None else packet.pts + later
        packet.dts = None if packet.dts is None else packet.dts + later

    def _in_order(self, packet: Any, track: Track) -> tuple[Fraction, Any]:
        """Return the decode time and the packet, moved later if the decode time steps back.

        No muxer accepts a decode time before that of the last packet, and some refuse an equal one.
        """
        is_text = track.source.type == "subtitle"
        stamp = packet.dts if packet.dts is not None else packet.pts
        base, tick = packet.time_base, track.target.time_base
        if packet.dts is None and track.source.type == "video":
            return stamp * base, packet
        if track.decoded is not None:
            alike = is_text or Flags(self._out.format.flags) & Flags.ts_nonstrict
            least = track.decoded + (0 if alike else ceil(tick / base))
            if stamp < least:
                track.moved += stamp < track.decoded
                stamp = least
                packet.dts, packet.pts = stamp, max(packet.pts, stamp)
        track.decoded = stamp
        later = round(round(track.delay / tick) * tick / base)
        if later:
            packet.pts, packet.dts = packet.pts + later, stamp + later
        return (stamp + later) * base, packet

    def _placed(self, packet: Any, track: Track) -> Any:
        """Return the packet moved to the output's clock; None if it is outside the span."""
        stamp, base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
        kept = None if stamp is None else self._kept(packet, track, stamp * base)
        if kept is None:
            return None
        begin, end = kept
        factor = self._carry.slowdown or Fraction(1)
        lasts = (end - begin) * factor
        moved, earliest = (begin - self._carry.origin) * factor, self._earliest(track)
        is_plain = not earliest and not codec_name(track.source).startswith(_SKIPPING)
        if self._states_delay and track.ends is None and is_plain:
            track.delay = max(-moved, Fraction(0))
        moved = max(moved, earliest - track.delay)
        track.ends = moved + lasts
        if track.converts:
            return _converted(packet, track, moved, lasts)
        shift = stamp - round(moved / base)
        packet.pts = stamp - shift
        if packet.dts is not None:
            packet.dts = min(packet.dts - shift, packet.pts)
        if track.source.type == "subtitle":
            packet.duration = round(lasts / base)
        packet.stream = track.target
        return packet

    def _kept(self, packet: Any, track: Track, begin: Fraction) -> tuple[Fraction, Fraction] | None:
        """Return start and end of the packet's used part, on the source's clock; None if unused."""
        carry, first = self._carry, self._carry.begin
        end = begin + (packet.duration or 0) * packet.time_base
        if carry.end is not None and begin >= carry.end:
            return None
        if track.source.type == "subtitle":
            if end <= first and begin < first:
                return None
            shown = max(begin, first)
            return shown, max(end if carry.end is None else min(end, carry.end), shown)
        if track.source.type != "audio":
            waits = track.ends is None and (begin < first or not packet.is_keyframe)
            return None if waits else (begin, end)
        if self._container.has_edit_list:
            leads = end > first - _PREROLL  # is kept for the start of a decoder
        else:
            # No edit list hides this audio. After a cut, the audio would be heard.
            leads = carry.start is None and begin >= first - PRIMING
        if begin < first and not leads:
            if carry.start is None:
                self.led = max(self.led, first - begin)
            return None
        if track.joins and track.ends is not None:
            # Each part of a joined recording begins with samples for the start of the decoder, or
            # ends with surplus samples.
            if track.ends - (begin - carry.origin) > (end - begin) / 2:
                return None
            track.joins = False
        return begin, end

    def _earliest(self, track: Track) -> Fraction:
        """Return the earliest packet time for which the muxer does not move the whole file."""
        if self._container.has_edit_list or track.source.type != "audio":
            return Fraction(-1) if track.source.type == "audio" else LONG_AGO
        # A muxer without edit lists adds the codec's delay to all times. A packet may thus precede
        # 0 by the delay. A still earlier packet would move the whole file.
        states_delay = self._carry.info.reader.states_delay or codec_name(track.source) == "opus"
        context = track.source.codec_context
        return -Fraction(int(context.delay), context.sample_rate) if states_delay else Fraction(0)


def _timed(packet: Any) -> tuple[Fraction, Any]:
    return packet.dts * packet.time_base, packet


def _refine(packet: Any) -> None:
    """Give the packet a finer time base without changing its times."""
    parts = ceil(packet.time_base / _FINE)
    times = (packet.pts, packet.dts, packet.duration)
    pts, dts, duration = (None if time is None else time * parts for time in times)
    packet.time_base /= parts
    packet.pts, packet.dts, packet.duration = pts, dts, duration


def codec_name(stream: Any) -> str:
    """Return FFmpeg's short name of the codec."""
    context = stream.codec_context
    return str(context.name if context is not None else getattr(stream, "name", None) or "unknown")


TEXT = frozenset(("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"))
"""Codecs of text subtitles, which can be converted to one another."""


def _converted(packet: Any, track: Track, start: Fraction, duration: Fraction) -> Any:
    """Return a text packet in the target's codec, shown from ``start``; None if it is empty."""
    decoded = track.source.codec_context.decode2(packet)
    if not decoded:
        return None
    made = track.target.codec_context.encode_subtitle(decoded)
    made.time_base, made.stream = Fraction(1, 1000), track.target
    made.pts = made.dts = round(start * 1000)
    made.duration = round(duration * 1000)
    return made
