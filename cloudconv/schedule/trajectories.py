"""Link blobs over a stream of frames into the trajectories of fast objects.

A contrario detection (Desolneux, Moisan and Morel, Meaningful Alignments, 2000): three
blobs in a row are as meaningful as it is unlikely that a rival of at least the weight is as
near to an even trajectory, and as like in shape and colour. Likeness counts at most as much
as the trajectory. The best chain through each link is found by dynamic programming: its
past is kept, its future is as long as the frames that have come. A link counts if few false
ones are expected, and if no frame shows another blob that is equal to one of its ends:
which of them it leads to is a guess then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.fastobjects import FastObject, Matte, Point
from cloudconv.images import TINY, transformed, translation, whole
from cloudconv.schedule.detection import FASTEST, Blob

Doubles = NDArray[np.float64]
Numbers = NDArray[np.int64]

_AROUND = 10  # circles across the width: where rivals are counted
_FALSE = 1e-5  # expected false links of a pair of frames
_ALIKE = 1 / 3  # common part of the mattes of both ends
_EQUAL = 0.85  # the same of two mattes in one frame: their links are a guess
_SPREAD = 1.3  # at the better end: more is a part, or overlaps itself
_LOOKS = 7  # independent chances that make up the likeness of two blobs


@dataclass(eq=False, slots=True)
class _Step:
    """Possible links from the blobs of a frame to those of the next one.

    ``gap``: the time between both. ``ends``: (n, 2), the numbers of the blobs in both.
    ``likeness``: the common part of their mattes, NaN if not known yet.
    ``score``: that of the best chain that ends with each link. ``past``: the link before it
    in that chain, -1 for none. ``bends``: to each of the next step: the links in both, and
    a score.
    """

    gap: float
    ends: Numbers
    likeness: Doubles
    score: Doubles
    past: Numbers
    bends: tuple[Numbers, Numbers, Doubles]


def _step(
    first: Sequence[Blob], second: Sequence[Blob], farthest: float, gap: float = 1
) -> _Step:
    """Return the possible links of two frames, at most ``farthest`` pixels long."""
    squares = np.square(_centres(second)[None] - _centres(first)[:, None]).sum(2)
    # An object moves by more than its own size, or its mattes lack what overlaps.
    areas = np.add.outer([p.area for p in first], [q.area for q in second]) / 2
    ends = np.argwhere((squares >= areas) & (squares <= farthest**2))
    likeness = np.full(len(ends), np.nan)
    none = np.zeros(0, int)
    bends = none, none, np.zeros(0)
    return _Step(gap, ends, likeness, *_best(len(ends), *bends), bends)


class Trajectories:
    """The chains of blobs of one scene, whose searched pictures have a ``width``.

    The first frame of a scene has no blobs.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._frames: deque[list[Blob]] = deque([[], []])
        self._steps = deque([_step([], [], 0)])

    def push(self, blobs: list[Blob], gap: float = 1) -> None:
        """Add the blobs of the next frame; ``gap``: the time since the one before."""
        last = self._steps[-1]
        step = _step(self._frames[-1], blobs, self._width / FASTEST, gap)
        self._frames.append(blobs)
        self._steps.append(step)
        links, onward, gains = last.bends = self._bends(last, step)
        values = last.score[links] + gains
        step.score, step.past = _best(len(step.ends), onward, links, values)

    def links(self) -> Iterator[FastObject]:
        """Yield the links of the next pair of frames, in order from the first pair."""
        future = np.zeros(0)
        for later in reversed([*self._steps][1:]):
            links, nexts, gains = later.bends
            future, following = _best(len(later.ends), links, nexts, future[nexts] + gains)
        step = self._steps[1]
        first, second = (self._frames[k] for k in (1, 2))
        weights = np.array([min(first[i].weight, second[j].weight) for i, j in step.ends])
        tests = len(weights) - np.searchsorted(np.sort(weights), weights)
        scores = step.score + future - np.log(tests / _FALSE)
        taken: set[Blob] = set()
        for link in np.argsort(-scores, kind="stable")[: (scores > 0).sum()]:
            i, j = step.ends[link]
            before = self._beside(0, 0, step.past[link])
            after = self._beside(2, 1, following[link])
            ends = first[i], second[j]
            fits = min(blob.spread for blob in ends) < _SPREAD and not (
                taken.intersection(ends) or _has_equal(first, i) or _has_equal(second, j)
            )
            if fits and step.likeness[link] > _ALIKE:
                taken.update(ends)
                row = (before, *ends, after)
                places = [blob.matte.centre for blob in row if blob]
                gaps = [each.gap for each in self._steps]
                beside = getattr(before, "matte", None), getattr(after, "matte", None)
                yield FastObject(
                    ends=(ends[0].matte, ends[1].matte),
                    beside=beside,
                    bend=_bend(places, gaps[before is None :], step.gap),
                )
        self._frames.popleft()
        self._steps.popleft()

    def _beside(self, step: int, end: int, link: int) -> Blob | None:
        """Return the blob at an end of a link in a step; None for no link, which is -1."""
        if link < 0:
            return None
        return self._frames[step + end][int(self._steps[step].ends[link, end])]

    def _bends(self, last: _Step, step: _Step) -> tuple[Numbers, Numbers, Doubles]:
        """Return the pairs of links that meet in a blob, and the score of each."""
        one, two = np.nonzero(last.ends[:, 1][:, None] == step.ends[:, 0])
        # What bounces or is hit begins a chain where another one, which is sure, ends: it
        # needs a third less.
        sure = -np.log(_FALSE)
        gains = np.where(last.score[one] > sure, sure / 3 - last.score[one], -np.inf)
        blobs = last.ends[one, 0], last.ends[one, 1], step.ends[two, 1]
        frames = [self._frames[k] for k in (-3, -2, -1)]
        p, q, r = (_centres(f)[i] for f, i in zip(frames, blobs, strict=True))
        turn = (r - q) / step.gap - (q - p) / last.gap
        bend = np.maximum(((turn * (last.gap + step.gap) / 2) ** 2).sum(1), 1)
        length = ((r - p) ** 2).sum(1) / 4 + TINY
        path = np.maximum(self._density(frames[2])[blobs[2]] * bend, bend / length)
        fit = np.flatnonzero(path < 1 / 2)
        path = path[fit]
        _compare(last, one[fit], *frames[:2])
        _compare(step, two[fit], *frames[1:])
        # The likeness of the least alike counts, and at most as much as the path.
        alike = np.minimum(last.likeness[one[fit]], step.likeness[two[fit]])
        chance = path * np.maximum((1 - alike) ** _LOOKS, path)
        # That of two independent chances (Fisher, 1932).
        gains[fit] = -np.log(chance - chance * np.log(chance)) - 1
        return one, two, gains

    def _density(self, blobs: list[Blob]) -> Doubles:
        """Return the density of blobs of at least the weight of each, around each."""
        places = _centres(blobs)
        weights = np.array([blob.weight for blob in blobs])
        apart = np.hypot(*(places[None] - places[:, None]).transpose(2, 0, 1))
        around = self._width / _AROUND
        rivals = (apart < around) & (weights[None] >= weights[:, None])
        return rivals.sum(1) / around**2  # type: ignore[no-any-return]


def _has_equal(blobs: Sequence[Blob], number: int) -> bool:
    """Return whether a frame shows another blob that one may be taken for."""
    matte = blobs[number].matte
    return any(_common(matte, x.matte) > _EQUAL for x in blobs if x.matte is not matte)


def _compare(
    step: _Step, links: Numbers, first: Sequence[Blob], second: Sequence[Blob]
) -> None:
    """Set the likeness of some links, where it is not known yet."""
    for link in np.unique(links[np.isnan(step.likeness[links])]):
        i, j = step.ends[link]
        step.likeness[link] = _common(first[i].matte, second[j].matte)


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


def _bend(places: Sequence[Point], gaps: Sequence[float], unit: float) -> Point:
    """Return the second difference of places for equal times, of a ``unit``.

    ``gaps``: the times between the places, or more.
    """
    times = np.array(gaps[: len(places) - 1])[:, None]
    turns = np.diff(np.diff(places, axis=0) / times, axis=0)
    bends = unit**2 * turns / ((times[:-1] + times[1:]) / 2)
    weights = 1 / (1 + np.square(bends).sum(1))
    x, y = (weights @ bends / weights.sum()).tolist()
    return x, y


def _centres(blobs: Sequence[Blob]) -> Doubles:
    return np.array([blob.centre for blob in blobs]).reshape(-1, 2)


def _common(p: Matte, q: Matte) -> float:
    """Return the common part of two mattes with their centres together, of their union.

    Shape and colours count.
    """
    one, other = (np.dstack((m.colours.clip(0, 1), m.alpha)) for m in (p, q))
    shift = np.subtract(p.centre, p.corner) - np.subtract(q.centre, q.corner)
    size = whole(p.alpha.shape)
    put = transformed(other, translation(shift), size, outside=cv2.BORDER_CONSTANT)
    common = np.minimum(one, put).sum()
    return float(common / (one.sum() + other.sum() - common))
