"""Encode audio again: slowed down with the picture, or continued after the film."""

import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, partial
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import OutputContainer

from cloudconv.media.carried.carry import Carry
from cloudconv.media.carried.tracks import Timed
from cloudconv.media.containers.containers import Container
from cloudconv.media.containers.muxing import add_copy, header_of, label_of, stamp_of
from cloudconv.media.sound.edits import EditList
from cloudconv.media.sound.fades import FilmSound
from cloudconv.media.sound.mixing import Mixer
from cloudconv.media.sound.stretch import Samples, TimeStretch
from cloudconv.timeline import EVEN
from cloudconv.timemap import TimeMap

# Encoders for audio whose own codec has no encoder, or none that the container accepts.
_OTHERWISE = ("aac", "libopus")
# The beginnings of the names of codecs without a bit rate that FFmpeg may call lossy.
_LOSSLESS = ("pcm_", "wavpack")
# Encoders that store samples as they are, by FFmpeg's sample format. No file but AVI has
# integers of 64 bits.
_PLAIN = {
    "u8": "pcm_u8",
    "s16": "pcm_s16le",
    "s32": "pcm_s32le",
    "s64": "pcm_s32le",
    "flt": "pcm_f32le",
    "dbl": "pcm_f64le",
}
# FFmpeg's default layout for a number of unnamed channels.
_USUAL = {
    1: "mono",
    2: "stereo",
    3: "2.1",
    4: "4.0",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
_BITS_PER_CHANNEL = 96_000  # per second

# The seconds before the kept part that are also decoded, because a decoder needs earlier
# packets.
_DECODED_BEFORE = Fraction(1)
# A sound that ends at most this many seconds before the picture is continued from its own
# end, and not after a silence. Packets of audio rarely end with a frame.
_ENDS_EARLY = Fraction(1, 10)
_LEAD = Fraction(1, 2)  # seconds at the start of the output that are kept for a loop
# Sample formats with more digits than a number of 32 bits has.
_DEEP_FORMATS = ("s32", "s64", "dbl")
# The largest rounding error of time stamps, in seconds. A larger gap is filled with
# silence; a larger overlap is cut.
_TOLERANCE = Fraction(1, 50)


class Channels(NamedTuple):
    """The channels of an audio stream."""

    total: int
    layout: str  # FFmpeg's name of the layout in FFmpeg's own order; empty without names
    # The place in the stream of each channel of the layout, if the file lists them; else
    # empty.
    order: tuple[int, ...] = ()


def channels_of(stream: Any) -> Channels:
    """Return the channels of a stream of an input, without a look at its codec context.

    If a file lists its channels one by one, PyAV 18 frees that list twice, and the process
    aborts, as soon as ``layout`` or ``channels`` of a codec context or a frame is read. A
    frame reads its own layout. A muxer of text names the channels instead.
    """
    header = header_of("framecrc", lambda out: add_copy(out, stream)) or b""
    match = re.search(rb"#channel_layout_name 0: (.*)", header)
    name = "" if match is None else match[1].decode(errors="replace")
    listed = re.fullmatch(r"(\d+) channels(?: \((.*)\))?", name)
    if listed is None:
        return Channels(av.AudioLayout(name).nb_channels if name else 0, name)
    count = int(listed[1])
    names = [label.partition("@")[0] for label in (listed[2] or "").split("+")]
    places = {_numbers().get(label): place for place, label in enumerate(names)}
    numbers = sorted(number for number in places if number is not None)
    mask = hex(sum(1 << number for number in numbers))
    # A name may be missing, unknown or used twice, and FFmpeg does not mix all groups of
    # channels.
    if not len(names) == len(numbers) == count or not _mixes(mask, "stereo"):
        return Channels(count, "")
    return Channels(count, mask, tuple(places[number] for number in numbers))


@cache
def _numbers() -> dict[str, int]:
    """Return the number of each channel that FFmpeg names, in the order of layouts."""
    return {
        av.AudioLayout(hex(1 << number)).channels[0].name: number for number in range(63)
    }


@cache
def _mixes(layout: str, into: str) -> bool:
    """Return whether FFmpeg converts sound of one layout to another one."""
    samples = np.zeros((1, 64 * av.AudioLayout(layout).nb_channels), np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
    frame.sample_rate = 48000
    try:
        av.AudioResampler("flt", into).resample(frame)
    except av.error.FFmpegError:
        return False
    return True


def encoders_of(
    source: Any, container: Container
) -> Iterator[Callable[[OutputContainer], Any]]:
    """Yield functions that add an encoder for a stream to an output without a header.

    The codec of the stream is tried first, for a lossless one others without loss, then AAC
    and Opus, then the same with fewer channels. There are none without a decoder. The
    container may refuse each.
    """
    context = source.codec_context
    channels = channels_of(source)
    if context is None or not context.sample_rate or not channels.total:
        return
    codec = context.codec.canonical_name
    is_exact = is_lossless(context.codec)
    lossless = _losslessly(codec, context.format.name) if is_exact else []
    liked = [name for name in lossless if not name.startswith(container.seldom_heard)]
    usual = _USUAL.get(channels.total, "5.1")
    channel_layout = channels.layout or f"{channels.total} channels"
    layouts = dict.fromkeys((channels.layout or usual, usual, "stereo"))
    for layout in (offered for offered in layouts if _mixes(channel_layout, offered)):
        for name in dict.fromkeys((codec, *liked, *_OTHERWISE)):
            yield partial(_add, context, name, layout)


def _losslessly(codec: str, sample_format: str) -> list[str]:
    """Return encoders that keep every sample of a codec and a format, the best one first.

    ALAC stores no floating-point numbers, and not all layouts that FLAC stores.
    """
    plain = _PLAIN[sample_format.removesuffix("p")]
    if codec.startswith("pcm_") or plain.startswith("pcm_f"):
        return [plain, "alac", "flac"]
    return ["alac", "flac", plain]


def is_lossless(codec: Any) -> bool:
    """Return whether a codec keeps every sample, so that an encoder has no bit rate."""
    is_exact: bool = codec.lossless and not codec.lossy
    return is_exact or codec.name.startswith(_LOSSLESS)


def name_channels(stream: Any, context: Any) -> None:
    """Give a codec context FFmpeg's default layout if ``stream`` names no channels."""
    channels = channels_of(stream)
    if not channels.layout and channels.total in _USUAL:
        context.layout = _USUAL[channels.total]


def _add(context: Any, encoder: str, layout: str, out: OutputContainer) -> Any:
    codec = av.Codec(encoder, "w")
    rates: list[int] = sorted(codec.audio_rates or [context.sample_rate])
    rate = next((r for r in rates if r >= context.sample_rate), rates[-1])
    formats: list[str] = [f.name for f in codec.audio_formats or [context.format]]
    own = context.format.name.removesuffix("p")
    liked = [form for form in formats if form.removesuffix("p") == own]
    liked += [form for form in formats if form.removesuffix("p") == "flt"]
    stream: Any = out.add_stream(encoder, rate=rate)
    coder = stream.codec_context
    coder.layout = layout
    coder.format = [*liked, *formats][0]
    coder.time_base = Fraction(1, rate)
    if not is_lossless(codec):
        coder.bit_rate = _BITS_PER_CHANNEL * coder.layout.nb_channels
    return stream


class EncodedTrack:
    """A track of audio that is decoded, stretched and encoded again.

    For the attributes see :class:`cloudconv.media.carried.tracks.CopiedTrack`. Audio at the
    source time ``carry.zero + t`` moves to the time that shows ``t``. The output lasts
    exactly as long as the map shows the part from ``carry.begin`` to ``carry.end``, to the
    sample; gaps in the source's times become silence.
    """

    def __init__(self, source: Any, target: Any, carry: Carry, shows: TimeMap) -> None:
        self.source = source
        self.target = target
        self.begin = carry.begin
        self.delay = self.priming = Fraction(0)
        self._carry = carry
        self._lost = 0  # packets and frames with something that becomes silence
        self._map = shows
        context = target.codec_context
        self._rate: int = context.sample_rate
        self._layout: str = context.layout.name
        self._channels: int = context.layout.nb_channels
        self._given = channels_of(source)
        if self._given.order or not self._given.layout:
            # Without this the frames have the list of channels, see `channels_of`.
            source.codec_context.layout = f"{self._given.total} channels"
        # Positions in samples from ``carry.zero``, before the stretch: the bounds of the
        # kept part (``_least``, ``_end``), the first kept sample and the next sample.
        # ``_place`` is the time of the next sample to encode, after the stretch.
        self._least = round((carry.begin - carry.zero) * self._rate)
        self._end = sys.maxsize  # without an end
        if carry.end is not None:
            self._end = round((carry.end - carry.zero) * self._rate)
        # The format, layout and rate of the frames, and the resampler for such frames.
        self._resampler: tuple[tuple[str, str, int], Any] | None = None
        self._first: int | None = None
        self._next = 0
        self._place = 0
        self._stretch = TimeStretch(self._rate, self._channels, shows)
        self._type: np.dtype[Any] = np.dtype(np.float32)
        self._format = "flt"  # of the samples here

    def take(self, packet: Any, *, begins_part: bool) -> Iterator[Timed]:
        """Yield the packets that are finished with one of the source."""
        stamp = stamp_of(packet)
        if stamp is not None:
            begin = stamp * packet.time_base
            if (
                begin + (packet.duration or 0) * packet.time_base
                < self.begin - _DECODED_BEFORE
            ):
                if not packet.is_discard:  # an edit list may hide sound from players
                    self.priming = max(self.priming, self.begin - begin)
                return
        yield from self._decoded(packet)

    def flush(self) -> Iterator[Timed]:
        """Yield the packets after the last one of the source."""
        yield from self._decoded(None)
        yield from self._resampled(None)
        if self._first is not None:
            yield from self._encoded(self._stretch.finish())
            yield from map(_timed, self.target.encode(None))

    def warnings(self) -> Iterator[str]:
        """Yield a warning about damaged sound."""
        if self._lost:
            yield (
                f"sound-damaged: {label_of(self.source)} is damaged: {self._lost} of its "
                "packets could not be decoded, or have samples that are no finite numbers: "
                "silence is in their place."
            )

    def _decoded(self, packet: Any) -> Iterator[Timed]:
        try:
            frames = self.source.decode(packet)
        except av.error.FFmpegError:
            self._lost += 1
            return
        for frame in map(self._named, frames):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._resampler is None or self._resampler[0] != kind:
                yield from self._resampled(None)
                self._resampler = (
                    kind,
                    av.AudioResampler(self._format, self._layout, self._rate),
                )
            if frame.pts is not None:
                # The resampler needs times in samples; the container's ticks may be
                # coarser.
                frame.pts = round(frame.pts * frame.time_base * frame.sample_rate)
            frame.time_base = Fraction(1, frame.sample_rate)
            yield from self._resampled(frame)

    def _named(self, frame: Any) -> Any:
        """Return a frame with named channels in FFmpeg's order, if the file names them."""
        order = self._given.order
        if not order or frame.layout.name != f"{len(order)} channels":
            return frame  # a decoder may know the channels better than the file
        (packed,) = av.AudioResampler("flt").resample(frame)
        samples = packed.to_ndarray().reshape(-1, len(order))[:, order].reshape(1, -1)
        data = np.ascontiguousarray(samples, np.float32)
        named = av.AudioFrame.from_ndarray(data, format="flt", layout=self._given.layout)
        named.sample_rate = frame.sample_rate
        named.time_base = frame.time_base
        named.pts = frame.pts
        return named

    def _resampled(self, decoded: Any) -> Iterator[Timed]:
        for frame in (
            [] if self._resampler is None else self._resampler[1].resample(decoded)
        ):
            samples = frame.to_ndarray().reshape(-1, self._channels)
            if not (is_finite := np.isfinite(samples)).all():
                self._lost += 1
                samples = np.where(is_finite, samples, 0).astype(samples.dtype)
            at = self._next
            if frame.pts is not None:
                at = round((frame.pts * frame.time_base - self._carry.zero) * self._rate)
            if self._first is None:
                self.priming = max(self.priming, Fraction(self._least - at, self._rate))
                if at + len(samples) <= self._least or at >= self._end:
                    continue
                self._first = self._next = max(at, self._least)
                begins = Fraction(self._first, self._rate)
                self._place = round(self._map.output(begins) * self._rate)
                later = self._map.after(begins)
                self._stretch = TimeStretch(self._rate, self._channels, later)
            elif abs(at - self._next) <= _TOLERANCE * self._rate:
                at = self._next
            while min(at, self._end) > self._next:
                gap = min(at, self._next + self._rate, self._end) - self._next
                silence = np.zeros((gap, self._channels), self._type)
                yield from self._stretched(silence)
            kept = samples[max(self._next - at, 0) :]
            yield from self._stretched(kept[: max(self._end - self._next, 0)])

    def _stretched(self, samples: Samples) -> Iterator[Timed]:
        self._next += len(samples)
        if len(samples):
            yield from self._encoded(self._stretch.push(samples))

    def _encoded(self, parts: Iterator[Samples]) -> Iterator[Timed]:
        for samples in parts:
            if len(samples):
                data = np.ascontiguousarray(samples).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(
                    data, format=self._format, layout=self._layout
                )
                frame.sample_rate = self._rate
                frame.time_base = Fraction(1, self._rate)
                frame.pts = self._place
                self._place += len(samples)
                yield from map(_timed, self.target.encode(frame))


class ContinuedAudio(EncodedTrack):
    """A track of audio that goes on after the film, up to the end of the edit list.

    The track is encoded again as a whole. The sound of the scene stays in memory. Before
    the edit list begins, the samples of a codec without loss keep their values.
    """

    def __init__(self, source: Any, target: Any, carry: Carry, edit_list: EditList) -> None:
        super().__init__(source, target, carry, EVEN)
        if source.codec_context.format.name.removesuffix("p") in _DEEP_FORMATS:
            self._format = "dbl"
            self._type = np.dtype(np.float64)
        self._edit_list = edit_list
        self._edits = edit_list.follow()
        # Places in samples: of the first sample of the output, of the first and of the end
        # of those that may play, and of the first after the film.
        self._start = self._least
        self._scene = round((edit_list.scene - carry.zero) * self._rate)
        self._end = round((edit_list.until - carry.zero) * self._rate)
        self._begins = round((edit_list.begins - carry.zero) * self._rate)
        self._least = min(self._start, self._scene)
        self.begin = min(self.begin, edit_list.scene)
        self._leads = self._start < self._begins
        self._lead: list[Samples] = []
        self._heard: list[Samples] = []
        self._first_heard: int | None = None
        self._is_read = False
        self._mixer: Mixer | None = None

    def warnings(self) -> Iterator[str]:
        """Yield warnings about damaged and too short sound."""
        label = label_of(self.source)
        yield from super().warnings()
        if self._mixer is None or self._mixer.is_silent:
            yield (
                f"sound-too-short: {label} has less than half a second of sound in the "
                "scene that goes on: the new frames are silent."
            )

    def continued(self) -> Iterator[Timed]:
        """Yield packets as far as the edits are known, after the last one of the film."""
        if not self._is_read:
            self._is_read = True
            yield from self._decoded(None)
            yield from self._resampled(None)
            if self._first is not None:
                yield from self._prepared()
        if self._mixer is not None:
            yield from self._encoded(self._mixer.play())

    def flush(self) -> Iterator[Timed]:
        """Yield the last packets; the edit list is complete."""
        yield from self.continued()
        if self._first is not None:
            yield from map(_timed, self.target.encode(None))

    def _prepared(self) -> Iterator[Timed]:
        if not self._leads or self._begins - self._next > _ENDS_EARLY * self._rate:
            while self._next < self._begins:
                size = min(self._begins - self._next, self._rate), self._channels
                yield from self._stretched(np.zeros(size, self._type))
        silence = np.zeros((0, self._channels), self._type)
        sound = np.concatenate([silence, *self._heard])
        self._heard.clear()
        lead = np.concatenate(self._lead or [silence]) if self._leads else None
        at = min(self._next, self._begins)
        self._mixer = Mixer(
            self._edit_list,
            self._edits,
            FilmSound(
                sound,
                self._rate,
                self._next if self._first_heard is None else self._first_heard,
            ),
            at,
            self._carry.zero,
            lead,
        )
        if not self._leads:
            self._place = at

    def _stretched(self, samples: Samples) -> Iterator[Timed]:
        at = self._next
        self._next += len(samples)
        heard = samples[max(self._scene - at, 0) :]
        if len(heard):
            if self._first_heard is None:
                self._first_heard = max(at, self._scene)
            self._heard.append(heard)
        tail = samples[max(self._start - at, 0) : max(self._begins - at, 0)]
        if len(tail) and self._leads:
            begins = max(at, self._start)
            if self._edit_list.loops and begins < self._start + _LEAD * self._rate:
                if not self._lead:
                    self._lead.append(
                        np.zeros((begins - self._start, self._channels), self._type)
                    )
                self._lead.append(tail)
            self._place = begins
            yield from self._encoded(iter([tail]))


def _timed(packet: Any) -> Timed:
    """Return an encoded packet after its decode time in seconds."""
    return packet.dts * packet.time_base, packet
