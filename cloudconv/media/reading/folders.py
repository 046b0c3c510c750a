"""Find the videos in a folder, also under unknown endings, and name what is left out."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

import av

from cloudconv.errors import InputError
from cloudconv.media.containers.input import is_picture
from cloudconv.media.reading import demux
from cloudconv.media.reading import pictures as images

_COPIES = (".lrv", ".lrf")
"""The endings of the small copies that cameras write beside their videos."""
_TEXT = ("tty", "bin", "xbin", "adf", "idf")
"""FFmpeg's formats that draw text."""
_PROBED = 100  # packets at most


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files of a folder: videos, and the number of others.

    The keys of ``others`` are endings. Pictures are in none of these.
    """

    videos: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def inventory(folder: Path) -> Inventory:
    """Return the videos in a folder, by their endings or their content, sorted by name."""
    files = Inventory()
    for file in images.visible_in(folder):
        if images.is_video(file) or (not _is_known(file) and _moves(file)):
            files.videos.append(file)
        elif not is_picture(file):
            files.others[file.suffix.lower()] += 1
    return files


def by_ending(counts: Iterable[tuple[str, int]]) -> str:
    """Return numbers of files for people: ``3 .txt, 1 without an ending``."""
    return ", ".join(
        f"{number} {ending or 'without an ending'}" for ending, number in counts
    )


def _is_known(file: Path) -> bool:
    is_copy = file.suffix.lower() in _COPIES
    return is_copy or is_picture(file) or images.has_video_suffix(file)


def _moves(file: Path) -> bool:
    """Return whether a file has a video of two pictures or more; a cover has one."""
    with suppress(OSError):
        about = file.stat()
        return _moves_now(file, about.st_size, about.st_mtime_ns)
    return False


@lru_cache(maxsize=10_000)
def _moves_now(file: Path, *_: int) -> bool:
    try:
        with demux.open_container(file) as container:
            if container.format.name in _TEXT:
                return False
            stream = demux.main_video(container, file)
            decoder = demux.open_decoder(stream)
            packets = islice(demux.read_packets(container, stream), _PROBED)
            pictures = chain.from_iterable(map(decoder.decode, chain(packets, [None])))
            return len(list(islice(pictures, 2))) == 2
    except (InputError, av.error.FFmpegError, OSError):
        return False
