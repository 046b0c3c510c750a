"""Layers that the seed models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOPE = 0.2


def same(inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (or divides it by ``stride``), with edges continued."""
    return nn.Conv2d(
        inputs, outputs, side, stride, side // 2, groups=groups, padding_mode="replicate"
    )


def active(layer: nn.Module) -> nn.Sequential:
    """``layer`` with a leaky rectifier behind it."""
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))


def still(layer: nn.Conv2d) -> nn.Conv2d:
    """``layer`` with zeros for weights: what adds its output to a frame starts by copying it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def repeating(layer: nn.Conv2d, scatter: float = 0.0) -> nn.Conv2d:
    """``layer`` as the kernel that repeats the last three of its input channels.

    Args:
        layer: its outputs are a multiple of three, in turns for red, green and blue.
        scatter: standard deviation of noise on the weights, where equal ones would learn alike.
    """
    middle = layer.kernel_size[0] // 2
    with torch.no_grad():
        layer.weight.normal_(0, scatter)
        for output in range(layer.out_channels):
            # A layer with a group for each colour has a single input channel an output.
            source = layer.weight.shape[1] - 3 + output % 3 if layer.groups == 1 else 0
            layer.weight[output, source, middle, middle] += 1
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def run(network: nn.Module, images: Tensor) -> Tensor:
    """``network`` of ``images`` in the dtype of its parameters; float32 comes back."""
    dtype = next(network.parameters()).dtype
    made: Tensor = network(images.to(dtype))
    return made.float()
