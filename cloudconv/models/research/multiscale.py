"""multiscale-gan: forecasts at four sizes, coarse to fine, with critics at each.

Source: Mathieu et al., Deep Multi-Scale Video Prediction Beyond Mean Square Error, 2015
(arXiv 1511.05440): each generator sees the context at its size and the doubled picture of the
one before, and adds to that; trained with L2, the gradient difference loss and discriminators at
all sizes. Sizes here are 1/16, 1/4, 1/2 and all of the picture, theirs for 64 pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.research.layers import active, run, same, still

_PARTS = (16, 4, 2, 1)
_CONTEXT = 4


class MultiscaleGan(Predictor):
    """Four generators; the first adds to the last frame, each other to the doubled one before."""

    def __init__(self) -> None:
        super().__init__(MULTISCALE_GAN)
        inputs = 3 * (_CONTEXT + 1)
        self.generators = nn.ModuleList(
            nn.Sequential(
                active(same(inputs, 32, 5)),
                active(same(32, 64, 3)),
                active(same(64, 64, 3)),
                active(same(64, 32, 3)),
                still(same(32, 3, 5)),
            )
            for _ in _PARTS
        )

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        return self.stages(context)[-1]

    def stages(self, context: Tensor) -> list[Tensor]:
        """Return the forecast at 1/16, 1/4, 1/2 and all of the size, each (B, 3, h, w)."""
        stacked = context.flatten(1, 2)
        made: list[Tensor] = []
        for part, generator in zip(_PARTS, self.generators, strict=True):
            seen = _small(stacked, part)
            last = seen[:, -3:]
            # What the coarser one changed is carried over: its doubled picture would have lost
            # the detail of the last frame.
            guess = last if not made else last + _like(made[-1] - _small_like(last, made[-1]), last)
            inputs = torch.cat((seen, guess), 1).clamp(0, 1)
            made.append(guess + run(generator, inputs))
        return made


class Discriminators(nn.Module):
    """A critic at each of the four sizes, who sees the context too."""

    def __init__(self) -> None:
        super().__init__()
        self.critics = nn.ModuleList(
            nn.Sequential(
                active(same(3 * (_CONTEXT + 1), 32, 3)),
                active(same(32, 64, 3, stride=2)),
                active(same(64, 64, 3, stride=2)),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(64 * 4, 1),
            )
            for _ in _PARTS
        )

    def forward(self, context: Tensor, picture: Tensor) -> list[Tensor]:
        """(B, T, 3, H, W) and (B, 3, H, W) → for each size (B, 1) logits, above 0 for "true"."""
        both = torch.cat((context[:, -_CONTEXT:].flatten(1, 2), picture), 1)
        return [
            critic(_small(both, part)) for part, critic in zip(_PARTS, self.critics, strict=True)
        ]


def _small(images: Tensor, part: int) -> Tensor:
    return images if part == 1 else F.avg_pool2d(images, part)


def _small_like(images: Tensor, other: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images, (other.shape[2], other.shape[3]))


def _like(images: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(images, other.shape[2:], mode="bilinear", align_corners=False)


MULTISCALE_GAN = ModelSpec(
    name="multiscale-gan",
    task="predict",
    context=_CONTEXT,
    arbitrary_timestep=False,
    multiple=16,
    build=MultiscaleGan,
    weights="multiscale-gan",
    parameters=353_292,
    licence="MIT",
    origin="cloudconv; after Mathieu et al. 2015 (arXiv 1511.05440)",
    domain="small motion, with detail kept",
    scale_option=False,
    bytes_per_pixel=1200,
    overlap=96,
    half_precision=True,
    stages=True,
    discriminators=Discriminators,
)
