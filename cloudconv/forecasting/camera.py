"""Measure the camera's motion over the last frames, and continue it.

Sources: points by Shi and Tomasi 1994, followed by Lucas and Kanade's pyramids (Bouguet
2001); RANSAC, Fischler and Bolles 1981; all in OpenCV's versions. A motion is an affine map
in pixels. The mean of several motions is that of their logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.images import Bytes, Floats, Motion

_POINTS = 600  # points to follow
_NEAREST = 80  # the width over the least distance between points
_FIT = 1.0  # largest error of a point, by the camera's motion or there and back, in pixels
_SPREAD = 0.3  # least part of the picture that points on the background span
# Pixels per frame at the corner that moves most, below which the camera stands.
_STILL = 0.12
MEASURED = 4
"""The number of steps whose mean motion continues."""
SLOW = 0.35
"""The difference of two velocities, in pixels a frame, below which both are equal."""
LITTLE = 1e-3
"""A weight or a change that counts as none."""


@dataclass(frozen=True, slots=True)
class Camera:
    """The motion of the background.

    ``back`` has for each number of steps the motion from the last frame to the frame that
    many steps before; the first is no motion. ``velocity`` is the logarithm of the motion
    of one step back.
    """

    back: tuple[Motion, ...]
    velocity: Motion

    def extended(self, greys: Sequence[Bytes]) -> Camera:
        """Return the camera with its motion to all of ``greys``; see :func:`camera_of`."""
        count = len(self.back) - 1
        steps = _steps(greys[count:])
        return replace(self, back=self.back[:count] + _chained(steps, self.back[count]))


def camera_of(greys: Sequence[Bytes]) -> Camera:
    """Return the camera's motion over some frames, from which it continues.

    ``greys`` are (h, w) uint8, the last frame first.
    """
    size = greys[0].shape
    steps = _steps(greys[: MEASURED + 1])
    velocity = np.mean([logarithm(motion, size) for motion in steps], 0)
    if travelled(after(velocity, 1, size), size) < _STILL:
        velocity = np.zeros((3, 3))
    return Camera(_chained(steps, np.eye(3)), velocity)


def _chained(steps: Sequence[Motion], start: Motion) -> tuple[Motion, ...]:
    return tuple(accumulate(steps, lambda done, step: step @ done, initial=start))


def _steps(greys: Sequence[Bytes]) -> list[Motion]:
    return [step_between(later, earlier) for later, earlier in pairwise(greys)]


def step_between(later: Bytes, earlier: Bytes) -> Motion:
    """Return the motion of the background from ``later`` to ``earlier``."""
    still = np.eye(3)
    height, width = later.shape
    points = cv2.goodFeaturesToTrack(later, _POINTS, 0.002, max(5, width // _NEAREST))
    if points is None:
        return still
    places, ok = _followed(later, earlier, points)
    start = points[ok, 0]
    places = places[ok, 0]
    if len(start) < 3:  # an affine map needs three
        return still
    affine, fits = cv2.estimateAffine2D(
        start, places, ransacReprojThreshold=_FIT, maxIters=2000, confidence=0.999
    )
    if affine is None:
        return still
    spread = cv2.contourArea(cv2.convexHull(start[fits[:, 0] > 0])) / (height * width)
    if spread < _SPREAD:  # these points are on a thing
        return still
    return np.vstack([affine, [0, 0, 1]])


def _followed(
    later: Bytes, earlier: Bytes, points: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    window = {"winSize": (21, 21), "maxLevel": 4}
    followed, one, _ = cv2.calcOpticalFlowPyrLK(later, earlier, points, None, **window)
    again, two, _ = cv2.calcOpticalFlowPyrLK(earlier, later, followed, None, **window)
    near = np.linalg.norm((points - again)[:, 0], axis=1) < _FIT
    return followed, near & (one[:, 0] > 0) & (two[:, 0] > 0)


def transform(motion: Motion, points: Floats) -> Floats:
    """Move (…, 2) positions by a motion."""
    return points @ motion[:2, :2].T.astype(np.float32) + motion[:2, 2].astype(np.float32)


def travelled(motion: Motion, size: Sequence[int]) -> float:
    """Return the way of the corner of a picture of ``size``, (h, w), that moves most."""
    height, width = size
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float32)
    return float(np.abs(transform(motion, corners) - corners).max())


def scaled(motion: Motion, scale: float) -> Motion:
    """Return a motion in the pixels of pictures that are larger by a factor."""
    full = np.diag([scale, scale, 1])
    full[:2, 2] = (scale - 1) / 2
    return full @ motion @ np.linalg.inv(full)


def logarithm(motion: Motion, size: Sequence[int]) -> Motion:
    """Return the logarithm of a motion in a picture of ``size``, (h, w), by its series.

    For a motion that turns or enlarges so much that the series does not converge, return
    zeros.
    """
    unit = np.diag([2 / size[1], 2 / size[1], 1.0])
    rest = unit @ motion @ np.linalg.inv(unit) - np.eye(3)
    total = np.zeros((3, 3))
    power = rest
    term = 1
    converges = np.abs(np.linalg.eigvals(rest)).max() < 1
    while converges and np.abs(power).max() > np.finfo(float).eps:
        total += power / term * (1 if term % 2 else -1)
        power = power @ rest
        term += 1
    return total


def after(velocity: Motion, steps: float, size: Sequence[int]) -> Motion:
    """Return the motion of ``steps`` times a velocity of :func:`logarithm`."""
    unit = np.diag([2 / size[1], 2 / size[1], 1.0])
    total = torch.linalg.matrix_exp(torch.from_numpy(velocity * steps)).numpy()
    whole: Motion = np.linalg.inv(unit) @ total @ unit
    return whole
