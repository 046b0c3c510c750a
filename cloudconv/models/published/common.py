"""Define the row that all families of published networks have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cloudconv.models.base import COLOURS, Interpolator
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import sample, sampling_grid

StateDict = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta tensors."""


class Published(Interpolator):
    """A published network, with the abilities that most families have."""

    scale_option = fallback = carries_alpha = True


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


def mixed(
    x0: Tensor,
    x1: Tensor,
    flows: Tensor,
    mask: Tensor,
    residual: Tensor | None = None,
    *,
    leftover: bool,
) -> Tensor:
    """Return the mix of two pictures that flows move.

    ``flows``: (B, 4, H, W), backward to x0 and to x1, in pixels. ``mask``: the weight of x0.
    ``residual`` is added to the colours. The published networks then clamp to [0, 1]; here the part
    of a source colour that is outside this range stays. Opacity moves with the colours.
    ``leftover``: add a channel, see ``Interpolator.between``.
    """
    warped0, warped1 = (
        sample(x, sampling_grid(flow, *x.shape[2:]))
        for x, flow in zip((x0, x1), flows.chunk(2, 1), strict=True)
    )
    result = torch.lerp(warped1, warped0, mask)
    if residual is not None:
        colours = result[:, :COLOURS]
        inside = colours.clamp(0, 1)
        shown = (inside + residual).clamp(0, 1) + (colours - inside)
        result = torch.cat((shown, result[:, COLOURS:]), 1)
    if leftover:
        left = (warped0 - warped1)[:, :COLOURS].abs().mean(1, keepdim=True)
        result = torch.cat((result, left), 1)
    return result
