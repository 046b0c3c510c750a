"""Find models by name or file, and load them.

PyTorch is imported only when tensors are read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cloudconv import checkpoints, weights
from cloudconv.checkpoints import file_of
from cloudconv.errors import ModelUsageError, SettingsError, UnknownModelError, WeightsError
from cloudconv.events import Warned, Warnings
from cloudconv.messages import did_you_mean, listed, shortened
from cloudconv.models import catalogue
from cloudconv.models.catalogue import ModelSpec, ModelTask

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cloudconv.models.base import Interpolator, Model, Predictor
    from cloudconv.models.convolutions import EngineOf

MODELS = catalogue.LISTED
"""All models that can be loaded by name, the default model first; tests add others."""


def describe(
    path: Path, timesteps: str | None = None
) -> tuple[ModelSpec, Mapping[str, str]]:
    """Return the spec of a file's network, and the file's metadata.

    A published network may have been trained for the ``middle`` of two frames only:
    ``timesteps`` says so, or else a key of the file. Raises WeightsError if the file is
    unreadable, or its network unknown.
    """
    with checkpoints.reading(path):
        status = path.stat()
    stamp = status.st_mtime_ns, status.st_size, status.st_ino
    model, metadata = _described(path, stamp)
    if model.published and (timesteps or metadata.get("timesteps")) == "middle":
        model = replace(model, arbitrary_timestep=False)
    return model, metadata


@lru_cache(maxsize=32)
def _described(path: Path, _: tuple[int, ...]) -> tuple[ModelSpec, Mapping[str, str]]:
    from cloudconv.models import published

    content, metadata = checkpoints.read(path)
    if same_name := [model for model in MODELS if model.name == metadata.get("model")]:
        task = metadata.get("task")
        return next(
            (model for model in same_name if model.task == task), same_name[0]
        ), metadata
    state = published.normalised(content)
    if not state:
        raise checkpoints.refused("weights-without-names", path)
    network = published.recognise(state)
    if network is None:
        first = [f"{name} {'x'.join(map(str, state[name].shape))}" for name in state]
        families = sorted({family.FAMILY for family in published.families()})
        raise WeightsError(
            f"network-unknown: {path} holds no network that cloudconv knows (its first "
            f"tensors: {shortened(first)}): give a file that 'cloudconv train' wrote, "
            f"or one of {listed(families, 'or')}."
        )
    if unfit := published.unfit(network, state):
        raise WeightsError(
            f"network-differs: {path} looks like {network.family}, and some of its tensors "
            f"differ ({shortened(unfit)}): give the file of a version that the authors "
            "published."
        )
    return replace(network, name=path.name), metadata


def spec(
    name_or_path: str | Path,
    task: ModelTask | None = None,
    timesteps: str | None = None,
) -> ModelSpec:
    """Return the spec of a shipped model by name, or of the network in a weights file.

    ``task``: the task that the model is for; ``hold`` is an interpolator and a predictor.
    ``timesteps``: see :func:`describe`. Raises UnknownModelError if there is no such model
    for that task, and WeightsError if the file cannot be read, or its network is unknown.
    """
    path = file_of(name_or_path)
    name = str(name_or_path)
    same_name = [k for k in MODELS if k.name == name] if path is None else []
    same_name += [] if path is None else [describe(path, timesteps)[0]]
    for model in same_name:
        if task in (None, model.task):
            return model
    names = list(dict.fromkeys(k.name for k in catalogue.LISTED if task in (None, k.task)))
    remedy = f"choose one of {shortened(names, 9)} (cloudconv models lists them)."
    if same_name:
        raise UnknownModelError(
            f"model-of-other-task: {same_name[0].name} is a model to {same_name[0].task}, "
            f"and one to {task} is needed: {remedy}"
        )
    if os.path.exists(name):
        endings = listed(checkpoints.SUFFIXES, "or")
        raise UnknownModelError(
            f"no-weights-file: {name} is no file of weights, whose name ends in {endings}: "
            f"give such a file, or {remedy}"
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
    timesteps: str | None = None,
    sha256: str | None = None,
    engine_of: EngineOf | None = None,
    warnings: Warnings | None = None,
) -> Model:
    """Load a model with its weights, ready to run.

    For name, task and timesteps see :func:`spec`. ``dtype`` is the type of the model's
    convolutions, None for float32; grids and sums stay float32. ``engine_of``: see
    :func:`fuse`; None chooses by the processor. ``warnings`` get one about tensors that the
    model does not use any more. Raises WeightsError if the weights are
    missing, damaged, or of another model, or if they are not those of ``sha256``, see
    :func:`weights_fingerprint`.
    """
    import torch

    from cloudconv.models.engines import Engines

    dtype = dtype or torch.float32
    chosen = spec(name_or_path, task, timesteps)
    model: Model = chosen.build()
    if (state := state_of(name_or_path, chosen, sha256)) is not None:
        used = {k: v for k, v in state.items() if not k.startswith(chosen.cls.unused)}
        fill(model, used, file_of(name_or_path) or chosen.weights)
        if len(used) < len(state) and warnings is not None:
            warnings.add(
                Warned(
                    f"weights-unused: {name_or_path} is of an earlier version: its "
                    "refinement is not used, because the motion of the frames around a "
                    "pair replaces the refinement."
                )
            )
    model.requires_grad_(False).eval()
    fuse(model, engine_of or Engines().of)
    # CPUs with wide vectors and tensor cores of GPUs run convolutions faster with channels
    # last.
    return model.to(  # type: ignore[call-overload, no-any-return]
        device=device, dtype=dtype, memory_format=torch.channels_last
    )


load: Callable[..., Interpolator] = partial(  # type: ignore[assignment]
    load_model, task="interpolate"
)


@lru_cache(maxsize=2)
def shared(name: str, device: str, dtype: torch.dtype) -> Interpolator:
    """Return a network that ships, loaded once for all; see :func:`load_model`."""
    return load(name, device, dtype)


load_predictor: Callable[..., Predictor] = partial(  # type: ignore[assignment]
    load_model, task="predict"
)


def check_times(spec: ModelSpec, factor: Fraction | None) -> None:
    """Refuse times that a published network for the middle of two frames cannot reach.

    ``factor``: the number of frames for each source frame; None for times without a
    pattern.
    """
    if spec.arbitrary_timestep or not spec.published:
        return
    if factor is not None and factor.numerator & (factor.numerator - 1) == 0:
        return
    names = [
        model.name
        for model in catalogue.LISTED
        if model.arbitrary_timestep and model.weights
    ]
    raise ModelUsageError(
        f"only-middle: The model {spec.name} makes only the middle of two frames, so the "
        "factor must be a power of two: give 2, 4 or 8, or use a model for any time: "
        f"{shortened(names)}."
    )


def check_timesteps(timesteps: str | None, specs: Iterable[ModelSpec]) -> None:
    """Refuse the option ``timesteps`` if none of the models is a published network."""
    if timesteps is not None and not any(spec.published for spec in specs):
        raise SettingsError(
            "timesteps-of-own: cloudconv knows the times of its own models: give "
            "--timesteps only with the file of another network."
        )


def fuse(model: Model, engine_of: EngineOf) -> None:
    """Give all parts of a model their faster form for inference, if they have one.

    ``engine_of``: see :class:`cloudconv.models.convolutions.HiddenLayers`.
    """
    # The class is searched, because FILM has a layer called ``fuse``.
    for module in [module for module in model.modules() if hasattr(type(module), "fuse")]:
        module.fuse(engine_of)  # type: ignore[operator]


def fill(model: Model, state: Mapping[str, Tensor], source: str | Path | None) -> None:
    """Set all weights of a model; raise WeightsError if those of ``source`` do not fit."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"weights-do-not-fit: The weights {source} do not fit the model "
            f"{model.spec.name}: they belong to another model or version. Use the ones "
            "that come with this cloudconv."
        ) from error


def state_of(
    name_or_path: str | Path, chosen: ModelSpec, sha256: str | None = None
) -> dict[str, Tensor] | None:
    """Return the weights by tensor name; None for a method without weights.

    Raises WeightsError if they are not those of ``sha256``, see
    :func:`weights_fingerprint`.
    """
    path = file_of(name_or_path)
    if path is None:
        if chosen.weights is None:
            return None
        _check_same(name_or_path, weights.entry(chosen.weights).sha256, sha256)
        return weights.load_state(chosen.weights)
    from cloudconv.models.published import normalised

    data = checkpoints.content(path)  # these bytes are hashed and used
    _check_same(path, hashlib.sha256(data).hexdigest(), sha256)
    content, _ = checkpoints.tensors_of(data, path)
    return checkpoints.checked(normalised(content) if chosen.published else content, path)


def _check_same(name: str | Path, actual: str, sha256: str | None) -> None:
    if sha256 not in (None, actual):
        raise WeightsError(
            f"weights-replaced: The weights of {name} are not those with which the run "
            "began: another file has replaced them, or another machine has others. Start "
            "again."
        )


def weights_fingerprint(model: str) -> str | None:
    """Return a hash of the model's weights; None for a method without weights."""
    path = file_of(model)
    if path is not None:
        return checkpoints.digest(path)
    name = spec(model).weights
    return None if name is None else weights.entry(name).sha256
