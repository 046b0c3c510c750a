"""Define the settings that all families of published networks have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from cloudconv.models.base import Interpolator, ModelSpec

State = Mapping[str, Tensor]
"""Tensors by name. Recognition reads names and shapes only, so the tensors may be meta tensors."""

OWN_FILE = "see the source of the file"
"""The licence of weights that a user has."""


class Settings(Protocol):
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


def has(state: State, name: str, *shape: int | None) -> bool:
    """Return whether a tensor of that name and shape exists; None stands for any length above 0."""
    if name not in state:
        return False
    found = state[name].shape
    return len(found) == len(shape) and all(
        length > 0 and wanted in (None, length) for wanted, length in zip(shape, found, strict=True)
    )
