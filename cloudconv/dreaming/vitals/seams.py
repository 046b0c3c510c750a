"""Find straight edges that stay in one place while both sides change: a pasted rectangle.

A real edge is darker on one side, all along, and travels with its object. Where one moving picture
ends and another begins, differences across the border have no common sign, but are larger there,
over many frames, than just beside the border. The differences of the clip itself at each place are
subtracted. The search does not find a border between two smooth pictures of equal brightness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.vitals.strangeness import Small, shrunk

_Floats = NDArray[np.float32]

_SEGMENT = 40  # length of the shortest edge that is searched, in pixels of the small picture
_KEPT = 0.9  # weight of the earlier frames in the mean over time
_WARM = 10  # number of frames before this mean is used
_BESIDE = 3  # pixels on either side with which an edge is compared
_FAINT = 1.0  # least difference beside an edge that is divided by, in levels
_LIMIT, _SLACK = 1.5, 1.15  # least limit, and factor by which the limit exceeds the clip
_USUAL = 0.9  # quantile of the new edges in the clip's second half that sets the limit


class Seams:
    """A search for straight edges that stay in one place, frame by frame.

    ``pictures``, (h, w, 3) uint8, are the clip's.
    """

    def __init__(self, pictures: list[Small]) -> None:
        """Measure the clip's own edges."""
        self._means: dict[int, _Floats] = {}
        axes = [np.stack(found) for found in zip(*map(self._strengths, pictures), strict=True)]
        half = len(pictures) // 2
        self._known = [_most(axis) for axis in axes]
        self._limit = _LIMIT
        if half > 2 * _WARM:
            apart = [(axis[half:] - _most(axis[:half])).max((1, 2)) for axis in axes]
            typical = float(np.quantile(np.maximum(*apart), _USUAL))
            self._limit = max(_LIMIT, _SLACK * typical)
        self._means = {}
        self._seen = 0

    def measure(self, picture: Small) -> float:
        """Return the strangeness of the worst edge of the next picture; the limit is 1."""
        strengths = self._strengths(picture)
        self._seen += 1
        if self._seen <= _WARM:
            return 0.0
        new = [(now - known).max() for now, known in zip(strengths, self._known, strict=True)]
        return float(max(new)) / self._limit

    def _strengths(self, picture: Small) -> list[_Floats]:
        """Return the strength of vertical and of horizontal edges: (segments, places) each."""
        luma = shrunk(picture)
        made = []
        for axis, turned in enumerate((luma, luma.T)):
            across = np.diff(turned, axis=1)
            count = max(1, 2 * turned.shape[0] // _SEGMENT - 1)
            starts = np.linspace(0, max(turned.shape[0] - _SEGMENT, 0), count).astype(int)
            parts = [across[k : k + _SEGMENT] for k in starts]
            now: _Floats = np.stack(
                [(np.abs(part).mean(0), np.abs(part.mean(0))) for part in parts], 1
            )
            self._means[axis] = _KEPT * self._means.get(axis, now) + (1 - _KEPT) * now
            size, signed = self._means[axis]
            padded = np.pad(size, ((0, 0), (_BESIDE, _BESIDE)), mode="edge")
            # The pixel next to an edge may still belong to the edge.
            beside = np.max(
                [np.roll(padded, k, 1) for k in range(-_BESIDE, _BESIDE + 1) if abs(k) > 1], axis=0
            )[:, _BESIDE:-_BESIDE]
            made.append(np.maximum(size - beside - signed, 0) / np.maximum(beside, _FAINT))
        return made


def _most(strengths: _Floats) -> _Floats:
    most: _Floats = strengths[min(_WARM, len(strengths) - 1) :].max(0)
    return most
