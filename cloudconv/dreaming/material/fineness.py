"""Measure how fine the structure of a clip's moving parts is."""

from __future__ import annotations

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import grey

SOFT = 0.48
"""Largest fineness of clouds; see :func:`fineness`."""

_SAMPLES, _WIDE = 6, 320  # frames that are measured, and their longest side


def fineness(material: Material) -> float:
    """Return the mean finest detail of the moving parts, relative to their mean gradient.

    The pictures are reduced to at most 320 pixels. Clouds have equal detail at any scale. Edges of
    things, foam, leaves and ripples have more of the finest detail.
    """
    found = []
    for k in np.unique(np.linspace(0, len(material) - 1, _SAMPLES).round().astype(int)):
        luma = grey(material.glance(int(k)))
        factor = min(1.0, _WIDE / max(luma.shape))
        size = max(1, round(luma.shape[1] * factor)), max(1, round(luma.shape[0] * factor))
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        slope = cv2.magnitude(*(cv2.Sobel(small, -1, *way) / 8 for way in ((1, 0), (0, 1))))
        fine = np.abs(small - cv2.GaussianBlur(small, (0, 0), max(max(size) / _WIDE, 0.3)))
        moves = cv2.resize(material.static, size, interpolation=cv2.INTER_AREA) < 0.5
        where = moves if moves.any() else np.ones_like(moves)
        found.append(float(fine[where].mean()) / max(float(slope[where].mean()), 0.1))
    return float(np.mean(found))
