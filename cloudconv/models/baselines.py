"""Define methods without a network, the baselines for all models."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from cloudconv.models.base import Interpolator, ModelSpec, Predictor


class Blend(Interpolator):
    """A method that mixes the two pictures linearly: ``(1 - t)·x0 + t·x1``."""

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """Return the mix; see ``Interpolator.forward``."""
        return x0 + (x1 - x0) * timestep


class Hold(Interpolator):
    """A method that repeats the earlier picture at every timestep, as a player does."""

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


_row = partial(ModelSpec, entry=None, origin="cloudconv")
_between = partial(_row, task="interpolate", context=2, arbitrary_timestep=True, carries_alpha=True)

BLEND = _between(
    name="blend",
    network=Blend,
    domain="any footage; moving things look double",
    purpose="a baseline: moving things look double",
    time=0.1,
    bytes_per_pixel=48,
)
HOLD = _between(
    name="hold",
    network=Hold,
    domain="any footage; motion stays as jerky as before",
    purpose="repeats the earlier frame",
    bytes_per_pixel=36,
)
LAST = _row(
    name="hold",
    task="predict",
    context=1,
    network=Last,
    domain="any footage; the picture stands still",
    purpose="a baseline: the picture stands still",
    bytes_per_pixel=36,
)
LINEAR = _row(
    name="linear",
    task="predict",
    context=2,
    network=Linear,
    domain="slow fades; moving things break up within a few frames",
    purpose="slow fades",
    bytes_per_pixel=60,
)
