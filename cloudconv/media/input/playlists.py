"""Find the files that FFmpeg reads for a playlist: ffconcat, M3U8, and the parts of an MLV.

The lines are split and the names unquoted exactly as FFmpeg does. Where FFmpeg's choice depends on
more than the text, every file that FFmpeg may choose is listed: a file too many costs little, and a
file that is missing here may be replaced by an output.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloudconv.errors import InputError

_LONGEST_LIST = 1 << 24  # bytes of a playlist
_LONGEST_LINE = 4095  # bytes of a line of an M3U8, after which FFmpeg cuts the line off
_LINE_END = re.compile(rb"\r\n|[\n\r\0]")
_BLANKS = b" \t\r\n"
_FILE = re.compile(rb"[ \t]*file[ \t]+")
_URI = re.compile(rb'URI=(?:"((?:[^"\\]|\\.)*)|([^\s,"][^\s,]*))', re.DOTALL)
_PROTOCOL = re.compile(r"(?:[a-z0-9]+[+:])+")
_SAFE = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?")
_OPENS_LIST = tuple(
    b"#EXT-X-" + name for name in (b"TARGETDURATION:", b"MEDIA-SEQUENCE:", b"PLAYLIST-TYPE:",
                                   b"MAP:", b"START:")
)  # fmt: skip
_PARTS_OF_MLV = range(99)


@dataclass(frozen=True, slots=True)
class _Playlist:
    """The content of one playlist.

    ``needed`` are the names of files without which the video is incomplete, ``others`` are names
    that FFmpeg may use. ``unsafe`` is the first name that FFmpeg refuses. ``is_live``: whether
    FFmpeg would wait for more files.
    """

    needed: list[str]
    others: list[str]
    unsafe: str | None = None
    is_live: bool = False


def parts_of(path: Path) -> list[Path]:
    """Return the files that a file names, directly or through other playlists.

    Missing files, and files on other machines, are left out. For a file that is no playlist the
    list is empty.

    Raises:
        InputError: a playlist is longer than 16 MiB.
    """
    parts: dict[Path, None] = {}
    for here, playlist in _playlists(path):
        for name in (*playlist.needed, *playlist.others):
            for place in _places(here, name):
                status = _status(place)
                if status and stat.S_ISREG(status.st_mode):
                    parts[place.resolve()] = None
    return list(parts)


def check_playlist(path: Path) -> None:
    """Refuse a playlist that FFmpeg would read without end, wrongly, or not at all.

    Raises:
        InputError: a playlist is live or too long, or a name in a playlist is that of a missing
            file or a pipe, or is not accepted by FFmpeg.
    """
    for here, playlist in _playlists(path):
        if re.search("[?#]", str(here.parent)):
            # FFmpeg takes these characters as the end of the path, and reads another folder.
            raise InputError(
                f"playlist-folder: The playlist {here} is in a folder with # or ? in its path, "
                "where FFmpeg would read other files than those named: rename the folder "
                f"{here.parent}."
            )
        if playlist.unsafe is not None:
            raise InputError(
                f"playlist-unsafe-name: The playlist {here} names {playlist.unsafe}, which FFmpeg "
                "refuses: give a name relative to the folder of the playlist, of letters, "
                "digits, _, - and . alone."
            )
        if playlist.is_live:
            raise InputError(
                f"playlist-is-live: The playlist {here} has no line #EXT-X-ENDLIST, so more files "
                "may follow: when the recording is complete, add that line at the end."
            )
        for name in (*playlist.needed, *playlist.others):
            modes = [status.st_mode for status in map(_status, _places(here, name)) if status]
            if any(not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) for mode in modes):
                raise InputError(
                    f"playlist-names-pipe: The playlist {here} names {name}, which is a pipe or a "
                    "device: name files alone."
                )
        for name in playlist.needed:
            if not any(map(_status, _places(here, name))) and "://" not in name:
                raise InputError(
                    f"playlist-part-missing: The playlist {here} names {name}, and there is no "
                    "such file."
                )


def _playlists(path: Path) -> Iterator[tuple[Path, _Playlist]]:
    """Yield a playlist and all playlists that it names, each with its path."""
    waiting, seen = [path], set()
    while waiting:
        here = waiting.pop(0)
        # Names are relative to the folder in the path, which a link of the same file may change.
        status = _status(here)
        if not status or not stat.S_ISREG(status.st_mode):
            continue
        key = here.parent.resolve(), status.st_dev, status.st_ino
        if key in seen:
            continue
        seen.add(key)
        playlist = _read(here)
        if playlist is not None:
            yield here, playlist
            names = (*playlist.needed, *playlist.others)
            waiting += [place for name in names for place in _places(here, name)]


def _read(path: Path) -> _Playlist | None:
    """Return the content of a playlist; None for any other file, and for an unreadable file."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head.startswith(b"MLVI"):
                return _Playlist([], [f"{path.name[:-2]}{n:02}" for n in _PARTS_OF_MLV])
            if not head.startswith((b"#EXTM3U", b"ffconcat")):
                return None
            text = head + file.read(_LONGEST_LIST)
    except OSError:  # the reader reports the error
        return None
    if len(text) > _LONGEST_LIST:
        raise InputError(
            f"playlist-too-long: The playlist {path} has more than {_LONGEST_LIST >> 20} MiB: "
            "split the list."
        )
    lines = _LINE_END.split(text)
    return _concat(lines) if head == b"ffconcat" else _m3u8(lines)


def _concat(lines: list[bytes]) -> _Playlist:
    names, unsafe = [], None
    for line in lines:
        if match := _FILE.match(line):
            name = _token(line[match.end() :])
            names.append(os.fsdecode(name))
            if unsafe is None and not _SAFE.fullmatch(name):
                unsafe = names[-1]
    return _Playlist(names, [], unsafe)


def _token(text: bytes) -> bytes:
    r"""Return the first word: '...' is literal; elsewhere ``\`` escapes the next character."""
    word, position = bytearray(), 0
    while position < len(text) and text[position] not in _BLANKS:
        character = text[position : position + 1]
        position += 1
        if character == b"\\" and position < len(text):
            word += text[position : position + 1]
            position += 1
        elif character == b"'":
            end = text.find(b"'", position)
            end = len(text) if end < 0 else end
            word += text[position:end]
            position = end + 1
        else:
            word += character
    return bytes(word)


def _m3u8(lines: list[bytes]) -> _Playlist:
    needed: list[str] = []
    others: list[str] = []
    is_media = is_segment = ended = False
    for whole in lines:
        line = whole[:_LONGEST_LINE].rstrip()
        if line.startswith(b"#"):
            is_segment |= line.startswith(b"#EXTINF:")
            is_media |= line.startswith(_OPENS_LIST)
            ended |= is_media and line.startswith(b"#EXT-X-ENDLIST")
            for quoted, bare in _URI.findall(line):
                others.append(os.fsdecode(re.sub(rb"\\(.)", rb"\1", quoted) or bare))
        elif line:
            (needed if is_segment else others).append(os.fsdecode(line))
            is_media |= is_segment
            is_segment = False
    return _Playlist(needed, others, is_live=is_media and not ended)


def _places(playlist: Path, name: str) -> list[Path]:
    """Return the paths that FFmpeg may open for a name in a playlist."""
    plain = name[match.end() :] if (match := _PROTOCOL.match(name)) else name
    joined = [playlist.parent / each for each in dict.fromkeys((name, plain)) if each]
    # FFmpeg removes ".." from the text, and the system follows links first.
    places = [*joined, *(Path(os.path.normpath(place)) for place in joined)]
    return list(dict.fromkeys([*places, Path(plain)] if plain != name else places))


def _status(path: Path) -> os.stat_result | None:
    with suppress(OSError, ValueError):
        return path.stat()
    return None
