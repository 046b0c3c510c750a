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

from cloudconv.models.ops import enlarged

_EQUAL, _DIFFERENT = 1 / 255, 3 / 255  # the noise of compressed video is between the two
_MOVING = 6 / 255  # a pixel that differs by more shows motion
_FLAT, _DETAILED = 16 / 255, 48 / 255  # contrast within a square
_CELL = 8  # pixels
_WINDOW = 9  # cells around a mark
_FEW, _MOST = 0.5, 0.65  # part of that window that moves


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
    cells = F.avg_pool2d(moving, _CELL, ceil_mode=True, count_include_pad=False)
    near = F.pad(cells, (_WINDOW // 2,) * 4, mode="replicate")
    around = _ramp(F.avg_pool2d(near, _WINDOW, 1), _FEW, _MOST)
    on_cpu = x0.device.type == "cpu"  # elsewhere the CPU would wait for the answer
    if on_cpu and not around.any():
        return None
    equal = _ramp(_largest_nearby(difference), _DIFFERENT, _EQUAL)
    if on_cpu and not equal.any():
        return None
    luma = x0.mean(1, keepdim=True)
    contrast = _largest_nearby(luma) + _largest_nearby(-luma)
    found = _largest_nearby(equal.mul_(_ramp(contrast, _FLAT, _DETAILED)))
    share = enlarged(around, [_CELL * side for side in around.shape[2:]])
    return found.mul_(share[..., :height, :width])


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
