"""Define the settings that all families of published networks have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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

    def __init__(self, spec: ModelSpec, settings: Any) -> None:
        super().__init__(spec)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The properties of a network that its tensors decide; a call returns the network of a spec.

    A family of networks is one module with a subclass, its network, and a function ``detect`` that
    returns the settings which tensors show, or None.

    Attributes:
        family: the name of the family.
        source: authors and publication.
        middle_is_optional: whether training for the middle only, or for any timestep, is
            undecidable.
        cls: the class of the network.
    """

    family: ClassVar[str]
    source: ClassVar[str]
    middle_is_optional: ClassVar[bool] = False
    cls: ClassVar[type[Published]]

    def __call__(self, spec: ModelSpec) -> Interpolator:
        """Return the network with untrained weights."""
        return self.cls(spec, self)

    @property
    def version(self) -> str:
        """Return the published versions with these settings, for people."""
        raise NotImplementedError

    @property
    def properties(self) -> dict[str, Any]:
        """Return the properties of the spec that differ from those of most networks."""
        raise NotImplementedError

    def spec(self, name: str) -> ModelSpec:
        """Return the spec of a model that runs a user's own file."""
        usual: dict[str, Any] = {
            "arbitrary_timestep": True,
            "overlap": 128,
            "origin": f"{self.family} {self.version} ({self.source}); a user's own file",
            "domain": "filmed and drawn footage",
            "purpose": "a published network from your own file",
            "half_precision": True,
        }
        properties = usual | self.properties
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

    Args:
        x0: (B, 3 or more, H, W).
        x1: (B, 3 or more, H, W).
        flows: (B, 4, H, W), backward flows to x0 and to x1 in pixels.
        mask: (B, 1, H, W), the weight of x0, in [0, 1].
        residual: (B, 3, H, W), added to the colours. The published networks then clamp to [0, 1];
            here the part of a source colour that is outside this range stays.
        leftover: whether to add a channel, see ``Interpolator.between``.

    Returns:
        (B, 3 or more, H, W); opacity moves with the colours.
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
