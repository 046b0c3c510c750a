"""Resize, sample, blur and fill pictures.

The functions run in torch on any device, and in OpenCV where torch is slow on a CPU.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.models.ops import sampling_grid

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

LONGEST_SIDE = 480
"""Longest side of the pictures that motion is measured on, in pixels."""

COARSE_SIDE = 160
"""Longest side of the pictures of trials, and of those in which faults are searched, in pixels."""

MIDDLE_SIDE = 320
"""Longest side of weights, and of pictures that are compared in time, in pixels."""

_SHORTEST = 8  # least side of a reduced picture
_LOOKS = 40  # frames, spread over a clip, from which a property of the whole clip is measured

THUMB_SIDE = 72
"""Longest side of the pictures that are compared with many others, in pixels."""

TINY = 1e-6
"""Least divisor of a value that may be 0."""

_SMALLER = 4  # least ratio of a picture's sides to those of its weights


def analysis_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width for analysis: no side above 480, and none too short for OpenCV."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(_SHORTEST, round(height * factor)), max(_SHORTEST, round(width * factor))


def weight_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the map of weights with which a picture is blended.

    The sides are at most a quarter of the picture's, rounded up, and at most 320 pixels.
    """
    factor = max(_SMALLER, -(-max(height, width) // MIDDLE_SIDE))
    return -(-height // factor), -(-width // factor)


def small_copy(picture: Tensor, size: tuple[int, int]) -> Bytes:
    """Return a picture averaged over areas: (3, H, W) nominally in [0, 1] to (h, w, 3) uint8.

    Values that are no numbers become black.
    """
    picture = resized(picture.detach().float(), size)
    levels = picture.nan_to_num(0, 1, 0).clamp_(0, 1).mul_(255).round_().byte()
    made: Bytes = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return made


def as_tensor(levels: Bytes) -> Tensor:
    """Return a picture as values in [0, 1]: (h, w, 3) uint8 to (3, h, w) float32."""
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 255


def grey(picture: Bytes) -> Bytes:
    """Return the luma of a picture: (h, w, 3) uint8 to (h, w) uint8."""
    luma: Bytes = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return luma


def gradients(luma: Floats) -> tuple[Floats, Floats]:
    """Return the gradients along x and y, in levels a pixel."""
    x, y = (cv2.Sobel(luma, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    return x, y


def reduced(values: NDArray[Any], longest: int) -> NDArray[Any]:
    """Average values (h, w) or (h, w, channels) over areas, so that no side exceeds ``longest``.

    No side becomes shorter than ``_SHORTEST``.
    """
    height, width = values.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = [max(_SHORTEST, round(side * factor)) for side in (width, height)]
    small: NDArray[Any] = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return small


def parts(mask: Mask, longest: int) -> Mask:
    """Return a mask (h, w) at the size of :func:`reduced`; everything if the mask is empty."""
    inside: Mask = reduced(mask.astype(np.float32), longest).round() > 0
    return inside if inside.any() else ~inside


def resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Resize values (C, h, w): smaller by averages of areas, larger by bilinear filtering."""
    size = (size[0], size[1])
    if values.shape[-2:] == size:
        return values
    smaller = size[0] <= values.shape[-2] and size[1] <= values.shape[-1]
    if values.device.type == "cpu" and values.dtype == torch.float32:
        # OpenCV is several times as fast as torch, and exact for fractional factors.
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        made = torch.empty((values.shape[0], *size))
        for channel, target in zip(values, made, strict=True):
            cv2.resize(channel.contiguous().numpy(), size[::-1], target.numpy(), interpolation=how)
        return made
    if smaller:
        rows, columns = (
            _area_weights(before, after, values.device)
            for before, after in zip(values.shape[-2:], size, strict=True)
        )
        return rows @ values.float() @ columns.t()
    return F.interpolate(values[None], size, mode="bilinear", align_corners=False)[0]


@lru_cache
def _area_weights(before: int, after: int, device: torch.device) -> Tensor:
    """Return (after, before) float32: how much of each pixel is in each area; rows sum to 1.

    OpenCV counts pixels on the border of two areas for both in part. PyTorch's own mode ``area``
    counts them as a whole for both, which differs by up to a tenth of the range.
    """
    each = np.eye(before, dtype=np.float32)
    weights = cv2.resize(each, (before, after), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(weights).to(device)


def resized_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a field of displacements and its values: (B, 2, h, w) to (B, 2, H, W), in pixels."""
    height, width = size
    large = torch.stack([resized(field.float(), (height, width)) for field in flow])
    large[:, 0] *= width / flow.shape[-1]
    large[:, 1] *= height / flow.shape[-2]
    return large


def moved(picture: Tensor, flow: Tensor, *, mirrors: bool = False) -> Tensor:
    """Sample a picture where the flow points, with bicubic filtering.

    Args:
        picture: (3, H, W) float32.
        flow: (2, h, w) backward flow (dx, dy) in pixels, of any size.
        mirrors: continue the picture by its mirror image; its edges are repeated otherwise.

    Returns:
        (3, H, W) float32.
    """
    flow = resized_flow(flow[None], picture.shape[-2:])[0]
    if picture.device.type != "cpu":
        grid = sampling_grid(flow[None], *picture.shape[-2:])
        padding = "reflection" if mirrors else "border"
        return F.grid_sample(
            picture[None], grid, mode="bicubic", padding_mode=padding, align_corners=True
        )[0]
    height, width = picture.shape[-2:]
    x = (flow[0] + torch.arange(width, dtype=torch.float32)).numpy()
    y = (flow[1] + torch.arange(height, dtype=torch.float32)[:, None]).numpy()
    joined = cv2.merge([channel.numpy() for channel in picture.contiguous()])
    border = cv2.BORDER_REFLECT_101 if mirrors else cv2.BORDER_REPLICATE
    sampled = cv2.remap(joined, x, y, cv2.INTER_CUBIC, borderMode=border)
    made = torch.empty_like(picture, memory_format=torch.contiguous_format)
    cv2.split(sampled, [channel.numpy() for channel in made])
    return made


def filled(values: Tensor, known: Tensor) -> Tensor:
    """Fill unknown values from the known values around, with more weight for nearer ones.

    Source: push-pull, Gortler et al., The Lumigraph, SIGGRAPH 1996.

    Args:
        values: (C, h, w) float32.
        known: (h, w) float32 in [0, 1].

    Returns:
        (C, h, w) float32: ``values`` where ``known`` is 1. Zero if nothing is known; values fade to
        zero further from all known values than about the shorter side.
    """
    levels = [(values * known, known[None])]
    while min(levels[-1][1].shape[-2:]) > 1:
        above, weight = levels[-1]
        size = (-(-above.shape[-2] // 2), -(-above.shape[-1] // 2))
        # A few known pixels are enough, because the last level is divided by its weight.
        levels.append((resized(above, size), resized(weight, size)))
    top, weight = levels[-1]
    result = top / weight.clamp_min(TINY)
    for below, weight in reversed(levels[:-1]):
        result = below + (1 - weight) * resized(result, below.shape[-2:])
    return result


def blurred(values: Tensor, sigma: float) -> Tensor:
    """Blur values (C, h, w) by a Gaussian of ``sigma`` pixels, with continued edges."""
    # A wide Gaussian leaves no fine detail, so a smaller picture is blurred.
    factor = max(1, int(sigma / 2))
    height, width = values.shape[-2:]
    small = resized(values, (-(-height // factor), -(-width // factor)))[:, None]
    sigma /= factor
    radius = max(1, round(3 * sigma))
    steps = torch.arange(-radius, radius + 1, device=values.device, dtype=torch.float32)
    kernel = torch.exp(steps.square() / (-2 * sigma**2))
    kernel /= kernel.sum()
    small = F.pad(small, (radius, radius, radius, radius), mode="replicate")
    small = F.conv2d(F.conv2d(small, kernel[None, None, None]), kernel[None, None, :, None])
    return resized(small[:, 0], (height, width))


def centres(count: int) -> Tensor:
    """Return the places of ``count`` pixels side by side, from 0 to 1."""
    return (torch.arange(count) + 0.5) / count


def spread(count: int, first: int = 0) -> list[int]:
    """Return up to 40 frames from ``first`` to ``count - 1``, evenly spread, to measure a clip."""
    numbers = np.linspace(first, count - 1, min(count - first, _LOOKS)).round().astype(int)
    return [int(k) for k in np.unique(numbers)]


def bounds(weights: Tensor) -> tuple[slice, slice]:
    """Return the rows and the columns that contain all values above zero of ``weights``, (H, W)."""
    left, top, width, height = cv2.boundingRect((weights > 0).byte().cpu().numpy())
    return slice(top, top + height), slice(left, left + width)
