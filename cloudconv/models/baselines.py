"""Define methods without a network, the baselines for all models, and a network for tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import Interpolator, Predictor
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.pair import Pair


class Blend(Interpolator):
    """A method that mixes the two pictures linearly: ``(1 - t)·x0 + t·x1``."""

    carries_alpha = True

    def forward(self, pair: Pair) -> Tensor:
        return torch.lerp(pair.x0, pair.x1, pair.timestep)


class Hold(Interpolator):
    """A method that repeats the earlier picture at every timestep, as a player does."""

    carries_alpha = True

    def forward(self, pair: Pair) -> Tensor:
        return pair.x0.clone()


class Last(Predictor):
    """A method that repeats the last picture."""

    def forward(self, context: Tensor) -> Tensor:
        return context[:, -1].clone()


class Linear(Predictor):
    """A method that continues the change between the last two pictures linearly."""

    def forward(self, context: Tensor) -> Tensor:
        return 2 * context[:, -1] - context[:, -2]


class Tiny(Interpolator):
    """A fast network for tests: a blend, plus a small texture from two random convolutions.

    The weights have a fixed seed. The texture is zero at timesteps 0 and 1, and depends on the
    frames before and after the pair.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.first = nn.Conv2d(7, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)

    def forward(self, pair: Pair) -> Tensor:
        x0, x1, timestep = pair.x0, pair.x1, pair.timestep
        arc = timestep * (1 - timestep) / 4
        plane = timestep.expand(-1, 1, *x0.shape[2:])
        seen = torch.cat((x0.clamp(0, 1), x1.clamp(0, 1), plane), 1).to(self.dtype)
        texture = F.pixel_shuffle(torch.tanh(self.last(F.relu(self.first(seen)))), 2).float()
        if pair.reach is not None:
            before, after = (pair.joined(side) for side in pair.sides[2:])
            texture = texture + (x0 - before + x1 - after) / 4
        return x0 + (x1 - x0) * timestep + texture * arc
