"""Grade what may be wrong in a made picture, and say where.

A measure gives, for each place of a picture, the levels by which it is wrong. The *size* of
a doubt is the root of the mean of their squares: the part of the picture that is wrong,
times the levels, where a small part with many levels counts more. The size gives the
grade. The box is around the worst place, up to where half as much is wrong.

:func:`doubled` measures one kind: two pictures that show through each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.images import (
    UNSEEN,
    Bytes,
    Floats,
    reduced,
)
from cloudconv.messages import listed, plural

PLACES = 40
"""Number of places along the longer side of a picture."""

MOST = 50
"""The largest number of doubts that ``interp`` names."""

LEAST = 2.5
"""The least size of a doubt that counts."""

SHOWN = 12
"""The number of doubts that a report shows."""

_MOST_TIMES = 4  # of one kind of doubt that are named, or one more
_SEEN = 3.75  # least size that a viewer sees at normal speed
SPOILS = 10.0
"""The least size of a doubt that spoils a film."""


class Grade(StrEnum):
    """The part of a doubt that a viewer sees at normal speed, from the least."""

    HARDLY = "hardly seen"
    SEEN = "seen"
    SPOILS = "spoils it"


GRADES = tuple(Grade)


def grade_of(size: float) -> Grade:
    """Return the grade of a doubt by its size."""
    return GRADES[sum(size >= least for least in (_SEEN, SPOILS))]


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

    def around(self, other: Box) -> Box:
        """Return the part around two others."""
        return Box(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))


WHOLE = Box()


Entry = dict[str, Any]
"""A doubt in the JSON: ``frame``, ``time``, ``size``, ``grade``, ``text``, ``box``, and
perhaps more."""


def entry(
    frame: int,
    time: Fraction,
    size: float,
    box: Box,
    text: str,
    shape: tuple[int, int],
    grade: Grade | None = None,
    **more: Any,
) -> Entry:
    """Return a doubt in the JSON.

    ``frame``: the number of the output frame, from 0. ``time``: in seconds of the output.
    ``shape``: height and width of the video. ``grade``: by default that of the size.
    """
    return {
        "frame": frame,
        "time": round(float(time), 3),
        **more,
        "size": round(size, 1),
        "grade": str(grade or grade_of(size)),
        "text": text,
        "box": box.pixels(shape[1], shape[0]),
    }


def joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the doubts of all parts of an output, the worst first, at most ``MOST``.

    A part, like the result, has the ``count`` of its doubtful frames that a viewer sees,
    the number that is ``hardly_seen``, and the worst ``frames`` of both, or nothing. The
    order of the parts does not matter.
    """
    every = [part for part in parts if part]
    seen, hardly = (sum(map(itemgetter(key), every)) for key in ("count", "hardly_seen"))
    frames = chain.from_iterable(part["frames"] for part in every)
    worst = sorted(frames, key=lambda entry: (-entry["size"], entry["time"]))[:MOST]
    kept = [*worst[:SHOWN], *map(without_pictures, worst[SHOWN:])]
    return {"count": seen, "hardly_seen": hardly, "frames": kept}


def of_one(doubt: Entry) -> dict[str, Any]:
    """Return the part of an output that has one doubt, see :func:`joined`."""
    hardly = doubt["grade"] == Grade.HARDLY
    return {"count": int(not hardly), "hardly_seen": int(hardly), "frames": [doubt]}


def without_pictures(entry: Entry) -> Entry:
    """Return a doubt without the pictures that a report shows."""
    return {key: value for key, value in entry.items() if key != "pictures"}


def kinds_of(entries: Iterable[Entry], count: int = 0) -> Iterator[str]:
    """Yield a clause for each kind of doubt that a viewer sees, the worst grade first.

    ``count``: that of all such doubts, if there are more than entries. Those that no entry
    names are of the last kind.
    """
    given = [each for each in entries if each["grade"] != Grade.HARDLY]
    unnamed = max(0, count - len(given))
    kinds = dict.fromkeys((each["grade"], each["text"]) for each in given)
    for seen in (Grade.SPOILS, Grade.SEEN):
        for grade, text in (kind for kind in kinds if kind[0] == seen):
            same = [
                each for each in given if (each["grade"], each["text"]) == (grade, text)
            ]
            others = unnamed * (same[-1] is given[-1])
            few = len(same) + others <= _MOST_TIMES + 1
            named = same if few else same[:_MOST_TIMES]
            places = listed([*map(place_of, named)], "and")
            more = "" if few else f", and {len(same) + others - _MOST_TIMES} more times,"
            x, y, width, height = same[0]["box"]
            where = f"first in {width}x{height} pixels at {x},{y}"
            are = plural(len(named), "frame", "frames")
            yield f"At output {are} {places}{more} {text} ({grade}; {where})"


def place_of(entry: Entry) -> str:
    """Return number and time of the frame of a doubt: ``113 (1.885 s)``."""
    between = entry.get("between", ())
    sources = f", between source frames {between[0]} and {between[1]}" if between else ""
    return f"{entry['frame']} ({entry['time']:.3f} s{sources})"


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
    return reduced(values, PLACES, 1)


def unexplained(levels: Bytes, timestep: float = 0.5) -> Floats:
    """Return the levels of each place of a new frame that no motion explains, (h, w).

    As in :func:`doubled`, half of each of two pictures is most visible. A difference that
    most of the picture has is noise, or a change of light.

    Args:
        levels: (h, w), by place: those by which the two moved pictures differ that the new
            one mixes.
        timestep: the place between the source frames, 0 to 1.
    """
    visible = 4 * timestep * (1 - timestep) * levels.astype(np.float32)
    unexplained: Floats = (visible - np.median(visible) - UNSEEN).clip(0)
    return unexplained


def doubled(pictures: Sequence[Floats], weights: Floats) -> Floats:
    """Return by how many levels each place of a mixture shows two pictures at once.

    Half of each is most visible: 4 share (1 - share) times the difference.

    Args:
        pictures: two, (H, W, 3) in [0, 1].
        weights: the share of the second at each place, (h, w, 1).

    Returns:
        (h, w), as :func:`by_place`.
    """
    apart = np.abs(pictures[1] - pictures[0]).mean(2)
    size = weights.shape[1::-1]
    levels = 255 * cv2.resize(apart, size, interpolation=cv2.INTER_AREA)
    share = weights[..., 0]
    return by_place(4 * share * (1 - share) * levels)
