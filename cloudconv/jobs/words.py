"""Refuse mistakes that a command's words alone show, before PyTorch and FFmpeg load."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloudconv import settings as kinds
from cloudconv.checkpoints import file_of
from cloudconv.media.containers.containers import container_of
from cloudconv.media.containers.input import check_there
from cloudconv.models import registry
from cloudconv.models.catalogue import ModelTask
from cloudconv.settings.compare import MINTERPOLATE
from cloudconv.settings.extend import AUTO_PREDICTOR
from cloudconv.settings.values import clip_files, names_folder


def check_words(settings: Any) -> None:
    """Raise an error for a missing input, an unknown model, or an ending of no format."""
    check_there([getattr(settings, "input", "-")])
    check_there(clip_files(getattr(settings, "clips", ())))
    for name, task in _models(settings):
        if file_of(name) is None and name != MINTERPOLATE:
            also = [MINTERPOLATE] if isinstance(settings, kinds.CompareSettings) else []
            registry.spec(name, task, also=also)
    output = getattr(settings, "output", None)
    if isinstance(settings, kinds.EncodeSettings) and output and not names_folder(output):
        container_of(Path(output))


def _models(settings: Any) -> Iterator[tuple[str, ModelTask | None]]:
    """Yield the name of each given model, and its task."""
    match settings:
        case kinds.InterpSettings() | kinds.InterpManySettings():
            yield settings.chosen_model, "interpolate"
        case kinds.ExtrapolateSettings() if str(settings.model) != AUTO_PREDICTOR:
            yield str(settings.model), "predict"
        case kinds.DreamSettings():
            yield settings.predictor, "predict"
        case kinds.TrainSettings() if settings.model:
            yield str(settings.model), settings.task
        case kinds.CompareSettings():
            for name in settings.named_models:
                yield name, "interpolate" if settings.horizon is None else "predict"
