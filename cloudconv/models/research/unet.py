"""Define U-Nets (Ronneberger et al. 2015, arXiv 1505.04597).

One forecasts a frame from five frames. The others compute the frame in the middle of two frames.
Skip connections join the encoder to the decoder, and the result is added to a frame, as in the
earlier research projects. The networks are fully convolutional, so they run on pictures far larger
than those of their training. Forecasts of such pictures lose fine detail and look painted.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import Interpolator, ModelSpec, Predictor
from cloudconv.models.research.layers import active, applied, conv, zeroed


class UNet(nn.Module):
    """A U-Net: strided convolutions shrink, bilinear steps enlarge, skip connections join.

    Args:
        inputs: number of input channels; there are three output channels.
        widths: channels of each level, finest first. The first level has the size of the picture,
            and each further level has half the size.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        """Create the layers; see the class for the arguments."""
        super().__init__()
        self.entry = active(conv(inputs, widths[0], 3))
        self.down = nn.ModuleList(
            nn.Sequential(active(conv(a, b, 3, stride=2)), active(conv(b, b, 3)))
            for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(active(conv(a + b, a, 3)) for a, b in pairwise(widths))
        self.exit = zeroed(conv(widths[0], 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 3, H, W).

        H and W are multiples of 2 to the power of the number of levels after the first.
        """
        features = [self.entry(images)]
        for layer in self.down:
            features.append(layer(features[-1]))
        made = features.pop()
        for layer in reversed(self.up):
            large = F.interpolate(made, scale_factor=2, mode="bilinear", align_corners=False)
            made = layer(torch.cat((features.pop(), large), 1))
        result: Tensor = self.exit(made)
        return result


class UNet5(Predictor):
    """A U-Net of five stacked frames (fifteen channels); its result is added to the last frame."""

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.network = UNet(3 * self.spec.context, (24, 48, 96, 128, 128))

    def forward(self, context: Tensor) -> Tensor:
        """Return the next frame; the arguments are those of ``Predictor.forward``."""
        return context[:, -1] + applied(self.network, context.flatten(1, 2).clamp(0, 1))


class UNetMiddle(Interpolator):
    """A U-Net of two frames; its result is added to their mean."""

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.network = UNet(6, (16, 32, 48, 64, 96))

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """Return the middle frame (timestep 0.5); see ``Interpolator.forward``."""
        return (x0 + x1) / 2 + applied(self.network, torch.cat((x0, x1), 1).clamp(0, 1))


UNET5 = ModelSpec(
    name="unet5",
    task="predict",
    context=5,
    multiple=16,
    network=UNet5,
    origin="cloudconv; after earlier projects and Ronneberger et al. 2015 (arXiv 1505.04597)",
    domain="clouds, water and small motion; long forecasts look painted",
    bytes_per_pixel=1480,
    overlap=64,
    half_precision=True,
)

UNET_MIDDLE = replace(
    UNET5,
    name="unet-middle",
    task="interpolate",
    context=2,
    network=UNetMiddle,
    domain="clouds, water and small motion; trained with the Charbonnier loss",
    purpose="a small U-Net (Charbonnier loss)",
    bytes_per_pixel=950,
)

UNET_MIDDLE_MSE = replace(
    UNET_MIDDLE,
    name="unet-middle-mse",
    domain="clouds, water and small motion; trained with the mean squared error",
    purpose="a small U-Net (squared error)",
)

UNET_MIDDLE_SSIM = replace(
    UNET_MIDDLE,
    name="unet-middle-ssim",
    domain="clouds, water and small motion; trained with structural similarity",
    purpose="a small U-Net (SSIM loss)",
)
