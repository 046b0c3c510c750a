"""Define the settings that all families of published networks have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from cloudconv.models.base import COLOURS, Interpolator, ModelSpec
from cloudconv.models.ops import sample, sampling_grid

StateDict = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta tensors."""


class NetworkSettings(Protocol):
    """The properties of a network that its tensors decide: a frozen dataclass of plain values.

    An object of a family's class returns the network of a spec when it is called, so it can be the
    ``network`` of a :class:`ModelSpec`.
    """

    def __call__(self, spec: ModelSpec) -> Interpolator:
        """Return the network with untrained weights."""

    @property
    def family(self) -> str:
        """Return the name of the family."""

    @property
    def version(self) -> str:
        """Return the published versions with these settings, for people."""

    @property
    def middle_is_optional(self) -> bool:
        """Return whether training for the middle only, or for any timestep, is undecidable."""

    def spec(self, name: str) -> ModelSpec:
        """Return the spec of a model with these settings."""


def own_file(name: str, settings: NetworkSettings, source: str, **properties: Any) -> ModelSpec:
    """Return the spec of a model that runs a user's own file.

    Args:
        name: the name of the model.
        settings: the settings of the network.
        source: authors and publication.
        properties: properties of the spec that differ from the usual ones of a published network.
    """
    usual: dict[str, Any] = {
        "arbitrary_timestep": True,
        "licence": "see the source of the file",
        "origin": f"{settings.family} {settings.version} ({source}); a user's own file",
        "domain": "filmed and drawn footage",
        "purpose": "a published network from your own file",
        "fallback": True,
        "fallback_by_default": False,
        "carries_alpha": True,
    }
    return ModelSpec(
        name=name,
        task="interpolate",
        context=2,
        network=settings,
        entry=None,
        **(usual | properties),
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
