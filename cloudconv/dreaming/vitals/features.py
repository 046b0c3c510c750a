"""Measure small pictures of a clip, and those of the dream that a mode composed."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from cloudconv.doubts import WHOLE, Box, box_of, by_place, size_of
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.vitals.leftover import Betweens
from cloudconv.images import (
    MIDDLE_SIDE,
    Bytes,
    Floats,
    Mask,
    flow_between,
    gradients,
    luma,
    parts,
    pointed,
    reduced,
    sample,
)

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

SPAN = Fraction(2, 5)
"""The time between two composed pictures whose leftover counts, in seconds."""

# Land slides if it moves this much, relative to the speed of things that move (a quantile
# of the mean speeds of the places), and to the greatest speed at its place in the clip.
_SLIDES = 0.3
_FAST = 0.9  # the quantile
_TIMES = 3.0
_USUAL = 0.98  # quantile of the clip's changes of a place
_LEAST_LOCAL = 6.0  # least such change, in levels of lightness and colour together
# Least such change, as a part of that of the place that changes most: things move to new
# places.
_PART = 0.75
_THING = 1.8  # sigma of the area in which differences are summed, in places: a thing


class Feature(NamedTuple):
    """A value, and the size of what is wrong, see :mod:`cloudconv.doubts`, and where."""

    value: float
    size: float
    box: Box = WHOLE

    @classmethod
    def of(cls, value: float, levels: Any) -> Self:
        """Return the feature of the levels that are wrong, by place."""
        return cls(value, size_of(levels), box_of(levels))


Features = dict[str, Feature]


class FilmFeatures:
    """The clip with which dreams are compared, in pictures of at most 320 pixels.

    Each property is measured when it is first needed. ``moves``: the clip has more than one
    picture. ``second``: the number of frames in a second, or in half of a short clip.
    """

    def __init__(self, material: Material) -> None:
        """Find the parts that count."""
        self.material = material
        self._count = len(material)
        self._moving = parts(material.moving, max(self.picture(0).shape))
        self.moves = self._count > 1
        most = max(1, self._count // 2)
        self.second = min(max(1, round(1 / material.step)), most)
        self.betweens = Betweens(self.picture, self._count)

    def picture(self, number: int) -> Bytes:
        """Return a picture of the clip, by its number in the material."""
        picture: Bytes = reduced(self.material.glance(number), MIDDLE_SIDE)
        return picture

    def pictures(self) -> Iterator[Bytes]:
        """Yield the pictures of the clip."""
        return map(self.picture, range(self._count))

    def filmed(self, number: int) -> Bytes:
        """Return the picture of a real frame, by its number in ``material.frames``."""
        picture: Bytes = reduced(self.material.views.small(number), MIDDLE_SIDE)
        return picture

    @cached_property
    def _measured(self) -> tuple[Floats, ...]:
        """Return the flows by place, the slopes, and a pixel's changes within a second."""
        flows, slopes, changes = [], [], []
        latest: deque[Bytes] = deque(maxlen=self.second)
        for picture in self.pictures():
            slopes.append(self.slope(picture))
            if latest:
                flows.append(by_place(flow_between(latest[-1], picture)))
            if len(latest) == self.second:
                changes.append(difference(latest[0], picture))
            latest.append(picture)
        return np.array(flows), np.array(slopes), np.array(changes)

    @property
    def _flows(self) -> Floats:
        return self._measured[0]

    @cached_property
    def usual(self) -> Floats:
        """Return the change that is usual in the clip, by place.

        A viewer sees more than 1.15 of it.
        """
        apart = np.array([change(*pair) for pair in pairwise(self.pictures())])
        least = max(_LEAST_LOCAL, _PART * float(np.quantile(apart.max((1, 2)), _USUAL)))
        usual: Floats = np.maximum(np.quantile(apart, _USUAL, 0), least)
        return usual

    @cached_property
    def slides(self) -> Floats:
        """Return the speed by place at which something slides that moves for a second."""
        speeds = np.linalg.norm(self._flows, axis=-1).mean(0)
        own = np.linalg.norm(self._seconds(self._flows), axis=-1).max(0)
        slides: Floats = np.maximum(_SLIDES * np.quantile(speeds, _FAST), _TIMES * own)
        return slides

    @cached_property
    def motion(self) -> Floats:
        """Return the mean speed of the places over each second, in pixels per frame."""
        return self._seconds(np.linalg.norm(self._flows, axis=-1).mean((1, 2)))

    @cached_property
    def sharpness(self) -> Floats:
        """Return the mean gradient over each second, in levels per pixel."""
        return self._seconds(self._measured[1])

    @cached_property
    def varies(self) -> float:
        """Return the mean change of a pixel within a second, in levels."""
        return float(self._measured[2].mean())

    def slope(self, picture: Bytes) -> np.float32:
        """Return the mean gradient of the parts that count."""
        slopes = cv2.magnitude(*gradients(luma(picture).astype(np.float32)))
        return np.float32(slopes[self._moving].mean())

    def _seconds(self, values: Floats) -> Floats:
        """Return the means of each ``second`` successive values, at least one."""
        starts = range(max(len(values) - self.second, 0) + 1)
        return np.array([values[k : k + self.second].mean(0) for k in starts])


class FeatureMeter:
    """The state in which the features of successive composed pictures are measured."""

    def __init__(self, film: FilmFeatures) -> None:
        self._film = film
        # The flow to each picture by place, its slope, and the picture before.
        self._recent: deque[tuple[Floats, np.float32, Bytes]] = deque(maxlen=film.second)

    def clear(self) -> None:
        """Forget the pictures so far, because the next one does not continue them."""
        self._recent.clear()

    def composed(self, before: Bytes, picture: Bytes) -> Features:
        """Return the features of the last second, after a composed picture.

        ``sharpness``: mean gradient, in levels per pixel. ``motion``: mean speed of the
        places, in pixels per frame. ``slides``: the part of the picture that moves where
        the clip hardly moves.
        """
        film = self._film
        flow = by_place(flow_between(before, picture))
        self._recent.append((flow, film.slope(picture), before))
        if len(self._recent) < film.second:
            return {}
        flows, slopes, pictures = zip(*self._recent, strict=True)
        sharpness = float(np.mean(slopes))
        size = abs(sharpness - float(film.sharpness.mean()))
        features = {"sharpness": Feature(sharpness, size)}
        if film.moves:
            varies = difference(pictures[0], picture)
            motion = float(np.linalg.norm(flows, axis=-1).mean())
            features["motion"] = Feature(motion, abs(varies - film.varies))
            slides = np.linalg.norm(np.mean(flows, 0), axis=-1) > film.slides
            levels = slides * np.float32(varies)
            features["slides"] = Feature.of(float(slides.mean()), levels)
        return features

    def pasted(self, before: Bytes, picture: Bytes, made: Mask) -> Features:
        """Return the greatest change of a place in a part that no motion explains."""
        if not self._film.moves:
            return {}
        inside = by_place(made.astype(np.float32)) > 0
        usual = self._film.usual
        apart = change(before, picture)
        most = float((apart / usual * inside).max())
        levels = (apart - usual).clip(0) * inside
        return {"local": Feature.of(most, levels)}


def difference(one: Bytes, two: Bytes) -> float:
    """Return the mean difference of a pixel, in levels."""
    return float(cv2.absdiff(luma(one), luma(two)).mean())


def change(before: Bytes, picture: Bytes) -> Floats:
    """Return the change of a thing at each place that no motion explains.

    Each picture is moved to the other along the optical flow. The difference is averaged
    around each place.
    """
    pairs = (before, picture), (picture, before)
    apart = np.maximum(*(_unexplained(*pair, flow_between(*pair)) for pair in pairs))
    around: Floats = cv2.GaussianBlur(
        by_place(apart), (0, 0), _THING, borderType=cv2.BORDER_CONSTANT
    )
    return around


def _unexplained(one: Bytes, two: Bytes, flow: Floats) -> Floats:
    """Return the difference of each pixel of ``two`` from ``one`` moved to it.

    The difference is in levels of L*a*b*. Parts that come from outside the picture, and
    lines of one pixel, do not count.
    """
    height, width = flow.shape[:2]
    places = pointed(flow, (height, width))
    x, y = cv2.split(places)
    lab, true = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in (one, two))
    explained = sample(lab, places, how=cv2.INTER_LINEAR)
    apart = cv2.transform(cv2.absdiff(true, explained), np.ones((1, 3), np.float32))
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    unexplained: Floats = (cv2.erode(apart, np.ones((3, 3))) * inside).astype(np.float32)
    return unexplained
