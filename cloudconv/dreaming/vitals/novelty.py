"""Measure how much the pictures of a dream resemble earlier ones.

The resemblance is high if the same clouds fade in again and again, or if a clip runs back and
forth. Real clouds move on and do not return to an earlier picture. The measure is the correlation
of the moving parts of two pictures, after the mean picture is subtracted. Reports call this value
``novelty``; a low value means new pictures.
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
"""Least distance in frames of two pictures that are compared."""

_WIDE = 80  # longest side of the pictures that are compared
_KEPT = 900  # number of the latest pictures that are stored
_LEAST = 20  # least number of compared pictures in a window; below that there is no value


class Novelty:
    """The latest pictures of a dream; only the ``moving`` parts, (h, w) bool, are compared."""

    def __init__(self, moving: NDArray[np.bool_]) -> None:
        """Create a store without pictures."""
        height, width = moving.shape
        factor = min(1.0, _WIDE / max(height, width))
        self._size = max(2, round(width * factor)), max(2, round(height * factor))
        small = cv2.resize(moving.astype(np.float32), self._size, interpolation=cv2.INTER_AREA)
        self._moving = small > 0.5 if (small > 0.5).any() else np.ones_like(small, bool)
        self._rows = np.zeros((_KEPT, int(self._moving.sum())), np.float32)
        self._count = 0

    def push(self, picture: Small) -> None:
        """Store the next picture, (h, w, 3) uint8."""
        luma = grey(picture).astype(np.float32)
        small = cv2.resize(luma, self._size, interpolation=cv2.INTER_AREA)
        self._rows[self._count % _KEPT] = small[self._moving]
        self._count += 1

    def over(self, count: int) -> float | None:
        """Return the resemblance of the last ``count`` pictures to earlier ones, from -1 to 1.

        Each picture has a greatest correlation with the pictures at least ``AWAY`` frames earlier.
        The result is the median of these; None if too few pictures have such an earlier picture.
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
    """Return the resemblance of a clip's pictures, (h, w, 3) each, to earlier ones of the clip.

    The result is None for a short clip.
    """
    novelty = Novelty(moving)
    for picture in pictures:
        novelty.push(picture)
    return novelty.over(len(pictures))
