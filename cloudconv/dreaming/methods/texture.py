"""Mode ``texture``: play the clip forwards for ever, and jump back where the jump is seen least.

The dream consists of shots: the last real frame, and then the clip again and again. Each shot
begins at a frame that looks like the frame shown before. An interpolation network makes the
pictures between the two, so things move to their new place and do not dissolve.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.images import (
    COARSE_SIDE,
    LONGEST_SIDE,
    Bytes,
    Floats,
    reduced,
    small_copy,
)
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.street import Street, goes_on
from cloudconv.dreaming.vitals.features import QUANTILE
from cloudconv.models import registry
from cloudconv.models.pair import Pair
from cloudconv.settings.values import SCALES

_MODEL = "cloud-best"  # the network that makes the pictures of a jump
_PART = 1 / 3  # shortest period, and longest jump, as a part of the clip
_LONGEST = 6.0  # greatest duration of a jump, in seconds
_LONG = 1.0  # duration of an entry from which on rain moves, in seconds: a sheep would be torn
_PASSES = 0.07  # longest time in which rain passes a point, in seconds
_PARTLY = 0.8  # part of a jump's change that the clip itself makes in the same time
_EDGE = 0.1  # part of a jump, at its begin and at its end, in which the shot itself fades
_VARIES = 0.1  # part of the cost of a period that depends on the seed


def texture(material: Material, options: Options) -> Iterator[Tensor]:
    """Yield the clip's frames forwards, again and again; things go on as wholes where they can."""
    if goes_on(material, options):
        yield from Street(material, options.seed).pictures(options.frames)
        return
    clip = _Clip(material, options)
    shots = clip.shots(options)
    before = now = next(shots)
    coming = next(shots, None)
    for time in range(1, options.frames + 1):
        while coming is not None and time >= coming.begins:
            before, now, coming = now, coming, next(shots, None)
        yield clip.joined(before, now, time)


@dataclass(frozen=True, slots=True)
class _Shot:
    """Pictures by the time of the dream, at which the last real frame has the time 0.

    ``picture``: returns the picture of a time, (3, H, W). ``begins``: the first time at which the
    shot is seen. ``lasts``: the number of frames between the shot before and this one.
    ``passing``: returns the fast motion that is added to the pictures between the two, or None.
    """

    picture: Callable[[int], Tensor]
    begins: int = 1
    lasts: int = 0
    passing: Callable[[int], Tensor] | None = None


class _Clip:
    """The frames of a clip, and how they follow each other."""

    def __init__(self, material: Material, options: Options) -> None:
        self._material = material
        self._random = np.random.default_rng(options.seed)
        self._network = registry.load(_MODEL, material.device, options.dtype)
        scales = [s for s in SCALES if s <= 1 and s * max(material.size) <= LONGEST_SIDE]
        self._scale = max(scales, default=min(SCALES))
        self._count = len(material)
        self._smalls = torch.stack([_compared(material.glance(k)) for k in range(self._count)])
        self._apart = self._unlike(self._smalls)
        lags = range(self._count)
        # A large change of the clip within each number of frames.
        changes = [np.quantile(self._apart.diagonal(lag), QUANTILE) for lag in lags]
        self._changes = np.maximum.accumulate(changes)
        self._most = round(_LONGEST / float(material.step))
        # Frame ``_end - _period`` looks like frame ``_end``, and is shown in its place.
        self._period, self._end = self._chosen_period()

    def _unlike(self, smalls: Tensor) -> Floats:
        """Return the root mean square differences of (n, values) from each frame, in levels."""
        # The usual form, a product of matrices, loses small differences of large values.
        apart = torch.cdist(smalls, self._smalls, compute_mode="donot_use_mm_for_euclid_dist")
        apart /= self._smalls.shape[1] ** 0.5
        made: Floats = apart.numpy()
        return made

    def _chosen_period(self) -> tuple[int, int]:
        best, found = np.inf, (self._count, self._count)
        shortest = max(1, round(_PART * self._count))
        for period in range(shortest, self._count - shortest):
            # Two consecutive frames tell a motion from its reverse.
            costs = np.convolve(self._apart.diagonal(period), (0.5, 0.5), "valid")
            ends = period + np.arange(len(costs))
            costs = costs[ends + self._lasting(costs, _PART) <= self._count]
            cost = float(costs.min(initial=np.inf)) * (1 + _VARIES * self._random.random())
            if cost < best:
                best, found = cost, (period, period + int(costs.argmin()))
        return found

    def shots(self, options: Options) -> Iterator[_Shot]:
        frames, loop_to, longest = options.frames, options.loop_to, round(_PART * self._count)
        # A loop leads to the frame before ``home``; a dream that follows no frame begins there.
        home, stop = self._end - self._period // 2, frames
        if loop_to is not None:
            small = small_copy(loop_to, self._material.small_size)
            unlike = self._unlike(_compared(small)[None])[0]
            home = longest + int(unlike[longest:].argmin())
            stop -= min(int(self._lasting(unlike[home])), frames // 2)
        start, lasts, back = home - 1, 0, home - 1 - stop
        if options.loop and loop_to is None:
            yield _Shot(self._from(start))
        else:
            start, lasts = self._entry()
            is_short = options.loop and lasts + longest > stop
            if is_short:  # no time for a jump to the end of the loop
                start, lasts = back, min(lasts, stop)
            yield from self._entering(start, lasts)
        ready = 1 + lasts
        while not options.loop or self._end - start + longest < stop - home // 2:
            begins = self._end - start
            if begins > frames:
                return
            yield self._jump(start, start - self._period, begins)
            start -= self._period
            ready = begins + longest
        if start != back:
            first = max(1, min(max(ready, 1 - back), stop))
            times = range(first, max(stop - longest, first) + 1)
            begins = min(times, key=lambda time: self._unlike_at(start + time, back + time))
            jump = self._jump(start, back, begins)
            yield replace(jump, lasts=min(jump.lasts, stop - begins + 1))
        if loop_to is not None:
            yield _Shot(lambda _: loop_to, stop + 1, frames - stop)

    def _entering(self, start: int, lasts: int) -> Iterator[_Shot]:
        """Yield the last real frame, and the clip, whose frame ``start`` has the time 0.

        Between two pictures that stand still, things move evenly. But rain must not stand still
        for long, so in a long entry the rain of the clip passes in front of both pictures.
        """
        last, clip, entered = self._material.picture(-1), self._from(start), 1 + lasts
        step = float(self._material.step)
        is_long, beside = lasts * step >= _LONG, max(1, round(_PASSES / step))

        def split(number: int) -> tuple[Tensor, Tensor]:
            """Return what moves slowly and what moves fast in a frame; their sum is the frame."""
            numbers = [self._inside(number + away) for away in (-beside, 0, beside)]
            one, two, three = (self._material.shown(k) for k in numbers)
            # The median, in a seventh of the time of torch's own.
            slow = three.clamp(torch.minimum(one, two), torch.maximum(one, two))
            return slow, two - slow

        before, after = last, clip(entered)
        if is_long:
            before, after = split(self._count - 1 - beside)[0], split(start + entered)[0]
        yield _Shot(lambda time: torch.lerp(last, before, min(time / (2 * beside), 1.0)))
        yield _Shot(
            lambda time: after if time < entered else clip(time),
            lasts=lasts,
            passing=(lambda time: split(start + time)[1]) if is_long else None,
        )

    def joined(self, before: _Shot, now: _Shot, time: int) -> Tensor:
        """Return the picture of a time, between two shots if the later one has just begun."""
        part = (time - now.begins + 1) / (now.lasts + 1)
        if part >= 1:
            return now.picture(time)
        pictures = [shot.picture(time)[None] for shot in (before, now)]
        made = self._network.between(Pair.of(pictures, part, None, self._scale))[0]
        # The network's picture is softer than both, and a sudden end of this would be seen.
        made = torch.lerp(pictures[round(part)][0], made, min(part, 1 - part, _EDGE) / _EDGE)
        return made if now.passing is None else made + now.passing(time)

    def _from(self, start: int) -> Callable[[int], Tensor]:
        """Return a function of a time that returns the frame ``start + time``: (3, H, W)."""
        return lambda time: self._material.shown(self._inside(start + time))

    def _inside(self, number: int) -> int:
        return min(max(number, 0), self._count - 1)

    def _jump(self, start: int, back: int, begins: int) -> _Shot:
        """Return the shot that shows frame ``back + time`` after frame ``start + time``."""
        lasts = self._lasting(self._unlike_at(start + begins, back + begins), _PART)
        return _Shot(self._from(back), begins, int(lasts))

    def _unlike_at(self, one: int, other: int) -> float:
        return float(self._apart[self._inside(one), self._inside(other)])

    def _lasting(self, unlike: Any, part: float = np.inf) -> Any:
        """Return the frames in which the clip itself changes nearly as much.

        ``part``: the result as a part of the clip, at most.
        """
        frames = np.searchsorted(self._changes, _PARTLY * unlike)
        return np.minimum(frames, min(self._most, part * self._count)).astype(int)

    def _entry(self) -> tuple[int, int]:
        """Return the frame of the clip at time 0, and the frames between last frame and clip."""
        last = self._apart[-2:, : self._end]
        costs = last[-1].copy()
        costs[1:] = (costs[1:] + last[0, :-1]) / 2
        # The next jump should not follow soon, unless nobody sees the jump.
        soon = 1 - (self._end - np.arange(len(costs))) / self._period
        costs += soon.clip(0) * self._unlike_at(self._end, self._end - self._period)
        start = int(costs.argmin())
        lasts = int(self._lasting(last[-1, start]))
        return min(start, self._end - 1 - lasts), lasts


def _compared(picture: Bytes) -> Tensor:
    small = reduced(cv2.GaussianBlur(picture, (0, 0), 1), COARSE_SIDE)
    return torch.from_numpy(small.astype(np.float32).ravel())
