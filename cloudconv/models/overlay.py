"""Find text, logos and displays that stand still over a moving picture.

A network moves such marks along with the picture behind them. Where a mark is found, the unmoved
pictures replace the moved ones. A place at which both pictures are merely equal is no mark: another
thing may pass this place between the two pictures, and only the network knows that thing. A mark
therefore has detail of its own, and most of the picture around the mark moves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.ops import around, in_cells, ramp, spread

_EQUAL, _DIFFERENT = 1 / 255, 3 / 255  # the noise of compressed video is between the two
_MOVING = 6 / 255  # a pixel that differs by more shows motion
_FLAT, _DETAILED = 16 / 255, 48 / 255  # contrast within a square
_FEW, _MOST = 0.5, 0.65  # part of the neighbourhood that moves


def marks(x0: Tensor, x1: Tensor) -> Tensor | None:
    """Return the weight of the unmoved pictures at each pixel, (B, 1, H, W) in [0, 1].

    The weight is 1 in squares of 5 by 5 pixels that have detail and are equal in both pictures, if
    most of the pixels nearby differ. None stands for a weight of 0 at all pixels.

    Args:
        x0: (B, 3, H, W), nominally in [0, 1].
        x1: (B, 3, H, W), nominally in [0, 1].
    """
    height, width = x0.shape[2:]
    difference = (x0 - x1).abs_().amax(1, keepdim=True)
    moving = (difference > _MOVING).float()
    share = ramp(around(in_cells(moving)), _FEW, _MOST)
    on_cpu = x0.device.type == "cpu"  # elsewhere the CPU would wait for the answer
    if on_cpu and not share.any():
        return None
    equal = ramp(_largest_nearby(difference), _DIFFERENT, _EQUAL)
    if on_cpu and not equal.any():
        return None
    luma = x0.mean(1, keepdim=True)
    contrast = _largest_nearby(luma) + _largest_nearby(-luma)
    found = _largest_nearby(equal.mul_(ramp(contrast, _FLAT, _DETAILED)))
    return found.mul_(spread(share, height, width))


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
