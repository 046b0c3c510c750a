"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor

from cloudconv.models.catalogue import ModelSpec

StateDict = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta tensors."""

_PREFIXES = re.compile(r"^(?:(?:module|flownet|model|net)\.)+")
_TRAINING_ONLY = ("teacher.", "caltime.", "block_tea.")
_FILM = ("extract.", "predict_flow.", "fuse.")
_FILM_LAYER = re.compile(r"\.conv\.(weight|bias)$")
"""The name of a layer in the older of FILM's two layouts."""

_CACHED = (".attn_mask", ".HW")
"""Ends of names of tensors that EMA-VFI computes again for each size."""

_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_UNUSED_BY_4 = ("contextnet.", "unet.")
"""Parts in files of RIFE 4.x that only the paper's network, with three blocks, uses."""


def row(
    state: StateDict, family: str, version: str, source: str, network: str, **others: Any
) -> ModelSpec:
    """Return the spec of a network that tensors, ``state``, of a user's file show.

    A family is a module of this folder: its name, ``FAMILY``; its network; and ``detect``, which
    returns this row for tensors that show the network, or None. ``version``: the published ones
    with these tensors, which may differ in weights only. ``source``: authors and publication.
    ``network``: module and class, as ``rife:Rife4``.
    """
    usual: dict[str, Any] = {
        "name": "",
        "task": "interpolate",
        "context": 2,
        "overlap": 128,
        "network": f"published.{network}",
        "options": {"shapes": shapes(state)},
        "origin": f"{family} {version} ({source}); a user's own file",
        "domain": "a published network from your own file; filmed and drawn footage",
        "arbitrary_timestep": True,
        "entry": None,
    }
    return ModelSpec(**{**usual, **others})


def has(state: StateDict, name: str, *shape: int | None) -> bool:
    """Return whether a tensor of that name and shape exists; None stands for any length above 0."""
    found = state[name].shape if name in state else ()
    return len(found) == len(shape) and all(
        length > 0 and wanted in (None, length) for wanted, length in zip(shape, found, strict=True)
    )


def normalised(state: StateDict) -> dict[str, Tensor]:
    """Return tensors under the network's own names, without those that only training uses."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = _PREFIXES.sub("", name)
        if name.startswith(_FILM):
            name = _FILM_LAYER.sub(r".0.\1", name)
        result[_BLOCK.sub(r"block\1.", name)] = tensor
    has_four = any(name.startswith("block3.") for name in result)
    unused = _TRAINING_ONLY + (_UNUSED_BY_4 if has_four else ())
    return {k: v for k, v in result.items() if not (k.startswith(unused) or k.endswith(_CACHED))}


def recognise(state: StateDict) -> ModelSpec | None:
    """Return the network that names and shapes of :func:`normalised` tensors show, or None."""
    return next((found for each in families() if (found := each.detect(state))), None)


def shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def unfit(spec: ModelSpec, state: StateDict) -> list[str]:
    """Return the names of tensors that the network lacks, or that only it has; or other shapes."""
    try:
        with torch.device("meta"):
            network = spec.build()
            wrong: list[str] = network.unfit()
    except KeyError as error:  # a name of the file cannot be that of a tensor
        return [str(error)]
    wanted, given = shapes(network.state_dict()), shapes(state)
    return wrong + [name for name in wanted | given if wanted.get(name) != given.get(name)]


@cache
def families() -> tuple[Any, ...]:
    """Return the modules of this folder that define a family of networks."""
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__)]
    return tuple(each for each in modules if hasattr(each, "detect"))
