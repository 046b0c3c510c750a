"""Define the sum of the estimates of all blocks, which the networks of RIFE share.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294).

The published networks enlarge each estimate to the picture's size, move whole pictures, and then
reduce the result. Their reduction reads only the four pixels in the middle of each cell. So
:class:`Estimates` moves only these pixels, and reads each estimate at its own size. The results are
equal up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.ops import resize, sample, warp

FLOWS, MASK = 4, 1
"""Channels of an estimate. Features that a block hands to the next one may follow."""

_CELL = 4  # pixels; in smaller cells all pixels are in the middle
_HALF = 0.5


class Estimates:
    """The sum of the estimates of the blocks so far, which can be read at any scale.

    ``size`` is that of the pictures. Without ``adds_mask``, the last mask counts, not the sum.
    """

    def __init__(self, size: torch.Size, *, adds_mask: bool) -> None:
        self._size = size
        self._summed = FLOWS + MASK * adds_mask
        self._made: list[tuple[Tensor, float]] = []  # with the factor of its scale
        self._whole: Tensor | None = None

    def __len__(self) -> int:
        return len(self._made)

    def add(self, estimate: Tensor, factor: float) -> None:
        """Add an estimate, (B, 5 or more, h, w), which is smaller than the picture by ``factor``.

        The flows are in pixels of the smaller picture.
        """
        flows, others = estimate[:, :FLOWS] * factor, estimate[:, FLOWS:]
        self._made.append((torch.cat((flows, others), 1), factor))
        if self._whole is not None:
            self._whole = self._whole + _resized(self._made[-1][0][:, : self._summed], factor)

    def is_far(self, least: float) -> Tensor:
        """Return the items, (B, 1, 1, 1), of whose last estimate both flows exceed ``least``."""
        made, factor = self._made[-1]
        most = _resized(made[:, :FLOWS], factor).abs_().amax((2, 3), keepdim=True)
        to_x0, to_x1 = (flow.amax(1, keepdim=True) for flow in most.chunk(2, 1))
        return (to_x0 > least) & (to_x1 > least)

    def whole(self) -> Tensor:
        """Return flows and mask at full size, (B, 5, H, W)."""
        flows, mask = self.reduced(1)
        return torch.cat((flows, mask[:, :MASK]), 1)

    def reduced(self, factor: float) -> tuple[Tensor, Tensor]:
        """Return the flows, (B, 4, h, w), and mask and handed features, (B, 1 or more, h, w).

        Both are reduced to 1 / ``factor`` of the picture's size, and so is the unit of the flows.
        """
        last, size = self._made[-1]
        last = last[:, self._summed :]
        if factor > 1:
            # A mean of the middle of a cell is the value at its centre: estimates of coarser
            # scales are linear there.
            total = torch.zeros(())
            for made, coarse in self._made:
                total = _resized(made[:, : self._summed], coarse / factor) + total
            others = _resized(last, size / factor)
        else:
            if self._whole is None:
                self._whole = torch.zeros(())
                for made, coarse in self._made:
                    self._whole = _resized(made[:, : self._summed], coarse) + self._whole
            total = _resized(self._whole, 1 / factor)
            others = _resized(_resized(last, size), 1 / factor)
        return total[:, :FLOWS] / factor, torch.cat((total[:, FLOWS:], others), 1)

    def moved(self, pictures: list[Tensor], factor: float) -> list[Tensor]:
        """Return x0 and x1, moved by the flows and reduced to 1 / ``factor`` of their size."""
        if factor < _CELL:
            flows, _ = self.reduced(1)
            pairs = zip(pictures, flows.chunk(2, 1), strict=True)
            return [resize(warp(x, flow), 1 / factor) for x, flow in pairs]
        # Only the four pixels in the middle of each cell are read.
        cell = round(factor)
        device = pictures[0].device
        starts = (torch.arange(cell // 2 - 1, side, cell, device=device) for side in self._size)
        rows, columns = (torch.stack((each, each + 1), 1).flatten() for each in starts)
        parts = [_at(made[:, :FLOWS], coarse, rows, columns) for made, coarse in self._made]
        flows = torch.stack(parts).sum(0)
        y, x = (
            torch.linspace(-1, 1, side, device=device)[lines]
            for side, lines in zip(self._size, (rows, columns), strict=True)
        )
        steps = [2 / max(side - 1, 1) for side in self._size]
        result = []
        for picture, flow in zip(pictures, flows.chunk(2, 1), strict=True):
            grid = torch.stack((x + flow[:, 0] * steps[1], y[:, None] + flow[:, 1] * steps[0]), -1)
            result.append(F.avg_pool2d(sample(picture, grid), 2))
        return result


def _resized(images: Tensor, factor: float) -> Tensor:
    """Return (B, C, h, w) at ``factor`` times the size."""
    if factor == 1 or not images.shape[1]:
        size = [round(side * factor) for side in images.shape[2:]]
        return images if factor == 1 else images.new_empty((len(images), 0, *size))
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


def _at(images: Tensor, factor: float, rows: Tensor, columns: Tensor) -> Tensor:
    """Return some pixels of :func:`_resized`: (B, C, len(rows), len(columns))."""
    for axis, lines in ((2, rows), (3, columns)):
        position = ((lines + _HALF) / factor - _HALF).clamp_min_(0)
        first = position.floor().long()
        second = (first + 1).clamp_max_(images.shape[axis] - 1)
        weight = position - first
        images = torch.lerp(
            images.index_select(axis, first),
            images.index_select(axis, second),
            weight[:, None] if axis == 2 else weight,
        )
    return images
