"""Collect what is behind the things of the last frame from the frames before."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.camera import Bytes, Camera, Floats, sampled
from cloudconv.forecasting.regions import Mask, Thing, in_past

_RIM = 7  # pixels by which the outline of a thing is widened
_PASSED = 9  # the same for outlines in earlier frames, which are less certain
_LATEST = 5  # frames of the median
_FEWEST, _UNSURE = 3, 12.0  # frames that agree, and their usual difference, of 255
_NEAREST = 2  # steps before the last frame, from which a frame can show more
_LIGHT, _LITTLE = 0.02, 1e-3  # sigma of the light, as a part of the longest side; a small weight
_REACH = 5.0  # radius of the inpainting, in pixels


def plate_of(
    pictures: Sequence[Bytes], behind: Mask, camera: Camera, things: Sequence[Thing]
) -> Bytes:
    """Return the last frame without its things: (H, W, 3).

    A pixel behind a thing is the median of the latest frames that show the background there. Where
    none does, the surroundings are continued (Telea 2004, in OpenCV's version).

    Args:
        pictures: (H, W, 3) RGB, the last frame first.
        behind: where the things are, (H, W), 0 or 1.
        camera: the motion of the background, in pictures of the size of the things' masks.
        things: the things to remove.
    """
    plate, small = pictures[0].copy(), things[0].mask
    hidden = _widened(behind, _RIM)
    rows, columns = np.nonzero(hidden)
    height, width = (small.shape[axis] / behind.shape[axis] for axis in (0, 1))
    at = (rows * height).astype(np.intp), (columns * width).astype(np.intp)
    scale = np.diag([width, height, 1.0])
    colours = np.full((_LATEST, len(rows), 3), np.inf, np.float32)
    count = np.zeros(len(rows), np.intp)
    for steps in range(_NEAREST, len(pictures)):
        there = np.bitwise_or.reduce([in_past(thing, camera, steps) for thing in things])
        inside = sampled(np.ones_like(small), camera.back[steps], outside=cv2.BORDER_CONSTANT)
        free = (inside > 0) & (_widened(there, round(_PASSED * width) | 1) == 0)
        new = np.nonzero(free[at] & (count < _LATEST))[0]
        shown = sampled(pictures[steps], np.linalg.inv(scale) @ camera.back[steps] @ scale)
        colours[count[new], new] = shown[rows[new], columns[new]]
        count[new] += 1
    median = _median(colours, count)
    unlike = _median(np.abs(colours - median).max(-1), count)
    known = (count >= min(_FEWEST, len(pictures) - _NEAREST)) & (unlike < _UNSURE)
    bare = plate.astype(np.float32)
    bare[rows[known], columns[known]] = median[known]
    plate = _lit(bare, pictures[0], hidden - behind, hidden)
    unseen = np.zeros_like(behind)
    unseen[rows[~known], columns[~known]] = 1
    if unseen.any():
        plate = cv2.inpaint(plate, unseen, _REACH, cv2.INPAINT_TELEA).astype(np.uint8)
    soft = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 2)[..., None]
    soft = np.where(behind[..., None] > 0, 1, soft)
    mixed: Bytes = (plate * soft + pictures[0] * (1 - soft)).round().astype(np.uint8)
    return mixed


def _median(values: Floats, count: NDArray[np.intp]) -> Floats:
    """Return the median along the first axis of so many values that are not infinite."""
    ordered = np.sort(values, 0)
    middle: Floats = ordered[np.maximum(count - 1, 0) // 2, np.arange(len(count))]
    middle[count == 0] = 0
    return middle


def _lit(plate: Floats, last: Bytes, rim: Mask, hidden: Mask) -> Bytes:
    """Return the plate with the light of the last frame, which differs if the exposure changes."""
    weights = rim.astype(np.float32)[..., None]
    both = np.concatenate([(last - plate) * weights, weights], -1)
    near = cv2.GaussianBlur(both, (0, 0), _LIGHT * max(last.shape))
    lighter = near[..., :3] / (near[..., 3:] + _LITTLE)
    lit: Bytes = (plate + lighter * hidden[..., None]).clip(0, 255).round().astype(np.uint8)
    return lit


def _widened(mask: Mask, side: int) -> Mask:
    wide: Mask = cv2.dilate(mask, np.ones((side, side), np.uint8)).astype(np.uint8)
    return wide
