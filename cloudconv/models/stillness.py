"""Find places at which a network moves things that stand still.

A network moves text, logos and displays along with the moving picture behind them, and still things
along with a moving thing beside them. There the unmoved pictures replace the moved ones. A place at
which both pictures are merely equal is not such a place: another thing may pass between the two
pictures, and only the network knows that thing. Two properties show that no thing passes. Either
the pixels that the network moves to the place stand still themselves. Or the place is a *mark*: the
place has detail of its own, and most of the picture around moves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.ops import enlarged, sample

_EQUAL, _DIFFERENT = 1 / 255, 3 / 255  # the noise of compressed video is between the two
_MOVING = 6 / 255  # a pixel that differs by more shows motion
_FLAT, _DETAILED = 16 / 255, 48 / 255  # contrast within a square
_CELL = 8  # pixels
_WINDOW = 9  # cells around a mark
_FEW, _MOST = 0.5, 0.65  # part of that window that moves


class Stillness(NamedTuple):
    """Places that are equal in both pictures, each (B, 1, H, W) in [0, 1].

    ``centres`` is 1 at the centres of squares of 5 by 5 equal pixels, ``squares`` is 1 at all
    pixels of these squares, and ``marks`` at those pixels of squares that are marks.
    """

    centres: Tensor
    squares: Tensor
    marks: Tensor

    def moved(self, grids: list[Tensor], top: int) -> Tensor | None:
        """Return 1 at still pixels to which two sampling grids move still pixels.

        Args:
            grids: (B, rows, W, 2), the places in x0 and in x1 from which the pixels are moved.
            top: the first row of the grids.

        Returns:
            (B, 1, rows, W) in [0, 1], or None for 0 at all pixels.
        """
        squares = self.squares.narrow(2, top, grids[0].shape[1])
        if squares.device.type == "cpu" and not squares.any():
            return None
        first, second = (sample(self.centres, grid) for grid in grids)
        return first.mul_(second).mul_(squares)


def stillness(x0: Tensor, x1: Tensor) -> Stillness | None:
    """Return the places that are equal in two pictures; None if no place is equal.

    Args:
        x0: (B, 3, H, W), nominally in [0, 1].
        x1: (B, 3, H, W), nominally in [0, 1].
    """
    difference = (x0 - x1).abs_().amax(1, keepdim=True)
    centres = _ramp(_largest_nearby(difference), _DIFFERENT, _EQUAL)
    # Other devices skip nothing, because the CPU would wait for the answer.
    if centres.device.type == "cpu" and not centres.any():
        return None
    return Stillness(centres, _largest_nearby(centres), _marks(x0, difference, centres))


def _marks(x0: Tensor, difference: Tensor, centres: Tensor) -> Tensor:
    """Return 1 at squares of equal pixels that have detail, if most pixels nearby differ."""
    moving = (difference > _MOVING).float()
    cells = F.avg_pool2d(moving, _CELL, ceil_mode=True, count_include_pad=False)
    near = F.pad(cells, (_WINDOW // 2,) * 4, mode="replicate")
    around = _ramp(F.avg_pool2d(near, _WINDOW, 1), _FEW, _MOST)
    if around.device.type == "cpu" and not around.any():
        return torch.zeros_like(centres)
    luma = x0.mean(1, keepdim=True)
    contrast = _largest_nearby(luma) + _largest_nearby(-luma)
    found = _largest_nearby(_ramp(contrast, _FLAT, _DETAILED).mul_(centres))
    share = enlarged(around, [_CELL * side for side in around.shape[2:]])
    return found.mul_(share[..., : found.shape[2], : found.shape[3]])


def _ramp(values: Tensor, none: float, full: float) -> Tensor:
    """Return 0 for values up to ``none``, 1 from ``full`` on, and linear values between."""
    return values.sub(none).div_(full - none).clamp_(0, 1)


def _largest_nearby(image: Tensor) -> Tensor:
    """Return the largest value within two pixels of each pixel, along both axes."""
    if image.device.type != "cpu":
        return F.max_pool2d(image, 5, stride=1, padding=2)
    # Shifted copies: many times as fast as max_pool2d on a CPU.
    for axis in (-2, -1):
        size = image.shape[axis]
        edges = (0, 0, 2, 2) if axis == -2 else (2, 2, 0, 0)
        wide = F.pad(image, edges, mode="constant", value=-torch.inf)
        two = torch.maximum(wide.narrow(axis, 0, size + 3), wide.narrow(axis, 1, size + 3))
        four = torch.maximum(two.narrow(axis, 0, size + 1), two.narrow(axis, 2, size + 1))
        image = torch.maximum(four.narrow(axis, 0, size), wide.narrow(axis, 4, size))
    return image
