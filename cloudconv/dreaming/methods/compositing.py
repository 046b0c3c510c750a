"""Pictures moved, filled and blended: torch on any device, OpenCV where a CPU is slow at it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.metrics import luma
from cloudconv.models.ops import sampling_grid

_LEVELS = 3  # of the pyramid of the small pictures, above which everything is blended at once
_SMALLER = 4  # how many times smaller than the picture weights are, at least
_LONGEST = 320  # side of the weights
_AREA = 0.03  # of the longer side: over which contrast is measured
_FAINT = (1 / 255) ** 2  # squared contrast that is none
_POWER = 0.58  # more than a half: the finest bands are left as they are
_MOST_GAIN = 2.0  # of contrast; two unlike halves need 1.41
_COUNTS = 0.1  # weight from which a picture says how bright it may become


def moved(picture: Tensor, flow: Tensor) -> Tensor:
    """Sample a picture where the flow points: bicubic, edges continued.

    Args:
        picture: (3, H, W) float32.
        flow: (2, H, W) backward flow (dx, dy) in pixels.

    Returns:
        (3, H, W) float32.
    """
    if picture.device.type != "cpu":
        grid = sampling_grid(flow[None], *picture.shape[-2:])
        return F.grid_sample(
            picture[None], grid, mode="bicubic", padding_mode="border", align_corners=True
        )[0]
    import cv2

    height, width = picture.shape[-2:]
    x = (flow[0] + torch.arange(width, dtype=torch.float32)).numpy()
    y = (flow[1] + torch.arange(height, dtype=torch.float32)[:, None]).numpy()
    joined = cv2.merge([channel.numpy() for channel in picture.contiguous()])
    sampled = cv2.remap(joined, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    made = torch.empty_like(picture, memory_format=torch.contiguous_format)
    cv2.split(sampled, [channel.numpy() for channel in made])
    return made


def weight_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the weights for a picture: a quarter of its own, at most 320."""
    factor = max(_SMALLER, -(-max(height, width) // _LONGEST))
    return -(-height // factor), -(-width // factor)


def around(share: Tensor) -> tuple[slice, slice]:
    """The rows and columns between which all of a share (H, W) above zero lies."""
    box = []
    for axis in (1, 0):
        places = torch.nonzero(share.amax(axis) > 0)[:, 0]
        box.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return box[0], box[1]


def resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """(C, h, w) at another size: areas averaged going down, bilinear going up."""
    size = (size[0], size[1])
    if values.shape[-2:] == size:
        return values
    smaller = size[0] <= values.shape[-2] and size[1] <= values.shape[-1]
    if values.device.type == "cpu" and values.dtype == torch.float32:
        # Several times as fast as torch.
        import cv2

        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        made = torch.empty((values.shape[0], *size))
        for channel, target in zip(values, made, strict=True):
            cv2.resize(channel.contiguous().numpy(), size[::-1], target.numpy(), interpolation=how)
        return made
    if smaller:
        return F.interpolate(values[None], size, mode="area")[0]
    return F.interpolate(values[None], size, mode="bilinear", align_corners=False)[0]


def blended(
    pictures: Sequence[Tensor],
    weights: Sequence[Tensor],
    usual: Tensor | None = None,
    gains: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """One picture out of several, without a seam, and as rich in contrast as they are.

    Source: Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics, ACM
    Transactions on Graphics 1983. The finest two bands share their weights, and blending is
    linear, so they need no pyramid: the full-size mean is corrected by what a pyramid of the
    small pictures has over their own mean. Where pictures that have nothing to do with each other
    are mixed, their differences from the usual average out; those are brought back to the size
    that they have in the pictures (after Heitz and Neyret, High-Performance By-Example Noise using
    a Histogram-Preserving Blending Operator, HPG 2018).

    Args:
        pictures: (3, H, W) float32 each.
        weights: (h, w) float32 each, of ``weight_size``; their sum is 1 everywhere.
        usual: (3, h, w), the mean of such pictures; None to leave contrast alone.
        gains: (3, h, w) float32 each, what a picture is multiplied with; None for nothing.

    Returns:
        (3, H, W) float32.
    """
    size = pictures[0].shape[-2:]
    gains = gains or [None] * len(pictures)
    if len(pictures) == 1:
        return pictures[0] if gains[0] is None else pictures[0] * resized(gains[0], size)
    area = weights[0].shape[-2:]
    lit = [None if gain is None else resized(gain, area) for gain in gains]
    small = torch.stack(
        [
            resized(p, area) if gain is None else resized(p, area) * gain
            for p, gain in zip(pictures, lit, strict=True)
        ]
    )
    weight = torch.stack(list(weights))[:, None]
    wanted = _pyramid_mean(small, weight, _LEVELS)
    if usual is not None:
        wanted = _contrasted(wanted, small, weight, usual)
    result = resized(wanted - (small * weight).sum(0), size)
    for picture, share, gain in zip(pictures, weight, lit, strict=True):
        result.addcmul_(picture, resized(share if gain is None else share * gain, size))
    return result


def _contrasted(mixed: Tensor, pictures: Tensor, weights: Tensor, usual: Tensor) -> Tensor:
    """A mixture, (3, h, w), whose luma is as far from the usual as in what it is made of.

    Colours stay as they are mixed: their differences, made larger, would show as fringes.
    """
    light = luma(torch.cat([pictures, mixed[None], usual[None]]))
    each, here = light[:-2], light[-2]
    apart = here - light[-1]
    energy = torch.stack([apart.square(), ((each - light[-1]).square() * weights[:, 0]).sum(0)])
    have, want = blurred(energy, _AREA * max(mixed.shape)) + _FAINT
    gain = (want / have).pow(_POWER).clamp(1, _MOST_GAIN)
    # No brighter and no darker than one of the pictures: so nothing is clipped flat.
    reach = here + (each - here) * (weights[:, 0] / _COUNTS).clamp(0, 1)
    wanted = (light[-1] + gain * apart).clamp(reach.amin(0), reach.amax(0))
    made: Tensor = mixed + (wanted - here)
    return made


def filled(values: Tensor, known: Tensor) -> Tensor:
    """``values`` with what is not known taken from around it, the nearer the more.

    Source: push-pull, Gortler et al., The Lumigraph, SIGGRAPH 1996.

    Args:
        values: (C, h, w) float32.
        known: (h, w) float32 in [0, 1].

    Returns:
        (C, h, w) float32: ``values`` where ``known`` is 1. Zero if nothing is known.
    """
    levels = [(values * known, known[None])]
    while min(levels[-1][1].shape[-2:]) > 1:
        above, weight = levels[-1]
        size = (-(-above.shape[-2] // 2), -(-above.shape[-1] // 2))
        # The share of known pixels grows quickly on the way up: a few are enough to go by.
        levels.append((resized(above, size), resized(weight, size)))
    top, weight = levels[-1]
    result = top / weight.clamp_min(1e-6)
    for below, weight in reversed(levels[:-1]):
        result = below + (1 - weight) * resized(result, below.shape[-2:])
    return result


def blurred(values: Tensor, sigma: float) -> Tensor:
    """(C, h, w) after a Gaussian of ``sigma`` pixels, edges continued; as it is from 0 down."""
    if sigma <= 0:
        return values
    # A wide Gaussian leaves nothing that a smaller picture could not show.
    factor = max(1, int(sigma / 2))
    height, width = values.shape[-2:]
    factor = min(factor, max(1, min(height, width) // 4))
    small = resized(values, (-(-height // factor), -(-width // factor)))[:, None]
    sigma /= factor
    radius = max(1, round(3 * sigma))
    steps = torch.arange(-radius, radius + 1, device=values.device, dtype=torch.float32)
    kernel = torch.exp(steps.square() / (-2 * sigma**2))
    kernel /= kernel.sum()
    small = F.pad(small, (radius, radius, radius, radius), mode="replicate")
    small = F.conv2d(F.conv2d(small, kernel[None, None, None]), kernel[None, None, :, None])
    return resized(small[:, 0], (height, width))


def _pyramid_mean(pictures: Tensor, weights: Tensor, levels: int) -> Tensor:
    """(N, 3, h, w) with weights (N, 1, h, w) to (3, h, w): each band with weights of its own."""
    height, width = pictures.shape[-2:]
    if not levels or min(height, width) < 2:
        return (pictures * weights).sum(0)
    size = (-(-height // 2), -(-width // 2))
    coarse = F.interpolate(pictures, size, mode="area")
    up = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    above = _pyramid_mean(coarse, F.interpolate(weights, size, mode="area"), levels - 1)
    large = F.interpolate(above[None], (height, width), mode="bilinear", align_corners=False)[0]
    return large + ((pictures - up) * weights).sum(0)
