"""Link blobs over a stream of frames into the ways of fast objects, if chance hardly does.

A contrario detection (Desolneux, Moisan and Morel, Meaningful Alignments, 2000): three
blobs in a row are as meaningful as it is unlikely that a rival of at least the weight is as
near to an even way, and as like in shape and colour. Likeness counts at most as much as the
way. The best chain through each link is found by dynamic programming: its past is kept, its
future is as long as the frames that have come. A link counts if few false ones are
expected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.fastobjects import FastObject, Matte
from cloudconv.images import TINY, transformed, translation, whole
from cloudconv.schedule.sightings import FASTEST, Blob

Doubles = NDArray[np.float64]
Numbers = NDArray[np.int64]

_AROUND = 10  # circles across the width: where rivals are counted
_FALSE = 1e-5  # expected false links of a pair of frames
_ALIKE = 0.5  # common part of the mattes of both ends
_OPEN = 0.35  # mean openness of a row: a limb has more
_LOOKS = 7  # independent chances that make up the likeness of two blobs


@dataclass(eq=False, slots=True)
class _Step:
    """Possible links from the blobs of a frame to those of the next one.

    ``ends``: (n, 2), their numbers in both. ``shapes``: the common part of their mattes.
    ``chances``: that two blobs are as like in shape and colour; both NaN if not known yet.
    ``score``: that of the best chain that ends with each link. ``past``: the link before it
    in that chain, -1 for none. ``bends``: to each of the next step: the links in both, and
    a score.
    """

    ends: Numbers
    shapes: Doubles
    chances: Doubles
    score: Doubles
    past: Numbers
    bends: tuple[Numbers, Numbers, Doubles]


def _step(first: Sequence[Blob], second: Sequence[Blob], farthest: float) -> _Step:
    """Return the possible links of two frames, at most ``farthest`` pixels long."""
    ways = _centres(second)[None] - _centres(first)[:, None]
    squares = np.square(ways).sum(2)
    # An object moves by more than its own size, or its mattes lack what overlaps.
    areas = np.add.outer([p.area for p in first], [q.area for q in second]) / 2
    fits = (squares >= areas) & (squares <= farthest**2)
    ends = np.argwhere(fits)
    shapes, chances = np.full((2, len(ends)), np.nan)
    none = np.zeros(0, int)
    bends = none, none, np.zeros(0)
    return _Step(ends, shapes, chances, *_best(len(ends), *bends), bends)


class Trajectories:
    """The chains of blobs of one scene, whose searched pictures have a ``width``.

    The first frame of a scene has no blobs.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._frames: deque[list[Blob]] = deque([[], []])
        self._steps = deque([_step([], [], 0)])
        self._done = 0  # pairs that were asked for and whose steps are still here

    def push(self, blobs: list[Blob]) -> None:
        """Add the blobs of the next frame."""
        last = self._steps[-1]
        step = _step(self._frames[-1], blobs, self._width / FASTEST)
        self._frames.append(blobs)
        self._steps.append(step)
        links, onward, gains = last.bends = self._bends(last, step)
        values = last.score[links] + gains
        step.score, step.past = _best(len(step.ends), onward, links, values)

    def links(self) -> list[FastObject]:
        """Return the links of the next pair of frames, in order from the first pair."""
        while self._done and len(self._steps) > 1:
            self._frames.popleft()
            self._steps.popleft()
            self._done -= 1
        self._done += 1
        if len(self._steps) < 2:
            return []
        future = np.zeros(0)
        for later in reversed([*self._steps][1:]):
            links, nexts, gains = later.bends
            values = future[nexts] + gains
            future, following = _best(len(later.ends), links, nexts, values)
        step = self._steps[1]
        first, second = (self._frames[k] for k in (1, 2))
        weights = np.array([min(first[i].weight, second[j].weight) for i, j in step.ends])
        tests = len(weights) - np.searchsorted(np.sort(weights), weights)
        scores = step.score + future - np.log(tests / _FALSE)
        kept: list[FastObject] = []
        taken: set[Blob] = set()
        for link in np.argsort(-scores, kind="stable")[: (scores > 0).sum()]:
            i, j = step.ends[link]
            before = self._beside(0, 0, step.past[link])
            after = self._beside(2, 1, following[link])
            row = [before, first[i], second[j], after]
            # A limb is open in most frames.
            is_closed = np.mean([blob.openness for blob in row if blob]) < _OPEN
            is_free = not {first[i], second[j]} & taken
            if is_closed and is_free and step.shapes[link] >= _ALIKE:
                taken |= {first[i], second[j]}
                kept.append(_object(row))
        return kept

    def _beside(self, step: int, end: int, link: int) -> Blob | None:
        """Return the blob at an end of a link in a step; None for no link, which is -1."""
        if link < 0:
            return None
        number = int(self._steps[step].ends[link, end])
        return self._frames[step + end][number]

    def _bends(self, last: _Step, step: _Step) -> tuple[Numbers, Numbers, Doubles]:
        """Return the pairs of links that meet in a blob, and the score of each."""
        one, two = np.nonzero(last.ends[:, 1][:, None] == step.ends[:, 0])
        blobs = last.ends[one, 0], last.ends[one, 1], step.ends[two, 1]
        frames = [self._frames[k] for k in (-3, -2, -1)]
        p, q, r = (_centres(f)[i] for f, i in zip(frames, blobs, strict=True))
        bend = np.maximum(((p - 2 * q + r) ** 2).sum(1), 1)
        length = ((r - p) ** 2).sum(1) / 4 + TINY
        density = self._density(frames[2])[blobs[2]]
        way = np.maximum(density * bend, bend / length)
        fit = np.flatnonzero(way < 1 / 2)
        way = way[fit]
        _compare(last, one[fit], *frames[:2])
        _compare(step, two[fit], *frames[1:])
        # The likeness of the least alike counts, and at most as much as the way.
        chance = way * np.maximum.reduce(
            [last.chances[one[fit]], step.chances[two[fit]], way]
        )
        # That of two independent chances (Fisher, 1932).
        score = -np.log(chance - chance * np.log(chance)) - 1
        return one[fit], two[fit], score

    def _density(self, blobs: list[Blob]) -> Doubles:
        """Return the density of blobs of at least the weight of each, around each."""
        places = _centres(blobs)
        weights = np.array([blob.weight for blob in blobs])
        apart = np.hypot(*(places[None] - places[:, None]).transpose(2, 0, 1))
        around = self._width / _AROUND
        rivals = (apart < around) & (weights[None] >= weights[:, None])
        return rivals.sum(1) / around**2  # type: ignore[no-any-return]


def _compare(
    step: _Step, links: Numbers, first: Sequence[Blob], second: Sequence[Blob]
) -> None:
    """Set the likeness of some links, where it is not known yet."""
    for link in np.unique(links[np.isnan(step.chances[links])]):
        i, j = step.ends[link]
        step.shapes[link], look = _overlap(first[i].matte, second[j].matte)
        step.chances[link] = (1 - look) ** _LOOKS


def _best(
    count: int, at: Numbers, origins: Numbers, values: Doubles
) -> tuple[Doubles, Numbers]:
    """Return the largest value at each of some places, and its origin; else 0 and -1."""
    scores = np.zeros(count)
    best = np.full(count, -1)
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    scores[at[order]] = values[order]  # the last of equal places counts
    best[at[order]] = origins[order]
    return scores, best


def _object(row: Sequence[Blob | None]) -> FastObject:
    """Return the object of four blobs in a row, whose way bends as their centres do."""
    before, first, second, after = (getattr(blob, "matte", None) for blob in row)
    assert first is not None
    assert second is not None
    mattes = [before, first, second, after]
    bends = np.diff([matte.centre for matte in mattes if matte is not None], 2, axis=0)
    weights = 1 / (1 + np.square(bends).sum(1))
    x, y = (weights @ bends / max(weights.sum(), TINY)).tolist()
    return FastObject((first, second), (before, after), (x, y))


def _centres(blobs: Sequence[Blob]) -> Doubles:
    return np.array([blob.centre for blob in blobs]).reshape(-1, 2)


def _overlap(p: Matte, q: Matte) -> tuple[float, float]:
    """Return the common part of two mattes with their centres together, of their union.

    The first number is that of their shapes, the second one that of shapes and colours.
    """
    shown = [np.dstack((each.colours.clip(0, 1), each.alpha)) for each in (p, q)]
    shift = np.subtract(p.centre, p.corner) - np.subtract(q.centre, q.corner)
    put = transformed(
        shown[1], translation(shift), whole(p.alpha.shape), outside=cv2.BORDER_CONSTANT
    )
    common = np.minimum(shown[0], put).sum((0, 1))
    union = shown[0].sum((0, 1)) + shown[1].sum((0, 1)) - common
    return float(common[-1] / union[-1]), float(common.sum() / union.sum())
