"""Measure, while a dream is made, whether its pictures still look and move like the clip.

The measured values are called vitals. They compare windows of 100 frames of the dream with the clip
before the dream. No single value is enough: a frozen picture is as sharp as the clip, and a smeared
picture moves like the clip. So a window counts as alive only if all values are within their limits.
Real footage varies too. The limits are therefore wide enough for each window of the clip, compared
with the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import TINY
from cloudconv.dreaming.vitals.features import QUANTILE, SLACK, FeatureMeter
from cloudconv.dreaming.vitals.lasting import Lasting
from cloudconv.dreaming.vitals.novelty import Novelty
from cloudconv.dreaming.vitals.sudden import Sudden

WINDOW = 100
"""Number of frames in a window."""

_LIKE_BEFORE = 0.55  # least limit of ``novelty`` in a sky
_SHIFT = 12.0  # greatest change of the mean brightness, in levels


@dataclass(frozen=True, slots=True)
class Vital:
    """A vital: its limits before they are widened for a clip, and two texts for people.

    A ``ratio`` to the clip that has no ``least`` may be as small as 1 / ``most``. ``fault``: a
    clause about a dream that fails; braces show a ratio as a percentage. ``meaning``: the values.
    ``part``: the quantile of the frames of a window that counts; None if the value is measured for
    the whole window.
    """

    most: float
    fault: str
    meaning: str
    least: float | None = 0.0
    part: float | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest healthy value."""
        return 1 / self.most if self.least is None else self.least, self.most


VITALS = {
    "sharpness": Vital(
        1.25,
        "it is {:.0%} as sharp as the clip",
        "strength of edges; 1 is that of the source",
        least=None,
    ),
    "std": Vital(
        1.11,
        "it has {:.0%} of the clip's contrast",
        "contrast; 1 is that of the source",
        least=None,
    ),
    "saturation": Vital(
        1.35,
        "it is {:.0%} as colourful as the clip",
        "colourfulness; 1 is that of the source",
        least=None,
    ),
    "motion": Vital(
        1.6,
        "it moves {:.0%} as much as the clip",
        "change from frame to frame; 1 is that of the source",
        least=None,
    ),
    "anisotropy": Vital(
        1.08,
        "its edges run in one direction {:.0%} as much as the clip's",
        "agreement of the directions of edges; 1 is that of the source, smears have more",
    ),
    "mean_shift": Vital(
        _SHIFT,
        "its brightness has changed",
        "mean brightness minus that of the source, in levels of 255",
        least=-_SHIFT,
    ),
    "jump": Vital(
        2.2,
        "a frame changes suddenly",
        "the largest change between two frames, relative to the changes around it",
    ),
    "novelty": Vital(
        inf,
        "the same clouds come again",
        "similarity to frames 60 or more earlier; 1 is the same picture",
        least=-inf,
    ),
    "silhouette": Vital(
        inf,
        "dark parts became bright, or bright parts dark",
        "percent of the picture where dark land is lost, or floats in the sky",
        part=QUANTILE,
    ),
    "detail": Vital(
        inf,
        "parts that never change in the clip are torn",
        "percent of the picture where detail that lasts in the clip is lost",
        part=QUANTILE,
    ),
    "sudden": Vital(
        1.4,
        "it changes {:.0%} as suddenly as the clip",
        "the largest change in 0.4 s that no motion explains; 1 is the largest of the clip",
        part=1.0,
    ),
}
"""The vitals, in the order of every table."""

_RATIOS = tuple(VITALS)[:5]  # vitals that are ratios of the dream to the clip
_LEAST_COLOUR = 2.0  # least mean difference of a coloured clip's channels, in levels
_LEAST_MOTION = 0.03  # least mean change of a moving clip from frame to frame, in levels
_EARLY = 1.6  # exponent, or factor, that widens the limits for incomplete windows

Values = dict[str, float | None]
Limits = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Vitals:
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values`` has a value for each of ``VITALS``. The first five are ratios to the clip.
    ``mean_shift`` is in levels of 0 to 255; ``silhouette`` and ``detail`` are percentages of the
    picture. ``novelty`` is the correlation with earlier pictures, so a low value means new
    pictures. ``sudden`` is a ratio to the largest change of the clip. A value is None if the vital
    has no meaning, such as the saturation of a clip without colour. ``failed`` names the vitals
    that are outside their limits.
    """

    start: int
    end: int
    values: Values
    failed: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """Return whether all vitals are within their limits."""
        return not self.failed

    @property
    def faults(self) -> dict[str, str]:
        """Return a description of each failed vital, by name."""
        return {key: in_words(key, self.values[key]) for key in self.failed}

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        shown = {key: _rounded(value) for key, value in self.values.items()}
        return {"from": self.start, "to": self.end, **shown, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class DreamKind:
    """The properties of a dream on which its vitals depend.

    ``repeats``: earlier pictures are shown again by design, so a high ``novelty`` is no fault.
    ``pasted``: still parts are copied from the last real frame. ``frames``: the number of frames; a
    dream of less than ``WINDOW`` frames is one window, compared with equally short windows of the
    clip. ``follows``: the dream is shown directly after the material, so the first change from the
    material to the dream counts. ``sky``: only sky moves, which does not return by itself.
    """

    repeats: bool = False
    pasted: bool = False
    frames: int = WINDOW
    follows: bool = True
    sky: bool = False


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    ``limits`` are the limits, (least, most), of each vital. ``early`` are the wider limits for a
    few frames, and for trials with small pictures. ``seen``: the number of pictures so far, and
    ``rows`` the vitals of their windows.
    ``solid``: whether solid things move in the clip before a moving camera, so that no lasting
    detail shows whether they are torn.
    """

    def __init__(self, material: Material, kind: DreamKind) -> None:
        """Measure the clip, and derive the limits."""
        material = material.steady if kind.pasted else material
        pictures = [material.glance(k) for k in range(len(material))]
        moving = material.moving
        meter = FeatureMeter(moving)
        features = [meter.measure(picture) for picture in pictures]
        self._frames, self._window = kind.frames, min(kind.frames, WINDOW)
        self._source = _Source(features)
        self._features = meter if kind.follows else FeatureMeter(moving)
        self._novelty = Novelty(moving)
        self._lasting = Lasting(pictures)
        self.solid = self._lasting.solid
        sky = moving & (material.land.cpu().numpy() == 0) if kind.sky else np.ones_like(moving)
        self._sudden = Sudden(pictures, material.step, sky, follows=kind.follows)
        self._shown: deque[Values] = deque(maxlen=WINDOW)
        self.seen = 0
        self.rows: list[Vitals] = []
        shape, torn = self._lasting.limits
        given: Limits = {"silhouette": (0.0, shape), "detail": (0.0, torn)}
        if kind.sky and not kind.repeats:
            own = Novelty(moving, pictures).over(len(pictures)) or 0.0
            given["novelty"] = (-inf, max(_LIKE_BEFORE, own))
        self.limits = self._source.limits(self._window) | given
        self.early = _wider(self.limits)

    def push(self, small: NDArray[np.uint8]) -> None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``."""
        self._novelty.push(small)
        self._shown.append(
            self._features.measure(small)
            | {
                "silhouette": self._lasting.silhouette(small),
                "detail": self._lasting.detail(small),
                "sudden": self._sudden.push(small),
            }
        )
        self.seen += 1
        # The last window has the last frames, so this window may overlap the one before.
        if self.seen % WINDOW == 0 or self.seen == self._frames:
            self.rows.append(self.now())

    def limits_as_json(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the limits, (least, most), of each vital for JSON; None means no limit."""
        return {
            key: (_rounded(low or -inf), _rounded(high)) for key, (low, high) in self.limits.items()
        }

    def now(self) -> Vitals:
        """Return the vitals of the last ``WINDOW`` or fewer frames, of at least one frame."""
        count = len(self._shown)
        values = self._source.compare([*self._shown])
        for key, vital in VITALS.items():
            if vital.part is not None:
                known = _known(self._shown, key)
                values[key] = float(np.quantile(known, vital.part)) if known else None
        values["novelty"] = self._novelty.over(count)
        if not self._source.moves:
            # A still shows neither what returns nor what lasts.
            values |= dict.fromkeys(("novelty", "silhouette", "detail"))
        limits = self.limits if count >= self._window else self.early
        return Vitals(self.seen - count, self.seen, values, outside(values, limits))


def _rounded(value: float | None) -> float | None:
    return None if value is None or isinf(value) else round(value, 4)


def in_words(key: str, value: float | None) -> str:
    """Describe a vital, for example as ``it moves 26% as much as the clip``."""
    return VITALS[key].fault.format(value)


def outside(values: Values, limits: Limits) -> tuple[str, ...]:
    """Return the names of the values that are outside their limits."""
    return tuple(
        key
        for key, value in values.items()
        if value is not None and not limits[key][0] <= value <= limits[key][1]
    )


def _known(shown: Iterable[Values], key: str) -> list[float]:
    return [value for values in shown if (value := values[key]) is not None]


def _wider(limits: Limits) -> Limits:
    """Return wider limits, for incomplete windows and for small pictures.

    A few frames vary more than a hundred, also in the clip. And the first frames of a dream change
    less than footage.
    """
    wide = dict(limits)
    for key in _RATIOS:
        low, high = limits[key]
        wide[key] = low**_EARLY, high**_EARLY
    for key in ("mean_shift", "jump"):
        low, high = limits[key]
        wide[key] = low * _EARLY, high * _EARLY
    return wide


class _Source:
    """The features of a clip, for comparison with windows of other pictures."""

    def __init__(self, features: Sequence[Values]) -> None:
        """Summarize the features of each frame."""
        self._features = features
        self._means = _means(features)
        changes = _known(features, "change")
        self._change = float(np.mean(changes)) if changes else 0.0
        self.moves = self._change > _LEAST_MOTION

    def compare(self, features: Sequence[Values]) -> Values:
        """Return the vitals that follow from the ``features`` of a window; the others are None."""
        values: Values = dict.fromkeys(VITALS)
        means = _means(features)
        values["mean_shift"] = means.pop("mean") - self._means["mean"]
        for key, mean in means.items():
            if self._means[key] > (_LEAST_COLOUR if key == "saturation" else TINY):
                values[key] = mean / self._means[key]
        changes = _known(features, "change")
        if self.moves and changes:
            values["motion"] = float(np.mean(changes)) / self._change
        if changes and float(np.median(changes)) > _LEAST_MOTION:
            values["jump"] = _jump(changes)
        return values

    def limits(self, window: int) -> Limits:
        """Return the limits of ``VITALS``, widened so that the clip's own windows are within.

        The slack makes the limits wider still. For a ratio the slack is an exponent: a factor would
        widen the limits so far that smeared pictures would pass. ``window``: its number of frames.
        """
        table = {key: vital.limits for key, vital in VITALS.items()}
        for values in self._own_windows(window):
            for key, value in values.items():
                if value is None:
                    continue
                low, high = table[key]
                given = max(value, TINY) ** SLACK if key in _RATIOS else value * SLACK
                table[key] = min(low, given), max(high, given)
        return table

    def _own_windows(self, window: int) -> Iterable[Values]:
        """Yield the vitals of windows of the clip, each compared with the rest of the clip.

        A dream may differ from everything in the clip, too.
        """
        count = len(self._features)
        size = max(min(window, count // 2), 2)
        # The last window has the last frames, as in a dream.
        last = max(count - size, 0)
        for start in (*range(0, last, size // 2), last):
            rest = [*self._features[:start], *self._features[start + size :]]
            source = _Source(rest) if len(rest) > 1 else self
            yield source.compare(self._features[start : start + size])


def _means(features: Sequence[Values]) -> dict[str, float]:
    keys = ("sharpness", "mean", "std", "saturation", "anisotropy")
    return {key: float(np.mean(_known(features, key))) for key in keys}


def _jump(changes: Sequence[float]) -> float:
    """Return the largest change from frame to frame, relative to its neighbours.

    A sudden motion usually continues, but a jump is a single change. So each change is divided by
    the largest of the two changes before and the two after, but at least by the median change.
    """
    padded = np.pad(changes, 2)
    beside = np.max([np.roll(padded, shift) for shift in (-2, -1, 1, 2)], axis=0)[2:-2]
    return float((changes / np.maximum(beside, np.median(changes))).max())
