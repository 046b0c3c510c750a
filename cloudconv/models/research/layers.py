"""Layers that the research models share."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)

SLOPE = 0.2


def conv(inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size, or divides it by ``stride``.

    Edge pixels are repeated beyond the edges.
    """
    return nn.Conv2d(
        inputs, outputs, side, stride, side // 2, groups=groups, padding_mode="replicate"
    )


def active(layer: nn.Module) -> nn.Sequential:
    """Return ``layer`` followed by a leaky rectifier."""
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))


def zeroed(layer: Layer) -> Layer:
    """Set all weights of ``layer`` to zero and return it.

    A network that adds the layer's output to a frame then starts by copying the frame.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def repeating(layer: nn.Conv2d, scatter: float = 0.0) -> nn.Conv2d:
    """Set the weights of ``layer`` to repeat its last three input channels, and return it.

    Args:
        layer: a convolution whose outputs are a multiple of three, in the order red, green, blue.
        scatter: standard deviation of noise on the weights. Without noise, kernels that start equal
            would learn the same.
    """
    middle = layer.kernel_size[0] // 2
    with torch.no_grad():
        layer.weight.normal_(0, scatter)
        for output in range(layer.out_channels):
            # A layer with one group per colour has a single input channel per output.
            source = layer.weight.shape[1] - 3 + output % 3 if layer.groups == 1 else 0
            layer.weight[output, source, middle, middle] += 1
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def applied(network: nn.Module, images: Tensor) -> Tensor:
    """Return the output of ``network`` for ``images``, computed in its dtype, as float32."""
    dtype = next(network.parameters()).dtype
    made: Tensor = network(images.to(dtype))
    return made.float()
