"""Add the streams beside a video to an output whose header is not written yet.

Each stream is copied, converted or encoded again, or a warning names the stream.
"""

from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

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
from cloudconv.media.carry import (
    Carry,
    add_copy,
    codec_name,
    fresh_tags,
    header_of,
    kept_chapters,
    one_at_a_time,
    with_titles,
)
from cloudconv.media.containers import Container
from cloudconv.media.continued import ContinuedAudio
from cloudconv.media.demux import is_made_anew, open_container, read_packets
from cloudconv.media.playlist import Playlist
from cloudconv.media.timecode import timecode_at_rate, timecode_fault, timecode_of
from cloudconv.media.tracks import (
    LONG_AGO,
    TEXT,
    CarriedTrack,
    ConvertedText,
    CopiedAudio,
    CopiedSubtitles,
    CopiedTrack,
    EncodedTrack,
    Parts,
    Timed,
)
from cloudconv.messages import clock, plural

NOT_COPIED = "sound-not-copied"


class Carried(NamedTuple):
    """A stream of the source that the output has too."""

    kind: str
    label: str
    target: Any  # None for a cover or an attachment


class StreamAdder:
    """The streams of a source on their way into the header of an output.

    ``carried`` are the streams that were added. Those with packets have a track in
    ``tracks``, by their number in the source; ``covers`` are the packets of cover art.
    ``seekable`` is whether the output can be written at any position.
    """

    def __init__(
        self,
        source: InputContainer,
        out: OutputContainer,
        carry: Carry,
        container: Container,
        warnings: list[Warned],
        *,
        seekable: bool,
    ) -> None:
        self.carried: list[Carried] = []
        self.tracks: dict[int, CarriedTrack] = {}
        self.covers: list[Timed] = []
        self._source = source
        self._out = out
        self._carry = carry
        self._container = container
        self._warnings = warnings
        self._seekable = seekable
        self._parts: list[Parts] = []
        self._code: str | None = None  # a time code that FFmpeg does not read

    def add_all(self) -> None:
        """Add all streams but the video, the tags of the file, and the chapters.

        Raises OutputError if ``carry.copies_only`` is set and the container cannot store an
        audio stream.
        """
        carry = self._carry
        self._out.metadata.update(fresh_tags(self._source.metadata, self._container))
        timed = []
        for stream in self._source.streams:
            if stream.index == carry.info.video_index or self._reads_code(stream):
                continue
            if len(carry.refused.get(stream.index, ())) > 1:
                self._drop("stream-refused", stream)
            elif kind_of(stream) == "still":
                self._add_still(stream)
            elif not (is_made_anew(stream) or self._leaves_out(stream)):
                timed.append(stream)
        for stream in timed:  # after the others, so that warnings come in this order
            self._add_timed(stream)
            track = self.tracks.get(stream.index)
            codec = "" if track is None else codec_name(track.target)
            if stream.type == "audio" and codec.startswith(self._container.seldom_heard):
                self._warn(
                    f"seldom-heard: Few players read {codec} in {self._container.name}: "
                    f"for {label_of(stream)}, a .mov or .mkv is better."
                )
        self._add_chapters()

    def _reads_code(self, stream: Any) -> bool:
        """Read a time code that FFmpeg does not read; return False for other streams.

        FFmpeg reads none with the mark of drop-frame at a rate where that does not exist.
        """
        name = stream.metadata.get("handler_name", "").lower().replace(" ", "")
        rate = self._carry.info.timing.rate
        is_unread = stream.type == "data" and "timecode" not in stream.metadata
        if not (is_unread and "timecode" in name and stream.frames == 1) or rate is None:
            return False
        packet = _first_packet(self._carry.info.path, stream.index)
        if packet is None or packet.size != 4:
            return False
        self._code = timecode_of(int.from_bytes(packet, "big"), round(rate))
        self._warn(
            f"time-code-counts: The time code {self._code} is marked as drop-frame, which "
            "exists at 29.97 and 59.94 fps only: in the output every frame counts."
        )
        return True

    def describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Copy the source video's tags and disposition to the output's video.

        A time code is converted to ``rate``, the output's frame rate. If the rate of the
        source or of the output is variable, the time code is left out.
        """
        source: Any = self._source.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._container)
        tags |= {} if self._code is None else {"timecode": self._code}
        stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.disposition | Disposition.default
        self.carried.insert(0, Carried("video", label_of(source), stream))
        timing = self._carry.info.timing
        cut = self._carry.origin - timing.start
        fault = timecode_fault(timing.rate, rate, self._container)
        for tags in (stream.metadata, self._out.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                timecode = tags.pop(key)
                if fault or timing.rate is None or rate is None:
                    self._warn(f"time-code: The time code is left out: {fault}.")
                elif converted := timecode_at_rate(timecode, timing.rate, rate, cut):
                    tags["timecode"] = converted

    def _warn(self, message: str) -> None:
        self._warnings.append(Warned(message))

    def _drop(self, code: str, stream: Any, why: str = "") -> None:
        if not why:
            why = f"FFmpeg cannot write it to {self._container.name}"
            reasons = self._carry.refused.get(stream.index, ())
            if reasons and reasons[-1]:
                why += f" ({reasons[-1]})"
        self._warn(f"{code}: {label_of(stream)} is left out: {why}.")

    def _leaves_out(self, stream: Any) -> bool:
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

    def _add_track(self, stream: Any, track: CarriedTrack) -> None:
        self.tracks[stream.index] = track
        self.carried.append(Carried(kind_of(stream), label_of(stream), track.target))

    def _parts_of(self, stream: Any) -> Parts:
        return Parts(stream, self._carry.info.timing.restarts, self._parts)

    def _add_copied(self, stream: Any) -> None:
        common = stream, self._copy_of(stream), self._parts_of(stream), self._carry
        track: CarriedTrack
        if stream.type == "audio":
            track = CopiedAudio(*common, self._container, seekable=self._seekable)
        elif stream.type == "subtitle":
            track = CopiedSubtitles(*common)
        else:
            track = CopiedTrack(*common)
        self._add_track(stream, track)

    def _add_still(self, stream: Any) -> None:
        """Add cover art or an attachment, which has no time."""
        attaches = self._container.attachments
        if stream.type == "attachment" and attaches:
            self._out.add_stream_from_template(stream)
        elif stream.type == "attachment" or not (attaches or self._accepts(stream)):
            self._drop("stream-refused", stream)
            return
        elif (packet := _first_packet(self._carry.info.path, stream.index)) is None:
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
            self.covers.append((LONG_AGO, packet))
        self.carried.append(Carried("still", label_of(stream), None))

    def _add_timed(self, stream: Any) -> None:
        codec = codec_name(stream)
        carry = self._carry
        container = self._container
        if stream.type == "audio" and carry.slowdown is not None:
            self._add_encoded(stream, carry.slowdown)
        elif stream.type == "audio" and carry.playlist is not None:
            self._add_continued(stream, carry.playlist)
        elif self._accepts(stream):
            self._add_copied(stream)
        elif stream.type == "subtitle" and codec in TEXT and container.subtitles:
            self._add_converted(stream, container.subtitles)
        elif stream.type == "audio" and carry.copies_only:
            mkv = header_of("matroska", lambda out: add_copy(out, stream))
            raise OutputError(
                f"{NOT_COPIED}: FFmpeg cannot copy {label_of(stream)} to {container.name}: "
                f"leave --audio=copy out{', or write an .mkv' if mkv else ''}."
            )
        elif stream.type == "audio":
            self._add_encoded(stream, Fraction(1))
        else:
            self._drop("stream-refused", stream)

    def _add_converted(self, stream: Any, codec: str) -> None:
        """Add text subtitles that become ``codec``."""
        target: Any = self._out.add_stream(codec)
        self._describe(stream, target)
        stream.codec_context.open(strict=False)
        # Encoders of text subtitles read their styles from this header.
        target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        text = ConvertedText(stream, target, self._parts_of(stream), self._carry)
        self._add_track(stream, text)
        if codec_name(stream) in ("ass", "ssa"):
            self._warn(
                f"subtitles-plain: FFmpeg cannot write {codec_name(stream)} subtitles to "
                f"{self._container.name}: {label_of(stream)} becomes {codec} and loses its "
                "styles."
            )

    def _add_encoded(self, stream: Any, factor: Fraction) -> None:
        """Add slowed audio, or with ``factor`` 1 audio in another codec."""
        add = choose_format(stream, self._container.muxer)
        if add is None:
            self._drop(
                "stream-unreadable", stream, "it cannot be decoded and encoded again"
            )
            return
        target = add(self._out)
        name = self._container.name
        if (change := self._carry.changes.get(stream.index)) is not None:
            self._warn(
                f"sound-changes: The sampling rate or the channels of {label_of(stream)} "
                f"change at {clock(float(change))}, and {name} stores one format for a "
                "track: the track is encoded again, in the format of its start."
            )
        why = f"FFmpeg cannot copy it to {name}" if factor == 1 else "it is slowed down"
        self._encode(stream, target, AudioEncoder(stream, target, factor, self._carry), why)

    def _add_continued(self, stream: Any, playlist: Playlist) -> None:
        """Add audio that goes on after the film.

        Copy audio that cannot be encoded again.
        """
        add = choose_format(stream, self._container.muxer)
        name = self._container.name
        if add is not None:
            target = add(self._out)
            encoder = ContinuedAudio(stream, target, self._carry, playlist)
            why = f"FFmpeg cannot encode {codec_name(stream)} for {name}"
            self._encode(stream, target, encoder, why)
            if not is_lossless(target.codec_context.name):
                playlist.encoded.append(target.codec_context.codec.canonical_name)
        elif self._carry.audio and self._accepts(stream):
            self._add_copied(stream)
            self._warn(
                f"sound-not-continued: {label_of(stream)} ends with the film, because "
                f"FFmpeg cannot decode it and encode it again for {name}."
            )
        else:
            self._drop(
                "stream-unreadable", stream, "it cannot be decoded and encoded again"
            )

    def _encode(self, stream: Any, target: Any, encoder: AudioEncoder, why: str) -> None:
        """Add a track that is encoded again; ``why`` is the reason for another codec."""
        self._describe(stream, target)
        track = EncodedTrack(stream, target, self._parts_of(stream), encoder)
        self._add_track(stream, track)
        after = target.codec_context
        codec = after.codec.canonical_name
        if codec != stream.codec_context.codec.canonical_name:
            self._warn(f"sound-encoded: {label_of(stream)} becomes {codec}, because {why}.")
        if after.layout.nb_channels != channels_of(stream).total:
            self._warn(
                f"sound-mixed-down: {label_of(stream)} is mixed down to "
                f"{after.layout.name}."
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
            packet = _first_packet(self._carry.info.path, stream.index)
            filtered = BitStreamFilterContext("aac_adtstoasc", stream).filter(packet)
            sides = chain.from_iterable(after.iter_sidedata() for after in filtered)
            new = (bytes(side) for side in sides if side.data_type == "new_extradata")
            target.codec_context.extradata = next(new, None)
        self._describe(stream, target)
        return target

    def _describe(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._container))
        target.disposition = stream.disposition
        if stream.type == "video":  # players show the new video, not a thumbnail
            target.disposition &= ~Disposition.default

    def _accepts(self, stream: Any) -> bool:
        if stream.index in self._carry.refused or stream.index in self._carry.changes:
            return False
        # Other files than MP4 and MOV state no order of channels.
        if (
            stream.type == "audio"
            and not self._container.is_mp4
            and channels_of(stream).is_reordered
        ):
            return False
        return (
            header_of(self._container.muxer, lambda out: add_copy(out, stream)) is not None
        )

    def _add_chapters(self) -> None:
        carry = self._carry
        ends = carry.slowdown is None and not carry.audio
        if ends and (count := len(self._source.chapters())):
            are = plural(count, "chapter is", "chapters are")
            self._warn(
                f"chapters-not-continued: {count} {are} left out: chapters do not continue "
                "with the new frames."
            )
            return
        kept = kept_chapters(self._source.chapters(), carry)
        if self._container.is_mp4:
            distinct = one_at_a_time(kept)
            if count := len(kept) - len(distinct):
                are = plural(count, "chapter is", "chapters are")
                self._warn(
                    f"chapters-overlap: {count} {are} left out, because others begin at "
                    f"the same time, and {self._container.name} stores one at a time: "
                    "write .mkv to keep all of them."
                )
            kept = with_titles(distinct)
        if kept:
            self._out.set_chapters(kept)


def _first_packet(path: Path, index: int) -> Any:
    with open_container(path) as source:
        return next(read_packets(source, source.streams[index]), None)


def kind_of(stream: Any) -> str:
    """Return the kind of a stream: ``still`` for a cover or an attachment, or its type."""
    is_still = stream.type == "attachment" or stream.disposition & Disposition.attached_pic
    return "still" if is_still else str(stream.type)


def label_of(stream: Any) -> str:
    """Return the words for a stream in a warning."""
    title = stream.metadata.get("filename") or stream.metadata.get("title")
    details = [codec_name(stream), stream.metadata.get("language"), title]
    different = dict.fromkeys(details)  # a font's codec is its file's name
    words = ", ".join(str(detail) for detail in different if detail and detail != "und")
    return f"{stream.type.capitalize()} stream {stream.index}" + (
        f" ({words})" if words else ""
    )
