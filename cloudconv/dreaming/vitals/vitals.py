"""Measure, while a dream is made, whether its pictures still look and move like the clip.

The measured values are called vitals. They compare windows of 100 frames of the dream with the clip
before the dream. No single value is enough: a frozen picture is as sharp as the clip, and a smeared
picture moves like the clip. So a window counts as alive only if all values are within their limits.
Real footage varies too. The limits are therefore wide enough for each window of the clip, compared
with the whole clip.
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

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.vitals.border import Borders
from cloudconv.dreaming.vitals.features import Array, FeatureMeter, Features, Regions, regions
from cloudconv.dreaming.vitals.novelty import Novelty, own_novelty
from cloudconv.dreaming.vitals.seams import Seams
from cloudconv.dreaming.vitals.strangeness import Familiar, Strange
from cloudconv.dreaming.vitals.symmetry import Symmetry

WINDOW = 100
"""Number of frames in a window."""

APART = 30
"""Least distance in frames of two pictures that are compared in the search for repeats."""

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
    "symmetry",
)
"""Names of the vitals, in the order of every table."""

# Vitals that are ratios of the dream to the clip.
_RATIOS = KEYS[:6]
_PASTED = 40.0  # least ``static_psnr`` of a dream with pasted still parts, in dB
# Limits before they are widened for a clip: (least, most).
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
    "symmetry": (-inf, inf),
}
_SLACK = 1.15  # factor, or exponent of a ratio, that widens the values of the clip's windows
_UNSEEN_SLACK = 1.5  # the same for windows of one half of the clip, compared with the other half
_MOST_SOURCE = 500  # number of the clip's last frames that a dream is compared with
_HISTORY = 900  # number of the dream's last frames in which repeats are searched
_LEAST_COLOUR = 2.0  # least mean difference of a coloured clip's channels, in levels
_LEAST_MOTION = 0.03  # least mean change of a moving clip from frame to frame, in levels
_REPEATED = 0.25  # change below which a frame repeats the one before, relative to the median change
_LEAST_WINDOW = 8  # least number of frames in a window of the clip
_LEAST_HALF = 16  # least number of frames in a half of the clip that is compared with the other
_SEARCHED = 4  # borders and mirror images are searched in one of so many frames
_FEW = 25  # number of frames in the clip's windows that set the limits of incomplete windows
_EARLY = 1.6  # exponent, or factor, that widens these limits further
_QUANTILES = 128  # number of quantiles that describe a distribution
_MOST_SHOWN = 60  # number of windows whose strangest picture is stored

Values = dict[str, float | None]
Limits = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Sighting:
    """The strangest part of the pictures of a window.

    ``picture``, (h, w, 3) uint8, is frame ``number`` of the dream. ``box`` is the part, (x, y, w,
    h) as fractions of the picture's size. ``amount`` is the strangeness; above 1 is a fault.
    """

    number: int
    amount: float
    picture: NDArray[np.uint8]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Vitals:
    """The vitals of frames ``start`` to ``end`` (exclusive) of the dream, counted from 0.

    ``values`` has a value for each of ``KEYS``. The first six are ratios to the clip.
    ``mean_shift``, ``repeat`` and ``light`` are levels of 0 to 255, ``silhouette`` is a percentage
    of the picture, and ``static_psnr`` is in decibels. ``novelty`` is the correlation with earlier
    pictures, so a low value means new pictures; ``symmetry`` is the correlation of a part of the
    sky with a mirrored part beside. A value is None if the vital has no meaning, such
    as the saturation of a clip without colour. ``failed`` names the vitals that are outside their
    limits. ``strangest`` is the strangest part of these frames.
    """

    start: int
    end: int
    values: Values
    failed: tuple[str, ...]
    strangest: Sighting | None = None

    @property
    def alive(self) -> bool:
        """Return whether all vitals are within their limits."""
        return not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return an entry of ``vitals`` in the JSON of the ``dream`` command."""
        shown = {k: None if v is None else round(v, 4) for k, v in self.values.items()}
        return {"from": self.start, "to": self.end, **shown, "alive": self.alive}


@dataclass(frozen=True, slots=True)
class DreamKind:
    """The properties of a dream on which its vitals depend.

    ``repeats``: earlier pictures are shown again by design, so repeats are no fault. ``pasted``:
    still parts are copied from the last real frame. ``frames``: the number of frames, if known; a
    short dream is one window, compared with equally short windows of the clip. ``follows``: the
    dream is shown directly after the material, so the first change from the material to the dream
    counts. ``as_filmed``: the dream shows source frames unchanged, with the source's own repeats.
    ``sky``: only sky moves, so straight borders and mirror images are faults. A high ``novelty``
    is then also a fault, unless ``repeats`` is set.
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
    """The measured values of one picture; ``nearest`` is the result of :meth:`_Past.nearest`."""

    features: Features
    nearest: float
    strange: Strange
    silhouette: float | None
    border: float | None
    symmetry: float | None


def vitals_meter(
    material: Material, kind: DreamKind = _USUAL_KIND
) -> Generator[float, None, VitalsMeter]:
    """Measure the clip and return a meter for a dream from the clip.

    Yields:
        The fraction of the clip that is measured, from 0 to 1.
    """
    last = material.small(len(material) - 1)
    parts = regions(material.static, last)
    shown = material.glance if kind.as_filmed else material.small
    first = max(0, len(material) - _MOST_SOURCE)
    pictures = [shown(k) for k in range(first, len(material))]
    meter = FeatureMeter(parts, last)
    features = []
    for picture in pictures:
        features.append(meter.measure(picture))
        yield len(features) / len(pictures)
    return VitalsMeter(material, kind, pictures, parts, features)


class VitalsMeter:
    """A measurement of a dream's pictures, one after the other, in bounded memory.

    :func:`vitals_meter` creates the meter. ``limits`` are the limits, (least, most), of each vital.
    ``rows`` are the vitals of the windows so far.
    """

    def __init__(
        self,
        material: Material,
        kind: DreamKind,
        pictures: list[NDArray[np.uint8]],
        parts: Regions,
        features: list[Features],
    ) -> None:
        """Derive the limits from the clip's pictures and features.

        Args:
            material: the clip.
            kind: the properties of the dream.
            pictures: the last pictures of the clip, (h, w, 3) uint8 each.
            parts: the moving and the still parts of the pictures.
            features: the features of each of the pictures.
        """
        self._window = min(kind.frames, WINDOW)
        last = material.small(len(material) - 1)
        self._parts = parts
        self._source = _Source(features)
        self._familiar = Familiar(pictures)
        self._seams = Seams(pictures)
        self._novelty = Novelty(self._parts.moving)
        self._silhouettes = material.silhouettes
        self._borders = self._symmetry = None
        if kind.sky:
            moving = self._parts.moving & (material.fixed.cpu().numpy() < 0.5)
            self._borders = Borders(pictures, moving)
            self._symmetry = Symmetry(pictures, moving)
        self._features = FeatureMeter(self._parts, last)
        self._past = _Past(self._source.thumbnails)
        for picture in pictures[-2:] if kind.follows else ():
            self._features.measure(picture)
        self._shown: deque[_Shown] = deque(maxlen=WINDOW)
        self._strangest: Sighting | None = None
        self._seen = self._judged = 0
        self.rows: list[Vitals] = []
        self.limits = self._source.limits(self._window, pasted=kind.pasted)
        # Limits for incomplete windows are wider for two reasons. A few frames vary more than a
        # hundred, also in the clip. And the first frames of a dream change less than footage.
        self._early = _wider(self._source.limits(min(self._window, _FEW), pasted=kind.pasted))
        given: Limits = {"light": (0.0, self._familiar.light_limit), "novelty": (-inf, inf)}
        if kind.repeats:
            given["repeat"] = (0.0, inf)
        elif kind.sky:
            own = own_novelty(pictures, self._parts.moving) or 0.0
            given["novelty"] = (-inf, max(_TABLE["novelty"][1], _SLACK * own))
        if self._symmetry is not None:
            given["symmetry"] = (-inf, self._symmetry.limit)
        self.limits |= given
        self._early |= given

    def push(self, small: NDArray[np.uint8]) -> None:
        """Measure the next picture, (h, w, 3) RGB of the material's ``small_size``."""
        features = self._features.measure(small)
        strange = self._familiar.measure(small)
        seam = self._seams.measure(small, strange)
        # If all parts of a picture are like the clip (amount 0), so are its edges.
        strange = seam if strange.amount else strange
        self._novelty.push(small)
        border = symmetry = None
        if self._borders and self._symmetry and self._seen % _SEARCHED == 0:
            border, symmetry = self._borders.measure(small), self._symmetry.measure(small)
        shown = _Shown(
            features,
            self._past.nearest(features.thumbnail),
            strange,
            self._silhouettes.measure(small),
            border,
            symmetry,
        )
        self._shown.append(shown)
        if self._strangest is None or strange.amount > self._strangest.amount:
            self._strangest = Sighting(self._seen, strange.amount, small, strange.box)
        self._seen += 1
        if self._seen - self._judged == WINDOW:
            self._close_window()

    def now(self) -> Vitals | None:
        """Return the vitals of the last ``WINDOW`` or fewer frames; None before the first frame."""
        return self._over(len(self._shown)) if self._shown else None

    def limits_as_json(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the limits, (least, most), of each vital for JSON; None means no limit."""
        return {
            key: (round(low, 4) if low > 0 or key == "mean_shift" else None, _finite(high))
            for key, (low, high) in self.limits.items()
        }

    def finish(self) -> list[Vitals]:
        """Return the vitals of all windows.

        The last window always has the last ``WINDOW`` frames, so this window may overlap the one
        before.
        """
        if self._seen > self._judged:
            self._close_window()
        return self.rows

    def _close_window(self) -> None:
        row = self._over(len(self._shown))
        self.rows.append(replace(row, strangest=self._strangest))
        self._judged, self._strangest = self._seen, None
        amounts = [(row.strangest.amount, k) for k, row in enumerate(self.rows) if row.strangest]
        if len(amounts) > _MOST_SHOWN:
            _, least = min(amounts)
            self.rows[least] = replace(self.rows[least], strangest=None)

    def _over(self, count: int) -> Vitals:
        window = list(islice(self._shown, len(self._shown) - count, None))
        values = self._source.compare([one.features for one in window])
        values["repeat"] = _usual_nearest([one.nearest for one in window])
        # One frame in ten may be strange, as in real footage.
        values["strangeness"] = _odd([one.strange.amount for one in window])
        values["light"] = float(np.mean([one.strange.light for one in window]))
        values["novelty"] = self._novelty.over(count)
        values["silhouette"] = _odd([one.silhouette for one in window])
        values["border"] = _odd([one.border for one in window])
        values["symmetry"] = _odd([one.symmetry for one in window])
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
    """Return the 0.1 quantile of the finite distances to earlier pictures; None without any."""
    known = [distance for distance in distances if distance < inf]
    return float(np.quantile(known, 0.1)) if known else None


def _wider(limits: Limits) -> Limits:
    """Return wider limits, for incomplete windows at the start of a dream."""
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
    """The earlier thumbnails that are searched for repeats: the clip's, and the dream's latest."""

    def __init__(self, source: Sequence[Array]) -> None:
        """Store the clip's thumbnails."""
        self._rows = np.zeros((_HISTORY + len(source), source[0].size), np.float32)
        self._squares = np.full(len(self._rows), inf)
        self._kept = len(source)
        self._count = 0
        self._waiting: deque[Array] = deque(source[-APART:])
        for k, thumbnail in enumerate(source[:-APART]):
            self._keep(k, thumbnail)

    def nearest(self, thumbnail: Array) -> float:
        """Return the distance in levels to the most similar thumbnail, and store this thumbnail.

        Only thumbnails at least ``APART`` frames earlier are compared; infinity if there are none.
        """
        self._waiting.append(thumbnail)
        if len(self._waiting) > APART:
            index = self._kept + self._count % (len(self._rows) - self._kept)
            self._keep(index, self._waiting.popleft())
            self._count += 1
        used = self._kept + self._count
        rows, squares = self._rows[:used], self._squares[:used]
        if not used:
            return inf
        apart = squares - 2 * (rows @ thumbnail) + np.square(thumbnail, dtype=np.float64).sum()
        return float(np.sqrt(max(apart.min(), 0)))

    def _keep(self, index: int, thumbnail: Array) -> None:
        self._rows[index] = thumbnail
        self._squares[index] = np.square(thumbnail, dtype=np.float64).sum()


class _Whole:
    """The mean features of a set of pictures, for comparison with windows of other pictures."""

    def __init__(self, features: Sequence[Features]) -> None:
        """Compute the means of the pictures' features."""
        self._mean = {
            key: float(np.mean([getattr(one, key) for one in features]))
            for key in ("sharpness", "mean", "std", "saturation", "anisotropy", "crease")
        }
        changes = [one.change for one in features if one.change is not None]
        self._change = float(np.mean(changes)) if changes else 0.0
        self.moves = self._change > _LEAST_MOTION
        self._patches = _Spread([one.patches[None] for one in features])
        in_time = [p for one in features if (p := one.patches_in_time) is not None]
        self._in_time = _Spread(in_time) if in_time and self.moves else None

    def compare(self, features: Sequence[Features]) -> Values:
        """Return the vitals that follow from the ``features`` of a window; the others are None."""
        values: Values = dict.fromkeys(KEYS)

        def mean(key: str) -> float:
            return float(np.mean([getattr(one, key) for one in features]))

        for key in ("sharpness", "std", "saturation", "anisotropy", "crease"):
            if self._mean[key] > (_LEAST_COLOUR if key == "saturation" else 1e-3):
                values[key] = mean(key) / self._mean[key]
        values["mean_shift"] = mean("mean") - self._mean["mean"]
        changes = [one.change for one in features if one.change is not None]
        if self.moves and changes:
            values["motion"] = float(np.mean(changes)) / self._change
        if changes and float(np.median(changes)) > _LEAST_MOTION / 3:
            values["jump"] = _jump(changes)
        errors = [one.static_error for one in features if one.static_error is not None]
        if errors and self.moves:
            values["static_psnr"] = 10 * log10(255**2 / max(float(np.mean(errors)), 1e-3))
        values["patch"] = self._patches.distance([one.patches[None] for one in features])
        in_time = [p for one in features if (p := one.patches_in_time) is not None]
        if self._in_time is not None and in_time:
            values["patch_time"] = self._in_time.distance(in_time)
        return values


class _Source(_Whole):
    """The features of the clip, and the limits that its own windows give."""

    def __init__(self, features: Sequence[Features]) -> None:
        """Store the features of each frame."""
        super().__init__(features)
        self._features = features
        self.thumbnails = [one.thumbnail for one in features]

    def limits(self, window: int, *, pasted: bool) -> Limits:
        """Return the limits of ``_TABLE``, widened so that the clip's own windows are within.

        The slack makes the limits wider still. For a ratio the slack is an exponent: a factor would
        widen the limits so far that smeared pictures would pass.

        Args:
            window: the number of frames in a window.
            pasted: whether still parts are copied from the last real frame.
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
        """Yield the vitals of windows of the clip, and the slack that applies to them.

        First all windows are compared with the whole clip. Then the windows of each half are
        compared with the other half, because a dream may also differ from everything in the clip.
        The halves measure this difference roughly, so their slack is larger.
        """
        count = len(self._features)
        size = min(max(window, _LEAST_WINDOW), max(count // 2, _LEAST_WINDOW))
        nearest = self._nearest()
        # The last window has the last frames, as in a dream.
        last = max(count - size, 0)
        for start in (*range(0, last, max(size // 4, 1)), last):
            part = self._features[start : start + size]
            values = self.compare(part)
            values["repeat"] = _usual_nearest(nearest[start : start + size])
            yield values, _SLACK
        half = count // 2
        if half < _LEAST_HALF:
            return
        first, second = self._features[:half], self._features[half:]
        size = min(size, half)
        for one, other in ((first, _Whole(second)), (second, _Whole(first))):
            for start in range(0, len(one) - size + 1, max(size // 4, 1)):
                # Jumps and still parts are not compared with the other half.
                values = other.compare(one[start : start + size])
                yield values | {"jump": None, "static_psnr": None}, _UNSEEN_SLACK

    def _nearest(self) -> list[float]:
        """Return the distance of each frame to the most similar one, ``APART`` or more before."""
        past = _Past(self.thumbnails[:1])
        distances = [past.nearest(thumbnail) for thumbnail in self.thumbnails[1:]]
        # Frames up to number ``APART`` count as too close to all frames before them.
        early = min(APART, len(distances))
        return [inf, *[inf] * early, *distances[early:]]


def _jump(changes: Sequence[float]) -> float:
    """Return the largest change from frame to frame, relative to its neighbours.

    A sudden motion usually continues, but a jump is a single change. So each change is divided by
    the largest of the two changes before and the two after, but at least by the median change. A
    change next to repeated frames is first divided by the number of steps that it spans.
    """
    median = float(np.median(changes))
    repeated = np.asarray(changes) < _REPEATED * median
    steps = np.asarray(changes) / np.maximum(_run(repeated), _run(repeated[::-1])[::-1])
    padded = np.pad(steps, 2)
    beside = np.max([np.roll(padded, shift) for shift in (-2, -1, 1, 2)], axis=0)[2:-2]
    return float((steps / np.maximum(beside, median)).max())


def _run(repeated: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, for each index, one more than the number of repeats directly before."""
    counts = np.ones(len(repeated), np.intp)
    for k in range(1, len(repeated)):
        counts[k] = counts[k - 1] + 1 if repeated[k - 1] else 1
    return counts


class _Spread:
    """The distribution of the clip's patches, for comparison with the patches of other pictures.

    The distance is the sliced Wasserstein distance: the mean difference of the quantiles of random
    projections, in standard deviations of the clip's projections, summed over the bands.
    """

    def __init__(self, projections: Sequence[Array]) -> None:
        """Compute the quantiles of (bands, directions, places) projections, one array a picture."""
        joined = np.concatenate(projections, 2)
        self._scale = np.maximum(joined.std(2, keepdims=True), 0.05)
        self._quantiles = _quantiles(joined)

    def distance(self, projections: Sequence[Array]) -> float:
        """Return the distance of projections of the same shape, all pictures together."""
        quantiles = _quantiles(np.concatenate(projections, 2))
        apart = np.abs(quantiles - self._quantiles) / self._scale
        return float(apart.mean((1, 2)).sum())


def _quantiles(projections: Array) -> Array:
    ordered = np.sort(projections, axis=2)
    # The smallest and the largest value are left out, because they vary at random.
    ranks = ((np.arange(_QUANTILES) + 0.5) / _QUANTILES * ordered.shape[2]).astype(int)
    quantiles: Array = ordered[:, :, ranks]
    return quantiles
