"""List all models. A new model needs a file, a line here and a manifest entry."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from cloudconv import checkpoints, weights
from cloudconv.errors import ModelUsageError, UnknownModelError, WeightsError
from cloudconv.messages import did_you_mean, listed, shortened
from cloudconv.models import published, user_folder
from cloudconv.models.base import Interpolator, Model, ModelSpec, ModelTask, Predictor
from cloudconv.models.baselines import BLEND, HOLD, LAST, LINEAR
from cloudconv.models.blocks import Fusible
from cloudconv.models.cloud import CLOUD_BEST, CLOUD_FAST, CLOUD_TURBO
from cloudconv.models.flow import FLOW
from cloudconv.models.layers import LAYERS
from cloudconv.models.research.specs import SEEDS
from cloudconv.models.rife import RIFE_46
from cloudconv.models.tiny import TINY
from cloudconv.models.voxelflow import VOXELFLOW
from cloudconv.settings.groups import DEFAULT_MODEL as DEFAULT

MODELS: tuple[ModelSpec, ...] = (
    CLOUD_BEST,
    CLOUD_FAST,
    CLOUD_TURBO,
    RIFE_46,
    BLEND,
    HOLD,
    LAYERS,
    FLOW,
    VOXELFLOW,
    LAST,
    LINEAR,
    *SEEDS,
    TINY,
)

__all__ = ["DEFAULT", "MODELS"]


def is_research(spec: ModelSpec) -> bool:
    """Return whether the model is one of the small models of the earlier research projects."""
    return spec in SEEDS


def specs() -> list[ModelSpec]:
    """Return all models that ship, also hidden ones, the default model first."""
    return list(MODELS)


def added() -> list[ModelSpec]:
    """Return the networks that the user has added, without unreadable ones."""
    found = []
    for name in user_folder.names():
        with suppress(WeightsError, UnknownModelError):
            found.append(replace(describe(user_folder.file_for(name)).spec, name=name))
    return found


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The description of a file of weights.

    ``spec`` is that of the file's network. ``recognised`` describes a published network; None for a
    file that ``cloudconv train`` wrote for a model that ships. ``metadata`` are those of the file.
    """

    path: Path
    spec: ModelSpec
    recognised: published.Recognised | None
    metadata: Mapping[str, str]


def file_of(name_or_path: str | Path) -> Path | None:
    """Return the file of a model that does not ship: a given file, or one that the user added.

    None stands for the name of a model that ships, and for an unknown name.
    """
    if checkpoints.is_file_name(name_or_path):
        return Path(name_or_path)
    if any(known.name == str(name_or_path) for known in MODELS):
        return None
    return user_folder.find(str(name_or_path))


def located(name_or_path: str | Path) -> str:
    """Return a model in a form that is valid on any machine with the same files.

    The form is the file of a network that the user added, and the given name or file of others.
    """
    return str(file_of(name_or_path) or name_or_path)


def network_of(name_or_path: str | Path) -> str:
    """Return a name or file from which a network without its weights can be built.

    For a file that ``cloudconv train`` wrote, the result is the name of the model that ships.
    """
    path = file_of(name_or_path)
    is_published = path is not None and describe(path).recognised is not None
    return str(name_or_path) if is_published else spec(name_or_path).name


def describe(path: Path) -> WeightsFile:
    """Recognise the network of a file of weights.

    Raises:
        WeightsError: the file cannot be read, or its network is unknown.
        UnknownModelError: the file names a model that this version does not have.
    """
    try:
        status = path.stat()
    except OSError:
        return _described(path, ())
    return _described(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=32)
def _described(path: Path, _: tuple[int, ...]) -> WeightsFile:
    is_added = path.parent == user_folder.folder()
    content, metadata = checkpoints.read(path, converts=not is_added)
    if (of := metadata.get("model")) and any(known.name == of for known in MODELS):
        task = metadata.get("task")
        same_name = [known for known in MODELS if known.name == of]
        known = next((each for each in same_name if each.task == task), same_name[0])
        return WeightsFile(path, known, None, metadata)
    state = published.normalised(content)
    if not state:
        raise WeightsError(
            f"weights-without-names: {path} contains no tensors by name: give a file with the "
            "state_dict of a network."
        )
    recognised = published.recognise(state)
    if recognised is None:
        first = [f"{name} {'x'.join(map(str, state[name].shape))}" for name in state]
        raise WeightsError(
            f"network-unknown: {path} holds no network that cloudconv knows (its first tensors: "
            f"{shortened(first, 3)}): give a file that 'cloudconv train' wrote, or one of "
            f"{listed(published.family_names(), 'or')}."
        )
    if recognised.settings is None:
        raise WeightsError(
            f"network-not-run: {path} holds {recognised.family}, which cloudconv does not run "
            f"({recognised.reason}): give a file of {listed(published.family_names(), 'or')}."
        )
    if unfit := [*recognised.missing, *recognised.unknown]:
        of, version = recognised.family, recognised.version
        raise WeightsError(
            f"network-differs: {path} looks like {of} {version}, and some of its tensors differ "
            f"({shortened(unfit, 3)}): give the file of a version that the authors published."
        )
    name = path.stem if is_added else path.name
    own = recognised.spec(name).with_times(metadata.get("timesteps", "any"))
    return WeightsFile(path, own, recognised, metadata)


def spec(name_or_path: str | Path, task: ModelTask | None = None) -> ModelSpec:
    """Return the spec of a model.

    Args:
        name_or_path: the name of a model that ships or that the user added, or a file of weights:
            one that ``cloudconv train`` wrote, or one of a published network.
        task: the task that the model is for; ``hold`` is an interpolator and a predictor.

    Raises:
        UnknownModelError: no such model for that task; the message lists the models that exist.
        WeightsError: the file cannot be read, or its network is unknown.
    """
    path = file_of(name_or_path)
    if path is None:
        same_name = [known for known in MODELS if known.name == str(name_or_path)]
    else:
        same_name = [describe(path).spec]
    for known in same_name:
        if task in (None, known.task):
            return known
    shown = [k for k in (*MODELS, *added()) if not k.hidden and task in (None, k.task)]
    names = list(dict.fromkeys(known.name for known in shown))
    name = str(name_or_path)
    if same_name:
        raise UnknownModelError(
            f"model-of-other-task: {same_name[0].name} is a model to {same_name[0].task}, and one "
            f"to {task} is needed: choose one of {', '.join(names)}."
        )
    raise UnknownModelError(
        f'unknown-model: There is no model "{name}"{did_you_mean(name, names)}: choose one of '
        f"{', '.join(names)}."
    )


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
    task: ModelTask | None = None,
) -> Model:
    """Load a model with its weights, ready to run.

    Args:
        name_or_path: see :func:`spec`.
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


def build_model(name_or_path: str | Path, *, task: ModelTask | None = None) -> Model:
    """Load a model on the CPU, in the form that can be trained; see :func:`load_model`."""
    chosen = spec(name_or_path, task)
    state = state_of(name_or_path, chosen)
    model = chosen.build()
    if state is not None:
        fill(model, state, file_of(name_or_path) or chosen.weights)
    return model


def check_times(spec: ModelSpec, factor: Fraction | None) -> None:
    """Refuse times that a published network for the middle of two frames cannot reach.

    Args:
        spec: the model.
        factor: the number of frames for each source frame; None for times without a pattern.

    Raises:
        ModelUsageError: the times between two frames are not halves, quarters or eighths, ….
    """
    if spec.arbitrary_timestep or not spec.published:
        return
    if factor is not None and factor.numerator & (factor.numerator - 1) == 0:
        return
    known = [
        each.name
        for each in (*MODELS, *added())
        if each.task == "interpolate"
        and each.arbitrary_timestep
        and (each.weights or each.published)
    ]
    raise ModelUsageError(
        f"only-middle: The model {spec.name} makes only the middle of two frames, so the factor "
        "must be a power of two: give 2, 4 or 8, or use a model for any time: "
        f"{shortened(known, 3)}."
    )


def fill(model: Model, state: Mapping[str, Tensor], source: str | Path | None) -> None:
    """Set all weights of a model.

    Raises:
        WeightsError: the weights, which come from ``source``, do not fit.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"weights-do-not-fit: The weights {source} do not fit the model {model.spec.name}: "
            "they belong to another model or version. Use the ones that come with this cloudconv."
        ) from error


def state_of(name_or_path: str | Path, chosen: ModelSpec) -> dict[str, Tensor] | None:
    """Return the weights by tensor name; None for a method without weights.

    Args:
        name_or_path: see :func:`load_model`.
        chosen: the spec of that model.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    path = file_of(name_or_path)
    if path is None:
        return None if chosen.weights is None else weights.load_state(chosen.weights)
    content, _ = checkpoints.read(path)
    is_published = describe(path).recognised is not None
    return checkpoints.checked(published.normalised(content) if is_published else content, path)
