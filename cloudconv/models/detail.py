"""Add the detail that motion removes from two pictures, with a small U-Net.

The network sees both pictures after they are moved, features of both at eighth and sixteenth size
that are moved by the same flows, and the motion. It predicts a residual and a correction of the
mask (as ContextNet and FusionNet of RIFE, arXiv 2011.06294, and the last decoder of IFRNet, arXiv
2205.14620). Pixels enter and leave as channels of quarter size, 16 of each colour: so no pixel is
lost, and the convolutions take a fifth of the time that they take at half size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.blocks import Active
from cloudconv.models.ops import joined, resize, sample, sampling_grid

MADE = 4
"""Channels of the result: a residual of three colours and a correction of the mask's logit."""

CELL = 4
"""Pixels along the side of a square that is one pixel for the network."""

_FEATURES = (32, 64)  # of each picture, at eighth and sixteenth size
_WIDTHS = (64, 96, 128)  # of the U-Net, at quarter, eighth and sixteenth size
_MOTION = 7  # two flows, the logits of mask and gate, the timestep
_PIXELS = 3 * CELL**2
_SLOPE = 0.2
_FLOW_UNIT = 16.0  # pixels of quarter size; brings flows to the order of 1


class Detail(nn.Module):
    """The U-Net. Its last layer starts at zero, so that it starts without any effect."""

    def __init__(self) -> None:
        """Create the layers."""
        super().__init__()
        first, second = _FEATURES
        fine, middle, coarse = _WIDTHS
        self.features_middle = _convolution(_PIXELS, first, stride=2)
        self.features_coarse = _convolution(first, second, stride=2)
        self.enter_fine = _convolution(2 * _PIXELS + _MOTION, fine)
        self.down_middle = _convolution(fine, middle, stride=2)
        self.enter_middle = _convolution(2 * first, middle)
        self.middle = _convolution(middle, middle)
        self.down_coarse = _convolution(middle, coarse, stride=2)
        self.enter_coarse = _convolution(2 * second, coarse)
        self.coarse = _convolution(coarse, coarse)
        self.up_middle = _convolution(coarse, middle, side=1)
        self.join_middle = _convolution(middle, middle)
        self.up_fine = _convolution(middle, fine, side=1)
        self.join_fine = _convolution(fine, fine)
        self.leave = nn.Conv2d(fine, MADE * CELL**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, moved: list[Tensor], pictures: list[Tensor], motion: Tensor, timestep: Tensor
    ) -> Tensor:
        """Return the residual and the correction of the mask, (B, 4, H, W) float32.

        Args:
            moved: x0 and x1 after they are moved, as :func:`cells` gives them.
            pictures: x0 and x1 themselves, likewise.
            motion: (B, 6, H/4, W/4): flows in pixels of quarter size, logits of mask and gate.
            timestep: (B, 1, 1, 1).

        H and W are multiples of 16.
        """
        dtype = self.leave.weight.dtype
        flow, logits = motion[:, :4], motion[:, 4:]
        features = [joined([picture], dtype) for picture in pictures]
        seen, flows = [], flow
        for layer in (self.features_middle, self.features_coarse):
            flows = resize(flows, 0.5) / 2
            features = [layer(each) for each in features]
            grids = [sampling_grid(flows[:, k : k + 2], *flows.shape[2:]) for k in (0, 2)]
            both = [sample(each, grid) for each, grid in zip(features, grids, strict=True)]
            seen.append(joined(both, dtype))
        plane = timestep.expand(-1, 1, *motion.shape[2:])
        fine = self.enter_fine(joined([*moved, flow / _FLOW_UNIT, logits, plane], dtype))
        middle = self.middle(self.down_middle(fine) + self.enter_middle(seen[0]))
        coarse = self.coarse(self.down_coarse(middle) + self.enter_coarse(seen[1]))
        middle = self.join_middle(_enlarged(self.up_middle(coarse)) + middle)
        fine = self.join_fine(_enlarged(self.up_fine(middle)) + fine)
        return F.pixel_shuffle(self.leave(fine), CELL).float()

    def fuse(self) -> None:
        """Take the form that runs fastest; the weights cannot be trained afterwards."""
        for name, part in self.named_children():
            if isinstance(part, nn.Sequential):
                self.add_module(name, Active(part.get_submodule("0")))


def cells(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the colours of a picture, (B, 48, H/4, W/4), in [0, 1]; H and W are multiples of 4."""
    return F.pixel_unshuffle(picture.clamp(0, 1).to(dtype), CELL)


def _enlarged(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _convolution(inputs: int, outputs: int, *, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2), nn.LeakyReLU(_SLOPE, True)
    )
