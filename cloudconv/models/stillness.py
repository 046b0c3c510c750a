"""Find places at which a network moves things that stand still.

A network moves text, logos and displays along with the moving picture behind them, and
still things along with a moving thing beside them. There the unmoved pictures replace the
moved ones. A place at which both pictures are merely equal is not such a place: another
thing may pass between the two pictures, and only the network knows that thing. Two
properties show that no thing passes. Either the pixels that the network moves to the place
stand still themselves. Or the place is a *mark*: the place has detail of its own, and most
of the picture around moves.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.ops import enlarged, sample, strip_rows
from cloudconv.models.pair import Pair

_EQUAL, _DIFFERENT = 1 / 255, 3 / 255  # the noise of compressed video is between the two
_MOVING = 6 / 255  # a pixel that differs by more shows motion
_FLAT, _DETAILED = 16 / 255, 48 / 255  # contrast within a square
_CELL = 8  # pixels
_WINDOW = 9  # cells around a mark
_FEW, _MOST = 0.5, 0.65  # part of that window that moves
# Pixels on each side of the centre of a square; thin strokes have no larger squares.
_SIDE = 1


class Stillness(NamedTuple):
    """Places that are equal in two pictures.

    ``first``: x0, (B, 3, H, W). ``centres``: (B, 1, H, W) in [0, 1], 1 at the centres of
    squares of 3 by 3 equal pixels. ``around``: (B, 1, h, w) in [0, 1], 1 at cells in places
    that mostly move.
    """

    first: Tensor
    centres: Tensor
    around: Tensor

    def unmoved(self, grids: list[Tensor], top: int, least: Tensor) -> Tensor:
        """Return the weight of unmoved pictures, (B, 1, rows, W), for rows of grids.

        ``grids`` lead to x0 and to x1, and begin at row ``top``, a multiple of 8.
        ``least``, (B, 1, 1, 1), is the least weight, and the result if no place is still.
        """
        count = grids[0].shape[1]
        rows, inside = _widened(top, count, _SIDE)
        squares = _largest_nearby(self.centres[:, :, rows])[:, :, inside]
        if _is_zero(squares):
            return least
        first, second = (sample(self.centres, grid) for grid in grids)
        # 1 where the pixels that the grids move stand still.
        weight = (squares * first.mul_(second)).maximum(least)
        marks = self.marks(squares, top)
        return weight if marks is None else weight.maximum(marks)

    def marks(self, squares: Tensor, top: int) -> Tensor | None:
        """Return 1 at squares of equal pixels near detail, if most around differ.

        ``squares``: (B, 1, rows, W), 1 at all pixels of such squares, from row ``top`` on,
        a multiple of 8. The result is None for 0 at all pixels.
        """
        count, width = squares.shape[2:]
        cells, within = _widened(top // _CELL, -(-count // _CELL), 1)
        around = self.around[:, :, cells]
        if _is_zero(around):
            return None
        share = enlarged(around, [_CELL * side for side in around.shape[2:]])
        share = share[:, :, _CELL * within.start :][:, :, :count, :width]
        if _is_zero(share, squares):
            return None
        rows, inside = _widened(top, count, 3 * _SIDE)
        luma = self.first[:, :, rows].mean(1, keepdim=True)
        contrast = _largest_nearby(luma) + _largest_nearby(-luma)
        detailed = _ramp(contrast, _FLAT, _DETAILED).mul_(self.centres[:, :, rows])
        # Strokes of three pixels have detail at their edges only.
        near = _largest_nearby(_largest_nearby(detailed))[:, :, inside]
        return near.minimum(squares) * share


def stillness(pair: Pair) -> Stillness | None:
    """Return the places that are equal in both pictures of pairs.

    The result is None if no place is equal.
    """
    centres, around = pair.once("still", _equal_places)
    return None if _is_zero(centres) else Stillness(pair.x0[:, :COLOURS], centres, around)


def _equal_places(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    strips = [_compared(x0, x1, top) for top in range(0, x0.shape[2], strip_rows(x0))]
    centres, cells = (
        torch.cat(parts, 2) if len(parts) > 1 else parts[0]
        for parts in zip(*strips, strict=True)
    )
    near = F.pad(cells, (_WINDOW // 2,) * 4, mode="replicate")
    return centres, _ramp(F.avg_pool2d(near, _WINDOW, 1), _FEW, _MOST)


def _compared(x0: Tensor, x1: Tensor, top: int) -> tuple[Tensor, Tensor]:
    rows, inside = _widened(top, strip_rows(x0), _SIDE)
    difference = (
        (x0[:, :COLOURS, rows] - x1[:, :COLOURS, rows]).abs_().amax(1, keepdim=True)
    )
    centres = _ramp(_largest_nearby(difference), _DIFFERENT, _EQUAL)[:, :, inside]
    moving = difference[:, :, inside].gt_(_MOVING)
    return centres, F.avg_pool2d(moving, _CELL, ceil_mode=True, count_include_pad=False)


def _widened(top: int, count: int, more: int) -> tuple[slice, slice]:
    """Return rows with ``more`` rows on each side, and the rows' place within these."""
    first = max(0, top - more)
    return slice(first, top + count + more), slice(top - first, top - first + count)


def _is_zero(images: Tensor, weights: Tensor | float = 1.0) -> bool:
    """Return whether all products are 0; False on other devices, which would wait."""
    return images.device.type == "cpu" and not bool((images * weights).amax() > 0)


def _ramp(values: Tensor, none: float, full: float) -> Tensor:
    """Return 0 for values up to ``none``, 1 from ``full`` on, and linear values between."""
    return values.sub(none).div_(full - none).clamp_(0, 1)


def _largest_nearby(image: Tensor) -> Tensor:
    if image.device.type != "cpu":
        return F.max_pool2d(image, 2 * _SIDE + 1, stride=1, padding=_SIDE)
    import cv2  # imported here, because every command loads this module

    # This takes a fraction of the time of max_pool2d on a CPU.
    box = np.ones((2 * _SIDE + 1,) * 2, np.uint8)
    planes = [torch.from_numpy(cv2.dilate(plane.numpy(), box)) for plane in image[:, 0]]
    return torch.stack(planes)[:, None] if len(planes) > 1 else planes[0][None, None]
