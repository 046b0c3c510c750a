"""Networks that learn within seconds, and clips to train them on."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from torch import Tensor, nn

from cloudconv.models import registry
from cloudconv.models.base import Interpolator, Predictor, Reconstructor
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.pair import Pair
from tests.helpers.factory import write_clip

# A spec names a module of this folder.
sys.modules["cloudconv.models.trainees"] = sys.modules[__name__]

TINY = registry.spec("tiny")
PREDICT = replace(
    TINY,
    name="small-predictor",
    task="predict",
    context=2,
    multiple=4,
    network="trainees:Next",
)
AHEAD = replace(PREDICT, name="small-horizon", network="trainees:Ahead")
MIDDLE = replace(
    TINY,
    name="small-middle",
    context=2,
    arbitrary_timestep=False,
    network="trainees:Middle",
)
AUTOENCODER = replace(
    TINY,
    name="small-autoencoder",
    task="reconstruct",
    context=1,
    network="trainees:Autoencoder",
)
ADVERSARIAL = replace(PREDICT, name="small-duel", network="trainees:Duellist")
COARSE = replace(PREDICT, name="small-pyramid", network="trainees:Coarse")


def register_models(monkeypatch: pytest.MonkeyPatch, *specs: ModelSpec) -> None:
    monkeypatch.setattr(registry, "MODELS", (*registry.MODELS, *specs))


class Next(Predictor):
    """A predictor of one hidden layer that adds a change to the last of two frames."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.encode = nn.Conv2d(6, 12, 5, padding=2)
        self.decode = nn.Conv2d(12, 3, 5, padding=2)
        nn.init.zeros_(self.decode.weight)
        nn.init.zeros_(self.decode.bias)

    def forward(self, context: Tensor) -> Tensor:
        changed: Tensor = self.decode(torch.relu(self.encode(context.flatten(1, 2))))
        return context[:, -1] + changed


class Ahead(Predictor):
    """A predictor that takes the horizon and predicts that frame in one step."""

    takes_horizon = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.encode = nn.Conv2d(7, 12, 5, padding=2)
        self.decode = nn.Conv2d(12, 3, 5, padding=2)

    def forward(self, context: Tensor, horizon: Tensor | None = None) -> Tensor:
        ahead = torch.ones(len(context)) if horizon is None else horizon
        plane = ahead.view(-1, 1, 1, 1).expand(-1, 1, *context.shape[3:])
        seen = torch.cat((context.flatten(1, 2), plane / 8), 1)
        result: Tensor = self.decode(torch.relu(self.encode(seen)))
        return context[:, -1] + result


class Coarse(Next):
    """A predictor that also returns a picture of half the size, as some models do."""

    staged = True

    def stages(self, context: Tensor) -> list[Tensor]:
        result: Tensor = self(context)
        return [nn.functional.avg_pool2d(result, 2), result]


class Discriminator(nn.Module):
    """A discriminator for the adversarial loss."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.look = nn.Conv2d(9, 1, 5, stride=4)

    def forward(self, context: Tensor, picture: Tensor) -> list[Tensor]:
        seen = torch.cat((context.flatten(1, 2), picture), 1)
        return [self.look(seen)]


class Duellist(Next):
    """A predictor that can be trained with discriminators."""

    discriminators = Discriminator


class Middle(Interpolator):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.encode = nn.Conv2d(6, 12, 5, padding=2)
        self.decode = nn.Conv2d(12, 3, 5, padding=2)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.encode.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08, generator=generator)
        nn.init.zeros_(self.decode.weight)
        nn.init.zeros_(self.decode.bias)

    def forward(self, pair: Pair) -> Tensor:
        seen = torch.cat((pair.x0, pair.x1), 1).to(self.dtype)
        return (pair.x0 + pair.x1) / 2 + self.decode(torch.relu(self.encode(seen))).float()


class Autoencoder(Reconstructor):
    """An autoencoder whose decoder has name and shape of the decoder of :class:`Next`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.decode = nn.Conv2d(12, 3, 5, padding=2)
        self.narrow = nn.Conv2d(3, 12, 4, stride=4)

    def forward(self, picture: Tensor) -> Tensor:
        result: Tensor = self.decode(
            nn.functional.interpolate(self.narrow(picture), scale_factor=4.0)
        )
        return result


def moving(
    path: Path,
    frames: int = 40,
    *,
    size: tuple[int, int] = (48, 40),
    step: float = 1.5,
    shown: Callable[[int], int] = lambda k: k,
    seed: int = 0,
) -> Path:
    """Write a clip of random shades that move to the right.

    Frame k shows picture ``shown(k)``.
    """
    width, height = size
    x = np.arange(width)
    knots = np.random.default_rng(seed).uniform(40, 210, (height, width // 4 + frames + 8))

    def picture(index: int) -> VideoFrame:
        place = (x - shown(index) * step) / 4 + frames * step / 4 + 1
        low = np.floor(place).astype(int)
        share = place - low
        values = knots[:, low] * (1 - share) + knots[:, low + 1] * share
        return VideoFrame.from_ndarray(np.rint(values).astype(np.uint8), format="gray")

    return write_clip(path, [picture(k) for k in range(frames)])
