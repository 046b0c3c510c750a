"""Decide what becomes of each stream beside a video, and merge the streams by time.

One rule holds for every stream and every container (`decide`). The first way that works is
taken:

1. The stream is copied, if the container takes its header.
2. The stream is encoded again, if there is an encoder that the container takes. Text is
   converted to the container's own text, and sound without loss stays without loss.
3. The stream is left out, and a warning names it.

The settings only change the ways: slowed sound is never copied, sound that goes on after
the film is encoded first, and with `copies_only` no sound is encoded.

`OtherStreams` adds the streams to an output, and yields their packets until a time, in the
order of the file. FFmpeg's muxer sorts them by decode time. A merge by the next packet of
each stream would have to read up to that packet, which may be far away or not known yet: a
subtitle at the end, or the sound of a dream that is being made.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.stream import Disposition

from cloudconv.errors import OutputError
from cloudconv.events import Warned, Warnings
from cloudconv.media.carried.audio import (
    ContinuedAudio,
    EncodedTrack,
    channels_of,
    encoders_of,
    is_lossless,
    name_channels,
)
from cloudconv.media.carried.carry import Carry, fresh_tags, kept_chapters
from cloudconv.media.carried.tracks import (
    PRIMING,
    BesideFile,
    ConvertedText,
    CopiedTrack,
    Timed,
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
)
from cloudconv.media.reading.demux import is_made_anew
from cloudconv.messages import clock, plural
from cloudconv.timeline import EVEN

_TEXT = {"subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"}
"""Codecs of text subtitles, which can be converted to one another."""
_STYLED = ("ass", "ssa", "webvtt")
"""Those that have places, styles and times inside of a text."""
_LONG_AGO = Fraction(-(10**9))  # a time in seconds before that of every packet
_NOTHING: Timed = (_LONG_AGO, None)  # in the place of a packet that is not known yet

Track = CopiedTrack | EncodedTrack
Add = Callable[[OutputContainer], Any]
"""A function that adds a stream to an output without a header."""


class Way(NamedTuple):
    """A way of a stream: "copy", "encode", "attach", or "leave" for one that is left out.

    ``add`` adds the stream to an output without a header. ``why`` is the reason of sound
    that is encoded again, or the warning for a stream that is left out, empty if nobody
    misses it.
    """

    how: str
    add: Add | None = None
    why: str = ""


def decide(stream: Any, container: Container, carry: Carry) -> Way:
    """Return the first way that works, by the header that the container's muxer takes."""
    for way in _ways(stream, container, carry):
        if way.add is None or header_of(container.muxer, way.add) is not None:
            return way
    if stream.type == "audio":
        return _left_out(
            stream, "stream-unreadable", "it cannot be decoded and encoded again"
        )
    return _left_out(
        stream, "stream-refused", f"FFmpeg cannot write it to {container.name}"
    )


def _left_out(stream: Any, code: str, why: str) -> Way:
    return Way("leave", why=f"{code}: {label_of(stream)} is left out: {why}.")


def _ways(stream: Any, container: Container, carry: Carry) -> Iterator[Way]:
    """Yield the ways of a stream, the best one first, which the container may refuse."""
    copy = Way("copy", partial(add_copy, stream=stream, unlisted=container.unlisted))
    is_sound = stream.type == "audio"
    is_text = codec_name(stream) in _TEXT
    goes_on = is_sound and carry.edit_list is not None
    if kind_of(stream) == "still":
        if container.attachments:
            yield Way("attach")
        elif container.covers and stream.type != "attachment":
            yield copy
    elif is_sound and carry.is_mute:
        yield Way("leave")
    elif stream.type == "data" and stream.name is None:
        yield _left_out(stream, "unknown-data", "FFmpeg knows no codec of this kind")
    elif carry.shows is not None and not (
        goes_on or (carry.audio if is_sound else is_text)
    ):
        can_stretch = is_sound and carry.shows.fastest <= 1
        advice = "; --audio=stretch slows such a stream" if can_stretch else ""
        yield _left_out(stream, "old-speed", f"it would play at the old speed{advice}")
    elif carry.shows is None and not (goes_on or carry.audio):
        yield _left_out(
            stream,
            "stream-not-continued",
            "such streams do not continue with the new frames",
        )
    elif is_sound:
        yield from _ways_of_sound(stream, container, carry, copy)
    else:
        yield copy
        if is_text and container.subtitles is not None:
            yield Way(
                "encode", partial(_add_text, stream=stream, codec=container.subtitles)
            )


def _ways_of_sound(
    stream: Any, container: Container, carry: Carry, copy: Way
) -> Iterator[Way]:
    order = channels_of(stream).order
    # Other files than MP4 and MOV state no order of channels, but FFmpeg's own.
    fits = (container.orders_channels or list(order) == sorted(order)) and (
        carry.change_of(stream.index) is None or carry.copies_only
    )
    is_new = carry.edit_list is not None or carry.shows is not None
    if fits and not is_new:
        yield copy
    if carry.copies_only and not is_new:
        raise OutputError(
            f"sound-not-copied: FFmpeg cannot copy {label_of(stream)} to "
            f"{container.name}: leave --audio=copy out, or choose another container."
        )
    why = f"FFmpeg cannot copy it to {container.name}"
    if carry.shows is not None:
        why = "it is slowed down"
    elif carry.edit_list is not None:
        why = f"FFmpeg cannot encode {codec_name(stream)} for {container.name}"
    for add in encoders_of(stream, container):
        yield Way("encode", add, why)
    if fits and carry.edit_list is not None and carry.audio:
        yield copy


def _add_text(out: OutputContainer, stream: Any, codec: str) -> Any:
    target: Any = out.add_stream(codec)
    stream.codec_context.open(strict=False)
    # Encoders of text subtitles read their styles from this header.
    target.codec_context.subtitle_header = stream.codec_context.subtitle_header
    return target


class OtherStreams:
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
        self._warnings = warnings
        self._carry = carry
        self._out = out
        self._container = container
        self._seekable = seekable
        self._tracks: dict[int, Track] = {}  # by their number in the source
        self._covers: list[Timed] = []
        self._file = BesideFile(carry.info)
        self._queue = self._packets()
        self._next = _NOTHING  # the next packet
        self._filled = set[int]()  # the numbers of the output's streams with packets
        out.metadata.update(fresh_tags(self._file.container.metadata, container))
        others = [
            stream
            for stream in self._file.container.streams
            if stream.index != carry.info.video_index and not is_made_anew(stream)
        ]
        stills = [s for s in others if kind_of(s) == "still"]
        for stream in chain(stills, (s for s in others if s not in stills)):
            self._add(stream)
        self._add_chapters()
        self._describe_video(video, rate)

    @property
    def delays(self) -> list[Fraction]:
        """Return the delays in seconds that the file must state, one per audio track."""
        return [
            track.delay for track in self._tracks.values() if track.target.type == "audio"
        ]

    def until(self, time: Fraction | None) -> Iterator[Any]:
        """Yield every packet at or before ``time`` on the output's clock; all with None."""
        at, packet = self._next
        if packet is None:
            at, packet = next(self._queue, _NOTHING)
        while packet is not None and (time is None or at <= time):
            self._filled.add(packet.stream.index)
            yield packet
            at, packet = next(self._queue, _NOTHING)
        self._next = at, packet

    def close(self) -> None:
        """Close the source.

        Add warnings about damaged, moved and left-out audio and packets.
        """
        for track in self._tracks.values():
            for text in track.warnings():
                self._warn(text)
        priming = max(
            (track.priming for track in self._tracks.values()), default=Fraction(0)
        )
        # Audio from before a chosen start is not missed.
        if priming > PRIMING and self._carry.start is None:
            self._warn(
                f"early-sound: {float(priming):.3f} s of audio from before the first video "
                "frame are left out."
            )
        self._file.container.close()

    def _warn(self, message: str) -> None:
        if message:
            self._warnings.add(Warned(message))

    def _packets(self) -> Iterator[Timed]:
        yield from self._covers
        tracks = self._tracks
        carry = self._carry
        if not tracks:
            return
        begin = min(track.begin for track in tracks.values())
        begins = None if carry.start is None else begin
        for packet, begins_part in self._file.packets(tracks, begins, carry.end):
            track = tracks[packet.stream.index]
            yield from track.take(packet, begins_part=begins_part)
        edit_list = carry.edit_list
        while edit_list is not None and not edit_list.is_complete:
            for track in tracks.values():
                if isinstance(track, ContinuedAudio):
                    yield from track.continued()
            if not edit_list.is_complete:  # by now
                yield _NOTHING
        for track in tracks.values():
            yield from track.flush()
            if track.target.index not in self._filled and self._container.has_edit_lists:
                self._warn(
                    f"stream-lost: {label_of(track.source)} is left out: FFmpeg stores no "
                    f"stream without packets in {self._container.name}."
                )

    def _add(self, stream: Any) -> None:
        """Add a stream in the way that was decided, or name the stream."""
        way = decide(stream, self._container, self._carry)
        if way.how == "leave":
            self._warn(way.why)
            return
        if kind_of(stream) == "still":
            self._add_still(stream, way.add)
            return
        assert way.add is not None  # only stills are attached
        target = way.add(self._out)
        if way.how == "copy":
            track = self._copied(stream, target)
        elif stream.type == "audio":
            track = self._sound(stream, target, way.why)
        else:
            track = self._text(stream, target)
        self._describe(stream, target)
        self._tracks[stream.index] = track
        if self._carry.shows is not None and codec_name(stream) in _STYLED:
            self._warn(
                f"subtitles-old-speed: Subtitles with inner times keep their old speed: "
                f"{label_of(stream)} may have such times, as of karaoke."
            )

    def _add_still(self, stream: Any, copy: Add | None) -> None:
        """Add cover art or an attachment, which has no time."""
        if stream.type == "attachment":
            self._out.add_stream_from_template(stream)
            return
        data = self._file.first_data(stream)
        if data is None:
            return
        if copy is None:
            kind = codec_name(stream)  # mjpeg, png
            usual = {
                "filename": f"cover.{kind}".replace("mjpeg", "jpg"),
                "mimetype": f"image/{kind.removeprefix('m')}",
            }
            tags = usual | stream.metadata
            self._out.add_attachment(tags["filename"], tags["mimetype"], data)
            return
        packet = av.Packet(data)
        packet.stream = copy(self._out)
        self._describe(stream, packet.stream)
        # MP4 with chapters has covers with a second flag, and the muxer writes those as
        # videos.
        packet.stream.disposition = Disposition.attached_pic
        packet.pts = packet.dts = 0
        self._covers.append((_LONG_AGO, packet))

    def _copied(self, stream: Any, target: Any) -> Track:
        """Return a track of copied packets."""
        carry = self._carry
        change = carry.change_of(stream.index)
        if change is not None:
            self._warn_change(stream, change, "players may lose the sound from there")
        elif stream.type == "audio" and carry.edit_list is not None:
            self._warn(
                f"sound-not-continued: {label_of(stream)} ends with the film, because "
                f"FFmpeg cannot decode it and encode it again for {self._container.name}."
            )
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
        return CopiedTrack(stream, target, carry, self._container, seekable=self._seekable)

    def _warn_change(self, stream: Any, change: Fraction, so: str) -> None:
        self._warn(
            f"sound-changes: The sampling rate or the channels of {label_of(stream)} "
            f"change at {clock(float(change))}, and {self._container.name} stores one "
            f"format for a track: {so}."
        )

    def _text(self, stream: Any, target: Any) -> Track:
        """Return a track of text subtitles that are converted."""
        codec = self._container.subtitles
        is_styled = codec_name(stream) in _STYLED
        if is_styled:
            self._warn(
                f"subtitles-plain: FFmpeg cannot write {codec_name(stream)} subtitles to "
                f"{self._container.name}: {label_of(stream)} becomes {codec} and loses its "
                "styles."
            )
        return ConvertedText(
            stream,
            target,
            self._carry,
            self._container,
            seekable=self._seekable,
            is_plain=is_styled,
        )

    def _sound(self, stream: Any, target: Any, why: str) -> Track:
        """Return a track of sound for an encoder, which is slowed or goes on."""
        carry = self._carry
        after = target.codec_context
        codec = after.codec.canonical_name
        if carry.shows is None and carry.edit_list is not None:
            track: EncodedTrack = ContinuedAudio(stream, target, carry, carry.edit_list)
            if not is_lossless(after.codec):
                carry.edit_list.encoded.append(codec)
        else:
            track = EncodedTrack(stream, target, carry, carry.shows or EVEN)
            change = carry.change_of(stream.index)
            if carry.shows is None and change is not None:
                self._warn_change(
                    stream,
                    change,
                    "the track is encoded again, in the format of its start",
                )
        if codec != stream.codec_context.codec.canonical_name:
            self._warn(f"sound-encoded: {label_of(stream)} becomes {codec}, because {why}.")
        if after.layout.nb_channels != channels_of(stream).total:
            self._warn(
                f"sound-mixed-down: {label_of(stream)} is mixed down to "
                f"{after.layout.name}."
            )
        return track

    def _add_chapters(self) -> None:
        carry = self._carry
        chapters = self._file.container.chapters()
        stored, count = kept_chapters(chapters, carry)
        why = "others begin at the same time, and one is stored at a time"
        if carry.shows is None and not carry.audio:
            stored = []
            count = len(chapters)
            why = "chapters do not continue with the new frames"
        if count:
            are = plural(count, "chapter is", "chapters are")
            self._warn(f"chapters-left-out: {count} {are} left out: {why}.")
        if stored:
            self._out.set_chapters(stored)

    def _describe(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._container))
        target.disposition = stream.disposition
        if stream.type == "video":  # players show the new video, not a thumbnail
            target.disposition &= ~Disposition.default

    def _describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Copy the source video's tags and disposition to the output's video.

        A time code is converted to ``rate``, the output's frame rate. If the rate of the
        source or of the output is variable, the time code is left out.
        """
        source: Any = self._file.container.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._container)
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
