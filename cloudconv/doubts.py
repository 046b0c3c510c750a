"""Grade what may be wrong in a made picture, and say where.

A measure gives, for each place of a picture, the levels by which it is wrong. The *size* of
a doubt is the root of the mean of their squares: the part of the picture that is wrong,
times the levels, where a small part with many levels counts more. The size gives the
grade. The box is around the worst place, up to where half as much is wrong.

:func:`ghost` measures one kind: two pictures that show through each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.images import (
    TINY,
    Bytes,
    Floats,
    flow_between,
    warp,
)
from cloudconv.messages import counted

PLACES = 40
"""Number of places along the longer side of a picture."""

_SEEN = 3.75  # least size that a viewer sees at normal speed
_SPOILS = 10.0  # … and that spoils a film


class Grade(StrEnum):
    """The part of a doubt that a viewer sees at normal speed, from the least."""

    HARDLY = "hardly seen"
    SEEN = "seen"
    SPOILS = "spoils it"


GRADES = tuple(Grade)


def grade_of(size: float) -> Grade:
    """Return the grade of a doubt by its size."""
    return GRADES[sum(size >= least for least in (_SEEN, _SPOILS))]


def verdict_of(doubts: Iterable[tuple[Grade, str]]) -> str:
    """Return a verdict on a whole film by the grades of its doubts and clauses about them.

    "good", "look at 3 places", or "spoiled: " with the first clause that spoils it.
    """
    graded = list(doubts)
    spoils = [clause for grade, clause in graded if grade is Grade.SPOILS]
    if spoils:
        return f"spoiled: {spoils[0]}"
    seen = sum(grade is Grade.SEEN for grade, _ in graded)
    return f"look at {counted(seen, 'place')}" if seen else "good"


class Box(NamedTuple):
    """A part of a picture: the sides as parts of its width and its height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def pixels(self, width: int, height: int) -> list[int]:
        """Return x, y, width and height in a picture of a size."""
        x, y = int(self.left * width), int(self.top * height)
        return [x, y, round(self.right * width) - x, round(self.bottom * height) - y]


WHOLE = Box()


def size_of(levels: Floats) -> float:
    """Return the size of a doubt by the levels that are wrong, by place."""
    return float(np.square(levels).mean() ** 0.5)


def box_of(levels: Floats) -> Box:
    """Return the box around the worst place of (h, w) levels."""
    most = int(levels.argmax())
    worse = (levels >= levels.max() / 2).astype(np.uint8)
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(worse)
    x, y, wide, tall = boxes[parts.flat[most], :4].tolist()
    height, width = levels.shape
    return Box(x / width, y / height, (x + wide) / width, (y + tall) / height)


def by_place(values: NDArray[np.float32]) -> Floats:
    """Return the mean of each place of (h, w, …) values, at most ``PLACES`` on a side."""
    factor = min(1.0, PLACES / max(values.shape[:2]))
    width, height = (max(1, round(side * factor)) for side in values.shape[1::-1])
    means: Floats = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    return means


def ghost(made: Bytes, old: Bytes, new: Bytes) -> Floats:
    """Return by how many levels each place of a made picture shows two pictures at once.

    Both pictures are moved to the made one along the optical flow. By least squares each
    place is a mixture of the two, with a share of the new one. Half of each is most
    visible: 4 share (1 - share) times the difference of the moved pictures.

    Args:
        made: (H, W, 3) RGB, a picture between two others.
        old: the picture before, which the made one continues.
        new: the picture after, to which the made one leads.

    Returns:
        (h, w), as :func:`by_place`.
    """
    ends = [_moved(made, end).astype(np.float32) for end in (old, new)]
    apart = ends[1] - ends[0]
    along = by_place(((made - ends[0]) * apart).sum(2))
    share = (along / (by_place(np.square(apart).sum(2)) + TINY)).clip(0, 1)
    levels: Floats = 4 * share * (1 - share) * by_place(np.abs(apart).mean(2))
    return levels


def _moved(made: Bytes, end: Bytes) -> Bytes:
    """Return a picture that is moved to the made one."""
    return warp(end, flow_between(end, made), how=cv2.INTER_LINEAR)
