"""Define the blocks of RIFE's networks, and a faster form for inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.ops import joined, shuffled

SLOPE = 0.2
Style = Literal["prelu", "leaky", "beta"]


class Fusible(nn.Module):
    """A part of a network that has a faster form for inference."""

    def fuse(self) -> None:
        """Replace the layers by faster, fused ones; the weights cannot be trained afterwards."""
        raise NotImplementedError


class Block(Fusible):
    """A network that reads pictures and an estimate so far, and returns a change of the estimate.

    ``width`` are the channels of the hidden layers, ``outputs`` those of the estimate. ``made`` are
    the channels that the last convolution computes, if more: RIFE's blocks have a sixth channel,
    which was never trained. ``depth`` and ``groups`` are those of the hidden layers. ``style``:
    with ``beta`` these are residual, and a pixel shuffle makes the estimate as large as the inputs;
    blocks before RIFE 4.5, with ``prelu`` a single skip and other rectifiers, halve it.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        made: int | None = None,
        depth: int = 8,
        groups: int = 1,
        style: Style = "beta",
    ) -> None:
        super().__init__()
        self._outputs, self._style = outputs, style

        def layer(channels: int, made: int, stride: int) -> nn.Module:
            active = nn.PReLU(made) if style == "prelu" else nn.LeakyReLU(SLOPE, True)
            return nn.Sequential(nn.Conv2d(channels, made, 3, stride, 1), active)

        self.conv0 = nn.Sequential(layer(inputs, width // 2, 2), layer(width // 2, width, 2))
        self.convblock = nn.Sequential(
            *(
                _Residual(width, groups) if style == "beta" else layer(width, width, 1)
                for _ in range(depth)
            )
        )
        # A pixel shuffle makes four neighbouring pixels of one channel from four outputs.
        channels = 4 * (made or outputs) if style == "beta" else outputs
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1)
        self.lastconv = nn.Sequential(last) if style == "beta" else last

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 inputs of one size to the estimate, float32."""
        first = self.conv0(joined(inputs, next(self.parameters()).dtype))
        hidden = self.convblock(first)
        made: Tensor = self.lastconv(hidden + first if self._style == "prelu" else hidden)
        return shuffled(made, self._outputs) if self._style == "beta" else made.float().contiguous()

    def fuse(self) -> None:
        """See ``Fusible.fuse``."""
        if self._style != "prelu":
            self.conv0 = nn.Sequential(*map(_fused, self.conv0))
            self.convblock = nn.Sequential(*map(_fused, self.convblock))


def _fused(layer: nn.Module) -> Active:
    return layer.fused() if isinstance(layer, _Residual) else Active(layer.get_submodule("0"))


class _Residual(nn.Module):
    """A convolution whose result is weighted per channel, added to its input and rectified."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), SLOPE)

    @torch.no_grad()
    def fused(self) -> Active:
        """Return one convolution whose weights include ``beta`` and the addition of the input."""
        # In 16 bits this is also more exact: the sum is rounded once instead of three times.
        conv, beta = self.conv, self.beta.flatten()
        assert conv.bias is not None
        conv.weight.mul_(beta[:, None, None, None])
        conv.bias.mul_(beta)
        # Each group has a square matrix of weights at the middle of the kernel.
        middles = conv.weight.view(conv.groups, -1, *conv.weight.shape[1:])[..., 1, 1]
        torch.diagonal(middles, dim1=1, dim2=2).add_(1)
        return Active(conv)


class Active(nn.Module):
    """A convolution and a leaky rectifier, in one step if PyTorch has such a step."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        self.conv = conv
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the convolution's output, rectified."""
        conv = self.conv
        if x.dtype == torch.bfloat16 and x.shape[3] <= conv.stride[1] > 1:
            # For a result of one column, oneDNN reads memory that is not set (PyTorch 2.13 on AMX).
            # Zeros on the right add a column and change nothing else.
            return self.forward(F.pad(x, (0, 2)))[..., :1]
        if x.device.type != "cpu" or torch.is_grad_enabled() or not _has_fused(x.dtype):
            return F.leaky_relu_(conv(x), SLOPE)
        shape = conv.padding, conv.stride, conv.dilation, conv.groups
        if self._packed is None or self._packed.dtype != x.dtype:
            # Reorder the weights for oneDNN once; otherwise each call would reorder them.
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, *shape, x.shape
            )
        fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        return fused(x, self._packed, conv.bias, *shape, "leaky_relu", [SLOPE], "")


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
