"""Measure how much the pictures of a dream resemble earlier ones.

The resemblance is high if the same clouds fade in again and again, or if a clip runs back and
forth. Real clouds move on and do not return to an earlier picture. The measure is the correlation
of the moving parts of two pictures, after the mean picture is subtracted. Reports call this value
``novelty``; a low value means new pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.images import THUMB_SIDE, TINY, grey, parts, reduced
from cloudconv.dreaming.vitals.features import Array, Small

AWAY = 60
"""Least distance in frames of two pictures that are compared."""

_BESIDE = 5
_EQUAL = 0.1  # greatest squared difference of equal pictures, relative to that of neighbours

HISTORY = 900
"""Number of the latest pictures that are stored."""


class Sameness:
    """The latest pictures of a clip or dream.

    Only the ``moving`` parts, (h, w) bool, are compared.
    """

    def __init__(self, moving: NDArray[np.bool_], pictures: Sequence[Small] = ()) -> None:
        """Store the first pictures, (h, w, 3) uint8 each."""
        self._moving = parts(moving, THUMB_SIDE)
        self._rows: deque[Array] = deque(maxlen=HISTORY)
        for picture in pictures:
            self.push(picture)

    def push(self, picture: Small) -> None:
        """Store the next picture, (h, w, 3) uint8."""
        small = reduced(grey(picture).astype(np.float32), THUMB_SIDE)
        self._rows.append(small[self._moving])

    def period(self, count: int) -> int | None:
        """Return the usual distance of the last ``count`` pictures to their latest equal picture.

        Return None if most have no equal picture at least :data:`_BESIDE` frames before.
        """
        rows = np.stack(self._rows)[-HISTORY:]
        size = (rows * rows).sum(1)
        apart = np.maximum(size[:, None] + size - 2 * rows @ rows.T, 0)
        usual = float(np.median(np.diagonal(apart, 1))) if len(rows) > 1 else 0.0
        numbers = np.arange(len(rows))
        equal = (apart <= _EQUAL * usual) & (numbers <= numbers[:, None] - _BESIDE)
        equal = equal[-count:]
        found = equal.any(1)
        if not usual or found.mean() < 0.5:
            return None
        latest = len(rows) - 1 - equal[:, ::-1].argmax(1)
        return int(np.median((numbers[-count:] - latest)[found]))

    def over(self, count: int) -> float | None:
        """Return the resemblance of the last ``count`` pictures to earlier ones, from -1 to 1.

        Each picture has a greatest correlation with the pictures at least ``AWAY`` frames earlier.
        The result is the median of these; None if no picture has such an earlier picture.
        """
        rows = np.stack(self._rows)
        apart = rows - rows.mean(0)
        apart -= apart.mean(1, keepdims=True)
        apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), TINY)
        numbers = np.arange(len(rows))
        early = numbers <= numbers[-count:, None] - AWAY
        greatest = np.where(early, apart[-count:] @ apart.T, -np.inf).max(1)[early.any(1)]
        return float(np.median(greatest)) if len(greatest) else None
