"""Find the sky of a still picture, which shows no motion."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.pictures import blurred, resized

_SIDE = 320  # longest side of the picture that is cut in two
_ROUNDS = 4
_SURE = 0.04  # of the height: rows at the top that are sky, and at the bottom that are not
_ALIKE = 1.0  # distance of top and bottom, in their own spread, below which all of it moves
_LEAST, _MOST = 0.03, 0.97  # of the picture: outside of that there is nothing to tell apart


def sky_of(picture: Tensor) -> tuple[Tensor, float | None]:
    """Return the part of a still picture that moves, and the height of its foot.

    The picture is cut in two, with its top rows as sky and its bottom rows as ground (GrabCut,
    Rother et al., SIGGRAPH 2004, as OpenCV has it); parts not connected to the top are ground.
    Where top and bottom are alike (a field of clouds, water) all of it moves.

    Args:
        picture: (3, H, W) float32 RGB, nominally in [0, 1].

    Returns:
        (H, W) float32 in [0, 1], 1 in the sky; and the height of its foot from 0 (top of the
        picture) to 1, None where all of it moves.
    """
    size = (picture.shape[-2], picture.shape[-1])
    everything = torch.ones(size, device=picture.device)
    factor = min(1.0, _SIDE / max(size))
    small = resized(picture, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))))
    levels = small.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    rows = max(1, round(_SURE * levels.shape[0]))
    if levels.shape[0] < 4 * rows or _alike(levels, rows):
        return everything, None
    sky = _cut(levels, rows)
    if not _LEAST <= sky.mean() <= _MOST:
        return everything, None
    foot = float(np.flatnonzero(sky.any(1))[-1] + 1) / len(sky)
    soft = blurred(torch.from_numpy(sky.astype(np.float32))[None].to(picture.device), 0.7)
    return resized(soft, size)[0], foot


def _alike(levels: np.ndarray, rows: int) -> bool:
    top, bottom = (
        part.reshape(-1, 3).astype(np.float64) for part in (levels[:rows], levels[-rows:])
    )
    spread = np.sqrt((top.var(0) + bottom.var(0)).mean()) + 8
    return bool(np.sqrt(np.square(top.mean(0) - bottom.mean(0)).mean()) < _ALIKE * spread)


def _cut(levels: np.ndarray, rows: int) -> np.ndarray:
    top, bottom = levels[:rows].mean((0, 1)), levels[-rows:].mean((0, 1))
    to_top = np.square(levels - top).sum(-1) < np.square(levels - bottom).sum(-1)
    mask = np.where(to_top, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[:rows], mask[-rows:] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)
    cv2.grabCut(
        np.ascontiguousarray(levels[..., ::-1]),
        mask,
        None,
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        _ROUNDS,
        cv2.GC_INIT_WITH_MASK,
    )
    sky = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels = cv2.connectedComponents(sky)
    kept = np.unique(labels[0][sky[0] > 0])
    return np.isin(labels, kept[kept > 0])
