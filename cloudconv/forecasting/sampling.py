"""Sample a picture once, sharply, and continue it beyond its edges by its mirror image."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def sharp(picture: Tensor, grid: Tensor) -> Tensor:
    """Return (B, C, H, W) at a grid for ``grid_sample``, (B, h, w, 2), bicubic: (B, C, h, w).

    Positions beyond the edges are mirrored, as often as needed.
    """
    # The own mirroring of grid_sample takes seven times as long on a CPU.
    inside = torch.remainder(grid + 1, 4).sub_(2).abs_().neg_().add_(1)
    return F.grid_sample(picture.float(), inside, "bicubic", "border", align_corners=True)
