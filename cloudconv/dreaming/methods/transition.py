"""Replace old footage by new, pixel by pixel, along a front that moves with the wind.

A front is the border between the pixels that have changed and those that have not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cloudconv.dreaming.methods.front import (
    BETWEEN,
    TIMES,
    best_times,
    drifts,
    inside,
)
from cloudconv.images import (
    TINY,
    Floats,
    blurred,
    centres,
    resized,
    sample,
    sample_exactly,
    warp_linearly,
)

PartlyKnown = Callable[[int], tuple[Floats, Floats]]
"""A function of an age in frames that returns the footage then, (h, w, 3), and its known
part, (h, w) from 0 to 1."""

Fades = tuple[float, float]
"""The durations of the change of one point, in frames: of its fine, and of its coarse
detail."""

_GRAIN = 0.1  # sigma of the random variation, relative to the longer side
_SLOWER = 2.0  # factor of the time of fine detail where the difference is the mean one
# Standard deviation of this variation, relative to the way across the picture.
_UNEVEN = 0.3


@dataclass(frozen=True, slots=True)
class Front:
    """The time at which each point changes, in frames after the begin of the transition.

    ``order``: (h + 2 my, w + 2 mx), the middle of each point's change. Points in the
    ``margins`` (my, mx) are outside the picture when the transition begins. ``fades``:
    their durations.
    """

    order: Floats
    margins: tuple[int, int]
    fades: tuple[Floats | float, float]

    def weights(self, displacement: Floats, age: int, size: tuple[int, int]) -> Floats:
        """Return the weights of the new footage after ``age`` frames: (h, w, 2).

        The first is that of fine detail, the second that of coarse detail, which changes
        slowly. ``displacement``, (h', w', 2), leads from a pixel of the grid back to its
        point's start. ``size``: (h, w) of the result.
        """
        grid = displacement.shape[:2]
        y, x = (
            centres(side) * points - 0.5 for side, points in zip(size, grid, strict=True)
        )
        places = resized(displacement, size).copy()
        places[..., 0] += x + self.margins[1]
        places[..., 1] += y[:, None] + self.margins[0]
        both = np.dstack([self.order, np.broadcast_to(self.fades[0], self.order.shape)])
        values = sample_exactly(both.astype(np.float32), places)
        times, fine = values[..., 0], values[..., 1]
        fades = fine, np.float32(self.fades[1])
        since = np.dstack([2 * (age - times) / fade for fade in fades]).clip(-1, 1)
        weight: Floats = (1 + since * (3 - np.square(since)) / 2) / 2
        return weight


class Points:
    """The sky's points, which move with the ``wind``, (h, w, 2) backward flow per frame."""

    def __init__(self, wind: Floats) -> None:
        """Begin without motion."""
        self.wind = wind
        self._back = [np.zeros_like(wind)]

    def back(self, age: int) -> Floats:
        """Return the displacement to each point's place ``age`` frames ago: (h, w, 2)."""
        while len(self._back) <= age:
            self._back.append(self.wind + warp_linearly(self._back[-1], self.wind))
        return self._back[age]


def front_of(
    old: PartlyKnown,
    coming: PartlyKnown,
    wind: Floats,
    lasts: int,
    random: np.random.Generator,
    fades: Fades,
) -> Front:
    """Return the times at which the points change from old to new footage.

    A point never shows footage that is unknown there.

    Args:
        old: the old footage, by the number of frames from now.
        coming: the new footage.
        wind: (h, w, 2) backward flow per frame, in pixels of these pictures.
        lasts: the number of frames in which all points change.
        random: chooses the variation of the times.
        fades: see :class:`Front`.
    """
    grid = (wind.shape[0], wind.shape[1])
    positions, margins = drifts(wind, lasts)
    fine, coarse = (min(fade, lasts / 2) for fade in fades)
    apart, times, (first, last) = _compared(old, coming, positions, lasts, (fine, coarse))
    around = [(margin, margin) for margin in margins]
    wanted = np.pad(order_of(wind, random, grid), around, mode="edge")
    # No visible point changes before the transition begins, because the stack hides unknown
    # parts.
    begin = np.float32(coarse / 2)
    wanted = begin + np.float32(lasts - coarse) * wanted
    # A point that enters with the wind has changed by then, so that new sky does not fade
    # in there. The nearest points have no time for that, and change in view.
    enters = inside(positions, grid).argmax(0) * np.float32(lasts / len(positions))
    before = (enters > begin) & (np.pad(np.ones(grid), around) == 0)
    soonest = np.where(before, np.minimum(last, enters - begin), last)
    order = best_times(apart, times, (first, soonest), wanted)
    order[~before] = order[~before].clip(begin)
    # The front is slower at points where old and new sky differ more.
    nearest = np.abs(times[:, None, None] - order).argmin(0)[None]
    differs = np.take_along_axis(apart, nearest, 0)[0] / apart[apart > 0].mean()
    longest = fine + 2 * np.minimum(order - first, last - order).clip(0)
    lasting = np.minimum((_SLOWER * fine * differs).clip(fine, coarse), longest).astype(
        np.float32
    )
    return Front(order, margins, (lasting, coarse))


def _compared(
    old: PartlyKnown, new: PartlyKnown, positions: Floats, lasts: int, fades: Fades
) -> tuple[Floats, Any, tuple[Floats, Floats]]:
    """Compare two sequences of pictures at moving points.

    Returns:
        The greatest difference around each point, (TIMES, h, w), 0 outside the picture. The
        times of the comparisons, in frames. And the first and the last time at which each
        point may change, (h, w) each, so that neither footage is unknown while its fine
        detail changes.
    """
    fine, coarse = fades
    times = coarse / 2 + (lasts - coarse) * centres(TIMES)
    pictures_at, unknown = [], []
    step = lasts / len(positions)
    ages = (lasts * centres(len(positions))).round().astype(int).tolist()
    for number, (age, position) in enumerate(zip(ages, positions, strict=True)):
        pictures = old(age), new(age)
        height, width = pictures[0][1].shape
        within = inside(position, (height, width))
        covers = [
            sample(certain, position, how=cv2.INTER_LINEAR).round()
            for _, certain in pictures
        ]
        unknown.append([within * (cover == 0) for cover in covers])
        if number % BETWEEN == BETWEEN // 2:  # the middle of a time of change
            differs = np.abs(pictures[0][0] - pictures[1][0]).sum(2)
            # A cut keeps away from differences: clouds have soft rims.
            around = cv2.dilate(differs, np.ones((7, 7)))
            apart = sample(around, position, how=cv2.INTER_LINEAR)
            pictures_at.append(within * (apart + TINY))
    gone, missing = np.stack(unknown, 1)
    begins = (len(positions) - missing[::-1].argmax(0)) * step + fine / 2
    ends = gone.argmax(0) * step - fine / 2
    first = np.where(missing.any(0), begins, -lasts).astype(np.float32)
    last = np.where(gone.any(0), ends, 2 * lasts).astype(np.float32)
    return np.stack(pictures_at), times, (first, last)


def order_of(wind: Floats, random: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Return the wanted time of change of each pixel: (h, w) float32, evenly from 0 to 1.

    New footage enters where the wind enters, with random variation in large areas.

    Args:
        wind: (h, w, 2) backward flow per frame.
        random: chooses the variation.
        size: (h, w) of the result.
    """
    noise = random.standard_normal(size).astype(np.float32)
    smooth = blurred(noise, _GRAIN * max(size))
    smooth *= _UNEVEN / max(float(smooth.std(ddof=1)), TINY)
    x, y = (-float(shift) for shift in wind.mean((0, 1)))
    rows, columns = (np.linspace(0, 1, side) for side in size)
    speed = max(float(np.hypot(x, y)), TINY)
    along = _ranks(((x * columns + y * rows[:, None]) / speed).astype(np.float32))
    return _ranks(along + smooth)


def _ranks(order: Floats) -> Floats:
    ranks = order.argsort(axis=None, kind="stable").argsort().astype(np.float32)
    return (ranks / np.float32(max(order.size - 1, 1))).reshape(order.shape)
