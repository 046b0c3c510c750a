"""Find a slow motion of the camera over land."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.land import Mask, land_of
from cloudconv.dreaming.pictures import grey

_Bytes = NDArray[np.uint8]
_Path = NDArray[np.float64]

_LOW = 0.25  # part of the picture, from below, whose motion is that of the camera if it is land
_DETAIL = 8.0  # sigma of the blur that removes changes of light, in pixels
_LEAST, _MOST = 2.0, 0.4  # travel: least sideways and most upwards in pixels, most in widths
_ACROSS = 0.9  # least part of the lower edge that land covers, for the land to show the camera
_ROUNDS = 2  # comparisons of all frames with their median


def view_of(pictures: Sequence[_Bytes]) -> tuple[Mask, _Path | None, bool]:
    """Return the land as in the last picture, the path of a slow pan, and whether it is no pan.

    The lower quarter of the pictures shows the camera's motion if the quarter is land. Land is
    found only in pictures that are aligned correctly, so a drift of clouds is not mistaken for a
    pan. Source of the alignment: phase correlation, Kuglin and Hines 1975, in OpenCV's version.

    Args:
        pictures: frames from all over the clip, (h, w, 3) uint8 each.

    Returns:
        The land, (h, w) bool; the shift (dx, dy) from each picture to the last view, (n, 2) in
        pixels, or None; and whether the camera moves too far or upwards, so that there is no path.
    """
    land = land_of(pictures)
    path = _path(pictures)
    across, upwards = np.abs(path).max(0)
    if max(across, upwards) < _LEAST:
        return land, None, False
    steady = land_of(*_from_last_view(pictures, path))
    if steady[-1].mean() < _ACROSS:
        return land, None, False
    if across > _MOST * land.shape[1] or upwards > _LEAST:
        return land, None, True
    return steady, path, False


def _path(pictures: Sequence[_Bytes]) -> _Path:
    """Return the shift from each picture to the last view, by the motion of the lower part."""
    parts = [_low(one) for one in pictures]
    window = cv2.createHanningWindow(parts[0].shape[::-1], cv2.CV_32F)
    steps = [cv2.phaseCorrelate(one, two, window)[0] for one, two in itertools.pairwise(parts)]
    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    path: _Path = travelled[-1] - travelled
    for _ in range(_ROUNDS):
        # Small errors of the steps add up, so each frame is compared with all.
        aligned = [shifted(one, shift) for one, shift in zip(parts, path, strict=True)]
        usual = np.median(aligned, 0)
        path += [cv2.phaseCorrelate(one, usual, window)[0] for one in aligned]
        path -= path[-1]
    return path


def _low(picture: _Bytes) -> Any:
    luma = grey(picture).astype(np.float32)
    detail = luma - cv2.GaussianBlur(luma, (0, 0), _DETAIL)
    # OpenCV's phase correlation is wrong by half a pixel along odd sides.
    rows, columns = (max(1, round(side / 2)) for side in (_LOW * detail.shape[0], detail.shape[1]))
    return np.ascontiguousarray(detail[-2 * rows :, : 2 * columns - detail.shape[1] % 2])


def shifted(values: Any, shift: Any) -> Any:
    """Return (h, w) or (h, w, channels) moved by (dx, dy) pixels, with mirrored edges."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    size = values.shape[1::-1]
    return cv2.warpAffine(
        values, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def _from_last_view(pictures: Sequence[_Bytes], path: _Path) -> tuple[list[_Bytes], Mask]:
    """Return the pictures as from the last view, and the columns that most of them show, (w,).

    A later picture fills the unknown part of a picture.
    """
    made: list[_Bytes] = [pictures[-1]]
    shown = np.zeros(pictures[0].shape[1])
    for picture, shift in zip(pictures[-2::-1], path[-2::-1], strict=True):
        view = shifted(picture, shift)
        x, y = (round(float(axis)) for axis in shift)
        beyond = slice(0, x) if x > 0 else slice(view.shape[1] + x, None)
        above = slice(0, y) if y > 0 else slice(view.shape[0] + y, None)
        view[:, beyond] = made[-1][:, beyond]
        view[above] = made[-1][above]
        shown += 1
        shown[beyond] -= 1
        made.append(view)
    return made, shown > len(pictures) / 2
