"""List all models. A new model needs a file, a line here and a manifest entry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cloudconv import weights
from cloudconv.errors import UnknownModelError, WeightsError
from cloudconv.messages import closest
from cloudconv.models.base import Interpolator, Model, ModelSpec, Predictor, Task
from cloudconv.models.baselines import BLEND, HOLD, LAST, LINEAR
from cloudconv.models.blocks import Fusible
from cloudconv.models.cloud import CLOUD_BEST, CLOUD_FAST, CLOUD_TURBO
from cloudconv.models.flow import FLOW
from cloudconv.models.research.specs import SEEDS
from cloudconv.models.rife import RIFE_46
from cloudconv.models.tiny import TINY
from cloudconv.models.voxelflow import VOXELFLOW
from cloudconv.settings.groups import DEFAULT_MODEL as DEFAULT
from cloudconv.settings.groups import QUALITIES

MODELS: tuple[ModelSpec, ...] = (
    CLOUD_BEST,
    CLOUD_FAST,
    CLOUD_TURBO,
    RIFE_46,
    BLEND,
    HOLD,
    FLOW,
    VOXELFLOW,
    LAST,
    LINEAR,
    *SEEDS,
    TINY,
)

__all__ = ["DEFAULT", "MODELS", "QUALITIES"]


def is_research(spec: ModelSpec) -> bool:
    """Return whether the model is one of the small models of the earlier research projects."""
    return spec in SEEDS


def specs() -> list[ModelSpec]:
    """Return all registered models, also hidden ones, the default model first."""
    return list(MODELS)


def spec(name_or_path: str | Path, task: Task | None = None) -> ModelSpec:
    """Return the spec of a model.

    Args:
        name_or_path: a registered name, or a ``.safetensors`` file with weights of a model.
        task: the task that the model is for; ``hold`` is an interpolator and a predictor.

    Raises:
        UnknownModelError: no such model for that task; the message lists the models that exist.
        WeightsError: the file cannot be read, or does not name its model.
    """
    path = _as_file(name_or_path)
    name = str(name_or_path) if path is None else _model_of(path, weights.read_metadata(path))
    same_name = [known for known in MODELS if known.name == name]
    for known in same_name:
        if task in (None, known.task):
            return known
    names = list(dict.fromkeys(k.name for k in MODELS if not k.hidden and task in (None, k.task)))
    if same_name:
        raise UnknownModelError(
            "model-of-other-task", name=name, task=same_name[0].task, needed=task, known=names
        )
    raise UnknownModelError("unknown-model", name=name, near=closest(name, names), known=names)


def load(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Interpolator:
    """Load an interpolator; see :func:`load_model`."""
    model = load_model(name_or_path, device, dtype, task="interpolate")
    assert isinstance(model, Interpolator)
    return model


def load_predictor(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Predictor:
    """Load a predictor; see :func:`load_model`."""
    model = load_model(name_or_path, device, dtype, task="predict")
    assert isinstance(model, Predictor)
    return model


def load_model(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    task: Task | None = None,
) -> Model:
    """Load a model with its weights, ready to run.

    Args:
        name_or_path: a registered name, or a ``.safetensors`` file whose metadata has a registered
            name under the key ``model``.
        device: the device of the model.
        dtype: the type of the model's convolutions; grids and sums stay float32.
        task: the task that the model is for.

    Raises:
        UnknownModelError: no such model for that task.
        WeightsError: the weights are missing, damaged, or of another model.
    """
    model = build_model(name_or_path, task=task)
    model.requires_grad_(False).eval()
    for part in [part for part in model.modules() if isinstance(part, Fusible)]:
        part.fuse()
    # CPUs with wide vectors and tensor cores of GPUs run convolutions faster with channels last.
    return model.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_model(name_or_path: str | Path, *, task: Task | None = None) -> Model:
    """Load a model on the CPU, in the form that can be trained; see :func:`load_model`."""
    chosen = spec(name_or_path, task)
    state = state_of(name_or_path, chosen)
    model = chosen.build()
    if state is not None:
        fill(model, state, _as_file(name_or_path) or chosen.weights)
    return model


def fill(model: Model, state: Mapping[str, Tensor], source: str | Path | None) -> None:
    """Set all weights of a model.

    Raises:
        WeightsError: the weights, which come from ``source``, do not fit.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError("weights-do-not-fit", weights=source, model=model.spec.name) from error


def state_of(name_or_path: str | Path, chosen: ModelSpec) -> dict[str, Tensor] | None:
    """Return the weights by tensor name; None for a method without weights.

    Args:
        name_or_path: see :func:`load_model`.
        chosen: the spec of that model.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    path = _as_file(name_or_path)
    if path is not None:
        return weights.read_file(path)[0]
    return None if chosen.weights is None else weights.load_state(chosen.weights)


def _as_file(name_or_path: str | Path) -> Path | None:
    path = Path(name_or_path)
    return path if path.suffix == ".safetensors" else None


def _model_of(path: Path, metadata: dict[str, str]) -> str:
    if "model" not in metadata:
        raise WeightsError("weights-without-model", path=path)
    return metadata["model"]
