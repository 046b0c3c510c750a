"""Name the output of a command, check that it is no input, and choose its clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from cloudconv import checkpoints, files, weights
from cloudconv.errors import InputError, ModelError
from cloudconv.files import fitting
from cloudconv.media import pictures as images
from cloudconv.media.info import MediaInfo
from cloudconv.media.pictures import folder_of
from cloudconv.messages import short
from cloudconv.models import registry
from cloudconv.settings.values import names_folder

_PRIMING = Fraction(1, 20)
"""Audio that starts at most this many seconds before the first picture is encoder priming."""


def output_path(given: Path | str | None, input: Path, tag: str, suffix: str) -> Path:
    """Return the output's name: the given one, or ``<stem>_<tag><suffix>`` beside the input.

    In a given folder the name is the default one too, shortened if it is too long for a file.
    """
    if given is not None and not names_folder(given):
        return Path(given)
    name = f"{stem_of(input)}_{tag}{suffix}"
    return fitting(_named_after(input).with_name(name) if given is None else Path(given) / name)


def part_tag(start: Fraction | None, end: Fraction | None) -> str:
    """Return the end of a default name that states the used seconds: ``_62-65.5``, ``_62-end``."""
    if start is None and end is None:
        return ""
    return f"_{float(start or 0):g}-{'end' if end is None else format(float(end), 'g')}"


def stem_of(input: Path) -> str:
    """Return the start of default names: the file's stem, or the folder's name for pictures."""
    named = _named_after(input)
    return named.name if named.is_dir() else named.stem


def _named_after(input: Path) -> Path:
    named = folder_of(input) or input
    return named if named.name else named.resolve()


def check_begin(info: MediaInfo, time: Fraction | None) -> None:
    """Raise InputError if a time, in seconds from the first frame, is after the end."""
    length = info.timing.end - info.timing.start
    if time is not None and time > length:
        raise InputError(
            f"at-after-end: {info.path} lasts {short(float(length))} s, so it has no frame at "
            f"{short(float(time))} s: choose an earlier time."
        )


def origin(info: MediaInfo, first: Fraction) -> Fraction:
    """Return the source time that becomes 0: the first frame's, or that of earlier audio."""
    begins = [start for kind, start in info.streams if kind == "audio" and start is not None]
    earliest = min([first, *begins])
    return earliest if first - earliest > _PRIMING else first


MODELS = ("model", "models", "chosen_model", "against", "init")
"""Attributes of settings that name models, or files of weights."""


def check_outputs(
    settings: Any, outputs: Iterable[Path | str | None], videos: Iterable[Path]
) -> None:
    """Refuse an output, or None, that is a file which the command reads, such as a video."""
    written = [Path(path) for path in outputs if path is not None]
    files.check_apart(written, _files_read(settings, videos))


def _files_read(settings: Any, videos: Iterable[Path]) -> Iterator[Path]:
    for path in videos:
        with suppress(InputError):  # the reader of that input raises the error again
            yield from images.files_of(path)
    if recipe := getattr(settings, "recipe", None):
        yield Path(recipe)
    given = (getattr(settings, name, None) or () for name in MODELS)
    named = ((each,) if isinstance(each, str | Path) else each for each in given)
    for name in map(str, chain.from_iterable(named)):
        file = checkpoints.file_of(name)
        if file is not None:
            yield file
            continue
        with suppress(ModelError):  # a method outside the registry, such as FFmpeg's
            shipped = registry.spec(name).weights
            if shipped is not None:
                yield weights.weights_folder() / weights.entry(shipped).file
