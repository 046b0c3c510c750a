"""Find silhouettes that move: dark, still places of a clip must stay dark and still.

Two faults are searched: a place that is dark and still in every source frame but not in the dream,
and a dark shape in the sky where no source frame has one.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import grey

Array = NDArray[np.float32]
Small = NDArray[np.uint8]

_LONGEST = 240  # longest side of the pictures that are compared, in pixels
_RIM = 2  # pixels at the edge of fixed parts that do not count
_AROUND = 4  # pixels within which a dark shape of the clip may move
_CHANGED = 10.0  # levels beyond the clip's own range at a place that are a fault
_DARK = 0.4  # limit of a dark level, between dark fixed parts (0) and the darkest sky (1)
_CLEAR = 16.0  # least difference of the two, in levels: else a dark cloud looks like a hill
_SPECKS = 3  # side of the smallest shape that counts, in pixels


class Silhouettes:
    """The silhouettes of a clip.

    ``pictures``: (h, w, 3) uint8, of the clip. ``fixed``: (h, w), 1 where nothing ever moves.
    ``known``: whether the clip has silhouettes. ``size``: width and height of comparison. ``dark``
    and ``sky``: (h, w), the places that must be at most ``most``, and at least ``least``, levels.
    """

    def __init__(self, pictures: Sequence[Small], fixed: Array) -> None:
        """Measure the darkest and brightest level of each place."""
        height, width = fixed.shape
        factor = min(1.0, _LONGEST / max(height, width))
        self.size = max(2, round(width * factor)), max(2, round(height * factor))
        lumas = [self.luma(picture) for picture in pictures]
        low, high = np.min(lumas, 0), np.max(lumas, 0)
        small = cv2.resize(fixed, self.size, interpolation=cv2.INTER_AREA)
        around = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
        inner = cv2.erode((small > 0.99).astype(np.uint8), around) > 0
        outer = cv2.dilate((small > 0.01).astype(np.uint8), around) > 0
        self.known = bool(inner.any() and not outer.all())
        if not self.known:
            return
        middle = (low + high) / 2
        sky = float(np.quantile(low[~outer], 0.02))
        dark = inner & (middle < sky - _CLEAR)
        self.known = bool(dark.mean() > 0.002)
        if not self.known:
            return
        ground = float(np.median(middle[dark]))
        self.dark = dark
        self.most = high + _CHANGED
        self.sky = ~outer
        self.least = np.minimum(
            cv2.erode(low, np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8)) - _CHANGED,
            ground + _DARK * (sky - ground),
        )

    def measure(self, picture: Small) -> float | None:
        """Return the percentage of the picture with faults; None without silhouettes."""
        if not self.known:
            return None
        lost, grown = self.faults(picture)
        return 100 * float((lost | grown).mean())

    def faults(self, picture: Small) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the dark places that are lost, and the dark shapes in the sky: (h, w) each.

        The clip must have silhouettes: ``known`` is true.
        """
        luma = self.luma(picture)
        kernel = np.ones((_SPECKS, _SPECKS), np.uint8)
        lost, grown = self.dark & (luma > self.most), self.sky & (luma < self.least)
        shapes = cv2.morphologyEx((lost | grown).astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
        return lost & shapes, grown & shapes

    def luma(self, picture: Small) -> Array:
        """Return the luma of a picture at the size of comparison: (h, w) in levels."""
        small = cv2.resize(grey(picture), self.size, interpolation=cv2.INTER_AREA)
        luma: Array = small.astype(np.float32)
        return luma
