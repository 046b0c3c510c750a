"""Refuse outputs that are files which the same command reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloudconv import files, weights
from cloudconv.errors import InputError, ModelError
from cloudconv.media import pictures as images
from cloudconv.models import registry

MODELS = ("model", "models", "chosen_model", "against", "init")
"""Attributes of settings that name models, or files of weights."""


def check_outputs(
    settings: Any, outputs: Iterable[Path | str | None], videos: Iterable[Path]
) -> None:
    """Refuse an output that is a file which the command reads, whichever options name the two.

    ``outputs`` are all files that the command may write; None means no file. ``videos`` are the
    videos and pictures that the command reads, as probed.
    """
    written = [Path(path) for path in outputs if path is not None]
    files.check_apart(written, _files_read(settings, videos))


def _files_read(settings: Any, videos: Iterable[Path]) -> Iterator[Path]:
    for path in videos:
        with suppress(InputError):  # the reader of that input raises the error again
            yield from images.files_of(path)
    if recipe := getattr(settings, "recipe", None):
        yield Path(recipe)
    for name in _names_of_models(settings):
        file = registry.file_of(name)
        if file is not None:
            yield file
            continue
        with suppress(ModelError):  # a method outside the registry, such as FFmpeg's
            shipped = registry.spec(name).weights
            if shipped is not None:
                yield weights.weights_folder() / weights.entry(shipped).file


def _names_of_models(settings: Any) -> Iterator[str]:
    for name in MODELS:
        value = getattr(settings, name, None) or ()
        yield from map(str, (value,) if isinstance(value, str | Path) else value)
