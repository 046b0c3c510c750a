"""Hold what is special about MP4 and MOV, and change boxes that FFmpeg writes otherwise.

ISO/IEC 14496-12 defines the boxes. The rows of MP4 and MOV in media/containers.py name
these functions.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudconv.media.muxed import MuxedFile, Planned

if TYPE_CHECKING:
    from av.container import OutputContainer

Span = tuple[int, int]  # start and end of the content of a box

_SHOWN = 1  # the flag of a track that players show unless somebody chooses another
_EDIT = struct.Struct(">Iii")  # duration, place in the media (-1 for none), speed
_LONG_EDIT = struct.Struct(">Qqi")
_ONE = 1 << 16  # of a speed
# Ticks of a movie per second: 32 bits then suffice for two hours.
_MOST_SCALE = 600_000
_SOUND_RATES = (48_000, 44_100)
_CHAPTER_TICKS = 1000  # of chapters, a second
# A first chapter that begins at most so many seconds late may begin at 0: a chapter before
# it would only be in the way of whoever goes from one chapter to the next.
_LATE = Fraction(1, 2)
# Bytes of a sample entry before its boxes, and of the box with the entries.
_VIDEO_ENTRY = 78
_ENTRIES = 8
# Tags of any length, one of which holds the place of others, and the bytes before its text.
_ROOMS = ("lyrics", "synopsis", "grouping", "network", "keywords", "copyright")
_TEXT_HEAD = 24
_NAMED_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre"),
    *("copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id"),
    *("network", "keywords", "episode_sort", "season_number", "media_type", "hd_video"),
    *("gapless_playback", "compilation", "track", "disc", "creation_time", "language"),
}


def options(planned: Planned) -> dict[str, str]:
    """Return the options of the muxer."""
    # A tick of edit lists and durations divides one of the video, and suits the audio.
    scale = planned.tick.denominator
    for rate in _SOUND_RATES:
        finer = lcm(scale, rate)
        scale = finer if finer <= _MOST_SCALE else scale
    # Boxes of 360° and 3D video are in no edition of the standard.
    return {
        "movie_timescale": str(scale),
        "movflags": "+faststart",
        "strict": "unofficial",
    }


def mov_options(planned: Planned) -> dict[str, str]:
    """Return the options of the muxer of MOV, which has few tags of its own."""
    # Without ``use_metadata_tags`` the muxer drops tags that it does not know.
    free = any(key.lower() not in _NAMED_TAGS for key in planned.tags)
    return options(planned) | {"movflags": "+faststart" + "+use_metadata_tags" * free}


def prepare(out: OutputContainer, _: Any) -> bytes:
    """Return the boxes of tags for which iTunes has no name, and make room for them.

    With FFmpeg's option ``use_metadata_tags``, no tag at all has a name that players know.
    :func:`amend` puts the boxes in the place of a text of the same length.
    """
    others = {
        key: value
        for key, value in out.metadata.items()
        # FFmpeg writes a tag of a language, such as title-eng, under its plain name.
        if key.lower().split("-")[0] not in _NAMED_TAGS
    }
    unused = [key for key in _ROOMS if key not in map(str.lower, out.metadata)]
    room = b"".join(_free_tag(key, value) for key, value in others.items())
    if room and unused:
        out.metadata[unused[0]] = (len(room) - _TEXT_HEAD) * "~"
    return room


def _free_tag(name: str, value: str) -> bytes:
    parts = b"".join(
        struct.pack(">I4sI", 12 + len(text), kind, version) + text
        for kind, version, text in (
            (b"mean", 0, b"com.apple.iTunes"),
            (b"name", 0, name.encode()),
            (b"data", 1, bytes(4) + value.encode()),
        )
    )
    return struct.pack(">I4s", 8 + len(parts), b"----") + parts


def tags(given: dict[str, str]) -> dict[str, str]:
    """Return tags as MP4 stores them: a language has three letters."""
    if len(given.get("language", "und")) == 3:
        return given
    return given | {"language": _three_letters(given["language"])}


def _three_letters(language: str) -> str:
    """Return a language tag, such as ``pt-BR``, as the three letters that MP4 stores."""
    import av

    from cloudconv.media.muxing import header_of

    def add(out: OutputContainer) -> None:
        out.add_stream("pcm_s16le", rate=8000).metadata["language"] = language.split("-")[0]

    # FFmpeg converts languages in its reader of ASF, and has no function for that.
    with av.open(io.BytesIO(header_of("asf", add) or b""), format="asf") as container:
        return container.streams[0].metadata.get("language", language)


def chapters(kept: Sequence[Any]) -> list[Any]:
    """Return the chapters as MP4 can store them: one at a time, and each with a title."""
    return _with_titles(_one_at_a_time(kept))


def start_of(chapter: Any) -> Fraction:
    """Return the start of a chapter in seconds."""
    return Fraction(chapter["start"] * tick_of(chapter))


def tick_of(chapter: Any) -> Fraction:
    """Return the length of a tick of a chapter in seconds."""
    return Fraction(chapter["time_base"] or Fraction(1, 1000))


def _one_at_a_time(given: Iterable[Any]) -> list[Any]:
    """Return the chapters without those that MP4 would store with a length of 0.

    In MP4 a chapter lasts until the next one begins. Of several that begin together, the
    one that ends first stays.
    """
    by_start: dict[int, Any] = {}
    for chapter in sorted(given, key=lambda one: one["end"], reverse=True):
        by_start[round(start_of(chapter) * _CHAPTER_TICKS)] = chapter
    return [by_start[start] for start in sorted(by_start)]


def _with_titles(given: Sequence[Any]) -> list[Any]:
    """Return the chapters as MP4 can store them: each with a title, and one from 0 on.

    FFmpeg writes no chapter without a title, and the first one that it writes begins at 0.
    """
    titled = [
        {**chapter, "metadata": {"title": "", **chapter["metadata"]}} for chapter in given
    ]
    if titled and start_of(titled[0]) > _LATE:
        before = {"start": 0, "end": titled[0]["start"], "metadata": {"title": ""}}
        titled.insert(0, {**titled[0], **before})
    elif titled:
        titled[0]["start"] = 0
    return titled


def amend(muxed: MuxedFile) -> None:
    """Hide subtitles that nobody chose, add tags, and remove Apple's box about 3D video.

    FFmpeg 8 writes this box, which states neither the layout of 3D video nor the pose of a
    sphere, and reads from the box that there is none (`ffprobe OUT.mp4`).
    """
    hide(muxed)
    with muxed.path.open("rb+") as file:
        for track in _tracks(file, muxed.path.stat().st_size):
            for start, end in _within(file, track, b"mdia", b"minf", b"stbl", b"stsd"):
                for entry in _boxes(file, None, start + _ENTRIES, end):
                    for box, _ in _boxes(file, b"vexu", entry[0] + _VIDEO_ENTRY, entry[1]):
                        file.seek(box - 4)
                        file.write(b"free")
        size = muxed.path.stat().st_size
        for start, end in _within(file, (0, size), b"moov", b"udta", b"meta"):
            for known in _boxes(file, b"ilst", start + 4, end):
                for at, after in _boxes(file, None, *known):
                    file.seek(at - 8)
                    tag = file.read(after - at + 8)
                    if len(tag) == len(muxed.room) and not tag[_TEXT_HEAD:].strip(b"~"):
                        file.seek(at - 8)
                        file.write(muxed.room)


def edit_speeds(path: Path) -> list[Fraction]:
    """Return the speeds, but 1, at which an edit list plays parts of the file's tracks."""
    speeds = set[Fraction]()
    with path.open("rb") as file:
        for track in _tracks(file, path.stat().st_size):
            for start, end in _within(file, track, b"edts", b"elst"):
                file.seek(start)
                edit = _LONG_EDIT if file.read(8)[:1] == b"\1" else _EDIT
                for _ in range((end - start - 8) // edit.size):
                    entry = file.read(edit.size)
                    if len(entry) < edit.size:
                        break
                    _, place, speed = edit.unpack(entry)
                    # Some programs write a speed of 0 for 1.
                    if place >= 0 and speed not in (0, _ONE):
                        speeds.add(Fraction(speed, _ONE))
    return sorted(speeds)


def unread(path: Path) -> list[str]:
    """Return the words for what a file has and FFmpeg's reader does not show."""
    words = list[str]()
    with path.open("rb") as file:
        for track in _tracks(file, path.stat().st_size):
            for start, end in _within(file, track, b"mdia", b"elng"):
                file.seek(start + 4)
                language = file.read(min(end - start - 4, 40)).partition(b"\0")[0]
                if b"-" in language:
                    words.append(f"the language {language.decode(errors='replace')}")
    return words


def hide(muxed: MuxedFile) -> None:
    """Mark tracks, in place, as shown only if somebody chooses them.

    FFmpeg's muxer marks the first track of subtitles as shown if none is the default one,
    and players then show subtitles that nobody has chosen.
    """
    with muxed.path.open("rb+") as file:
        for track in _tracks(file, muxed.path.stat().st_size):
            for header, _ in _boxes(file, b"tkhd", *track):
                file.seek(header)
                version, *flags = file.read(4)
                file.seek(16 if version else 8, 1)  # the times of creation and of a change
                if int.from_bytes(file.read(4), "big") in muxed.hidden:
                    file.seek(header + 3)
                    file.write(bytes([flags[-1] & ~_SHOWN]))


def _tracks(file: BinaryIO, size: int) -> Iterator[Span]:
    return _within(file, (0, size), b"moov", b"trak")


def _within(file: BinaryIO, span: Span, *kinds: bytes) -> Iterator[Span]:
    """Yield the boxes of the last kind within those of the kinds before, in a span."""
    if not kinds:
        yield span
        return
    for inner in _boxes(file, kinds[0], *span):
        yield from _within(file, inner, *kinds[1:])


def _boxes(file: BinaryIO, kind: bytes | None, start: int, end: int) -> Iterator[Span]:
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
