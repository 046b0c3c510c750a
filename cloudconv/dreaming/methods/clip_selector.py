"""Choose the frames of the clip that a collage shows next, and their place in the picture.

Random pieces are compared by thumbnails. The cheapest piece resembles the footage that it replaces,
but not the earlier pictures of the dream.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.images import TINY, resized
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.pieces import Piece, Thumbs
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.symmetry import detail, repeats, symmetry
from cloudconv.dreaming.methods.transition import Fades, along_wind, cut_between
from cloudconv.dreaming.repeats import HISTORY
from cloudconv.metrics import luma

PARTS = 4
"""Number of parts of a crossing of the picture, between which pictures are compared."""

_TRIED = 200  # random pieces, of which the cheapest is used
_AT_ONCE = 20  # pieces that are compared in one step, which bounds the memory
_SINGLE = 0.2  # fraction of pieces with a single placement: pairs alone mix two lights
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_EVERY = 6  # frames between two remembered pictures
_UNKNOWN = 10.0  # cost of a piece that is unknown everywhere
_MOMENTS = 6  # number of moments at which the known parts are compared
_BORDER = 0.25  # reach of the border to the old sky, in times of its crossing
# Costs are relative to that of the median difference from the old sky within this reach.
_SEEN = 2.0  # cost of a squared correlation of 1 with earlier pictures, a mirror image, or itself


class Past:
    """The pictures that a dream has shown, and those of the clip."""

    def __init__(self, thumbs: Thumbs) -> None:
        """Remember the clip."""
        self._thumbs = thumbs
        self._mean = luma(thumbs.frames).mean(0)
        self._rows: deque[Tensor] = deque(maxlen=HISTORY // _EVERY)
        self._rows.extend(self._patterns(thumbs.frames[::_EVERY]))
        self._count = 0

    def remember(self, picture: Tensor) -> None:
        """Remember the next picture of the dream, (3, H, W); the first of every six counts."""
        if self._count % _EVERY == 0:
            thumb = resized(picture, self._thumbs.size).cpu()[None]
            self._rows.append(self._patterns(thumb)[0])
        self._count += 1

    def likeness(self, thumbs: Tensor) -> Tensor:
        """Return the greatest correlation of each of (n, 3, h, w) with the past: (n,)."""
        return (self._patterns(thumbs) @ torch.stack(list(self._rows)).T).amax(1)

    def _patterns(self, thumbs: Tensor) -> Tensor:
        """Return the differences of thumbnails from the mean, as rows of length 1."""
        apart = (luma(thumbs) - self._mean)[:, self._thumbs.moving]
        apart = apart - apart.mean(1, keepdim=True)
        rows: Tensor = apart / apart.norm(dim=1, keepdim=True).clamp_min(TINY)
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

    def choose(self, blank: Piece, seen: Sequence[Tensor], ages: Sequence[int]) -> Piece:
        """Return the next piece.

        Args:
            blank: a piece with the footage, the start and the life of the result.
            seen: the thumbnails of the older footage at some moments of the transition, (3, h, w)
                each.
            ages: those moments, in frames after the piece's start.
        """
        life = blank.life
        tried = [self._drawn(blank) for _ in range(_TRIED)]
        looks = [*ages, *(life * part // PARTS for part in range(2, PARTS + 1))]
        before = torch.stack(list(seen))
        # New sky meets old sky along a border that crosses the picture with the wind.
        parts = torch.tensor([2 * age / life for age in ages])[:, None, None]
        zones = (1 - (self._order - parts).abs() / _BORDER).clamp_min(0)
        apart, cost = torch.zeros(_TRIED), torch.zeros(_TRIED)
        for start in range(0, _TRIED, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            thumbs = self._thumbs.composed(tried[part], looks)
            changing = thumbs[:, : len(ages)]
            differs = (changing - before).abs().mean(2) * zones
            apart[part] = differs[..., self._thumbs.moving].sum((1, 2))
            doubled = self._doubled(before, changing).clamp_min(0)
            likeness = self._past.likeness(thumbs.flatten(0, 1)).reshape(thumbs.shape[:2]).amax(1)
            likenesses = torch.cat([doubled, likeness.clamp_min(0)[None]])
            cost[part] = _SEEN * likenesses.square().sum(0)
        cost += apart / apart.median().clamp_min(TINY)
        for number, one in enumerate(tried):
            if self._whole & self._frames(one):
                cost[number] = inf
            cost[number] += _UNKNOWN * self._unknown(one)
        best = tried[int(cost.argmin())]
        self._whole |= self._frames(best)
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

    def _unknown(self, piece: Piece) -> float:
        """Return the greatest part of the picture that a piece should know and does not.

        The piece arrives with the wind in half of its life, and the next piece then does the same.
        """
        found = []
        for moment in range(_MOMENTS):
            part = 2 * (moment + 0.5) / _MOMENTS
            arrived = self._order < part if part < 1 else self._order > part - 1
            age = round(part * piece.life / 2)
            both = {piece.first, piece.second or piece.first}
            known = torch.stack([self._thumbs.footage.covers(one, age) for one in both]).amax(0)
            found.append(float(((1 - known) * arrived).mean()))
        return max(found)

    def _frames(self, piece: Piece) -> set[tuple[int, bool]]:
        """Return the frames that a piece shows as whole pictures, and whether mirrored."""
        if piece.second is not None:
            return set()
        first = piece.first
        return {(first.frame(age), first.mirrored) for age in range(piece.life)}

    def _drawn(self, blank: Piece) -> Piece:
        random, life = self._random, blank.life
        # Beside each other, a placement and a mirrored one would be symmetric.
        direction = self._directions[int(random.integers(len(self._directions)))]
        first, second = (self._played(life, *direction) for _ in range(2))
        if random.random() < _SINGLE:
            return replace(blank, first=first)
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.random()
        # Clouds drift from the first placement to the second.
        wind = self._thumbs.points.wind[0][self._thumbs.moving]
        side = 1 if float(wind.mean()) < 0 else -1
        first = replace(first, shift=-side * split * beyond)
        second = replace(second, shift=side * (1 - split) * beyond)
        return replace(blank, first=first, second=second)

    def _played(self, life: int, backwards: bool, mirrored: bool) -> Placement:
        count = len(self._material)
        spare = count - life
        # Real frames are shown from the end of the footage's arrival to the begin of the next's.
        least, most = max(min(spare, 0), -(life // 2)), max(spare, min(0, count - life // 2))
        offset = int(self._random.integers(least, most + 1))
        start = count - 1 - offset if backwards else offset
        return Placement(start, backwards, mirrored)

    def _doubled(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much new pictures mirror old ones, and how much they show clouds twice.

        ``before``: (moments, 3, h, w). ``after``: (pieces, moments, 3, h, w). The result is
        (2, pieces).
        """
        middle, shape = len(before) // 2, after.shape[:2]
        old = detail(255 * luma(before), self._thumbs.moving).repeat(len(after), 1, 1)
        new = detail(255 * luma(after.flatten(0, 1)), self._thumbs.moving)
        mirrored = torch.maximum(symmetry(old, new), symmetry(new, old)).reshape(shape).amax(1)
        # One moment at half the size is enough to find clouds that are visible twice.
        old, new = (
            functional.avg_pool2d(one.reshape(*shape, *self._thumbs.size)[:, middle], 2)
            for one in (old, new)
        )
        twice = torch.stack([repeats(old, new), repeats(new, old), repeats(new, new)]).amax(0)
        return torch.stack([mirrored, twice])


def _kept_winds(thumbs: Thumbs) -> list[tuple[bool, bool]]:
    """Return the directions, (backwards, mirrored), that keep the wind about the same."""
    kept, wind, moving = [(False, False)], thumbs.points.wind, thumbs.moving
    speed = float(wind.norm(dim=0)[moving].mean())
    for direction in ((True, True), (False, True)):
        apart = (Placement(0, *direction).flow(wind) - wind).norm(dim=0)
        if float(apart[moving].mean()) < speed:
            kept.append(direction)
    return kept
