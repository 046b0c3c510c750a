"""Find the videos in a folder, also under unknown endings, and count what is left out."""

from collections.abc import Iterable
from contextlib import suppress
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


def inventory(folder: Path) -> tuple[list[Path], int]:
    """Return the videos in a folder, by their endings or their content, sorted by name.

    The number is that of the other files, without pictures.
    """
    videos = []
    others = 0
    for file in images.visible_in(folder):
        if images.is_video(file) or (not _is_known(file) and _moves(file)):
            videos.append(file)
        else:
            others += not is_picture(file)
    return videos, others


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
