"""Average four runs of cloud-best; the mean is slower and more exact (model ``cloud-max``).

Two runs estimate the motion at the usual scale, and two at twice that scale. One run of each scale
has mirrored pictures, and one run of each scale has the pictures in reverse order. The errors of
the runs differ, so the mean has smaller errors. The finer scale is more exact for small motion and
worse for large motion. In each region the scale whose motion explains more of the difference
between the source pictures has the larger weight. A mean is softer than its parts, so the mean is
sharpened more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import OuterPictures
from cloudconv.models.cloud import CLOUD_BEST
from cloudconv.models.ops import enlarged, pad_to_multiple
from cloudconv.models.rife import Arguments, IFNet, Unsharpened
from cloudconv.settings.values import SCALES

_MORE = 1.1
"""The factor of the restored detail; above 1, because a mean of four pictures loses more detail."""

_RUNS = {1: ((False, False), (True, True)), 2: ((False, True), (True, False))}
"""The runs for each factor of the usual scale: (left and right exchanged, time reversed)."""

_CELL = 8  # pixels
_WINDOW = 9  # cells over which the unexplained differences of both scales are compared
_LEAST_ENERGY = 1e-6


class Averaged(IFNet):
    """An IFNet whose pictures are the mean of four runs."""

    def unsharpened(self, given: Arguments) -> Unsharpened:
        """See ``IFNet.unsharpened``."""
        height, width = given.x0.shape[2:]
        multiple = self.multiple(given.scale)
        # The network's grid is symmetric only if the sides are multiples of ``multiple``.
        padded = _changed(given, lambda picture: pad_to_multiple(picture, multiple))
        usual, finer = (
            self._mean(padded._replace(scale=min(factor * given.scale, max(SCALES))), runs)
            for factor, runs in _RUNS.items()
        )
        assert usual.strength is not None
        assert finer.strength is not None
        weight = _weight(usual, finer)
        picture = torch.lerp(usual.picture, finer.picture, weight)[..., :height, :width]
        strength = torch.lerp(usual.strength, finer.strength, weight)[..., :height, :width] * _MORE
        if not given.leftover:
            picture = picture[:, :-1]
        return Unsharpened(picture, strength, usual.flows, usual.size)

    def _mean(self, given: Arguments, runs: tuple[tuple[bool, bool], ...]) -> Unsharpened:
        """Return the mean of runs; the last channel is the difference unexplained by motion."""
        total: list[Tensor] = []
        for mirrored, backwards in runs:
            turned = _turned(given, mirrored=mirrored, backwards=backwards)
            made = super().unsharpened(turned._replace(leftover=True))
            assert made.strength is not None, "only networks with a gate are averaged"
            flows = [made.flows[:, :2], made.flows[:, 2:]]
            parts = [made.picture, made.strength, *(flows[::-1] if backwards else flows)]
            if mirrored:
                parts = [part.flip(3) for part in parts]
                for flow in parts[2:]:
                    flow[:, 0] *= -1
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        picture, strength, flow0, flow1 = (part / len(runs) for part in total)
        return Unsharpened(picture, strength, torch.cat((flow0, flow1), 1), made.size)


def _weight(usual: Unsharpened, finer: Unsharpened) -> Tensor:
    """Return the weight of the finer scale's picture, (B, 1, H, W).

    The module's docstring explains the weight.
    """
    height, width = usual.picture.shape[2:]
    energies = []
    for made in (usual, finer):
        unexplained = made.picture[:, -1:].square()
        cells = F.avg_pool2d(unexplained, _CELL, ceil_mode=True, count_include_pad=False)
        near = F.pad(cells, (_WINDOW // 2,) * 4, mode="replicate")
        energies.append((F.avg_pool2d(near, _WINDOW, 1) + _LEAST_ENERGY).square())
    weight = energies[0] / (energies[0] + energies[1])
    return enlarged(weight, [_CELL * n for n in weight.shape[2:]])[..., :height, :width]


def _turned(given: Arguments, *, mirrored: bool, backwards: bool) -> Arguments:
    """Return the arguments with left and right, or before and after, exchanged."""
    if backwards:
        outer = given.outer
        if outer is not None:
            outer = OuterPictures(outer.after, outer.before, outer.reach.flip(1))
        given = given._replace(x0=given.x1, x1=given.x0, timestep=1 - given.timestep, outer=outer)
    return _changed(given, lambda picture: picture.flip(3)) if mirrored else given


def _changed(given: Arguments, change: Callable[[Tensor], Tensor]) -> Arguments:
    """Return the arguments with ``change`` applied to all pictures."""
    outer = given.outer
    if outer is not None:
        outer = OuterPictures(change(outer.before), change(outer.after), outer.reach)
    return given._replace(x0=change(given.x0), x1=change(given.x1), outer=outer)


CLOUD_MAX = replace(
    CLOUD_BEST,
    name="cloud-max",
    purpose="the best quality, slowly",
    time=11,
    network=partial(Averaged, gated=True, refines=True),
    entry=CLOUD_BEST.name,
    bytes_per_pixel=1600,
)
