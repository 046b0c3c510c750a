"""A fast network for tests, which each process can load by its name, ``tiny``.

``tests/helpers/each_process`` has its row.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import Interpolator
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.pair import Pair


class Tiny(Interpolator):
    """A blend, plus a small texture from two random convolutions.

    The weights have a fixed seed. The texture is zero at timesteps 0 and 1, and depends on
    the frames before and after the pair.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.first = nn.Conv2d(7, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)

    def forward(self, pair: Pair) -> Tensor:
        x0, x1 = pair.x0, pair.x1
        timestep = pair.timestep
        arc = timestep * (1 - timestep) / 4
        plane = timestep.expand(-1, 1, *x0.shape[2:])
        seen = torch.cat((x0.clamp(0, 1), x1.clamp(0, 1), plane), 1).to(self.dtype)
        texture = F.pixel_shuffle(
            torch.tanh(self.last(F.relu(self.first(seen)))), 2
        ).float()
        if pair.reach is not None:
            before, after = (pair.joined(side) for side in pair.sides[2:])
            texture = texture + (x0 - before + x1 - after) / 4
        return x0 + (x1 - x0) * timestep + texture * arc
