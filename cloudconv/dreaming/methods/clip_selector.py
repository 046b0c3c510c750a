"""Choose the frames of the clip that a collage shows next, and their place in the picture.

Random pieces are compared by thumbnails. The cheapest piece resembles the footage that it
replaces, but not the earlier pictures of the dream.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.likeness import detail, repeats
from cloudconv.dreaming.methods.pieces import Piece, Thumbs
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Fades, along_wind, cut_between
from cloudconv.dreaming.repeats import HISTORY
from cloudconv.images import TINY, Floats, luma, resized

PARTS = 4
"""Number of parts of a crossing of the picture, between which pictures are compared."""

_TRIED = 200  # random pieces, of which the cheapest is used
_AT_ONCE = 20  # pieces that are compared in one step, which bounds the memory
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_EVERY = 6  # frames between two remembered pictures
_UNKNOWN = 10.0  # cost of a piece that is unknown everywhere
_MOMENTS = 6  # number of moments at which the known parts are compared
_BORDER = 0.25  # reach of the border to the old sky, in times of its crossing
# Costs are relative to that of the median difference from the old sky within this reach.
# Cost of a squared correlation of 1 with earlier pictures, a mirror image, or itself.
_SEEN = 2.0


class Past:
    """The pictures that a dream has shown, and those of the clip."""

    def __init__(self, thumbs: Thumbs) -> None:
        """Remember the clip."""
        self._thumbs = thumbs
        self._mean = luma(thumbs.frames).mean(0)
        self._rows: deque[Floats] = deque(maxlen=HISTORY // _EVERY)
        self._rows.extend(self._patterns(thumbs.frames[::_EVERY]))
        self._count = 0

    def remember(self, small: Callable[[tuple[int, int]], Floats]) -> None:
        """Remember the next picture of the dream.

        ``small``: returns the picture at a size, (h, w, 3). The first of every six counts.
        """
        if self._count % _EVERY == 0:
            thumb = small(self._thumbs.size)
            self._rows.append(self._patterns(thumb[None])[0])
        self._count += 1

    def likeness(self, thumbs: Floats) -> Floats:
        """Return the greatest correlation of each of (n, h, w, 3) with the past: (n,)."""
        most: Floats = (self._patterns(thumbs) @ np.stack(self._rows).T).max(1)
        return most

    def _patterns(self, thumbs: Floats) -> Floats:
        """Return the differences of thumbnails from the mean, as rows of length 1."""
        apart = (luma(thumbs) - self._mean)[:, self._thumbs.moving]
        apart = apart - apart.mean(1, keepdims=True)
        rows: Floats = apart / np.linalg.norm(apart, axis=1, keepdims=True).clip(TINY)
        return rows


class ClipSelector:
    """A chooser of pieces. ``fades``: those of a cut, see :func:`cut_between`."""

    def __init__(
        self,
        material: Material,
        thumbs: Thumbs,
        past: Past,
        random: np.random.Generator,
        fades: Fades,
    ) -> None:
        """Begin without a piece."""
        self._material = material
        self._thumbs = thumbs
        self._past = past
        self._random = random
        self._fades = fades
        self._order = along_wind(thumbs.points.wind, thumbs.size)

    def choose(self, blank: Piece, older: Sequence[Floats], ages: Sequence[int]) -> Piece:
        """Return the next piece.

        Args:
            blank: a piece with the footage, the start and the life of the result.
            older: the thumbnails of the older footage at some moments of the transition,
                (h, w, 3) each.
            ages: those moments, in frames after the piece's start.
        """
        life = blank.life
        tried = [self._drawn(blank) for _ in range(_TRIED)]
        looks = [*ages, *(life * number // PARTS for number in range(2, PARTS + 1))]
        before = np.stack(older)
        # New sky meets old sky along a border that crosses the picture with the wind.
        parts = np.array([2 * age / life for age in ages], np.float32)[:, None, None]
        zones = (1 - np.abs(self._order - parts) / _BORDER).clip(0)
        apart = np.zeros(_TRIED, np.float32)
        cost = np.zeros(_TRIED, np.float32)
        for start in range(0, _TRIED, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            thumbs = self._thumbs.composed(tried[some], looks)
            changing = thumbs[:, : len(ages)]
            differs = np.abs(changing - before).mean(-1) * zones
            apart[some] = differs[..., self._thumbs.moving].sum((1, 2))
            twice = self._twice(before, changing)
            flat = thumbs.reshape(-1, *thumbs.shape[2:])
            likeness = self._past.likeness(flat).reshape(thumbs.shape[:2]).max(1)
            likenesses = np.stack([twice, likeness]).clip(0)
            cost[some] = _SEEN * np.square(likenesses).sum(0)
        # The unit is the lower one of the two middle values.
        cost += apart / max(float(np.sort(apart)[(_TRIED - 1) // 2]), TINY)
        order = [int(number) for number in cost.argsort(kind="stable")]
        best = tried[order[0]]
        least = inf
        for number in order:
            if cost[number] >= least:  # unknown parts only add to the cost
                break
            total = cost[number] + _UNKNOWN * self._unknown(tried[number])
            if total < least:
                least = total
                best = tried[number]
        assert best.second is not None
        cut = cut_between(
            partial(self._thumbs.footage.sight, best.first),
            partial(self._thumbs.footage.sight, best.second),
            self._thumbs.points.wind,
            life,
            self._fades,
        )
        return replace(best, cut=cut)

    def _unknown(self, piece: Piece) -> float:
        """Return the greatest part of the picture that a piece should know and does not.

        The piece arrives with the wind in half of its life, and the next piece then does
        the same.
        """
        unknown = []
        for moment in range(_MOMENTS):
            position = 2 * (moment + 0.5) / _MOMENTS
            arrived = self._order < position if position < 1 else self._order > position - 1
            age = round(position * piece.life / 2)
            both = {piece.first, piece.second or piece.first}
            covered = np.max([self._thumbs.footage.covers(one, age) for one in both], 0)
            unknown.append(float(((1 - covered) * arrived).mean()))
        return max(unknown)

    def _drawn(self, blank: Piece) -> Piece:
        random = self._random
        first, second = (self._played(blank.life) for _ in range(2))
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.random()
        # Clouds drift from the first placement to the second.
        wind = self._thumbs.points.wind[self._thumbs.moving, 0]
        side = 1 if float(wind.mean()) < 0 else -1
        first = replace(first, shift=-side * split * beyond)
        second = replace(second, shift=side * (1 - split) * beyond)
        return replace(blank, first=first, second=second)

    def _played(self, life: int) -> Placement:
        count = len(self._material)
        spare = count - life
        # Real frames are shown from the end of the footage's arrival to the begin of the
        # next's.
        least = max(min(spare, 0), -(life // 2))
        most = max(spare, min(0, count - life // 2))
        return Placement(int(self._random.integers(least, most + 1)))

    def _twice(self, before: Floats, after: Floats) -> Floats:
        """Return how much new pictures show clouds twice, or those of old ones: (pieces,).

        ``before``: (moments, h, w, 3). ``after``: (pieces, moments, h, w, 3).
        """
        # One moment at half the size is enough to find clouds that are visible twice.
        middle = len(before) // 2
        half = [side // 2 for side in self._thumbs.size]
        old, new = (
            np.stack(
                [
                    resized(one, half)
                    for one in detail(255 * luma(pictures), self._thumbs.moving)
                ]
            )
            for pictures in (before[middle : middle + 1], after[:, middle])
        )
        old = np.tile(old, (len(new), 1, 1))
        twice: Floats = np.max([repeats(old, new), repeats(new, old), repeats(new, new)], 0)
        return twice
