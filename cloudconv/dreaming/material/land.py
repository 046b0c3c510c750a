"""Find a clip's land: what is before the moving sky, such as hills, trees and roofs.

Edges of the land are at the same place in all frames; those of clouds are not, and the sky
behind the land changes. Blue sky hardly changes either, but no edges that stay bound it.
The parts that are found in this way train the colour models of GrabCut, which divides the
picture. Two further properties exclude slow clouds: land does not hang from the upper end
of the picture above parts that change, and has other colours than the rest of the picture.
Letters and logos before the sky count as land, too.

Source: Rother, Kolmogorov and Blake, GrabCut, SIGGRAPH 2004, in OpenCV's implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from cloudconv.images import (
    Bytes,
    Floats,
    Mask,
    connected,
    gradients,
    luma,
    resized,
    smooth,
    solid,
    wider,
)

_SAME = 0.8  # least fraction of an edge's squared gradient that is the same in all frames
_BOUND = 0.7  # least fraction of the rim of land that lies along such edges
_LEAST = 0.001  # smallest part of land, and smallest gap in it, relative to the picture
_RIM = 0.01  # reach of twigs across the edge of the land, of the longer side
# Letters have detail that lasts (in deviations over time) and is clear (in levels), where
# the sky around changes (in multiples of the mean). The far clouds of a slow sky lack one
# of these three properties.
_MARKED = 2.0
_CLEAR = 9.0
_CHANGES = 0.85
_STROKE = 0.8  # sigma of the blur that removes this detail
_AROUND = 3  # distance by which letters and lasting edges are widened, in pixels
_FEW = 250  # least number of pixels with such detail
_MANY = 0.1  # greatest part of the picture that they cover
_STEPS = 5  # iterations of GrabCut
_FAINT = 0.0004  # squared contrast between land and sky below which the edge stays soft


def land_of(pictures: Sequence[Bytes]) -> Mask:
    """Return a mask of the land, (h, w) bool, in frames from all over the clip.

    ``pictures``: (h, w, 3) uint8 each, of about 480 pixels.
    """
    mean, square = _means((smooth(luma(one), 2) for one in pictures), len(pictures))
    varies = np.sqrt((square - mean * mean).clip(0))
    usual = max(1.0, float(varies.mean()))  # noise changes a pixel by less than a level
    land = np.zeros(varies.shape, bool)
    moves = varies > usual
    if not moves.any():
        return ~land
    edges = _lasting_edges(pictures)
    seeds = edges.copy()
    for region in _parts((varies < usual / 2) & ~edges):
        if _bounded(region, edges):
            seeds |= region
    kinds = np.full(varies.shape, cv2.GC_PR_BGD, np.uint8)
    for region in _parts(seeds):
        kinds[region] = cv2.GC_PR_FGD
    if kinds.min() == kinds.max():
        alike: Mask = kinds == cv2.GC_PR_FGD
        return alike
    picture = np.median(pictures, 0).astype(np.uint8)
    front = divided(picture, kinds)
    # Seeds contain some of the sky beside them, and a glow may have the same colours.
    sky = moves & wider(~edges, _AROUND)
    for region in _parts(front):
        hangs = region[0].any() and _height(region) < _height(moves)
        if not hangs and _bounded(region, edges) and not _alike(region, ~front, picture):
            land |= region & ~sky
    # Small gaps, such as bright leaves, belong to the land.
    gaps = ~land
    for region in _parts(gaps):
        gaps &= ~region
    land |= gaps
    return land | _letters(pictures, varies / max(float(varies[~land].mean()), 1.0), land)


def _letters(pictures: Sequence[Bytes], varies: Any, land: Mask) -> Mask:
    """Return letters and logos that stand still before the sky, and their inside."""
    exact = (one.astype(np.float32) for one in pictures)
    fine = (one - smooth(one, _STROKE) for one in exact)
    mean, square = _means(fine, len(pictures))
    lasting = np.abs(mean)
    deviation = np.sqrt((square - mean * mean).clip(0))
    sharp = (lasting > _CLEAR) & (lasting > _MARKED * deviation)
    fixed = sharp.any(2) & ~wider(land, 2 * _AROUND)
    changes = fixed & wider(varies > _CHANGES, 3 * _AROUND)
    # A word is whole, also where the sky behind a part of it hardly changes.
    words = (part > 0 for part in connected(wider(fixed, _AROUND), 0))
    letters = fixed & np.any([word for word in words if (word & changes).any()], 0)
    marks = solid(wider(letters, _AROUND))
    return (marks > 0) & bool(changes.sum() >= _FEW and marks.mean() <= _MANY)


def divided(picture: Bytes, kinds: Any) -> Mask:
    """Return the foreground of a picture by GrabCut: (h, w) bool.

    ``kinds``, (h, w), has OpenCV's class of each pixel, and is overwritten.
    """
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, kinds, None, None, None, _STEPS, cv2.GC_INIT_WITH_MASK)
    return np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _means(pictures: Iterable[Any], count: int) -> Any:
    """Return the mean of so many pictures, and that of their squares: (2, …)."""
    exact = (picture.astype(float) for picture in pictures)
    total: Any = sum(np.stack([one, one * one]) for one in exact)
    return total / count


def _lasting_edges(pictures: Sequence[Bytes]) -> Mask:
    greys = (smooth(luma(one).astype(np.float32), 1) for one in pictures)
    slopes = (cv2.merge(gradients(grey)) for grey in greys)
    mean, square = _means(slopes, len(pictures))
    lasting, energy = (smooth(one.sum(2), 2) for one in (mean * mean, square))
    # Noise has a gradient of up to a level per pixel, and is not the same in all frames.
    edges: Mask = lasting > _SAME * (energy + 1)
    return edges


def _parts(mask: Mask) -> list[Mask]:
    regions = connected(mask, _LEAST * mask.size, connectivity=4)
    return [region > 0 for region in regions]


def _bounded(region: Mask, edges: Mask) -> bool:
    """Return whether lasting edges bound a part wherever the picture does not end."""
    rim = wider(region, 1) & ~region
    return bool(rim.any() and wider(edges, _AROUND)[rim].mean() > _BOUND)


def _height(mask: Mask) -> float:
    return float(np.nonzero(mask)[0].mean())


def _alike(region: Mask, rest: Mask, picture: Bytes) -> bool:
    """Return whether most colours of a part are more frequent in the rest."""
    here, there = _colours(picture, region), _colours(picture, rest)
    return bool(here[there > here].sum() > here.sum() / 2)


def like_land(land: Mask, picture: Bytes, columns: Mask) -> Mask:
    """Return where a picture has colours more frequent in land than beside it, (h, w).

    ``columns``: (w,), those in which the land is known.
    """
    here, there = (_colours(picture, mask & columns) for mask in (land, ~land))
    number = tuple(np.moveaxis(picture // 16, 2, 0))
    alike = (here[number] > there[number]).astype(np.uint8)
    return cv2.morphologyEx(alike, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def _colours(picture: Bytes, mask: Mask) -> Any:
    return cv2.calcHist([picture], [0, 1, 2], mask.astype(np.uint8), [16] * 3, [0, 256] * 3)


def matte_of(land: Floats, picture: Floats) -> Floats:
    """Return the fraction of each pixel that the land covers: (H, W) float32 in [0, 1].

    Near the edge of the land the fraction follows the brightness of the picture, so that
    twigs and single leaves belong to the land, and the sky between them does not.

    Source: He, Sun and Tang, Guided Image Filtering, ECCV 2010.

    Args:
        land: (h, w), 0 or 1.
        picture: (H, W, 3).
    """
    size = picture.shape[:2]
    coarse = resized(land, size)
    reach = max(1, round(_RIM * max(size)))
    guide = luma(picture)

    def mean(values: Any) -> Any:
        return cv2.blur(values, (2 * reach + 1, 2 * reach + 1))

    around, covered = mean(guide), mean(coarse)
    contrast = mean(guide * guide) - around * around
    slope = (mean(guide * coarse) - around * covered) / (contrast + _FAINT)
    follows = mean(slope) * guide + mean(covered - slope * around)
    kernel = np.ones((reach + 1, reach + 1), np.uint8)
    matte = np.clip(follows, cv2.erode(coarse, kernel), cv2.dilate(coarse, kernel))
    fraction: Floats = matte.clip(0, 1)
    return fraction
