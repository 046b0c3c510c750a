"""Measure the small pictures of a clip, and those of the dream that a mode made."""

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from cloudconv.dreaming.images import Bytes, Floats, Mask, gradients, grey, parts
from cloudconv.dreaming.vitals.course import Course, by_place, means, place_of
from cloudconv.forecasting.camera import measured_flow

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

SPAN = Fraction(2, 5)
"""The time between two composed pictures whose leftover counts, in seconds."""

_RUNS = Fraction(1, 4)  # time in which motion against the film counts, in seconds
_USUAL = 0.98  # quantile of the clip's changes of a place
_LEAST_LOCAL = 6.0  # least such change, in levels of lightness and colour together, and …
# … as a part of that of the place that changes most: things move to new places.
_PART = 0.75
_THING = 1.8  # sigma of the area in which differences are summed, in places: a thing
_CHANNELS = 3  # of L*a*b*, whose differences are summed


class Feature(NamedTuple):
    """A value, and the size of what is wrong: levels of a pixel, averaged over the picture."""

    value: float
    size: float


Features = dict[str, Feature]


class FilmFeatures:
    """The pictures of a clip; each property is measured when it is first needed.

    ``pictures``: (h, w, 3) uint8. ``moving``: the parts that count, of any size. ``runs``,
    ``second``: the numbers of frames in which motion against the film counts, and in a
    second.
    """

    def __init__(self, pictures: Sequence[Bytes], moving: Mask, step: Fraction) -> None:
        self.pictures = pictures
        self.moving = parts(moving, max(pictures[0].shape))
        most = max(1, len(pictures) // 2)
        self.runs, self.second = (
            min(max(1, round(t / step)), most) for t in (_RUNS, Fraction(1))
        )

    @cached_property
    def _changes(self) -> tuple[list[Floats], list[Floats]]:
        pairs = zip(self.pictures[:-1], self.pictures[1:], strict=True)
        flows, apart = zip(*(change(*pair) for pair in pairs), strict=True)
        return list(flows), list(apart)

    @cached_property
    def course(self) -> Course | None:
        """The motion of the clip by place; None for a single picture."""
        return (
            Course(self._changes[0], self.runs, self.second)
            if len(self.pictures) > 1
            else None
        )

    @cached_property
    def usual(self) -> Floats:
        """The change that is usual in the clip, by place.

        A viewer sees more than 1.15 of it.
        """
        apart = np.array(self._changes[1])
        least = max(_LEAST_LOCAL, _PART * float(np.quantile(apart.max((1, 2)), _USUAL)))
        usual: Floats = np.maximum(np.quantile(apart, _USUAL, 0), least)
        return usual

    @cached_property
    def motion(self) -> list[float]:
        """The mean speed of the places over each second, in pixels per frame."""
        speeds = [np.linalg.norm(flow, axis=-1).mean() for flow in self._changes[0]]
        return [float(mean) for mean in means(speeds, self.second)]

    @cached_property
    def sharpness(self) -> list[float]:
        """The mean gradient over each second, in levels per pixel."""
        slopes = [np.float32(self.slope(picture)) for picture in self.pictures]
        return [float(mean) for mean in means(slopes, self.second)]

    @cached_property
    def varies(self) -> float:
        """The mean change of a pixel within a second, in levels."""
        greys = [grey(picture) for picture in self.pictures]
        pairs = zip(greys, greys[self.second :], strict=False)
        return float(np.mean([cv2.absdiff(*pair).mean() for pair in pairs]))

    def slope(self, picture: Bytes) -> float:
        """Return the mean gradient of the parts that count."""
        slopes = cv2.magnitude(*gradients(grey(picture).astype(np.float32)))
        return float(slopes[self.moving].mean())


class FeatureMeter:
    """The state in which the features of successive made pictures are measured."""

    def __init__(self, film: FilmFeatures) -> None:
        self._film = film
        self._flows: deque[Floats] = deque(maxlen=film.second)
        self._slopes: deque[float] = deque(maxlen=film.second)
        self._shown: deque[Bytes] = deque(maxlen=film.second + 1)
        self.place = ""

    def clear(self) -> None:
        """Forget the pictures so far, which what follows does not continue."""
        for shown in (self._flows, self._slopes, self._shown):
            shown.clear()

    def jumping(self, before: Bytes, picture: Bytes) -> Features:
        """Return whether things run back in a picture of a jump, after the picture before."""
        self._flows.append(change(before, picture)[0])
        self._shown.append(grey(picture))
        return self._against()

    def composed(self, before: Bytes, picture: Bytes) -> Features:
        """Return the features of a composed picture, after the picture before.

        ``sharpness``: mean gradient, in levels per pixel, and ``motion``: mean speed of the
        places, in pixels per frame, both over the last second. ``against``, ``slides``: see
        ``course.py``.
        """
        film = self._film
        features = self.pasted(before, picture, None)
        self._shown.append(grey(picture))
        self._slopes.append(film.slope(picture))
        features |= self._against()
        if len(self._slopes) == film.second:
            sharpness = float(np.mean(self._slopes))
            size = abs(sharpness - float(np.mean(film.sharpness)))
            features["sharpness"] = Feature(sharpness, size)
        if len(self._flows) == film.second and film.course is not None:
            flows = np.array(self._flows)
            varies = float(cv2.absdiff(self._shown[-1], self._shown[0]).mean())
            motion = float(np.linalg.norm(flows, axis=-1).mean())
            features["motion"] = Feature(motion, abs(varies - film.varies))
            slides = film.course.slides(flows.mean(0))
            features["slides"] = Feature(slides, slides * varies)
        return features

    def pasted(self, before: Bytes, picture: Bytes, made: Mask | None) -> Features:
        """Return the greatest change of a place, in the ``made`` part, that no motion explains."""
        flow, apart = change(before, picture)
        self._flows.append(flow)
        if self._film.course is None:
            return {}
        inside = 1.0 if made is None else by_place(made.astype(np.float32)) > 0
        usual = self._film.usual
        ratio = apart / usual * inside
        down, across = (int(k) for k in np.unravel_index(ratio.argmax(), ratio.shape))
        self.place = place_of(down / ratio.shape[0], across / ratio.shape[1])
        size = float(((apart - usual).clip(0) * inside).mean()) / _CHANNELS
        return {"local": Feature(float(ratio.max()), size)}

    def _against(self) -> Features:
        film = self._film
        if film.course is None or len(self._flows) < film.runs:
            return {}
        part = film.course.against(np.mean([*self._flows][-film.runs :], 0))
        shown = [*self._shown][-film.runs - 1 :]
        return {
            "against": Feature(part, part * float(cv2.absdiff(shown[-1], shown[0]).mean()))
        }


def change(before: Bytes, picture: Bytes) -> tuple[Floats, Floats]:
    """Return the backward flow by place, and the change that no motion explains.

    Each picture is moved to the other along the optical flow. The difference is averaged
    around each place.
    """
    pairs = (grey(picture), one := grey(before)), (one, grey(picture))
    flow, back = (measured_flow(*pair, quick=True) for pair in pairs)
    apart = _unexplained(before, picture, flow)
    apart = by_place(np.maximum(apart, _unexplained(picture, before, back)))
    apart = cv2.GaussianBlur(apart, (0, 0), _THING, borderType=cv2.BORDER_CONSTANT)
    return by_place(flow), apart


def _unexplained(one: Bytes, two: Bytes, flow: Floats) -> Floats:
    """Return the difference of each pixel of ``two`` from ``one`` moved to it, in levels of L*a*b*.

    What comes from outside the picture, and lines of one pixel, do not count.
    """
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1]
    y = y + np.arange(height, dtype=np.float32)[:, None]
    lab, true = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in (one, two))
    explained = cv2.remap(lab, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart = cv2.transform(cv2.absdiff(true, explained), np.ones((1, 3), np.float32))
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    unexplained: Floats = (cv2.erode(apart, np.ones((3, 3))) * inside).astype(np.float32)
    return unexplained
