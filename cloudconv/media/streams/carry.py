"""Everything the source file holds beside the video, taken along by stream copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from av.container import InputContainer, OutputContainer
from av.format import Flags
from av.stream import Disposition

from cloudconv.errors import InputError, OutputError
from cloudconv.media.read.demux import Clock, open_container, read_packets
from cloudconv.media.read.probe import MediaInfo
from cloudconv.media.streams.slow_audio import Stretcher, add_audio, choose_format
from cloudconv.media.streams.subtitles import TEXT, SubtitleConverter
from cloudconv.media.streams.timecode import timecode_at_rate
from cloudconv.media.write.matroska import chapters_element
from cloudconv.media.write.muxer import add_copy, can_hold
from cloudconv.media.write.target import Container

# Statements about the file that was, not about what it shows.
_STALE = frozenset(
    ("encoder", "duration", "bps", "major_brand", "minor_version", "compatible_brands")
)
_STALE_PREFIXES = ("number_of_", "_statistics_")
# Names that MP4 and MOV make up for every track.
_MP4_ONLY = frozenset(("handler_name", "vendor_id"))
_MP4_TAGS = frozenset(
    (
        *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
        *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
        *("network", "keywords", "episode_sort", "season_number", "media_type", "hd_video"),
        *("gapless_playback", "compilation", "track", "disc", "creation_time", "language"),
    )
)
# Encoded audio that a decoder needs before the first sample it shows; an MP4 edit list hides it.
_PREROLL = Fraction(1, 10)
# The same where nothing can hide it: kept at time 0, so that no packet is missing.
_PRIMING = Fraction(1, 20)
# AVI counts sound in whole packets, and a cut falls between them.
_COARSE = Fraction(1, 500)
_FINE = Fraction(1, 90_000)
_LONG_AGO = Fraction(-(10**9))


@dataclass(frozen=True, slots=True)
class Carry:
    """What to take along from the source file.

    ``origin`` is the time on the source's clock that becomes the output's 0. ``start`` and ``end``
    bound the span to keep, on the source's clock; None keeps all. Without ``audio`` nothing that
    runs in time (audio, subtitles, chapters, data) comes along, only tags, covers and attachments.
    With ``stretch``, the output runs that many times slower: the audio is slowed as well and
    encoded again, and nothing else that runs in time comes along. With ``loop_until``, a time on
    the source's clock, the audio begins again where the kept span ends, until then; an ``origin``
    at that end is for an output that begins with the repeat. Audio that the container cannot hold
    is encoded again, unless ``copies_only``: then that is an error.
    """

    info: MediaInfo
    origin: Fraction
    start: Fraction | None = None
    end: Fraction | None = None
    audio: bool = True
    stretch: Fraction | None = None
    loop_until: Fraction | None = None
    copies_only: bool = False

    @property
    def copies_timed(self) -> bool:
        """Whether what runs in time comes along unchanged."""
        return self.audio and self.stretch is None and not self.only_repeats

    @property
    def span(self) -> tuple[Fraction, Fraction]:
        """The part that ``loop_until`` repeats, on the source's clock."""
        timing = self.info.timing
        return min(self.origin, timing.start), timing.end if self.end is None else self.end

    @property
    def only_repeats(self) -> bool:
        """Whether the output begins where the audio begins again."""
        return self.loop_until is not None and self.origin >= self.span[1]


@dataclass(slots=True)
class _Track:
    source: Any
    target: Any
    convert: SubtitleConverter | None = None
    slowed: Stretcher | None = None
    first: Fraction | None = None
    started: bool = False
    ends: Fraction | None = None
    clock: Clock | None = None
    part: int = 0
    shift: Fraction = Fraction(0)
    reached: Fraction = Fraction(0)
    joins: bool = False
    decoded: int | None = None
    moved: int = 0


def fresh_tags(tags: dict[str, str], container: Container) -> dict[str, str]:
    """The metadata that still holds for a file that was encoded again."""
    dropped = _STALE if container.muxer in ("mp4", "mov") else _STALE | _MP4_ONLY
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in dropped and not key.lower().startswith(_STALE_PREFIXES)
    }


def needs_free_tags(carry: Carry, container: Container) -> bool:
    """Whether the MP4 muxer must be told to write tags that iTunes has no name for."""
    kept = fresh_tags(carry.info.metadata, container)
    return any(key.lower() not in _MP4_TAGS for key in kept)


def needs_unlisted(carry: Carry, container: Container) -> bool:
    """Whether the source holds what the muxer can write but does not list: see `open_muxer`."""
    source = _opened(carry) if carry.copies_timed and container.muxer == "matroska" else None
    if source is None:
        return False
    with source:
        return any(
            not can_hold(container.muxer, stream)
            and can_hold(container.muxer, stream, unlisted=True)
            for stream in source.streams
            if stream.type in ("audio", "video") and stream.index != carry.info.video_index
        )


class Copier:
    """Copies the other streams of a second open of the source into an output container.

    Adds its streams when it is made, so make it before the header is written. ``until`` then
    copies what belongs before a time, so that the streams interleave as players read them.
    ``seekable`` and ``unlisted`` say how ``out`` was opened; ``chapters`` are those, in Matroska's
    own form, that it then does not pass on.
    """

    def __init__(
        self,
        carry: Carry,
        out: OutputContainer,
        container: Container,
        *,
        seekable: bool = True,
        unlisted: bool = False,
    ) -> None:
        self._seekable = seekable
        self._unlisted = unlisted
        self.warnings: list[str] = []
        self.chapters = b""
        self._carry = carry
        self._container = container
        self._out = out
        self._tracks: dict[int, _Track] = {}
        self._covers: list[_Track] = []
        self._led = Fraction(0)
        self._shifts = (Fraction(0), *carry.info.timing.shifts)
        self._input = _opened(carry)
        self._queue: Iterator[tuple[Fraction, Any]] = iter(())
        self._pending: tuple[Fraction, Any] | None = None
        if self._input is not None:
            self._add_streams(self._input)

    def describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Give the output's video the source video's own tags and disposition.

        A time code is counted on at ``rate``, the output's.
        """
        if self._input is None:
            return
        source: Any = self._input.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._container)
        stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.disposition
        timing = self._carry.info.timing
        for tags in (stream.metadata, self._out.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                given = tags.pop(key)
                if rate is None or timing.rate is None:
                    self.warnings.append("The time code is left out: the frame rate varies.")
                    continue
                cut = self._carry.origin - timing.start
                moved = timecode_at_rate(given, timing.rate, rate, cut)
                if moved is not None:
                    tags["timecode"] = moved

    @property
    def encodes(self) -> bool:
        """Whether some of it is no copy: slowed sound."""
        return any(track.slowed is not None for track in self._tracks.values())

    def until(self, time: Fraction | None) -> None:
        """Write every packet that belongs at or before ``time`` on the output's clock.

        None writes all that are left.
        """
        for cover in self._covers:
            packet = _first_packet(self._carry, cover.source.index)
            if packet is not None:
                packet.stream = cover.target
                packet.pts = packet.dts = 0
                self._out.mux(packet)
        self._covers.clear()
        while True:
            self._pending = self._pending or next(self._queue, None)
            if self._pending is None or (time is not None and self._pending[0] > time):
                return
            self._out.mux(self._pending[1])
            self._pending = None

    def close(self) -> None:
        """Close the source and say what was left out."""
        for track in self._tracks.values():
            if track.slowed is not None and self._carry.start is None:
                self._led = max(self._led, track.slowed.led)
            if track.slowed is not None and track.slowed.lost:
                self.warnings.append(
                    f"{_named(track.source)} is damaged: {track.slowed.lost} of its packets could "
                    "not be decoded, and silence is in their place."
                )
            if track.moved:
                self.warnings.append(
                    f"The clock of {_named(track.source)} steps back: "
                    f"{track.moved} of its packets are moved behind those before them."
                )
        if self._led > _PRIMING:
            self.warnings.append(
                f"{float(self._led):.3f} s of audio from before the first video frame are left out."
            )
        if self._input is not None:
            self._input.close()

    def _add_streams(self, source: InputContainer) -> None:
        self._out.metadata.update(fresh_tags(dict(source.metadata), self._container))
        timed = []
        for stream in source.streams:
            if stream.index == self._carry.info.video_index:
                continue
            if stream.type == "attachment" or stream.disposition & Disposition.attached_pic:
                self._add_still(stream)
            elif self._carry.copies_timed or (self._carry.audio and stream.type == "audio"):
                timed.append(stream)
            else:
                advice = "; --audio stretch slows it too" if stream.type == "audio" else ""
                self._drop(stream, f"it runs at the old speed{advice}")
        for stream in timed:
            self._add_timed(stream)
        if self._tracks:
            self._queue = self._all_packets(source)
        if self._carry.copies_timed:
            self._add_chapters(source)

    def _add_still(self, stream: Any) -> None:
        """Cover art and attachments: no time, no packets to interleave."""
        name = stream.metadata.get("filename")
        if self._container.attachments:
            if stream.type == "attachment":
                self._out.add_stream_from_template(stream)
                return
            packet = _first_packet(self._carry, stream.index)
            if packet is not None:
                kind = "png" if stream.codec_context.name == "png" else "jpeg"
                ending = "jpg" if kind == "jpeg" else kind
                mime = stream.metadata.get("mimetype", f"image/{kind}")
                self._out.add_attachment(name or f"cover.{ending}", mime, bytes(packet))
        elif stream.type != "attachment" and self._accepts(stream):
            target = self._copy_of(stream)
            self._covers.append(_Track(stream, target))
        else:
            self._drop(stream)

    def _add_timed(self, stream: Any) -> None:
        codec = _codec(stream)
        if stream.type == "data" and (stream.metadata.get("timecode") or _is_chapter_text(stream)):
            # MP4 keeps chapters and time codes in tracks that the muxer makes anew.
            return
        if self._carry.stretch is not None:
            self._add_encoded(stream, self._carry.stretch)
        elif self._accepts(stream):
            self._tracks[stream.index] = _Track(stream, self._copy_of(stream))
        elif stream.type == "subtitle" and codec in TEXT and self._container.subtitles:
            target = self._out.add_stream(self._container.subtitles)
            self._label(stream, target)
            converter = SubtitleConverter(stream, target)
            self._tracks[stream.index] = _Track(stream, target, converter)
            if codec in ("ass", "ssa"):
                self.warnings.append(
                    f"{self._container.name} cannot hold {codec} subtitles: {_named(stream)} "
                    f"becomes {self._container.subtitles} and loses its styles."
                )
        elif stream.type == "audio" and self._carry.copies_only:
            raise OutputError(
                f"{self._container.name} cannot hold {_named(stream)}: leave --audio copy out, or "
                "write an .mkv."
            )
        elif stream.type == "audio" and self._carry.loop_until is None:
            self._add_encoded(stream, Fraction(1))
        else:
            self._drop(stream)

    def _add_encoded(self, stream: Any, factor: Fraction) -> None:
        """Audio that is slowed, or that the container cannot hold as it is (a factor of 1)."""
        chosen = choose_format(stream, self._container.muxer)
        if chosen is None:
            self._drop(stream, "it cannot be decoded and encoded again")
            return
        target = add_audio(self._out, chosen)
        self._label(stream, target)
        slowed = Stretcher(
            stream,
            target,
            factor,
            origin=self._carry.origin,
            begin=self._first,
            end=self._carry.end,
        )
        self._tracks[stream.index] = _Track(stream, target, slowed=slowed)
        before, after = stream.codec_context, target.codec_context
        codec = after.codec.canonical_name
        if codec != before.codec.canonical_name:
            why = "as it is slowed" if factor != 1 else f"as {self._container.name} cannot hold it"
            self.warnings.append(f"{_named(stream)} becomes {codec}, {why}.")
        if after.layout.nb_channels != before.layout.nb_channels:
            self.warnings.append(f"{_named(stream)} is mixed down to {chosen.layout}.")

    def _copy_of(self, stream: Any) -> Any:
        target = add_copy(self._out, stream)
        if not self._seekable and _codec(stream) == "aac" and not stream.codec_context.extradata:
            # Into a file the muxer writes it afterwards, and only in the room for an absent one.
            target.codec_context.extradata = _aac_config(_first_packet(self._carry, stream.index))
        if self._unlisted and stream.time_base > _COARSE:
            # What asks the muxer leaves the clock as it is.
            target.time_base = stream.time_base / ceil(stream.time_base / _FINE)
        self._label(stream, target)
        return target

    def _label(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._container))
        target.disposition = stream.disposition

    def _accepts(self, stream: Any) -> bool:
        return can_hold(self._container.muxer, stream, unlisted=self._unlisted)

    def _drop(self, stream: Any, reason: str | None = None) -> None:
        why = reason or f"{self._container.name} cannot hold it"
        self.warnings.append(f"{_named(stream)} is left out: {why}.")

    def _add_chapters(self, source: InputContainer) -> None:
        kept: list[Any] = []
        carry = self._carry
        for chapter in source.chapters():
            base = Fraction(chapter["time_base"] or Fraction(1, 1000))
            start, end = chapter["start"] * base, chapter["end"] * base
            start = max(start, carry.start or start, carry.origin)
            end = end if carry.end is None else min(end, carry.end)
            if start < end:
                moved = dict(chapter, time_base=Fraction(1, 1_000_000))
                moved["start"] = round((start - carry.origin) * 1_000_000)
                moved["end"] = round((end - carry.origin) * 1_000_000)
                kept.append(moved)
        if not kept:
            return
        self._out.set_chapters(kept)
        if self._unlisted and self._seekable:
            self.chapters = chapters_element(kept)
        elif self._unlisted:
            self.warnings.append("The chapters are left out: the sound allows none on a pipe.")

    def _all_packets(self, source: InputContainer) -> Iterator[tuple[Fraction, Any]]:
        """Every packet to write with its decode time, as they come; both on the output's clock."""
        for track, packet in self._read(source, self._tracks):
            if track.slowed is not None:
                for made in track.slowed.feed(packet):
                    yield made.dts * made.time_base, made
            else:
                placed = None if self._carry.only_repeats else self._placed(packet, track)
                if placed is not None:
                    yield self._in_order(placed, track)
        for track in self._tracks.values():
            if track.slowed is not None:
                for made in track.slowed.finish():
                    yield made.dts * made.time_base, made
        audio = {k: t for k, t in self._tracks.items() if t.source.type == "audio"}
        if self._carry.loop_until is not None and audio:
            yield from self._repeats(audio, self._carry.loop_until)

    def _read(
        self, source: InputContainer, tracks: dict[int, _Track]
    ) -> Iterator[tuple[_Track, Any]]:
        """The packets of the tracks, all on the clock that the video is on."""
        for track in tracks.values():
            track.clock, track.part, track.shift, track.joins = Clock(source), 0, Fraction(0), False
        for packet in read_packets(source, [source.streams[index] for index in tracks]):
            track = tracks[packet.stream.index]
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None:
                self._shift(packet, stamp * packet.time_base, track, tracks)
            if track.slowed is None and packet.time_base > _COARSE:
                _refine(packet)
            yield track, packet

    def _shift(self, packet: Any, time: Fraction, track: _Track, tracks: dict[int, _Track]) -> None:
        assert track.clock is not None
        track.clock.take(time)
        part = track.clock.part
        if track.source.type == "subtitle":
            # Packets so far apart may lie on either clock without a step back.
            others = (t.clock.part for t in tracks.values() if t.clock is not None)
            part = min(max(others), len(self._shifts) - 1)
        if part != track.part:
            alone = part >= len(self._shifts)
            track.shift = track.reached - time if alone else self._shifts[part]
            track.part, track.joins = part, True
        base = packet.time_base
        track.reached = time + track.shift + (packet.duration or 0) * base
        later = round(track.shift / base)
        packet.pts = None if packet.pts is None else packet.pts + later
        packet.dts = None if packet.dts is None else packet.dts + later

    def _in_order(self, placed: tuple[Fraction, Any], track: _Track) -> tuple[Fraction, Any]:
        """The packet, moved if it would be decoded before the one before it: no muxer takes that.

        What shares its time is left alone where the muxer allows it.
        """
        _, packet = placed
        if packet.dts is None and track.source.type == "video":
            return placed
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        alike = (
            track.source.type == "subtitle" or Flags(self._out.format.flags) & Flags.ts_nonstrict
        )
        if track.decoded is not None:
            least = track.decoded + (0 if alike else ceil(track.target.time_base / base))
            if stamp < least:
                track.moved += stamp < track.decoded
                stamp = least
                packet.dts, packet.pts = stamp, max(packet.pts, stamp)
        track.decoded = stamp
        return stamp * base, packet

    def _repeats(
        self, tracks: dict[int, _Track], until: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        """The audio again and again; packets follow one another closely, on the output's clock."""
        carry = self._carry
        begin, end = carry.span
        shift = end - begin
        while end > begin and begin + shift < until:
            with open_container(carry.info.path) as source:
                for track, packet in self._read(source, tracks):
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    if stamp is None or not begin <= stamp * packet.time_base < end:
                        continue
                    time = stamp * packet.time_base + shift
                    if time < until:
                        for placed in self._next_to(track, packet, time):
                            yield self._in_order(placed, track)
            shift += end - begin

    def _next_to(
        self, track: _Track, packet: Any, time: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        """The packet at ``time`` or right behind the one before; none if it overlaps that most."""
        base = packet.time_base
        lasts = (packet.duration or 0) * base
        begins = time - self._carry.origin
        if track.ends is not None:
            if track.ends - begins > lasts / 2:
                return
            if begins - track.ends < lasts:
                begins = track.ends
        ticks = round(begins / base)
        packet.pts = packet.dts = ticks
        packet.stream = track.target
        track.ends = begins + lasts
        yield ticks * base, packet

    @property
    def _first(self) -> Fraction:
        """Where the part begins, on the source's clock."""
        carry = self._carry
        return carry.origin if carry.start is None else max(carry.start, carry.origin)

    def _placed(self, packet: Any, track: _Track) -> tuple[Fraction, Any] | None:
        """The packet moved to the output's clock, None if it lies outside the span."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return None
        base = packet.time_base
        begin = stamp * base
        end = begin + (packet.duration or 0) * base
        if track.first is None:
            track.first = begin
        kept = self._kept(packet, track, begin, end)
        if kept is None:
            return None
        begin, end = kept
        track.started = True
        moved = max(begin - self._carry.origin, self._earliest(track))
        track.ends = moved + end - begin
        if track.convert is not None:
            made = track.convert.convert(packet, moved, end - begin)
            return None if made is None else (moved, made)
        shift = stamp - round(moved / base)
        packet.pts = stamp - shift
        if packet.dts is not None:
            packet.dts = min(packet.dts - shift, packet.pts)
        if track.source.type == "subtitle":
            packet.duration = round((end - begin) / base)
        packet.stream = track.target
        decoded = packet.dts if packet.dts is not None else packet.pts
        return decoded * base, packet

    def _kept(
        self, packet: Any, track: _Track, begin: Fraction, end: Fraction
    ) -> tuple[Fraction, Fraction] | None:
        """From when to when the packet is used, on the source's clock; None if it is not."""
        carry, first = self._carry, self._first
        limit = carry.end if carry.loop_until is None else carry.span[1]
        if limit is not None and begin >= limit:
            return None
        if track.source.type == "subtitle":
            if end <= first and begin < first:
                return None
            shown = max(begin, first)
            return shown, max(end if carry.end is None else min(end, carry.end), shown)
        if track.source.type != "audio":
            waits = not track.started and (begin < first or not packet.is_keyframe)
            return None if waits else (begin, end)
        if begin < first and not self._leads(begin, end, first):
            if carry.start is None:
                self._led = max(self._led, first - begin)
            return None
        if track.joins and track.ends is not None:
            # Each part brings samples for its decoder to start up on, or ends with some to spare.
            if track.ends - (begin - carry.origin) > (end - begin) / 2:
                return None
            track.joins = False
        return begin, end

    def _leads(self, begin: Fraction, end: Fraction, first: Fraction) -> bool:
        """Whether audio from before the first frame is kept: what a decoder needs to start up."""
        if self._container.muxer in ("mp4", "mov"):
            return end > first - _PREROLL
        # Matroska has no edit list to hide it, so after a cut it would be heard.
        return self._carry.start is None and begin >= first - _PRIMING

    def _earliest(self, track: _Track) -> Fraction:
        """The earliest time that a packet may get without moving all the others."""
        if self._container.muxer in ("mp4", "mov") or track.source.type != "audio":
            return Fraction(-1) if track.source.type == "audio" else _LONG_AGO
        # The muxer adds a codec's delay again; anything earlier would push the whole file back.
        # MP4 hides that delay in an edit list, which Matroska has none of.
        told = "matroska" in self._carry.info.container or _codec(track.source) == "opus"
        context = track.source.codec_context
        return -Fraction(int(context.delay), context.sample_rate) if told else Fraction(0)


def _refine(packet: Any) -> None:
    """Let the packet count in finer ticks; it stays where it is."""
    parts = ceil(packet.time_base / _FINE)
    times = (packet.pts, packet.dts, packet.duration)
    pts, dts, duration = (None if time is None else time * parts for time in times)
    packet.time_base /= parts
    packet.pts, packet.dts, packet.duration = pts, dts, duration


def _opened(carry: Carry) -> InputContainer | None:
    """The source once more, None where it is no file that could hold more than pictures."""
    info = carry.info
    if not info.path.is_file() or "image2" in info.container:
        return None
    try:
        return open_container(info.path)
    except InputError:
        # Animated WebP, which is read by other means.
        if info.streams:
            raise
        return None


def _first_packet(carry: Carry, index: int) -> Any:
    with open_container(carry.info.path) as source:
        return next(read_packets(source, source.streams[index]), None)


def _aac_config(packet: Any) -> bytes | None:
    """The AudioSpecificConfig of an AAC packet that brings its own ADTS header.

    Transport streams hold AAC that way, while Matroska on a pipe wants the configuration before
    the first packet. Layout: ISO/IEC 14496-3, 1.6.2.1 and 1.A.2.
    """
    head = bytes(packet)[:4] if packet is not None else b""
    if len(head) < 4 or int.from_bytes(head[:2], "big") & 0xFFF6 != 0xFFF0:
        return None
    profile, rate = head[2] >> 6, head[2] >> 2 & 15
    channels = (head[2] & 1) << 2 | head[3] >> 6
    return ((profile + 1) << 11 | rate << 7 | channels << 3).to_bytes(2, "big")


def _codec(stream: Any) -> str:
    context = stream.codec_context
    return str(context.name if context is not None else getattr(stream, "name", None) or "unknown")


def _is_chapter_text(stream: Any) -> bool:
    return "subtitle" in str(stream.metadata.get("handler_name", "")).lower()


def _named(stream: Any) -> str:
    parts = [f"{stream.type.capitalize()} stream {stream.index}"]
    title = stream.metadata.get("filename") or stream.metadata.get("title")
    details = [_codec(stream), stream.metadata.get("language"), title]
    said = ", ".join(str(part) for part in details if part and part != "und")
    return f"{parts[0]} ({said})" if said else parts[0]
