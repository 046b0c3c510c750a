"""Find hovering: the same clouds fade in again and again, or a clip runs back and forth.

Novelty is the likeness of a picture of the dream to an earlier one, without the mean picture: the
correlation of the moving parts. Footage that drifts on does not come back to earlier pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import grey

Array = NDArray[np.float32]
Small = NDArray[np.uint8]

AWAY = 60
"""Frames that lie closer are not compared."""

_WIDE = 80  # longest side of the pictures that are compared
_KEPT = 900  # latest frames of the dream that are remembered
_LEAST = 20  # frames of a window with earlier frames to compare, or the window has no novelty


class Novelty:
    """A memory of a dream's pictures; only ``moving`` parts, (h, w) bool, count."""

    def __init__(self, moving: NDArray[np.bool_]) -> None:
        """Begin without pictures."""
        height, width = moving.shape
        factor = min(1.0, _WIDE / max(height, width))
        self._size = max(2, round(width * factor)), max(2, round(height * factor))
        small = cv2.resize(moving.astype(np.float32), self._size, interpolation=cv2.INTER_AREA)
        self._moving = small > 0.5 if (small > 0.5).any() else np.ones_like(small, bool)
        self._rows = np.zeros((_KEPT, int(self._moving.sum())), np.float32)
        self._count = 0

    def push(self, picture: Small) -> None:
        """Remember the next picture, (h, w, 3)."""
        luma = grey(picture).astype(np.float32)
        small = cv2.resize(luma, self._size, interpolation=cv2.INTER_AREA)
        self._rows[self._count % _KEPT] = small[self._moving]
        self._count += 1

    def over(self, count: int) -> float | None:
        """Return the likeness of the last ``count`` pictures to earlier ones, from -1 to 1.

        The median of the greatest correlation with one at least ``AWAY`` frames earlier; None
        where too few have one.
        """
        numbers = np.arange(max(0, self._count - _KEPT), self._count)
        rows = self._rows[numbers % _KEPT]
        apart = rows - rows.mean(0)
        apart -= apart.mean(1, keepdims=True)
        apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6)
        last = numbers >= self._count - count
        likeness = apart[last] @ apart.T
        likeness[numbers[last][:, None] - numbers < AWAY] = -np.inf
        greatest = likeness.max(1)
        known = greatest[np.isfinite(greatest)]
        return float(np.median(known)) if len(known) >= _LEAST else None


def own_novelty(pictures: Sequence[Small], moving: NDArray[np.bool_]) -> float | None:
    """Return the likeness of a clip's own pictures to each other; None for a short clip."""
    found = Novelty(moving)
    for picture in pictures:
        found.push(picture)
    return found.over(len(pictures))
