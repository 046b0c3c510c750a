"""Blend several pictures into one, without a seam."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.dreaming.pictures import blurred, resized
from cloudconv.metrics import luma

_LEVELS = 3  # of the pyramid of the small pictures, above which everything is blended at once
_AREA = 0.03  # of the longer side: over which contrast is measured
_FAINT = (1 / 255) ** 2  # squared contrast that counts as none
_POWER = 0.58  # above one half, because the finest bands get no gain
_MOST_GAIN = 2.0  # of contrast; two unlike halves need 1.41
_COUNTS = 0.1  # weight from which a picture fully bounds the brightness of the result


def blended(
    pictures: Sequence[Tensor],
    weights: Sequence[Tensor],
    usual: Tensor | None = None,
    smalls: Sequence[Tensor] | None = None,
    lit: Sequence[Tensor] | None = None,
) -> Tensor:
    """Blend pictures without a seam and without a loss of contrast.

    Source: Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics, ACM
    Transactions on Graphics 1983. The finest two bands share their weights, and blending is
    linear, so they need no pyramid: the full-size mean is corrected by the difference of a pyramid
    of the small pictures from their own mean. Where unrelated pictures are mixed, their differences
    from the usual average out; these differences are brought back to their size in the pictures
    (after Heitz and Neyret, High-Performance By-Example Noise using
    a Histogram-Preserving Blending Operator, HPG 2018).

    Args:
        pictures: (3, H, W) float32 each.
        weights: (h, w) float32 each, of ``weight_size``; their sum is 1 everywhere.
        usual: (3, h, w), the mean of such pictures; None to leave contrast alone.
        smalls: (3, h, w) float32 each, the pictures at the size of the weights; None to make them.
        lit: (3, h, w) float32 each, the small pictures in their wanted light; None for their own
            light.

    Returns:
        (3, H, W) float32.
    """
    size = pictures[0].shape[-2:]
    area = weights[0].shape[-2:]
    if len(pictures) == 1 and lit is None:
        return pictures[0]
    smalls = smalls or [resized(picture, area) for picture in pictures]
    if len(pictures) == 1 and lit is not None:
        return pictures[0] + resized(lit[0] - smalls[0], size)
    small = torch.stack(list(smalls))
    shown = small if lit is None else torch.stack(list(lit))
    weight = torch.stack(list(weights))[:, None]
    wanted = pyramid_mean(shown, weight)
    if usual is not None:
        wanted = _contrasted(wanted, shown, weight, usual)
    result = resized(wanted - (small * weight).sum(0), size)
    for picture, share in zip(pictures, weight, strict=True):
        if bool((share > 0).any()):
            result.addcmul_(picture, resized(share, size))
    return result


def _contrasted(mixed: Tensor, pictures: Tensor, weights: Tensor, usual: Tensor) -> Tensor:
    """Return a mixture, (3, h, w), with the luma contrast of its parts.

    Colours stay as they are mixed: larger differences of colour would show as fringes.
    """
    light = luma(torch.cat([pictures, mixed[None], usual[None]]))
    each, here = light[:-2], light[-2]
    apart = here - light[-1]
    energy = torch.stack([apart.square(), ((each - light[-1]).square() * weights[:, 0]).sum(0)])
    have, want = blurred(energy, _AREA * max(mixed.shape)) + _FAINT
    gain = (want / have).pow(_POWER).clamp(1, _MOST_GAIN)
    # No brighter and no darker than one of the pictures, so nothing is clipped flat.
    reach = here + (each - here) * (weights[:, 0] / _COUNTS).clamp(0, 1)
    wanted = (light[-1] + gain * apart).clamp(reach.amin(0), reach.amax(0))
    made: Tensor = mixed + (wanted - here)
    return made


def pyramid_mean(pictures: Tensor, weights: Tensor, levels: int = _LEVELS) -> Tensor:
    """Blend (N, 3, h, w) with weights (N, 1, h, w) to (3, h, w), each band with blurred weights."""
    height, width = pictures.shape[-2:]
    if not levels or min(height, width) < 2:
        return (pictures * weights).sum(0)
    size = (-(-height // 2), -(-width // 2))
    coarse = F.interpolate(pictures, size, mode="area")
    up = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    above = pyramid_mean(coarse, F.interpolate(weights, size, mode="area"), levels - 1)
    large = F.interpolate(above[None], (height, width), mode="bilinear", align_corners=False)[0]
    return large + ((pictures - up) * weights).sum(0)
