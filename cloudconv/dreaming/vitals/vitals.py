"""Find the faults of a dream, while the dream is made, by comparing its pictures with the clip.

The measured values are called vitals. Three of them find moments (see ``features.py``); the others
compare windows of 100 frames with the clip. No single value is enough: a frozen picture is as sharp
as the clip, and a smeared picture moves like the clip. Real footage varies too. The limits are
therefore wide enough for each window of the clip, compared with the whole clip. A dream without a
fault may still look wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isinf
from typing import Any, NamedTuple

import numpy as np

from cloudconv.dreaming.images import TINY, Bytes
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.vitals.features import QUANTILE, SLACK, FeatureMeter, Values
from cloudconv.dreaming.vitals.lasting import Lasting
from cloudconv.dreaming.vitals.sameness import Sameness

WINDOW = 100
"""Number of frames in a window."""

_LIKE_BEFORE = 0.55  # least limit of ``novelty`` in a sky
_SAME = 1.25  # greatest sharpness, contrast and saturation, relative to the clip
_SHIFT = 12.0  # greatest change of the mean brightness, in levels
_LEAST_MOTION = 0.03  # least mean change of a moving clip from frame to frame, in levels


@dataclass(frozen=True, slots=True)
class Vital:
    """A vital: clauses about a dream above and below its limits, before these fit a clip.

    ``part``: the quantile of the frames of a window that counts; None if the value is measured for
    the whole window. ``noise``: a ratio has no meaning for a clip with less than this.
    """

    fault: str
    below: str = ""
    most: float = inf
    least: float = -inf
    part: float | None = None
    noise: float = TINY


RATIOS = {
    "sharpness": Vital("the picture becomes harsh", "the picture becomes soft", _SAME),
    "std": Vital("contrast grows", "contrast fades", _SAME),
    "saturation": Vital("colours become stronger", "colours fade", _SAME, noise=2.0),
    "motion": Vital("motion grows", "motion stops or slows", 1.6, noise=_LEAST_MOTION),
}
"""Vitals that are ratios of the dream to the clip; they may be as small as 1 / ``most``."""

VITALS = RATIOS | {
    "mean_shift": Vital("the picture becomes bright", "the picture becomes dark", _SHIFT, -_SHIFT),
    "jump": Vital("a frame jumps", most=2.2),
    "novelty": Vital("the same clouds come again"),
    "smear": Vital("parts are smeared", part=QUANTILE),
    "silhouette": Vital("dark land floats in the sky, or is lost", part=QUANTILE),
    "detail": Vital("parts that stand still are torn", part=QUANTILE),
    "sudden": Vital("the picture becomes another within half a second", most=1.4, part=1.0),
    "local": Vital("something in the {place} appears, vanishes or jumps", most=1.5, part=1.0),
    "against": Vital("things run back", most=0.25, part=1.0),
}
"""The vitals, in the order of every table."""

MOMENTS = ("sudden", "local", "against")
"""The vitals of single moments."""

_REST = Fraction(1, 2)  # least time between two faults of one kind, in seconds

Limits = dict[str, tuple[float, float]]


class Fault(NamedTuple):
    """A fault that a viewer sees: the frame of the dream, from 0, the vital, and a clause.

    ``size`` is the value of the vital.
    """

    frame: int
    vital: str
    text: str
    size: float


@dataclass(frozen=True, slots=True)
class Vitals:
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values`` has a value for each of ``VITALS``; None if the vital has no meaning, such as the
    saturation of a clip without colour. ``failed`` names the vitals that are outside their limits.
    """

    start: int
    end: int
    values: Values
    failed: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """Return whether all vitals are within their limits."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        shown = {key: _rounded(value) for key, value in self.values.items()}
        return {"from": self.start, "to": self.end, **shown, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class DreamKind:
    """The properties of a dream on which its vitals depend.

    ``repeats``: earlier pictures are shown again by design, so a high ``novelty`` is no fault.
    ``frames``: the number of frames; a dream of less than ``WINDOW`` frames is one window, compared
    with equally short windows of the clip. ``follows``: the dream is shown directly after the
    material, so the first change from the material to the dream counts. ``sky``: only sky moves,
    which does not return by itself.
    """

    repeats: bool = False
    frames: int = WINDOW
    follows: bool = True
    sky: bool = False


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    ``limits`` are the limits, (least, most), of each vital. ``seen``: the number of pictures so
    far, and ``rows`` the vitals of their windows. ``solid``: whether solid things move in the clip
    before a moving camera, so that no lasting detail shows whether they are torn.
    """

    def __init__(self, material: Material, kind: DreamKind) -> None:
        """Measure the clip, and derive the limits."""
        pictures = [material.glance(k) for k in range(len(material))]
        moving = material.moving
        sky = moving & (material.land.cpu().numpy() == 0) if kind.sky else np.ones_like(moving)
        self._meter = FeatureMeter(moving, sky, material.step)
        self._clip = [self._meter.measure(picture) for picture in pictures]
        self._meter.begin(follows=kind.follows)
        self._rest = max(1, round(_REST / material.step))
        self._moments: list[Fault] = []
        self._moves = (_mean(self._clip, "motion") or 0.0) > _LEAST_MOTION
        self._frames, self._window = kind.frames, min(kind.frames, WINDOW)
        self._sameness = Sameness(moving)
        self._shows = Sameness(moving, pictures)
        self._lasting = Lasting(pictures)
        self.solid = self._lasting.solid
        self._shown: deque[Values] = deque(maxlen=WINDOW)
        self.seen = 0
        self.rows: list[Vitals] = []
        self.limits = _limits(self._clip, self._window)
        self.limits |= {key: (-inf, most) for key, most in self._lasting.limits.items()}
        if (course := self._meter.course) is not None:
            self.limits["against"] = (-inf, max(VITALS["against"].most, SLACK * course.own))
        if kind.sky and not kind.repeats:
            own = Sameness(moving, pictures).over(len(pictures)) or 0.0
            self.limits["novelty"] = (-inf, max(_LIKE_BEFORE, own))

    def push(self, small: Bytes) -> Vitals | None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``.

        Returns:
            The vitals of the window that ends here, if one does.
        """
        self._sameness.push(small)
        self._shows.push(small)
        self._shown.append({**self._meter.measure(small), **self._lasting.lost(small)})
        self._note(self._shown[-1])
        self.seen += 1
        # The last window has the last frames, so this window may overlap the one before.
        if self.seen % WINDOW and self.seen != self._frames:
            return None
        self.rows.append(self.now())
        return self.rows[-1]

    def _note(self, values: Values) -> None:
        """Keep the greatest fault of each moment."""
        for key in MOMENTS:
            value = values[key]
            if value is None or value <= self.limits[key][1]:
                continue
            text = VITALS[key].fault.format(place=self._meter.place)
            fault = Fault(self.seen, key, text, value)
            last = next((each for each in reversed(self._moments) if each.vital == key), None)
            if last is None or self.seen - last.frame >= self._rest:
                self._moments.append(fault)
            elif value > last.size:
                self._moments[self._moments.index(last)] = fault

    @property
    def faults(self) -> list[Fault]:
        """Return the faults so far, each at its moment, or at the first window that has it."""
        sudden = [each.frame for each in self._moments if each.vital == "sudden"]
        found = [
            each
            for each in self._moments
            if each.vital == "sudden" or all(abs(each.frame - k) > self._rest for k in sudden)
        ]
        known: set[str] = set()
        for row in self.rows:
            for key in row.failed:
                if key not in known and key not in MOMENTS:
                    value = row.values[key] or 0.0
                    found.append(Fault(row.start, key, in_words(key, value), value))
                    known.add(key)
        return sorted(found)

    @property
    def period(self) -> int | None:
        """Return the number of frames after which most pictures come again; None if few do."""
        return self._shows.period(self.seen)

    def limits_as_json(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the limits, (least, most), of each vital for JSON; None means no limit."""
        return {key: (_rounded(low), _rounded(high)) for key, (low, high) in self.limits.items()}

    def now(self) -> Vitals:
        """Return the vitals of the last ``WINDOW`` or fewer frames, of at least one frame.

        Less frames than a window are not judged, because they vary more, also in the clip.
        """
        shown = [*self._shown]
        values = _compared(shown, self._clip)
        values["novelty"] = self._sameness.over(len(shown))
        for key, vital in VITALS.items():
            if vital.part is not None and (known := _known(shown, key)):
                values[key] = float(np.quantile(known, vital.part))
        if not self._moves:
            # A still shows neither what returns nor what lasts.
            values |= dict.fromkeys(("novelty", "silhouette", "detail"))
        failed = tuple(
            key
            for key, (low, high) in self.limits.items()
            if (value := values[key]) is not None and not low <= value <= high
        )
        whole = len(shown) >= self._window
        return Vitals(self.seen - len(shown), self.seen, values, failed if whole else ())


def _rounded(value: float | None) -> float | None:
    return None if value is None or isinf(value) else round(value, 4)


def in_words(key: str, value: float | None) -> str:
    """Return the clause about a failed vital, for example ``colours fade``."""
    vital = VITALS[key]
    usual = 1.0 if key in RATIOS else 0.0
    is_below = bool(vital.below) and value is not None and value < usual
    return (vital.below if is_below else vital.fault).format(place="picture")


def _known(shown: Sequence[Values], key: str) -> list[float]:
    return [value for values in shown if (value := values[key]) is not None]


def _mean(shown: Sequence[Values], key: str) -> float | None:
    known = _known(shown, key)
    return float(np.mean(known)) if known else None


def _compared(shown: Sequence[Values], clip: Sequence[Values]) -> Values:
    """Return the vitals of pictures that follow from their features; the others are None."""
    values: Values = dict.fromkeys(VITALS)
    for key in (*RATIOS, "mean"):
        mean, own = _mean(shown, key), _mean(clip, key)
        if mean is None or own is None:
            continue
        if key == "mean":
            values["mean_shift"] = mean - own
        elif own > VITALS[key].noise:
            values[key] = mean / own
    changes = _known(shown, "motion")
    if changes and float(np.median(changes)) > _LEAST_MOTION:
        values["jump"] = _jump(changes)
    return values


def _limits(clip: Sequence[Values], window: int) -> Limits:
    """Return the limits of ``VITALS``, widened so that the clip's own windows are within.

    Each window of ``window`` frames is compared with the rest of the clip, because a dream may
    differ from everything in the clip, too. The slack makes the limits wider still. For a ratio the
    slack is an exponent: a factor would widen the limits so far that smeared pictures would pass.
    """
    limits = {
        key: (1 / vital.most if key in RATIOS else vital.least, vital.most)
        for key, vital in VITALS.items()
    }
    size = max(min(window, len(clip) // 2), 2)
    # The last window has the last frames, as in a dream.
    last = max(len(clip) - size, 0)
    for start in (*range(0, last, size // 2), last):
        rest = [*clip[:start], *clip[start + size :]]
        values = _compared(clip[start : start + size], rest if len(rest) > 1 else clip)
        for key, value in values.items():
            if value is not None:
                low, high = limits[key]
                given = max(value, TINY) ** SLACK if key in RATIOS else value * SLACK
                limits[key] = min(low, given), max(high, given)
    return limits


def _jump(changes: Sequence[float]) -> float:
    """Return the largest change from frame to frame, relative to its neighbours.

    A sudden motion usually continues, but a jump is a single change. So each change is divided by
    the largest of the two changes before and the two after, but at least by the median change.
    """
    padded = np.pad(changes, 2)
    beside = np.max([np.roll(padded, shift) for shift in (-2, -1, 1, 2)], axis=0)[2:-2]
    return float((changes / np.maximum(beside, np.median(changes))).max())
