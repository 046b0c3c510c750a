"""Measure the features of each small picture of a dream, and of the clip before the dream.

Features are measured on luma in levels from 0 to 255. The pictures are copies whose longest side is
at most 480. Only the moving parts of the source are measured.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import TINY, gradients

Array = NDArray[np.float32]
Small = NDArray[np.uint8]

SLACK = 1.5
"""The factor, or exponent, by which a limit exceeds the values of parts of the clip, which are
compared with the rest: real footage is within."""

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

_NEIGHBOURHOOD = 1 / 96  # sigma of the area in which gradients are compared, of the longest side


class FeatureMeter:
    """The state in which the features of the moving parts of successive pictures are measured."""

    def __init__(self, moving: NDArray[np.bool_]) -> None:
        """Prepare for pictures of the size of ``moving``, (h, w) bool."""
        self._weights = moving.astype(np.uint8)
        height, width = moving.shape
        self._reach = max(1.0, _NEIGHBOURHOOD / 2 * max(height, width))
        half = ((width + 1) // 2, (height + 1) // 2)
        self._half = cv2.resize(self._weights, half, interpolation=cv2.INTER_NEAREST)
        self._before: Array | None = None

    def measure(self, picture: Small) -> dict[str, float | None]:
        """Return the features of the moving parts of the next picture, (h, w, 3) uint8.

        ``sharpness``: mean gradient, in levels per pixel. ``mean``, ``std``: of the luma, in
        levels. ``saturation``: mean range of the colour channels, in levels. ``anisotropy``:
        agreement of neighbouring gradients, from 0 to 1. ``change``: mean absolute difference from
        the picture before, in levels; None for the first picture.
        """
        luma = _luma(picture)
        x, y = gradients(luma)
        mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(luma, mask=self._weights))
        change = None
        if self._before is not None:
            change = _masked_mean(cv2.absdiff(luma, self._before), self._weights)
        self._before = luma
        red, green, blue = cv2.split(picture)
        high, low = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
        return {
            "sharpness": _masked_mean(cv2.magnitude(x, y), self._weights),
            "mean": mean,
            "std": std,
            "saturation": _masked_mean(high - low, self._weights),
            "anisotropy": self._anisotropy(x, y),
            "change": change,
        }

    def _anisotropy(self, x: Array, y: Array) -> float:
        """Return the agreement of neighbouring gradients, weighted by their root mean square."""
        # Half the size is fine enough for sums over neighbourhoods.
        products = [cv2.pyrDown(v) for v in (x * x, y * y, x * y)]
        xx, yy, xy = (cv2.GaussianBlur(v, (0, 0), self._reach) for v in products)
        weight = cv2.sqrt(xx + yy + TINY)
        agreeing = cv2.magnitude(xx - yy, 2 * xy) / weight
        total = _masked_mean(weight, self._half)
        return _masked_mean(agreeing, self._half) / total if total else 0.0


def _luma(picture: Small) -> Array:
    luma: Array = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return luma


def _masked_mean(values: NDArray[np.float32] | Small, mask: Small) -> float:
    return float(cv2.mean(values, mask)[0])
