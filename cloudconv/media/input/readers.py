"""What FFmpeg's readers of some formats do in ways of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reader:
    """The ways of one reader.

    ``seeks``: time stamps stay right after a seek; others (MPEG program streams above all) give
    frames wrong ones. ``has_index``: the header lists all frames, and the track's length is right.
    ``stamps_decoding``: it knows when frames are decoded, not when they are shown.
    ``states_delay``: it takes the delay of an audio codec off its time stamps. ``is_still``: it
    reads one picture file, ``is_pictures`` one or several, which keep no times, and ``is_drawn``
    those or an animation, which few players show in full colour.
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
    """Return the ways of the reader with that name of FFmpeg's, such as ``matroska,webm``."""
    if container.endswith("_pipe"):
        return Reader(is_still=True, is_pictures=True, is_drawn=True)
    return _READERS.get(container.split(",")[0], Reader())
