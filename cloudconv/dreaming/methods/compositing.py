"""Blend several pictures into one, without a seam."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cloudconv.dreaming.images import blurred, resized
from cloudconv.metrics import luma

_AREA = 0.03  # sigma of the area in which contrast is measured, relative to the longer side
_FAINT = (1 / 255) ** 2  # added to both squared contrasts of a ratio, so that noise is not enlarged
_COARSE = 8  # sides of a picture up to which all of its detail counts as coarse, in pixels
_MOST_GAIN = 2.0  # greatest gain of contrast; two unrelated pictures in equal parts need 1.41


def blended(
    pictures: Sequence[Tensor],
    weights: Sequence[Tensor],
    mean_picture: Tensor | None = None,
    smalls: Sequence[Tensor] | None = None,
    lit: Sequence[Tensor] | None = None,
) -> Tensor:
    """Blend pictures without a seam and without a loss of contrast.

    Fine detail is blended with sharp weights, and coarse detail with blurred weights, which hides
    the seam. The sides of the weights are at most a quarter of the pictures' sides. So the finest
    two bands have the same weights, and only the small pictures need a pyramid. The result is the
    weighted mean of the full-size pictures, plus the enlarged difference between the pyramid's
    result and the weighted mean of the small pictures. Mixing unrelated pictures lowers the
    contrast. If ``mean_picture`` is given, the differences from this picture are
    enlarged to their size in the pictures, and so is detail finer than the small pictures.

    Sources: Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics, ACM
    Transactions on Graphics 1983; Heitz and Neyret, High-Performance By-Example Noise using a
    Histogram-Preserving Blending Operator, HPG 2018.

    Args:
        pictures: (3, H, W) float32 each.
        weights: (h, w) float32 each, of ``weight_size``; their sum is 1 everywhere. Or (2, h, w)
            each, for fine and for coarse detail.
        mean_picture: (3, h, w), the mean picture of the clip; None to leave contrast unchanged.
        smalls: (3, h, w) float32 each, the pictures at the size of the weights; None to compute
            them.
        lit: (3, h, w) float32 each, the small pictures with the wanted brightness and colours;
            None for unchanged ones.

    Returns:
        (3, H, W) float32.
    """
    size = pictures[0].shape[-2:]
    area = weights[0].shape[-2:]
    smalls = smalls or [resized(picture, area) for picture in pictures]
    lit = lit or smalls
    if len(pictures) == 1:
        return pictures[0] + resized(lit[0] - smalls[0], size)
    small, shown = torch.stack(list(smalls)), torch.stack(list(lit))
    bands = torch.stack(list(weights)).view(len(weights), -1, *area)
    weight = bands[:, :1]
    wanted, gain = pyramid_mean(shown, bands), None
    if mean_picture is not None:
        wanted, gain = _contrasted(wanted, shown, weight, mean_picture)
    coarse = (small * weight).sum(0)
    result = resized(wanted - coarse if gain is None else -coarse, size)
    are_seen = (weight > 0).flatten(1).any(1).tolist()
    for picture, own_weight, is_seen in zip(pictures, weight, are_seen, strict=True):
        if is_seen:
            result.addcmul_(picture, resized(own_weight, size))
    return result if gain is None else result.mul_(resized(gain, size)).add_(resized(wanted, size))


def _contrasted(
    mixed: Tensor, pictures: Tensor, weights: Tensor, mean_picture: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ``mixed`` picture, (3, h, w), with the mean luma contrast of ``pictures``.

    Only luma changes: more contrast between colours would show as fringes. The second result is the
    gain, (1, h, w), that finer detail needs.
    """
    light = luma(torch.cat([pictures, mixed[None], mean_picture[None]]))
    each, here = light[:-2], light[-2]
    apart = here - light[-1]
    energy = torch.stack([apart.square(), ((each - light[-1]).square() * weights[:, 0]).sum(0)])
    have, want = blurred(energy, _AREA * max(mixed.shape)) + _FAINT
    gain = (want / have).sqrt().clamp(1, _MOST_GAIN)
    # The result stays between the darkest and the brightest picture, so that no area is clipped.
    # A picture that fades in extends this range gradually.
    reach = here + (each - here) * weights[:, 0].sqrt()
    wanted = (light[-1] + gain * apart).clamp(reach.amin(0), reach.amax(0))
    return mixed + (wanted - here), gain[None]


def pyramid_mean(pictures: Tensor, weights: Tensor) -> Tensor:
    """Blend pictures (N, 3, h, w) with weights (N, 1 or 2, h, w); return (3, h, w).

    Each band is blended with the weights at its own resolution: those of fine detail, those of
    coarse detail, or a mix. The coarsest band has two or three rows or columns, so a difference in
    light fades over a third of the picture or more.
    """
    height, width = pictures.shape[-2:]
    part = min(1.0, _COARSE / max(height, width))
    weight = torch.lerp(weights[:, :1], weights[:, -1:], part)
    if min(height, width) < 4:
        return (pictures * weight).sum(0)
    size = (-(-height // 2), -(-width // 2))
    coarse = resized(pictures.flatten(0, 1), size).view(*pictures.shape[:2], *size)
    up = resized(coarse.flatten(0, 1), (height, width)).reshape(pictures.shape)
    smaller = resized(weights.flatten(0, 1), size).view(*weights.shape[:2], *size)
    above = pyramid_mean(coarse, smaller)
    result: Tensor = resized(above, (height, width)) + ((pictures - up) * weight).sum(0)
    return result
