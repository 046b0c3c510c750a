"""Bend the ways of things between two frames as their motion around these frames bends.

Two frames show only an even motion on a straight way. The motions of the pairs before and
after, each estimated at its own middle, show where the same thing came from and where it
goes. A cubic through the four positions (Hermite, with Catmull-Rom tangents, so that the
speed does not jump at a source frame) is the way between the two frames.

Source: Xu et al., Quadratic Video Interpolation, NeurIPS 2019 (arXiv 1911.00627), which
takes a parabola from three flows of a network of its own, and trains the rest with the
parabola. Here the ways are cubic, nothing is trained, and the flows are those of the new
frames. A curvature counts less where both frames show another one, where a frame is
missing, and where the motion explains no more than no motion does.

All flows are backward, (dx, dy) in pixels of their own grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cloudconv.models.ops import box_mean, warp

_TURNS = 2  # of a substitution that finds where a pixel of a source frame goes
_SHARE = 1.2  # of the curvature where both frames agree: a cubic bends a little too little
_CLEARLY = 4.0  # a motion must explain a quarter of what differs, to count as a whole
_FLAT = 1e-6  # of squares of colours: a thousandth of the range
_BOX = 9  # pixels along each side over which pictures are compared
_SMOOTH = 3  # … and over which ways are alike
_NONE = 1e-6  # square of a curvature in pixels


def misfit(one: Tensor, other: Tensor) -> Tensor:
    """Return by how much pictures differ nearby, (B, 1, h, w): means of squares."""
    return box_mean((one - other).square().mean(1), _BOX)[:, None] + _FLAT


def velocities(pictures: Sequence[Tensor], flows: Tensor) -> list[Tensor]:
    """Return the motion from x0 to x1 at each pixel of x0, and the reverse at x1.

    ``pictures``: x0 and x1, (B, 3, h, w). ``flows``: (B, 4 or more, h, w), those at the
    middle of both. Each result is (B, 3, h, w): a flow, and its certainty in [0, 1].
    """
    x0, x1 = pictures
    to0, to1 = torch.split(flows[:, :4], 2, 1)
    result = []
    for one, other, own, ahead in ((x0, x1, to0, to1 - to0), (x1, x0, to1, to0 - to1)):
        place = -own
        for _ in range(_TURNS):
            place = -warp(own, place)
        flow = warp(ahead, place)
        explained = 1 - misfit(warp(other, flow), one) / misfit(other, one)
        sure = (_CLEARLY * explained).clamp(0, 1)
        result.append(torch.cat((flow, sure), 1))
    return result


def bent(
    motion: Tensor, around: Sequence[Tensor], timestep: Tensor, reach: Tensor
) -> Tensor:
    """Return a motion on curved ways, (B, C, h, w): flows to x0 and x1, and other channels.

    ``motion``: the one on straight ways. ``around``: see :func:`velocities`, from x0 to the
    frame before, and from x1 to the frame after; 0 where there is no such frame.
    ``timestep``: (B, 1, 1, 1). ``reach``: see
    :class:`~cloudconv.models.base.OuterPictures`.
    """
    to0, to1 = torch.split(motion[:, :4], 2, 1)
    own = to1 - to0
    total = torch.zeros_like(own)
    sizes = torch.zeros_like(own[:, :1])
    delta = torch.zeros_like(own)
    sides = (
        (to0, 1, reach[:, :1], 1 - timestep),
        (to1, -1, reach[:, 1:], timestep),
    )
    for velocity, (place, sign, distance, weight) in zip(around, sides, strict=True):
        apart = distance.view(-1, 1, 1, 1)
        flow, sure = torch.split(warp(velocity, place), [2, 1], 1)
        # Half the acceleration, as a part of the time between x0 and x1.
        curvature = sure * (sign * own + flow / apart.clamp_min(_NONE)) / (1 + apart)
        total += curvature
        sizes += curvature.square().sum(1, keepdim=True)
        delta += weight * curvature
    # 1 where both frames show the same curvature, 1/2 where only one of them shows any.
    alike = total.square().sum(1, keepdim=True) / (2 * sizes + _NONE)
    delta *= -_SHARE * timestep * (1 - timestep) * alike.square()
    for _ in range(2):
        delta = box_mean(delta.flatten(0, 1), _SMOOTH).view_as(delta)
    moved = warp(motion, -delta)
    moved[:, :4] -= torch.cat((delta, delta), 1)
    return moved
