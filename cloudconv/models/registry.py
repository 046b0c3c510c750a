"""Find models by name or file, and load them. PyTorch is imported only when tensors are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cloudconv import checkpoints, weights
from cloudconv.errors import ModelUsageError, SettingsError, UnknownModelError, WeightsError
from cloudconv.files import data_folder
from cloudconv.messages import did_you_mean, listed, shortened
from cloudconv.models import catalogue
from cloudconv.models.catalogue import TINY, ModelSpec, ModelTask

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cloudconv.models.base import Interpolator, Model, Predictor

MODELS = (*catalogue.MODELS, TINY)
"""All models that ship, also the one for tests, the default model first."""

# Windows keeps some names, with any ending.
_NAME = re.compile(r"(?!(aux|con|nul|prn|com\d|lpt\d)(\.|$))[a-z0-9][a-z0-9._+-]{0,31}")
_SUFFIX = ".safetensors"


def shown() -> list[ModelSpec]:
    """Return all models for lists: those that ship, then those that the user has added."""
    return [*(each for each in MODELS if each is not TINY), *added()]


def added_folder() -> Path:
    """Return the folder of the added networks, which may not exist."""
    return data_folder() / "models"


def added_files() -> dict[str, Path]:
    """Return the files of the added networks by their names, in alphabetical order."""
    try:
        found = {x.stem: x for x in added_folder().iterdir() if x.suffix == _SUFFIX and x.is_file()}
    except OSError:
        return {}
    return {name: found[name] for name in sorted(found) if _NAME.fullmatch(name)}


def added_file(name: str) -> Path:
    """Return the file that a network of that name has in the folder.

    Raises SettingsError if file names of some system do not allow a character of the name.
    """
    if not _NAME.fullmatch(name) or name.endswith(".") or checkpoints.is_file_name(name):
        raise SettingsError(
            f'bad-model-name: "{name}" cannot be the name of a model: use up to 32 lower-case '
            "letters, digits, dots, dashes and underscores, begin with a letter or digit, and end "
            "like no file of weights. Windows keeps aux, con, nul and prn."
        )
    return added_folder() / f"{name}{_SUFFIX}"


def added() -> list[ModelSpec]:
    """Return the networks that the user has added, without unreadable ones."""
    found = []
    for name, path in added_files().items():
        with suppress(WeightsError, UnknownModelError):
            found.append(replace(describe(path)[0], name=name))
    return found


def file_of(name_or_path: str | Path) -> Path | None:
    """Return the file of a model that does not ship: a given file, or one that the user added.

    None stands for the name of a model that ships, and for an unknown name.
    """
    if checkpoints.is_file_name(name_or_path):
        return Path(name_or_path)
    name = str(name_or_path)
    return None if any(known.name == name for known in MODELS) else added_files().get(name)


def located(name_or_path: str | Path) -> str:
    """Return the file of an added network, else the given name or file, for other processes."""
    return str(file_of(name_or_path) or name_or_path)


def network_of(name_or_path: str | Path) -> str:
    """Return what builds a network without its weights: a model that ships, or a published file."""
    known = spec(name_or_path)
    return str(name_or_path) if known.published else known.name


def describe(path: Path) -> tuple[ModelSpec, Mapping[str, str]]:
    """Return the spec of a file's network, and the file's metadata.

    Raises WeightsError if the file is unreadable, or its network unknown.
    """
    try:
        status = path.stat()
    except OSError:
        return _described(path, ())
    return _described(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=32)
def _described(path: Path, _: tuple[int, ...]) -> tuple[ModelSpec, Mapping[str, str]]:
    from cloudconv.models import published

    is_added = path.parent == added_folder()
    content, metadata = checkpoints.read(path, converts=not is_added)
    if same_name := [known for known in MODELS if known.name == metadata.get("model")]:
        task = metadata.get("task")
        return next((each for each in same_name if each.task == task), same_name[0]), metadata
    state = published.normalised(content)
    if not state:
        raise WeightsError(
            f"weights-without-names: {path} contains no tensors by name: give a file with the "
            "state_dict of a network."
        )
    found = published.recognise(state)
    if found is None:
        first = [f"{name} {'x'.join(map(str, state[name].shape))}" for name in state]
        families = sorted({each.FAMILY for each in published.families()})
        raise WeightsError(
            f"network-unknown: {path} holds no network that cloudconv knows (its first tensors: "
            f"{shortened(first, 3)}): give a file that 'cloudconv train' wrote, or one of "
            f"{listed(families, 'or')}."
        )
    if unfit := published.unfit(found, state):
        raise WeightsError(
            f"network-differs: {path} looks like {found.family}, and some of its tensors differ "
            f"({shortened(unfit, 3)}): give the file of a version that the authors published."
        )
    found = replace(found, name=path.stem if is_added else path.name)
    if metadata.get("timesteps") == "middle":
        found = replace(found, arbitrary_timestep=False)
    return found, metadata


def spec(name_or_path: str | Path, task: ModelTask | None = None) -> ModelSpec:
    """Return the spec of a model.

    Args:
        name_or_path: the name of a model that ships or that the user added, or a file of weights:
            one that ``cloudconv train`` wrote, or one of a published network.
        task: the task that the model is for; ``hold`` is an interpolator and a predictor.

    Raises UnknownModelError if there is no such model for that task, and WeightsError if the file
    cannot be read, or its network is unknown.
    """
    path, name = file_of(name_or_path), str(name_or_path)
    same_name = [k for k in MODELS if k.name == name] if path is None else [describe(path)[0]]
    for known in same_name:
        if task in (None, known.task):
            return known
    names = list(dict.fromkeys(k.name for k in shown() if task in (None, k.task)))
    remedy = f"choose one of {shortened(names, 9)} (cloudconv models lists them)."
    if same_name:
        raise UnknownModelError(
            f"model-of-other-task: {same_name[0].name} is a model to {same_name[0].task}, and one "
            f"to {task} is needed: {remedy}"
        )
    raise UnknownModelError(
        f'unknown-model: There is no model "{name}"{did_you_mean(name, names)}: {remedy}'
    )


def load_model(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    task: ModelTask | None = None,
) -> Model:
    """Load a model with its weights, ready to run; for name and task see :func:`spec`.

    ``dtype`` is the type of the model's convolutions, None for float32; grids and sums stay
    float32. Raises WeightsError if the weights are missing, damaged, or of another model.
    """
    import torch

    from cloudconv.models.blocks import Fusible

    model = build_model(name_or_path, task=task)
    model.requires_grad_(False).eval()
    for part in [part for part in model.modules() if isinstance(part, Fusible)]:
        part.fuse()
    # CPUs with wide vectors and tensor cores of GPUs run convolutions faster with channels last.
    return model.to(  # type: ignore[call-overload, no-any-return]
        device=device, dtype=dtype or torch.float32, memory_format=torch.channels_last
    )


load: Callable[..., Interpolator] = partial(  # type: ignore[assignment]
    load_model, task="interpolate"
)
load_predictor: Callable[..., Predictor] = partial(  # type: ignore[assignment]
    load_model, task="predict"
)


def build_model(name_or_path: str | Path, *, task: ModelTask | None = None) -> Model:
    """Load a model on the CPU, in the form that can be trained; see :func:`load_model`."""
    chosen = spec(name_or_path, task)
    state = state_of(name_or_path, chosen)
    model: Model = chosen.build()
    if state is not None:
        fill(model, state, file_of(name_or_path) or chosen.weights)
    return model


def check_times(spec: ModelSpec, factor: Fraction | None) -> None:
    """Refuse times that a published network for the middle of two frames cannot reach.

    ``factor``: the number of frames for each source frame; None for times without a pattern.
    """
    if spec.arbitrary_timestep or not spec.published:
        return
    if factor is not None and factor.numerator & (factor.numerator - 1) == 0:
        return
    usual = (each for each in shown() if each.task == "interpolate" and each.arbitrary_timestep)
    known = [each.name for each in usual if each.weights or each.published]
    raise ModelUsageError(
        f"only-middle: The model {spec.name} makes only the middle of two frames, so the factor "
        "must be a power of two: give 2, 4 or 8, or use a model for any time: "
        f"{shortened(known, 3)}."
    )


def fill(model: Model, state: Mapping[str, Tensor], source: str | Path | None) -> None:
    """Set all weights of a model; raise WeightsError if those of ``source`` do not fit."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"weights-do-not-fit: The weights {source} do not fit the model {model.spec.name}: "
            "they belong to another model or version. Use the ones that come with this cloudconv."
        ) from error


def state_of(name_or_path: str | Path, chosen: ModelSpec) -> dict[str, Tensor] | None:
    """Return the weights by tensor name; None for a method without weights."""
    path = file_of(name_or_path)
    if path is None:
        return None if chosen.weights is None else weights.load_state(chosen.weights)
    from cloudconv.models.published import normalised

    content, _ = checkpoints.read(path)
    return checkpoints.checked(normalised(content) if chosen.published else content, path)


def weights_fingerprint(model: str) -> str | None:
    """Return a hash of the model's weights; None for a method without weights."""
    path = file_of(model)
    if path is not None:
        return checkpoints.digest(path)
    name = spec(model).weights
    return None if name is None else weights.entry(name).sha256
