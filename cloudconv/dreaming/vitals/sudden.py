"""Measure how suddenly the pictures of a dream change.

One sky that becomes another in the blink of an eye is a change that no motion explains. So each
picture is compared with the picture 0.4 seconds earlier, moved along the flow between the two. The
mean difference, and the mean of the tenth of the picture that differs most, are divided by the
largest of the clip; the larger ratio counts. Halves of real clips give 0.85 to 1.02 against each
other; a dissolve of a whole sky within a second gives 2 and more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import MIDDLE_SIDE, grey, moved, parts, reduced
from cloudconv.dreaming.vitals.features import QUANTILE
from cloudconv.models.flow import measured_flow

Small = NDArray[np.uint8]

_SPAN = Fraction(2, 5)  # time between the two pictures, in seconds
_AREA = 6.0  # sigma of the area in which differences are summed, in pixels of these pictures
_LEAST = 0.5  # least change of a clip, in levels: less is noise


class Sudden:
    """The changes of a clip and of the dream that follows.

    ``moving``: (h, w) bool, the parts that count. ``follows``: the dream follows the clip directly.
    """

    def __init__(
        self,
        pictures: Sequence[Small],
        step: Fraction,
        moving: NDArray[np.bool_],
        *,
        follows: bool,
    ) -> None:
        """Measure the clip's pictures, (h, w, 3) uint8 each, one ``step`` apart in seconds."""
        self._lag = max(2, round(_SPAN / step))
        self._moving = parts(moving, MIDDLE_SIDE)
        self._shown: deque[Small] = deque(maxlen=self._lag + 1)
        self._count = 0
        found = [change for picture in pictures if (change := self._change(picture)) is not None]
        self._most = np.maximum(np.max(found, 0), _LEAST) if found else None
        if not follows:
            self._shown.clear()

    def push(self, picture: Small) -> float | None:
        """Measure the next picture of the dream; None if this picture is not compared."""
        change = self._change(picture)
        if change is None or self._most is None:
            return None
        return float((change / self._most).max())

    def _change(self, picture: Small) -> NDArray[np.float64] | None:
        """Return the mean change, and that of the worst tenth, in levels, of some pictures."""
        self._shown.append(reduced(grey(picture), MIDDLE_SIDE))
        self._count += 1
        if len(self._shown) <= self._lag or self._count % max(1, self._lag // 3):
            return None
        now, before = self._shown[-1], self._shown[0]
        flow = torch.from_numpy(measured_flow(now, before, quick=True)).permute(2, 0, 1)
        explained = moved(torch.from_numpy(before)[None].float(), flow)[0].numpy()
        apart = cv2.GaussianBlur(np.abs(explained - now), (0, 0), _AREA)
        sizes = np.sort(apart[self._moving])
        return np.array([sizes.mean(), sizes[int(QUANTILE * len(sizes)) :].mean()])
