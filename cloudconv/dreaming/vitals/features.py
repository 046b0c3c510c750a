"""Measure small pictures of a clip, and those of the dream that a mode composed."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from cloudconv.doubts import WHOLE, Box, box_of, by_place, size_of
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.vitals.residual import residual_of
from cloudconv.images import (
    MIDDLE_SIDE,
    UNSEEN,
    Bytes,
    Floats,
    flow_between,
    gradients,
    luma,
    parts,
    reduced,
    spread,
    warp,
)

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

WINDOW = 100
"""Number of frames in a window."""

SPAN = Fraction(2, 5)
"""The time between two composed pictures whose residual counts, in seconds."""

_MOMENT = Fraction(1, 10)  # in seconds
_PAIRS = 8  # pairs of the film at a distance
# Land slides if it moves this much, relative to the speed of things that move (a quantile
# of the mean speeds of the places), and to the greatest speed at its place in the clip.
_SLIDES = 0.3
_FAST = 0.9  # the quantile
_TIMES = 3.0
# A part appears out of nothing if it differs by so many levels from its place in the
# picture before, and from where motion comes from, in the mean of some pixels, and if it is
# larger than any that does so in the film, and than a part of the picture.
_DIFFERS = 18
_AROUND = (5, 5)
_LARGER = 1.3
_LEAST_PART = 1e-3
# A change within a frame is so many times as visible as one that takes a second.
_SUDDEN = 3.0
_MEAN = np.full((1, 3), 1 / 3, np.float32)


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
    ``usual_residual``: returns the greatest residual of pairs so many frames apart.
    """

    def __init__(self, material: Material) -> None:
        """Find the parts that count."""
        self.material = material
        self._count = len(material)
        self._moving = parts(material.moving, max(self.picture(0).shape))
        self._alive = 1 - reduced(material.static, max(self.picture(0).shape))
        self.moves = self._count > 1
        self.second = max(1, min(round(1 / material.step), self._count // 2))
        self.usual_residual = cache(self._usual_residual)

    def picture(self, number: int) -> Bytes:
        """Return a picture of the clip, by its number in the material."""
        return reduced(self.material.glance(number), MIDDLE_SIDE)

    def pictures(self) -> Iterator[Bytes]:
        """Yield the pictures of the clip."""
        return map(self.picture, range(self._count))

    def filmed(self, number: int) -> Bytes:
        """Return the picture of a real frame, by its number in ``material.frames``."""
        return reduced(self.material.views.small(number), MIDDLE_SIDE)

    @cached_property
    def _moved(self) -> tuple[Floats, Floats]:
        """Return what :meth:`moved` returns for each picture but the first."""
        flows, left = zip(*(self.moved(*p) for p in pairwise(self.pictures())), strict=True)
        return np.array(flows), np.array(left)

    def moved(self, before: Bytes, picture: Bytes) -> tuple[Floats, np.float32]:
        """Return the flow to a picture by place, and the mean change that it leaves.

        The change is in levels, and 0 where nothing moves in the clip.
        """
        flow = flow_between(before, picture)
        moved = luma(warp(before, flow, how=cv2.INTER_LINEAR))
        return by_place(flow), (self._alive * cv2.absdiff(luma(picture), moved)).mean()

    @cached_property
    def plain(self) -> float:
        """Return how even the last picture is: above 1 there is nothing in it.

        A film that is even from its begin on goes on so; it has no cut.
        """
        if self.material.cut is None:
            return 0.0
        return UNSEEN / max(float(np.ptp(luma(self.picture(self._count - 1)))), 1.0)

    @cached_property
    def stirs(self) -> Floats:
        """Return by how many levels each place changes in a moment beyond motion, (h, w).

        It is the most of water, fire and rain, where few see that two pictures are mixed.
        """
        apart = max(1, min(round(_MOMENT / self.material.step), self._count - 1))
        left = []
        for number in spread(self._count, apart):
            before, picture = self.picture(number - apart), self.picture(number)
            moved = warp(before, flow_between(before, picture), how=cv2.INTER_LINEAR)
            left.append(by_place(cv2.absdiff(picture, moved).astype(np.float32).mean(2)))
        stirs: Floats = np.quantile(left, QUANTILE, axis=0).astype(np.float32)
        return stirs

    def _usual_residual(self, frames: int) -> Floats:
        """Return the greatest residual of pairs that are so many frames apart, (h, w)."""
        frames = min(frames, self._count - 1)
        own = [
            residual_of(self.picture(k - frames), self.picture(k))
            for k in spread(self._count, frames, _PAIRS)
        ]
        usual: Floats = np.max(own, 0)
        return usual

    @cached_property
    def appears(self) -> tuple[float, Floats]:
        """Return the largest part that appears or vanishes, and the most of each place."""
        own = [self.appeared(*pair) for pair in pairwise(self.pictures())]
        parts, levels = zip(*own, strict=True)
        return max(parts), np.max(levels, 0)

    def appeared(self, before: Bytes, picture: Bytes) -> tuple[float, Floats]:
        """Return the largest part that appears or vanishes, and levels by place."""
        both = appearing(before, picture), appearing(picture, before)
        return max(map(largest, both)), by_place(np.maximum(*both))

    @cached_property
    def slides(self) -> Floats:
        """Return the speed by place at which something slides that moves for a second."""
        flows, _ = self._moved
        speeds = np.linalg.norm(flows, axis=-1).mean(0)
        own = np.linalg.norm(self._means(flows, self.second), axis=-1).max(0)
        slides: Floats = np.maximum(_SLIDES * np.quantile(speeds, _FAST), _TIMES * own)
        return slides

    @cached_property
    def motion(self) -> Floats:
        """Return the mean speed of the places over each second, in pixels per frame."""
        speeds = np.linalg.norm(self._moved[0], axis=-1).mean((1, 2))
        return self._means(speeds, self.second)

    @cached_property
    def sharpness(self) -> Floats:
        """Return the mean gradient over each second, in levels per pixel."""
        return self._means(np.array([*map(self.slope, self.pictures())]), self.second)

    @cached_property
    def change(self) -> Floats:
        """Return the mean change that no motion explains in the calmest window, in levels.

        The shape is (1,).
        """
        calmest: Floats = self._means(self._moved[1], WINDOW).min(keepdims=True)
        return calmest

    @cached_property
    def varies(self) -> float:
        """Return the mean change of a pixel within a second, in levels."""
        return fmean(
            difference(self.picture(k - self.second), self.picture(k))
            for k in spread(self._count, self.second)
        )

    def slope(self, picture: Bytes) -> np.float32:
        """Return the mean gradient of the parts that count."""
        slopes = cv2.magnitude(*gradients(luma(picture).astype(np.float32)))
        return np.float32(slopes[self._moving].mean())

    @staticmethod
    def _means(values: Floats, length: int) -> Floats:
        """Return the means of each ``length`` successive values, at least one."""
        starts = range(max(len(values) - length, 0) + 1)
        return np.array([values[k : k + length].mean(0) for k in starts])


class FeatureMeter:
    """The state in which the features of successive composed pictures are measured."""

    def __init__(self, film: FilmFeatures) -> None:
        self._film = film
        # The flow to each picture by place, its slope, and the picture before.
        self._recent: deque[tuple[Floats, np.float32, Bytes]] = deque(maxlen=film.second)
        self._left: deque[np.float32] = deque(maxlen=WINDOW)

    def clear(self) -> None:
        """Forget the pictures so far, because the next one does not continue them."""
        self._recent.clear()
        self._left.clear()

    def composed(self, before: Bytes, picture: Bytes) -> Features:
        """Return the features of the last second, after a composed picture.

        ``sharpness``: mean gradient, in levels per pixel. ``motion``: mean speed of the
        places, in pixels per frame. ``slides``: the part of the picture that moves where
        the clip hardly moves. ``change``: the mean change from frame to frame that no
        motion explains, in levels, over a window, because a calm second is no fault.
        """
        film = self._film
        flow, left = film.moved(before, picture)
        self._left.append(left)
        self._recent.append((flow, film.slope(picture), before))
        if len(self._recent) < film.second:
            return {}
        flows, slopes, pictures = zip(*self._recent, strict=True)
        sharpness = float(np.mean(slopes))
        size = abs(sharpness - float(film.sharpness.mean()))
        features = {"sharpness": Feature(sharpness, size)}
        if film.moves:
            varies = difference(pictures[0], picture)
            features["motion"] = Feature(
                float(np.linalg.norm(flows, axis=-1).mean()), abs(varies - film.varies)
            )
            slides = np.linalg.norm(np.mean(flows, 0), axis=-1) > film.slides
            levels = slides * np.float32(varies)
            features["slides"] = Feature.of(float(slides.mean()), levels)
            if len(self._left) == WINDOW:
                change = float(np.mean(self._left))
                lacks = abs(change - float(film.change[0]))
                features["change"] = Feature(change, lacks)
        return features

    def appeared(self, before: Bytes, picture: Bytes) -> Features:
        """Return the largest part that appears or vanishes from a picture to the next."""
        if not self._film.moves:
            return {}
        part, levels = self._film.appeared(before, picture)
        own, most = self._film.appears
        value = part / max(_LARGER * own, _LEAST_PART)
        return {"appears": Feature.of(value, _SUDDEN * (levels - most).clip(0))}


def difference(one: Bytes, two: Bytes) -> float:
    """Return the mean difference of a pixel, in levels."""
    return float(cv2.absdiff(luma(one), luma(two)).mean())


def appearing(before: Bytes, picture: Bytes) -> Floats:
    """Return the levels of each pixel of a picture that appears out of nothing, else 0.

    Neither its place in the picture before nor motion from there explains the pixel.
    """
    moved = warp(before, flow_between(before, picture), how=cv2.INTER_LINEAR)
    apart = (cv2.transform(cv2.absdiff(picture, old), _MEAN) for old in (before, moved))
    levels: Floats = cv2.blur(np.minimum(*apart).astype(np.float32), _AROUND)
    return levels * (levels > _DIFFERS)


def largest(levels: Floats) -> float:
    """Return the largest connected part of the levels above 0, as a part of all."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats((levels > 0).astype(np.uint8))
    return float(boxes[1:, cv2.CC_STAT_AREA].max(initial=0)) / levels.size
