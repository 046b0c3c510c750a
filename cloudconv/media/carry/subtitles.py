"""Convert text subtitles from one codec to another."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

TEXT = frozenset(("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text"))
"""Codecs of text subtitles, which can be converted to one another."""

# Encoders of text subtitles read their styles from an ASS header. Only ASS sources have one.
_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\n"
    b"ScaledBorderAndShadow: yes\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour,"
    b" Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline,"
    b" Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1"
    b"\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


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
        header = source.codec_context.subtitle_header
        target.codec_context.subtitle_header = header or _HEADER

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
