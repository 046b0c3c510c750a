"""Select the packets of the streams that are carried over, and set their times.

A packet first moves to the clock of the whole video (`Parts`). Then it is left out, or
moves to the output's clock (`_placed`). At last its decode time moves later if it steps
back (`_ordered`).
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any, Self

import av
from av.format import Flags

from cloudconv.media.audio import AudioEncoder
from cloudconv.media.carry import Carry, codec_name
from cloudconv.media.clock import Clock
from cloudconv.media.containers import Container
from cloudconv.media.continued import ContinuedAudio

# The seconds of audio before the kept part that are copied too, because a decoder needs
# this audio to start. An edit list, as in MP4, hides this audio from players.
_COPIED_BEFORE = Fraction(1, 10)
PRIMING = Fraction(1, 20)  # the same for a container without an edit list: players play it
# The longest usable tick in seconds, and the upper limit of the tick that replaces a longer
# one. A tick of AVI can be a whole audio packet; a cut between two ticks needs finer ones.
_LONGEST_TICK = Fraction(1, 500)
_SHORT_TICK = Fraction(1, 90_000)
_AAC_FORMAT = 0xFDC0  # profile, sampling rate and channels in two bytes of an ADTS header
# Prefix of codecs whose decoders leave out the priming themselves; a stated delay replaces
# that.
_SKIPPING = "wma"
# Positions, colours and fonts in the codes of ASS, to which FFmpeg decodes every text
# subtitle.
_STYLE = re.compile(rb"\\(an?\d|pos|move|\d?c&|fn)")
# FFmpeg's mark of a bitmap subtitle that is shown until the next one is 2^32 - 1 ms; files
# hold that as a duration, which MP4 refuses.
_ENDLESS = Fraction(1 << 31, 1000)
LONG_AGO = Fraction(-(10**9))  # a time in seconds before that of every packet


class Parts:
    """The parts of a recording that was joined from several, as one stream shows them.

    ``shifts`` are the seconds that the video's own restarts add to all times. ``others``
    are the parts of all streams, to which these are added.
    """

    def __init__(
        self, source: Any, shifts: tuple[Fraction, ...], others: list[Self]
    ) -> None:
        self._is_text = source.type == "subtitle"
        self._shifts = (Fraction(0), *shifts)
        self._others = others
        self._clock = Clock(source.container)
        self._number = 0
        # Of this part, and the last packet's end.
        self._offset = self._reached = Fraction(0)
        others.append(self)

    def shift(self, packet: Any, time: Fraction) -> bool:
        """Move a packet to the clock of the whole video.

        Return whether a part begins with it.

        ``time`` is the packet's own time in seconds.
        """
        self._clock.take(time, packet)
        number = self._clock.part
        begins = False
        if self._is_text:
            # Subtitles are so far apart that their own times may not show the next part's
            # start.
            number = min(
                max(other._clock.part for other in self._others), len(self._shifts) - 1
            )
        if number != self._number:
            # A part that the video does not have directly follows the part before.
            alone = number >= len(self._shifts)
            self._offset = self._reached - time if alone else self._shifts[number]
            self._number = number
            begins = True
        base = packet.time_base
        self._reached = time + self._offset + (packet.duration or 0) * base
        later = round(self._offset / base)
        packet.pts = None if packet.pts is None else packet.pts + later
        packet.dts = None if packet.dts is None else packet.dts + later
        return begins


class CarriedStream:
    """A stream that is carried over: copied, converted or encoded again by ``encoder``.

    ``parts`` are those of all tracks. ``converts`` is for text subtitles in the codec of
    the ``target``. ``led`` is the length in seconds of the audio that was left out before
    the first video frame. ``unreadable`` texts could not be converted, and ``styled`` ones
    lost positions, colours or fonts. ``moved`` counts the packets whose decode time steps
    back. ``delay`` is the number of seconds by which the first packet precedes 0. The file
    states this delay, unless it is not ``seekable``, and readers subtract it from all
    times.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        carry: Carry,
        container: Container,
        parts: list[Parts],
        *,
        seekable: bool,
        converts: bool = False,
        encoder: AudioEncoder | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.encoder = encoder
        self.led = self.delay = Fraction(0)
        self.unreadable = self.styled = self.moved = 0
        self._is_ass = codec_name(source) in ("ass", "ssa")
        self._carry = carry
        self._container = container
        self._converts = converts
        self._states_delay = container.is_amended and seekable
        self._parts = Parts(source, carry.info.timing.shifts, parts)
        self._joins = False  # whether the next packet is the first one of a part
        # AAC of a transport stream states its format in each packet, and other files for a
        # track.
        self._has_headers = (
            codec_name(source) == "aac" and not source.codec_context.extradata
        )
        self._format: int | None = None
        self.changes: Fraction | None = None  # the time of another format, in the output
        self._shown = False  # whether a packet has come that no edit list hides
        # The last packet's end in seconds, in the output.
        self._ends: Fraction | None = None
        # Whether the last packet was moved, or one before that it follows.
        self._steps_back = False
        self._decoded: int | None = None  # the decode time of the last packet in ticks

    @property
    def is_empty(self) -> bool:
        """Return whether no packet was copied."""
        return self._ends is None and self.encoder is None

    def packets(self, packet: Any) -> Iterator[tuple[Fraction, Any]]:
        """Yield the packets to write for one of the source, None for its end.

        Each comes with its decode time, and both are on the output's clock.
        """
        if packet is not None:
            if packet.is_discard and self._shown and self.source.type == "audio":
                return  # an edit list cuts this out
            self._shown |= not packet.is_discard
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None:
                self._joins |= self._parts.shift(packet, stamp * packet.time_base)
        if self.encoder is not None:
            ready = self.encoder.finish() if packet is None else self.encoder.feed(packet)
            yield from ((encoded.dts * encoded.time_base, encoded) for encoded in ready)
        elif packet is not None:
            if packet.time_base > _LONGEST_TICK:
                parts = ceil(packet.time_base / _SHORT_TICK)
                times = (packet.pts, packet.dts, packet.duration)
                finer = [None if time is None else time * parts for time in times]
                packet.time_base /= parts
                packet.pts, packet.dts, packet.duration = finer
            placed = self._placed(packet)
            if placed is not None:
                yield self._ordered(placed)

    def continued(self) -> Iterator[tuple[Fraction, Any]]:
        """Yield packets of audio after the film, as far as the playlist is known."""
        if isinstance(self.encoder, ContinuedAudio):
            yield from (
                (packet.dts * packet.time_base, packet)
                for packet in self.encoder.continued()
            )

    def _placed(self, packet: Any) -> Any:
        """Return the packet moved to the output's clock; None if it is outside the span."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        base = packet.time_base
        kept = None if stamp is None else self._kept(packet, stamp * base)
        if kept is None:
            return None
        begin, end = kept
        factor = self._carry.slowdown or Fraction(1)
        lasts = (end - begin) * factor
        moved = (begin - self._carry.origin) * factor
        earliest = self._earliest()
        is_plain = not earliest and not codec_name(self.source).startswith(_SKIPPING)
        if self._states_delay and self._ends is None and is_plain:
            self.delay = max(-moved, Fraction(0))
        moved = max(moved, earliest - self.delay)
        self._ends = moved + lasts
        if self._has_headers and self.changes is None:
            before = self._format
            self._format = int.from_bytes(memoryview(packet)[2:4], "big") & _AAC_FORMAT
            self.changes = None if before in (None, self._format) else moved
        if self._converts:
            return self._converted(packet, moved, lasts)
        shift = stamp - round(moved / base)
        packet.pts = stamp - shift
        if packet.dts is not None:
            packet.dts = min(packet.dts - shift, packet.pts)
        if self.source.type == "subtitle":
            packet.duration = round(lasts / base)
        packet.stream = self.target
        return packet

    def _kept(self, packet: Any, begin: Fraction) -> tuple[Fraction, Fraction] | None:
        """Return start and end of the packet's used part on the source's clock, or None."""
        carry = self._carry
        first = self._carry.begin
        end = begin + (packet.duration or 0) * packet.time_base
        if carry.end is not None and begin >= carry.end:
            return None
        if self.source.type == "subtitle":
            if end - begin >= _ENDLESS:
                end = max(carry.info.timing.end, begin)
            if end <= first and begin < first:
                return None
            visible = max(begin, first)
            return visible, max(end if carry.end is None else min(end, carry.end), visible)
        if self.source.type != "audio":
            waits = self._ends is None and (begin < first or not packet.is_keyframe)
            return None if waits else (begin, end)
        if self._container.is_mp4:
            leads = end > first - _COPIED_BEFORE  # is kept for the start of a decoder
        else:
            # No edit list hides this audio. After a cut, the audio would be heard.
            leads = carry.start is None and begin >= first - PRIMING
        if begin < first and not leads:
            # An edit list may hide sound from players.
            if carry.start is None and not packet.is_discard:
                self.led = max(self.led, first - begin)
            return None
        if self._joins and self._ends is not None:
            # Each part of a joined recording begins with samples for the start of the
            # decoder, or ends with surplus samples.
            if self._ends - (begin - carry.origin) > (end - begin) / 2:
                return None
            self._joins = False
        return begin, end

    def _earliest(self) -> Fraction:
        """Return the earliest packet time at which the muxer keeps the file's times."""
        if self._container.is_mp4 or self.source.type != "audio":
            return Fraction(-1) if self.source.type == "audio" else LONG_AGO
        # A muxer without edit lists adds the codec's delay to all times. A packet may thus
        # precede 0 by the delay. A still earlier packet would move the whole file.
        is_opus = codec_name(self.source) == "opus"
        context = self.source.codec_context
        if not (is_opus or self._carry.info.input_format.states_delay):
            return Fraction(0)
        return -Fraction(int(context.delay), context.sample_rate)

    def _converted(self, packet: Any, start: Fraction, duration: Fraction) -> Any:
        """Return a text packet in the target's codec, shown from ``start``.

        The result is None if it is empty.
        """
        try:
            decoded = self.source.codec_context.decode2(packet)
            if not decoded:
                return None
            encoded = self.target.codec_context.encode_subtitle(decoded)
            is_plain = codec_name(self.target) != "subrip" and not self._is_ass
            self.styled += is_plain and any(
                map(_STYLE.search, (rect.ass for rect in decoded))
            )
        except (av.error.FFmpegError, UnicodeError):
            self.unreadable += 1
            return None
        encoded.time_base = Fraction(1, 1000)
        encoded.stream = self.target
        encoded.pts = encoded.dts = round(start * 1000)
        encoded.duration = round(duration * 1000)
        return encoded

    def _ordered(self, packet: Any) -> tuple[Fraction, Any]:
        """Return the decode time and the packet, moved later if the decode time steps back.

        No muxer accepts a decode time before that of the last packet, and some refuse an
        equal one.
        """
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        tick = self.target.time_base
        kind = self.source.type
        if packet.dts is None and kind == "video":
            return stamp * base, packet
        if self._decoded is not None:
            flags = Flags(self.target.container.format.flags)
            alike = kind == "subtitle" or flags & Flags.ts_nonstrict
            least = self._decoded + (0 if alike else ceil(tick / base))
            if stamp < least:
                self._steps_back |= stamp < self._decoded
                self.moved += self._steps_back
                stamp = least
                packet.dts = stamp
                packet.pts = max(packet.pts, stamp)
            else:
                self._steps_back = False
        self._decoded = stamp
        later = round(round(self.delay / tick) * tick / base)
        if later:
            packet.pts = packet.pts + later
            packet.dts = stamp + later
        return (stamp + later) * base, packet


TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
"""Codecs of text subtitles, which can be converted to one another."""
