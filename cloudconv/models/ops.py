"""Tensor operations that networks share: padding, backward warping."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

STILL_REACH = 4

_EQUAL, _DIFFERENT = 1 / 255, 3 / 255


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """``images`` with replicated right and lower edges, so that both sides divide.

    Args:
        images: (B, C, H, W), H and W at least 1.
        multiple: at least 1.

    Returns:
        (B, C, H', W') with H' and W' the next multiples; ``images`` itself if nothing is missing.
    """
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return images
    return F.pad(images, (0, right, 0, below), mode="replicate")


def sampling_grid(
    flow: Tensor, height: int, width: int, *, gain: float = 1.0, top: int = 0
) -> Tensor:
    """The grid that ``torch.nn.functional.grid_sample`` wants, for a flow on a picture.

    Args:
        flow: (B, 2, rows, width) backward flow (dx, dy) in pixels.
        height, width: size of the picture to sample, in pixels.
        gain: what the flow is multiplied by.
        top: where in the picture the flow's first row lies.

    Returns:
        (B, rows, width, 2) float32, corners aligned. float32 always: float16 cannot tell
        neighbouring pixels apart above 2,000 of them.
    """
    flow = flow.float()
    x = torch.linspace(-1, 1, width, device=flow.device)
    y = torch.linspace(-1, 1, height, device=flow.device)[top : top + flow.shape[2], None]
    # One plane for each axis, because whole rows are faster to write and to read.
    grid = torch.empty_like(flow, memory_format=torch.contiguous_format)
    # With corners aligned, a pixel is 2 / (side - 1) of the grid's range.
    grid[:, 0] = torch.add(x, flow[:, 0], alpha=2 * gain / max(width - 1, 1))
    grid[:, 1] = torch.add(y, flow[:, 1], alpha=2 * gain / max(height - 1, 1))
    return grid.permute(0, 2, 3, 1)


def resize(images: Tensor, factor: float) -> Tensor:
    """(B, C, H, W) at ``factor`` times the size, bilinear, corners not aligned, no antialiasing.

    Shrinking by an even number takes the mean of the four pixels in the middle of each cell.
    """
    if factor == 1:
        return images
    cell = round(1 / factor)
    if factor > 0.5 or cell % 2 or images.shape[-2] % cell or images.shape[-1] % cell:
        return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    left, right = (slice(cell // 2 - 1 + k, None, cell) for k in (0, 1))
    rows = images[..., left, :] + images[..., right, :]
    return (rows[..., left] + rows[..., right]) / 4


def strips(images: Tensor, factor: float, rows: int) -> Iterator[tuple[int, Tensor]]:
    """What ``resize`` makes of ``images``, some rows at a time, so that they stay in the caches.

    Args:
        images: (B, C, H, W) floating point.
        factor: of the size.
        rows: of a strip, of the result; the last may have fewer. A multiple of an even factor.

    Yields:
        The first row of each strip, and the strip, (B, C, rows, W · factor), which may be a view.
    """
    step, phases = rows, round(factor)
    if factor == phases and phases % 2 == 0:
        # Columns first, while there are few rows; then each row is a mean of two.
        step //= phases
        images = F.interpolate(
            images, scale_factor=(1, factor), mode="bilinear", align_corners=False
        )
        height = images.shape[2]
        images = F.pad(images, (0, 0, 1, 1), mode="replicate")
    else:
        images, phases = resize(images, factor), 1
        height = images.shape[2]
    for top in range(0, height, step):
        count = min(step, height - top)
        if phases == 1:
            yield top, images.narrow(2, top, count)
            continue
        strip = images.new_empty((*images.shape[:2], count, phases, images.shape[3]))
        for phase in range(phases):
            later = phase * 2 >= phases
            upper = images.narrow(2, top + later, count)
            lower = images.narrow(2, top + later + 1, count)
            share = (phase + 0.5) / phases + (-0.5 if later else 0.5)
            lerp_into(strip[:, :, :, phase], upper, lower, share)
        yield top * phases, strip.flatten(2, 3)


def lerp_into(target: Tensor, start: Tensor, end: Tensor, weight: Tensor | float) -> None:
    """``torch.lerp``, written to ``target``; may be differentiated, unlike its ``out``."""
    if torch.is_grad_enabled():
        target.copy_(torch.lerp(start, end, weight))
    else:
        torch.lerp(start, end, weight, out=target)


def stillness(x0: Tensor, x1: Tensor) -> Tensor:
    """Where two pictures show the same in the same place, and not by chance.

    A pixel counts where it lies in a square of 5 by 5 pixels of which none differs by more than a
    compressed video's noise (a morphological opening of the map of equal pixels): text and logos
    do, single pixels of a moving texture don't.

    Args:
        x0, x1: (B, 3, H, W), nominally in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1]: 1 up to a difference of 1/255, 0 from 3/255 on. Pixels up to
        ``STILL_REACH`` away count.
    """
    difference = (x0 - x1).abs_().amax(1, keepdim=True)
    most = _largest_around(difference)
    return _largest_around(most.sub_(_DIFFERENT).div_(_EQUAL - _DIFFERENT).clamp_(0, 1))


def _largest_around(image: Tensor) -> Tensor:
    """The largest value within two pixels of each, along both axes."""
    # Shifted copies: many times as fast as max_pool2d on a CPU.
    for axis in (-2, -1):
        size = image.shape[axis]
        edges = (0, 0, 2, 2) if axis == -2 else (2, 2, 0, 0)
        wide = F.pad(image, edges, mode="constant", value=-1.0)
        two = torch.maximum(wide.narrow(axis, 0, size + 3), wide.narrow(axis, 1, size + 3))
        four = torch.maximum(two.narrow(axis, 0, size + 1), two.narrow(axis, 2, size + 1))
        image = torch.maximum(four.narrow(axis, 0, size), wide.narrow(axis, 4, size))
    return image


def warp(images: Tensor, flow: Tensor) -> Tensor:
    """Sample each picture where the flow points: bilinear, edges continued.

    Args:
        images: (B, C, H, W).
        flow: (B, 2, H, W) backward flow (dx, dy) in pixels: the result at (x, y) is the picture
            at (x + dx, y + dy).

    Returns:
        (B, C, H, W) float32.
    """
    return sample(images, sampling_grid(flow, *images.shape[-2:]))


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """``images`` (B, C, H, W) at ``grid`` (B, h, w, 2) as ``sampling_grid`` gives: float32."""
    return F.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
