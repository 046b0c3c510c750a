"""Hold what is special about MP4 and MOV, and change boxes that FFmpeg writes otherwise.

ISO/IEC 14496-12 defines the boxes. The rows of MP4 and MOV in `containers` name
these functions.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cloudconv.media.containers.muxed import MuxedFile

if TYPE_CHECKING:
    import numpy as np
    from av.container import OutputContainer
    from numpy.typing import NDArray

BoxSpan = tuple[int, int]  # start and end of the content of a box

_SHOWN = 1  # the flag of a track that players show unless somebody chooses another
# Ticks of a movie per second: 32 bits then suffice for two hours.
_MOST_SCALE = 600_000
_SOUND_RATES = (48_000, 44_100)
# Bytes of a sample entry before its boxes, and of the box with the entries.
_VIDEO_ENTRY = 78
_ENTRIES = 8
_TEXT_HEAD = 24  # bytes of a tag of text before its text, at most
_TEXT = struct.pack(">II", 1, 0)  # before a text: its kind, and its language


class Names(NamedTuple):
    """The tags that a kind of file has names for, and what others need."""

    known: set[str]
    spare: tuple[str, ...]  # tags of any length, one of which is padded for others
    head: int  # bytes of a tag before its text


_BOTH = {
    *("title", "artist", "album", "date", "comment", "genre", "copyright", "keywords"),
    *("creation_time", "language", "timecode"),
}
_ITUNES = Names(
    _BOTH
    | {"album_artist", "composer", "grouping", "lyrics", "description", "synopsis", "show"}
    | {"episode_id", "network", "episode_sort", "season_number", "media_type", "hd_video"}
    | {"gapless_playback", "compilation", "track", "disc"},
    ("lyrics", "synopsis", "grouping", "network", "keywords", "copyright"),
    24,
)
_QUICKTIME = Names(
    _BOTH | {"author", "make", "model", "location"},
    ("keywords", "copyright", "genre", "author", "model", "make"),
    12,
)


def options(_source: Path, tick: Fraction) -> dict[str, str]:
    """Return the options of the muxer."""
    # A tick of edit lists and durations divides one of the video, and suits the audio.
    scale = tick.denominator
    for rate in _SOUND_RATES:
        finer = lcm(scale, rate)
        scale = finer if finer <= _MOST_SCALE else scale
    # Boxes of 360° and 3D video are in no edition of the standard.
    return {
        "movie_timescale": str(scale),
        "movflags": "+faststart",
        "strict": "unofficial",
    }


def prepare(out: OutputContainer, _: Any) -> bytes:
    """Return the boxes of tags for which iTunes has no name, and pad a tag for them.

    With FFmpeg's option ``use_metadata_tags``, no tag at all has a name that players know.
    :func:`amend` puts the boxes in the place of a text of the same length.
    """
    others = _unnamed(out, _ITUNES)
    boxes = (
        _box(b"mean", bytes(4), b"com.apple.iTunes")
        + _box(b"name", bytes(4), name.encode())
        + _box(b"data", _TEXT, value.encode())
        for name, value in others.items()
    )
    return _padded(out, _ITUNES, b"".join(_box(b"----", box) for box in boxes))


def prepare_mov(out: OutputContainer, _: Any) -> bytes:
    """Return a box with the tags for which QuickTime has no name, and pad a tag for it.

    Apple's programs read such a list of keys and values.
    """
    others = _unnamed(out, _QUICKTIME)
    if not others:
        return b""
    keys = b"".join(_box(b"mdta", name.encode()) for name in others)
    values = b"".join(
        _box(number.to_bytes(4), _box(b"data", _TEXT, value.encode()))
        for number, value in enumerate(others.values(), 1)
    )
    content = (
        _box(b"hdlr", bytes(8), b"mdta", bytes(13)),
        _box(b"keys", struct.pack(">II", 0, len(others)), keys),
        _box(b"ilst", values),
    )
    return _padded(out, _QUICKTIME, _box(b"meta", bytes(4), *content))


def _unnamed(out: OutputContainer, names: Names) -> dict[str, str]:
    # FFmpeg writes a tag of a language, such as title-eng, under its plain name.
    tags = out.metadata.items()
    return {key: text for key, text in tags if key.lower().split("-")[0] not in names.known}


def _padded(out: OutputContainer, names: Names, boxes: bytes) -> bytes:
    unused = [key for key in names.spare if key not in map(str.lower, out.metadata)]
    if boxes and unused:
        out.metadata[unused[0]] = (len(boxes) - names.head) * "~"
    return boxes


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def tags(given: dict[str, str]) -> dict[str, str]:
    """Return tags as MP4 stores them: a language has three letters."""
    if len(given.get("language", "und")) == 3:
        return given
    return given | {"language": _three_letters(given["language"])}


def _three_letters(language: str) -> str:
    """Return a language tag, such as ``pt-BR``, as the three letters that MP4 stores."""
    import av

    from cloudconv.media.containers.muxing import header_of

    def add(out: OutputContainer) -> None:
        out.add_stream("pcm_s16le", rate=8000).metadata["language"] = language.split("-")[0]

    # FFmpeg converts languages in its reader of ASF, and has no function for that.
    with av.open(io.BytesIO(header_of("asf", add) or b""), format="asf") as container:
        return container.streams[0].metadata.get("language", language)


def amend(muxed: MuxedFile) -> None:
    """Hide subtitles that nobody chose, add tags, and remove Apple's box about 3D video.

    FFmpeg 8 writes this box, which states neither the layout of 3D video nor the pose of a
    sphere, and reads from the box that there is none (`ffprobe OUT.mp4`).
    """
    amend_mov(muxed)
    with muxed.path.open("rb+") as file:
        for track in _tracks(file, muxed.path.stat().st_size):
            for start, end in _within(file, track, b"mdia", b"minf", b"stbl", b"stsd"):
                for entry in _boxes(file, None, start + _ENTRIES, end):
                    for box, _ in _boxes(file, b"vexu", entry[0] + _VIDEO_ENTRY, entry[1]):
                        file.seek(box - 4)
                        file.write(b"free")


def amend_mov(muxed: MuxedFile) -> None:
    """Describe the tracks, and put tags in the place of their padding."""
    with muxed.path.open("rb+") as file:
        size = muxed.path.stat().st_size
        for track in _tracks(file, size):
            _describe(file, track, muxed)
        for tags in _within(file, (0, size), b"moov", b"udta"):
            for at, after in [*_boxes(file, None, *tags), *_itunes_tags(file, tags)]:
                file.seek(at - 8)
                tag = file.read(after - at + 8)
                if len(tag) == len(muxed.prepared) and not tag[_TEXT_HEAD:].strip(b"~"):
                    file.seek(at - 8)
                    file.write(muxed.prepared)


def _itunes_tags(file: BinaryIO, tags: BoxSpan) -> Iterator[BoxSpan]:
    for start, end in _within(file, tags, b"meta"):
        for known in _boxes(file, b"ilst", start + 4, end):
            yield from _boxes(file, None, *known)


def shown_later(path: Path, place: int, count: int) -> NDArray[np.int64]:
    """Return how many ticks after its decode time each picture of a track is shown.

    ``place`` is that of the track in the file, from 0. They are zeros for a track without a
    table for ``count`` pictures.
    """
    import numpy as np  # imported here, because every command loads this module

    entry = np.dtype([("count", ">u4"), ("ticks", ">i4")])
    with path.open("rb") as file:
        for track in islice(_tracks(file, path.stat().st_size), place, place + 1):
            for start, end in _within(file, track, b"mdia", b"minf", b"stbl", b"ctts"):
                file.seek(start + _ENTRIES)
                table = np.fromfile(file, entry, (end - start) // entry.itemsize - 1)
                if table["count"].sum() == count:
                    return np.repeat(table["ticks"].astype(np.int64), table["count"])
    return np.zeros(count, np.int64)


def _describe(file: BinaryIO, track: BoxSpan, muxed: MuxedFile) -> None:
    """Hide a track that nobody chose, and name its language by three letters, in place.

    FFmpeg's muxer marks the first track of subtitles as shown if none is the default one,
    and players then show subtitles that nobody has chosen. The one of MOV knows only
    languages of the Macintosh.
    """
    header, _ = next(_boxes(file, b"tkhd", *track))
    file.seek(header)
    version, *flags = file.read(4)
    file.seek(16 if version else 8, 1)  # the times of creation and of a change
    number = int.from_bytes(file.read(4), "big")
    is_hidden, language = muxed.tracks.get(number, (False, ""))
    if is_hidden:
        file.seek(header + 3)
        file.write(bytes([flags[-1] & ~_SHOWN]))
    letters = [ord(letter) & 31 for letter in language]
    for _, end in _within(file, track, b"mdia", b"mdhd"):
        if len(letters) == 3:
            file.seek(end - 4)
            file.write(struct.pack(">H", letters[0] << 10 | letters[1] << 5 | letters[2]))


def _tracks(file: BinaryIO, size: int) -> Iterator[BoxSpan]:
    return _within(file, (0, size), b"moov", b"trak")


def _within(file: BinaryIO, span: BoxSpan, *kinds: bytes) -> Iterator[BoxSpan]:
    """Yield the boxes of the last kind within those of the kinds before, in a span."""
    if not kinds:
        yield span
        return
    for inner in _boxes(file, kinds[0], *span):
        yield from _within(file, inner, *kinds[1:])


def _boxes(file: BinaryIO, kind: bytes | None, start: int, end: int) -> Iterator[BoxSpan]:
    """Yield the content of all boxes of a kind between two places; None for any kind."""
    while start + 8 <= end:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:  # the length follows in 64 bits
            length = int.from_bytes(file.read(8), "big")
            head = 16
        elif length == 0:  # the last box of the file
            length = end - start
        following = start + max(length, head)
        if kind in (None, name):
            yield start + head, min(following, end)
        start = following
