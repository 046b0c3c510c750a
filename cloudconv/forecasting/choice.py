"""Judge forecasts of known frames as a viewer does."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import Bytes, Floats, grid_of, sampled_at
from cloudconv.metrics import luma

HELD = 0.35
"""The largest fault of a frame that still looks right; chosen by eye."""

_SHAPE, _DETAIL, _PLACE = 0.5, 0.3, 0.4  # parts of the fault
_CHANGED = 6.0  # difference of luma at a place that moves, of 255
_LEAST_AREA = 1e-3  # part of the picture; less motion counts as a part of this
_LEAST_SIDE = 32
_REGION, _WORST = 20, 1 / 3  # regions in a width; share of the worst one
_NOISE = 4.0  # energy of the finest band that counts as none, in squares of luma
_CONTRAST = 60.0  # variance of luma that counts as none
_OCTAVES = 3.0  # difference of the finest band's energy that counts as a whole fault
_AWAY = 0.1  # displacement that counts as a whole fault, in widths


def fault(made: Tensor, true: Tensor, last: Tensor) -> float:
    """Return how wrong a forecast looks: 0 is as filmed, above 1 is all wrong where anything moves.

    A whole thing that is a few pixels off is a small fault. A thing that is blurred, transparent,
    doubled or torn is a large one, although its PSNR may be higher. So the forecast is first
    aligned with the true frame by optical flow. Then three differences count at places that move:
    those of structure (SSIM's second term), of the energy of the finest band, and of place. The
    fault is the mean of these places, and to a third the mean of the worst region: a viewer looks
    at the thing that is torn.

    Args:
        made: the forecast, (3, h, w) RGB on the CPU.
        true: the true frame.
        last: the last frame before the forecast.
    """
    shown, filmed, before = (_bytes(picture) for picture in (made, true, last))
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = method.calc(filmed, shown, None)
    one, two = shown.astype(np.float32), filmed.astype(np.float32)
    changes = [cv2.absdiff(picture, before.astype(np.float32)) for picture in (one, two)]
    moving = np.max([_blurred(change, 2) for change in changes], 0) > _CHANGED
    at = grid_of(filmed.shape) + flow
    aligned, detail = sampled_at(one, at), sampled_at(_fine(one), at)
    shape = 1 - _structure(aligned, two)
    octaves = np.abs(np.log2((detail + _NOISE) / (_fine(two) + _NOISE))) / _OCTAVES
    place = np.linalg.norm(flow, axis=-1) / (_AWAY * filmed.shape[1])
    parts = ((_SHAPE, shape), (_DETAIL, octaves), (_PLACE, place))
    faults = np.sum([share * part.clip(0, 1) for share, part in parts], 0)
    area = max(float(moving.sum()), _LEAST_AREA * moving.size)
    wrong = np.where(moving, faults, 0)
    side = max(3, wrong.shape[1] // _REGION)
    worst = cv2.boxFilter(wrong, -1, (side, side)).max()
    return float((1 - _WORST) * wrong.sum() / area + _WORST * worst)


def _bytes(picture: Tensor) -> Bytes:
    grey: Bytes = luma(picture.float().clamp(0, 1)).mul(255).round().to(torch.uint8).numpy()
    missing = [(0, max(_LEAST_SIDE - side, 0)) for side in grey.shape]  # for the optical flow
    return np.pad(grey, missing, mode="edge")


def _blurred(values: Floats, sigma: float) -> Floats:
    blurred: Floats = cv2.GaussianBlur(values, (0, 0), sigma)
    return blurred


def _fine(picture: Floats) -> Floats:
    """Return the energy of the finest band around each pixel."""
    return _blurred(np.square(picture - _blurred(picture, 1)), 4)


def _structure(one: Floats, two: Floats) -> Floats:
    """Return the similarity of contrast and structure around each pixel, at most 1."""
    mean, other = _blurred(one, 2.5), _blurred(two, 2.5)
    variances = _blurred(one * one + two * two, 2.5) - mean * mean - other * other
    shared = 2 * (_blurred(one * two, 2.5) - mean * other)
    similar: Floats = (shared + _CONTRAST) / (variances + _CONTRAST)
    return similar
