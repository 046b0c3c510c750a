"""Define the sum of the estimates of all blocks, which the networks of RIFE share.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294).

The published networks move whole pictures, and then reduce the result. Their reduction reads only
the four pixels in the middle of each cell. So :class:`Estimates` moves only these pixels. The
results are equal up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.ops import resize, sample, warp

FLOWS, MASK = 4, 1
"""Channels of an estimate. Features that a block hands to the next one may follow."""

_CELL = 4  # pixels; in smaller cells all pixels are in the middle


class Estimates:
    """The sum of the estimates of the blocks so far, at the size of the pictures.

    Without ``adds_mask``, the last mask counts, not the sum.
    """

    def __init__(self, *, adds_mask: bool) -> None:
        self._summed = FLOWS + MASK * adds_mask
        self._total = self._change = self._others = torch.zeros(())
        self._factor = 1.0

    def add(self, estimate: Tensor, factor: float) -> None:
        """Add an estimate, (B, 5 or more, h, w), which is smaller than the picture by ``factor``.

        The flows are in pixels of the smaller picture.
        """
        flows, rest = estimate[:, :FLOWS] * factor, estimate[:, FLOWS : self._summed]
        self._change = resize(torch.cat((flows, rest), 1), factor)
        self._total = self._change + self._total
        self._others, self._factor = estimate[:, self._summed :], factor

    def is_far(self, least: float) -> Tensor:
        """Return the items, (B, 1, 1, 1), of whose last estimate both flows exceed ``least``."""
        most = self._change[:, :FLOWS].abs().amax((2, 3), keepdim=True)
        to_x0, to_x1 = (flow.amax(1, keepdim=True) for flow in most.chunk(2, 1))
        return (to_x0 > least) & (to_x1 > least)

    def reduced(self, factor: float) -> tuple[Tensor, Tensor]:
        """Return the flows, (B, 4, h, w), and mask and handed features, (B, 1 or more, h, w).

        Both are reduced to 1 / ``factor`` of the picture's size, and so is the unit of the flows.
        """
        total = resize(self._total, 1 / factor)
        flows, mask = total[:, :FLOWS] / factor, total[:, FLOWS:]
        if not self._others.shape[1]:
            return flows, mask
        # A mean of the middle of a cell is the value at its centre: what comes from a coarser scale
        # is linear there.
        first = max(factor, 1)
        others = resize(resize(self._others, self._factor / first), first / factor)
        return flows, torch.cat((mask, others), 1)

    def moved(self, pictures: list[Tensor], factor: float) -> list[Tensor]:
        """Return x0 and x1, moved by the flows and reduced to 1 / ``factor`` of their size."""
        flows = self._total[:, :FLOWS]
        if factor < _CELL:
            pairs = zip(pictures, flows.chunk(2, 1), strict=True)
            return [resize(warp(x, flow), 1 / factor) for x, flow in pairs]
        # Only the four pixels in the middle of each cell are read.
        cell, sides, device = round(factor), flows.shape[2:], flows.device
        starts = (torch.arange(cell // 2 - 1, side, cell, device=device) for side in sides)
        rows, columns = (torch.stack((each, each + 1), 1).flatten() for each in starts)
        flows = flows.index_select(2, rows).index_select(3, columns)
        y, x = (
            torch.linspace(-1, 1, side, device=device)[lines]
            for side, lines in zip(sides, (rows, columns), strict=True)
        )
        steps = [2 / max(side - 1, 1) for side in sides]
        result = []
        for picture, flow in zip(pictures, flows.chunk(2, 1), strict=True):
            grid = torch.stack((x + flow[:, 0] * steps[1], y[:, None] + flow[:, 1] * steps[0]), -1)
            result.append(F.avg_pool2d(sample(picture, grid), 2))
        return result
