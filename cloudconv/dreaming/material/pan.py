"""Find a slow motion of the camera over land."""

import itertools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.land import land_of, like_land
from cloudconv.images import (
    Bytes,
    Floats,
    Mask,
    luma,
    shift_between,
    smooth,
    translate,
)

_Path = NDArray[np.float64]

# Part of the picture, from below, whose motion is that of the camera if it is land.
_LOW = 0.25
_DETAIL = 8.0  # sigma of the blur that removes changes of light, in pixels
# Travel of a pan: the least sideways and the most upwards in pixels, the most in widths.
_LEAST, _MOST = 2.0, 0.4
# Least part of the lower edge that land covers, for the land to show the camera.
_ACROSS = 0.9
_ROUNDS = 2  # comparisons of all frames with their median


def view_of(pictures: Sequence[Bytes]) -> tuple[Mask, _Path | None]:
    """Return the last picture's land, (h, w) bool, and the path of a slow, level pan.

    The path is the shift (dx, dy) from each picture to the last view, (n, 2) in pixels, or
    None. The lower quarter of the pictures shows the camera's motion if the quarter is
    land. Land is found only in pictures that are aligned correctly, so a drift of clouds is
    not mistaken for a pan. Source of the alignment: phase correlation, Kuglin and Hines
    1975, in OpenCV's version.

    Args:
        pictures: frames from all over the clip, (h, w, 3) uint8 each.
    """
    path = _path(pictures)
    across, upwards = np.abs(path).max(0)
    if _LEAST <= across <= _MOST * pictures[0].shape[1] and upwards <= _LEAST:
        steady = land_of(_as_from_last(pictures, path))
        # Columns that the first frames do not show stand still for long, and so does their
        # sky.
        late = ~_known_columns(path[0], steady.shape[1])
        steady[:, late] &= like_land(steady, pictures[-1], ~late)[:, late]
        if steady[-1].mean() >= _ACROSS:
            return steady, path
    return land_of(pictures), None


def _as_from_last(pictures: Sequence[Bytes], path: _Path) -> list[Bytes]:
    """Return pictures as from the last view; columns not seen yet are those seen next."""
    views = [pictures[-1]]
    for one, shift in zip(pictures[-2::-1], path[-2::-1], strict=True):
        view = translate(one, shift, cv2.BORDER_REFLECT_101)
        views.append(
            np.where(_known_columns(shift, view.shape[1])[:, None], view, views[-1])
        )
    return views[::-1]


def _known_columns(shift: Any, width: int) -> Mask:
    """Return which columns of the last view a shifted picture shows: (w,)."""
    columns = np.arange(width) - shift[0]
    known: Mask = (columns >= 0) & (columns <= width - 1)
    return known


def _path(pictures: Sequence[Bytes]) -> _Path:
    """Return shifts from pictures to the last view, by the motion of the lower part."""
    parts = [_low(one) for one in pictures]
    steps = [shift_between(*pair) for pair in itertools.pairwise(parts)]
    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    path: _Path = travelled[-1] - travelled
    for _ in range(_ROUNDS):
        # Small errors of the steps add up, so each frame is compared with all.
        aligned = [
            translate(one, shift, cv2.BORDER_REFLECT_101)
            for one, shift in zip(parts, path, strict=True)
        ]
        usual = np.median(aligned, 0)
        path += [shift_between(one, usual) for one in aligned]
        path -= path[-1]
    return path


def _low(picture: Bytes) -> Floats:
    """Return the detail of the lower part of a picture, (h, w)."""
    grey = luma(picture).astype(np.float32)
    rows = max(2, 2 * round(_LOW * len(grey) / 2))
    return (grey - smooth(grey, _DETAIL))[-rows:]
