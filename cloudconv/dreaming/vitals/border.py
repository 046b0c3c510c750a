"""Find straight borders in the sky, where footage came in along the edge of a frame.

A straight border looks the same all along: in a box around the border, nearly all variation is a
profile across the border that does not change along the border. An even slope of brightness does
not count. The rims of clouds are not straight. Parts that never move, such as a horizon, are not
searched, and the limit allows for straight lines that the clip itself has.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import COARSE_SIDE, grey, reduced, spread
from cloudconv.dreaming.vitals.features import SLACK, quantile

Array = NDArray[np.float32]
Small = NDArray[np.uint8]

_ACROSS, _ALONG = 17, 36  # size of a box across and along a border, in pixels
_STEP = 4  # pixels from one box to the next
_LEAST = 2.0  # least variation of a profile, in levels
_LIMIT = 0.8  # least limit of the straightness of a border


class Borders:
    """A search for straight borders in the ``moving`` parts, (h, w) bool, of new pictures."""

    def __init__(self, pictures: Sequence[Small], moving: NDArray[np.bool_]) -> None:
        """Measure the clip's own straight borders."""
        self._moving = reduced(moving.astype(np.float32), COARSE_SIDE) > 1 - 1e-3
        own = [self._straightest(pictures[k]) for k in spread(len(pictures))]
        self._usual = max(_LIMIT, SLACK * quantile(own))

    def measure(self, picture: Small) -> float:
        """Return the straightness of the straightest border; the limit is 1."""
        return self._straightest(picture) / self._usual

    def _straightest(self, picture: Small) -> float:
        luma = reduced(grey(picture), COARSE_SIDE).astype(np.float32)
        luma = cv2.GaussianBlur(luma, (0, 0), 1.0)
        return max(_level(luma, self._moving), _level(luma.T, self._moving.T))


def _level(luma: Array, moving: NDArray[np.bool_]) -> float:
    """Return the largest fraction of the variation in a box that a profile across rows explains."""
    if luma.shape[0] < _ACROSS or luma.shape[1] < _ALONG:
        return 0.0
    shape = (_ACROSS, _ALONG)
    boxes = np.lib.stride_tricks.sliding_window_view(luma, shape)[::_STEP, ::_STEP]
    inside = np.lib.stride_tricks.sliding_window_view(moving, shape)[::_STEP, ::_STEP].all((2, 3))
    boxes = boxes[inside]
    if not len(boxes):
        return 0.0
    flat = boxes - boxes.mean((1, 2), keepdims=True)
    for axis, length in ((1, _ACROSS), (2, _ALONG)):
        slope = np.linspace(-1, 1, length, dtype=np.float32)
        slope /= np.sqrt(np.square(slope).sum())
        other = 3 - axis
        profile = flat.mean(other)
        even = (profile @ slope)[:, None] * slope
        flat = flat - np.expand_dims(even, other)
    profile = flat.mean(2)
    explained = np.square(profile).mean(1)
    varies = np.square(flat).mean((1, 2)) + 1
    return float(np.where(explained > _LEAST**2, explained / varies, 0).max())
