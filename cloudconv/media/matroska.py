"""Correct finished files of FFmpeg's Matroska muxer.

The muxer states a constant rate for every encoded video. The muxer writes no sample aspect ratio
for codecs that cannot store one in their bitstream. FFmpeg's ``tee`` muxer passes no chapters to
the Matroska muxer. RFC 9559 defines the elements, and RFC 8794 their encoding.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

_SEGMENT, _SEEK_HEAD, _INFO, _TRACKS = 0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_TRACK_ENTRY, _TRACK_TYPE, _VIDEO, _DEFAULT_DURATION = 0xAE, 0x83, 0xE0, 0x23E383
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_CHAPTERS = 0x1043A770
_VOID = 0xEC
_ASPECT_RATIO_UNIT = 3
# The number of bytes to read from the start of a file. These bytes contain the tracks, because
# fonts and covers come later.
_HEAD = 1 << 20

Element = tuple[int, bytes]
"""The id and the content of an element."""


def amend(
    path: Path, size: tuple[int, int], *, aspect: Fraction | None, variable_rate: bool
) -> bool:
    """Correct the first video track of a finished file, written without checksums, in place.

    ``size`` is the picture's (width, height). ``aspect`` is the sample aspect ratio to store, or
    None to keep the present one. ``variable_rate`` removes the stated constant rate. Longer tracks
    use the gap that the muxer leaves before the tracks, so nothing after the tracks moves. Returns
    False, without a change, if the header is not as expected or the gap is too small.
    """
    with path.open("rb+") as file:
        data = file.read(_HEAD)
        elements = list(_segment_children(data))
        kinds = [kind for kind, *_ in elements]
        if kinds[:4] != [_SEEK_HEAD, _VOID, _INFO, _TRACKS]:
            return False
        (_, seek_start, seek_body, seek_end), (_, gap_start, *_), info, tracks = elements[:4]
        entries = _amended_tracks(data[tracks[2] : tracks[3]], size, aspect, variable_rate)
        body = data[info[1] : info[3]] + _element(_TRACKS, entries)
        gap = tracks[3] - gap_start - len(body)
        if gap < 2:
            return False
        start = gap_start + gap - seek_start
        moved = {_INFO: start, _TRACKS: start + info[3] - info[1]}
        seek = _amended_seek_head(data[seek_body:seek_end], moved)
        if len(seek) != seek_end - seek_body:
            return False
        file.seek(seek_body)
        file.write(seek + _void(gap) + body)
    return True


def segment_end(data: bytes) -> int | None:
    """Return the size in bytes that the header of a Matroska file states for the whole file.

    ``data`` is the start of the file. Returns None if ``data`` is not Matroska or states no size.
    """
    if data[:4] != b"\x1aE\xdf\xa3":
        return None
    _, _, at = _header(data, 0)
    kind, body, end = _header(data, at) if at + 12 < len(data) else (0, 0, 0)
    unknown = end - body == (1 << (7 * (body - at - 4))) - 1
    return None if kind != _SEGMENT or unknown else end


def chapters_element(chapters: Sequence[Any]) -> bytes:
    """Return the Matroska element that the muxer would write for chapters in PyAV's form."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as trial:
        trial.add_mux_stream("pcm_s16le", rate=8000)
        trial.set_chapters(list(chapters))
        trial.start_encoding()
    data = file.getvalue()
    _, start, _, end = list(_segment_children(data, last=_CHAPTERS))[-1]
    return data[start:end]


def add_chapters(path: Path, chapters: bytes) -> bool:
    """Append an element of chapters to a finished file without checksums, and index the element.

    Returns False, without a change, if the file is not as expected or the header has no room.
    """
    with path.open("rb+") as file:
        head = file.read(_HEAD)
        _, _, at = _header(head, 0)
        _, body, end = _header(head, at)
        elements = list(_segment_children(head))
        (seek_kind, _, seek_body, seek_end), (void_kind, _, _, void_end) = elements[:2]
        entry = _element(_SEEK_ID, _number(_CHAPTERS)) + _element(
            _SEEK_POSITION, (end - body).to_bytes(8, "big")
        )
        seek = _element(_SEEK_HEAD, head[seek_body:seek_end] + _element(_SEEK, entry))
        room = void_end - elements[0][1] - len(seek)
        size = end - body + len(chapters)
        file.seek(0, io.SEEK_END)
        if (seek_kind, void_kind) != (_SEEK_HEAD, _VOID) or room < 2 or file.tell() != end:
            return False
        file.write(chapters)
        file.seek(body - 8)
        file.write(_size(size, 8))
        file.seek(elements[0][1])
        file.write(seek + _void(room))
    return True


def _segment_children(data: bytes, last: int = _TRACKS) -> Iterator[tuple[int, int, int, int]]:
    """Yield (id, start, content start, end) of the segment's elements until the id ``last``."""
    kind, at, end = _header(data, 0)
    kind, at, _ = _header(data, end)
    if kind != _SEGMENT:
        return
    while at + 12 < len(data):
        start = at
        kind, body, at = _header(data, start)
        yield kind, start, body, at
        if kind == last:
            return


def _amended_tracks(
    tracks: bytes, size: tuple[int, int], aspect: Fraction | None, variable_rate: bool
) -> bytes:
    entries = _children(tracks)
    for number, (kind, entry) in enumerate(entries):
        if kind == _TRACK_ENTRY and (_TRACK_TYPE, b"\x01") in _children(entry):
            entries[number] = kind, _amended_entry(entry, size, aspect, variable_rate)
            break
    return _joined(entries)


def _amended_entry(
    entry: bytes, size: tuple[int, int], aspect: Fraction | None, variable_rate: bool
) -> bytes:
    children = []
    for kind, content in _children(entry):
        if kind == _DEFAULT_DURATION and variable_rate:
            # Padding of the same size. Shorter tracks would move too far for the seek head.
            kind, content = _VOID, bytes(len(content) + 2)
        if kind == _VIDEO and aspect is not None:
            display = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
            kept = [(k, c) for k, c in _children(content) if k not in display]
            content = _joined([*kept, *_display(size, aspect)])
        children.append((kind, content))
    return _joined(children)


def _display(size: tuple[int, int], aspect: Fraction) -> Iterator[Element]:
    """Yield the elements that store the shape of the displayed picture."""
    width, height = size
    wide, high = width * aspect, height / aspect
    if wide.denominator == 1:
        shown = int(wide), height
    elif high.denominator == 1:
        shown = width, int(high)
    else:
        # No size in whole pixels has exactly this shape, so only the ratio of the sides is stored.
        shape = aspect * width / height
        shown = shape.numerator, shape.denominator
        yield _DISPLAY_UNIT, _number(_ASPECT_RATIO_UNIT)
    yield _DISPLAY_WIDTH, _number(shown[0])
    yield _DISPLAY_HEIGHT, _number(shown[1])


def _amended_seek_head(content: bytes, moved: dict[int, int]) -> bytes:
    entries = _children(content)
    for number, (kind, seek) in enumerate(entries):
        parts = dict(_children(seek)) if kind == _SEEK else {}
        target = int.from_bytes(parts.get(_SEEK_ID, b""), "big")
        if target in moved:
            length = len(parts[_SEEK_POSITION])
            parts[_SEEK_POSITION] = _number(moved[target]).rjust(length, b"\0")
            entries[number] = kind, _joined(parts.items())
    return _joined(entries)


def _children(content: bytes) -> list[Element]:
    children, at = [], 0
    while at < len(content):
        kind, body, end = _header(content, at)
        children.append((kind, content[body:end]))
        at = end
    return children


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (id, content start, end) of the element at the offset ``at``."""
    length = 9 - data[at].bit_length()
    kind = int.from_bytes(data[at : at + length], "big")
    at += length
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length], "big") & ((1 << (7 * length)) - 1)
    return kind, at + length, at + length + size


def _element(kind: int, content: bytes) -> bytes:
    return _number(kind) + _size(len(content)) + content


def _joined(elements: Iterable[Element]) -> bytes:
    return b"".join(_element(kind, content) for kind, content in elements)


def _number(value: int) -> bytes:
    """Return a number or an element's id in the fewest bytes."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _size(value: int, length: int = 0) -> bytes:
    """Return the size field of an element, in at least ``length`` bytes."""
    while not length or value >= (1 << (7 * length)) - 1:
        length += 1
    return (value | (1 << (7 * length))).to_bytes(length, "big")


def _void(total: int) -> bytes:
    """Return a padding element of exactly ``total`` bytes (2 or more)."""
    length = 1 if total < 100 else 8
    return _number(_VOID) + _size(total - 1 - length, length) + bytes(total - 1 - length)
