"""Find the time after which the pictures of a dream come again."""

from collections import deque
from collections.abc import Iterable

import numpy as np

from cloudconv.images import THUMB_SIDE, Bytes, Floats, Mask, luma, parts, reduced

HISTORY = 900
"""Number of the latest pictures that are stored to find those that come again."""

_BESIDE = 5  # least distance of two pictures that are compared, in frames
# Greatest squared difference of equal pictures, relative to that of neighbours.
_EQUAL = 0.1


class Repeats:
    """The ``moving`` parts, (h, w) bool, of the latest pictures of a clip and its dream."""

    def __init__(self, moving: Mask, pictures: Iterable[Bytes]) -> None:
        """Store the first pictures, (h, w, 3) uint8 each."""
        self._moving = parts(moving, THUMB_SIDE)
        self._rows: deque[Floats] = deque(maxlen=HISTORY)
        for picture in pictures:
            self.push(picture)

    def push(self, picture: Bytes) -> None:
        """Store the next picture, (h, w, 3) uint8."""
        small = reduced(luma(picture).astype(np.float32), THUMB_SIDE)
        self._rows.append(small[self._moving])

    def period(self, count: int) -> int | None:
        """Return the last ``count`` pictures' usual distance to their latest equal one.

        Return None if most have no equal picture.
        """
        rows = np.stack(self._rows)
        size = (rows * rows).sum(1)
        apart = np.maximum(size[:, None] + size - 2 * rows @ rows.T, 0)
        usual = float(np.median(np.diagonal(apart, 1))) if len(rows) > 1 else 0.0
        numbers = np.arange(len(rows))
        equal = (apart <= _EQUAL * usual) & (numbers <= numbers[:, None] - _BESIDE)
        equal = equal[-count:]
        has_equal = equal.any(1)
        if not usual or has_equal.mean() < 0.5:
            return None
        latest = len(rows) - 1 - equal[:, ::-1].argmax(1)
        return int(np.median((numbers[-count:] - latest)[has_equal]))
