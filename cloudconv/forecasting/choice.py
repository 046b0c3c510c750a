"""Judge forecasts of known frames as a viewer does."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.forecasting.camera import cameras_of, transform
from cloudconv.images import (
    MIDDLE_SIDE,
    TINY,
    Floats,
    Motion,
    grid_of,
    measured_flow,
    reduced,
    sample,
    smooth,
)
from cloudconv.metrics import luma

HELD = 0.6
"""The largest fault of a frame that still looks right; chosen by eye."""
STANDS = 0.25
"""The part of the motion that a forecast may lack at its start; chosen by eye."""

_CHANGED = 6.0  # difference of luma at a place that moves, of 255
_REGION = 9  # regions in a width; a thing fills about one
_NOISE = 4.0  # energy of the finest band that counts as none, in squares of luma
_OCTAVES = 3.0  # difference of the finest band's energy that counts as a whole fault
_AWAY = 0.15  # displacement that counts as a whole fault, in widths
_STILL = 1 / 3  # part of the filmed change, below which a region stands


def fault(forecast: Tensor, true: Tensor, last: Tensor) -> float:
    """Return how wrong the worst thing of a forecast looks: 0 is as filmed, 1 is all wrong.

    A whole thing that is a few pixels off is a small fault. A thing that is blurred,
    transparent, doubled or torn is a large one, although its PSNR may be higher. So the
    forecast is first aligned with the true frame by optical flow. Then two differences
    count alike at places that move: those of structure (SSIM's second term), and of the
    energy of the finest band. A place that is far off counts more than these.

    Args:
        forecast: the forecast, (3, h, w) RGB on the CPU.
        true: the true frame; the last one if none is known, for what that does not show.
        last: the last frame before the forecast.
    """
    one, two, before = (_luma(picture) for picture in (forecast, true, last))
    wrong, flow = _wrongness(one, two)
    away = np.linalg.norm(flow, axis=-1) / (_AWAY * two.shape[1]) * (true is not last)
    moving = _moving(one, two, before)
    return float(_regions(np.where(moving, np.maximum(wrong, away.clip(0, 1)), 0)).max())


def camera_motion(pictures: Sequence[Tensor]) -> Motion:
    """Return the camera's motion of one step back, from some pictures, oldest first."""
    greys = [_luma(picture).astype(np.uint8) for picture in pictures]
    flows = [measured_flow(later, before) for before, later in pairwise(greys)]
    cameras = cameras_of(greys, flows)
    return np.asarray(np.mean(cameras or [np.eye(3)], 0), float)


def comes_in(
    forecast: Tensor, true: Tensor, last: Tensor, camera: Motion, step: int
) -> float:
    """Return how wrong the part of a forecast looks that comes in from outside, 0 to 1.

    The forecast invents this part, often as the mirror image of the picture. Text looks
    wrong as soon as it comes in, although the strip is small. ``camera``: the
    :func:`camera_motion`, which goes on for ``step`` frames to the ``true`` one.
    """
    one, two, before = (_luma(picture) for picture in (forecast, true, last))
    at = transform(np.linalg.matrix_power(camera, step), grid_of(two.shape))
    outside = ((at < 0) | (at > np.array(two.shape[::-1]) - 1)).any(-1)
    moving = outside & _moving(one, two, before)
    return float(_wrongness(one, two)[0][moving].mean()) if moving.any() else 0.0


def stands(forecast: Tensor, last: Tensor, before: Tensor) -> float:
    """Return the part of the motion, 0 to 1, that is missing from the start of a forecast.

    A region stands if it changes much less from the last frame to the forecast than it did
    from the frame ``before`` to the ``last`` one. Regions count by the energy of their
    motion.
    """
    one, two, three = (_luma(picture) for picture in (forecast, last, before))
    change = _regions(_change(one, two))
    filmed = _regions(_change(two, three))
    lost = (filmed - change / _STILL).clip(0)
    return float((lost * filmed).sum() / max(np.square(filmed).sum(), _NOISE))


def lasts(last: Tensor, before: Tensor) -> float:
    """Return the number of frames in which the motion to the ``last`` one tears a thing.

    Parts that move apart tear: a region is torn when it is stretched by its own size.
    """
    one, two = (reduced(_luma(picture), MIDDLE_SIDE) for picture in (last, before))
    flow = measured_flow(one.astype(np.uint8), two.astype(np.uint8))
    stretch: Floats = np.abs(np.gradient(flow, axis=(0, 1))).sum((0, -1))
    return 1 / max(float(_regions(stretch).max()), TINY)


def _luma(picture: Tensor) -> Floats:
    return luma(picture.float().clamp(0, 1)).mul(255).round().numpy()


def _moving(one: Floats, two: Floats, before: Floats) -> NDArray[np.bool_]:
    """Return where a forecast or the true frame differs from the frame before."""
    return np.maximum(_change(one, before), _change(two, before)) > _CHANGED


def _wrongness(one: Floats, two: Floats) -> tuple[Floats, Floats]:
    """Return how wrong each pixel of a forecast looks, and the flow from the true one."""
    flow = measured_flow(two.astype(np.uint8), one.astype(np.uint8), quick=True)
    at = grid_of(two.shape) + flow
    aligned, detail = (sample(x, at, how=cv2.INTER_LINEAR) for x in (one, _fine(one)))
    octaves = np.abs(np.log2((detail + _NOISE) / (_fine(two) + _NOISE))) / _OCTAVES
    wrong: Floats = ((1 - _structure(aligned, two)).clip(0, 1) + octaves.clip(0, 1)) / 2
    return wrong, flow


def _change(one: Floats, two: Floats) -> Floats:
    return smooth(cv2.absdiff(one, two), 2)


def _regions(values: Floats) -> Floats:
    """Return the mean of the region around each pixel."""
    side = max(3, values.shape[1] // _REGION)
    return cv2.blur(values, (side, side))


def _fine(picture: Floats) -> Floats:
    """Return the energy of the finest band around each pixel."""
    return smooth(np.square(picture - smooth(picture, 1)), 4)


def _structure(one: Floats, two: Floats) -> Floats:
    """Return the similarity of contrast and structure around each pixel, at most 1."""
    mean, other = smooth(one, 2.5), smooth(two, 2.5)
    variances = smooth(one * one + two * two, 2.5) - mean * mean - other * other
    shared = 2 * (smooth(one * two, 2.5) - mean * other)
    # A change that counts as none is no contrast, either.
    least = _CHANGED**2
    similar: Floats = (shared + least) / (variances + least)
    return similar
