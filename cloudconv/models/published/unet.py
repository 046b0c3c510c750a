"""Define the network that corrects a mixed picture in RIFE's paper and in EMA-VFI.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cloudconv.models.base import COLOURS
from cloudconv.models.ops import joined, resize, warp

_LEVELS = 4


def layer(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a convolution and a PReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    return nn.Sequential(conv, nn.PReLU(outputs))


class TwoLayers(nn.Module):
    """Two convolutions with PReLU, of which the first halves the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = layer(inputs, outputs, 2), layer(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        result: Tensor = self.conv2(self.conv1(x))
        return result


class Unet(nn.Module):
    """A network that reads pictures, motion and moved features, and returns a correction.

    It has ``width`` channels at full size, and twice as many at each smaller size.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        for level in range(_LEVELS):
            wide = width << (level + 1)
            self.add_module(f"down{level}", TwoLayers(wide if level else inputs, wide))
            outputs = width << (_LEVELS - 1 - level)
            up = nn.ConvTranspose2d(4 * outputs, outputs, 4, 2, 1)
            self.add_module(f"up{level}", nn.Sequential(up, nn.PReLU(outputs)))
        self.conv = nn.Conv2d(width, COLOURS, 3, 1, 1)

    def forward(self, first: Sequence[Tensor], features: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the correction, (B, 3, H, W) float32 in [-1, 1].

        ``first`` are inputs at full size, ``features`` those at a half to a sixteenth of the size.
        """
        dtype = self.conv.weight.dtype
        hidden: list[Tensor] = []
        seen = list(first)
        for level in range(_LEVELS):
            hidden.append(self.get_submodule(f"down{level}")(joined(seen, dtype)))
            seen = [hidden[-1], *features[level]]
        for level in range(_LEVELS):
            made = self.get_submodule(f"up{level}")(joined(seen, dtype))
            seen = [made, hidden[_LEVELS - 2 - level]] if level < _LEVELS - 1 else [made]
        result: Tensor = torch.sigmoid(self.conv(made).float())
        return result * 2 - 1


def moved_features(features: Sequence[Tensor], flow: Tensor) -> list[Tensor]:
    """Return features of a picture, each of half of the size before, moved by a flow in pixels."""
    result = []
    for level, each in enumerate(features):
        if level:
            flow = resize(flow, 0.5) * 0.5
        result.append(warp(each, flow))
    return result
