"""Find repeated frames in the context of a predictor, and continue their pattern.

24 fps film in a 30 fps file shows every fourth frame twice. Animation often shows every frame
twice. With repeats a predictor measures too slow a motion. A predictor also never predicts
a repeat. Jobs that read files remove repeats first. This module serves predictors
that get a few frames directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import ceil

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_BLOCK = 8  # pixels; the mean over a block removes most of a codec's noise
_MOST_MOVING = 0.01  # fraction of blocks to measure, from the block with the largest change on
_DEEP, _SHALLOW, _EDGE = 0.4, 0.6, 0.2
"""The largest change of a repeat relative to the changes before and after: for a single repeat, for
regular repeats, and for a single repeat at either end."""
_JUMP = 1.7  # a change at least this many times the median change is a motion of two steps
_USUAL = 5
"""The assumed distance of repeats, in frames, after a single repeat: 24 fps film at 30 fps."""


@dataclass(frozen=True, slots=True)
class Content:
    """The frames of a context without repeats.

    A step of content is the motion from one different frame to the next. ``frames``: (N, 3, H, W),
    the latest first; copies of the oldest frame replace missing frames. ``ages``: for each of
    ``frames``, the steps of content from that frame to the latest. ``pattern``: for each frame of
    the context but the first, in order of time, the steps of content since the frame before. This
    number is 0 for a repeat, and 2 where a converter dropped a frame.
    """

    frames: Tensor
    ages: tuple[int, ...]
    pattern: tuple[int, ...]


def content(frames: Tensor, count: int) -> Content:
    """Return the last ``count`` different frames of ``frames``, the latest first.

    ``frames``: (T, 3, H, W), the oldest first. Exact copies at the beginning replace missing frames
    and are ignored.
    """
    first = 0
    while first + 1 < len(frames) and torch.equal(frames[first], frames[first + 1]):
        first += 1
    frames = frames[first:]
    pattern = steps(*changes(frames))
    last = len(frames) - 1
    # Take the last copy of a repeated frame: the codec improves each copy.
    shown = [k for k in range(last, -1, -1) if k == last or pattern[k]][:count]
    shown += [shown[-1]] * (count - len(shown))
    different = torch.stack([frames[k] for k in shown])
    return Content(different, tuple(sum(pattern[k:]) for k in shown), pattern)


def changes(frames: Tensor) -> tuple[list[float], list[float]]:
    """Return the changes from frame to frame of ``frames``, (T, 3, H, W): two lists of T - 1.

    A change is a mean over blocks: in the first list over the 1 % of blocks that change most, in
    the second list over all blocks.
    """
    grey = frames.detach().float().mean(1, keepdim=True)
    blocks = F.avg_pool2d(grey, min(_BLOCK, *grey.shape[2:]), ceil_mode=True).flatten(1)
    differences = (blocks[1:] - blocks[:-1]).abs().sort(1, descending=True).values
    most = max(1, ceil(_MOST_MOVING * differences.shape[1]))
    largest, overall = torch.stack([differences[:, :most].mean(1), differences.mean(1)]).tolist()
    return largest, overall


def steps(changed: Sequence[float], overall: Sequence[float]) -> tuple[int, ...]:
    """Return the steps of content of each change: see :class:`Content`.

    Converters that drop and repeat frames leave a repeat and a jump of two steps in each cycle.

    Args:
        changed: the changes of the blocks that change most; these changes show repeats.
        overall: the changes of the whole picture; these changes show jumps.
    """
    still = repeats(changed)
    moving = sorted(c for c, repeated in zip(overall, still, strict=True) if not repeated)
    far = _JUMP * moving[(len(moving) - 1) // 2] if moving else 0.0
    jumps = [not repeated and c > far for c, repeated in zip(overall, still, strict=True)]
    is_converted = sum(still) == sum(jumps) == 1
    return tuple(
        0 if repeated else 1 + (is_converted and jump)
        for repeated, jump in zip(still, jumps, strict=True)
    )


def repeats(changed: Sequence[float]) -> tuple[bool, ...]:
    """Return which changes from frame to frame belong to repeats.

    A repeat changes far less than the frames before and after. This difference must be clear for a
    single repeat, and may be smaller for several repeats at equal distances. Animation on threes
    repeats each frame twice. Such runs of repeats must also differ clearly, with motion between the
    runs. A picture that comes to rest or begins to move has no repeats.
    """
    runs = _runs(changed)
    if runs is not None:
        return runs
    numbers = range(len(changed))
    # Next to a jump a usual change looks small, so compare with the second-largest change.
    lively = _SHALLOW * sorted(changed)[-2:][0] if changed else 0.0
    several = tuple(_is_dip(changed, k, _SHALLOW) and changed[k] < lively for k in numbers)
    if not changed or _period(several) is not None:
        return several
    usual = sorted(changed)[len(changed) // 2]
    depths = [_DEEP if 0 < k < numbers[-1] else _EDGE for k in numbers]
    alone = tuple(
        _is_dip(changed, k, depth) and changed[k] < depth * usual
        for k, depth in zip(numbers, depths, strict=True)
    )
    return alone if sum(alone) == 1 or _period(alone) is not None else (False,) * len(changed)


def steps_of_content(pattern: Sequence[int], frames: int) -> int:
    """Return the steps of content in the next ``frames`` frames after a pattern of steps."""
    numbers = [k for k, step in enumerate(pattern) if step == 0]
    if not numbers or max(pattern) > 1:
        return frames
    ahead = range(len(pattern), len(pattern) + frames)
    if len(numbers) == 1:
        return sum((k - numbers[0]) % _USUAL != 0 for k in ahead)
    # Continue the pattern with the period for which the end of the pattern agrees longest.
    period = max(range(2, len(pattern)), key=lambda distance: _agreement(pattern, distance))
    continued = list(pattern)
    for _ in ahead:
        continued.append(continued[-period])
    return sum(continued[len(pattern) :])


def _runs(changed: Sequence[float]) -> tuple[bool, ...] | None:
    """Return which changes belong to repeats; None unless some repeats are adjacent.

    The changes of these repeats are far smaller than all other changes.
    """
    least = _EDGE * sorted(changed)[-2] if len(changed) > 1 else 0.0
    still = tuple(change < least for change in changed)
    unclear = any(least <= change < _SHALLOW * least / _EDGE for change in changed)
    starts = [k for k, repeated in enumerate(still) if repeated and (k == 0 or not still[k - 1])]
    return None if unclear or len(starts) < 2 or sum(still) == len(starts) else still


def _agreement(pattern: Sequence[int], distance: int) -> int:
    """Count the last steps in a row that each equal the step ``distance`` earlier."""
    pairs = zip(reversed(pattern[distance:]), reversed(pattern[:-distance]), strict=True)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_dip(changed: Sequence[float], number: int, depth: float) -> bool:
    """Return whether a change is smaller than ``depth`` times each neighbour."""
    beside = [changed[k] for k in (number - 1, number + 1) if 0 <= k < len(changed)]
    return bool(beside) and changed[number] < depth * min(beside)


def _period(pattern: Sequence[bool]) -> int | None:
    """Return the distance of repeats; None if the distances differ or there is none."""
    numbers = [k for k, repeated in enumerate(pattern) if repeated]
    distances = {b - a for a, b in pairwise(numbers)}
    return distances.pop() if len(distances) == 1 else None
