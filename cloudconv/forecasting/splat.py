"""Move layers of the last frame, each once, and lay them over the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.forecasting.camera import Motion, moved, positions
from cloudconv.forecasting.sampling import sharp
from cloudconv.transfer import upload


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a picture, (1, 3, h, w), with a matte, (1, 1, h, w), at ``top`` and ``left``.

    The background has no matte.
    """

    picture: Tensor
    matte: Tensor | None
    top: int
    left: int

    def onto(self, target: Tensor, motion: Motion) -> None:
        """Draw the layer; ``motion`` maps positions of ``target``, (1, 3, H, W), to the layer's.

        Beyond the edges of the background its mirror image follows.
        """
        height, width = self.picture.shape[2:]
        rows, columns = self._reached(motion, target.shape[2:])
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # grid_sample takes positions from -1 to 1 between the centres of the outer pixels.
        scale = np.diag([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
        part = scale @ motion[:2, :2]
        start = motion[:2] @ np.array([columns.start, rows.start, 1.0])
        origin = scale @ (start - (self.left, self.top)) - 1
        numbers = torch.from_numpy(np.column_stack([part, origin]).astype(np.float32))
        (sent,) = upload([numbers], target.device)
        x = torch.arange(columns.stop - columns.start, device=target.device)[None, :, None]
        y = torch.arange(rows.stop - rows.start, device=target.device)[:, None, None]
        grid = (x * sent[:, 0] + y * sent[:, 1] + sent[:, 2])[None]
        area = target[:, :, rows, columns]
        if self.matte is None:
            area.copy_(sharp(self.picture, grid))
            return
        colours = sharp(self.picture, grid)
        matte = F.grid_sample(self.matte, grid, "bilinear", "zeros", True)
        area.lerp_(colours, matte)

    def _reached(self, motion: Motion, size: Sequence[int]) -> tuple[slice, slice]:
        """Return the rows and columns of the target that the layer may reach."""
        if self.matte is None:
            return slice(0, size[0]), slice(0, size[1])
        height, width = self.picture.shape[2:]
        x, y = (self.left, self.left + width), (self.top, self.top + height)
        corners = moved(
            np.asarray(np.linalg.inv(motion), float), positions([(a, b) for a in x for b in y])
        )
        least, most = np.floor(corners.min(0)) - 1, np.ceil(corners.max(0)) + 2
        left, right = np.clip([least[0], most[0]], 0, size[1]).astype(int)
        top, bottom = np.clip([least[1], most[1]], 0, size[0]).astype(int)
        return slice(int(top), int(bottom)), slice(int(left), int(right))


def cut_out(picture: Tensor, mask: Tensor) -> Layer:
    """Return the layer of a mask, (1, 1, H, W) in [0, 1] on the CPU, of (1, 3, H, W)."""
    rows, columns = (torch.nonzero(mask[0, 0].amax(axis)).flatten().tolist() for axis in (1, 0))
    area = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    (matte,) = upload([mask[:, :, area[0], area[1]].contiguous()], picture.device)
    return Layer(picture[:, :, area[0], area[1]].contiguous(), matte, rows[0], columns[0])
