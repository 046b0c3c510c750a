"""Refuse mistakes that a command's words alone show, before PyTorch and FFmpeg load.

Refusals of the system that no other place expects become errors here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloudconv import settings as kinds
from cloudconv.checkpoints import file_of
from cloudconv.errors import CloudconvError
from cloudconv.host import refusal
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.input import check_there
from cloudconv.models import registry
from cloudconv.settings.extend import AUTO_PREDICTOR
from cloudconv.settings.values import clip_files, names_folder


@contextmanager
def refusals_named() -> Iterator[None]:
    """Turn an error of the system about a file, or about a limit, into a CloudconvError."""
    try:
        yield
    except OSError as error:
        why = refusal(error)
        if why is None:
            raise
        raise CloudconvError(f"system-refuses: {why}.") from error


@refusals_named()
def check_words(settings: Any) -> None:
    """Raise an error for a missing input, an unknown model, or an ending of no format."""
    check_there([getattr(settings, "input", "-")])
    check_there(clip_files(getattr(settings, "clips", ())))
    for name in getattr(settings, "named_models", ()):
        if file_of(name) is None and name != AUTO_PREDICTOR:
            registry.spec(name, settings.models_task)
    output = getattr(settings, "output", None)
    if isinstance(settings, kinds.EncodeSettings) and output and not names_folder(output):
        container_of(Path(output))
