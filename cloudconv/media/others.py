"""Carry the streams beside the video over: copied, converted, encoded again or named.

Before the output's header is written, each stream is added or named in a warning
(`_add_streams`). While the video is written, packets follow as soon as the video has
reached their time (`until`).
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.audio import (
    AudioEncoder,
    channels_of,
    choose_format,
    is_lossless,
    name_channels,
)
from cloudconv.media.carry import Carry, add_copy, codec_name, fresh_tags, header_of
from cloudconv.media.containers import Container
from cloudconv.media.continued import ContinuedAudio
from cloudconv.media.demux import is_made_anew, only, open_container, read_packets
from cloudconv.media.playlist import Playlist
from cloudconv.media.tracks import LONG_AGO, PRIMING, TEXT, CarriedStream, Parts
from cloudconv.messages import clock, counted, plural

NOT_COPIED = "sound-not-copied"
_TIMECODE = re.compile(r"(\d+):(\d\d):(\d\d)([:;.])(\d+)")
_FASTEST_TIMECODE = 255  # frames per second, which MP4 and MOV store in a byte
_NOT_YET = (LONG_AGO, None)  # in the place of a packet that is not known yet
_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))


class OtherStreams:
    """The source's streams beside its video, on their way into an output container.

    The constructor opens the source a second time, and adds the streams to ``out``, whose
    header is not written yet. ``seekable`` is whether the output can be written at any
    position. Raises OutputError if ``carry.copies_only`` is set and the container cannot
    store an audio stream.
    """

    def __init__(
        self, carry: Carry, out: OutputContainer, container: Container, *, seekable: bool
    ) -> None:
        self.warnings: list[Warned] = []
        self._seekable = seekable
        self._carry = carry
        self._kind = container
        self._out = out
        self._tracks: dict[int, CarriedStream] = {}  # by their index in the source
        self._parts: list[Parts] = []
        # Kind, label, and stream in the output; the last is None for a cover or an
        # attachment.
        self._carried: list[tuple[str, str, Any]] = []
        self._covers: list[tuple[Fraction, Any]] = []
        # Several pictures and animated WebP have no other streams.
        is_container = carry.info.path.is_file() and carry.info.container != "webp"
        self._input = open_container(carry.info.path) if is_container else None
        self._queue: Iterator[tuple[Fraction, Any]] = iter(())
        self._pending: tuple[Fraction, Any] | None = None
        self._only_copies = False
        if self._input is not None:
            self._add_streams(self._input)

    def describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Copy the source video's tags and disposition to the output's video.

        A time code is converted to ``rate``, the output's frame rate. If the rate of the
        source or of the output is variable, the time code is left out.
        """
        if self._input is None:
            return
        source: Any = self._input.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._kind)
        stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.disposition | Disposition.default
        self._carried.insert(0, ("video", _label(source), stream))
        timing = self._carry.info.timing
        cut = self._carry.origin - timing.start
        for tags in (stream.metadata, self._out.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                value = tags.pop(key)
                if rate is None or timing.rate is None or min(rate, timing.rate) < 1:
                    is_source = timing.rate is None or timing.rate < 1
                    unfit = timing.rate if is_source else rate
                    whose = "source" if is_source else "output"
                    fault = "varies" if unfit is None else "is below 1"
                    self._warn(
                        "time-code: The time code is left out: the frame rate of the "
                        f"{whose} {fault}."
                    )
                elif self._kind.is_mp4 and round(rate) > _FASTEST_TIMECODE:
                    self._warn(
                        f"time-code: The time code is left out: {self._kind.name} stores "
                        f"none above {_FASTEST_TIMECODE} fps."
                    )
                elif moved := timecode_at_rate(value, timing.rate, rate, cut):
                    tags["timecode"] = moved

    @property
    def delays(self) -> list[Fraction]:
        """Return the delays in seconds that the file must state, one per audio track."""
        tracks = sorted(self._tracks.values(), key=lambda track: track.target.index)
        return [track.delay for track in tracks if track.target.type == "audio"]

    def write_copies(self) -> None:
        """Write the packets of all copied streams, and none of those encoded again."""
        self._only_copies = True
        self.until(None)

    def until(self, time: Fraction | None) -> None:
        """Write every packet at or before ``time`` on the output's clock; all with None."""
        while True:
            self._pending = self._pending or next(self._queue, None)
            if self._pending is _NOT_YET:
                self._pending = None
                return
            if self._pending is None or (time is not None and self._pending[0] > time):
                return
            self._out.mux(self._pending[1])
            self._pending = None

    def compare(self, path: Path) -> None:
        """Add warnings about streams, languages and flags that the finished file lacks."""
        name = self._kind.name
        empty = [track.target for track in self._tracks.values() if track.is_empty]
        with av.open(f"file:{path}") as output:
            streams = [stream for stream in output.streams if not is_made_anew(stream)]
            for media_kind in dict.fromkeys(kind for kind, *_ in self._carried):
                streams_of_kind = [
                    stream for stream in streams if _kind(stream) == media_kind
                ]
                carried = [entry for entry in self._carried if entry[0] == media_kind]
                # Some muxers store no stream without packets; such a stream is the missing
                # one.
                for entry in sorted(carried, key=lambda entry: entry[2] in empty)[
                    len(streams_of_kind) :
                ]:
                    carried.remove(entry)
                    kind = "stream without packets" if entry[2] in empty else "such stream"
                    self._warn(
                        f"stream-lost: {entry[1]} is left out: FFmpeg stores no {kind} in "
                        f"{name}."
                    )
                for (_, label, before), stream in zip(
                    carried, streams_of_kind, strict=False
                ):
                    if before is not None and (lost := _lost_marks(before, stream)):
                        self._warn(
                            f"marks-lost: FFmpeg stores no {lost} of {label} in {name}."
                        )

    def close(self) -> None:
        """Close the source.

        Add warnings about damaged, moved and left-out audio and packets.
        """
        leads = [Fraction(0)]
        for track in self._tracks.values():
            label = _label(track.source)
            encoder = track.encoder
            leads.append(track.led)
            if encoder is not None and self._carry.start is None:
                leads.append(encoder.led)
            if self._only_copies:
                continue  # a trial decodes nothing
            if encoder is not None and encoder.lost:
                self._warn(
                    f"sound-damaged: {label} is damaged: {encoder.lost} of its packets "
                    "could not be decoded, and silence is in their place."
                )
            if isinstance(encoder, ContinuedAudio) and encoder.is_silent:
                self._warn(
                    f"sound-too-short: {label} is too short to go on with the new frames, "
                    "and is silent there."
                )
            if bad := track.unreadable:
                texts = counted(bad, "text")
                are = plural(bad, "is", "are")
                self._warn(
                    f"subtitles-damaged: {texts} of {label} {are} damaged and left out."
                )
            if track.styled:
                self._warn(
                    f"subtitles-plain: {label} becomes {codec_name(track.target)}, in "
                    "which FFmpeg writes no positions, colours or fonts: "
                    f"{counted(track.styled, 'text')} "
                    f"{plural(track.styled, 'loses', 'lose')} them."
                )
            if track.changes is not None:
                self._warn(
                    f"sound-changes: The sampling rate or the channels of {label} change "
                    f"at {clock(float(track.changes))}, and {self._kind.name} stores one "
                    "format for a track: players may lose the sound from there. Encode the "
                    "sound first: 'ffmpeg -i IN -map 0 -c copy -c:a aac OUT.mkv'."
                )
            if moved := track.moved:
                self._warn(
                    f"clock-steps-back: The time stamps of {label} step back: {moved} of "
                    "its packets are moved to later times."
                )
        if (led := max(leads)) > PRIMING:
            self._warn(
                f"early-sound: {float(led):.3f} s of audio from before the first video "
                "frame are left out."
            )
        if self._input is not None:
            self._input.close()

    def _warn(self, message: str) -> None:
        self.warnings.append(Warned(message))

    def _refusal(self, stream: Any) -> str:
        reason = "".join(self._carry.refused.get(stream.index, ())[-1:])
        return f"FFmpeg cannot write it to {self._kind.name}" + (
            f" ({reason})" if reason else ""
        )

    def _drop(self, code: str, stream: Any, why: str = "") -> None:
        self._warn(f"{code}: {_label(stream)} is left out: {why or self._refusal(stream)}.")

    def _add_streams(self, source: InputContainer) -> None:
        self._out.metadata.update(fresh_tags(source.metadata, self._kind))
        others = [s for s in source.streams if s.index != self._carry.info.video_index]
        timed = []
        for stream in others:
            if len(self._carry.refused.get(stream.index, ())) > 1:
                self._drop("stream-refused", stream)
            elif _kind(stream) == "still":
                self._add_still(stream)
            elif not (is_made_anew(stream) or self._drops(stream)):
                timed.append(stream)
        for stream in timed:  # after the others, so that warnings come in this order
            self._add_timed(stream)
            track = self._tracks.get(stream.index)
            codec = "" if track is None else codec_name(track.target)
            if stream.type == "audio" and codec.startswith(self._kind.seldom_heard):
                self._warn(
                    f"seldom-heard: Few players read {codec} in {self._kind.name}: for "
                    f"{_label(stream)}, a .mov or .mkv is better."
                )
        packets = self._packets(source) if self._tracks else ()
        self._queue = chain(self._covers, packets)
        self._add_chapters(source)

    def _drops(self, stream: Any) -> bool:
        """Return whether the settings leave a stream out, and add a warning about that."""
        carry = self._carry
        is_sound = stream.type == "audio"
        if is_sound and carry.is_mute:
            return True
        if is_sound and carry.playlist is not None:
            return False
        is_text = stream.type == "subtitle" and codec_name(stream) in TEXT
        if carry.slowdown is not None and not (carry.audio if is_sound else is_text):
            advice = "; --audio=stretch slows such a stream" if is_sound else ""
            self._drop("old-speed", stream, f"it would play at the old speed{advice}")
        elif carry.slowdown is None and not carry.audio:
            why = "such streams do not continue with the new frames"
            self._drop("stream-not-continued", stream, why)
        else:
            return False
        return True

    def _packets(self, source: InputContainer) -> Iterator[tuple[Fraction, Any]]:
        skips = self._only_copies
        tracks = {k: t for k, t in self._tracks.items() if t.encoder is None or not skips}
        if not tracks:
            return
        only(source, tracks)
        for packet in read_packets(source, [source.streams[index] for index in tracks]):
            yield from tracks[packet.stream.index].packets(packet)
        playlist = self._carry.playlist
        while playlist is not None and not playlist.is_complete:
            for track in tracks.values():
                yield from track.continued()
            yield _NOT_YET
        for track in tracks.values():
            yield from track.packets(None)

    def _add_track(self, stream: Any, target: Any, **kind: Any) -> None:
        carried = self._carry, self._kind, self._parts
        track = CarriedStream(stream, target, *carried, seekable=self._seekable, **kind)
        self._tracks[stream.index] = track
        self._carried.append((_kind(stream), _label(stream), target))

    def _add_still(self, stream: Any) -> None:
        """Add cover art or an attachment, which has no time and nothing to interleave."""
        attaches = self._kind.attachments
        if stream.type == "attachment" and attaches:
            self._out.add_stream_from_template(stream)
        elif stream.type == "attachment" or not (attaches or self._accepts(stream)):
            self._drop("stream-refused", stream)
            return
        elif (packet := self._first_packet(stream)) is None:
            return
        elif attaches:
            is_png = stream.codec_context.name == "png"
            name = stream.metadata.get("filename", "cover.png" if is_png else "cover.jpg")
            mime = stream.metadata.get("mimetype", "image/png" if is_png else "image/jpeg")
            self._out.add_attachment(name, mime, bytes(packet))
        else:
            packet.stream = self._copy_of(stream)
            # MP4 with chapters has covers with a second flag, and the muxer writes those as
            # videos.
            packet.stream.disposition = Disposition.attached_pic
            packet.pts = packet.dts = 0
            self._covers.append((LONG_AGO, packet))
        self._carried.append((_kind(stream), _label(stream), None))

    def _add_timed(self, stream: Any) -> None:
        codec = codec_name(stream)
        carry = self._carry
        kind = self._kind
        if stream.type == "audio" and carry.slowdown is not None:
            self._add_encoded(stream, carry.slowdown)
        elif stream.type == "audio" and carry.playlist is not None:
            self._add_continued(stream, carry.playlist)
        elif self._accepts(stream):
            self._add_track(stream, self._copy_of(stream))
        elif stream.type == "subtitle" and codec in TEXT and kind.subtitles:
            target: Any = self._out.add_stream(kind.subtitles)
            self._describe(stream, target)
            stream.codec_context.open(strict=False)
            # Encoders of text subtitles read their styles from this header.
            target.codec_context.subtitle_header = stream.codec_context.subtitle_header
            self._add_track(stream, target, converts=True)
            if codec in ("ass", "ssa"):
                self._warn(
                    f"subtitles-plain: FFmpeg cannot write {codec} subtitles to "
                    f"{kind.name}: {_label(stream)} becomes {kind.subtitles} and loses its "
                    "styles."
                )
        elif stream.type == "audio" and carry.copies_only:
            mkv = header_of("matroska", lambda out: add_copy(out, stream))
            raise OutputError(
                f"{NOT_COPIED}: FFmpeg cannot copy {_label(stream)} to {kind.name}: leave "
                f"--audio=copy out{', or write an .mkv' if mkv else ''}."
            )
        elif stream.type == "audio":
            self._add_encoded(stream, Fraction(1))
        else:
            self._drop("stream-refused", stream)

    def _add_encoded(self, stream: Any, factor: Fraction) -> None:
        """Add slowed audio, or audio in a codec that the container lacks (``factor`` 1)."""
        add = choose_format(stream, self._kind.muxer)
        if add is None:
            self._drop(
                "stream-unreadable", stream, "it cannot be decoded and encoded again"
            )
            return
        target = add(self._out)
        name = self._kind.name
        why = f"FFmpeg cannot copy it to {name}" if factor == 1 else "it is slowed down"
        self._encode(stream, target, AudioEncoder(stream, target, factor, self._carry), why)

    def _add_continued(self, stream: Any, playlist: Playlist) -> None:
        """Add audio that goes on after the film.

        Copy audio that cannot be encoded again.
        """
        add = choose_format(stream, self._kind.muxer)
        name = self._kind.name
        if add is not None:
            target = add(self._out)
            encoder = ContinuedAudio(stream, target, self._carry, playlist)
            why = f"FFmpeg cannot encode {codec_name(stream)} for {name}"
            self._encode(stream, target, encoder, why)
            if not is_lossless(target.codec_context.name):
                playlist.encoded.append(target.codec_context.codec.canonical_name)
        elif self._carry.audio and self._accepts(stream):
            self._add_track(stream, self._copy_of(stream))
            self._warn(
                f"sound-not-continued: {_label(stream)} ends with the film, because FFmpeg "
                f"cannot decode it and encode it again for {name}."
            )
        else:
            self._drop(
                "stream-unreadable", stream, "it cannot be decoded and encoded again"
            )

    def _encode(self, stream: Any, target: Any, encoder: AudioEncoder, why: str) -> None:
        """Add a track that is encoded again; ``why`` is the reason for another codec."""
        self._describe(stream, target)
        self._add_track(stream, target, encoder=encoder)
        after = target.codec_context
        codec = after.codec.canonical_name
        if codec != stream.codec_context.codec.canonical_name:
            self._warn(f"sound-encoded: {_label(stream)} becomes {codec}, because {why}.")
        if after.layout.nb_channels != channels_of(stream).total:
            self._warn(
                f"sound-mixed-down: {_label(stream)} is mixed down to {after.layout.name}."
            )

    def _copy_of(self, stream: Any) -> Any:
        target = add_copy(self._out, stream)
        if stream.type == "audio" and target.codec_context is not None:
            # Unlike Matroska, MP4 cannot store PCM with unnamed channels.
            name_channels(stream, target.codec_context)
        is_aac = codec_name(stream) == "aac" and not stream.codec_context.extradata
        if is_aac and not self._seekable:
            # On a pipe the header must contain the decoder's configuration. In a file the
            # muxer adds the configuration at the end.
            packet = self._first_packet(stream)
            packets = BitStreamFilterContext("aac_adtstoasc", stream).filter(packet)
            sides = chain.from_iterable(filtered.iter_sidedata() for filtered in packets)
            new = (bytes(side) for side in sides if side.data_type == "new_extradata")
            target.codec_context.extradata = next(new, None)
        self._describe(stream, target)
        return target

    def _describe(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._kind))
        target.disposition = stream.disposition
        if stream.type == "video":  # players show the new video, not a thumbnail
            target.disposition &= ~Disposition.default

    def _accepts(self, stream: Any) -> bool:
        if stream.index in self._carry.refused:
            return False
        # Other files than MP4 and MOV state no order of channels.
        if (
            stream.type == "audio"
            and not self._kind.is_mp4
            and channels_of(stream).is_reordered
        ):
            return False
        return header_of(self._kind.muxer, lambda out: add_copy(out, stream)) is not None

    def _first_packet(self, stream: Any) -> Any:
        with open_container(self._carry.info.path) as source:
            return next(read_packets(source, source.streams[stream.index]), None)

    def _add_chapters(self, source: InputContainer) -> None:
        kept: list[Any] = []
        carry = self._carry
        factor = self._carry.slowdown or Fraction(1)
        ends = carry.slowdown is None and not carry.audio
        if ends and (count := len(source.chapters())):
            are = plural(count, "chapter is", "chapters are")
            self._warn(
                f"chapters-not-continued: {count} {are} left out: chapters do not continue "
                "with the new frames."
            )
            return
        for chapter in source.chapters():
            base = Fraction(chapter["time_base"] or Fraction(1, 1000))
            start = chapter["start"] * base
            end = chapter["end"] * base
            start = max(start, carry.start or start, carry.origin)
            end = end if carry.end is None else min(end, carry.end)
            if start < end:
                ticks = [
                    round((t - carry.origin) * factor * 1_000_000) for t in (start, end)
                ]
                moved = {
                    "start": ticks[0],
                    "end": ticks[1],
                    "time_base": Fraction(1, 1_000_000),
                }
                kept.append({**chapter, **moved})
        if kept:
            self._out.set_chapters(kept)


def _kind(stream: Any) -> str:
    is_still = stream.type == "attachment" or stream.disposition & Disposition.attached_pic
    return "still" if is_still else str(stream.type)


def _lost_marks(before: Any, after: Any) -> str:
    """Return the words for a stream's language and flags that the finished file lacks."""
    language = before.metadata.get("language", "und")
    is_lost = language != "und" and after.metadata.get("language", "und") == "und"
    kept = after.disposition | Disposition.default | Disposition.attached_pic
    names = [mark.name for mark in Disposition if mark in before.disposition & ~kept]
    marks = [f'language "{language}"'] * is_lost + [f'flag "{name}"' for name in names]
    return " and no ".join(marks).replace("_", " ")


def _label(stream: Any) -> str:
    title = stream.metadata.get("filename") or stream.metadata.get("title")
    details = [codec_name(stream), stream.metadata.get("language"), title]
    words = ", ".join(str(detail) for detail in details if detail and detail != "und")
    return f"{stream.type.capitalize()} stream {stream.index}" + (
        f" ({words})" if words else ""
    )


def timecode_at_rate(
    timecode: str, source: Fraction, rate: Fraction, cut: Fraction
) -> str | None:
    """Return the time code ``cut`` seconds later, from rate ``source`` to ``rate``.

    The result is None if the text is no time code. Drop-frame codes exist at two rates
    only; at other rates the result counts every frame. Method: SMPTE ST 12-1.
    """
    parts = _TIMECODE.fullmatch(timecode.strip())
    if parts is None:
        return None
    hours, minutes, seconds, frames = (int(parts[k]) for k in (1, 2, 3, 5))
    minutes += hours * 60
    number = (minutes * 60 + seconds) * round(source) + frames
    drops = parts[4] != ":"
    nominal = round(rate)
    if drops:
        number -= _dropped(minutes, round(source))
    number = result = int((number / source + cut) * rate)
    drops = drops and rate in _DROP_RATES
    for _ in range(4 if drops else 0):  # skipped numbers may reach the next minute
        result = number + _dropped(result // (nominal * 60), nominal)
    seconds, frames = divmod(result, nominal)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{':;'[drops]}{frames:02d}"


def _dropped(minutes: int, nominal: int) -> int:
    """Return how many numbers drop-frame codes skip in the first ``minutes``."""
    return (minutes - minutes // 10) * nominal // 15
