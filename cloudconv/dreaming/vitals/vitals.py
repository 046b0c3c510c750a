"""Find the faults of a dream, while the dream is made, by comparing its pictures with the clip.

The measured values are called vitals. docs/measurements/eyes.md says how many of the faults
that an eye sees they name. A dream without a fault may still look wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from cloudconv.dreaming.images import MIDDLE_SIDE, TINY, Bytes, reduced
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Composed, Jump, Origin
from cloudconv.dreaming.repeats import Repeats
from cloudconv.dreaming.vitals.features import SPAN, FeatureMeter, Features, FilmFeatures
from cloudconv.dreaming.vitals.leftover import Leftovers

WINDOW = 100
"""Number of frames in a window."""


class Vital(NamedTuple):
    """A vital: clauses about a dream above and below its limits, before these fit a clip.

    ``noise``: a ratio to the mean of the clip has no meaning if the mean is less; None for
    other values. ``lasts``: only the first moment outside is reported, because the fault
    goes on.
    """

    fault: str
    most: float
    least: float = 0.0
    below: str = ""
    noise: float | None = None
    lasts: bool = False


VITALS = {
    "local": Vital("something in the {place} appears, vanishes or jumps", 1.15),
    "leftover": Vital("something in the {place} dissolves, appears or vanishes", 1.0),
    "against": Vital("things run back", 0.5),
    "slides": Vital("parts that stood still slide", 0.06, lasts=True),
    "motion": Vital("motion grows", 3.0, 0.5, "motion stops or slows", 0.01, lasts=True),
    "sharpness": Vital(
        "the picture becomes harsh", 1.25, 0.8, "the picture becomes soft", TINY, lasts=True
    ),
}
"""The vitals, in the order of every table."""

_WHOLE = "the picture dissolves into another"
_MANY = 1.4  # what the largest of many leftovers of composed pictures may exceed by chance
# Exponent by which limits exceed the clip's ratios: a factor lets smears pass ….
_SLACK = 1.5
_OWN = 2.3  # … and factor by which that of ``against`` exceeds the clip's own


class Fault(NamedTuple):
    """A fault that a viewer sees: the frame of the dream, from 0, the vital, and a clause.

    ``size``: how much of the picture is wrong: levels of a pixel, averaged over the
    picture.
    """

    frame: int
    vital: str
    text: str
    size: float


@dataclass(eq=False)
class Vitals:
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values``: of each of ``VITALS`` the greatest of a moment, or the mean of what lasts;
    None if nothing was measured. ``failed``: the vitals that were outside their limits,
    each with a clause.
    """

    start: int
    end: int
    values: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(VITALS))
    failed: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VITALS, 0))

    @property
    def alive(self) -> bool:
        """Return whether all vitals are within their limits."""
        return not self.failed

    def add(self, vital: str, value: float) -> None:
        """Count a value of a moment."""
        self._counts[vital] += 1
        known = self.values[vital]
        if known is None:
            self.values[vital] = value
        elif VITALS[vital].lasts:
            self.values[vital] = known + (value - known) / self._counts[vital]
        else:
            self.values[vital] = max(known, value)

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        values = {key: None if v is None else round(v, 4) for key, v in self.values.items()}
        return {"from": self.start, "to": self.end, **values, "alive": self.alive}


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    Only what a mode made is measured, because what was filmed is right. ``frames``: the
    number of pictures. ``follows``: the dream is shown directly after the material, so the
    first change from the material to the dream counts. ``limits``: (least, most) of each
    vital. ``seen``: the number of pictures so far. ``rows``: the vitals of their windows.
    """

    def __init__(self, material: Material, frames: int, *, follows: bool = True) -> None:
        """Store the clip, which is measured where something made is compared with it."""
        glances = [material.glance(k) for k in range(len(material))]
        pictures = [reduced(picture, MIDDLE_SIDE) for picture in glances]
        self._material = material
        self._film = FilmFeatures(pictures, material.moving, material.step)
        self._meter = FeatureMeter(self._film)
        self._leftovers = Leftovers(pictures)
        self._span = max(1, round(SPAN / material.step))
        self._half = max(1, round(1 / (2 * material.step)))
        self._shows = Repeats(material.moving, glances)
        self._before = pictures[-1] if follows else None
        self._ago: list[Bytes] = []
        self._frames = frames
        self.seen = 0
        self._found: dict[str, list[Fault]] = {key: [] for key in VITALS}
        self._worst: list[float] = []
        self._means: dict[str, float | None] = {}
        self.limits = {key: (vital.least, vital.most) for key, vital in VITALS.items()}
        self.rows: list[Vitals] = []

    def push(self, small: Bytes, origin: Origin) -> Vitals | None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``.

        Returns:
            The vitals of the window that ends here, if one does.
        """
        self._shows.push(small)
        picture = reduced(small, MIDDLE_SIDE)
        if self.seen % WINDOW == 0:
            self.rows.append(Vitals(self.seen, self.seen))
        self._follow(picture, origin)
        for key, (value, size) in self._measured(picture, origin).items():
            self._judge(key, value, size, self.seen, self._meter.place)
        self._before = picture
        self.seen += 1
        self.rows[-1].end = self.seen
        ends = self.seen % WINDOW == 0 or self.seen == self._frames
        return self.rows[-1] if ends else None

    def _measured(self, picture: Bytes, origin: Origin) -> Features:
        if self._before is None:
            return {}
        match origin:
            case Jump():
                return self._meter.jumping(self._before, picture)
            case Composed(made=None):
                return self._meter.composed(self._before, picture)
            case Composed(made=made):
                self._meter.clear()
                return self._meter.pasted(self._before, picture, made)
            case _:
                self._meter.clear()
                return {}

    def _filmed(self, number: int) -> Bytes:
        return reduced(self._material.filmed_small(number), MIDDLE_SIDE)

    def _follow(self, picture: Bytes, origin: Origin) -> None:
        """Measure the leftover of a jump in its middle, and of a composed part every span."""
        number = self.seen
        if isinstance(origin, Jump):
            at = origin.start + (origin.length - 1) // (
                2 if origin.after is not None else 1
            )
            if number == min(at, self._frames - 1):
                # The first frame of the source, to which a loop leads, is what its end
                # shows.
                last = picture if origin.after is None else self._filmed(origin.after)
                ends = origin.start, min(origin.start + origin.length, self._frames)
                self._dissolves(
                    self._filmed(origin.before),
                    last,
                    origin.length + 1,
                    ends,
                    composed=False,
                )
        elif (
            isinstance(origin, Composed)
            and origin.made is None
            and self._film.course is not None
        ):
            self._ago.append(picture if self._before is None else self._before)
            if len(self._ago) == self._span:
                made = number + 1 - self._span, number + 1
                self._dissolves(self._ago[0], picture, self._span, made, composed=True)
                self._ago.clear()
        else:
            self._ago.clear()

    def _dissolves(
        self,
        first: Bytes,
        last: Bytes,
        frames: int,
        made: tuple[int, int],
        *,
        composed: bool,
    ) -> None:
        """Judge a change between two pictures, which is made in some frames of the dream.

        ``frames``: the distance of pairs of the film with which the change is compared.
        """
        leftover = self._leftovers.between(first, last)
        whole, thing = leftover.seen(self._leftovers.usual(frames))
        start, end = made
        # A viewer sees a change less that takes longer than a second.
        slow = max(1.0, float((end - start) * self._material.step)) ** 0.5
        slow *= _MANY if composed else 1.0
        whole = whole / slow
        thing = thing / slow
        size = leftover.mean
        value = max(whole, thing)
        place = None if whole > 1 and leftover.is_spread else leftover.place
        self._judge("leftover", value, size, (start + end - 1) // 2, place)
        if value > self.limits["leftover"][1]:
            for half in range(start // self._half, (end - 1) // self._half + 1):
                self._count(half, size)

    def _count(self, half: int, size: float) -> None:
        """Count a fault of a half second."""
        self._worst += [0.0] * (half + 1 - len(self._worst))
        self._worst[half] = max(self._worst[half], size)

    def _judge(
        self, key: str, value: float, size: float, frame: int, place: str | None
    ) -> None:
        """Count a value at a frame, and the fault if the value is outside its limits."""
        vital = VITALS[key]
        self._fit(key)
        if vital.noise is not None:
            mean = self._means[key]
            if mean is None:
                return
            value /= mean
        row = self.rows[frame // WINDOW]
        row.add(key, value)
        low, high = self.limits[key]
        if low <= value <= high:
            return
        above = _WHOLE if place is None else vital.fault.format(place=place)
        text = vital.below if value < low else above
        row.failed[key] = text
        fault = Fault(frame, key, text, size)
        self._count(frame // self._half, size)
        found = self._found[key]
        if not found or (not vital.lasts and frame - found[-1].frame >= self._half):
            found.append(fault)
        elif size > found[-1].size:
            found[-1] = found[-1]._replace(size=size) if vital.lasts else fault

    def _fit(self, key: str) -> None:
        """Widen the limits of a vital, so that the clip itself is within."""
        vital = VITALS[key]
        low, high = self.limits[key]
        if vital.noise is not None and key not in self._means:
            known = np.array(self._film.motion if key == "motion" else self._film.sharpness)
            mean = float(known.mean())
            self._means[key] = mean if mean > vital.noise else None
            own = np.maximum(known / max(mean, TINY), TINY) ** _SLACK
            seen = 10 * vital.noise / max(mean, TINY)  # a viewer sees no growth up to there
            low = float(own.min(initial=low))
            high = float(own.max(initial=max(high, seen)))
        elif key == "against" and self._film.course is not None:
            high = max(vital.most, _OWN * self._film.course.own)
        self.limits[key] = round(low, 4), round(high, 4)

    @property
    def faults(self) -> list[Fault]:
        """Return the faults so far.

        At one moment the first in the order of the vitals counts.
        """
        faults: list[Fault] = []
        for key, found in self._found.items():
            others = [] if VITALS[key].lasts else [fault.frame for fault in faults]
            faults += [
                f for f in found if all(abs(f.frame - k) > self._half for k in others)
            ]
        return sorted(faults)

    @property
    def visible(self) -> float:
        """Return how visible the faults are: the mean over half seconds of the largest size."""
        return sum(self._worst) / max(1, -(-self.seen // self._half))

    @property
    def period(self) -> int | None:
        """Return the number of frames after which most pictures come again.

        Return None if few do, or if the dream ends before.
        """
        period = self._shows.period(self.seen)
        return None if period is None or period >= self.seen else period

    def now(self) -> Vitals:
        """Return the vitals of the window that goes on, or of the last one."""
        return self.rows[-1]
