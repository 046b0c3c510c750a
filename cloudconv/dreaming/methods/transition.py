"""Replace old footage by new, pixel by pixel, along a seam that moves with the wind.

A seam is the border between the pixels that have changed and those that have not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cloudconv.dreaming.methods.seam import (
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
    warp,
)

Footage = Callable[[int], Floats]
"""A function of an age in frames that returns the picture then, (h, w, 3)."""

# Least time in which the fine detail of a point changes, in frames, and as a part of that
# of its coarse detail: in less, things pop up.
_SUDDEN = 4
_LEAST = 0.4
_GRAIN = 0.1  # sigma of the random variation, relative to the longer side
# Standard deviation of this variation, relative to the way across the picture.
_UNEVEN = 0.3


@dataclass(frozen=True, slots=True)
class Seam:
    """The time at which each point changes, in frames after the begin of the transition.

    ``order``: (h + 2 my, w + 2 mx), the middle of each point's change. Points in the
    ``margins`` (my, mx) are outside the picture when the transition begins. ``fades``:
    the durations of the change of fine detail, by point, and of coarse detail, in frames.
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
        values = sample(both.astype(np.float32), places, how=cv2.INTER_LINEAR)
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
            last = self._back[-1]
            self._back.append(self.wind + warp(last, self.wind, how=cv2.INTER_LINEAR))
        return self._back[age]


def seam_of(
    old: Footage,
    coming: Footage,
    wind: Floats,
    lasts: int,
    random: np.random.Generator,
    own: Floats,
) -> Seam:
    """Return the times at which the points change from old to new footage.

    Args:
        old: the old footage, by the number of frames from now.
        coming: the new footage.
        wind: (h, w, 2) backward flow per frame, in pixels of these pictures.
        lasts: the number of frames in which all points change.
        random: chooses the variation of the times.
        own: (h, w), the greatest change from one picture of the film to the next around
            each place, beyond the wind. A point changes as fast as the film itself does
            there, so a thing that walks does not stay half transparent.
    """
    grid = (wind.shape[0], wind.shape[1])
    positions, margins = drifts(wind, lasts)
    coarse = lasts / 2
    times: Any = coarse / 2 + (lasts - coarse) * centres(TIMES)
    differs = _compared(old, coming, positions, lasts)
    around = [(margin, margin) for margin in margins]
    # The coarse detail of a visible point does not change before the transition begins.
    begin = np.float32(coarse / 2)
    wanted = begin + np.float32(lasts - coarse) * order_of(wind, random, grid)
    # A point that enters with the wind has changed by then, so that new sky does not fade
    # in there. The nearest points have no time for that, and change in view.
    enters = inside(positions, grid).argmax(0) * np.float32(lasts / len(positions))
    before = (enters > begin) & (np.pad(np.ones(grid), around) == 0)
    soonest = np.where(before, enters - begin, np.float32(lasts))
    order = best_times(differs, times, soonest, np.pad(wanted, around, mode="edge"))
    order[~before] = order[~before].clip(begin)
    nearest = np.abs(times[:, None, None] - order).argmin(0)
    here = np.take_along_axis(differs, nearest[None], 0)[0]
    fine = here / np.pad(own, around, mode="edge").clip(TINY)
    fine[here == 0] = coarse  # a point that changes in view as soon as it enters
    return Seam(order, margins, (fine.clip(max(_SUDDEN, _LEAST * coarse), coarse), coarse))


def apart(one: Floats, other: Floats) -> Floats:
    """Return the greatest difference of two small pictures around each place, (h, w).

    A cut keeps away from differences: clouds have soft rims.
    """
    return np.asarray(cv2.dilate(np.abs(one - other).sum(2), np.ones((7, 7))), np.float32)


def _compared(old: Footage, new: Footage, positions: Floats, lasts: int) -> Floats:
    """Return how two sequences of pictures differ around moving points at ``TIMES``.

    The result, (TIMES, h, w), is 0 outside the picture.
    """
    ages = (lasts * centres(TIMES)).round().astype(int).tolist()
    middles = zip(ages, positions[BETWEEN // 2 :: BETWEEN], strict=True)
    return np.stack([_at(position, apart(old(age), new(age))) for age, position in middles])


def _at(position: Floats, differs: Floats) -> Floats:
    """Return the differences at moving points: 0 outside the picture, more inside."""
    return inside(position, differs.shape) * (
        sample(differs, position, how=cv2.INTER_LINEAR) + np.float32(TINY)
    )


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
