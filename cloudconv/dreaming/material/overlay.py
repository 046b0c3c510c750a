"""Find an overlay that stands still before a moving sky: a logo, letters, a timestamp.

An overlay may be half transparent, so its pixels change with the sky behind. Three properties
remain: fine detail of the overlay lies at the same place in every frame, while the fine detail of
clouds averages out; the overlay covers a small part of the picture; and each pixel is a mixture
``(1 - opacity) * sky + added`` with constant ``opacity`` and ``added``. The two are fitted over
time. The sky behind the overlay is estimated from the sky around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.film import Film
from cloudconv.dreaming.pictures import LONGEST_SIDE, bounds, filled, grey, resized, spread

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_LEAST_FRAMES = 16

# Lengths are in pixels of a picture whose longest side is LONGEST_SIDE.
_FINE, _FINEST = 3.3, 0.8  # sigmas of the blurs that separate fine, and finest, detail
_CLEAR, _SURE = 1.5, 6.0  # least mean of this detail in an overlay, in standard deviations
_NOISE = 1.0  # least standard deviation of detail, in levels
_JOINS = 5  # distance by which strokes are widened to join them, in pixels
_RIM = 3  # width of the rim around detail that belongs to the overlay, in pixels
_LEAST = 20  # least number of pixels with finest detail in each part of an overlay
_MOST = 0.06  # greatest fraction of the picture with fine detail: more is a landscape
_LARGEST = 0.08  # greatest size of one part of an overlay, relative to the picture
_CALM = 5.0  # least variation of a sky that shows how opaque an overlay is, in levels
_COVERED = 0.8  # opacity from which the sky behind is filled from around, ever more up to 1


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay within ``box``, rows and columns of the picture.

    ``opacity``: (1, h, w) from 0 to 1. ``added``: (3, h, w), the overlay's own light. ``region``:
    (h, w), 1 on the overlay and its rim, with a soft edge.
    """

    box: tuple[slice, slice]
    opacity: Tensor
    added: Tensor
    region: Tensor

    def removed(self, picture: Tensor) -> Tensor:
        """Return a picture (3, H, W) without the overlay."""
        part = picture[:, *self.box]
        sky = (part - self.added) / (1 - self.opacity.clamp_max(_COVERED))
        hidden = ((self.opacity - _COVERED) / (1 - _COVERED)).clamp_min(0)
        if bool((hidden * self.region > 0).any()):
            around = filled(part, 1 - (self.region > 0).float())
            sky = torch.lerp(sky, around, hidden)
        made = picture.clone()
        made[:, *self.box] = torch.lerp(part, sky.clamp(0, 1), self.region)
        return made

    def put_on(self, picture: Tensor) -> Tensor:
        """Return a picture (3, H, W) with the overlay."""
        part = picture[:, *self.box]
        made = picture.clone()
        made[:, *self.box] = part + self.region * (self.added - self.opacity * part)
        return made


class ClearFilm(Film):
    """The real frames of a clip, with the overlay removed."""

    def __init__(self, film: Film, overlay: Overlay) -> None:
        """Store the frames and the overlay."""
        super().__init__(film.frames, film.device, film.size)
        self._film = film
        self._overlay = overlay

    def picture(self, number: int) -> Tensor:
        """Return a frame without the overlay: (3, H, W)."""
        return self._overlay.removed(self._film.picture(number))


def overlay_of(film: Film) -> Overlay | None:
    """Return the overlay of a clip; None if none is found."""
    count = len(film)
    if count < _LEAST_FRAMES:
        return None
    region = overlay_region([film.small(k) for k in spread(count)])
    if not region.any():
        return None
    soft = resized(torch.from_numpy(region)[None], film.size)[0].to(film.device)
    rows, columns = bounds(soft)
    margin = round(2 * _JOINS / LONGEST_SIDE * max(film.size))
    box = (
        slice(max(rows.start - margin, 0), min(rows.stop + margin, film.size[0])),
        slice(max(columns.start - margin, 0), min(columns.stop + margin, film.size[1])),
    )
    soft = soft[box]
    known = (soft <= 0).float()
    seen = [film.picture(k)[:, *box] for k in spread(count)]
    return _fitted(seen, [filled(one, known) for one in seen], box, soft)


def _fitted(
    seen: Sequence[Tensor], around: Sequence[Tensor], box: tuple[slice, slice], region: Tensor
) -> Overlay:
    """Fit opacity and addition of an overlay to pictures and the sky behind, (3, h, w) each."""
    count = len(seen)
    mean, mean_sky = sum(seen[1:], seen[0]) / count, sum(around[1:], around[0]) / count
    varies = together = torch.zeros_like(mean[:1])
    for one, sky in zip(seen, around, strict=True):
        apart = sky - mean_sky
        varies = varies + apart.square().mean(0, keepdim=True)
        together = together + (apart * (one - mean)).mean(0, keepdim=True)
    least = count * (_CALM / 255) ** 2
    opacity = (1 - (together + least) / (varies + least)).clamp(0, 1)
    # The fit of a single pixel is noisy, so the mean of neighbours is used.
    opacity = functional.avg_pool2d(opacity[None], 3, 1, 1)[0]
    added = mean - (1 - opacity) * mean_sky
    return Overlay(box, opacity, added, region)


def overlay_region(pictures: Sequence[_Bytes]) -> _Floats:
    """Return the parts of an overlay and its rim: (h, w) float32, 0 or 1.

    Args:
        pictures: (h, w, 3) uint8 each, spread over the clip.
    """
    height, width = pictures[0].shape[:2]
    scale = max(height, width) / LONGEST_SIDE
    candidates = _lasting(pictures, _FINE * scale, _CLEAR)
    # Edges of clouds that hardly move last as well, but they are not as sharp.
    sure = _lasting(pictures, _FINEST * scale, _SURE)
    nothing = np.zeros((height, width), np.float32)
    if sure.sum() < _LEAST or candidates.mean() > _MOST:
        return nothing
    reach = max(1, round(_JOINS * scale))
    joined = cv2.dilate(candidates.astype(np.uint8), _disc(reach))
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    marks = np.bincount(labels.ravel(), sure.ravel(), parts)
    sizes = stats[:, cv2.CC_STAT_AREA] / labels.size
    kept = (marks >= _LEAST) & (sizes < _LARGEST)
    kept[0] = False
    found = candidates & kept[labels]
    rim: _Floats = cv2.dilate(found.astype(np.uint8), _disc(max(1, round(_RIM * scale)))).astype(
        np.float32
    )
    return rim


def _lasting(pictures: Sequence[_Bytes], sigma: float, sure: float) -> Any:
    """Return a mask of the pixels with detail that is the same in all frames: (h, w) bool.

    Their mean detail exceeds ``sure`` standard deviations.
    """
    lumas = [grey(one).astype(np.float32) for one in pictures]
    detail = np.stack([one - cv2.GaussianBlur(one, (0, 0), max(sigma, 0.5)) for one in lumas])
    mean = np.abs(detail.mean(0))
    return mean > sure * np.sqrt(detail.var(0) + _NOISE**2)


def _disc(reach: int) -> Any:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
