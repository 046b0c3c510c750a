"""Refine the motion between two frames with the frames before and after the pair.

From two frames only even motion (constant velocity) can be estimated. Continued to the outer
frames, those before and after the pair, such a motion leads to the same things only where the true
motion is even. A small network reads the differences. The network bends the flows (as in Xu et al.,
Quadratic Video Interpolation, NeurIPS 2019, arXiv 1911.00627, but learned), and changes the weights
of the pair's pictures and of the unmoved pictures (the gate). The network also adds a part of the
moved outer pictures, which corrects noise of the pair alone, and an uneven change of brightness.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.blocks import Block
from cloudconv.models.ops import warp

MOTION = 6
"""Channels of a motion: two flows of two channels each, the logits of mask and gate."""

_WIDTH, _DEPTH, _INPUTS = 48, 4, 25
_REACH = 4  # pixels to each side over which an energy is averaged: 9 by 9 in all
_LEAST_ENERGY = 1e-6
_GAIN = 4.0  # factor of the differences that the network reads, so that they are of order 1


class Refinement(nn.Module):
    """A small block that reads four pictures, moved and unmoved, and corrects a motion."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(_INPUTS, _WIDTH, MOTION + 2, depth=_DEPTH)
        for parameter in self.block.lastconv.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, pictures: list[Tensor], motion: Tensor, timestep: Tensor, reach: Tensor
    ) -> Tensor:
        """Return the correction of a motion: (B, 9, h, w), for its six channels and three colours.

        The colours are those of the mix of the moved pictures. ``pictures``: x0, x1, the frame
        before and the frame after the pair, in [0, 1]. ``motion``: flows to x0 and x1 in pixels,
        logits of mask and gate. ``reach``: see :class:`~cloudconv.models.base.OuterPictures`.
        """
        x0, x1, before, after = pictures
        back, ahead = torch.split(reach.view(-1, 2, 1, 1), 1, 1)
        flow0, flow1 = motion[:, :2], motion[:, 2:4]
        velocity = flow1 - flow0
        w0, w1, far0, far1 = (
            warp(picture, flow)
            for picture, flow in zip(
                pictures,
                (flow0, flow1, flow0 - back * velocity, flow1 + ahead * velocity),
                strict=True,
            )
        )
        bent0, bent1 = _bend(far0, w0, w1, back), _bend(far1, w1, w0, ahead)
        still0, still1 = _bend(before, x0, x1, back), _bend(after, x1, x0, ahead)
        with torch.no_grad():  # only inputs of the network; the slope of a root at 0 is infinite
            bent, still, common, moved, unmoved = _energies(
                bent0.square() + bent1.square(),
                still0.square() + still1.square(),
                bent0 * bent1,
                (w0 - w1).square(),
                (x0 - x1).square(),
            )
        change: Tensor = self.block(
            w0,
            w1,
            far0,
            far1,
            timestep.expand(-1, 1, *w0.shape[2:]),
            motion,
            (x0 - x1).abs().mean(1, keepdim=True),
            bent / (bent + still + _LEAST_ENERGY),
            moved / (moved + unmoved + _LEAST_ENERGY),
            common / (bent + _LEAST_ENERGY),
            moved.sqrt() * _GAIN,
            bent.sqrt() * _GAIN,
        )
        weight0, weight1 = torch.split(change[:, MOTION:], 1, 1)
        corrected = weight0 * (far0 - w0) + weight1 * (far1 - w1)
        return torch.cat((change[:, :MOTION], corrected), 1)


def _bend(outer: Tensor, near: Tensor, far: Tensor, reach: Tensor) -> Tensor:
    """Return ``near`` less the linear mix of ``outer`` and ``far`` at the time of ``near``.

    ``reach``: the time from ``outer`` to ``near``, as a multiple of that from ``near`` to ``far``.
    """
    return near - (outer + reach * far) / (1 + reach)


def _energies(*products: Tensor) -> tuple[Tensor, ...]:
    """Return means over colours and nearby pixels: (B, 1, h, w) each."""
    means = torch.cat([product.mean(1, keepdim=True) for product in products], 1)
    padded = F.pad(means, (_REACH,) * 4, mode="replicate")
    if padded.device.type != "cpu":
        return torch.split(F.avg_pool2d(padded, 2 * _REACH + 1, 1), 1, 1)
    return torch.split(_nine(_nine(padded, 2), 3).div_(81), 1, 1)


def _nine(images: Tensor, axis: int) -> Tensor:
    """Return sums of nine neighbours along an axis, on a CPU faster than by pooling."""
    for step in (1, 3):
        count = images.shape[axis] - 2 * step
        first, second, third = (images.narrow(axis, k * step, count) for k in range(3))
        images = first + second + third
    return images
