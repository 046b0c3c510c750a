"""Find faults that no footage has: double exposures, smears, light of two times of day at once.

Each picture is searched region by region, and the worst region counts. A region is a double
exposure if a mixture of two source frames resembles the region far more than any single frame does.
Only fine detail is compared, where solid objects have their edges. A smear is a strip along the
edge of the picture that changes as usual along the edge, but hardly towards the edge. Light is
measured as the mean colours of a few large regions, minus the mean of the picture, and is compared
with the most similar source frame.
"""

from __future__ import annotations

from math import inf
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.pictures import grey, reduced

Array = NDArray[np.float32]
Small = NDArray[np.uint8]

_LONGEST = 200  # longest side of the pictures that are searched, in pixels
_CELL = 40  # side of a region, in pixels
_FINE = 2.0  # sigma of the blur that separates fine detail
_FAINT = 2.5  # least error of detail that counts, in levels
_USUAL = 0.5  # least error that counts, relative to the difference of neighbouring frames
_MIXED = 0.2  # least weight of either frame in a double exposure
_APART = 8  # least distance of the two frames of a mixture; closer ones are alike
_BEST = 3  # number of the most similar frames that are tried as one of the two
_EXPLAINED = 0.7  # least fraction of the error that a double exposure explains
_STRIP = 5  # width of the strips along the edges, in pixels
_CHANGES = 1.0  # least change along an edge at which a smear is visible, in levels per pixel
_SMEARED = 0.75  # fraction of the clip's least change towards the edge that a smear lacks
_FIELD = 4  # number of large regions along the longer side, for light
_LIGHT = 6.0  # least limit of the difference of light, in levels
_SLACK, _LIGHT_SLACK = 1.15, 1.5
_OWN = 60  # number of the clip's frames that are compared with its other frames
_LEFT_OUT = 0.25  # fraction of the clip on either side of such a frame that does not count


class Familiar:
    """A clip with which pictures are compared; ``pictures`` are (h, w, 3) uint8.

    ``light_limit``: the limit of :meth:`light`, which the clip's own frames set.
    """

    def __init__(self, pictures: list[Small]) -> None:
        """Measure the clip and the limits that its own frames set."""
        lumas = [shrunk(picture) for picture in pictures]
        # (regions, frames, values)
        self._rows: Array = np.stack([_cells(luma) for luma in lumas], 1)
        self._gram: Array = self._rows @ self._rows.transpose(0, 2, 1)
        self._own = np.einsum("rnn->rn", self._gram)
        near = self._own[:, :-1] + self._own[:, 1:] - 2 * np.diagonal(self._gram, 1, 1, 2)
        floor = _FAINT**2 * self._rows.shape[2]
        typical = np.maximum(near, 0).mean(1) if near.size else np.zeros(len(self._rows))
        self._least = np.maximum(_USUAL**2 * typical, floor)
        self._strips = np.quantile([_strips(luma) for luma in lumas], 0.02, axis=0)
        self._fields = np.stack([_field(picture) for picture in pictures])
        self._limit = 1.0
        self._limit, self.light_limit = self._limits(pictures)

    def strangeness(self, picture: Small, known: NDArray[np.bool_] | None = None) -> float:
        """Return the strangeness of a picture in its worst region; the limit is 1.

        ``known``: (frames,), the clip's frames that count; None for all.
        """
        luma = shrunk(picture)
        known = np.ones(len(self._fields), bool) if known is None else known
        mixed = self._mixed(_cells(luma), known) / (_EXPLAINED * self._limit)
        lacks = 1 - _strips(luma) / np.maximum(self._strips, 1e-3)
        smeared = np.where(self._strips > 0.05, lacks, 0) / _SMEARED
        return float(max(mixed.max(), smeared.max()))

    def light(self, picture: Small, known: NDArray[np.bool_] | slice = slice(None)) -> float:
        """Return the difference of light from the most similar frame, in levels.

        ``known``: the clip's frames that count.
        """
        away = np.square(self._fields[known] - _field(picture)).mean((1, 2))
        return float(np.sqrt(away.min()))

    def _mixed(self, rows: Array, known: NDArray[np.bool_]) -> Any:
        """Return the fraction of each region's error that a second frame explains: (regions,)."""
        across = np.einsum("rnd,rd->rn", self._rows, rows)
        square = np.square(rows).sum(1)
        amiss = np.where(known, square[:, None] - 2 * across + self._own, np.inf)
        order = np.argsort(amiss, 1)
        frames = np.arange(amiss.shape[1])
        here = np.arange(len(rows))
        least = amiss[here, order[:, 0]]
        best = least.copy()
        for k in range(min(_BEST, int(known.sum()))):
            one = order[:, k]
            own = self._gram[here, one, one][:, None]
            cross = self._gram[here, one]
            along = across - across[here, one][:, None] - cross + own
            length = np.maximum(self._own - 2 * cross + own, 1e-3)
            weight = along / length
            fits = known & (np.abs(frames - one[:, None]) >= _APART)
            fits &= (weight >= _MIXED) & (weight <= 1 - _MIXED)
            left = amiss[here, one][:, None] - along * weight
            best = np.minimum(best, np.where(fits, left, np.inf).min(1))
        explained = 1 - np.maximum(best, 0) / np.maximum(least, 1e-3)
        return np.where(least > self._least, explained, 0.0)

    def _limits(self, pictures: list[Small]) -> tuple[float, float]:
        """Return limits of strangeness and light within which the clip's own frames are.

        Each frame is compared with frames far from it in time.
        """
        count = len(pictures)
        reach = round(_LEFT_OUT * count)
        if reach < 2 * _APART:
            return 1.0, inf
        frames = np.arange(count)
        mixed, light = [], []
        for k in np.unique(np.linspace(0, count - 1, min(_OWN, count)).round().astype(int)):
            far = (frames < k - reach) | (frames >= k + reach)
            mixed.append(self.strangeness(pictures[k], far))
            # Light changes slowly, so a frame is compared with the other half of the clip only.
            other_half = (frames < count // 2) != (k < count // 2)
            light.append(self.light(pictures[k], other_half))
        usual, brightest = np.quantile(mixed, 0.9), np.quantile(light, 0.95)
        limit = min(max(1.0, _SLACK * float(usual)), 0.95 / _EXPLAINED)
        return limit, max(_LIGHT, _LIGHT_SLACK * float(brightest))


def shrunk(picture: Small) -> Array:
    """Return the luma that is searched: (h, w) in levels, the longest side at most 200."""
    luma: Array = reduced(grey(picture), _LONGEST).astype(np.float32)
    return luma


def _cells(luma: Array) -> Array:
    """Return the fine detail of each region of (h, w) luma: (regions, values)."""
    rows, columns = (max(1, round(side / _CELL)) for side in luma.shape)
    fine = luma - cv2.GaussianBlur(luma, (0, 0), _FINE)
    fine = cv2.resize(fine, (columns * _CELL, rows * _CELL), interpolation=cv2.INTER_LINEAR)
    cut = fine.reshape(rows, _CELL, columns, _CELL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cut.reshape(rows * columns, -1))


def _strips(luma: Array) -> Any:
    """Return for each edge the change towards the edge relative to that along: (4,), left first."""
    found = []
    for strip in (luma[:, :_STRIP], luma[:, -_STRIP:], luma[:_STRIP].T, luma[-_STRIP:].T):
        along = np.abs(np.diff(strip, axis=0)).mean()
        towards = np.abs(np.diff(strip, axis=1)).mean()
        found.append(towards / along if along > _CHANGES else 1.0)
    return np.array(found)


def _field(picture: Small) -> Array:
    """Return mean colours of large regions minus the mean of all: (regions, 3), in levels."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    size = tuple(max(1, round(_FIELD * side / longest)) for side in (width, height))
    small: Array = cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    flat = small.reshape(-1, 3)
    made: Array = flat - flat.mean(0)
    return made
