"""The material of a dream: its last scene's frames, at even steps of time.

The *grid* is a list of points in time, one step of the output apart. The last point is the
time of the last frame with new content. Each point shows the nearest real frame. Two frames
are never mixed, so nothing is seen twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from statistics import median_high
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.land import matte_of
from cloudconv.dreaming.material.views import Views
from cloudconv.images import (
    COARSE_SIDE,
    Bytes,
    Floats,
    Mask,
    luma,
    measured_flow,
    resized,
    resized_flow,
)
from cloudconv.media.frames.frame import Frame

Result = TypeVar("Result")


class Material:
    """The frames that a dream is made of, at even steps of time.

    ``m.picture(k)`` is full size, ``m.glance(k)`` and ``m.flow(k)`` are for analysis. ``k``
    runs from 0 to ``len(m) - 1``; a negative ``k`` counts from the end. ``m.views`` are the
    filmed ``frames``, each as from the last view. ``size``, ``small_size`` and ``form`` are
    theirs. ``original``: the material of which this one is a smaller copy, or this one.

    Args:
        frames: the frames without repeats, oldest first; at least one.
        times: the time of each frame's content in seconds, strictly rising; None for the
            frames' own times.
        step: the time between two frames of the output and of the grid; None for the median
            gap.
        last: the last frame as shown, which may repeat the last of ``frames``.
        cut: the time of the cut that begins the scene on the source's clock.
        cadence: how the source's frames repeat, if they repeat regularly.
        views: those of ``frames``, if there are some already.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        times: Sequence[Fraction] | None = None,
        step: Fraction | None = None,
        last: Frame | None = None,
        cut: Fraction | None = None,
        cadence: str | None = None,
        views: Views | None = None,
    ) -> None:
        """Compute the grid; pictures, flow and mattes are computed when they are needed."""
        self.times = tuple(times or [frame.time for frame in frames])
        gaps = [b - a for a, b in pairwise(self.times)] or [
            frames[-1].duration or Fraction(1, 25)
        ]
        self.step = step or median_high(gaps)
        self.last = last or frames[-1]
        self.views = Views(frames, self.last) if views is None else views
        self.frames = self.views.frames
        self.form = self.views.form
        self.size = self.views.size
        self.small_size = self.views.small_size
        self.cut = cut
        self.cadence = cadence
        self._grid = _grid(self.times, self.step)
        self.original = self
        self._made: dict[object, Any] = {}
        self._flow: Callable[[int], NDArray[Any]] = cache(self._measured)

    def once(self, make: Callable[[Material], Result]) -> Result:
        """Return the result of ``make`` for this material, which is computed once."""
        if make not in self._made:
            self._made[make] = make(self)
        result: Result = self._made[make]
        return result

    def __len__(self) -> int:
        """Return the number of points of the grid."""
        return len(self._grid)

    def _measured(self, number: int) -> NDArray[np.float16]:
        """Return the flow from a real frame, from 1 on, back to the last one: (h, w, 2)."""
        later, earlier = (luma(self.views.small(k)) for k in (number, number - 1))
        # Half precision takes half the memory, and is finer than flow can be measured.
        return measured_flow(later, earlier).astype(np.float16)

    def picture(self, k: int) -> Floats:
        """Return the frame at ``k``: see :meth:`Views.picture`.

        Raises:
            IndexError: there is no such frame.
        """
        return self.views.picture(self.source_of(k))

    def glance(self, k: int) -> Bytes:
        """Return the same frame for analysis, (h, w, 3) uint8 of ``small_size``."""
        return self.views.small(self.source_of(k))

    def flow(self, k: int) -> Floats:
        """Return the backward flow at ``k``, scaled to one step of the grid.

        Returns:
            (h, w, 2) float32, (dx, dy) in pixels of the small picture.

        Raises:
            IndexError: there is no such frame, or none before it.
        """
        if k == 0:
            raise IndexError("the first frame of the material has none before it")
        frame = max(self.source_of(k), 1)
        steps = (self.times[frame] - self.times[frame - 1]) / self.step
        return self._flow(frame).astype(np.float32) / np.float32(steps)

    def reduced(self, longest: int = COARSE_SIDE) -> Material:
        """Return a material of small pictures, with the same land, camera and motion.

        ``longest``: the longest side of the pictures, in pixels, at most 480. The pictures
        are reduced from those for analysis, so no frame is decoded again. Because the
        motion is the same, collages of both materials choose the same footage. A material
        of pictures that are no larger is returned itself.
        """
        if max(self.size) <= longest:
            return self
        views = self.views.reduced(longest)
        smaller = Material(views.frames, times=self.times, step=self.step, views=views)
        smaller.original = self.original
        smaller._flow = lambda number: resized_flow(
            self._flow(number).astype(np.float32), smaller.size
        )
        return smaller

    @cached_property
    def matte(self) -> Floats:
        """Return the share of land in each pixel of the last frame: (H, W) float32."""
        return matte_of(self.views.land, self.picture(-1))

    @property
    def moving(self) -> Mask:
        """Return the parts that move, (h, w) bool.

        All parts count if nothing moves, or a single picture is given.
        """
        moving: Mask = self.static.round() == 0
        return moving if moving.any() and len(self) > 1 else np.ones_like(moving)

    @cached_property
    def static(self) -> Floats:
        """Return the matte for analysis, (h, w) float32 in [0, 1], with soft edges."""
        return resized(self.matte, self.small_size)

    def source_of(self, k: int) -> int:
        """Return the number of the real frame at ``k``."""
        return self._grid[k]


def _grid(times: Sequence[Fraction], step: Fraction) -> list[int]:
    """Return each grid point's nearest frame."""
    count = int((times[-1] - times[0]) / step) + 1
    points = []
    frame = len(times) - 1
    for number in range(count):
        time = times[-1] - number * step
        while frame > 0 and abs(times[frame - 1] - time) < abs(times[frame] - time):
            frame -= 1
        points.append(frame)
    return points[::-1]
