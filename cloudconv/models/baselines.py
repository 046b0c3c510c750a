"""Define methods without a network, the baselines for all models."""

from __future__ import annotations

from torch import Tensor

from cloudconv.models.base import Interpolator, Predictor


class Blend(Interpolator):
    """A method that mixes the two pictures linearly: ``(1 - t)·x0 + t·x1``."""

    carries_alpha = True

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """Return the mix; see ``Interpolator.forward``."""
        return x0 + (x1 - x0) * timestep


class Hold(Interpolator):
    """A method that repeats the earlier picture at every timestep, as a player does."""

    carries_alpha = True

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """Return a copy of ``x0``; see ``Interpolator.forward``."""
        return x0.clone()


class Last(Predictor):
    """A method that repeats the last picture."""

    def forward(self, context: Tensor) -> Tensor:
        """Return a copy of the last picture; see ``Predictor.forward``."""
        return context[:, -1].clone()


class Linear(Predictor):
    """A method that continues the change between the last two pictures linearly."""

    def forward(self, context: Tensor) -> Tensor:
        """Return the next picture of this change; see ``Predictor.forward``."""
        return 2 * context[:, -1] - context[:, -2]
