"""Forecast on a Laplacian pyramid (Burt and Adelson 1983), with a convolution for each level.

Each level of the pyramid is the detail that a halving of the picture loses, and the last level is
the smallest picture. A 5 by 5 convolution processes each level, and the results are added up, as in
the earlier research projects. A small kernel on a coarse level covers the same distance as a very
large one on the full picture.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.ops import enlarged, laplacian_pyramid
from cloudconv.models.research.layers import applied, conv, repeating


class ConvPyramid(Predictor):
    """A 5 by 5 convolution per level, from the bands of the last frames to those of the next frame.

    Args:
        spec: the spec of the variant. Its multiple, a power of two, sets the number of levels.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network; see the class for the argument."""
        super().__init__(spec)
        levels = spec.multiple.bit_length()
        self.levels = nn.ModuleList(repeating(conv(3 * spec.context, 3, 5)) for _ in range(levels))

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        bands, rest = laplacian_pyramid(context.flatten(1, 2), len(self.levels) - 1)
        made = applied(self.levels[-1], rest)
        for band, layer in zip(reversed(bands), reversed(self.levels[:-1]), strict=True):
            made = enlarged(made, band.shape[2:]) + applied(layer, band)
        return made


CONV_PYRAMID = ModelSpec(
    name="conv-pyramid",
    task="predict",
    context=2,
    multiple=16,
    network=ConvPyramid,
    origin="cloudconv; after earlier research projects",
    domain="slow, steady motion such as clouds; blurs after about ten frames",
    bytes_per_pixel=175,
    overlap=64,
)

CONV_PYRAMID_2 = replace(
    CONV_PYRAMID,
    name="conv-pyramid-2",
    multiple=2,
    domain="very slow motion; blurs after about ten frames",
    overlap=16,
)
