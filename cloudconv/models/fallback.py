"""Blending in the place of motion that fails on filmed frames.

Where motion is right, little of two pictures' difference is left over once both are moved to the
same moment. What is left over raises a doubt (noise, flicker, ripples, or merely hard footage), and
a trial settles it: of frames that are filmed, the model makes x0 from the frame before and x1, and
x1 from x0 and the frame after. What would have been the best share of plain blending there, around
each place and over the whole picture, says how much of it to take between x0 and x1. Best in the
sense of least squares, as in Wiener's filter (1949).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.ops import enlarged
from cloudconv.models.texture import restore

SHRINK = 0.5
"""The size at which trials are made: it takes a quarter of the time, and tells nearly as much."""

_DOUBT = (0.2, 0.3)
_CELL = 8  # pixels of a trial's picture
_AROUND = 9  # cells, to whose share the whole picture's is an upper bound
_LEAST = 0.2
"""A share up to which the model's own picture stands: in trials the frames are twice as far apart,
and it is at its worst."""
_LEAST_ENERGY = 1e-9
_STRIP = 32  # rows


def doubts(result: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
    """How doubtful a model's pictures are, by what its motion leaves over: (B,) in [0, 1].

    Args:
        result: (B, C + 1, H, W), pictures and what is left over, from
            ``Interpolator.interpolate``.
        x0, x1: (B, C, H, W), the pictures that it was made from; colours are the first three.
    """
    # Squares, so that a few cars that are moved rightly weigh more than the noise around them.
    left = result[:, -1].square().mean((1, 2))
    there = _difference(x0[:, :COLOURS], x1[:, :COLOURS]).clamp_min(_LEAST_ENERGY)
    trusted, doubted = _DOUBT
    return ((left / there - trusted) / (doubted - trusted)).clamp(0, 1)


def errors(made: Tensor, before: Tensor, filmed: Tensor, after: Tensor, timestep: Tensor) -> Tensor:
    """What a trial shows: mean squares of both errors, and their mean product, for each cell.

    Args:
        made: the model's pictures between ``before`` and ``after``.
        before, filmed, after: true pictures, (B, 3, h, w) at ``SHRINK`` times their size.
        timestep: (B,) in (0, 1).

    Returns:
        (B, 3, rows, columns): of the model's error, of the blend's, and of the one with the other.
    """
    moved, blended = made - filmed, torch.lerp(before, after, timestep.view(-1, 1, 1, 1)) - filmed
    products = (moved.square(), blended.square(), moved * blended)
    means = torch.cat([product.mean(1, keepdim=True) for product in products], 1)
    return F.avg_pool2d(means, _CELL, ceil_mode=True, count_include_pad=False)


def blend_weight(shown: Tensor) -> Tensor:
    """How much of the blend to take by trials' errors, added up: (B, 1, rows, columns)."""
    beside = _AROUND // 2
    around = F.pad(shown, (beside,) * 4, mode="replicate")
    near = _best(F.avg_pool2d(around, _AROUND, 1))
    best = torch.minimum(near, _best(shown.mean((2, 3), keepdim=True)))
    return ((best - _LEAST) / (1 - _LEAST)).clamp(0, 1)


def mix_in_blend(
    made: Tensor, x0: Tensor, x1: Tensor, timestep: Tensor, part: Tensor, *, sharpen: bool
) -> None:
    """Take a share of x0's and x1's blend into pictures, in place.

    Args:
        made, x0, x1: (B, C, H, W).
        timestep: (B,) in (0, 1).
        part: that share, as :func:`share` gives it.
        sharpen: bring what is mixed of both to the texture of x0 and x1. Not where the blend is
            nearly alone: the mean of two noisy pictures is nearer to a third than they are.
    """
    height, width = made.shape[2:]
    cell = round(_CELL / SHRINK)
    whole = enlarged(part, [cell * n for n in part.shape[2:]])[..., :height, :width]
    made.lerp_(torch.lerp(x0, x1, timestep.view(-1, 1, 1, 1)), whole)
    if sharpen:
        unmoved = part.new_zeros(len(part), 4, *part.shape[2:])
        restore(made, x0, x1, unmoved, cell, 4 * whole * (1 - whole))


def _best(means: Tensor) -> Tensor:
    """The share of the blend that would have made the squared error least."""
    moved, blended, both = torch.split(means, 1, 1)
    return (moved - both) / (moved + blended - 2 * both + _LEAST_ENERGY)


def _difference(x0: Tensor, x1: Tensor) -> Tensor:
    """Mean squares of the mean absolute difference of the colours: (B,)."""
    # In strips on a CPU: three passes over a whole picture take as long as a fifth of a network.
    rows = _STRIP if x0.device.type == "cpu" else x0.shape[2]
    strips = zip(torch.split(x0, rows, 2), torch.split(x1, rows, 2), strict=True)
    sums = [(a - b).abs_().mean(1).square_().sum((1, 2)) for a, b in strips]
    return torch.stack(sums).sum(0) / (x0.shape[2] * x0.shape[3])
