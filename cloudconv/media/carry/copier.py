"""Copy all streams of the source file except its video, without encoding them again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import Any

from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from cloudconv.errors import OutputError
from cloudconv.events import Warned
from cloudconv.media.carry.carry import Carry, fresh_tags, open_again
from cloudconv.media.carry.muxer import add_copy, can_hold
from cloudconv.media.carry.slow_audio import Stretcher, add_audio, choose_format, name_channels
from cloudconv.media.carry.subtitles import TEXT, SubtitleConverter
from cloudconv.media.carry.timecode import timecode_at_rate
from cloudconv.media.carry.tracks import COARSE, FINE, LONG_AGO, PRIMING, Track, Tracks, codec_name
from cloudconv.media.containers import Container
from cloudconv.media.input.demux import is_made_anew, open_container, read_packets
from cloudconv.messages import plural


class Copier:
    """A copier of the source's other streams into an output container.

    The copier opens the source a second time. The constructor adds the streams, so create the
    copier before the header is written. ``until`` then copies the packets up to a time, so that the
    streams are interleaved as players need.
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
        """Open the source and add its streams to ``out``.

        Args:
            carry: the parts to carry over.
            out: the output container, before its header is written.
            container: the abilities of the output container.
            seekable: whether the output can be written at any position.
            unlisted: whether ``out`` was opened with ``unlisted``; see `open_muxer`.

        Raises:
            OutputError: ``carry.copies_only`` is set, and the container cannot store an audio
                stream.
        """
        self._seekable = seekable
        self._unlisted = unlisted
        self.warnings: list[Warned] = []
        self._carry = carry
        self._kind = container
        self._out = out
        self._tracks = Tracks(
            carry, out, container, states_delay=container.states_delay and seekable
        )
        self._covers: list[tuple[Fraction, Any]] = []
        self._input = open_again(carry)
        self._queue: Iterator[tuple[Fraction, Any]] = iter(())
        self._pending: tuple[Fraction, Any] | None = None
        if self._input is not None:
            self._add_streams(self._input)

    def describe_video(self, stream: Any, rate: Fraction | None) -> None:
        """Copy the source video's tags and disposition to the output's video.

        A time code is converted to ``rate``, the output's frame rate. If the rate of the source or
        of the output is variable, the time code is left out.
        """
        if self._input is None:
            return
        source: Any = self._input.streams[self._carry.info.video_index]
        tags = fresh_tags(source.metadata, self._kind)
        stream.metadata.update({k: v for k, v in tags.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.disposition
        timing = self._carry.info.timing
        for tags in (stream.metadata, self._out.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                given = tags.pop(key)
                if rate is None or timing.rate is None or min(rate, timing.rate) < 1:
                    why = "varies" if rate is None or timing.rate is None else "is below 1"
                    self.warnings.append(
                        Warned(f"time-code: The time code is left out: the frame rate {why}.")
                    )
                    continue
                cut = self._carry.origin - timing.start
                moved = timecode_at_rate(given, timing.rate, rate, cut)
                if moved is not None:
                    tags["timecode"] = moved

    @property
    def encodes(self) -> bool:
        """Return whether a stream is encoded again, such as slowed audio."""
        return any(track.slowed is not None for track in self._tracks.by_index.values())

    @property
    def delays(self) -> list[Fraction]:
        """Return the delay in seconds that the file must state, for each audio track in order."""
        tracks = sorted(self._tracks.by_index.values(), key=lambda track: track.target.index)
        return [track.delay for track in tracks if track.target.type == "audio"]

    def until(self, time: Fraction | None) -> None:
        """Write every packet at or before ``time``, which is on the output's clock.

        With None, write all remaining packets.
        """
        while True:
            self._pending = self._pending or next(self._queue, None)
            if self._pending is None or (time is not None and self._pending[0] > time):
                return
            self._out.mux(self._pending[1])
            self._pending = None

    def close(self) -> None:
        """Close the source; add warnings about damaged, moved and left-out audio and packets."""
        led = self._tracks.led
        for track in self._tracks.by_index.values():
            if track.slowed is not None and self._carry.start is None:
                led = max(led, track.slowed.led)
            if track.slowed is not None and track.slowed.lost:
                self.warnings.append(
                    Warned(
                        f"sound-damaged: {_label(track.source)} is damaged: {track.slowed.lost} "
                        "of its packets could not be decoded, and silence is in their place."
                    )
                )
            if track.moved:
                self.warnings.append(
                    Warned(
                        f"clock-steps-back: The time stamps of {_label(track.source)} step back: "
                        f"{track.moved} of its packets are moved to later times."
                    )
                )
        if led > PRIMING:
            self.warnings.append(
                Warned(
                    f"early-sound: {float(led):.3f} s of audio from before the first video frame "
                    "are left out."
                )
            )
        if self._input is not None:
            self._input.close()

    def _add_streams(self, source: InputContainer) -> None:
        self._out.metadata.update(fresh_tags(source.metadata, self._kind))
        timed = []
        for stream in source.streams:
            if stream.index == self._carry.info.video_index:
                continue
            if stream.type == "attachment" or stream.disposition & Disposition.attached_pic:
                self._add_still(stream)
            elif is_made_anew(stream):
                continue
            elif not self._may_copy(stream):
                self._drop(
                    "stream-not-continued",
                    stream,
                    "such streams do not continue with the new frames",
                )
            elif not self._may_slow(stream):
                why = "it would play at the old speed"
                if stream.type == "audio":
                    why += "; --audio=stretch slows such a stream"
                    self._drop("sound-at-old-speed", stream, why)
                else:
                    self._drop("stream-at-old-speed", stream, why)
            else:
                timed.append(stream)
        for stream in timed:
            self._add_timed(stream)
            track = self._tracks.by_index.get(stream.index)
            if track is not None and stream.type == "audio":
                self._warn_of_players(track)
        self._queue = chain(
            self._covers, self._tracks.packets(source) if self._tracks.by_index else ()
        )
        self._add_chapters(source)

    def _may_copy(self, stream: Any) -> bool:
        """Return whether the output has a use for packets of the stream.

        An output that only repeats the audio of the source takes no other stream. For a slowed
        output, :meth:`_may_slow` decides.
        """
        carry = self._carry
        stays = carry.audio and (stream.type == "audio" or not carry.only_repeats)
        return carry.slowdown is not None or stays

    def _may_slow(self, stream: Any) -> bool:
        """Return whether the stream can be slowed with the picture, or needs no slowing."""
        if self._carry.slowdown is None:
            return True
        if stream.type == "audio":
            return self._carry.audio
        return stream.type == "subtitle" and codec_name(stream) in TEXT

    def _add_still(self, stream: Any) -> None:
        """Add cover art or an attachment, which has no time and no packets to interleave."""
        if stream.type == "attachment" and self._kind.attachments:
            self._out.add_stream_from_template(stream)
        elif stream.type == "attachment" or not (self._kind.attachments or self._accepts(stream)):
            self._refuse(stream)
        elif (packet := _first_packet(self._carry, stream.index)) is None:
            return
        elif self._kind.attachments:
            is_png = stream.codec_context.name == "png"
            name = stream.metadata.get("filename", "cover.png" if is_png else "cover.jpg")
            mime = stream.metadata.get("mimetype", "image/png" if is_png else "image/jpeg")
            self._out.add_attachment(name, mime, bytes(packet))
        else:
            packet.stream = self._copy_of(stream)
            # MP4 with chapters has covers with a second flag, and the muxer writes those as videos.
            packet.stream.disposition = Disposition.attached_pic
            packet.pts = packet.dts = 0
            self._covers.append((LONG_AGO, packet))

    def _add_timed(self, stream: Any) -> None:
        codec = codec_name(stream)
        if stream.type == "audio" and self._carry.slowdown is not None:
            self._add_encoded(stream, self._carry.slowdown)
        elif self._accepts(stream):
            self._tracks.by_index[stream.index] = Track(stream, self._copy_of(stream))
        elif stream.type == "subtitle" and codec in TEXT and self._kind.subtitles:
            target = self._out.add_stream(self._kind.subtitles)
            self._label(stream, target)
            converter = SubtitleConverter(stream, target)
            self._tracks.by_index[stream.index] = Track(stream, target, converter)
            if codec in ("ass", "ssa"):
                self.warnings.append(
                    Warned(
                        f"subtitles-plain: {self._kind.name} cannot hold {codec} subtitles: "
                        f"{_label(stream)} becomes {self._kind.subtitles} and loses its styles."
                    )
                )
        elif stream.type == "audio" and self._carry.copies_only:
            raise OutputError(
                f"sound-not-copied: {self._kind.name} cannot hold {_label(stream)} as it is: "
                "leave --audio=copy out, or write an .mkv."
            )
        elif stream.type == "audio" and self._carry.loop_until is None:
            self._add_encoded(stream, Fraction(1))
        else:
            self._refuse(stream)

    def _warn_of_players(self, track: Track) -> None:
        codec = codec_name(track.target)
        if codec.startswith(self._kind.seldom_heard):
            self.warnings.append(
                Warned(
                    f"seldom-heard: Few players read {codec} in {self._kind.name}: for "
                    f"{_label(track.source)}, a .mov or .mkv is better."
                )
            )

    def _add_encoded(self, stream: Any, factor: Fraction) -> None:
        """Add audio that is encoded again.

        The audio is slowed, or the container cannot store its codec (``factor`` 1).
        """
        chosen = choose_format(stream, self._kind.muxer)
        if chosen is None:
            self._drop("stream-unreadable", stream, "it cannot be decoded and encoded again")
            return
        target = add_audio(self._out, chosen)
        self._label(stream, target)
        slowed = Stretcher(stream, target, factor, self._carry)
        self._tracks.by_index[stream.index] = Track(stream, target, slowed=slowed)
        before, after = stream.codec_context, target.codec_context
        codec = after.codec.canonical_name
        if codec != before.codec.canonical_name:
            if factor != 1:
                self.warnings.append(
                    Warned(
                        f"sound-slowed: {_label(stream)} becomes {codec}, because it is slowed "
                        "down."
                    )
                )
            else:
                self.warnings.append(
                    Warned(
                        f"sound-encoded: {_label(stream)} becomes {codec}, as {self._kind.name} "
                        "cannot hold it."
                    )
                )
        if after.layout.nb_channels != before.layout.nb_channels:
            self.warnings.append(
                Warned(f"sound-mixed-down: {_label(stream)} is mixed down to {chosen.layout}.")
            )

    def _copy_of(self, stream: Any) -> Any:
        target = add_copy(self._out, stream)
        if stream.type == "audio":
            # Unlike Matroska, MP4 cannot store PCM with unnamed channels.
            name_channels(target.codec_context)
        if (
            not self._seekable
            and codec_name(stream) == "aac"
            and not stream.codec_context.extradata
        ):
            # On a pipe the header must contain the decoder's configuration. In a file the muxer
            # adds the configuration at the end.
            first = _first_packet(self._carry, stream.index)
            target.codec_context.extradata = _aac_config(stream, first)
        if self._unlisted and stream.time_base > COARSE:
            # The muxer is opened through ``tee``, which does not refine the time base. COARSE and
            # FINE are the limits of a tick.
            target.time_base = stream.time_base / ceil(stream.time_base / FINE)
        self._label(stream, target)
        return target

    def _label(self, stream: Any, target: Any) -> None:
        target.metadata.update(fresh_tags(stream.metadata, self._kind))
        target.disposition = stream.disposition

    def _accepts(self, stream: Any) -> bool:
        return can_hold(self._kind.muxer, stream, unlisted=self._unlisted)

    def _refuse(self, stream: Any) -> None:
        self._drop("stream-refused", stream, f"{self._kind.name} cannot hold it")

    def _drop(self, code: str, stream: Any, why: str) -> None:
        self.warnings.append(Warned(f"{code}: {_label(stream)} is left out: {why}."))

    def _add_chapters(self, source: InputContainer) -> None:
        kept: list[Any] = []
        carry, factor = self._carry, self._carry.slowdown or Fraction(1)
        if not carry.keeps_chapters:
            if count := len(source.chapters()):
                self.warnings.append(
                    Warned(
                        f"chapters-not-continued: {count} "
                        f"{plural(count, 'chapter is', 'chapters are')} left out: chapters do not "
                        "continue with the new frames."
                    )
                )
            return
        for chapter in source.chapters():
            base = Fraction(chapter["time_base"] or Fraction(1, 1000))
            start, end = chapter["start"] * base, chapter["end"] * base
            start = max(start, carry.start or start, carry.origin)
            end = end if carry.end is None else min(end, carry.end)
            if start < end:
                moved = dict(chapter, time_base=Fraction(1, 1_000_000))
                moved["start"] = round((start - carry.origin) * factor * 1_000_000)
                moved["end"] = round((end - carry.origin) * factor * 1_000_000)
                kept.append(moved)
        if kept and self._unlisted:
            self.warnings.append(
                Warned(
                    "chapters-refused: The chapters are left out: FFmpeg cannot write them "
                    "beside this audio."
                )
            )
        elif kept:
            self._out.set_chapters(kept)


def _first_packet(carry: Carry, index: int) -> Any:
    with open_container(carry.info.path) as source:
        return next(read_packets(source, source.streams[index]), None)


def _aac_config(stream: Any, packet: Any) -> bytes | None:
    """Return the configuration of AAC from the header of a packet of a transport stream."""
    for made in BitStreamFilterContext("aac_adtstoasc", stream).filter(packet):
        for side in made.iter_sidedata():
            if side.data_type == "new_extradata":
                return bytes(side)
    return None


def _label(stream: Any) -> str:
    parts = [f"{stream.type.capitalize()} stream {stream.index}"]
    title = stream.metadata.get("filename") or stream.metadata.get("title")
    details = [codec_name(stream), stream.metadata.get("language"), title]
    known = ", ".join(str(detail) for detail in details if detail and detail != "und")
    return f"{parts[0]} ({known})" if known else parts[0]
