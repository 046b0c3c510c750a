"""Compute the mean of flows, and the parts where nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.pictures import LONGEST_SIDE

_Floats = NDArray[np.float32]

_SLOW = 0.15  # pixels of the small picture per frame, below which a part stands still
_SLOW_SHARE = 0.01  # fraction of the picture; smaller regions count as moving
_SLOW_BLUR = 4.0  # pixels of the small picture


def mean_flow(flows: Sequence[_Floats], shares: Sequence[Tensor | None]) -> _Floats:
    """Return the mean of fields (h, w, C), weighted by shares (h, w); a share of None is 1.

    The mean is zero where all weights are.
    """
    total: Any = np.zeros_like(flows[0])
    weight: Any = np.full((*flows[0].shape[:2], 1), 1e-6, np.float32)
    for flow, share in zip(flows, shares, strict=True):
        known = np.float32(1) if share is None else share.cpu().numpy()[..., None]
        total += known * flow
        weight += known
    mean: _Floats = total / weight
    return mean


def slow_parts(flows: Sequence[_Floats], shares: Sequence[Tensor | None]) -> _Floats:
    """Return where nothing moves in any of the flows (h, w, 2): (h, w) float32, 0 or 1.

    Speed is averaged over time and blurred; only connected regions of at least 1 % of the picture
    count. ``shares``: weights of the flows, as for :func:`mean_flow`.
    """
    height, width = flows[0].shape[:2]
    speed: Any = mean_flow([np.hypot(flow[..., :1], flow[..., 1:]) for flow in flows], shares)[
        ..., 0
    ]
    speed = cv2.GaussianBlur(speed, (0, 0), _SLOW_BLUR * max(height, width) / LONGEST_SIDE + 0.5)
    slow = (speed < _SLOW).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(slow)
    large = stats[:, cv2.CC_STAT_AREA] >= _SLOW_SHARE * height * width
    large[0] = False
    kept: _Floats = large[labels].astype(np.float32)
    return kept
