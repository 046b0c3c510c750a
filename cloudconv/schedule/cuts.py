"""Detect cuts, flashes and repeated frames in a stream of frames.

**Cuts.** Small movements can align two pictures of one scene, but not two pictures of
different scenes. The pictures are compared by structure (luma less its local mean, over its
local contrast), so that flashes, fades, flicker and darkness have little effect. Each block
of one picture is matched with the other picture at two places: around its own position, and
around the position after the motion of the whole picture (phase correlation, Kuglin and
Hines 1975). The *unlikeness* is the remaining difference, divided by that to the *mirrored*
other picture, which is an unrelated picture of the same detail and light. For symmetric
pictures the other picture upside down counts, too. The unlikeness is near 0 within a scene,
and near 1 across any cut.

At a cut every frame shortly before differs from every frame shortly after. At a flash, by
contrast, the frames before and after are alike. The difference across a cut also exceeds
the differences inside the two scenes, unlike in fire, strobe light and fades. Both values
enter a logistic score, which was fitted to joined clips and to real and generated footage
without cuts. In addition, a lasting change of brightness that is much larger than all
others nearby is a cut: flat and repeating pictures have no structure to compare.

**Repeats.** A repeated frame in a compressed file is not identical to the one before. Its
difference is far smaller than those of both neighbours.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.images import shift_between, translate
from cloudconv.media.colour.light import change_of_light, in_light_of, unmatched
from cloudconv.schedule.cadence import Change

_HEIGHT, _WIDTH = 36, 64
_BEFORE = 4  # compared frames before a cut; one more than the longest flash
_AFTER = 4  # compared frames from the cut on
_MEMORY = 6  # frames before a cut that give the usual change
_NEIGHBOURHOOD = 9  # side of the area for local mean and local contrast
_FLAT = 2 / 255  # contrast of luma in [0, 1] below which an area counts as flat

# The fitted score: logit = unlikeness weight * unlikeness + change weight * log(change) +
# offset.
_UNLIKENESS_WEIGHT = 26.0
_CHANGE_WEIGHT = 4.8
_OFFSET = -24.0
# The highest unlikeness that counts. Black is completely unlike the last frame of a fade to
# black, but must not count for more than another scene.
_MOST_UNLIKE = 0.9
_MOST_CHANGE = 2.0
# A change this large and sudden is a cut if no small movement explains the change.
# Structure does not count here: flat or repeating pictures have none. No false cut was
# found in 14,883 frames.
_PLAIN_CHANGE = 0.05
_PLAIN_RATIO = 3.0
# In a few frames a change this large may be a cut, and is taken for one if the change is
# above this multiple of the median change.
_LEAST_SUSPECTED = 0.03
_SUSPECTED_RATIO = 5.0
# A flash changes the picture by more than _FLASH_RATIO times the usual changes, and the
# change that lasts is smaller by more than the same factor. The usual changes are those
# between _KNOWN to _BEFORE frames: two frames do not show a flicker.
_FLASH_RATIO = 2.0
_KNOWN = 3
_CHANGE_FLOOR = 0.5 / 255  # luma in [0, 1]; noise on stills stays below it
_AUTO_THRESHOLD = 0.5


class Thumbnail:
    """A thumbnail with values for comparisons, which are computed on first use.

    ``luma``: (36, 64), [0, 1]. ``detail``: (1, 1, 36, 64). ``structure``: (36, 64), zero
    mean, about unit variance where there is detail.
    """

    def __init__(self, luma: Tensor) -> None:
        self.luma = luma

    @cached_property
    def detail(self) -> Tensor:
        """Return the luma less its local mean."""
        values = self.luma[None, None]
        return values - _local_mean(values)

    @cached_property
    def structure(self) -> Tensor:
        """Return the detail over its local contrast."""
        contrast = _local_mean(self.detail.square()).sqrt()
        return (self.detail / (contrast + _FLAT))[0, 0]


LOOKS_BACK = _BEFORE + _MEMORY
"""The frames before a frame on which the decisions about that frame depend."""


class _Detector(ABC):
    """A detector that decides for each frame, and looks at a few frames after the frame."""

    lookahead = _AFTER - 1

    def __init__(self) -> None:
        self._thumbnails: deque[Thumbnail] = deque(maxlen=_BEFORE + _AFTER)
        self._waiting = 0

    def push(self, thumbnail: Tensor) -> list[bool]:
        """Add the next frame's luma, (36, 64) in [0, 1].

        Return the decision that is now possible. The last ``lookahead`` decisions come from
        :meth:`finish`.
        """
        self._thumbnails.append(Thumbnail(thumbnail.detach().to("cpu", torch.float32)))
        self._waiting += 1
        return [self._next()] if self._waiting > self.lookahead else []

    def finish(self) -> list[bool]:
        """Return the decisions on the last frames, which have fewer frames after them."""
        return [self._next() for _ in range(self._waiting)]

    def _next(self) -> bool:
        thumbnails = list(self._thumbnails)
        before = thumbnails[: -self._waiting][-_BEFORE:]
        after = thumbnails[-self._waiting :]
        decision = bool(before) and self._begins(before, after)
        self._waiting -= 1
        return decision

    @abstractmethod
    def _begins(self, before: Sequence[Thumbnail], after: Sequence[Thumbnail]) -> bool:
        """Return the decision on the first frame of ``after``; there are frames before."""


class CutDetector(_Detector):
    """A detector that decides for each frame whether the frame begins a new scene.

    The first frame is never a cut. ``threshold`` is the lowest score that counts as a cut,
    from 0 (a cut at every frame) to 1 (never a cut); a word stands for the usual one.
    """

    THUMBNAIL = (_HEIGHT, _WIDTH)

    def __init__(self, threshold: float | str | None = None) -> None:
        super().__init__()
        if threshold is None or isinstance(threshold, str):
            threshold = _AUTO_THRESHOLD
        self._threshold = threshold
        # The change of luma of each frame from those before, and their number.
        self._changes: deque[tuple[float, int]] = deque(maxlen=_MEMORY + _AFTER)

    def push(self, thumbnail: Tensor) -> list[bool]:
        """Add the next frame's luma, (36, 64) in [0, 1]; return a decision that is due."""
        luma = thumbnail.detach().to("cpu", torch.float32)
        recent = list(self._thumbnails)[-_BEFORE:]
        # Take the difference to the most similar of the last frames, so that a flash counts
        # once.
        change = min((_difference(a.luma, luma) for a in recent), default=0.0)
        self._changes.append((change, len(recent)))
        return super().push(luma)

    def _begins(self, before: Sequence[Thumbnail], after: Sequence[Thumbnail]) -> bool:
        waiting = len(after)
        change = min(
            [
                self._changes[-waiting][0],
                *(_difference(before[-1].luma, b.luma) for b in after[1:]),
            ]
        )
        changes = list(self._changes)  # the largest around this frame first
        earlier = changes[:-waiting][-_MEMORY:]
        # The changes of a clip's first frames are too large: few frames are before them.
        known = [each for each in earlier if each[1] == _BEFORE]
        earlier = known if len(known) >= _KNOWN else earlier
        later = changes[len(changes) - waiting + 1 :]
        nearby = sorted((each for each, _ in earlier + later), reverse=True)
        # Take the second largest change. A single flash or cut nearby does not raise this
        # value, and some repeated frames do not lower it.
        usual = nearby[:2][-1]
        least = max(_PLAIN_CHANGE, _PLAIN_RATIO * nearby[0])
        if (
            change > least
            and unmatched([before[-1].luma], after[0].luma).mean() > least
            and change_of_light(before[-1].luma, after[0].luma) is None
        ):
            return _score(_MOST_UNLIKE, _MOST_CHANGE) >= self._threshold
        ratio = math.log((change + _CHANGE_FLOOR) / (usual + _CHANGE_FLOOR))
        # Most frames are decided at once or after one comparison; few need all seven.
        unlike = _MOST_UNLIKE
        for a, b in [(before[-1], b) for b in after] + [(a, after[0]) for a in before[:-1]]:
            if _score(unlike, ratio) < self._threshold:
                return False
            unlike = min(unlike, unlikeness(a, b))
        return _score(unlike, ratio) >= self._threshold


def resembles_cut(thumbnails: Sequence[Tensor]) -> bool:
    """Return whether there may be a cut in a few frames, by their luma, (36, 64) each.

    Flashes and jolts, which training does not need either, count as cuts here.
    """
    changes = [_difference(a, b) for a, b in pairwise(thumbnails)]
    largest = max(changes, default=0.0)
    if largest < _LEAST_SUSPECTED:
        return False
    if largest > _SUSPECTED_RATIO * sorted(changes)[(len(changes) - 1) // 2]:
        return True
    return any(cuts_in(thumbnails, None))


def cuts_in(thumbnails: Sequence[Tensor], threshold: float | str | None) -> list[bool]:
    """Return for each frame whether it begins another scene."""
    detector = CutDetector(threshold)
    return [*chain.from_iterable(map(detector.push, thumbnails)), *detector.finish()]


class FlashDetector(_Detector):
    """A detector that decides for each frame whether it begins a flash.

    A flash is a sudden change that is soon taken back: no motion leads to it. The picture
    changes by much more than in the frames before, and one of the next three frames is like
    the picture before. A light that flickers all the time is no flash.
    """

    def _begins(self, before: Sequence[Thumbnail], after: Sequence[Thumbnail]) -> bool:
        first, *later = after
        if len(before) < _KNOWN or not later:
            return False
        last = before[-1].luma
        change = _difference(last, first.luma)
        usual = max(_difference(a.luma, b.luma) for a, b in pairwise(before))
        if change <= max(_PLAIN_CHANGE, _FLASH_RATIO * usual):
            return False
        return min(_difference(last, b.luma) for b in later) < change / _FLASH_RATIO


def _score(unlikeness: float, change: float) -> float:
    """Return the score of a cut, in (0, 1), similar to a probability.

    ``change`` is a logarithm.
    """
    logit = (
        _UNLIKENESS_WEIGHT * unlikeness
        + _CHANGE_WEIGHT * max(-_MOST_CHANGE, min(change, _MOST_CHANGE))
        + _OFFSET
    )
    return 1 / (1 + math.exp(-logit))


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().mean())


def _local_mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(
        F.pad(values, (_NEIGHBOURHOOD // 2,) * 4, mode="replicate"), _NEIGHBOURHOOD, 1
    )


def unlikeness(a: Thumbnail, b: Thumbnail) -> float:
    """Return the share of ``b`` that ``a`` lacks: 0 (none) to about 1 (another scene)."""
    one, two = (thumbnail.structure.numpy() for thumbnail in (a, b))
    moved = torch.from_numpy(translate(one, np.rint(shift_between(one, two))))
    mirrored = a.structure.flip(1)
    best = unmatched([a.structure, moved, mirrored, a.structure.flip(0)], b.structure)
    rest = torch.minimum(best[0], best[1]).mean()
    chance, inverted = best[2:].mean((1, 2))
    # The mirror image of a symmetric picture, such as a figure in the middle of a flat
    # background, is no unrelated picture. The picture upside down therefore counts, too, by
    # half: in footage it differs about as much as the mirror image.
    return float(rest / (torch.maximum(chance, inverted / 2) + 1e-6))


# A repeat's measures, relative to those of motion.
_REPEAT_RATIOS = torch.tensor([0.3, 0.7, 0.7, 0.8])
_CELLS = 4  # the side of a block in cells
_MOST_MOVING = 0.01  # fraction of blocks that is measured: the motion may be in a corner
_USUAL = 0.85  # quantile of blocks: a subtitle or a counter is smaller than the others
_LIGHT = 1 / 8  # least mean change, as a part of the change that is measured, of light


class RepeatDetector:
    """A detector that decides for each frame whether it repeats the one before.

    A frame is compared with the last one that was no repeat; its measures are the change of
    the mean luma of the 1 % of blocks that changed most, the least of the 15 % that did,
    and the mean of the changes inside of blocks, again of 1 %, and of the one that changed
    most. So the differences of a slow motion add up, and those of a codec do not, while a
    thing that moves within a block, or one alone, is seen. A frame is a repeat if all
    measures are much smaller than those of the change that led to that frame, and of one of
    the next five changes; or if they are 0. So neither a motion that ends softly nor slow
    and quiet footage has repeats, nor one in which a subtitle or a counter changes. Light
    is no motion: these changes are those of pictures in one light, and a flash of one frame
    does not count.
    """

    lookahead = 5

    def __init__(self) -> None:
        self._latest: deque[Tensor] = deque(maxlen=2)
        # Cells, and the changes from the frame before and from that before it, (2, 4).
        self._waiting: deque[tuple[Tensor, Tensor]] = deque()
        self._distinct = torch.empty(0)
        # The change that led to the last frame that was no repeat.
        self._led = torch.zeros(len(_REPEAT_RATIOS))

    def push(self, cells: Tensor) -> list[tuple[bool, Change]]:
        """Add the next frame; return the decision that is now possible, and the change.

        ``cells`` are the means of its luma in cells of 2x2 samples
        (:func:`~cloudconv.media.colour.color.cell_means`), or those of green, which
        replaces luma in gbr formats. The last decisions come from :meth:`finish`.
        """
        known = [
            _change_in_one_light(one, cells)
            for one in self._latest
            if one.shape == cells.shape
        ]
        unknown = [cells.new_full((len(_REPEAT_RATIOS),), x) for x in (0.0, math.inf)]
        self._latest.appendleft(cells)
        # A device is waited for once.
        self._waiting.append((cells, torch.stack([*known, *unknown[len(known) :]]).cpu()))
        return [self._next()] if len(self._waiting) > self.lookahead else []

    def finish(self) -> list[tuple[bool, Change]]:
        """Return the decisions on the last frames, which have fewer frames after them."""
        return [self._next() for _ in range(len(self._waiting))]

    def _next(self) -> tuple[bool, Change]:
        across = [*(changes[1] for _, changes in self._waiting), torch.tensor(math.inf)][1:]
        motions = [
            changes.amin(0).minimum(two)
            for (_, changes), two in zip(self._waiting, across, strict=True)
        ]
        cells, changes = self._waiting.popleft()
        level = self._led.minimum(torch.stack(motions[1:] or [self._led]).amax(0))
        repeats = self._distinct.shape == cells.shape and bool(
            (_change(self._distinct, cells).cpu() <= _REPEAT_RATIOS * level).all()
        )
        if not repeats:
            self._distinct = cells
            self._led = motions[0]
        return repeats, Change(*changes[:, 0].tolist())


def _change(first: Tensor, other: Tensor) -> Tensor:
    """Return the changes of the blocks that change most, of a usual one, and inside, (4,).

    ``first``, ``other``: the means of cells, (rows, columns).
    """
    apart = other - first
    changed = _blocks(apart).abs_()
    inside = _blocks(apart.abs_())
    count = max(1, math.ceil(_MOST_MOVING * changed.numel()))
    some = changed[::4]
    usual = some.kthvalue(math.ceil(_USUAL * len(some))).values
    most = (each.topk(count).values.mean() for each in (changed, inside))
    return torch.stack((next(most), usual, next(most), inside.max()))


def _blocks(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells[None], _CELLS, ceil_mode=True).flatten()


def _change_in_one_light(first: Tensor, other: Tensor) -> Tensor:
    change = _change(first, other)
    is_light = (other.mean() - first.mean()).abs() > _LIGHT * change[0]
    # On a CPU most frames end here, without the medians.
    if change.device.type == "cpu" and not is_light:
        return change
    lit = _change(in_light_of(first, other), other)
    return torch.where(is_light, change.minimum(lit), change)
