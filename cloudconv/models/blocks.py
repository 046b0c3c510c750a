"""Define the blocks of IFNet (:mod:`cloudconv.models.rife`), and a faster form for inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.ops import joined, shuffled

_SLOPE = 0.2


class Fusible(nn.Module):
    """A part of a network that has a faster form for inference."""

    def fuse(self) -> None:
        """Replace the layers by faster, fused ones; the weights cannot be trained afterwards."""
        raise NotImplementedError


class Block(Fusible):
    """A network that reads pictures and an estimate so far, and returns a change of the estimate.

    ``width`` are the channels of the hidden layers, ``outputs`` those of the estimate. ``made`` are
    the channels that the last convolution computes, if more: RIFE's blocks have a sixth channel,
    which was never trained. ``depth`` and ``groups`` are those of the residual layers.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        outputs: int,
        made: int | None = None,
        depth: int = 8,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self._outputs = outputs
        self.conv0 = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, width // 2, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
            nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
        )
        self.convblock = nn.Sequential(*(_Residual(width, groups) for _ in range(depth)))
        # A pixel shuffle makes four neighbouring pixels of one channel from four outputs.
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * (made or outputs), 4, 2, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map (B, C, h, w) float32 inputs of one size to (B, outputs, h, w) float32."""
        seen = joined(inputs, next(self.parameters()).dtype)
        return shuffled(self.lastconv(self.convblock(self.conv0(seen))), self._outputs)

    def fuse(self) -> None:
        """See ``Fusible.fuse``."""
        self.conv0 = nn.Sequential(*(Active(layer.get_submodule("0")) for layer in self.conv0))
        residuals = [layer for layer in self.convblock if isinstance(layer, _Residual)]
        self.convblock = nn.Sequential(*(layer.fused() for layer in residuals))


class _Residual(nn.Module):
    """A convolution whose result is weighted per channel, added to its input and rectified."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), _SLOPE)

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
            return F.leaky_relu_(conv(x), _SLOPE)
        shape = conv.padding, conv.stride, conv.dilation, conv.groups
        if self._packed is None or self._packed.dtype != x.dtype:
            # Reorder the weights for oneDNN once; otherwise each call would reorder them.
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, *shape, x.shape
            )
        fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        return fused(x, self._packed, conv.bias, *shape, "leaky_relu", [_SLOPE], "")


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
