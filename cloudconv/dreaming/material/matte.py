"""What stands still in a scene, pixel by pixel: the part of a dream that is pasted."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.dreaming.pictures import blurred, filled, resized

_REACH = 0.02  # of the longer side: how far a twig reaches out of what flow calls still
_AROUND = 0.04  # of the longer side: how wide the sky around a pixel is, that it is held against
_NOISE_SHARE = 0.5  # of the still pixels: their median change is the noise of the film
_LEAST_CHANGE = 0.5 / 255  # less is not told from noise
_SOFT = 5.0  # pixels of the small picture: edge of what stays when a frame is moved
_RIM = 0.025  # of the longer side: how wide the rim is
_TO_MOVING, _TO_STILL = 0.3, 0.6  # likeness to what stands still: from none held to all
_OPEN, _SHUT = 0.45, 0.85  # shares of the pixel that stand still: from none pasted to all


def still_matte(pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]], fixed: Tensor) -> Tensor:
    """How much of each pixel belongs to something that stands still.

    A pixel that a twig covers by half changes half as much as the sky around it. So the change
    of each pixel over a few frames is held against that of the moving pixels nearby; slow changes
    of light are too slow to count. Only near to what never changes.

    Args:
        pairs: pictures a few frames apart, (3, H, W) each, and where both are known, (h, w), None
            for everywhere.
        fixed: (h, w) float32, 1 where nothing moves.

    Returns:
        (H, W) float32 in [0, 1], on the device of ``fixed``.
    """
    change = weight = torch.zeros(1, 1, device=fixed.device)
    for before, after, known in pairs:
        share = torch.ones_like(fixed) if known is None else known
        share = resized(share[None], before.shape[-2:])[0]
        change = change + (after - before).abs().mean(0) * share
        weight = weight + share
    change = change / weight.clamp_min(1e-6)
    height, width = change.shape
    if not fixed.any():
        return torch.zeros_like(change)
    longest = max(height, width)
    reach = max(1, round(_REACH * max(fixed.shape)))
    near = blurred(F.max_pool2d(fixed[None], 2 * reach + 1, 1, reach), reach / 2)
    near = resized(near, (height, width))[0]
    still = resized(fixed[None], (height, width))[0] > 0.5
    noise = change[still].quantile(_NOISE_SHARE) if still.any() else change.min()
    return near * _share(change, near, float(noise), longest)


def held_matte(picture: Tensor, matte: Tensor, fixed: Tensor) -> Tensor:
    """What must stay when this one picture is moved: the matte, all that is fixed, and its rim.

    Leaves at the rim of a tree stir, so that neither their change nor their flow tells them from
    the sky. Their colour does: each pixel there goes with what it is more alike, what stands still
    nearby or what moves nearby.

    Args:
        picture: (3, H, W) float32.
        matte: (H, W), of :func:`still_matte`.
        fixed: (h, w), 1 where nothing moves.

    Returns:
        (H, W) float32 in [0, 1].
    """
    size = picture.shape[-2:]
    held = torch.maximum(matte, resized(blurred(fixed[None], _SOFT), size)[0])
    if not fixed.any():
        return held
    reach = max(1, round(_RIM * max(fixed.shape)))
    wide = F.max_pool2d(fixed[None], 2 * reach + 1, 1, reach)
    core = 1 - F.max_pool2d(1 - fixed[None], 2 * reach + 1, 1, reach)
    small = resized(picture, fixed.shape)
    if not core.any() or wide.all():
        return held
    to_still, to_moving = (
        (picture - resized(filled(small, known[0]), size)).square().sum(0)
        for known in (core, 1 - wide)
    )
    share = to_moving / (to_still + to_moving + 1e-6)
    rim = ((share - _TO_MOVING) / (_TO_STILL - _TO_MOVING)).clamp(0, 1)
    return torch.maximum(held, rim * resized(wide, size)[0])


def _share(change: Tensor, near: Tensor, noise: float, longest: int) -> Tensor:
    size = (-(-change.shape[0] // 4), -(-change.shape[1] // 4))
    small = resized(change[None], size)
    moving = 1 - resized(near[None], size)[0]
    around = filled(small, (moving > 0.99).float())
    around = blurred(around, _AROUND * longest / 4)
    around = resized(around, (change.shape[0], change.shape[1]))[0]
    scale = (around - noise).clamp_min(2 * max(noise, _LEAST_CHANGE))
    share = 1 - (change - noise).clamp_min(0) / scale
    return ((share - _OPEN) / (_SHUT - _OPEN)).clamp(0, 1)
