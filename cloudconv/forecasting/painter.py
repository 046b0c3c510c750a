"""Paint a thing at a time and place, and the plate where a thing was."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.plate import DARK, RIM, Vector
from cloudconv.forecasting.sights import Sight, alone
from cloudconv.forecasting.things import Appearance, Things
from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    as_picture,
    levels_of,
    smooth,
    transformed,
    whole,
)

SOFT = 1.0
"""The sigma of outlines, in pixels of the small pictures."""


class Painter:
    """A painter that adds things to full-size pictures, and removes them.

    Args:
        things: the things, in smaller pictures or in these.
        picture: returns a frame, (H, W, 3) RGB, as from the view of the last.
        plate: the plate at full size.
    """

    def __init__(
        self, things: Things, picture: Callable[[int], Floats], plate: Bytes
    ) -> None:
        self._things, self._picture = things, picture
        self._plate = as_picture(plate)
        self._scale = np.array(plate.shape[1::-1]) / things.size[::-1]  # of x and y
        self._light = cache(things.plate.light)
        self._hiding = smooth(things.ways.hiding.astype(np.float32), SOFT / 2)

    def clear(self, target: Floats, frame: int, sights: Sequence[Sight]) -> None:
        """Replace things of a frame by the plate in the light of the frame."""
        for sight in sights:
            at, soft = self._mattes(sight, RIM)
            target[at] += (self._plate[at] * self._lit(frame, at) - target[at]) * soft

    def paint(self, target: Floats, light: int, seen: Appearance) -> None:
        """Paint what is seen over a target that has the light of frame ``light``.

        Beside a thing, its shadow darkens the target. Something that hides things stays in
        front.
        """
        sight, size, move, opacity = seen
        at, mattes = self._mattes(sight, 1, RIM)
        surface = self._picture(sight.frame)[at] / self._lit(sight.frame, at)
        # Added to both, so that a shadow on dark ground does not become a blot.
        dark = DARK / 255
        shadow = ((surface + dark) / (self._plate[at] + dark)).clip(0, 1)
        place = at
        if size != 1 or move.any():
            surface = self._uncovered(surface, at)
            motion, place = self._landing(sight, at, size, move, target)
            if place[0].start >= place[0].stop or place[1].start >= place[1].stop:
                return
            extent = (place[1].stop - place[1].start, place[0].stop - place[0].start)
            surface, shadow, mattes = (
                cv2.warpAffine(values, motion, extent, flags=cv2.INTER_CUBIC)
                for values in (surface, shadow, mattes)
            )
        free = 1 - self._small(self._hiding, place)[..., None]
        matte, rim = (opacity * free * mattes.clip(0, 1)[..., k : k + 1] for k in (0, 1))
        below = target[place] * (1 + rim * (shadow.clip(0, 1) - 1))
        target[place] = below + matte * (surface * self._lit(light, place) - below)

    def _landing(
        self, sight: Sight, at: Area, size: float, move: Vector, target: Floats
    ) -> tuple[NDArray[np.float64], Area]:
        """Return the motion of an area to its place in the target, and this place."""
        rows, columns = at
        centre = (sight.centre + 0.5) * self._scale - 0.5
        start = (1 - size) * centre + move * self._scale
        corners = np.array([[columns.start, rows.start], [columns.stop, rows.stop]])
        least, most = corners * size + start
        left, top = (max(int(np.floor(value)), 0) for value in least)
        ends = zip(most, target.shape[1::-1], strict=True)
        right, bottom = (min(int(np.ceil(value)), end) for value, end in ends)
        motion = np.column_stack(
            [size * np.eye(2), start + size * corners[0] - (left, top)]
        )
        return motion, (slice(top, bottom), slice(left, right))

    def _uncovered(self, surface: Floats, at: Area) -> Floats:
        """Return a picture of a thing, which goes on where something hides the thing."""
        hidden = self._small(self._hiding, at) > 0.1
        if not hidden.any():
            return surface
        levels = levels_of(surface)
        filled = cv2.inpaint(levels, hidden.astype(np.uint8), RIM, cv2.INPAINT_TELEA)
        return np.where(hidden[..., None], as_picture(filled), surface)

    def ground(self, frame: int) -> Floats:
        """Return the plate in the light of a frame."""
        lit = self._lit(frame, whole(self._plate.shape))
        return np.multiply(self._plate, lit, dtype=np.float32)

    def _lit(self, frame: int, at: Area) -> Floats:
        """Return the light of a frame in an area, relative to the plate."""
        return self._small(self._light(frame), at)

    def _small(
        self, values: Floats, at: Area, left: int = 0, top: int = 0, size: Any = None
    ) -> Floats:
        """Return values of the whole picture, at any size, in a full-size area.

        They may be a part of a picture of ``size``, (h, w), from ``left`` and ``top`` on.
        """
        height, width = size or values.shape[:2]
        x, y = width / self._plate.shape[1], height / self._plate.shape[0]
        motion = [[x, 0, (x - 1) / 2 - left], [0, y, (y - 1) / 2 - top], [0, 0, 1]]
        return transformed(values, np.array(motion), at)

    def _mattes(self, sight: Sight, *reaches: int) -> tuple[Area, Floats]:
        """Return a sight's full-size area, and its soft mask, widened by pixels each."""
        rows, columns = (
            slice(max(span.start - 2 * RIM, 0), min(span.stop + 2 * RIM, side))
            for span, side in zip(sight.box, self._things.size, strict=True)
        )
        edges = (alone(sight, self._things.size, reach)[rows, columns] for reach in reaches)
        soft = np.dstack([smooth(edge.astype(np.float32), SOFT) for edge in edges])
        width, height = self._scale
        at = (
            slice(int(rows.start * height), int(np.ceil(rows.stop * height))),
            slice(int(columns.start * width), int(np.ceil(columns.stop * width))),
        )
        mattes = self._small(soft, at, columns.start, rows.start, self._things.size)
        return at, mattes.reshape(*mattes.shape[:2], -1)


def nearest_last(seen: Iterable[Appearance | None]) -> list[Appearance]:
    """Return what is seen, farthest first: the nearer a thing stands, the lower."""
    visible = [sight for sight in seen if sight is not None]
    return sorted(visible, key=_foot)


def _foot(seen: Appearance) -> float:
    sight, size, move, _ = seen
    return float(sight.centre[1] + size * (sight.box[0].stop - sight.centre[1]) + move[1])


def painter_of(things: Things, pictures: Iterable[Bytes]) -> Painter:
    """Return the painter of full-size pictures, (H, W, 3) RGB; ``things`` are smaller."""
    steady = [things.plate.steadied(k, picture) for k, picture in enumerate(pictures)]
    plate = things.plate.made_of(steady, range(len(steady)))
    return Painter(things, lambda frame: as_picture(steady[frame]), plate)
