"""Mix a plain blend of two pictures into the model's picture where the model's motion fails.

If the motion is right, x0 and x1 differ little after both are moved to the timestep. This
difference is the *leftover*, which motion does not explain. A large leftover makes the motion
uncertain. The cause is wrong motion, noise, flicker, ripples, or merely difficult footage. Trials
on filmed frames decide: the model reconstructs x0 from the frame before and x1, and x1 from x0 and
the frame after. The weight of the blend with the least squared error in the trials is used between
x0 and x1. This weight is computed near each pixel and over the whole picture. The method is least
squares, as in Wiener's filter, 1949.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.ops import enlarged, strip_rows
from cloudconv.models.pair import Pair
from cloudconv.models.sharpening import restore_detail

SHRINK = 0.5
"""The scale of trials. At full size they take four times as long, for nearly the same blends."""

# The leftovers, relative to the difference of the pair, with an uncertainty of 0 and of 1.
_UNCERTAIN = (0.2, 0.3)
_CELL = 8  # pixels of a trial's picture
_WINDOW = 9  # cells; a window's weight is at most the weight of the whole picture
_LEAST = 0.2
"""The weight up to which no blend is mixed in. Trials overestimate the weight: the frames of a
trial are twice as far apart, which is harder for the model."""
_LEAST_ENERGY = 1e-9


def uncertainty(result: Tensor, pair: Pair) -> Tensor:
    """Return the uncertainty of each pair's motion, (B,) in [0, 1], computed from the leftover.

    ``result``: (B, C + 1, H, W) from ``Interpolator.between``: pictures, then the leftover.
    """
    # Squares give a few cars with the right motion more weight than the noise near the cars.
    leftover = result[:, -1].square().mean((1, 2))
    (total,) = pair.once("difference", _difference)
    least, most = _UNCERTAIN
    return ((leftover / total.clamp_min(_LEAST_ENERGY) - least) / (most - least)).clamp(0, 1)


def errors(made: Tensor, pair: Pair, filmed: Tensor) -> Tensor:
    """Return the mean squared errors of model and blend in a trial, and their mean product.

    The pictures are (B, 3, h, w), at ``SHRINK`` times their size; ``made`` is the model's picture
    of the ``pair`` in the place of ``filmed``. The result, (B, 3, rows, columns), has one value per
    cell.
    """
    moved, blended = made - filmed, torch.lerp(pair.x0, pair.x1, pair.timestep) - filmed
    products = (moved.square(), blended.square(), moved * blended)
    means = torch.cat([product.mean(1, keepdim=True) for product in products], 1)
    return F.avg_pool2d(means, _CELL, ceil_mode=True, count_include_pad=False)


def blend_weight(shown: Tensor) -> Tensor:
    """Return the weight of the blend, (B, 1, rows, columns), from sums of :func:`errors`."""
    padded = F.pad(shown, (_WINDOW // 2,) * 4, mode="replicate")
    near = _best(F.avg_pool2d(padded, _WINDOW, 1))
    best = torch.minimum(near, _best(shown.mean((2, 3), keepdim=True)))
    return ((best - _LEAST) / (1 - _LEAST)).clamp(0, 1)


def mix_in_blend(made: Tensor, pair: Pair, weight: Tensor, *, sharpen: bool) -> None:
    """Mix the blend of two pictures into the model's pictures, (B, C, H, W), in place.

    ``weight``: from :func:`blend_weight`. ``sharpen``: restore the detail of x0 and x1 where blend
    and model are mixed. A pure blend stays soft: the mean of noisy pictures is closer to the truth.
    """
    height, width = made.shape[2:]
    cell = round(_CELL / SHRINK)
    whole = enlarged(weight, [cell * n for n in weight.shape[2:]])[..., :height, :width]
    made.lerp_(torch.lerp(pair.x0, pair.x1, pair.timestep), whole)
    if sharpen:
        unmoved = weight.new_zeros(len(weight), 4, *weight.shape[2:])
        restore_detail(made, pair, unmoved, cell, 4 * whole * (1 - whole))


def _best(means: Tensor) -> Tensor:
    """Return the weight of the blend with the least squared error."""
    moved, blended, product = torch.split(means, 1, 1)
    return (moved - product) / (moved + blended - 2 * product + _LEAST_ENERGY)


def _difference(x0: Tensor, x1: Tensor) -> tuple[Tensor]:
    """Return the mean over pixels of the square of the mean colour difference: (B,)."""
    # A CPU takes strips, because passes over a whole picture take a fifth of the network's time.
    rows = strip_rows(x0, 32)
    both = (torch.split(x[:, :COLOURS], rows, 2) for x in (x0, x1))
    strips = zip(*both, strict=True)
    sums = [(a - b).abs_().mean(1).square_().sum((1, 2)) for a, b in strips]
    return (torch.stack(sums).sum(0) / (x0.shape[2] * x0.shape[3]),)
