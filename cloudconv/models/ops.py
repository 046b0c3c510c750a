"""Tensor operations that networks share: padding, backward warping."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


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


def sampling_grid(flow: Tensor, height: int, width: int, *, gain: float = 1.0) -> Tensor:
    """The grid that ``torch.nn.functional.grid_sample`` wants, for a flow on a whole picture.

    Args:
        flow: (B, 2, height, width) backward flow (dx, dy) in pixels.
        height, width: size of the picture to sample, in pixels.
        gain: what the flow is multiplied by.

    Returns:
        (B, height, width, 2) float32, corners aligned. float32 always: float16 cannot tell
        neighbouring pixels apart above 2,000 of them.
    """
    flow = flow.float()
    x = torch.linspace(-1, 1, width, device=flow.device)
    y = torch.linspace(-1, 1, height, device=flow.device)[:, None]
    grid = flow.new_empty((len(flow), height, width, 2))
    # With corners aligned, a pixel is 2 / (side - 1) of the grid's range.
    grid[..., 0] = torch.add(x, flow[:, 0], alpha=2 * gain / max(width - 1, 1))
    grid[..., 1] = torch.add(y, flow[:, 1], alpha=2 * gain / max(height - 1, 1))
    return grid


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
