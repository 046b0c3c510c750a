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

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import TINY, Bytes
from cloudconv.dreaming.vitals.features import QUANTILE, SLACK, FeatureMeter, Values
from cloudconv.dreaming.vitals.lasting import Lasting
from cloudconv.dreaming.vitals.novelty import Novelty

WINDOW = 100
"""Number of frames in a window."""

_LIKE_BEFORE = 0.55  # least limit of ``novelty`` in a sky
_SAME = 1.25  # greatest sharpness, contrast and saturation, relative to the clip
_SHIFT = 12.0  # greatest change of the mean brightness, in levels
_LEAST_MOTION = 0.03  # least mean change of a moving clip from frame to frame, in levels


@dataclass(frozen=True, slots=True)
class Vital:
    """A vital: a clause about a dream that fails, and limits before they are widened for a clip.

    A percentage in brackets is one of the picture. ``part``: the quantile of the frames of a window
    that counts; None if the value is measured for the whole window. ``noise``: a ratio has no
    meaning for a clip with less than this.
    """

    fault: str
    most: float = inf
    least: float = -inf
    part: float | None = None
    noise: float = TINY


RATIOS = {
    "sharpness": Vital("it is {:.0%} as sharp as the clip", _SAME),
    "std": Vital("it has {:.0%} of the clip's contrast", _SAME),
    "saturation": Vital("it is {:.0%} as colourful as the clip", _SAME, noise=2.0),
    "motion": Vital("it moves {:.0%} as much as the clip", 1.6, noise=_LEAST_MOTION),
}
"""Vitals that are ratios of the dream to the clip; they may be as small as 1 / ``most``."""

VITALS = RATIOS | {
    "mean_shift": Vital("its brightness has changed by {:+.0f} of 255 levels", _SHIFT, -_SHIFT),
    "jump": Vital("a frame changes {:.1f} times as much as those beside it", 2.2),
    "novelty": Vital("the same clouds come again, {:.0%} alike"),
    "smear": Vital("parts are smeared, with edges of one direction ({:.1%})", part=QUANTILE),
    "silhouette": Vital("dark parts became bright, or bright parts dark ({:.1%})", part=QUANTILE),
    "detail": Vital("parts that never change in the clip are torn ({:.1%})", part=QUANTILE),
    "sudden": Vital("it changes {:.0%} as suddenly as the clip", 1.4, part=1.0),
}
"""The vitals, in the order of every table."""

Limits = dict[str, tuple[float, float]]


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

    def push(self, small: Bytes) -> Vitals | None:
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
