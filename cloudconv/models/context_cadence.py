"""Repeated frames in a predictor's context: content that moves on, and how it will go on.

24 fps film in a 30 fps file shows every fourth frame twice, animation every frame. A forecaster
that takes the copies for stillness measures a motion that is too slow, and misses that the frame
to come is a copy, too. The jobs that read files take repeats out before a predictor sees them;
this is for the few frames that a predictor is given itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import ceil

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BLOCK = 8  # pixels; the mean over a block takes out most of a codec's noise
_MOST_MOVING = 0.01  # share of the blocks that speak for the picture
_DEEP, _SHALLOW, _EDGE = 0.4, 0.6, 0.2
"""How small a change is beside its neighbours': of one repeat alone, of those in rhythm, and of one
alone that has one neighbour only."""
_JUMP = 1.7  # how much larger a change of two steps is than one of one
_USUAL = 5
"""The distance at which repeats come where a single one was seen: 24 fps film in a 30 fps file."""


@dataclass(frozen=True, slots=True)
class Content:
    """What differs among some frames.

    ``frames``: (N, 3, H, W), the latest first, filled up with the oldest. ``ages``: for each, how
    many steps of content it lies before the latest; those that fill up are as old as the oldest.
    ``pattern``: for each frame but the first, in order of time, how many steps of content it lies
    behind the one before: 0 for a repeat, 2 where one was left out to make up for it.
    """

    frames: Tensor
    ages: tuple[int, ...]
    pattern: tuple[int, ...]


def content(frames: Tensor, count: int) -> Content:
    """The latest ``count`` frames that differ, of (T, 3, H, W), oldest first.

    Exact copies at the beginning stand in for frames that there were not, and tell no rhythm.
    """
    first = 0
    while first + 1 < len(frames) and torch.equal(frames[first], frames[first + 1]):
        first += 1
    frames = frames[first:]
    pattern = steps(changes(frames), changes(frames, 1.0))
    last = len(frames) - 1
    # Of a frame and its copies the last, which a codec has had the most bits for.
    shown = [k for k in range(last, -1, -1) if k == last or pattern[k]][:count]
    shown += [shown[-1]] * (count - len(shown))
    return Content(frames[shown], tuple(sum(pattern[k:]) for k in shown), pattern)


def changes(frames: Tensor, share: float = _MOST_MOVING) -> list[float]:
    """How much each of (T, 3, H, W) but the first differs from the one before.

    The mean over that share of the blocks in which it differs most.
    """
    grey = frames.detach().float().mean(1, keepdim=True)
    blocks = F.avg_pool2d(grey, min(_BLOCK, *grey.shape[2:]), ceil_mode=True).flatten(1)
    differences = (blocks[1:] - blocks[:-1]).abs()
    most = max(1, ceil(share * differences.shape[1]))
    values: list[float] = differences.topk(most, 1).values.mean(1).tolist()
    return values


def steps(changed: Sequence[float], overall: Sequence[float]) -> tuple[int, ...]:
    """How many steps of content lie behind each change: see :class:`Content`.

    Converters that drop and repeat frames leave a repeat and a jump of two steps in each cycle.

    Args:
        changed: where most changes, which tells repeats.
        overall: in the whole picture, which grows with the motion and tells jumps.
    """
    still = repeats(changed)
    moving = sorted(c for c, repeated in zip(overall, still, strict=True) if not repeated)
    far = _JUMP * moving[(len(moving) - 1) // 2] if moving else 0.0
    jumps = [not repeated and c > far for c, repeated in zip(overall, still, strict=True)]
    made_up = sum(still) == sum(jumps) == 1
    return tuple(
        0 if repeated else 1 + (made_up and jump)
        for repeated, jump in zip(still, jumps, strict=True)
    )


def repeats(changed: Sequence[float]) -> tuple[bool, ...]:
    """Which of some changes from frame to frame are none, by the rhythm in which they come.

    A repeat is a change far smaller than those before and after it. One alone must stand out
    clearly; several may do so less, if they come at even distances. Animation on threes repeats
    each frame twice: such runs must stand out, with motion between them. A picture that comes to
    rest, or begins to move, has none.
    """
    runs = _runs(changed)
    if runs is not None:
        return runs
    places = range(len(changed))
    # Beside a jump, what is usual looks small.
    lively = _SHALLOW * sorted(changed)[-2:][0] if changed else 0.0
    several = tuple(_is_dip(changed, k, _SHALLOW) and changed[k] < lively for k in places)
    if not changed or _period(several) is not None:
        return several
    usual = sorted(changed)[len(changed) // 2]
    depths = [_DEEP if 0 < k < places[-1] else _EDGE for k in places]
    alone = tuple(
        _is_dip(changed, k, depth) and changed[k] < depth * usual
        for k, depth in zip(places, depths, strict=True)
    )
    return alone if sum(alone) == 1 or _period(alone) is not None else (False,) * len(changed)


def steps_of_content(pattern: Sequence[int], frames: int) -> int:
    """How many steps the content goes in the ``frames`` frames that follow a pattern of steps."""
    places = [k for k, step in enumerate(pattern) if step == 0]
    if not places or max(pattern) > 1:
        return frames
    ahead = range(len(pattern), len(pattern) + frames)
    if len(places) == 1:
        return sum((k - places[0]) % _USUAL != 0 for k in ahead)
    # What came last, at the distance at which it agrees the longest with what came before it.
    period = max(range(2, len(pattern)), key=lambda distance: _agreement(pattern, distance))
    going = list(pattern)
    for _ in ahead:
        going.append(going[-period])
    return sum(going[len(pattern) :])


def _runs(changed: Sequence[float]) -> tuple[bool, ...] | None:
    """Repeats that come in runs, each far smaller than every change that is none."""
    least = _EDGE * sorted(changed)[-2] if len(changed) > 1 else 0.0
    still = tuple(change < least for change in changed)
    unclear = any(least <= change < _SHALLOW * least / _EDGE for change in changed)
    begun = [k for k, repeated in enumerate(still) if repeated and (k == 0 or not still[k - 1])]
    return None if unclear or len(begun) < 2 or sum(still) == len(begun) else still


def _agreement(pattern: Sequence[int], distance: int) -> int:
    """How many of the latest steps are as those that distance before, without a break."""
    pairs = zip(reversed(pattern[distance:]), reversed(pattern[:-distance]), strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_dip(changed: Sequence[float], place: int, depth: float) -> bool:
    """Whether a change is smaller than that part of its neighbours."""
    around = [changed[k] for k in (place - 1, place + 1) if 0 <= k < len(changed)]
    return bool(around) and changed[place] < depth * min(around)


def _period(pattern: Sequence[bool]) -> int | None:
    """The distance at which repeats come; None if it is not always the same."""
    places = [k for k, repeated in enumerate(pattern) if repeated]
    distances = {b - a for a, b in pairwise(places)}
    return distances.pop() if len(distances) == 1 else None
