"""Hold what is special about Matroska, and correct finished files of FFmpeg's muxer.

The rows of Matroska and WebM in `containers` name these functions.

The muxer states a constant rate for every encoded video. The muxer writes no sample aspect
ratio for codecs that cannot store one in their bitstream. The muxer states no delay of
copied audio whose source hides the first samples in another way. `mkvinfo` shows all three
in files of uneven times, of FFV1 with wide pixels, and with AAC from an MP4. RFC 9559
defines the elements, and RFC 8794 their encoding.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudconv.media.containers.muxed import MuxedFile

if TYPE_CHECKING:
    from pathlib import Path

    from av.container import OutputContainer


_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_TRACKS = 0x1654AE6B
_TRACK_ENTRY = 0xAE
_HEADER = 12  # bytes of the id and the size of an element, at most
_NAME = 0x536E
_DEFAULT_DURATION = 0x23E383
_VIDEO = 0xE0
_TRACK_TYPE = 0x83
_NUMBER = 0xD7
_CODEC_DELAY = 0x56AA
_AUDIO = b"\2"
_MP4_ONLY = {"handler_name", "vendor_id"}
_DISPLAY_WIDTH = 0x54B0
_DISPLAY_HEIGHT = 0x54BA
_DISPLAY_UNIT = 0x54B2
_VOID = 0xEC
_COLOUR = 0x55B0
# FFmpeg's places of chroma by the elements for both directions, of which no values exist
# for the bottom.
_SITES = {(1, 2): "left", (2, 2): "center", (1, 1): "topleft", (2, 1): "top"}
_SITED = 0x55B7, 0x55B8
CROPS = 0x54BB, 0x54AA, 0x54CC, 0x54DD
_ASPECT_RATIO_UNIT = 3
# The number of bytes to read from the start of a file. These bytes contain the tracks,
# because fonts and covers come later.
_HEAD = 1 << 24

Element = tuple[int, bytes]  # the id and the content of an element


def options(_source: Path, _tick: Fraction) -> dict[str, str]:
    """Return the options of the muxer: checksums would be wrong after corrections."""
    return {"write_crc32": "0"}


def tags(given: dict[str, str]) -> dict[str, str]:
    """Return tags without those that every track of MP4 has, also if nobody chose them."""
    return {
        key: value
        for key, value in given.items()
        if key.lower().split("-")[0] not in _MP4_ONLY
    }


def prepare(out: OutputContainer, video: Any) -> bytes:
    """Add an ending to the track's title, which :func:`amend` replaces by elements."""
    padding = "~" * (400 + 16 * len(out.streams))
    video.metadata["title"] = video.metadata.get("title", "") + padding
    return padding.encode()


def amend(muxed: MuxedFile) -> None:
    """Correct the tracks of a finished file without checksums, in place.

    The first is a video, whose title must end with the padding, which is removed. A
    variable rate removes the stated constant rate. An empty element follows the tracks, so
    nothing after them moves.
    """
    with muxed.path.open("rb+") as file:
        data = file.read(_HEAD)
        start, end = _tracks(data)
        (_, video), *others = children(data[start:end])
        entries = [_amended(video, muxed)]
        waiting = iter(muxed.delays)
        for _, entry in others:
            is_audio = (_TRACK_TYPE, _AUDIO) in children(entry)
            delay = round(next(waiting, Fraction(0)) * 10**9) if is_audio else 0
            entries.append(
                entry + (element(_CODEC_DELAY, _number(delay)) if delay else b"")
            )
        tracks = _joined((_TRACK_ENTRY, entry) for entry in entries)
        rest = end - start - len(tracks)
        file.seek(start)
        void = _number(_VOID) + _size(rest - 9, 8)
        file.write(tracks + void.ljust(rest, b"\0"))


def _tracks(data: bytes) -> tuple[int, int]:
    outer = _outer(io.BytesIO(data))
    return next((start, end) for kind, start, end in outer if kind == _TRACKS)


def _outer(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yield the id and the place of the content of each element.

    Those within the segment follow it.
    """
    at = 0
    with suppress(IndexError, OverflowError):  # of the end, or of a damaged file
        while True:
            file.seek(at)
            kind, start, end = header(file.read(_HEADER), 0)
            yield kind, at + start, at + end
            at += start if kind == _SEGMENT else end


def marks_of(data: bytes) -> tuple[str | None, list[int]]:
    """Return FFmpeg's name for the place of chroma, and the sizes of parts not to show.

    They are those of the first track, in the start of a file.
    """
    start, end = _tracks(data)
    video = dict(children(dict(children(children(data[start:end])[0][1]))[_VIDEO]))
    colour = dict(children(video.get(_COLOUR, b"")))
    across, down = (int.from_bytes(colour.get(key, b"")) for key in _SITED)
    return _SITES.get((across, down)), cropping(video)


def projection(kind: int, sizes: Iterable[int], angles: Iterable[float]) -> bytes:
    """Return the element of a projection; the angles are yaw, pitch and roll."""
    private = struct.pack(">I", 0) + b"".join(struct.pack(">I", size) for size in sizes)
    content = element(0x7671, bytes([kind])) + element(0x7672, private)
    return element(0x7670, content + _floats((0x7673, 0x7674, 0x7675), angles))


def stereo(mode: int | None) -> bytes:
    """Return the element of a stereo 3D layout; no bytes for None."""
    return element(0x53B8, bytes([mode])) if mode else b""


def crops(sizes: Iterable[int]) -> bytes:
    """Return the elements of the parts not to show, in the order of :func:`cropping`."""
    pairs = zip(CROPS, sizes, strict=True)
    return _joined((kind, size.to_bytes(4, "big")) for kind, size in pairs if size)


def hdr10(
    light: Iterable[int] | None, display: tuple[list[Fraction], list[Fraction]] | None
) -> bytes:
    """Return the element of colour with light levels and a mastering display."""
    pairs = zip((0x55BC, 0x55BD), light or (), strict=False)
    colour = _joined((kind, level.to_bytes(4, "big")) for kind, level in pairs)
    if display is not None:
        chromaticities, luminances = display
        described = _floats(range(0x55D1, 0x55D9), chromaticities)
        described += _floats((0x55DA, 0x55D9), luminances)
        colour += element(0x55D0, described)
    return element(_COLOUR, colour) if colour else b""


def _floats(kinds: Iterable[int], values: Iterable[float | Fraction]) -> bytes:
    pairs = zip(kinds, values, strict=False)
    return _joined((kind, struct.pack(">d", value)) for kind, value in pairs)


def cropping(video: dict[int, bytes]) -> list[int]:
    """Return the sizes of the parts not to show: top, bottom, left, right."""
    return [int.from_bytes(video.get(side, b"")) for side in CROPS]


def described_video(elements: bytes) -> bytes:
    """Return a file of one video track without codec, with these elements in its Video."""
    pixel = element(0xB0, b"\x7f\xff") + element(0xBA, b"\x7f\xff")
    track = b"".join(element(kind, b"\1") for kind in (_NUMBER, 0x73C5, _TRACK_TYPE))
    track += element(0x86, b"V_NONE") + element(_VIDEO, pixel + elements)
    tracks = element(_TRACKS, element(_TRACK_ENTRY, track))
    cluster = element(_CLUSTER, element(0xE7, b"\0"))
    head = element(_EBML, element(0x4282, b"matroska"))
    return head + element(_SEGMENT, tracks + cluster)


def segment_end(data: bytes) -> int | None:
    """Return the size of the whole file in bytes that a Matroska file's header states.

    ``data`` is the start of the file. Returns None if ``data`` is not Matroska or states no
    size.
    """
    before = 0
    for kind, start, end in _outer(io.BytesIO(data)):
        if kind == _SEGMENT:
            unknown = (1 << (7 * (start - before - 4))) - 1
            return None if end - start == unknown else end
        before = end
    return None


def _amended(entry: bytes, muxed: MuxedFile) -> bytes:
    amended = []
    aspect = muxed.aspect
    for kind, content in children(entry):
        if kind == _NAME:
            content = content.removesuffix(muxed.prepared)
        if kind == _VIDEO and aspect is not None:
            kept = {
                element: value
                for element, value in children(content)
                if element != _DISPLAY_UNIT
            }
            top, bottom, left, right = cropping(kept)
            width, height = muxed.size
            visible = width - left - right, height - top - bottom
            content = _joined([*kept.items(), *_display(visible, aspect)])
        is_wrong = kind == _DEFAULT_DURATION and muxed.varies
        if not is_wrong and (kind != _NAME or content):
            amended.append((kind, content))
    return _joined(amended)


def _display(size: tuple[int, int], aspect: Fraction) -> Iterator[Element]:
    width, height = size
    wide = width * aspect
    high = height / aspect
    if wide.denominator == 1:
        extent = int(wide), height
    elif high.denominator == 1:
        extent = width, int(high)
    else:
        # No size in whole pixels has exactly this shape, so only the ratio of the sides is
        # stored.
        shape = aspect * width / height
        extent = shape.numerator, shape.denominator
        yield _DISPLAY_UNIT, _number(_ASPECT_RATIO_UNIT)
    yield _DISPLAY_WIDTH, _number(extent[0])
    yield _DISPLAY_HEIGHT, _number(extent[1])


def children(content: bytes) -> list[Element]:
    """Return the elements within an element."""
    elements = []
    at = 0
    while at < len(content):
        kind, body, end = header(content, at)
        elements.append((kind, content[body:end]))
        at = end
    return elements


def header(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (id, content start, end) of the element at the offset ``at``."""
    length = 9 - data[at].bit_length()
    kind = int.from_bytes(data[at : at + length], "big")
    at += length
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length], "big") & ((1 << (7 * length)) - 1)
    return kind, at + length, at + length + size


def element(kind: int, content: bytes) -> bytes:
    """Return an element of EBML."""
    return _number(kind) + _size(len(content)) + content


def _joined(elements: Iterable[Element]) -> bytes:
    return b"".join(element(kind, content) for kind, content in elements)


def _number(value: int) -> bytes:
    """Return a number or an element's id in the fewest bytes."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _size(value: int, length: int = 0) -> bytes:
    while not length or value >= (1 << (7 * length)) - 1:
        length += 1
    return (value | (1 << (7 * length))).to_bytes(length, "big")
