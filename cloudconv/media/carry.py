"""Everything the source file holds beside the video, taken along by stream copy."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from cloudconv.errors import InputError
from cloudconv.media.demux import open_container, read_packets
from cloudconv.media.probe import MediaInfo
from cloudconv.media.stretch import Stretcher, add_audio, choose_format
from cloudconv.media.subtitles import TEXT, SubtitleConverter
from cloudconv.media.target import Container
from cloudconv.media.timecode import timecode_at_rate

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
    at that end is for an output that begins with the repeat.
    """

    info: MediaInfo
    origin: Fraction
    start: Fraction | None = None
    end: Fraction | None = None
    audio: bool = True
    stretch: Fraction | None = None
    loop_until: Fraction | None = None

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


class Copier:
    """Copies the other streams of a second open of the source into an output container.

    Adds its streams when it is made, so make it before the header is written. ``until`` then
    copies what belongs before a time, so that the streams interleave as players read them.
    """

    def __init__(
        self, carry: Carry, out: OutputContainer, container: Container, *, seekable: bool = True
    ) -> None:
        self._seekable = seekable
        self.warnings: list[str] = []
        self._carry = carry
        self._container = container
        self._out = out
        self._tracks: dict[int, _Track] = {}
        self._covers: list[_Track] = []
        self._led = Fraction(0)
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
            self._add_slowed(stream, self._carry.stretch)
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
        else:
            self._drop(stream)

    def _add_slowed(self, stream: Any, factor: Fraction) -> None:
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
            self.warnings.append(f"{_named(stream)} becomes {codec} as it is slowed.")
        if after.layout.nb_channels != before.layout.nb_channels:
            self.warnings.append(f"{_named(stream)} is mixed down to {chosen.layout}.")

    def _copy_of(self, stream: Any) -> Any:
        target = _template(self._out, stream)
        if not self._seekable and _codec(stream) == "aac" and not stream.codec_context.extradata:
            # Into a file the muxer writes it afterwards, and only in the room for an absent one.
            target.codec_context.extradata = _aac_config(_first_packet(self._carry, stream.index))
        self._label(stream, target)
        return target

    def _label(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._container))
        target.disposition = stream.disposition

    def _accepts(self, stream: Any) -> bool:
        """Whether the container takes the stream; some refuse only when the header is written."""
        try:
            with av.open(io.BytesIO(), "w", format=self._container.muxer) as trial:
                _template(trial, stream)
                trial.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return False
        return True

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
        if kept:
            self._out.set_chapters(kept)

    def _all_packets(self, source: InputContainer) -> Iterator[tuple[Fraction, Any]]:
        """Every packet to write with its decode time, as they come; both on the output's clock."""
        for packet in read_packets(source, [t.source for t in self._tracks.values()]):
            track = self._tracks[packet.stream.index]
            if track.slowed is not None:
                for made in track.slowed.feed(packet):
                    yield made.dts * made.time_base, made
            else:
                placed = None if self._carry.only_repeats else self._placed(packet, track)
                if placed is not None:
                    yield placed
        for track in self._tracks.values():
            if track.slowed is not None:
                for made in track.slowed.finish():
                    yield made.dts * made.time_base, made
        audio = {k: t for k, t in self._tracks.items() if t.source.type == "audio"}
        if self._carry.loop_until is not None and audio:
            yield from self._repeats(audio, self._carry.loop_until)

    def _repeats(
        self, tracks: dict[int, _Track], until: Fraction
    ) -> Iterator[tuple[Fraction, Any]]:
        """The audio again and again; packets follow one another closely, on the output's clock."""
        carry = self._carry
        begin, end = carry.span
        shift = end - begin
        while end > begin and begin + shift < until:
            with open_container(carry.info.path) as source:
                for packet in read_packets(source, [source.streams[k] for k in tracks]):
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    if stamp is None or not begin <= stamp * packet.time_base < end:
                        continue
                    time = stamp * packet.time_base + shift
                    if time < until:
                        yield from self._next_to(tracks[packet.stream.index], packet, time)
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
        carry = self._carry
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return None
        base = packet.time_base
        begin = stamp * base
        end = begin + (packet.duration or 0) * base
        if track.first is None:
            track.first = begin
        kept = carry.end if carry.loop_until is None else carry.span[1]
        if kept is not None and begin >= kept:
            return None
        first = self._first
        if track.source.type == "subtitle":
            if end <= first and begin < first:
                return None
            shown = max(begin, first)
            begin, end = shown, max(end if carry.end is None else min(end, carry.end), shown)
        elif track.source.type == "audio":
            if begin < first and not self._leads(begin, end, first):
                if carry.start is None:
                    self._led = max(self._led, first - begin)
                return None
        elif not track.started and (begin < first or not packet.is_keyframe):
            return None
        track.started = True
        moved = max(begin - carry.origin, self._earliest(track))
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
        # A negative time comes from a codec delay, which the muxer subtracts again. Anything
        # earlier would push the whole file back.
        delay = "matroska" in self._carry.info.container or _codec(track.source) == "opus"
        return min(track.first or Fraction(0), Fraction(0)) if delay else Fraction(0)


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


def _template(out: OutputContainer, stream: Any) -> Any:
    # Without opaque, a video template looks for an encoder of its codec, which copying needs not.
    opaque = {"opaque": True} if stream.type == "video" else {}
    return out.add_stream_from_template(stream, **opaque)


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
