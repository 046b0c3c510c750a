"""Define the blocks of RIFE's networks, and a faster form for inference."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.convolutions import SLOPE, EngineOf, HiddenLayer, HiddenLayers
from cloudconv.models.ops import joined, shuffled


class Block(nn.Module):
    """A network that reads pictures and an estimate, and returns a change of the estimate.

    ``width`` are the channels of the hidden layers, ``outputs`` those of the estimate.
    ``made`` are the channels that the last convolution computes, if more: RIFE's blocks
    have a sixth channel, which was never trained. ``depth`` is the number of hidden layers.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, made: int | None = None, depth: int = 8
    ) -> None:
        super().__init__()
        self._outputs = outputs
        self._fused: HiddenLayers | None = None
        self.conv0 = nn.Sequential(_active(inputs, width // 2), _active(width // 2, width))
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(depth)))
        # A pixel shuffle makes four neighbouring pixels of one channel from four outputs.
        self.lastconv = nn.Sequential(
            nn.ConvTranspose2d(width, 4 * (made or outputs), 4, 2, 1)
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 inputs of one size to the estimate, float32."""
        dtype = next(self.parameters()).dtype
        if self._fused is not None:
            hidden = self._fused.apply(joined(inputs, dtype))
        else:
            hidden = self.convblock(self.conv0(joined(inputs, dtype)))
        return shuffled(self.lastconv(hidden), self._outputs)

    def fuse(self, engine_of: EngineOf) -> None:
        """Use fused layers, which are faster; the weights cannot be trained afterwards."""
        hidden: list[Any] = list(self.convblock)
        for layer in hidden:
            fold(layer.conv.weight, layer.conv.bias, layer.beta)
        convs = [
            *(layer.get_submodule("0") for layer in self.conv0),
            *(x.conv for x in hidden),
        ]

        def layers() -> list[HiddenLayer]:
            return [HiddenLayer(conv.weight, conv.bias, conv.stride[0]) for conv in convs]

        self._fused = HiddenLayers(layers, convs[0].in_channels, engine_of)


def _active(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(SLOPE, True))


class _Residual(nn.Module):
    """A convolution whose weighted result is added to its input and rectified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), SLOPE)


@torch.no_grad()
def fold(weight: Tensor, bias: Tensor, beta: Tensor) -> None:
    """Include the factors ``beta`` and the input's addition in a convolution's weights."""
    # In 16 bits this is also more exact: the sum is rounded once instead of three times.
    beta = beta.flatten()
    weight.mul_(beta[:, None, None, None])
    bias.mul_(beta)
    # Each group has a square matrix of weights at the middle of the kernel.
    middles = weight.view(len(weight) // weight.shape[1], -1, *weight.shape[1:])[..., 1, 1]
    torch.diagonal(middles, dim1=1, dim2=2).add_(1)
