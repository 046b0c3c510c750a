"""Find the sky in a single picture, which shows no motion, from its colours."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.land import divided
from cloudconv.dreaming.pictures import analysis_size, resized, small_copy

_SURE = 0.04  # height of the rows that are surely sky (top) and ground (bottom), relative


def sky_of(picture: Tensor) -> tuple[Tensor, float | None]:
    """Return a mask of the sky in a picture, and the height of the lower end of the sky.

    GrabCut divides the picture, starting from the top rows as sky and the bottom rows as ground.
    Parts that are not connected to the top are ground. If top and bottom look alike (only clouds,
    only water), the whole picture counts as sky. Source: Rother, Kolmogorov and Blake, GrabCut,
    SIGGRAPH 2004, in OpenCV's implementation.

    Args:
        picture: (3, H, W) float32 RGB, nominally in [0, 1].

    Returns:
        (H, W) float32 in [0, 1], 1 in the sky; and the lowest row of the sky, from 0 (top of the
        picture) to 1 (bottom), None if the whole picture counts as sky.
    """
    size = (picture.shape[-2], picture.shape[-1])
    everything = torch.ones(size, device=picture.device)
    levels = small_copy(picture, analysis_size(*size))
    rows = max(1, round(_SURE * levels.shape[0]))
    if levels.shape[0] < 4 * rows or _rows_alike(levels, rows):
        return everything, None
    sky = _cut(levels, rows)
    if not sky.any() or sky.all():
        return everything, None
    foot = float(np.flatnonzero(sky.any(1))[-1] + 1) / len(sky)
    mask = torch.from_numpy(sky.astype(np.float32))[None].to(picture.device)
    return resized(mask, size)[0], foot


def _rows_alike(levels: np.ndarray, rows: int) -> bool:
    top, bottom = (
        part.reshape(-1, 3).astype(np.float64) for part in (levels[:rows], levels[-rows:])
    )
    spread = np.sqrt((top.var(0) + bottom.var(0)).mean()) + 8
    return bool(np.sqrt(np.square(top.mean(0) - bottom.mean(0)).mean()) < spread)


def _cut(levels: np.ndarray, rows: int) -> np.ndarray:
    top, bottom = levels[:rows].mean((0, 1)), levels[-rows:].mean((0, 1))
    to_top = np.square(levels - top).sum(-1) < np.square(levels - bottom).sum(-1)
    mask = np.where(to_top, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[:rows], mask[-rows:] = cv2.GC_FGD, cv2.GC_BGD
    sky = divided(levels, mask).astype(np.uint8)
    _, labels = cv2.connectedComponents(sky)
    kept = np.unique(labels[0][sky[0] > 0])
    return np.isin(labels, kept[kept > 0])
