"""Link blobs over a stream of frames into the ways of fast objects, if chance hardly does.

A contrario detection (Desolneux, Moisan and Morel, Meaningful Alignments, 2000): three
blobs in a row are as meaningful as it is unlikely that a rival of at least the weight is as
near to an even way, and as like. Likeness counts at most as much as the way. The best
chain through each link is found by dynamic programming: its past is kept, its future is
as long as the frames that have come. A link counts if few false ones are expected.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.fastobjects import FastObject
from cloudconv.images import TINY, transformed, translation, whole
from cloudconv.schedule.sightings import FASTEST, Blob

Doubles = NDArray[np.float64]
Numbers = NDArray[np.int64]

_AROUND = 10  # circles across the width: where rivals are counted
_FALSE = 1e-5  # expected false links of a pair of frames
_ALIKE = 0.5  # common part of the mattes of both ends
_OPEN = 0.35  # openness: more is a limb, not an object


@dataclass(eq=False, slots=True)
class _Step:
    """Possible links from the blobs of a frame to those of the next one.

    ``ends``: (n, 2), their numbers in both. ``score``: that of the best chain that ends
    with each link. ``past``: the link before it in that chain, -1 for none. ``bends``: to
    each of the next step: the links in both, and a score.
    """

    ends: Numbers
    score: Doubles
    past: Numbers
    bends: tuple[Numbers, Numbers, Doubles] | None = None


@dataclass(eq=False, slots=True)
class Trajectories:
    """The chains of blobs of one scene, whose searched pictures have a ``width``."""

    width: int
    _frames: deque[list[Blob]] = field(default_factory=deque)
    _steps: deque[_Step] = field(default_factory=deque)
    _first: int = 0

    def push(self, blobs: list[Blob]) -> None:
        """Add the blobs of the next frame."""
        self._frames.append(blobs)
        if len(self._frames) < 2:
            return
        ends = self._possible(self._frames[-2], blobs)
        step = _Step(ends, np.zeros(len(ends)), np.full(len(ends), -1))
        self._steps.append(step)
        if len(self._steps) < 2:
            return
        last = self._steps[-2]
        last.bends = self._bends(last.ends, ends)
        links, onward, gains = last.bends
        _improve(step.score, step.past, onward, links, last.score[links] + gains)

    def links(self, number: int) -> list[FastObject]:
        """Return the links of a pair of frames, which is numbered by its first one.

        Pairs are asked for in order, each once.
        """
        while self._first < number - 1:
            self._frames.popleft()
            self._steps.popleft()
            self._first += 1
        at = number - self._first
        if at >= len(self._steps):
            return []
        step = self._steps[at]
        future = np.zeros(0)
        for later in reversed([*self._steps][at:]):
            onward = future
            future = np.zeros(len(later.ends))
            following = np.full(len(later.ends), -1)
            if later.bends is not None:
                links, nexts, gains = later.bends
                _improve(future, following, links, nexts, onward[nexts] + gains)
        first, second = (self._frames[at + k] for k in (0, 1))
        weights = np.array([min(first[i].weight, second[j].weight) for i, j in step.ends])
        tests = len(weights) - np.searchsorted(np.sort(weights), weights)
        scores = step.score + future - np.log(tests / _FALSE)
        kept: list[FastObject] = []
        taken: set[Blob] = set()
        for link in np.argsort(-scores, kind="stable"):
            i, j = step.ends[link]
            one = first[i]
            two = second[j]
            if scores[link] <= 0:
                break
            before = self._beside(at - 1, 0, step.past[link])
            after = self._beside(at + 1, 1, following[link])
            # An open blob counts only between others.
            is_whole = before is not None or one.openness < _OPEN
            is_whole &= after is not None or two.openness < _OPEN
            is_free = not {one, two} & taken
            if is_whole and is_free and overlap(one, two) >= _ALIKE:
                taken |= {one, two}
                kept.append(_object(one, two, before, after))
        return kept

    def _beside(self, step: int, end: int, link: int) -> Blob | None:
        """Return the blob at an end of a link in a step; None for no link, which is -1."""
        if link < 0:
            return None
        number = int(self._steps[step].ends[link, end])
        return self._frames[step + end][number]

    def _possible(self, first: list[Blob], second: list[Blob]) -> Numbers:
        """Return the pairs of blobs that may be one object, (n, 2)."""
        if not first or not second:
            return np.zeros((0, 2), int)
        ways = _centres(second)[None] - _centres(first)[:, None]
        squares = np.square(ways).sum(2)
        opens = _means(first, second, "openness")
        areas = _means(first, second, "area")
        # An object moves by more than its own size, or its mattes lack what overlaps.
        fits = (squares >= areas) & (squares <= (self.width / FASTEST) ** 2)
        return np.argwhere(fits & (opens < _OPEN))

    def _bends(self, ends: Numbers, onward: Numbers) -> tuple[Numbers, Numbers, Doubles]:
        """Return the pairs of links that meet in a blob, and the score of each."""
        one, two = np.nonzero(ends[:, 1][:, None] == onward[:, 0])
        frames = [self._frames[k] for k in (-3, -2, -1)]
        blobs = ends[one, 0], ends[one, 1], onward[two, 1]
        p, q, r = (_centres(f)[i] for f, i in zip(frames, blobs, strict=True))
        bend = np.maximum(((p - 2 * q + r) ** 2).sum(1), 1)
        step = ((r - p) ** 2).sum(1) / 4 + TINY
        density = self._density(frames[2])[blobs[2]]
        way = np.minimum(np.maximum(density * bend, bend / step), 1)
        fit = np.flatnonzero(way < 1 / 2)
        way = way[fit]
        # The likeness of two blobs counts at most as much as the way.
        likeness = np.ones(len(onward))
        for link in np.unique(two[fit]):
            before, after = onward[link]
            likeness[link] = _likeness(frames[1][before], frames[2][after])
        chance = _fisher(way * np.maximum(likeness[two[fit]], way), 2)
        return one[fit], two[fit], -np.log(chance) - 1

    def _density(self, blobs: list[Blob]) -> Doubles:
        """Return the density of blobs of at least the weight of each, around each."""
        if not blobs:
            return np.zeros(0)
        places = _centres(blobs)
        weights = np.array([blob.weight for blob in blobs])
        apart = np.hypot(*(places[None] - places[:, None]).transpose(2, 0, 1))
        apart[weights[None] < weights[:, None]] = np.inf
        around = self.width / _AROUND
        densities = [
            # The blob itself counts in the largest area: no density is 0.
            ((apart < around / part).sum(1) - (part > 1)) / (around / part) ** 2
            for part in (1, 2, 4)
        ]
        return np.max(densities, 0)  # type: ignore[no-any-return]


def _improve(
    scores: Doubles, origins: Numbers, at: Numbers, origin: Numbers, values: Doubles
) -> None:
    """Set the scores at places to the largest of their values, and where it comes from."""
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    scores[at[order]] = values[order]  # the last of equal places counts
    origins[at[order]] = origin[order]


def _object(p: Blob, q: Blob, before: Blob | None, after: Blob | None) -> FastObject:
    """Return the object of a link, whose way bends as that of the blobs beside it."""
    beside = [getattr(blob, "matte", None) for blob in (before, after)]
    row = [beside[0], p.matte, q.matte, beside[1]]
    bends = np.diff([matte.centre for matte in row if matte is not None], 2, axis=0)
    weights = 1 / (1 + np.square(bends).sum(1))
    x, y = (weights @ bends / max(weights.sum(), TINY)).tolist()
    return FastObject((p.matte, q.matte), (beside[0], beside[1]), (x, y))


def _means(first: Sequence[Blob], second: Sequence[Blob], name: str) -> Doubles:
    """Return the mean of a property of each two blobs, (n, m)."""
    own = [getattr(blob, name) for blob in first]
    others = [getattr(blob, name) for blob in second]
    means: Doubles = np.add.outer(own, others) / 2
    return means


def _centres(blobs: Sequence[Blob]) -> Doubles:
    return np.array([blob.centre for blob in blobs]).reshape(-1, 2)


def overlap(p: Blob, q: Blob) -> float:
    """Return the common part of two mattes with their centres together, of their union."""
    one, other = (
        (np.array(matte.centre) - matte.corner, matte.alpha) for matte in (p.matte, q.matte)
    )
    size = one[1].shape
    put = transformed(
        other[1], translation(one[0] - other[0]), whole(size), outside=cv2.BORDER_CONSTANT
    )
    common = np.minimum(one[1], put).sum()
    return float(common / (one[1].sum() + other[1].sum() - common))


def _likeness(p: Blob, q: Blob) -> float:
    """Return how often two blobs are as like by chance, in colour, size, outline and shape.

    The distributions are those of blobs of films.
    """
    colour = max(float(np.abs(p.colour - q.colour).max()), 2)
    size = max(abs(math.log(p.area / q.area)), 0.02)
    outline = max(p.openness, q.openness, 0.02)
    shape = max(1 - overlap(p, q), 0.1)
    chances = (
        1 - math.exp(-((colour / 70) ** 1.7)),
        1 - math.exp(-size),
        1 - math.exp(-((outline / 0.5) ** 1.2)),
        min((shape / 0.88) ** 7, 1),
    )
    return float(_fisher(np.array(math.prod(chances)), len(chances)))


def _fisher(product: Doubles, count: int) -> Doubles:
    """Return the chance that the product of independent chances is as small.

    Source: Fisher, Statistical Methods for Research Workers, 1932.
    """
    logs = -np.log(product)
    total: Doubles = product * sum(logs**k / math.factorial(k) for k in range(count))
    return total
