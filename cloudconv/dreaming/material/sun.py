"""Find the sun of a clip: one bright disc that stays in its place while clouds pass."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import grey

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_WIDE = 160  # longest side of the pictures that are searched, in pixels
_STEADY = 0.1  # quantile over time: the sun is nearly always as bright
_BRIGHT = 238.0  # least level of the sun; the steady parts of clouds reach 233
_NEAR = 14.0  # levels below the brightest place that belong to the sun
_ONE = 0.7  # least share of these places that lies in one disc
_MOST = 0.15  # of the picture: a larger disc, the sun in haze included, is a cloud
_ROUND = 0.3  # least share of the circle around the disc that it fills
_DARKER = 12.0  # levels by which the sky around is darker at least
_GLOW = 8.0  # pixels around the disc, at most its radius, whose glow belongs to the sun


def sun_of(pictures: Sequence[_Bytes]) -> _Floats:
    """Return 1 at the sun and its glow, else 0: (h, w) float32.

    Args:
        pictures: frames from all over the clip, (h, w, 3) uint8 each.
    """
    height, width = pictures[0].shape[:2]
    nothing = np.zeros((height, width), np.float32)
    factor = min(1.0, _WIDE / max(height, width))
    size = max(2, round(width * factor)), max(2, round(height * factor))
    lumas = [cv2.resize(grey(one), size, interpolation=cv2.INTER_AREA) for one in pictures]
    steady = cv2.GaussianBlur(
        np.quantile(np.stack(lumas), _STEADY, axis=0).astype(np.float32), (0, 0), 1.0
    )
    peak = float(steady.max())
    if peak < _BRIGHT:
        return nothing
    bright = (steady > peak - _NEAR).astype(np.uint8)
    _, labels, stats, centres = cv2.connectedComponentsWithStats(bright)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    area = int(stats[largest, cv2.CC_STAT_AREA])
    if area < _ONE * bright.sum() or area > _MOST * bright.size:
        return nothing
    rows, columns = np.indices(bright.shape)
    away = np.hypot(columns - centres[largest][0], rows - centres[largest][1])
    radius = max(1.5, float(np.quantile(away[labels == largest], 0.95)))
    reach = radius + min(radius, _GLOW)
    around = (away > reach) & (away < reach + _GLOW)
    if area < _ROUND * np.pi * radius**2 or not around.any():
        return nothing
    if peak - float(np.median(steady[around])) < _DARKER:
        return nothing
    glow = (away < reach).astype(np.float32)
    found: _Floats = cv2.resize(glow, (width, height), interpolation=cv2.INTER_LINEAR)
    return found
