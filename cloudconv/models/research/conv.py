"""Forecast with plain convolutions, the first models of the earlier projects.

The earlier projects are the research projects from which cloudconv developed. For a model of one
convolution, training finds the linear filter of the last frames with the lowest mean error. Such a
filter can continue a steady drift, and nothing else. Before training each model repeats the last
frame.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.research.layers import active, applied, conv, repeating, zeroed

_SIDE = 11


class Conv(Predictor):
    """One convolution of all channels of the last frames, or one for each channel of the last.

    With a convolution for each channel, the channels of repeated forecasts drift apart into vivid
    colours. Dreams can use this effect.

    Args:
        spec: the spec of the variant.
        groups: 1, or 3 for a convolution of each channel of a single frame.
    """

    def __init__(self, spec: ModelSpec, groups: int = 1) -> None:
        """Create the network; see the class for the arguments."""
        super().__init__(spec)
        self.kernel = repeating(conv(3 * spec.context, 3, _SIDE, groups=groups))

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        return applied(self.kernel, context.flatten(1, 2))


class ConvModes(Predictor):
    """Several kernels, so that each can learn one direction of motion.

    A small network weights the results of the kernels for each pixel.

    Source of kernels that depend on the input: Jia et al., Dynamic Filter Networks, 2016 (arXiv
    1605.09673).
    """

    modes = 8

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        inputs = 3 * self.spec.context
        self.kernel = repeating(conv(inputs, 3 * self.modes, _SIDE), scatter=1e-3)
        self.gate = nn.Sequential(
            active(conv(inputs, 24, 5, stride=2)), active(conv(24, 24, 5)), conv(24, self.modes, 3)
        )

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        stacked = context.flatten(1, 2)
        each = applied(self.kernel, stacked).view(len(stacked), self.modes, 3, *stacked.shape[2:])
        small = applied(self.gate, stacked.clamp(0, 1))
        gate = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return (gate.softmax(1)[:, :, None] * each).sum(1)


class ConvDeep(Predictor):
    """Four convolutions with non-linearities; their result is added to the last frame."""

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.layers = nn.Sequential(
            active(conv(3 * self.spec.context, 32, 7)),
            active(conv(32, 32, 5)),
            active(conv(32, 32, 5)),
            zeroed(conv(32, 3, 5)),
        )

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        return context[:, -1] + applied(self.layers, context.flatten(1, 2).clamp(0, 1))


class ConvRecurrent(Predictor):
    """One convolution of the last frame and of a state that summarises the frames before it."""

    width = 16

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.remember = conv(self.width + 3, self.width, 7)
        self.kernel = repeating(conv(self.width + 3, 3, _SIDE), scatter=1e-3)

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        batch, count, _, height, width = context.shape
        memory = context.new_zeros(batch, self.width, height, width)
        for number in range(count - 1):
            seen = torch.cat((memory, context[:, number].clamp(0, 1)), 1)
            memory = torch.tanh(applied(self.remember, seen))
        return applied(self.kernel, torch.cat((memory, context[:, -1]), 1))


CONV = ModelSpec(
    name="conv",
    task="predict",
    context=2,
    network=Conv,
    origin="cloudconv; after earlier research projects",
    domain="slow, steady motion such as clouds; blurs after about ten frames",
    bytes_per_pixel=125,
    overlap=8,
)

CONV_CHANNEL = replace(
    CONV,
    name="conv-channel",
    context=1,
    network=partial(Conv, groups=3),
    domain="dreams in vivid, chaotic colours",
    bytes_per_pixel=155,
)

CONV_MODES = replace(
    CONV,
    name="conv-modes",
    context=4,
    multiple=2,
    network=ConvModes,
    domain="steady motion in several directions",
    bytes_per_pixel=320,
    overlap=16,
)

CONV_DEEP = replace(
    CONV,
    name="conv-deep",
    context=4,
    network=ConvDeep,
    domain="small motion; blurs after about ten frames",
    bytes_per_pixel=610,
    overlap=16,
    half_precision=True,
)

CONV_RECURRENT = replace(
    CONV,
    name="conv-recurrent",
    context=4,
    network=ConvRecurrent,
    domain="slow, steady motion",
    bytes_per_pixel=540,
    overlap=16,
)
