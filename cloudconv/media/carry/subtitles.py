"""Convert text subtitles from one codec to another."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

TEXT = frozenset(("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"))
"""Codecs of text subtitles, which can be converted to one another."""


class SubtitleConverter:
    """A converter of the text packets of one stream to the codec of another."""

    def __init__(self, source: Any, target: Any) -> None:
        """Open the decoder and the encoder.

        Args:
            source: the stream of the source.
            target: the stream of the output.
        """
        self._source = source
        self._target = target
        source.codec_context.open(strict=False)
        # Encoders of text subtitles read their styles from this header.
        target.codec_context.subtitle_header = source.codec_context.subtitle_header

    def convert(self, packet: Any, start: Fraction, duration: Fraction) -> av.Packet[Any] | None:
        """Return the packet in the target's codec, shown from ``start`` for ``duration`` seconds.

        None means that the packet is empty.
        """
        decoded = self._source.codec_context.decode2(packet)
        if decoded is None or not len(decoded):
            return None
        made: Any = self._target.codec_context.encode_subtitle(decoded)
        made.time_base = Fraction(1, 1000)
        made.pts = made.dts = round(start * 1000)
        made.duration = round(duration * 1000)
        made.stream = self._target
        return made  # type: ignore[no-any-return]
