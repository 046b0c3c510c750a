"""Describe the special behaviour of some of FFmpeg's readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reader:
    """The special behaviour of one reader.

    ``seeks``: time stamps are right after a seek. Other readers, above all that of MPEG program
    streams, return wrong time stamps after a seek. ``has_index``: the header lists all frames and
    gives the right length of the track.
    ``stamps_decoding``: the reader knows the decode times, not the presentation times.
    ``states_delay``: the reader subtracts the delay of an audio codec from its time stamps.
    ``is_still``: the reader reads one picture file. ``is_pictures``: the reader reads one or
    several picture files, which have no times. ``is_drawn``: the reader reads picture files or an
    animation, which few players show in full colour.
    """

    seeks: bool = False
    has_index: bool = False
    stamps_decoding: bool = False
    states_delay: bool = False
    is_still: bool = False
    is_pictures: bool = False
    is_drawn: bool = False


_READERS = {
    "mov": Reader(seeks=True, has_index=True),
    "matroska": Reader(seeks=True, states_delay=True),
    "avi": Reader(seeks=True, stamps_decoding=True),
    "image2": Reader(is_pictures=True, is_drawn=True),
    **dict.fromkeys(("gif", "apng", "webp"), Reader(is_drawn=True)),
    **dict.fromkeys(("mpegts", "flv", "asf", "nut"), Reader(seeks=True)),
}


def reader_of(container: str) -> Reader:
    """Return the behaviour of the reader with FFmpeg's name, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return Reader(is_still=True, is_pictures=True, is_drawn=True)
    return _READERS.get(container.split(",")[0], Reader())
