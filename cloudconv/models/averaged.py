"""cloud-max: the mean of four runs of cloud-best, for those who have time.

The network sees the pictures as they are and mirrored, each forwards and backwards in time. Its
errors differ between the runs, so their mean has fewer. A mean is softer than its parts, so the
texture is restored only afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from cloudconv.models.base import Around
from cloudconv.models.cloud import CLOUD_BEST
from cloudconv.models.ops import pad_to_multiple
from cloudconv.models.rife import IFNet, Made

_MORE = 1.1
"""How much more texture than usual is put back: a mean of four has lost more than is seen."""

_TURNS = tuple(product((False, True), repeat=2))
"""Whether left and right are exchanged, and whether before and after are."""


class Averaged(IFNet):
    """An IFNet whose pictures are the mean of four runs."""

    def made(
        self,
        x0: Tensor,
        x1: Tensor,
        timestep: Tensor,
        scale: float = 1.0,
        around: Around | None = None,
        leftover: bool = False,
    ) -> Made:
        """See ``IFNet.made``."""
        height, width = x0.shape[2:]
        multiple = self.multiple(scale)
        # Mirrored motion has the same grid only where the sides are whole multiples.
        x0, x1 = (pad_to_multiple(x, multiple) for x in (x0, x1))
        if around is not None:
            before, after = (pad_to_multiple(x, multiple) for x in (around.before, around.after))
            around = Around(before, after, around.reach)
        total: list[Tensor] = []
        for mirrored, backwards in _TURNS:
            seen = _turned(x0, x1, timestep, around, mirrored=mirrored, backwards=backwards)
            made = super().made(*seen[:3], scale, seen[3], leftover)
            assert made.free is not None, "only networks with a gate are averaged"
            flows = [made.flows[:, :2], made.flows[:, 2:]]
            parts = [made.picture, made.free, *(flows[::-1] if backwards else flows)]
            if mirrored:
                parts = [part.flip(3) for part in parts]
                for flow in parts[2:]:
                    flow[:, 0] *= -1
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        picture, free, flow0, flow1 = (part / len(_TURNS) for part in total)
        picture, free = picture[..., :height, :width], free[..., :height, :width] * _MORE
        return Made(picture, free, torch.cat((flow0, flow1), 1), made.size)


def _turned(
    x0: Tensor,
    x1: Tensor,
    timestep: Tensor,
    around: Around | None,
    *,
    mirrored: bool,
    backwards: bool,
) -> tuple[Tensor, Tensor, Tensor, Around | None]:
    """Return the arguments of a run with left and right, or before and after, exchanged."""
    if backwards:
        x0, x1, timestep = x1, x0, 1 - timestep
        if around is not None:
            around = Around(around.after, around.before, around.reach.flip(1))
    if mirrored:
        x0, x1 = x0.flip(3), x1.flip(3)
        if around is not None:
            around = Around(around.before.flip(3), around.after.flip(3), around.reach)
    return x0, x1, timestep, around


def _max() -> Averaged:
    return Averaged(CLOUD_MAX, gated=True, refines=True)


CLOUD_MAX = replace(
    CLOUD_BEST,
    name="cloud-max",
    purpose="the last tenths of a decibel",
    time=3.5,
    build=_max,
    bytes_per_pixel=540,
    tries_scales=True,
)
