"""Run published networks from a user's own file, recognised by names and shapes of the tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

import torch
from torch import Tensor

from cloudconv.models.base import COLOURS, Interpolator
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import warp

StateDict = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta tensors."""

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


class Published(Interpolator):
    """A published network that mixes two moved pictures. A family defines ``estimate`` only.

    ``estimate(seen, timestep, scale, …)`` takes the colours of x0 and x1, (B, 3, H, W) in [0, 1].
    It returns flows, (B, 4, H, W), backward to x0 and to x1 in pixels; the weight of x0; and a
    correction of the colours or None. All are float32 in any dtype.
    """

    scale_option = fallback = carries_alpha = True
    reads_bgr: ClassVar = False  # ``estimate`` reads and returns blue, green, red
    estimate: Callable[..., tuple[Tensor, Tensor, Tensor | None]]

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        timestep: Tensor,
        scale: float = 1.0,
        leftover: bool = False,
        **options: Any,
    ) -> Tensor:
        """See ``Interpolator.forward``.

        Published networks clamp their result to [0, 1]; here the part of a source colour that is
        outside this range stays. Opacity moves with the colours.
        """
        seen = [x[:, :COLOURS].clamp(0, 1) for x in (x0, x1)]
        if self.reads_bgr:
            seen = [x.flip(1) for x in seen]
        flows, mask, residual = self.estimate(seen, timestep, scale, **options)
        warped0, warped1 = (
            warp(x, flow) for x, flow in zip((x0, x1), flows.chunk(2, 1), strict=True)
        )
        result = torch.lerp(warped1, warped0, mask)
        if residual is not None:
            colours = result[:, :COLOURS]
            inside = colours.clamp(0, 1)
            change = residual.flip(1) if self.reads_bgr else residual
            shown = (inside + change).clamp(0, 1) + (colours - inside)
            result = torch.cat((shown, result[:, COLOURS:]), 1)
        if leftover:
            left = (warped0 - warped1)[:, :COLOURS].abs().mean(1, keepdim=True)
            result = torch.cat((result, left), 1)
        return result


@dataclass(frozen=True, slots=True)
class Recognised:
    """A network that the tensors of a file show; a call returns the network of a spec.

    A family is a module of this folder: its name, ``FAMILY``; its network; and ``detect``, which
    returns this row for tensors that show the network, or None.
    """

    family: str
    version: str = ""  # the published ones with these tensors, which may differ in weights only
    source: str = ""  # authors and publication
    cls: Any = None  # of the network; None for a network that is known but not run
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of the class
    properties: Mapping[str, Any] = field(default_factory=dict, hash=False)  # special ones
    middle_is_optional: bool = False  # tensors do not show whether it makes any time or the middle
    reason: str = ""  # for which the network is not run
    missing: tuple[str, ...] = ()  # tensors that the network has and the file lacks
    unknown: tuple[str, ...] = ()  # tensors that the network lacks, or has in another shape

    def __call__(self, spec: ModelSpec) -> Interpolator:
        """Return the network with untrained weights."""
        made: Interpolator = self.cls(spec, **self.arguments)
        return made

    def spec(self, name: str) -> ModelSpec:
        """Return the spec of a model that runs a user's own file."""
        usual: dict[str, Any] = {
            "arbitrary_timestep": True,
            "overlap": 128,
            "origin": f"{self.family} {self.version} ({self.source}); a user's own file",
            "domain": "a published network from your own file; filmed and drawn footage",
            "half_precision": True,
        }
        properties = {**usual, **self.properties}
        return ModelSpec(
            name=name, task="interpolate", context=2, network=self, entry=None, **properties
        )


def has(state: StateDict, name: str, *shape: int | None) -> bool:
    """Return whether a tensor of that name and shape exists; None stands for any length above 0."""
    if name not in state:
        return False
    found = state[name].shape
    return len(found) == len(shape) and all(
        length > 0 and wanted in (None, length) for wanted, length in zip(shape, found, strict=True)
    )


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
