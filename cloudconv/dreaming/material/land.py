"""Find the land of a clip: the parts in front of the moving sky, such as hills, trees and roofs.

Two signs are reliable. Edges of the land are at the same place in all frames, while the edges of
clouds are not. And the sky behind the land changes. Parts that hardly change may be blue sky, too,
but such a part is not bounded by edges that stay. The parts that are found in this way train the
colour models of GrabCut, which divides the picture.

Source: Rother, Kolmogorov and Blake, GrabCut, SIGGRAPH 2004, in OpenCV's implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.pictures import grey, resized
from cloudconv.metrics import luma

_Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_STILL = 2.0, 0.25  # range of a still pixel over time: in levels, and relative to the .75 quantile
_EDGE = 2.5  # least gradient of an edge, in levels per pixel
_SAME = 0.8  # least fraction of an edge's squared gradient that is the same in all frames
_BOUND = 0.7  # least fraction of the rim of land that lies along such edges
_LEAST = 0.001  # smallest part of land, relative to the picture
_GAP = 0.005  # smallest gap in the land through which sky is seen, relative to the picture
_RIM = 0.01  # reach of twigs across the edge of the land, of the longer side
_FAINT = 0.0004  # squared contrast between land and sky below which the edge stays soft


def land_of(pictures: Sequence[_Bytes], seen: Mask | None = None) -> Mask:
    """Return a mask of the land: (h, w) bool.

    Args:
        pictures: frames from all over the clip, (h, w, 3) uint8 each, of about 480 pixels.
        seen: the columns, (w,), in which the pictures show changes; None for all.
    """
    shown = np.stack([cv2.GaussianBlur(grey(one), (0, 0), 2) for one in pictures])
    low, high = np.quantile(shown, (0.1, 0.9), axis=0)
    varies = high - low
    usual = float(np.quantile(varies, 0.75))
    limit = max(_STILL[0], _STILL[1] * usual)
    edges = _lasting_edges(pictures)
    seeds = edges.copy()
    for part in _parts((varies < limit) & ~_wider(edges, 1)):
        if _bounded(part, edges):
            seeds |= part
    closed = cv2.morphologyEx(seeds.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    kinds = np.full(varies.shape, cv2.GC_PR_BGD, np.uint8)
    for part in _parts((closed > 0) & (True if seen is None else seen)):
        kinds[part] = cv2.GC_PR_FGD
    moves = (varies >= max(2 * limit, usual)) & ~edges
    land = np.zeros(varies.shape, bool)
    if not moves.any():
        return ~land
    kinds[moves] = cv2.GC_BGD
    if not (kinds == cv2.GC_PR_FGD).any():
        return land
    for part in _parts(divided(np.median(pictures, 0).astype(np.uint8), kinds)):
        if _bounded(part, edges):
            land |= part
    # Small gaps, such as bright leaves, belong to the land.
    gaps = ~land
    for part in _parts(gaps, _GAP):
        gaps &= ~part
    return land | gaps


def divided(picture: _Bytes, kinds: Any) -> Mask:
    """Return the foreground of a picture by GrabCut: (h, w) bool.

    ``kinds``, (h, w), has OpenCV's class of each pixel, and is overwritten.
    """
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, kinds, None, *models, 5, cv2.GC_INIT_WITH_MASK)
    found: Mask = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return found


def _lasting_edges(pictures: Sequence[_Bytes]) -> Mask:
    """Return a mask of the edges that are the same in all pictures: (h, w)."""
    mean: Any = 0
    energy: Any = 0
    for picture in pictures:
        smooth = cv2.GaussianBlur(grey(picture).astype(np.float32), (0, 0), 1)
        slope = np.stack([cv2.Sobel(smooth, -1, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1))])
        mean = mean + slope / len(pictures)
        energy = energy + np.square(slope).sum(0) / len(pictures)
    lasting = np.square(mean).sum(0)
    same = cv2.GaussianBlur(lasting, (0, 0), 2) / (cv2.GaussianBlur(energy, (0, 0), 2) + 1e-3)
    edges: Mask = (lasting > _EDGE**2) & (same > _SAME)
    return edges


def _parts(mask: Mask, least: float = _LEAST) -> Iterator[Mask]:
    """Yield the connected parts of a mask of at least a size, relative to the picture."""
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    for number in range(1, parts):
        if stats[number, cv2.CC_STAT_AREA] >= least * mask.size:
            yield labels == number


def _bounded(part: Mask, edges: Mask) -> bool:
    """Return whether lasting edges bound a part wherever the picture does not end."""
    rim = _wider(part, 1) & ~part
    return bool(rim.any() and _wider(edges, 3)[rim].mean() > _BOUND)


def _wider(mask: Mask, reach: int) -> Mask:
    wide: Mask = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0
    return wide


def matte_of(land: Tensor, picture: Tensor) -> Tensor:
    """Return the fraction of each pixel that the land covers: (H, W) float32 in [0, 1].

    Near the edge of the land the fraction follows the brightness of the picture, so that twigs and
    single leaves belong to the land, and the sky between them does not.

    Source: He, Sun and Tang, Guided Image Filtering, ECCV 2010.

    Args:
        land: (h, w) float32, 0 or 1.
        picture: (3, H, W) float32 RGB.
    """
    size = (picture.shape[-2], picture.shape[-1])
    coarse = resized(land[None], size)[0].cpu().numpy()
    if not coarse.any():
        return torch.zeros(size, device=picture.device)
    reach = max(1, round(_RIM * max(size)))
    guide = luma(picture[None])[0].cpu().numpy().astype(np.float32)

    def mean(values: Any) -> Any:
        return cv2.blur(values, (2 * reach + 1, 2 * reach + 1))

    around, covered = mean(guide), mean(coarse)
    contrast = mean(guide * guide) - around * around
    slope = (mean(guide * coarse) - around * covered) / (contrast + _FAINT)
    follows = mean(slope) * guide + mean(covered - slope * around)
    kernel = np.ones((reach + 1, reach + 1), np.uint8)
    matte = np.clip(follows, cv2.erode(coarse, kernel), cv2.dilate(coarse, kernel))
    return torch.from_numpy(matte.clip(0, 1)).to(picture.device)
