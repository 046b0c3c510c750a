"""Move layers of the last frame, each once, and lay them over the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import Area, Floats, Motion, area_of, carried, positions
from cloudconv.forecasting.sampling import sampled_on_threads, sharp
from cloudconv.transfer import upload


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a picture, (1, 3, h, w), with a matte, (1, 1, h, w), at ``top`` and ``left``.

    The background has no matte. ``rest`` is a motion of the layer's parts in a step, such as that
    of legs: (1, 2, h, w), backward, in pixels; ``reach`` is the largest one.
    """

    picture: Tensor
    matte: Tensor | None
    top: int
    left: int
    rest: Tensor
    reach: float

    def onto(self, target: Tensor, motion: Motion, bent: int) -> None:
        """Draw the layer; ``motion`` maps positions of ``target``, (1, 3, H, W), to the layer's.

        Its parts move for ``bent`` steps. Beyond the edges of the background its mirror image
        follows.
        """
        height, width = self.picture.shape[2:]
        rows, columns = self._reached(motion, target.shape[2:], bent * self.reach)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        # grid_sample takes positions from -1 to 1 between the centres of the outer pixels.
        scale = np.diag([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
        part = scale @ motion[:2, :2]
        start = motion[:2] @ np.array([columns.start, rows.start, 1.0])
        origin = scale @ (start - (self.left, self.top)) - 1
        numbers = np.column_stack([part, origin, bent * scale.diagonal()]).astype(np.float32)
        (sent,) = upload([torch.from_numpy(numbers)], target.device)
        x = torch.arange(columns.stop - columns.start, device=target.device)[None, :, None]
        y = torch.arange(rows.stop - rows.start, device=target.device)[:, None, None]
        grid = (x * sent[:, 0] + (y * sent[:, 1] + sent[:, 2]))[None]
        if self.reach:
            rest = sampled_on_threads(self.rest, grid, "bilinear", "border")
            grid = grid + rest.permute(0, 2, 3, 1) * sent[:, 3]
        area = target[:, :, rows, columns]
        if self.matte is None:
            area.copy_(sharp(self.picture, grid))
            return
        colours = sharp(self.picture, grid)
        matte = sampled_on_threads(self.matte, grid, "bilinear", "zeros")
        area.lerp_(colours, matte)

    def _reached(self, motion: Motion, size: Sequence[int], reach: float) -> Area:
        """Return the rows and columns of the target that the layer may reach."""
        if self.matte is None:
            return slice(0, size[0]), slice(0, size[1])
        height, width = self.picture.shape[2:]
        x = (self.left - reach, self.left + width + reach)
        y = (self.top - reach, self.top + height + reach)
        corners = carried(
            np.asarray(np.linalg.inv(motion), float), positions([(a, b) for a in x for b in y])
        )
        least, most = np.floor(corners.min(0)) - 1, np.ceil(corners.max(0)) + 2
        left, right = np.clip([least[0], most[0]], 0, size[1]).astype(int)
        top, bottom = np.clip([least[1], most[1]], 0, size[0]).astype(int)
        return slice(int(top), int(bottom)), slice(int(left), int(right))


def layer_of(picture: Tensor, rest: Floats, matte: Floats | None) -> Layer:
    """Return the layer of ``picture``, (1, 3, H, W), that a matte shows, (H, W) in [0, 1].

    ``rest`` is the motion of its parts, (h, w, 2), in pixels of its own size.
    """
    height, width = picture.shape[2:]
    shown = np.ones((height, width), np.uint8) if matte is None else (matte > 0).astype(np.uint8)
    rows, columns = area = area_of(shown)
    large = cv2.resize(rest, (width, height), interpolation=cv2.INTER_LINEAR)[area]
    rest = np.moveaxis(large * np.float32(width / rest.shape[1]), -1, 0)[None]
    planes = [rest, *([] if matte is None else [matte[None, None, rows, columns]])]
    sent = upload([torch.from_numpy(plane.copy()) for plane in planes], picture.device)
    return Layer(
        picture[:, :, rows, columns].contiguous(),
        None if matte is None else sent[1],
        rows.start,
        columns.start,
        sent[0],
        float(np.abs(rest).max()),
    )
