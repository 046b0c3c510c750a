"""Define the blocks of RIFE's networks, and a faster form for inference."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.ops import joined, shuffled

SLOPE = 0.2


class Block(nn.Module):
    """A network that reads pictures and an estimate so far, and returns a change of the estimate.

    ``width`` are the channels of the hidden layers, ``outputs`` those of the estimate. ``made`` are
    the channels that the last convolution computes, if more: RIFE's blocks have a sixth channel,
    which was never trained. ``depth`` is the number of hidden layers.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, made: int | None = None, depth: int = 8
    ) -> None:
        super().__init__()
        self._outputs = outputs
        self._fused: list[tuple[Any, Packed]] = []  # convolutions, with weights for oneDNN
        self.conv0 = nn.Sequential(_active(inputs, width // 2), _active(width // 2, width))
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(depth)))
        # A pixel shuffle makes four neighbouring pixels of one channel from four outputs.
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * (made or outputs), 4, 2, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 inputs of one size to the estimate, float32."""
        hidden = joined(inputs, next(self.parameters()).dtype)
        for conv, packed in self._fused:
            hidden = rectified(hidden, conv.weight, conv.bias, conv.stride[0], packed)
        if not self._fused:
            hidden = self.convblock(self.conv0(hidden))
        return shuffled(self.lastconv(hidden), self._outputs)

    def fuse(self) -> None:
        """Use fused layers, which are faster; the weights cannot be trained afterwards."""
        hidden: list[Any] = list(self.convblock)
        for layer in hidden:
            fold(layer.conv.weight, layer.conv.bias, layer.beta)
        convs = [*(layer.get_submodule("0") for layer in self.conv0), *(x.conv for x in hidden)]
        self._fused = [(conv, {}) for conv in convs]


def _active(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(SLOPE, True))


class _Residual(nn.Module):
    """A convolution whose result is weighted per channel, added to its input and rectified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), SLOPE)


@torch.no_grad()
def fold(weight: Tensor, bias: Tensor, beta: Tensor) -> None:
    """Include the factors ``beta`` and the addition of the input in a convolution's weights."""
    # In 16 bits this is also more exact: the sum is rounded once instead of three times.
    beta = beta.flatten()
    weight.mul_(beta[:, None, None, None])
    bias.mul_(beta)
    # Each group has a square matrix of weights at the middle of the kernel.
    middles = weight.view(len(weight) // weight.shape[1], -1, *weight.shape[1:])[..., 1, 1]
    torch.diagonal(middles, dim1=1, dim2=2).add_(1)


Packed = dict[torch.dtype, Tensor]
"""The weights of a convolution in the order of oneDNN, for each type."""


def rectified(x: Tensor, weight: Tensor, bias: Tensor, stride: int, packed: Packed) -> Tensor:
    """Apply a 3x3 convolution and a leaky rectifier, in one step if PyTorch has such a step."""
    if x.dtype == torch.bfloat16 and x.shape[3] <= stride > 1:
        # For a result of one column, oneDNN reads memory that is not set (PyTorch 2.13 on AMX).
        # Zeros on the right add a column and change nothing else.
        return rectified(F.pad(x, (0, 2)), weight, bias, stride, packed)[..., :1]
    groups = x.shape[1] // weight.shape[1]
    if x.device.type != "cpu" or torch.is_grad_enabled() or not _has_fused(x.dtype):
        return F.leaky_relu_(F.conv2d(x, weight, bias, stride, 1, 1, groups), SLOPE)
    shape = (1, 1), (stride, stride), (1, 1), groups
    if x.dtype not in packed:
        # Reorder the weights for oneDNN once; otherwise each call would reorder them.
        packed[x.dtype] = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape, x.shape)
    fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
    return fused(x, packed[x.dtype], bias, *shape, "leaky_relu", [SLOPE], "")


@cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Return whether oneDNN runs a convolution and a rectifier as one fast step in that type."""
    # PyTorch's own compiler calls this step on a CPU; it has no public name. On other processors
    # than x86 the step may exist and be slow.
    known = torch.ops.mkldnn
    if not hasattr(known, "_convolution_pointwise"):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    if dtype == torch.bfloat16:
        return bool(known._is_mkldnn_bf16_supported())
    return dtype == torch.float32
