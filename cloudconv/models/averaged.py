"""cloud-max: the mean of four runs of cloud-best, slower and more exact.

The network reads the pictures as they are and mirrored, each forwards and backwards in time. The
errors differ between the runs, so that the mean has smaller errors. A mean is softer than its
parts, so the texture is restored after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from cloudconv.models.base import Around
from cloudconv.models.cloud import CLOUD_BEST
from cloudconv.models.ops import pad_to_multiple
from cloudconv.models.rife import Given, IFNet, Made

_MORE = 1.1
"""The restored texture relative to the other models, because a mean of four loses more."""

_TURNS = tuple(product((False, True), repeat=2))
"""Exchanges of a run: of left and right, of before and after."""


class Averaged(IFNet):
    """An IFNet whose pictures are the mean of four runs."""

    def made(self, given: Given) -> Made:
        """See ``IFNet.made``."""
        height, width = given.x0.shape[2:]
        multiple = self.multiple(given.scale)
        # Mirrored motion has the same grid only if the sides are multiples.
        padded = _changed(given, lambda picture: pad_to_multiple(picture, multiple))
        total: list[Tensor] = []
        for mirrored, backwards in _TURNS:
            made = super().made(_turned(padded, mirrored=mirrored, backwards=backwards))
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


def _turned(given: Given, *, mirrored: bool, backwards: bool) -> Given:
    """Return the arguments with left and right, or before and after, exchanged."""
    if backwards:
        around = given.around
        if around is not None:
            around = Around(around.after, around.before, around.reach.flip(1))
        given = given._replace(x0=given.x1, x1=given.x0, timestep=1 - given.timestep, around=around)
    return _changed(given, lambda picture: picture.flip(3)) if mirrored else given


def _changed(given: Given, change: Callable[[Tensor], Tensor]) -> Given:
    """Return the arguments with a change of all pictures."""
    around = given.around
    if around is not None:
        around = Around(change(around.before), change(around.after), around.reach)
    return given._replace(x0=change(given.x0), x1=change(given.x1), around=around)


def _max() -> Averaged:
    return Averaged(CLOUD_MAX, gated=True, refines=True)


CLOUD_MAX = replace(
    CLOUD_BEST,
    name="cloud-max",
    purpose="the best quality, slowly",
    time=3.5,
    build=_max,
    bytes_per_pixel=540,
    tries_scales=True,
)
