"""Measure the motion of the camera between neighbouring frames.

Source: RANSAC, Fischler and Bolles 1981, on optical flow, in OpenCV's versions.
"""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from cloudconv.images import Bytes, Floats, Motion, grid_of, smooth, transformed

_FIT = 0.7  # largest error of a place of the background, in pixels
_GRID = 20  # places in the shorter side whose flow is read, at least
_STANDS = 0.9  # part of the change that is left if the camera stands, at least


def cameras_of(greys: Sequence[Bytes], flows: Sequence[Floats]) -> list[Motion]:
    """Return the camera's motion from each frame to the one before, oldest first.

    The result is empty if that explains little of what changes: then the camera stands.

    Args:
        greys: (h, w), oldest first.
        flows: the backward flow of each frame but the first, (h, w, 2).
    """
    motions = [_most(flow) for flow in flows]
    change = explained = 0.0
    for (before, grey), motion in zip(pairwise(greys), motions, strict=True):
        change += float(changed(before, grey).mean())
        explained += float(changed(transformed(before, motion), grey).mean())
    return motions if explained < _STANDS * change else []


def changed(one: Bytes, two: Bytes) -> Floats:
    """Return the difference of two pictures, (h, w), without that of all places alike.

    A level of 10 and more counts as 10.
    """
    difference = cv2.subtract(one, two, dtype=cv2.CV_32F)
    change: Floats = smooth(np.abs(difference - np.median(difference)), 2).clip(0, 10)
    return change


def transform(motion: Motion, points: Floats) -> Floats:
    """Move (…, 2) positions by a motion."""
    return points @ motion[:2, :2].T.astype(np.float32) + motion[:2, 2].astype(np.float32)


def _most(flow: Floats) -> Motion:
    """Return the affine map that most places of a flow follow."""
    step = max(1, min(flow.shape[:2]) // _GRID)
    start, way = (
        values[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
        for values in (grid_of(flow.shape), flow)
    )
    affine, _ = cv2.estimateAffine2D(start, start + way, ransacReprojThreshold=_FIT)
    return np.eye(3) if affine is None else np.vstack([affine, [0, 0, 1]])
