"""List all output formats, and find the format of an output's name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from cloudconv.errors import OutputUsageError
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.names import is_stdout, numbered
from cloudconv.media.write.containers import pictures
from cloudconv.media.write.containers.apng import APNG
from cloudconv.media.write.containers.base import Container
from cloudconv.media.write.containers.gif import GIF
from cloudconv.media.write.containers.matroska import MKV, WEBM
from cloudconv.media.write.containers.mp4 import MOV, MP4
from cloudconv.media.write.containers.webp import WEBP

CONTAINERS = {s: each for each in (MP4, MOV, MKV, WEBM, GIF, APNG, WEBP) for s in each.suffixes}
PICTURES = {suffix: kind for kind in pictures.PICTURES for suffix in kind.suffixes}


def is_sequence(path: Path) -> bool:
    """Return whether the name is a pattern of numbered pictures such as ``out/%05d.png``."""
    return path.suffix.lower() in PICTURES and numbered(path) is not None


def container_of(path: Path) -> Container:
    """Return the container of an output's name; standard output is Matroska.

    Raises:
        OutputUsageError: the name selects no format.
    """
    if is_stdout(path):
        return MKV
    suffix = path.suffix.lower()
    if is_sequence(path):
        return PICTURES[suffix]
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    if suffix in PICTURES:
        pattern = path.with_name("frames") / f"%05d{suffix}"
        raise OutputUsageError(
            f"one-picture: {path} names one picture: for a sequence give {pattern}."
        )
    if not suffix:
        pattern = path / "%05d.png"
        raise OutputUsageError(
            f"no-ending: The output {path} has no ending, which names no format: use one of "
            f"{' '.join(list(CONTAINERS))}, or {pattern} for pictures."
        )
    pattern = Path("frames/%05d.png")
    raise OutputUsageError(
        f"no-format: The output {path} has the ending {suffix}, which names no format: use one of "
        f"{' '.join(list(CONTAINERS))}, or {pattern} for pictures."
    )


def default_suffix(
    info: MediaInfo, rate: Fraction | None = None, fastest: Fraction | None = None
) -> str:
    """Return the suffix of a default output name.

    ``rate`` is the constant rate of the output; None for a variable one, whose shortest frame has
    the rate ``fastest`` (None if unknown). A video keeps the video container that its name selects,
    else becomes Matroska; an MP4 or MOV without a suffix becomes MP4. An animation keeps its format
    under any name. Pictures become MP4. If the chosen container cannot play ``rate``, the output is
    MP4.
    """
    own = CONTAINERS.get(f".{info.container}") or CONTAINERS.get(info.suffix, MKV)
    if info.reader.is_pictures or (not info.suffix and "mp4" in info.container.split(",")):
        own = MP4
    elif not (own.is_video or info.reader.is_drawn):
        own = MKV
    return (own if own.plays(rate, fastest) else MP4).suffixes[0]
