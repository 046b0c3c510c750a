"""Measure each small picture of a clip, and of the dream that follows."""

from collections import deque
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.images import MIDDLE_SIDE, gradients, grey, moved, parts, reduced
from cloudconv.dreaming.vitals.course import Course, by_place
from cloudconv.forecasting.camera import measured_flow

Array = NDArray[np.float32]
Small = NDArray[np.uint8]
Values = dict[str, float | None]

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""

SPAN = Fraction(2, 5)
"""The time between two pictures whose unexplained change counts, in seconds."""

_RUNS = Fraction(1, 4)  # time in which motion against the film counts, in seconds
_USUAL = 0.98  # quantile of the clip's changes of a place
_LEAST_LOCAL = 6.0  # least such change, in levels of lightness and colour together, and …
_PART = 0.75  # … as a part of that of the place that changes most: things move to new places
_EDGE = 5  # part of a side, as a divisor, in which things enter and leave
_THING = 1.8  # sigma of the area in which differences are summed for ``local``, in places: a thing
_AREA = 6.0  # sigma of the area in which differences are summed for ``sudden``, in pixels
_LEAST = 0.5  # least such change of a clip, in levels: less is noise


class FeatureMeter:
    """The state in which the features of successive pictures are measured.

    ``moving``: the parts that count, (h, w) bool. ``step``: the seconds between two pictures of the
    clip, which has ``count``. ``place`` says where ``local`` was measured last, and ``course`` has
    the motion of the clip after :meth:`begin`.
    """

    def __init__(self, moving: NDArray[np.bool_], step: Fraction, count: int) -> None:
        """Begin with the clip."""
        self._moving = parts(moving, MIDDLE_SIDE)
        self._lag = max(2, round(SPAN / step))
        spans = (round(_RUNS / step), round(1 / step))
        self._runs, self._second = (max(1, min(span, count // 2)) for span in spans)
        self._shown: deque[Small] = deque(maxlen=self._lag + 1)
        self._flows: deque[Array] = deque(maxlen=self._second)
        self._slopes: deque[float] = deque(maxlen=self._second)
        self._before: Small | None = None
        self._count, self._most = 0, 0.0
        self._filmed: list[tuple[Array, Array]] | None = []
        self._usual: Array = np.ones(1, np.float32)
        self.course: Course | None = None
        self.place = ""

    def begin(self, *, follows: bool) -> None:
        """Go over to the dream. ``follows``: the dream follows the clip directly."""
        if self._filmed:
            flows, changes = zip(*self._filmed, strict=True)
            self.course = Course(flows, self._runs, self._second)
            inner = [slice(k // _EDGE, k - k // _EDGE) for k in changes[0].shape]
            self._usual = np.empty_like(changes[0])
            for (down, across), quantile in (([slice(None)] * 2, 1.0), (inner, _USUAL)):
                part = np.array(changes)[:, down, across]
                least = max(_LEAST_LOCAL, _PART * float(np.quantile(part.max((1, 2)), _USUAL)))
                self._usual[down, across] = np.maximum(np.quantile(part, quantile, 0), least)
        self._filmed = None
        if not follows:
            self._before = None
            for shown in (self._shown, self._flows, self._slopes):
                shown.clear()

    def measure(self, picture: Small) -> Values:
        """Return the features of the next picture, (h, w, 3) uint8; None if one is not known.

        ``sharpness``: mean gradient, in levels per pixel, and ``motion``: mean speed of the places,
        in pixels per frame, both over the last second. ``against``, ``slides``: see ``course.py``.
        ``sudden``, ``local``: see the methods.
        """
        picture = reduced(picture, MIDDLE_SIDE)
        before, self._before = self._before, picture
        self._shown.append(grey(picture))
        slopes = cv2.magnitude(*gradients(self._shown[-1].astype(np.float32)))
        self._slopes.append(float(slopes[self._moving].mean()))
        values: Values = dict.fromkeys(("against", "slides", "motion", "sharpness"))
        values["sudden"] = self._sudden()
        values["local"] = None if before is None else self._change(before, picture)
        flows = np.array(self._flows)
        if len(self._slopes) == self._second:
            values["sharpness"] = float(np.mean(self._slopes))
        if len(flows) == self._second:
            values["motion"] = float(np.linalg.norm(flows, axis=-1).mean())
            if self.course is not None:
                values["slides"] = self.course.slides(flows.mean(0))
        if self.course is not None and len(flows) >= self._runs:
            values["against"] = self.course.against(flows[-self._runs :].mean(0))
        return values

    def _change(self, before: Small, picture: Small) -> float | None:
        """Return the greatest change of a place between two pictures that no motion explains.

        Each picture is moved to the other along the optical flow. The difference is averaged around
        each place, and divided by that of the clip at the place (its quantile .98; near the border,
        where things enter, its largest). A viewer sees more than 1.15.
        """
        pairs = (self._shown[-1], one := grey(before)), (one, self._shown[-1])
        flow, back = (measured_flow(*pair, quick=True) for pair in pairs)
        self._flows.append(by_place(flow))
        apart = _unexplained(before, picture, flow)
        apart = by_place(np.maximum(apart, _unexplained(picture, before, back)))
        change: Array = cv2.GaussianBlur(apart, (0, 0), _THING, borderType=cv2.BORDER_CONSTANT)
        if self._filmed is not None:
            self._filmed.append((self._flows[-1], change))
        if self.course is None:
            return None
        change = change / self._usual
        down, across = (int(k) for k in np.unravel_index(change.argmax(), change.shape))
        row = ("upper ", "", "lower ")[3 * down // change.shape[0]]
        self.place = row + ("left", "middle", "right")[3 * across // change.shape[1]]
        return float(change.max())

    def _sudden(self) -> float | None:
        """Return how suddenly the pictures change; None if this picture is not compared.

        One sky that becomes another in the blink of an eye is a change that no motion explains. So
        some pictures are compared with the picture 0.4 seconds earlier, moved along the flow
        between the two. The mean of the tenth of the picture that differs most is divided by the
        largest of the clip.
        """
        self._count += 1
        if len(self._shown) <= self._lag or self._count % max(1, self._lag // 3):
            return None
        now, before = self._shown[-1], self._shown[0]
        explained = moved(before.astype(np.float32), measured_flow(now, before, quick=True))
        apart = cv2.GaussianBlur(np.abs(explained - now), (0, 0), _AREA)
        sizes = np.sort(apart[self._moving])
        change = float(sizes[int(QUANTILE * len(sizes)) :].mean())
        if self._filmed is not None:
            self._most = max(change, self._most, _LEAST)
        return change / self._most if self._most else None


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
