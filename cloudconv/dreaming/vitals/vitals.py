"""Measure, while a dream is made, whether its pictures still look and move like the clip.

The measured values are called vitals. They compare windows of 100 frames of the dream with the clip
before the dream. No single value is enough: a frozen picture is as sharp as the clip, and a smeared
picture moves like the clip. So a window counts as alive only if all values are within their limits.
Real footage varies too. The limits are therefore wide enough for each window of the clip, compared
with the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import TINY
from cloudconv.dreaming.vitals.features import QUANTILE, SLACK, FeatureMeter, Values
from cloudconv.dreaming.vitals.lasting import Lasting
from cloudconv.dreaming.vitals.novelty import Novelty

WINDOW = 100
"""Number of frames in a window."""

_LIKE_BEFORE = 0.55  # least limit of ``novelty`` in a sky
_SHIFT = 12.0  # greatest change of the mean brightness, in levels
_LEAST_MOTION = 0.03  # least mean change of a moving clip from frame to frame, in levels


@dataclass(frozen=True, slots=True)
class Vital:
    """A vital: its limits before they are widened for a clip, and two texts for people.

    A ``ratio`` to the clip that has no ``least`` may be as small as 1 / ``most``. ``fault``: a
    clause about a dream that fails; braces show a ratio as a percentage. ``meaning``: the values.
    ``part``: the quantile of the frames of a window that counts; None if the value is measured for
    the whole window. ``noise``: a ratio has no meaning for a clip with less than this.
    """

    most: float
    fault: str
    meaning: str
    least: float | None = -inf
    part: float | None = None
    noise: float = TINY

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
        noise=2.0,
    ),
    "motion": Vital(
        1.6,
        "it moves {:.0%} as much as the clip",
        "change from frame to frame; 1 is that of the source",
        least=None,
        noise=_LEAST_MOTION,
    ),
    "mean_shift": Vital(
        _SHIFT,
        "its brightness has changed",
        "mean brightness minus that of the source, in levels of 255",
        least=-_SHIFT,
    ),
    "smear": Vital(
        0.5,
        "{:.1f} % of the picture are smeared",
        "percent of the picture where all edges run in one direction",
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

RATIOS = tuple(VITALS)[:4]
"""Vitals that are ratios of the dream to the clip."""

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
        self._moves = (_mean(self._clip, "motion") or 0.0) > _LEAST_MOTION
        self._frames, self._window = kind.frames, min(kind.frames, WINDOW)
        self._novelty = Novelty(moving)
        self._lasting = Lasting(pictures)
        self.solid = self._lasting.solid
        self._shown: deque[Values] = deque(maxlen=WINDOW)
        self.seen = 0
        self.rows: list[Vitals] = []
        self.limits = _limits(self._clip, self._window)
        self.limits |= {key: (-inf, most) for key, most in self._lasting.limits.items()}
        if kind.sky and not kind.repeats:
            own = Novelty(moving, pictures).over(len(pictures)) or 0.0
            self.limits["novelty"] = (-inf, max(_LIKE_BEFORE, own))

    def push(self, small: NDArray[np.uint8]) -> Vitals | None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``.

        Returns:
            The vitals of the window that ends here, if one does.
        """
        self._novelty.push(small)
        self._shown.append({**self._meter.measure(small), **self._lasting.lost(small)})
        self.seen += 1
        # The last window has the last frames, so this window may overlap the one before.
        if self.seen % WINDOW and self.seen != self._frames:
            return None
        self.rows.append(self.now())
        return self.rows[-1]

    def limits_as_json(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the limits, (least, most), of each vital for JSON; None means no limit."""
        return {key: (_rounded(low), _rounded(high)) for key, (low, high) in self.limits.items()}

    def now(self) -> Vitals:
        """Return the vitals of the last ``WINDOW`` or fewer frames, of at least one frame.

        Less frames than a window are not judged, because they vary more, also in the clip.
        """
        shown = [*self._shown]
        values = _compared(shown, self._clip)
        values["novelty"] = self._novelty.over(len(shown))
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
    """Describe a vital, for example as ``it moves 26% as much as the clip``."""
    return VITALS[key].fault.format(value)


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
    values["smear"] = _mean(shown, "smear")
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
    limits = {key: vital.limits for key, vital in VITALS.items()}
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
