"""Define multiscale-gan: forecasts at four sizes, with a discriminator at each size.

Source: Mathieu et al., Deep Multi-Scale Video Prediction Beyond Mean Square Error, 2015
(arXiv 1511.05440). Each generator reads the context at its size and a guess, and adds a correction
to the guess. The guess comes from the forecast of the next smaller size. The training uses L2, the
gradient difference loss and discriminators at all sizes. The sizes here are 1/16, 1/4, 1/2 and all
of the picture; the paper has four sizes from 4 to 32 pixels, each twice the one before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.ops import enlarged, shrunk_like
from cloudconv.models.research.layers import active, applied, conv, zeroed

_PARTS = (16, 4, 2, 1)
_CONTEXT = 4


class MultiscaleGan(Predictor):
    """Four generators, coarse to fine.

    The guess of the first generator is the last frame. The guess of each other generator is the
    last frame plus the enlarged change that the generator before has forecast.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        inputs = 3 * (_CONTEXT + 1)
        self.generators = nn.ModuleList(
            nn.Sequential(
                active(conv(inputs, 32, 5)),
                active(conv(32, 64, 3)),
                active(conv(64, 64, 3)),
                active(conv(64, 32, 3)),
                zeroed(conv(32, 3, 5)),
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
            # Enlarge only the change of the coarser forecast: the enlarged forecast itself would
            # lack the detail of the last frame.
            guess = last
            if made:
                change = made[-1] - shrunk_like(last, made[-1])
                guess = last + enlarged(change, last.shape[2:])
            inputs = torch.cat((seen, guess), 1).clamp(0, 1)
            made.append(guess + applied(generator, inputs))
        return made


class Discriminators(nn.Module):
    """Four discriminators, one for each size, that read a picture and its context."""

    def __init__(self) -> None:
        """Create the networks."""
        super().__init__()
        self.critics = nn.ModuleList(
            nn.Sequential(
                active(conv(3 * (_CONTEXT + 1), 32, 3)),
                active(conv(32, 64, 3, stride=2)),
                active(conv(64, 64, 3, stride=2)),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(64 * 4, 1),
            )
            for _ in _PARTS
        )

    def forward(self, context: Tensor, picture: Tensor) -> list[Tensor]:
        """Return the logits, (B, 1), for each size; values above 0 mean a true picture.

        Args:
            context: (B, T, 3, H, W) frames in [0, 1].
            picture: (B, 3, H, W), the true or forecast next frame.
        """
        both = torch.cat((context[:, -_CONTEXT:].flatten(1, 2), picture), 1)
        return [
            critic(_small(both, part)) for part, critic in zip(_PARTS, self.critics, strict=True)
        ]


def _small(images: Tensor, part: int) -> Tensor:
    return images if part == 1 else F.avg_pool2d(images, part)


MULTISCALE_GAN = ModelSpec(
    name="multiscale-gan",
    task="predict",
    context=_CONTEXT,
    multiple=16,
    network=MultiscaleGan,
    origin="cloudconv; after Mathieu et al. 2015 (arXiv 1511.05440)",
    domain="small motion; keeps detail",
    bytes_per_pixel=1200,
    overlap=96,
    half_precision=True,
    stages=True,
    discriminators=Discriminators,
)
