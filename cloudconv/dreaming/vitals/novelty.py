"""Measure how much the pictures of a dream resemble earlier ones.

The resemblance is high if the same clouds fade in again and again, or if a clip runs back and
forth. Real clouds move on and do not return to an earlier picture. The measure is the correlation
of the moving parts of two pictures, after the mean picture is subtracted. Reports call this value
``novelty``; a low value means new pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import THUMB_SIDE, TINY, grey, parts, reduced

Small = NDArray[np.uint8]

AWAY = 60
"""Least distance in frames of two pictures that are compared."""

HISTORY = 900
"""Number of the latest pictures that are stored."""


class Novelty:
    """The latest pictures of a clip or dream.

    Only the ``moving`` parts, (h, w) bool, are compared.
    """

    def __init__(self, moving: NDArray[np.bool_], pictures: Sequence[Small] = ()) -> None:
        """Store the first pictures, (h, w, 3) uint8 each."""
        self._moving = parts(moving, THUMB_SIDE)
        self._rows = np.zeros((HISTORY, int(self._moving.sum())), np.float32)
        self._count = 0
        for picture in pictures:
            self.push(picture)

    def push(self, picture: Small) -> None:
        """Store the next picture, (h, w, 3) uint8."""
        small = reduced(grey(picture).astype(np.float32), THUMB_SIDE)
        self._rows[self._count % HISTORY] = small[self._moving]
        self._count += 1

    def over(self, count: int) -> float | None:
        """Return the resemblance of the last ``count`` pictures to earlier ones, from -1 to 1.

        Each picture has a greatest correlation with the pictures at least ``AWAY`` frames earlier.
        The result is the median of these; None if no picture has such an earlier picture.
        """
        numbers = np.arange(max(0, self._count - HISTORY), self._count)
        rows = self._rows[numbers % HISTORY]
        apart = rows - rows.mean(0)
        apart -= apart.mean(1, keepdims=True)
        apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), TINY)
        last = numbers >= self._count - count
        likeness = apart[last] @ apart.T
        likeness[numbers[last][:, None] - numbers < AWAY] = -np.inf
        greatest = likeness.max(1)
        known = greatest[np.isfinite(greatest)]
        return float(np.median(known)) if len(known) else None
