"""Measure the still fraction of each pixel: the fraction that still parts of the scene cover.

A dream pastes this fraction of each pixel from the last real frame.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.dreaming.pictures import blurred, filled, resized

_REACH = 0.02  # reach of twigs beyond the fixed parts, of the longer side
_AROUND = 0.04  # width of the sky that is compared with a pixel, of the longer side
_NOISE_QUANTILE = 0.5  # quantile of the change of still pixels that counts as the noise of the film
_LEAST_CHANGE = 0.5 / 255  # smaller changes count as noise
_SOFT = 5.0  # sigma of the edge of the wide matte, in pixels of the small picture
_RIM = 0.025  # width of the rim, of the longer side
_TO_MOVING, _TO_STILL = 0.3, 0.6  # likeness to still parts at which the wide matte is 0 and 1
_OPEN, _SHUT = 0.45, 0.85  # still fractions of a pixel at which the matte is 0 and 1


def still_matte(pairs: Iterable[tuple[Tensor, Tensor]], fixed: Tensor) -> Tensor:
    """Return the still fraction of each pixel.

    A pixel that a twig covers by half changes half as much as the sky around it. So the change
    of each pixel over some 30 frames is compared with the change of the moving pixels nearby. This
    time is too short for slow changes of light. Pixels far from the fixed parts get 0.

    Args:
        pairs: pictures some 30 frames apart, (3, H, W) each; at least one pair.
        fixed: (h, w) float32, 1 where nothing moves.

    Returns:
        (H, W) float32 in [0, 1], on the device of ``fixed``.
    """
    change = torch.zeros(1, 1, device=fixed.device)
    count = 0
    for before, after in pairs:
        change = change + (after - before).abs().mean(0)
        count += 1
    change = change / count
    height, width = change.shape
    if not fixed.any():
        return torch.zeros_like(change)
    longest = max(height, width)
    reach = max(1, round(_REACH * max(fixed.shape)))
    near = blurred(F.max_pool2d(fixed[None], 2 * reach + 1, 1, reach), reach / 2)
    near = resized(near, (height, width))[0]
    still = resized(fixed[None], (height, width))[0] > 0.5
    noise = change[still].quantile(_NOISE_QUANTILE) if still.any() else change.min()
    return near * _still_fraction(change, near, float(noise), longest)


def widened_matte(picture: Tensor, matte: Tensor, fixed: Tensor) -> Tensor:
    """Return the matte widened by the fixed parts and their rim, for a picture that is moved.

    Leaves at the rim of a tree stir, so neither their change nor their flow separates them from
    the sky. Their colour does: each pixel of the rim joins the still or the moving parts nearby,
    whichever have the more similar colour.

    Args:
        picture: (3, H, W) float32.
        matte: (H, W), of :func:`still_matte`.
        fixed: (h, w), 1 where nothing moves.

    Returns:
        (H, W) float32 in [0, 1].
    """
    size = picture.shape[-2:]
    wide_matte = torch.maximum(matte, resized(blurred(fixed[None], _SOFT), size)[0])
    if not fixed.any():
        return wide_matte
    reach = max(1, round(_RIM * max(fixed.shape)))
    rim_and_core = F.max_pool2d(fixed[None], 2 * reach + 1, 1, reach)
    core = 1 - F.max_pool2d(1 - fixed[None], 2 * reach + 1, 1, reach)
    small = resized(picture, fixed.shape)
    if not core.any() or rim_and_core.all():
        return wide_matte
    to_still, to_moving = (
        (picture - resized(filled(small, known[0]), size)).square().sum(0)
        for known in (core, 1 - rim_and_core)
    )
    fraction = to_moving / (to_still + to_moving + 1e-6)
    rim = ((fraction - _TO_MOVING) / (_TO_STILL - _TO_MOVING)).clamp(0, 1)
    return torch.maximum(wide_matte, rim * resized(rim_and_core, size)[0])


def _still_fraction(change: Tensor, near: Tensor, noise: float, longest: int) -> Tensor:
    size = (-(-change.shape[0] // 4), -(-change.shape[1] // 4))
    small = resized(change[None], size)
    moving = 1 - resized(near[None], size)[0]
    around = filled(small, (moving > 0.99).float())
    around = blurred(around, _AROUND * longest / 4)
    around = resized(around, (change.shape[0], change.shape[1]))[0]
    scale = (around - noise).clamp_min(2 * max(noise, _LEAST_CHANGE))
    fraction = 1 - (change - noise).clamp_min(0) / scale
    return ((fraction - _OPEN) / (_SHUT - _OPEN)).clamp(0, 1)
