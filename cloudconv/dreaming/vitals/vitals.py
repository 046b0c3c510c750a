"""Measure whether a dream is alive, while the dream is made.

The pictures are compared with the clip before the dream, over windows of 100 frames. No single
value suffices (a still is as sharp as the clip, melting paint moves like the clip), so a window is
alive when all values lie within their limits. Real footage varies as well, so the limits include
the values of the clip's own windows compared with the whole clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import small_copy
from cloudconv.dreaming.vitals.border import Borders
from cloudconv.dreaming.vitals.features import Array, Look, Looker, Regions, regions
from cloudconv.dreaming.vitals.novelty import Novelty, own_novelty
from cloudconv.dreaming.vitals.seams import Seams
from cloudconv.dreaming.vitals.silhouette import Silhouettes
from cloudconv.dreaming.vitals.strangeness import Familiar, Strange

WINDOW = 100
"""Number of frames that are judged together."""

APART = 30
"""Frames that lie closer are not compared in the search for repeats."""

KEYS = (
    "sharpness",
    "std",
    "saturation",
    "motion",
    "anisotropy",
    "crease",
    "mean_shift",
    "jump",
    "static_psnr",
    "patch",
    "patch_time",
    "repeat",
    "strangeness",
    "light",
    "novelty",
    "silhouette",
    "border",
)
"""The vitals' names, in the order of every table."""

_RATIOS = KEYS[:6]
_PASTED = 40.0
_TABLE: dict[str, tuple[float, float]] = {
    "sharpness": (0.8, 1.25),
    "std": (0.9, 1.1),
    "saturation": (0.7, 1.3),
    "motion": (0.6, 1.6),
    "anisotropy": (0.0, 1.08),
    "crease": (0.0, 1.3),
    "mean_shift": (-12.0, 12.0),
    "jump": (0.0, 2.2),
    "static_psnr": (28.0, inf),
    "patch": (0.0, 0.18),
    "patch_time": (0.0, 1.0),
    "repeat": (3.2, inf),
    "strangeness": (0.0, 1.0),
    "light": (0.0, inf),
    "novelty": (-inf, 0.55),
    "silhouette": (0.0, 0.15),
    "border": (0.0, 1.0),
}
_SLACK, _UNSEEN_SLACK = 1.15, 1.5
_MOST_SOURCE = 500  # latest frames of the clip that a dream is compared with
_HISTORY = 900  # frames of the dream in which repeats are searched
_LEAST_COLOUR = 2.0  # mean distance between channels, in levels, below which there is no colour
_LEAST_MOTION = 0.03  # mean change in levels below which nothing moves
_REPEATED = 0.25  # of the usual change, below which a frame repeats the one before
_LEAST_WINDOW = 8
_LEAST_HALF = 16  # frames of half a clip that is compared with the other half
_BORDERS = 4  # frames of which one is searched for straight borders
_FEW = 25  # frames of the windows whose limits hold until a window is full
_EARLY = 1.6  # exponent that widens those limits further
_QUANTILES = 128
_MOST_SHOWN = 60  # windows whose strangest place is kept as a picture

Values = dict[str, float | None]
Limits = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Sighting:
    """The strangest place of a window: ``picture``, (h, w, 3) uint8, is of frame ``number``.

    ``box`` is the place, (x, y, w, h) in shares of the picture; see ``Strange.amount``.
    """

    number: int
    amount: float
    picture: NDArray[np.uint8]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Vitals:
    """The vitals over frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values`` has all of ``KEYS``: ratios to the source for the first six; levels of 0 to 255 for
    ``mean_shift``, ``repeat`` and ``light``; a correlation for ``novelty``; percent of the picture
    for ``silhouette``; decibels for ``static_psnr``. None where the vital has no meaning:
    saturation without colour, a static area that is not there. ``failed`` names those outside
    their limits. ``strangest``: the worst place in these frames.
    """

    start: int
    end: int
    values: Values
    failed: tuple[str, ...]
    strangest: Sighting | None = None

    @property
    def alive(self) -> bool:
        """True if all vitals lie within their limits."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return a row of the command's ``vitals``."""
        shown = {k: None if v is None else round(v, 4) for k, v in self.values.items()}
        return {"from": self.start, "to": self.end, **shown, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class DreamKind:
    """The properties of a dream on which its vitals depend.

    ``repeats``: pictures come again by design, which is no fault. ``pasted``: still parts are
    pasted from the last real frame. ``frames``: the number of frames, if known; a short dream is
    one window, compared with windows of the clip that are as short. ``follows``: the dream is shown
    after the material, so the first step of the dream counts. ``as_filmed``: the dream repeats
    frames as the clip does. ``sky``: only sky moves, so pictures must not come again, and straight
    borders are faults.
    """

    repeats: bool = False
    pasted: bool = False
    frames: int = WINDOW
    follows: bool = True
    as_filmed: bool = False
    sky: bool = False


_USUAL_KIND = DreamKind()


@dataclass(frozen=True, slots=True)
class _Shown:
    """The measured values of one picture; ``nearest``: see ``_Past``."""

    look: Look
    nearest: float
    strange: Strange
    silhouette: float | None
    border: float | None


def vitals_meter(
    material: Material, kind: DreamKind = _USUAL_KIND
) -> Generator[float, None, VitalsMeter]:
    """Measure the clip and return a meter for a dream from the clip.

    Yields:
        The share of the clip that is measured, from 0 to 1.
    """
    last = material.small(len(material) - 1)
    found = regions(material.static, last)
    shown = material.glance if kind.as_filmed else material.small
    first = max(0, len(material) - _MOST_SOURCE)
    pictures = [shown(k) for k in range(first, len(material))]
    looker = Looker(found, last)
    looks = []
    for picture in pictures:
        looks.append(looker.look(picture))
        yield len(looks) / len(pictures)
    return VitalsMeter(material, kind, pictures, found, looks)


class VitalsMeter:
    """A judge of a dream's pictures, one after the other, in bounded memory.

    :func:`vitals_meter` makes one. ``limits`` are the limits of the vitals.
    """

    def __init__(
        self,
        material: Material,
        kind: DreamKind,
        pictures: list[NDArray[np.uint8]],
        found: Regions,
        looks: list[Look],
    ) -> None:
        """Derive the limits from the clip's ``pictures`` and from their features, ``looks``."""
        self._window = min(kind.frames, WINDOW)
        last = material.small(len(material) - 1)
        self._size = last.shape[:2]
        self._found = found
        self._source = _Source(looks)
        self._familiar = Familiar(pictures)
        self._seams = Seams(pictures)
        self._novelty = Novelty(self._found.moving)
        fixed = material.fixed.cpu().numpy()
        self._silhouettes = Silhouettes(pictures, fixed)
        self._borders = Borders(pictures, self._found.moving & (fixed < 0.5)) if kind.sky else None
        self._looker = Looker(self._found, last)
        self._past = _Past(self._source.thumbnails)
        for picture in pictures[-2:] if kind.follows else ():
            self._looker.look(picture)
        self._looks: deque[_Shown] = deque(maxlen=WINDOW)
        self._strangest: Sighting | None = None
        self._seen = self._judged = 0
        self.rows: list[Vitals] = []
        self.limits = self._source.limits(self._window, pasted=kind.pasted)
        # A few frames vary more than a hundred do, in the clip as well, and the first frames of a
        # dream are a forecast, which is calmer than footage.
        self._early = _wider(self._source.limits(min(self._window, _FEW), pasted=kind.pasted))
        for limits in (self.limits, self._early):
            limits["light"] = (0.0, self._familiar.light_limit)
        own = own_novelty(pictures, self._found.moving)
        most = max(_TABLE["novelty"][1], _SLACK * (own or 0.0)) if kind.sky else inf
        for limits in (self.limits, self._early):
            limits["novelty"] = (-inf, most)
        if kind.repeats:
            for limits in (self.limits, self._early):
                limits["repeat"] = (0.0, inf)
                limits["novelty"] = (-inf, inf)

    def push(self, picture: Tensor) -> None:
        """Measure the next picture, (3, H, W) RGB nominally in [0, 1]."""
        small = small_copy(picture, self._size)
        look = self._looker.look(small)
        strange = self._familiar.look(small)
        seam = self._seams.look(small, strange)
        # A picture whose every place is known has the clip's own edges only.
        strange = seam if strange.amount else strange
        self._novelty.push(small)
        border = None
        if self._borders is not None and self._seen % _BORDERS == 0:
            border = self._borders.look(small)
        shown = _Shown(
            look, self._past.nearest(look.thumbnail), strange, self._silhouettes.look(small), border
        )
        self._looks.append(shown)
        if self._strangest is None or strange.amount > self._strangest.amount:
            self._strangest = Sighting(self._seen, strange.amount, small, strange.box)
        self._seen += 1
        if self._seen - self._judged == WINDOW:
            self._close_window()

    def now(self) -> Vitals | None:
        """Return the vitals of the last frames, at most ``WINDOW``; None before the first one."""
        return self._over(len(self._looks)) if self._looks else None

    def limits_as_json(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the limits; None stands for no limit."""
        return {
            key: (round(low, 4) if low > 0 or key == "mean_shift" else None, _finite(high))
            for key, (low, high) in self.limits.items()
        }

    def finish(self) -> list[Vitals]:
        """Return all rows; the last covers the last ``WINDOW`` frames, and may overlap another."""
        if self._seen > self._judged:
            self._close_window()
        return self.rows

    def _close_window(self) -> None:
        row = self._over(len(self._looks))
        self.rows.append(replace(row, strangest=self._strangest))
        self._judged, self._strangest = self._seen, None
        places = [(row.strangest.amount, k) for k, row in enumerate(self.rows) if row.strangest]
        if len(places) > _MOST_SHOWN:
            _, least = min(places)
            self.rows[least] = replace(self.rows[least], strangest=None)

    def _over(self, count: int) -> Vitals:
        window = list(islice(self._looks, len(self._looks) - count, None))
        values = self._source.compare([one.look for one in window])
        values["repeat"] = _usual_nearest([one.nearest for one in window])
        # One frame in ten may be strange, as in real footage.
        values["strangeness"] = _odd([one.strange.amount for one in window])
        values["light"] = float(np.mean([one.strange.light for one in window]))
        values["novelty"] = self._novelty.over(count)
        values["silhouette"] = _odd([one.silhouette for one in window])
        values["border"] = _odd([one.border for one in window])
        if not self._source.moves:
            values["repeat"] = values["novelty"] = None
        limits = self.limits if count >= self._window else self._early
        failed = tuple(
            key
            for key, value in values.items()
            if value is not None and not limits[key][0] <= value <= limits[key][1]
        )
        return Vitals(self._seen - count, self._seen, values, failed)


def _odd(values: Sequence[float | None]) -> float | None:
    """Return the value that one frame in ten exceeds; None without values."""
    known = [value for value in values if value is not None]
    return float(np.quantile(known, 0.9)) if known else None


def _usual_nearest(distances: Sequence[float]) -> float | None:
    """Return the distance below which a tenth of a window comes by chance; None without any."""
    known = [distance for distance in distances if distance < inf]
    return float(np.quantile(known, 0.1)) if known else None


def _wider(limits: Limits) -> Limits:
    """Return wider limits for the first windows; a dying dream soon leaves these as well."""
    wide = dict(limits)
    for key in _RATIOS:
        low, high = limits[key]
        wide[key] = low**_EARLY, high**_EARLY
    for key in ("mean_shift", "jump", "patch", "patch_time"):
        low, high = limits[key]
        wide[key] = low * _EARLY, high * _EARLY
    return wide


def _finite(limit: float) -> float | None:
    return round(limit, 4) if limit < inf else None


class _Past:
    """The thumbnails that a picture may repeat: the clip's, and the dream's latest."""

    def __init__(self, source: Sequence[Array]) -> None:
        """Keep the clip's thumbnails."""
        self._rows = np.zeros((_HISTORY + len(source), source[0].size), np.float32)
        self._squares = np.full(len(self._rows), inf)
        self._kept = len(source)
        self._count = 0
        self._waiting: deque[Array] = deque(source[-APART:])
        for k, thumbnail in enumerate(source[:-APART]):
            self._keep(k, thumbnail)

    def nearest(self, thumbnail: Array) -> float:
        """Return the distance in levels to the nearest picture at least ``APART`` frames before."""
        self._waiting.append(thumbnail)
        if len(self._waiting) > APART:
            place = self._kept + self._count % (len(self._rows) - self._kept)
            self._keep(place, self._waiting.popleft())
            self._count += 1
        used = self._kept + self._count
        rows, squares = self._rows[:used], self._squares[:used]
        if not used:
            return inf
        apart = squares - 2 * (rows @ thumbnail) + np.square(thumbnail, dtype=np.float64).sum()
        return float(np.sqrt(max(apart.min(), 0)))

    def _keep(self, place: int, thumbnail: Array) -> None:
        self._rows[place] = thumbnail
        self._squares[place] = np.square(thumbnail, dtype=np.float64).sum()


class _Whole:
    """The mean features of pictures, for comparison with others."""

    def __init__(self, looks: Sequence[Look]) -> None:
        """Compute the means."""
        self._mean = {
            key: float(np.mean([getattr(look, key) for look in looks]))
            for key in ("sharpness", "mean", "std", "saturation", "anisotropy", "crease")
        }
        changes = [look.change for look in looks if look.change is not None]
        self._change = float(np.mean(changes)) if changes else 0.0
        self.moves = self._change > _LEAST_MOTION
        self._patches = _Spread([look.patches[None] for look in looks])
        in_time = [p for look in looks if (p := look.patches_in_time) is not None]
        self._in_time = _Spread(in_time) if in_time and self.moves else None

    def compare(self, looks: Sequence[Look]) -> Values:
        """Return the vitals of a window that need its features alone; the others are None."""
        values: Values = dict.fromkeys(KEYS)

        def mean(key: str) -> float:
            return float(np.mean([getattr(look, key) for look in looks]))

        for key in ("sharpness", "std", "saturation", "anisotropy", "crease"):
            if self._mean[key] > (_LEAST_COLOUR if key == "saturation" else 1e-3):
                values[key] = mean(key) / self._mean[key]
        values["mean_shift"] = mean("mean") - self._mean["mean"]
        changes = [look.change for look in looks if look.change is not None]
        if self.moves and changes:
            values["motion"] = float(np.mean(changes)) / self._change
        if changes and float(np.median(changes)) > _LEAST_MOTION / 3:
            values["jump"] = _jump(changes)
        errors = [look.static_error for look in looks if look.static_error is not None]
        if errors and self.moves:
            values["static_psnr"] = 10 * log10(255**2 / max(float(np.mean(errors)), 1e-3))
        values["patch"] = self._patches.distance([look.patches[None] for look in looks])
        in_time = [p for look in looks if (p := look.patches_in_time) is not None]
        if self._in_time is not None and in_time:
            values["patch_time"] = self._in_time.distance(in_time)
        return values


class _Source(_Whole):
    """The features of the clip, and of its parts compared with one another."""

    def __init__(self, looks: Sequence[Look]) -> None:
        """Keep the features of each frame."""
        super().__init__(looks)
        self._looks = looks
        self.thumbnails = [look.thumbnail for look in looks]

    def limits(self, window: int, *, pasted: bool) -> Limits:
        """Return the table's limits, widened to the clip's own windows with some slack.

        The slack applies to a ratio's distance from 1: 15 % on the ratio itself would include
        melting paint.
        """
        table = dict(_TABLE)
        if pasted:
            table["static_psnr"] = (_PASTED, inf)
        for values, slack in self._own_windows(window):
            for key, value in values.items():
                if value is None:
                    continue
                low, high = table[key]
                if key in _RATIOS:
                    most = least = max(value, 1e-3) ** slack
                else:
                    most = value * slack
                    least = value * slack if value < 0 else value / slack
                table[key] = min(low, least), max(high, most)
        return table

    def _own_windows(self, window: int) -> Iterable[tuple[Values, float]]:
        """Yield values and slack of the clip's windows against the clip, and of half against half.

        A dream may show more than the clip does. The halves measure how much more, but less surely,
        so they get more slack.
        """
        count = len(self._looks)
        size = min(max(window, _LEAST_WINDOW), max(count // 2, _LEAST_WINDOW))
        nearest = self._nearest()
        # The last window covers the last frames, as in a dream.
        last = max(count - size, 0)
        for start in (*range(0, last, max(size // 4, 1)), last):
            part = self._looks[start : start + size]
            values = self.compare(part)
            values["repeat"] = _usual_nearest(nearest[start : start + size])
            yield values, _SLACK
        half = count // 2
        if half < _LEAST_HALF:
            return
        first, second = self._looks[:half], self._looks[half:]
        size = min(size, half)
        for one, other in ((first, _Whole(second)), (second, _Whole(first))):
            for start in range(0, len(one) - size + 1, max(size // 4, 1)):
                # Jumps and still parts are not compared with the other half.
                values = other.compare(one[start : start + size])
                yield values | {"jump": None, "static_psnr": None}, _UNSEEN_SLACK

    def _nearest(self) -> list[float]:
        """Return the distance of each frame to the nearest one at least ``APART`` frames before."""
        past = _Past(self.thumbnails[:1])
        found = [past.nearest(thumbnail) for thumbnail in self.thumbnails[1:]]
        # The only earlier frame is too close until there are enough frames.
        early = min(APART, len(found))
        return [inf, *[inf] * early, *found[early:]]


def _jump(changes: Sequence[float]) -> float:
    """Return the largest change from frame to frame, relative to those around and the usual one.

    Motion that begins goes on, so a change counts relative to the largest within two frames. A
    change beside repeated frames is divided by their number.
    """
    usual = float(np.median(changes))
    repeated = np.asarray(changes) < _REPEATED * usual
    steps = np.asarray(changes) / np.maximum(_run(repeated), _run(repeated[::-1])[::-1])
    padded = np.pad(steps, 2)
    beside = np.max([np.roll(padded, shift) for shift in (-2, -1, 1, 2)], axis=0)[2:-2]
    return float((steps / np.maximum(beside, usual)).max())


def _run(repeated: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each place one more than the number of repeats straight before the place."""
    waits = np.ones(len(repeated), np.intp)
    for k in range(1, len(repeated)):
        waits[k] = waits[k - 1] + 1 if repeated[k - 1] else 1
    return waits


class _Spread:
    """The distribution of projections of patches, for comparison with others.

    The sliced Wasserstein distance, in standard deviations of the source's projections, summed
    over the bands.
    """

    def __init__(self, looks: Sequence[Array]) -> None:
        """Compute the quantiles."""
        joined = np.concatenate(looks, 2)
        self._scale = np.maximum(joined.std(2, keepdims=True), 0.05)
        self._quantiles = _quantiles(joined)

    def distance(self, looks: Sequence[Array]) -> float:
        """Return the distance of (bands, directions, places) projections, all looks together."""
        found = _quantiles(np.concatenate(looks, 2))
        apart = np.abs(found - self._quantiles) / self._scale
        return float(apart.mean((1, 2)).sum())


def _quantiles(projections: Array) -> Array:
    ordered = np.sort(projections, axis=2)
    # Without the ends, which are random.
    ranks = ((np.arange(_QUANTILES) + 0.5) / _QUANTILES * ordered.shape[2]).astype(int)
    made: Array = ordered[:, :, ranks]
    return made
