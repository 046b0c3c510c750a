"""Encode audio again, and slow it down with the picture without a change of pitch."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from cloudconv.media.carry import Carry, header_of
from cloudconv.media.stretch import Samples, TimeStretch

# Encoders for audio whose own codec has no encoder, or none that the container accepts.
_OTHERWISE = ("aac", "libopus")
# The beginnings of the names of encoders without a bit rate.
_LOSSLESS = ("alac", "flac", "pcm_", "tta", "wavpack")
# FFmpeg's default layout for a number of unnamed channels.
_USUAL = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITS_PER_CHANNEL = 96_000  # per second

# The seconds before the kept part that are also decoded, because a decoder needs earlier packets.
_PREROLL = Fraction(1)
# The largest rounding error of time stamps, in seconds. A larger gap is filled with silence; a
# larger overlap is cut.
_TOLERANCE = Fraction(1, 50)


def choose_format(source: Any, muxer: str) -> Callable[[OutputContainer], Any] | None:
    """Return a function that adds an encoder for a stream to an output without a header.

    The codec of the stream is tried first, then AAC and Opus, then the same with fewer channels.
    None means that there is no decoder, or no format that ``muxer`` accepts.
    """
    context = source.codec_context
    if context is None or not context.sample_rate or not context.layout.nb_channels:
        return None
    encoders = dict.fromkeys((context.codec.canonical_name, *_OTHERWISE))
    usual = _USUAL.get(context.layout.nb_channels, "5.1")
    layouts = [usual if _is_unnamed(context.layout) else context.layout.name, usual, "stereo"]
    for layout in dict.fromkeys(layouts):
        for name in encoders:
            add = partial(_add, context, name, layout)
            if header_of(muxer, add) is not None:
                return add
    return None


def name_channels(context: Any) -> None:
    """Give unnamed channels of a codec context FFmpeg's default layout."""
    usual = _USUAL.get(context.layout.nb_channels)
    if _is_unnamed(context.layout) and usual is not None:
        context.layout = usual


def _is_unnamed(layout: Any) -> bool:
    return str(layout.name).endswith(" channels")


def _add(context: Any, encoder: str, layout: str, out: OutputContainer) -> Any:
    codec = av.Codec(encoder, "w")
    rates: list[int] = sorted(codec.audio_rates or [context.sample_rate])
    rate = next((r for r in rates if r >= context.sample_rate), rates[-1])
    formats: list[str] = [f.name for f in codec.audio_formats or [context.format]]
    given = context.format.name.removesuffix("p")
    liked = [f for wanted in (given, "flt") for f in formats if f.removesuffix("p") == wanted]
    stream: Any = out.add_stream(encoder, rate=rate)
    made = stream.codec_context
    made.layout, made.format, made.time_base = layout, [*liked, *formats][0], Fraction(1, rate)
    if not encoder.startswith(_LOSSLESS):
        made.bit_rate = _BITS_PER_CHANNEL * made.layout.nb_channels
    return stream


class AudioEncoder:
    """An encoder of one audio stream into ``target``, which also decodes and stretches it.

    Audio at the source time ``carry.origin + t`` moves to ``factor * t``. The output has exactly
    ``factor`` times the length of the part from ``carry.begin`` to ``carry.end``, to the sample;
    gaps in the source's times become silence. ``lost`` counts packets that could not be decoded.
    ``led`` is the length in seconds of the audio before ``carry.begin``.
    """

    def __init__(self, source: Any, target: Any, factor: Fraction, carry: Carry) -> None:
        self.lost = 0
        self.led = Fraction(0)
        self._source = source
        self._target = target
        self._factor = factor
        self._origin, self._begin = carry.origin, carry.begin
        context = target.codec_context
        self._rate: int = context.sample_rate
        self._layout: str = context.layout.name
        self._channels: int = context.layout.nb_channels
        # Positions in samples from the origin, before the stretch: the bounds of the kept part
        # (``_least``, ``_end``), the first kept sample and the next sample. ``_made`` is the number
        # of stretched samples that are encoded.
        self._least = round((carry.begin - carry.origin) * self._rate)
        self._end = None if carry.end is None else round((carry.end - carry.origin) * self._rate)
        # The format, layout and rate of the frames, and the resampler for such frames.
        self._resampler: tuple[tuple[str, str, int], Any] | None = None
        self._first: int | None = None
        self._next = 0
        self._made = 0
        self._stretch = TimeStretch(self._rate, self._channels, factor)

    def feed(self, packet: Any) -> Iterator[Any]:
        """Decode a packet of the source, and yield slowed packets for the muxer."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is not None:
            begin = stamp * packet.time_base
            if begin + (packet.duration or 0) * packet.time_base < self._begin - _PREROLL:
                if not packet.is_discard:  # an edit list may hide sound from players
                    self.led = max(self.led, self._begin - begin)
                return
        yield from self._decoded(packet)

    def finish(self) -> Iterator[Any]:
        """Yield the last packets, after the last call of :meth:`feed`."""
        yield from self._decoded(None)
        yield from self._resampled(None)
        if self._first is not None:
            yield from self._encoded(self._stretch.finish())
            yield from self._target.encode(None)

    def _decoded(self, packet: Any) -> Iterator[Any]:
        try:
            frames = self._source.decode(packet)
        except av.error.FFmpegError:
            self.lost += 1
            return
        for frame in frames:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._resampler is None or self._resampler[0] != kind:
                yield from self._resampled(None)
                self._resampler = kind, av.AudioResampler("flt", self._layout, self._rate)
            if frame.pts is not None:
                # The resampler needs times in samples; the container's ticks may be coarser.
                frame.pts = round(frame.pts * frame.time_base * frame.sample_rate)
            frame.time_base = Fraction(1, frame.sample_rate)
            yield from self._resampled(frame)

    def _resampled(self, given: Any) -> Iterator[Any]:
        for frame in [] if self._resampler is None else self._resampler[1].resample(given):
            samples = frame.to_ndarray().reshape(-1, self._channels)
            at = self._next
            if frame.pts is not None:
                at = round((frame.pts * frame.time_base - self._origin) * self._rate)
            if self._first is None:
                self.led = max(self.led, Fraction(self._least - at, self._rate))
                if at + len(samples) <= self._least or (self._end is not None and at >= self._end):
                    continue
                self._first = self._next = max(at, self._least)
            elif abs(at - self._next) <= _TOLERANCE * self._rate:
                at = self._next
            while at > self._next and (self._end is None or self._next < self._end):
                gap = min(at, self._next + self._rate, self._end or at) - self._next
                yield from self._stretched(np.zeros((gap, self._channels), np.float32))
            kept = samples[max(self._next - at, 0) :]
            if self._end is not None:
                kept = kept[: max(self._end - self._next, 0)]
            yield from self._stretched(kept)

    def _stretched(self, samples: Samples) -> Iterator[Any]:
        self._next += len(samples)
        if len(samples):
            yield from self._encoded(self._stretch.push(samples))

    def _encoded(self, parts: Iterator[Samples]) -> Iterator[Any]:
        assert self._first is not None
        for samples in parts:
            if len(samples):
                data = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(data, format="flt", layout=self._layout)
                frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
                frame.pts = round(self._first * self._factor) + self._made
                self._made += len(samples)
                yield from self._target.encode(frame)
