"""Measure the features of each small picture of a clip, and of the dream that follows.

Features are measured on luma in levels from 0 to 255. The pictures are copies whose longest side is
at most 480. Only the moving parts of the source are measured.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.dreaming.images import MIDDLE_SIDE, gradients, grey, moved, parts, reduced
from cloudconv.dreaming.vitals.course import Course, by_place
from cloudconv.models.motion import measured_flow

Array = NDArray[np.float32]
Small = NDArray[np.uint8]
Values = dict[str, float | None]

SLACK = 1.5
"""The factor, or exponent, by which a limit exceeds the values of parts of the clip, which are
compared with the rest: real footage is within."""

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

SPAN = Fraction(2, 5)
"""The time between two pictures whose unexplained change counts, in seconds."""

_RUNS = Fraction(1, 4)  # time in which motion against the film counts, in seconds

_SIDE = 16  # of a place whose change counts, in pixels
_LEAST_LOCAL = 6.0  # least such change of a clip, in levels of lightness and colour together
_USUAL = 0.98  # quantile of a clip's changes of places
_AREA = 6.0  # sigma of the area in which their differences are summed, in pixels
_LEAST = 0.5  # least such change of a clip, in levels: less is noise


class FeatureMeter:
    """The state in which the features of successive pictures are measured.

    ``moving`` and ``sky``, (h, w) bool, are the parts that count, and those that count for
    ``sudden``. ``step``: the time between two pictures in seconds.
    """

    def __init__(self, moving: NDArray[np.bool_], sky: NDArray[np.bool_], step: Fraction) -> None:
        """Begin with the clip."""
        self._weights = moving.astype(np.uint8)
        self._sky = parts(sky, MIDDLE_SIDE)
        self._lag = max(2, round(SPAN / step))
        self._shown: deque[tuple[Array, Small]] = deque(maxlen=self._lag + 1)
        self._count = 0
        self._most: NDArray[np.float64] | None = None
        self._learns = True
        self._before: Small | None = None
        self._local: list[float] = []
        self._flows: deque[Array] = deque(maxlen=max(1, round(_RUNS / step)))
        self._filmed: list[Array] = []
        self.course: Course | None = None
        self.place = ""

    def begin(self, *, follows: bool) -> None:
        """Go over to the dream. ``follows``: the dream follows the clip directly."""
        self._learns = False
        if self._local:
            self._local = [max(_LEAST_LOCAL, float(np.quantile(self._local, _USUAL)))]
        if self._filmed:
            self.course = Course(self._filmed, self._flows.maxlen or 1)
            self._filmed.clear()
        if not follows:
            self._shown.clear()
            self._flows.clear()
            self._before = None

    def measure(self, picture: Small) -> Values:
        """Return the features of the next picture, (h, w, 3) uint8.

        ``sharpness``: mean gradient, in levels per pixel. ``mean``, ``std``: of the luma, in
        levels. ``saturation``: mean range of the colour channels, in levels. ``motion``: mean
        absolute difference from the picture before, in levels; None for the first picture.
        ``sudden``, ``local``: see :meth:`_sudden` and :meth:`_changed`.
        """
        luma: Array = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)
        before = self._shown[-1][0] if self._shown else None
        self._shown.append((luma, reduced(grey(picture), MIDDLE_SIDE)))
        mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(luma, mask=self._weights))
        red, green, blue = cv2.split(picture)
        high, low = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
        return {
            "sharpness": self._mean(cv2.magnitude(*gradients(luma))),
            "mean": mean,
            "std": std,
            "saturation": self._mean(high - low),
            "motion": None if before is None else self._mean(cv2.absdiff(luma, before)),
            "sudden": self._sudden(),
            "local": self._changed(reduced(picture, MIDDLE_SIDE)),
            "against": self._against(),
        }

    def _mean(self, values: Array | Small) -> float:
        return float(cv2.mean(values, self._weights)[0])

    def _changed(self, picture: Small) -> float | None:
        """Return the greatest change of a place since the picture before that no motion explains.

        Each picture is moved to the other along the optical flow. The difference is averaged over
        squares of 16 pixels, and divided by that of the clip (its quantile .98). A viewer sees more
        than 1.5: a car that vanishes within a frame gives 4. :attr:`place` is that of the square.
        """
        before, self._before = self._before, picture
        if before is None:
            return None
        flow, back = (_flow(*pair) for pair in ((picture, before), (before, picture)))
        self._flows.append(by_place(flow))
        if self._learns:
            self._filmed.append(self._flows[-1])
        apart = _unexplained(before, picture, flow)
        apart = np.maximum(apart, _unexplained(picture, before, back))
        sums = cv2.boxFilter(apart, -1, (_SIDE, _SIDE), borderType=cv2.BORDER_CONSTANT)
        most = float(sums.max())
        if self._learns:
            self._local.append(most)
        if self._learns or not self._local:
            return None
        row, column = np.unravel_index(int(sums.argmax()), sums.shape)
        self.place = _place(row / sums.shape[0], column / sums.shape[1])
        return most / self._local[0]

    def _against(self) -> float | None:
        """Return the part of the clip's motion that ran back in the last quarter of a second."""
        if self.course is None or len(self._flows) < (self._flows.maxlen or 1):
            return None
        return self.course.against(np.mean(self._flows, 0))

    def _sudden(self) -> float | None:
        """Return how suddenly the pictures change; None if this picture is not compared.

        One sky that becomes another in the blink of an eye is a change that no motion explains. So
        some pictures are compared with the picture 0.4 seconds earlier, moved along the flow
        between the two. The mean difference, and the mean of the tenth of the picture that differs
        most, are divided by the largest of the clip; the larger ratio counts. Halves of real clips
        give 0.85 to 1.02 against each other; a dissolve of a whole sky within a second gives 2 and
        more.
        """
        self._count += 1
        if len(self._shown) <= self._lag or self._count % max(1, self._lag // 3):
            return None
        now, before = self._shown[-1][1], self._shown[0][1]
        flow = torch.from_numpy(measured_flow(now, before, quick=True)).permute(2, 0, 1)
        explained = moved(torch.from_numpy(before)[None].float(), flow)[0].numpy()
        apart = cv2.GaussianBlur(np.abs(explained - now), (0, 0), _AREA)
        sizes = np.sort(apart[self._sky])
        change = np.array([sizes.mean(), sizes[int(QUANTILE * len(sizes)) :].mean()])
        if self._learns:
            self._most = np.maximum(change, _LEAST if self._most is None else self._most)
        return None if self._most is None else float((change / self._most).max())


def _flow(later: Small, earlier: Small) -> Array:
    return measured_flow(grey(later), grey(earlier), quick=True)


def _unexplained(one: Small, two: Small, flow: Array) -> Array:
    """Return the difference of each pixel of ``two`` from ``one`` moved to it, in levels of L*a*b*.

    What comes from outside the picture, and lines of one pixel, do not count.
    """
    height, width = flow.shape[:2]
    x, y = flow[..., 0] + np.arange(width, dtype=np.float32), flow[..., 1]
    y = y + np.arange(height, dtype=np.float32)[:, None]
    lab, true = (cv2.cvtColor(each, cv2.COLOR_RGB2LAB) for each in (one, two))
    explained = cv2.remap(lab, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart = cv2.transform(cv2.absdiff(true, explained), np.ones((1, 3), np.float32))
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    made: Array = (cv2.erode(apart, np.ones((3, 3))) * inside).astype(np.float32)
    return made


def _place(down: float, across: float) -> str:
    """Return the words for a place from 0 (top, left) to 1 (bottom, right)."""
    row = ("upper ", "", "lower ")[min(int(3 * down), 2)]
    side = ("left", "middle", "right")[min(int(3 * across), 2)]
    return f"{row}{side}"
