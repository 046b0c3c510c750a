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
from cloudconv.dreaming.methods.pieces import Piece, Thumbs
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.symmetry import detail, repeats, symmetry
from cloudconv.dreaming.methods.transition import Fades, along_wind, cut_between
from cloudconv.images import TINY, Floats, luma, resized

PARTS = 4
"""Number of parts of a crossing of the picture, between which pictures are compared."""

_TRIED = 200  # random pieces, of which the cheapest is used
_AT_ONCE = 20  # pieces that are compared in one step, which bounds the memory
_SINGLE = 0.2  # fraction of pieces with a single placement: pairs alone mix two lights
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_EVERY = 6  # frames between two remembered pictures
_REMEMBERED = 150  # pictures
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
        self._rows: deque[Floats] = deque(maxlen=_REMEMBERED)
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
        """Find which directions of play keep the wind."""
        self._material = material
        self._thumbs = thumbs
        self._past = past
        self._random = random
        self._fades = fades
        self._directions = _kept_winds(thumbs)
        self._order = along_wind(thumbs.points.wind, thumbs.size)
        # The frames that were shown as whole pictures, and whether mirrored.
        self._whole = {(number, False) for number in range(len(thumbs.frames))}

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
            doubled = self._doubled(before, changing).clip(0)
            flat = thumbs.reshape(-1, *thumbs.shape[2:])
            likeness = self._past.likeness(flat).reshape(thumbs.shape[:2]).max(1)
            likenesses = np.vstack([doubled, likeness.clip(0)])
            cost[some] = _SEEN * np.square(likenesses).sum(0)
        # The unit is the lower one of the two middle values.
        cost += apart / max(float(np.sort(apart)[(_TRIED - 1) // 2]), TINY)
        for number, one in enumerate(tried):
            if self._whole & self._frames(one):
                cost[number] = inf
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
        self.show(best)
        if best.second is None:
            return best
        cut = cut_between(
            partial(self._thumbs.footage.sight, best.first),
            partial(self._thumbs.footage.sight, best.second),
            self._thumbs.points.wind,
            life,
            self._fades,
        )
        return replace(best, cut=cut)

    def show(self, piece: Piece) -> None:
        """Exclude frames that a piece shows as whole pictures from later choices."""
        self._whole |= self._frames(piece)

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

    def _frames(self, piece: Piece) -> set[tuple[int, bool]]:
        """Return the frames that a piece shows as whole pictures, and whether mirrored."""
        if piece.second is not None:
            return set()
        first = piece.first
        return {(first.frame(age), first.mirrored) for age in range(piece.life)}

    def _drawn(self, blank: Piece) -> Piece:
        random = self._random
        life = blank.life
        # Beside each other, a placement and a mirrored one would be symmetric.
        direction = self._directions[int(random.integers(len(self._directions)))]
        first, second = (self._played(life, *direction) for _ in range(2))
        if random.random() < _SINGLE:
            return replace(blank, first=first)
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.random()
        # Clouds drift from the first placement to the second.
        wind = self._thumbs.points.wind[self._thumbs.moving, 0]
        side = 1 if float(wind.mean()) < 0 else -1
        first = replace(first, shift=-side * split * beyond)
        second = replace(second, shift=side * (1 - split) * beyond)
        return replace(blank, first=first, second=second)

    def _played(self, life: int, backwards: bool, mirrored: bool) -> Placement:
        count = len(self._material)
        spare = count - life
        # Real frames are shown from the end of the footage's arrival to the begin of the
        # next's.
        least = max(min(spare, 0), -(life // 2))
        most = max(spare, min(0, count - life // 2))
        offset = int(self._random.integers(least, most + 1))
        start = count - 1 - offset if backwards else offset
        return Placement(start, backwards, mirrored)

    def _doubled(self, before: Floats, after: Floats) -> Floats:
        """Return how much new pictures mirror old ones, and show clouds twice.

        ``before``: (moments, h, w, 3). ``after``: (pieces, moments, h, w, 3). The result is
        (2, pieces).
        """
        middle = len(before) // 2
        shape = after.shape[:2]
        old = np.tile(detail(255 * luma(before), self._thumbs.moving), (len(after), 1, 1))
        flat = after.reshape(-1, *after.shape[2:])
        new = detail(255 * luma(flat), self._thumbs.moving)
        mirrored = np.maximum(symmetry(old, new), symmetry(new, old)).reshape(shape).max(1)
        # One moment at half the size is enough to find clouds that are visible twice.
        half = [side // 2 for side in self._thumbs.size]
        old, new = (
            np.stack([resized(one, half) for one in both[middle :: shape[1]]])
            for both in (old, new)
        )
        twice = np.max([repeats(old, new), repeats(new, old), repeats(new, new)], 0)
        return np.stack([mirrored, twice])


def _kept_winds(thumbs: Thumbs) -> list[tuple[bool, bool]]:
    """Return the directions, (backwards, mirrored), that keep the wind about the same."""
    kept = [(False, False)]
    wind = thumbs.points.wind
    moving = thumbs.moving
    speed = float(np.linalg.norm(wind, axis=-1)[moving].mean())
    for direction in ((True, True), (False, True)):
        apart = np.linalg.norm(Placement(0, *direction).flow(wind) - wind, axis=-1)
        if float(apart[moving].mean()) < speed:
            kept.append(direction)
    return kept
