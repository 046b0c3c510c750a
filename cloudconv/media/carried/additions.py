"""Decide what becomes of each stream beside a video, and add the streams to an output.

One rule holds for every stream and every container. The first way that works is taken:

1. The stream is copied, if the container takes its header.
2. The stream is encoded again, if there is an encoder that the container takes. Text is
   converted to the container's own text, and sound without loss stays without loss.
3. The stream is left out, and a warning names it.

The settings only change the ways: slowed sound is never copied, sound that goes on after
the film is encoded first, and with `copies_only` no sound is encoded.
"""

from collections.abc import Collection
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition

from cloudconv.errors import OutputError
from cloudconv.events import Warnings
from cloudconv.media.carried.audio import (
    EncodedTrack,
    channels_of,
    choose_format,
    is_lossless,
    name_channels,
)
from cloudconv.media.carried.carry import Carry, fresh_tags, kept_chapters
from cloudconv.media.carried.continued import ContinuedAudio
from cloudconv.media.carried.tracks import (
    LONG_AGO,
    CarriedTrack,
    ConvertedText,
    CopiedAudio,
    CopiedSubtitles,
    CopiedTrack,
    OtherStreams,
)
from cloudconv.media.containers.containers import Container
from cloudconv.media.containers.muxing import (
    add_copy,
    codec_name,
    header_of,
    kind_of,
    label_of,
)
from cloudconv.media.containers.timecode import (
    timecode_at_rate,
    timecode_fault,
    timecode_of,
)
from cloudconv.media.reading.demux import is_made_anew
from cloudconv.messages import clock, plural
from cloudconv.timeline import EVEN

_TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
"""Codecs of text subtitles, which can be converted to one another."""
_STYLED = ("ass", "ssa", "webvtt")
"""Those that have places, styles and times inside of a text."""
_COPIED = {"audio": CopiedAudio, "subtitle": CopiedSubtitles}
_PNG_COVER = {"filename": "cover.png", "mimetype": "image/png"}
_JPEG_COVER = {"filename": "cover.jpg", "mimetype": "image/jpeg"}


class AddedStreams(OtherStreams):
    """The source's streams beside its video, on their way into an output container.

    The constructor opens the source a second time, and adds the streams and all tags to
    ``out``, whose header is not written yet. ``video`` is the output's own stream, of that
    ``rate``. ``seekable`` is whether the output can be written at any position. Raises
    OutputError if ``carry.copies_only`` is set and the container cannot store an audio
    stream.
    """

    def __init__(
        self,
        carry: Carry,
        out: OutputContainer,
        container: Container,
        video: Any,
        rate: Fraction | None,
        *,
        seekable: bool,
        warnings: Warnings,
    ) -> None:
        super().__init__(carry, out, container, warnings)
        self._seekable = seekable
        self._code: str | None = None  # a time code that FFmpeg does not read
        self._add_all()
        self._describe_video(video, rate)

    def _add_all(self) -> None:
        """Add all streams but the video, the tags of the file, and the chapters."""
        carry = self._carry
        self._out.metadata.update(
            fresh_tags(self._file.container.metadata, self._container)
        )
        timed = []
        for stream in self._file.container.streams:
            if stream.index == carry.info.video_index or self._reads_code(stream):
                continue
            if kind_of(stream) == "still":
                self._add_still(stream)
            elif not (is_made_anew(stream) or self._leaves_out(stream)):
                timed.append(stream)
        for stream in timed:  # after the others, so that warnings come in this order
            self._add_timed(stream)
        self._add_chapters()

    def _reads_code(self, stream: Any) -> bool:
        """Read a time code that FFmpeg does not read; return False for other streams.

        FFmpeg refuses drop-frame time codes at a rate that has none.
        """
        name = stream.metadata.get("handler_name", "").lower().replace(" ", "")
        rate = self._carry.info.timing.rate
        is_unread = stream.type == "data" and "timecode" not in stream.metadata
        if not (is_unread and "timecode" in name and stream.frames == 1) or rate is None:
            return False
        data = self._file.first_data(stream)
        if data is None or len(data) != 4:
            return False
        self._code = timecode_of(int.from_bytes(data, "big"), round(rate))
        self._warn(
            f"time-code-counts: The time code {self._code} is marked as drop-frame, which "
            "exists at 29.97 and 59.94 fps only: in the output every frame counts."
        )
        return True

    def _describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Copy the source video's tags and disposition to the output's video.

        A time code is converted to ``rate``, the output's frame rate. If the rate of the
        source or of the output is variable, the time code is left out.
        """
        source: Any = self._file.container.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._container)
        tags |= {} if self._code is None else {"timecode": self._code}
        stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.disposition | Disposition.default
        timing = self._carry.info.timing
        cut = self._carry.zero - timing.start
        fault = timecode_fault(timing.rate, rate, self._container)
        for tags in (stream.metadata, self._out.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                timecode = tags.pop(key)
                if fault or timing.rate is None or rate is None:
                    self._warn(f"time-code: The time code is left out: {fault}.")
                elif converted := timecode_at_rate(timecode, timing.rate, rate, cut):
                    tags["timecode"] = converted

    def _drop(self, code: str, stream: Any, why: str = "") -> None:
        why = why or f"FFmpeg cannot write it to {self._container.name}"
        self._warn(f"{code}: {label_of(stream)} is left out: {why}.")

    def _leaves_out(self, stream: Any) -> bool:
        """Return whether the settings leave a stream out, and add a warning about that."""
        carry = self._carry
        is_sound = stream.type == "audio"
        if is_sound and (carry.is_mute or carry.playlist is not None):
            return carry.is_mute
        is_text = codec_name(stream) in _TEXT
        if carry.shows is not None and not (carry.audio if is_sound else is_text):
            can_stretch = is_sound and carry.shows.fastest <= 1
            advice = "; --audio=stretch slows such a stream" if can_stretch else ""
            self._drop("old-speed", stream, f"it would play at the old speed{advice}")
        elif carry.shows is None and not carry.audio:
            why = "such streams do not continue with the new frames"
            self._drop("stream-not-continued", stream, why)
        else:
            return False
        return True

    def _add_still(self, stream: Any) -> None:
        """Add cover art or an attachment, which has no time."""
        attaches = self._container.attachments
        if stream.type == "attachment" and attaches:
            self._out.add_stream_from_template(stream)
        elif stream.type == "attachment" or not (
            attaches or (self._container.covers and self._takes(stream))
        ):
            self._drop("stream-refused", stream)
        elif (data := self._file.first_data(stream)) is None:
            return
        elif attaches:
            is_png = stream.codec_context.name == "png"
            tags = (_PNG_COVER if is_png else _JPEG_COVER) | stream.metadata
            self._out.add_attachment(tags["filename"], tags["mimetype"], data)
        else:
            packet = av.Packet(data)
            packet.stream = self._copy_of(stream)
            # MP4 with chapters has covers with a second flag, and the muxer writes those as
            # videos.
            packet.stream.disposition = Disposition.attached_pic
            packet.pts = packet.dts = 0
            self.covers.append((LONG_AGO, packet))

    def _add_timed(self, stream: Any) -> None:
        """Add a stream with packets in the first way that works, or name the stream."""
        carry = self._carry
        is_sound = stream.type == "audio"
        goes_on = is_sound and carry.playlist is not None
        is_new = goes_on or (is_sound and carry.shows is not None)
        track = self._encoded(stream) if is_new else self._copied(stream)
        if track is None and not is_new:
            if is_sound and carry.copies_only:
                raise OutputError(
                    f"sound-not-copied: FFmpeg cannot copy {label_of(stream)} to "
                    f"{self._container.name}: leave --audio=copy out, or choose another "
                    "container."
                )
            track = self._encoded(stream)
        elif track is None and goes_on and carry.audio:
            track = self._copied(stream)
        if track is None:
            why = "it cannot be decoded and encoded again" if is_sound else ""
            self._drop("stream-unreadable" if is_sound else "stream-refused", stream, why)
            return
        self.tracks[stream.index] = track
        codec = codec_name(track.target)
        if codec.startswith(self._container.seldom_heard):
            self._warn(
                f"seldom-heard: Few players read {codec} in {self._container.name}: for "
                f"{label_of(stream)}, a .mov or .mkv is better."
            )
        if carry.shows is not None and codec_name(stream) in _STYLED:
            self._warn(
                f"subtitles-old-speed: Subtitles with inner times keep their old speed: "
                f"{label_of(stream)} may have such times, as of karaoke."
            )

    def _copied(self, stream: Any) -> CarriedTrack | None:
        """Return a track of copied packets; None if the container does not take it."""
        carry = self._carry
        change = carry.change_of(stream.index)
        if not self._takes(stream) or not (change is None or carry.copies_only):
            return None
        if change is not None:
            self._warn_change(stream, change, "players may lose the sound from there")
        elif stream.type == "audio" and carry.playlist is not None:
            self._warn(
                f"sound-not-continued: {label_of(stream)} ends with the film, because "
                f"FFmpeg cannot decode it and encode it again for {self._container.name}."
            )
        kind = _COPIED.get(stream.type, CopiedTrack)
        about = carry, self.tracks.values(), self._container
        return kind(stream, self._copy_of(stream), *about, seekable=self._seekable)

    def _warn_change(self, stream: Any, change: Fraction, so: str) -> None:
        self._warn(
            f"sound-changes: The sampling rate or the channels of {label_of(stream)} "
            f"change at {clock(float(change))}, and {self._container.name} stores one "
            f"format for a track: {so}."
        )

    def _takes(self, stream: Any) -> bool:
        """Return whether the container takes copies of a stream, by its header."""
        # Other files than MP4 and MOV state no order of channels, but FFmpeg's own.
        if stream.type == "audio" and not self._container.orders_channels:
            order = channels_of(stream).order
            if list(order) != sorted(order):
                return False
        add = partial(add_copy, stream=stream, unlisted=self._container.unlisted)
        return header_of(self._container.muxer, add) is not None

    def _encoded(self, stream: Any) -> CarriedTrack | None:
        """Return a track in another codec; None if there is no encoder."""
        texts = self._container.subtitles
        if codec_name(stream) in _TEXT and texts:
            return self._converted(stream, texts)
        if stream.type != "audio":
            return None
        add = choose_format(stream, self._container)
        return add and self._sound(stream, add(self._out))

    def _converted(self, stream: Any, codec: str) -> CarriedTrack:
        """Return a track of text subtitles that become ``codec``."""
        target: Any = self._out.add_stream(codec)
        self._describe(stream, target)
        stream.codec_context.open(strict=False)
        # Encoders of text subtitles read their styles from this header.
        target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        is_styled = codec_name(stream) in _STYLED
        if is_styled:
            self._warn(
                f"subtitles-plain: FFmpeg cannot write {codec_name(stream)} subtitles to "
                f"{self._container.name}: {label_of(stream)} becomes {codec} and loses its "
                "styles."
            )
        about = self._carry, self.tracks.values(), self._container
        return ConvertedText(
            stream, target, *about, seekable=self._seekable, is_plain=is_styled
        )

    def _sound(self, stream: Any, target: Any) -> CarriedTrack:
        """Return a track of sound for an encoder, which is slowed or goes on."""
        carry = self._carry
        name = self._container.name
        after = target.codec_context
        codec = after.codec.canonical_name
        others: Collection[CarriedTrack] = self.tracks.values()
        if carry.shows is None and carry.playlist is not None:
            track: EncodedTrack = ContinuedAudio(
                stream, target, carry, others, carry.playlist
            )
            why = f"FFmpeg cannot encode {codec_name(stream)} for {name}"
            if not is_lossless(after.codec):
                carry.playlist.encoded.append(codec)
        else:
            track = EncodedTrack(stream, target, carry, others, carry.shows or EVEN)
            why = f"FFmpeg cannot copy it to {name}"
            change = carry.change_of(stream.index)
            if carry.shows is not None:
                why = "it is slowed down"
            elif change is not None:
                so = "the track is encoded again, in the format of its start"
                self._warn_change(stream, change, so)
        self._describe(stream, target)
        if codec != stream.codec_context.codec.canonical_name:
            self._warn(f"sound-encoded: {label_of(stream)} becomes {codec}, because {why}.")
        if after.layout.nb_channels != channels_of(stream).total:
            self._warn(
                f"sound-mixed-down: {label_of(stream)} is mixed down to "
                f"{after.layout.name}."
            )
        return track

    def _copy_of(self, stream: Any) -> Any:
        target = add_copy(self._out, stream, self._container.unlisted)
        if stream.type == "audio" and target.codec_context is not None:
            # Unlike Matroska, MP4 cannot store PCM with unnamed channels.
            name_channels(stream, target.codec_context)
        is_aac = codec_name(stream) == "aac" and not stream.codec_context.extradata
        if is_aac and not self._seekable and (data := self._file.first_data(stream)):
            # On a pipe the header must contain the decoder's configuration. In a file the
            # muxer adds the configuration at the end.
            convert = BitStreamFilterContext("aac_adtstoasc", stream).filter
            sides = chain.from_iterable(
                after.iter_sidedata() for after in convert(av.Packet(data))
            )
            new = (bytes(side) for side in sides if side.data_type == "new_extradata")
            target.codec_context.extradata = next(new, None)
        self._describe(stream, target)
        return target

    def _add_chapters(self) -> None:
        carry = self._carry
        chapters = self._file.container.chapters()
        if carry.shows is None and not carry.audio:
            if count := len(chapters):
                are = plural(count, "chapter is", "chapters are")
                self._warn(
                    f"chapters-not-continued: {count} {are} left out: chapters do not "
                    "continue with the new frames."
                )
            return
        stored, count = kept_chapters(chapters, carry)
        if count:
            are = plural(count, "chapter is", "chapters are")
            self._warn(
                f"chapters-overlap: {count} {are} left out, because others begin at the "
                "same time, and one is stored at a time."
            )
        if stored:
            self._out.set_chapters(stored)

    def _describe(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._container))
        target.disposition = stream.disposition
        if stream.type == "video":  # players show the new video, not a thumbnail
            target.disposition &= ~Disposition.default
