"""The blocks of IFNet (:mod:`cloudconv.models.rife`), and the form in which they run fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.ops import joined, shuffled

_SLOPE = 0.2


class Block(nn.Module):
    """Looks at pictures and at what is known so far, and estimates a change of that.

    Args:
        inputs: channels that it looks at.
        width: channels inside.
        outputs: channels of the estimate.
        made: how many channels the last convolution makes, if more than are wanted: RIFE's have
            six, of which it never trained the sixth to mean anything.
        depth: of the residual layers.
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, made: int | None = None, depth: int = 8
    ) -> None:
        super().__init__()
        self._outputs = outputs
        self.conv0 = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, width // 2, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
            nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
        )
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(depth)))
        # Four neighbouring pixels for each channel of the estimate.
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * (made or outputs), 4, 2, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, C, h, w) float32 inputs of one size → (B, outputs, h, w) float32."""
        seen = joined(inputs, next(self.parameters()).dtype)
        features: Tensor = self.lastconv(self.convblock(self.conv0(seen)))
        return shuffled(features, self._outputs)

    def fuse(self) -> None:
        """Take the form that runs fastest. For weights that are final: nothing is trained then."""
        self.conv0 = nn.Sequential(*(Active(layer.get_submodule("0")) for layer in self.conv0))
        residuals = [layer for layer in self.convblock if isinstance(layer, _Residual)]
        self.convblock = nn.Sequential(*(layer.fused() for layer in residuals))


class _Residual(nn.Module):
    """A convolution that adds to its input, weighed for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta.to(x.dtype)), _SLOPE)

    @torch.no_grad()
    def fused(self) -> Active:
        """The same as one convolution: the weights hold beta, and the input as their middle."""
        # In 16 bits that is nearer to the exact result, too: the sum is rounded once, not thrice.
        conv, beta = self.conv, self.beta.flatten()
        assert conv.bias is not None
        conv.weight.mul_(beta[:, None, None, None])
        conv.bias.mul_(beta)
        torch.diagonal(conv.weight[:, :, 1, 1]).add_(1)
        return Active(conv)


class Active(nn.Module):
    """A convolution with a leaky rectifier behind it, in one step where PyTorch has one."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        self.conv = conv
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        if x.device.type != "cpu" or torch.is_grad_enabled() or not _has_fused(x.dtype):
            return F.leaky_relu_(conv(x), _SLOPE)
        if self._packed is None or self._packed.dtype != x.dtype:
            # Otherwise each call would bring the weights into oneDNN's order anew.
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, conv.padding, conv.stride, conv.dilation, conv.groups, x.shape
            )
        fused: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        return fused(
            x,
            self._packed,
            conv.bias,
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            "leaky_relu",
            [_SLOPE],
            "",
        )


@cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there, with convolution and rectifier as one fast step in that type."""
    # What PyTorch's own compiler calls on a CPU; there is no public name for it. Elsewhere than on
    # x86 the step may be there and slow.
    known = torch.ops.mkldnn
    if not hasattr(known, "_convolution_pointwise"):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    if dtype == torch.bfloat16:
        return bool(known._is_mkldnn_bf16_supported())
    return dtype == torch.float32
