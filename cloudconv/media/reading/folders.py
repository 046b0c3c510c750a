"""Find the videos in a folder, also under unknown endings, and name what is left out."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

import av

from cloudconv.errors import InputError
from cloudconv.events import Warned
from cloudconv.media.containers.input import is_picture
from cloudconv.media.reading import demux
from cloudconv.media.reading import pictures as images
from cloudconv.messages import shortened

_COPIES = (".lrv", ".lrf")
"""The endings of the small copies that cameras write beside their videos."""
_TEXT = ("tty", "bin", "xbin", "adf", "idf")
"""FFmpeg's formats that draw text."""
_PROBED = 100  # packets at most


def inventory(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the videos in a folder, by ending or content, and all others, by name."""
    videos: list[Path] = []
    others: list[Path] = []
    for file in images.visible_in(folder):
        is_one = images.is_video(file) or (not _is_known(file) and _moves(file))
        (videos if is_one else others).append(file)
    return videos, others


def rest_of(folder: Path, kind: str, rest: Iterable[Path]) -> Iterator[Warned]:
    """Yield a warning that names what a folder holds beside the files of a kind."""
    names = [f"{path.relative_to(folder)}{'/' * path.is_dir()}" for path in rest]
    if names:
        yield Warned(
            f"files-left-out: {folder} stands for its {kind}, and what else is in it is "
            f"left out: {shortened(names, 3)}."
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
