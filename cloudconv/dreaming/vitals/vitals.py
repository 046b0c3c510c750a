"""Find the faults of a dream, while the dream is made, by comparing its pictures with the clip.

The measured values are called vitals. docs/measurements/eyes.md says how many of the faults that an
eye sees they name. A dream without a fault may still look wrong.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from cloudconv.dreaming.images import TINY, Bytes
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Origin
from cloudconv.dreaming.repeats import Repeats
from cloudconv.dreaming.vitals.features import FeatureMeter, Values

WINDOW = 100
"""Number of frames in a window."""


class Vital(NamedTuple):
    """A vital: clauses about a dream above and below its limits, before these fit a clip.

    ``noise``: a ratio to the mean of the clip has no meaning if the mean is less; None for other
    values. ``lasts``: only the first moment outside is reported, because the fault goes on.
    """

    fault: str
    most: float
    least: float = 0.0
    below: str = ""
    noise: float | None = None
    lasts: bool = False


VITALS = {
    "sudden": Vital("the picture becomes another within half a second", 1.4),
    "against": Vital("things run back", 0.5),
    "local": Vital("something in the {place} appears, vanishes or jumps", 1.15),
    "slides": Vital("parts that stood still slide", 0.06, lasts=True),
    "motion": Vital("motion grows", 3.0, 0.5, "motion stops or slows", 0.01, lasts=True),
    "sharpness": Vital(
        "the picture becomes harsh", 1.25, 0.8, "the picture becomes soft", TINY, lasts=True
    ),
}
"""The vitals, in the order of every table."""

_SLACK = 1.5  # exponent by which limits exceed the clip's ratios: a factor lets smears pass …
_OWN = 2.3  # … and factor by which that of ``against`` exceeds the clip's own
_MOST = 10.0  # greatest size of a fault that is below a limit


class Fault(NamedTuple):
    """A fault that a viewer sees: the frame of the dream, from 0, the vital, and a clause.

    ``size``: how far the value is outside; 1 is the limit, from which on a viewer sees the fault.
    """

    frame: int
    vital: str
    text: str
    size: float


class Vitals(NamedTuple):
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values``: of each of ``VITALS`` the greatest of a moment, or the mean of what lasts; None if
    the vital has no meaning. ``failed``: the vitals that were outside their limits, each with a
    clause.
    """

    start: int
    end: int
    values: Values
    failed: dict[str, str]

    @property
    def alive(self) -> bool:
        """Return whether all vitals are within their limits."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        return {"from": self.start, "to": self.end, **self.values, "alive": self.alive}


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    ``frames``: the number of pictures. ``follows``: the dream is shown directly after the material,
    so the first change from the material to the dream counts. ``limits``: (least, most) of each
    vital. ``seen``: the number of pictures so far. ``rows``: the vitals of their windows.
    """

    def __init__(self, material: Material, frames: int, *, follows: bool = True) -> None:
        """Measure the clip, and derive the limits, so wide that the clip itself is within."""
        pictures = [material.glance(k) for k in range(len(material))]
        self._meter = FeatureMeter(material.moving, material.step, len(material))
        clip = [self._meter.measure(picture) for picture in pictures]
        self._meter.begin(follows=follows)
        self._means: dict[str, float | None] = {}
        self.limits: dict[str, tuple[float, float]] = {}
        for key, (_, high, low, _, noise, _) in VITALS.items():
            known = np.array([value for each in clip if (value := each[key]) is not None])
            if noise is not None:
                mean = float(known.mean()) if known.size else 0.0
                self._means[key] = mean if mean > noise else None
                own = np.maximum(known / max(mean, TINY), TINY) ** _SLACK
                seen = 10 * noise / max(mean, TINY)  # a viewer sees no growth up to there
                low, high = float(own.min(initial=low)), float(own.max(initial=max(high, seen)))
            elif key == "against" and self._meter.course is not None:
                high = max(high, _OWN * self._meter.course.own)
            self.limits[key] = round(low, 4), round(high, 4)
        self._half = max(1, round(1 / (2 * material.step)))
        self._shows = Repeats(material.moving, pictures)
        self._shown: deque[tuple[Values, dict[str, str]]] = deque(maxlen=WINDOW)
        self._frames, self.seen = frames, 0
        self._found: dict[str, list[Fault]] = {key: [] for key in VITALS}
        self._worst: list[float] = []
        self.rows: list[Vitals] = []

    def push(self, small: Bytes, origin: Origin) -> Vitals | None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``.

        Returns:
            The vitals of the window that ends here, if one does.
        """
        self._shows.push(small)
        values = self._meter.measure(small)
        for key, mean in self._means.items():
            value = values[key]
            values[key] = None if value is None or mean is None else value / mean
        faults = [fault for key in VITALS if (fault := self._fault(key, values[key])) is not None]
        self._shown.append((values, {each.vital: each.text for each in faults}))
        if self.seen % self._half == 0:
            self._worst.append(0.0)
        for fault in faults:
            self._worst[-1] = max(self._worst[-1], fault.size)
            found, lasts = self._found[fault.vital], VITALS[fault.vital].lasts
            if not found or (not lasts and self.seen - found[-1].frame >= self._half):
                found.append(fault)
            elif fault.size > found[-1].size:
                found[-1] = found[-1]._replace(size=fault.size) if lasts else fault
        self.seen += 1
        # The last window has the last frames, so this window may overlap the one before.
        if self.seen % WINDOW and self.seen != self._frames:
            return None
        self.rows.append(self.now())
        return self.rows[-1]

    def _fault(self, key: str, value: float | None) -> Fault | None:
        """Return the fault of a value outside its limits."""
        (low, high), vital = self.limits[key], VITALS[key]
        if value is None or low <= value <= high:
            return None
        if value < low:
            return Fault(self.seen, key, vital.below, low / max(value, low / _MOST))
        return Fault(self.seen, key, vital.fault.format(place=self._meter.place), value / high)

    @property
    def faults(self) -> list[Fault]:
        """Return the faults so far; at one moment the first in the order of the vitals counts."""
        made: list[Fault] = []
        for key, found in self._found.items():
            others = [] if VITALS[key].lasts else [each.frame for each in made]
            made += [f for f in found if all(abs(f.frame - k) > self._half for k in others)]
        return sorted(made)

    @property
    def visible(self) -> float:
        """Return how visible the faults are: the mean over half seconds of the worst size."""
        return float(np.mean(self._worst)) if self._worst else 0.0

    @property
    def period(self) -> int | None:
        """Return the number of frames after which most pictures come again; None if few do."""
        return self._shows.period(self.seen)

    def now(self) -> Vitals:
        """Return the vitals of the last ``WINDOW`` or fewer frames, of at least one frame."""
        values: Values = {}
        for key, vital in VITALS.items():
            known = [value for each, _ in self._shown if (value := each[key]) is not None]
            shown = float(np.mean(known) if vital.lasts else max(known)) if known else None
            values[key] = None if shown is None else round(shown, 4)
        failed = {key: text for _, texts in self._shown for key, text in texts.items()}
        return Vitals(self.seen - len(self._shown), self.seen, values, failed)
