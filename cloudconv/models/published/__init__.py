"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor

from cloudconv.models.published.common import Recognised, StateDict

__all__ = ["Recognised", "family_names", "normalised", "recognise"]

_PREFIXES = ("module.", "flownet.", "model.", "net.")
_TRAINING_ONLY = ("teacher.", "caltime.", "block_tea.")
_FILM = ("extract.", "predict_flow.", "fuse.")
_FILM_LAYER = re.compile(r"\.conv\.(weight|bias)$")
"""The name of a layer in the older of FILM's two layouts."""

_CACHED = (".attn_mask", ".HW")
"""Ends of names of tensors that EMA-VFI computes again for each size."""

_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_UNUSED_BY_4 = ("contextnet.", "unet.")
"""Parts in files of RIFE 4.x that only the paper's network, with three blocks, uses."""

_NOT_RUN = (
    ("SGM-VFI", ("feature_bone.", "gmflow."), "its authors give no licence"),
    ("VFIMamba", ("feature_bone.block0.conv.0.",), "it needs a special kernel for GPUs"),
)
"""Networks that are known but not run: name, beginnings of names of tensors, and the reason."""


def normalised(state: StateDict) -> dict[str, Tensor]:
    """Return tensors under the names of the network's own layout.

    Prefixes of wrappers go, and so do tensors that only training uses.
    """
    result = {_own_name(name): tensor for name, tensor in state.items()}
    unused: tuple[str, ...] = _TRAINING_ONLY
    if any(name.startswith("block3.") for name in result):
        unused += _UNUSED_BY_4
    return {
        name: tensor
        for name, tensor in result.items()
        if not (name.startswith(unused) or name.endswith(_CACHED))
    }


def recognise(state: StateDict) -> Recognised | None:
    """Return the network that tensors show, or None.

    ``state``: from :func:`normalised`. Only names and shapes are read.
    """
    for family, beginnings, reason in _NOT_RUN:
        if all(any(name.startswith(each) for name in state) for each in beginnings):
            return Recognised(family, reason=reason)
    for module in families():
        found: Recognised | None = module.detect(state)
        if found is None:
            continue
        with torch.device("meta"):
            wanted = found(found.spec("")).state_dict()
        missing = tuple(name for name in wanted if name not in state)
        unknown = tuple(
            name
            for name, tensor in state.items()
            if name not in wanted or wanted[name].shape != tensor.shape
        )
        return replace(found, missing=missing, unknown=unknown)
    return None


@cache
def families() -> tuple[Any, ...]:
    """Return the modules of this folder that define a family of networks."""
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__)]
    return tuple(each for each in modules if hasattr(each, "detect"))


def family_names() -> list[str]:
    """Return the families of networks that run, for people."""
    return sorted({each.FAMILY for each in families()})


def _own_name(name: str) -> str:
    """Return the name of a tensor without prefixes of wrappers, and with blocks as ``block0``."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    if name.startswith(_FILM):
        name = _FILM_LAYER.sub(r".0.\1", name)
    return _BLOCK.sub(r"block\1.", name)
