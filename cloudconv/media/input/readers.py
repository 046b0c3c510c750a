"""Describe the special behaviour of some of FFmpeg's readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reader:
    """The special behaviour of one reader.

    Attributes:
        seeks: whether time stamps are right after a seek. Other readers, above all that of MPEG
            program streams, return wrong time stamps after a seek.
        has_index: whether the header lists all frames and gives the right length of the track.
        stamps_decoding: whether the reader returns decode times instead of presentation times.
        states_delay: whether the reader subtracts the delay of an audio codec from its time stamps.
        guesses_rate: whether FFmpeg guesses the rate, because the header states none.
        is_pictures: whether the reader reads one or several picture files, which have no times.
        is_drawn: whether the reader reads pictures or an animation. Both are often RGB, which few
            players show in MP4.
    """

    seeks: bool = False
    has_index: bool = False
    stamps_decoding: bool = False
    states_delay: bool = False
    guesses_rate: bool = False
    is_pictures: bool = False
    is_drawn: bool = False


_READERS = {
    "mov": Reader(seeks=True, has_index=True),
    "matroska": Reader(seeks=True, states_delay=True),
    "avi": Reader(seeks=True, stamps_decoding=True),
    "image2": Reader(is_pictures=True, is_drawn=True),
    "gif": Reader(is_drawn=True, guesses_rate=True),
    **dict.fromkeys(("apng", "webp"), Reader(is_drawn=True)),
    **dict.fromkeys(("mpegts", "flv", "asf", "nut"), Reader(seeks=True)),
}


def reader_of(container: str) -> Reader:
    """Return the behaviour of the reader with FFmpeg's name, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return Reader(is_pictures=True, is_drawn=True)
    return _READERS.get(container.split(",")[0], Reader())
