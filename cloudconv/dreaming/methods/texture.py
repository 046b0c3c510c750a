"""Mode ``texture``: play the clip for ever, and jump back where that is seen least.

The dream consists of shots: the last real frame, and then parts of the clip. Each shot
begins at a frame that looks like the frame shown before. All jumps count that are seen as
little as the best one. The next jump is the one after which the least is shown again, so
that no part of the clip comes again before the others. The last one before the end of a
loop is the one after which the loop closes least visibly. An interpolation network makes
the pictures between the two, so things move to their new place and do not dissolve. But
water and clouds that move in one direction would run back. There both pictures go on moving
instead, and each place changes at its own time.

Sources: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000; Kwatra, Schödl,
Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH 2003, for the change by place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.doubts import doubled
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import mean_flow
from cloudconv.dreaming.methods.base import DreamFrame, Filmed, Jump, Options
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.transition import Front, Points, front_of
from cloudconv.dreaming.vitals.features import QUANTILE
from cloudconv.dreaming.vitals.leftover import NETWORK
from cloudconv.images import (
    COARSE_SIDE,
    LONGEST_SIDE,
    THUMB_SIDE,
    Bytes,
    Floats,
    as_picture,
    lerp,
    picture_from,
    reduced,
    resized_flow,
    small_copy,
    spread,
    tensor_of,
    warp,
    warp_linearly,
    weight_size,
)
from cloudconv.models import registry
from cloudconv.models.pair import Pair
from cloudconv.settings.values import SCALES

_PART = 1 / 3  # shortest period, and longest jump, as a part of the clip
_LONGEST = 6.0  # greatest duration of a jump, in seconds
# Duration of an entry from which on rain moves, in seconds: a sheep would be torn.
_LONG = 1.0
_PASSES = 0.07  # longest time in which rain passes a point, in seconds
# A film has a direction if the mean motion of its places is a part of their speed, and
# enough small pixels a frame, in enough of the picture.
_DIRECTED = 0.3  # part of the speed
_FAINT = 0.05  # small pixels a frame
_WIDE = 0.25  # part of the picture
_SLOW = 1.5  # duration from which on a network makes the change, slowly, in seconds
_BY_PLACE = 0.8  # least duration of a change by place, in seconds
_PARTLY = 0.8  # part of a jump's change that the clip itself makes in the same time
_EDGE = 0.1  # part of a jump, at its begin and at its end, in which the shot itself fades
# Part of its cost, or of the change from frame to frame, by which a jump may be worse than
# the best; and the part of a showing by which the seed counts when jumps are chosen.
_ALIKE = 0.1
_EXITS = 6
_KEPT_BYTES = 1 << 27  # of the pictures of jumps, which may come again


def exits(material: Material, options: Options, most: int) -> list[int]:
    """Return numbers of points before the last one after which the dream may begin.

    They are one of each of six parts of the last ``most`` points: the one that looks most
    like another.
    """
    clip = _Clip(material, options)
    last = len(material) - 1
    unlike = [clip.entries(last - before).min() for before in range(most + 1)]
    parts = [part.tolist() for part in np.array_split(range(1, most + 1), _EXITS)]
    return [min(part, key=unlike.__getitem__) for part in parts if part]


def texture(material: Material, options: Options) -> Iterator[DreamFrame]:
    """Yield the clip's frames forwards, again and again."""
    clip = _Clip(material, options)
    shots = clip.shots(options)
    before = now = next(shots)
    coming = next(shots, None)
    for time in range(1, options.frames + 1):
        while coming is not None and time >= coming.begins:
            before = now
            now = coming
            coming = next(shots, None)
        yield clip.joined(before, now, time)


class _Jump(NamedTuple):
    """Frame ``new`` of the clip looks like frame ``old``, and is shown in its place."""

    old: int
    new: int


@dataclass(frozen=True, slots=True)
class _Shot:
    """Pictures by the time of the dream, at which the last real frame has the time 0.

    ``picture``: returns the picture of a time, (H, W, 3), and ``number`` the real frame of
    a time. ``begins``: the first time at which the shot is seen. ``lasts``: the number of
    frames between the shot before and this one. ``front``: the times at which the places
    change to this shot; None if a network makes the change. ``passing``: returns the fast
    motion that is added to the network's pictures, or None. ``jump``: the frames between
    which the change is, if it may come again. ``is_home``: the shot is the first frame of
    the source, to which a loop leads; it need not be in the material.
    """

    picture: Callable[[int], Floats]
    number: Callable[[int], int]
    begins: int = 1
    lasts: int = 0
    front: Front | None = None
    passing: Callable[[int], Floats] | None = None
    jump: _Jump | None = None
    is_home: bool = False


class _Change(NamedTuple):
    """The number of frames between two shots; see the fields of :class:`_Shot`."""

    lasts: int
    front: Front | None


class _Clip:
    """The frames of a clip, and how they follow each other."""

    def __init__(self, material: Material, options: Options) -> None:
        self._material = material
        self._seed = options.seed
        self._device = options.device
        self._network = registry.shared(NETWORK, options.device, options.dtype)
        scales = [s for s in SCALES if s <= 1 and s * max(material.size) <= LONGEST_SIDE]
        self._scale = max(scales, default=min(SCALES))
        self._count = len(material)
        self._last = options.leaves % self._count  # shown before the dream
        self._smalls = np.stack([_compared(material.glance(k)) for k in range(self._count)])
        self._apart = _distances(self._smalls, self._smalls)
        lags = range(self._count)
        # A large change of the clip within each number of frames.
        changes = [np.quantile(self._apart.diagonal(lag), QUANTILE) for lag in lags]
        self._changes = np.maximum.accumulate(changes)
        self._most = round(_LONGEST / float(material.step))
        wind = material.once(_wind)
        self._own = material.once(_own)
        self._points = Points(resized_flow(wind, self._own.shape))
        by_place = min(_BY_PLACE / float(material.step), _PART * self._count)
        directed = bool(wind.any())
        self._least = round(by_place) * directed
        self._slow = round(_SLOW / float(material.step)) * directed
        # The least number of frames that are shown between two jumps. A change by place
        # takes long, so more is shown as filmed before the next.
        self._stretch = max(1, round(_PART * self._count)) + self._least // 2
        self._best, self._jumps = self._good_jumps()
        # The number of times that each frame has been shown.
        self._shown = _ALIKE * np.random.default_rng(self._seed).random(self._count)
        # The latest changes, and the pictures of jumps, which may come again.
        self._change = lru_cache(self._made_change)
        self._kept: dict[tuple[_Jump, int], tuple[Floats, Floats | None]] = {}

    def _good_jumps(self) -> tuple[_Jump, Any]:
        """Return the least visible jump, and all that are as little visible, (n, 2)."""
        count = self._count
        # Two consecutive frames tell a motion from its reverse.
        costs = (self._apart[:-1, :-1] + self._apart[1:, 1:]) / 2
        places: Any = np.indices(costs.shape)
        old, new = places
        lasts = np.maximum(self._lasting(costs, _PART), self._least)
        possible = (np.abs(old - new) >= self._stretch) & (old + lasts <= count)
        is_back = possible & (new < old)
        if not is_back.any():
            return _Jump(count, 0), np.array([[count, 0]])
        back = np.where(is_back, costs, np.inf)
        best = _Jump(*divmod(int(back.argmin()), len(back)))
        # A difference is not seen that is small beside the clip's own change there.
        own = self._apart.diagonal(1)
        most = costs[best] + _ALIKE * np.maximum(own, costs[best])
        if costs[best] > own[best.old]:
            # No jump is exact, so those of one picture are seen as little.
            most = np.maximum(most, self._changes[1] / _PARTLY)
        around = np.pad(costs, 1, constant_values=np.inf)
        least = (costs <= around[:-2, :-2]) & (costs <= around[2:, 2:])
        good = possible & least & (costs <= most[:, None])
        good[best] = True
        # After each jump, the last jump back is still to come.
        last = old[good & is_back].max()
        good &= new + self._stretch <= last
        return best, np.argwhere(good)

    def _next(self, now: int, least: int) -> _Jump:
        """Return the jump after which the least is shown again.

        ``now``: the frame that is shown. ``least``: the frames before the jump, if
        possible.
        """
        old, new = self._jumps.T
        far = old >= now + least
        old, new = self._jumps[far if far.any() else old >= min(now + 1, old.max())].T
        first, last = self._jumps[:, 1].min(), self._jumps[:, 0].max()
        # A frame counts less the more often it has been shown than others.
        new_to_see = 1 - (self._shown - self._shown[first:last].min())
        sums = np.concatenate([[0.0], new_to_see.cumsum()])
        follows = np.minimum(new + self._stretch, self._count)
        twice = np.minimum(old, follows) - np.maximum(now, new)
        seen = sums[old] - sums[now] + sums[follows] - sums[new] - twice.clip(0)
        best = int(seen.argmax())
        self._shown[now : old[best]] += 1
        return _Jump(int(old[best]), int(new[best]))

    def _end(
        self, start: int, ready: int, back: int, times: range
    ) -> tuple[int, _Jump | None, int]:
        """Return the last jump before a loop closes, if any, and the time of the closing.

        Among those with which the least is cut short, the closing is seen least. The next
        change, the end of the clip and that of the loop cut a change short. The first value
        is 0 if nothing is cut short.

        ``start`` and ``back``: the frame at the time 0 of the shot that is shown, and of
        the shot that ends the loop. ``ready``: the first time at which the next change may
        begin. ``times``: those at which the loop may close.
        """
        old, new = self._jumps[self._jumps[:, 0] >= start + max(ready, 1)].T
        # The last of these shots is the one that is shown, without another jump.
        starts = np.append(start + new - old, start)[:, None]
        readies = np.append(old - start + round(_PART * self._count), ready)[:, None]
        closes = np.array(times)
        shown = starts + closes
        unlike = np.where(starts == back, 0, self._unlike_at(shown, back + closes))
        lasts = self._lasting(unlike)
        # No change begins before the one before has ended, or after the clip has.
        outside = (readies - closes).clip(0) + (shown - self._count).clip(0)
        late = (shown + lasts - self._count).clip(0) + (closes + lasts - times.stop).clip(0)
        lags = np.abs(starts - back)  # a short one stands still or hurries for as long
        cut = self._count * outside + late + lags * (lags < self._stretch)
        unlike[cut > cut.min()] = np.inf
        last, best = divmod(int(unlike.argmin()), len(closes))
        jump = _Jump(int(old[last]), int(new[last])) if last < len(old) else None
        return int(cut.min()), jump, times[best]

    def shots(self, options: Options) -> Iterator[_Shot]:
        frames = options.frames
        loop_to = options.loop_to
        longest = round(_PART * self._count)
        # A loop leads to the frame before ``home``; a dream that follows no frame begins
        # there.
        home = sum(self._best) // 2
        stop = frames
        if loop_to is not None:
            small = small_copy(loop_to, self._material.small_size)
            unlike = _distances(_compared(small)[None], self._smalls)[0]
            home = longest + int(unlike[longest:].argmin())
            stop -= min(int(self._lasting(unlike[home])), frames // 2)
        start = home - 1
        lasts = 0
        back = home - 1 - stop
        if options.loop and loop_to is None:
            yield self._shot(start)
        else:
            start, lasts = self._entry()
            is_short = options.loop and lasts + longest > stop
            if is_short:  # no time for a jump to the end of the loop
                start = back
                lasts = min(lasts, stop)
            most = max(1, min(stop, self._best.old - 1 - start))
            yield from self._entering(start, lasts, most)
        ready = 1 + max(lasts, self._least)
        jump = self._next(min(max(start + ready, 0), self._count), self._stretch)
        closing = range(min(max(1, 1 - back), stop), stop + 1)
        end = self._end(start, ready, back, closing)
        while not options.loop or jump.old - start + longest <= closing.start:
            begins = jump.old - start
            if begins > frames:
                return
            ready = begins + longest
            if options.loop:
                later = self._end(jump.new - begins, ready, back, closing)
                if later[0] > end[0] == 0:  # the jump leaves no room for the end
                    break
                end = later
            start = jump.new - begins
            yield self._shot(start, begins, self._change(jump, longest), jump)
            jump = self._next(jump.new, self._stretch)
        _, last, closes = end
        if last is not None and start != back:
            begins = last.old - start
            start = last.new - begins
            yield self._shot(start, begins, self._change(last, longest), last)
        if start != back:
            jump = _Jump(start + closes, back + closes)
            most = min(longest, stop + 1 - closes)
            yield self._shot(back, closes, self._change(jump, most))
        if loop_to is not None:
            yield _Shot(
                lambda _: loop_to, lambda _: 0, stop + 1, frames - stop, is_home=True
            )

    def _entering(self, start: int, lasts: int, most: int) -> Iterator[_Shot]:
        """Yield the last frame shown, and the clip, whose frame ``start`` has the time 0.

        Between two pictures that stand still, things move evenly. But rain must not stand
        still for long, so in a long entry the rain of the clip passes in front of both
        pictures.
        """
        if 0 < lasts <= self._slow:
            ahead = _onwards(self._material, self._last, self._device, self._least // 2)
            small = self._small(self._last)
            yield _Shot(lambda _: next(ahead), lambda _: self._real(self._last))
            change = self._by_place(
                lambda age: warp_linearly(small, self._points.back(age)),
                start + 1,
                (lasts, most),
            )
            yield self._shot(start, change=change)
            return
        last = self._material.picture(self._last)
        clip = self._from(start)
        entered = 1 + lasts
        step = float(self._material.step)
        is_long = lasts * step >= _LONG
        beside = max(1, round(_PASSES / step))

        def split(number: int) -> tuple[Floats, Floats]:
            """Return what moves slowly and what moves fast in a frame.

            Their sum is the frame.
            """
            numbers = [self._inside(number + away) for away in (-beside, 0, beside)]
            one, two, three = (self._material.shown(k) for k in numbers)
            low = np.minimum(one, two)
            high = np.maximum(one, two)
            slow = np.minimum(np.maximum(three, low), high)  # the median
            return slow, two - slow

        before = last
        after = clip(entered)
        if is_long:
            before = split(self._last - beside)[0]
            after = split(start + entered)[0]
        yield _Shot(
            lambda time: lerp(last, before, min(time / (2 * beside), 1.0)),
            lambda _: self._real(self._last),
        )
        yield _Shot(
            lambda time: after if time < entered else clip(time),
            lambda time: self._real(start + max(time, entered)),
            lasts=lasts,
            passing=(lambda time: split(start + time)[1]) if is_long else None,
        )

    def _by_place(
        self, old: Callable[[int], Floats], new: int, lasts: tuple[int, int]
    ) -> _Change:
        """Return a change by place to frame ``new`` and those after.

        ``old``: the small picture shown before, by its number of frames from the begin.
        ``lasts``: the wanted number of frames of the change, and the greatest.
        """
        count = min(max(lasts[0], min(4 * lasts[0], self._least)), lasts[1])
        front = front_of(
            old,
            lambda age: self._small(new + age),
            self._points.wind,
            count,
            np.random.default_rng((self._seed, max(new, 0))),
            self._own,
        )
        return _Change(count, front)

    def _small(self, number: int) -> Floats:
        return _thumb(self._material.glance(self._inside(number)))

    def joined(self, before: _Shot, now: _Shot, time: int) -> DreamFrame:
        """Return the frame of a time, between two shots if the later one has just begun."""
        share = (time - now.begins + 1) / (now.lasts + 1)
        if share >= 1:
            return DreamFrame(partial(now.picture, time), Filmed(now.number(time)))
        after = None if now.is_home else now.number(time)
        jump = Jump(before.number(time), after, share, now.begins - 1, now.lasts)
        return DreamFrame.made(*self._between(before, now, time, jump))

    def _between(
        self, before: _Shot, now: _Shot, time: int, jump: Jump
    ) -> tuple[Floats, Jump, Floats | None]:
        """Return the frame of a time in the change from one shot to another."""
        age = time - now.begins + 1
        key = None if now.jump is None else (now.jump, age)
        if key is not None and key in self._kept:
            new, double = self._kept[key]
            return new, jump, double
        pictures = [shot.picture(time) for shot in (before, now)]
        double = None
        if now.front is None:
            new = self._interpolated(pictures, jump.part)
        else:
            size = weight_size(*self._material.size)
            weights = now.front.weights(self._points.back(age), age, size)
            new = blended(pictures, [1 - weights, weights])
            double = doubled(pictures, weights)
        if key is not None and (len(self._kept) + 1) * new.nbytes <= _KEPT_BYTES:
            self._kept[key] = new, double
        return new if now.passing is None else new + now.passing(time), jump, double

    def _interpolated(self, pictures: list[Floats], share: float) -> Floats:
        """Return the network's picture between two others."""
        both = [_sent(picture, self._device) for picture in pictures]
        pair = Pair.of(both, share, None, self._scale)
        new = picture_from(self._network.between(pair)[0])
        # The network's picture is softer than both, and a sudden end of this would be seen.
        return lerp(pictures[round(share)], new, min(share, 1 - share, _EDGE) / _EDGE)

    def _shot(
        self,
        start: int,
        begins: int = 1,
        change: _Change | None = None,
        jump: _Jump | None = None,
    ) -> _Shot:
        """Return the shot whose frame ``start`` has the time 0."""
        lasts, front = change or (0, None)
        picture = self._from(start)
        return _Shot(
            picture, lambda time: self._real(start + time), begins, lasts, front, jump=jump
        )

    def _real(self, number: int) -> int:
        return self._material.source_of(self._inside(number))[0]

    def _from(self, start: int) -> Callable[[int], Floats]:
        """Return a function from a time to the frame ``start + time``: (H, W, 3)."""
        return lambda time: self._material.shown(self._inside(start + time))

    def _inside(self, number: int) -> int:
        return min(max(number, 0), self._count - 1)

    def _made_change(self, jump: _Jump, most: int) -> _Change:
        """Return the change of a jump, in at most ``most`` frames."""
        old, new = jump
        lasts = int(self._lasting(self._unlike_at(old, new), _PART))
        if 0 < lasts <= self._slow:
            return self._by_place(lambda age: self._small(old + age), new, (lasts, most))
        return _Change(min(lasts, most), None)

    def _unlike_at(self, one: Any, other: Any) -> Any:
        most = self._count - 1
        return self._apart[np.clip(one, 0, most), np.clip(other, 0, most)].astype(float)

    def _lasting(self, unlike: Any, limit: float = np.inf) -> Any:
        """Return the number of frames in which the clip itself changes nearly as much.

        ``limit``: the result as a part of the clip, at most.
        """
        frames = np.searchsorted(self._changes, _PARTLY * unlike)
        return np.minimum(frames, min(self._most, limit * self._count)).astype(int)

    def _entry(self) -> tuple[int, int]:
        """Return the clip's frame at time 0, and the frames between the last and this."""
        start = int(self.entries(self._last).argmin())
        lasts = int(self._lasting(self._apart[self._last, start]))
        return min(start, self._best.old - 1 - lasts), lasts

    def entries(self, last: int) -> Any:
        """Return how visible the jumps from the frame ``last`` to other frames are."""
        end = self._best.old
        costs = self._apart[last, :end].copy()
        costs[1:] = (costs[1:] + self._apart[max(last - 1, 0), : end - 1]) / 2
        # The next jump should not follow soon, unless nobody sees the jump.
        soon = 1 - (end - np.arange(len(costs))) / self._stretch
        costs += soon.clip(0) * self._unlike_at(*self._best)
        if last < self._count - 1:  # the clip itself follows
            costs[max(last - self._stretch, 1) :] = np.inf
        return costs


def _wind(material: Material) -> Floats:
    """Return the mean backward flow, (h, w, 2); 0 for a film without a direction."""
    pairs = spread(len(material), 1)
    wind = mean_flow(material, pairs)
    speeds = [np.linalg.norm(material.flow(k), axis=2).mean() for k in pairs]
    lengths = np.linalg.norm(wind, axis=2)
    is_wide = float(lengths.mean() ** 2) >= _WIDE * float(np.square(lengths).mean())
    least = max(_DIRECTED * float(np.mean(speeds or [0.0])), _FAINT)
    return wind * np.float32(is_wide and float(lengths.mean()) >= least)


def _own(material: Material) -> Floats:
    """Return how much the film ever changes around each place beyond the wind, (h, w)."""
    pictures = [material.glance(k) for k in range(len(material))]
    changes = [
        _thumb(warp(before, material.once(_wind), how=cv2.INTER_LINEAR)) - _thumb(picture)
        for before, picture in pairwise([pictures[0], *pictures])
    ]
    most = np.abs(changes[1:] or changes).sum(3).max(0)
    return np.asarray(cv2.blur(most, (7, 7)), np.float32)


def _thumb(picture: Bytes) -> Floats:
    return as_picture(reduced(picture, THUMB_SIDE))


def _distances(some: Floats, others: Floats) -> Floats:
    """Return root mean square differences of (n, values) from (m, values): (n, m)."""
    # A product of matrices loses small differences of large values.
    apart: Floats = torch.cdist(
        torch.from_numpy(some),
        torch.from_numpy(others),
        compute_mode="donot_use_mm_for_euclid_dist",
    ).numpy()
    return apart / np.float32(others.shape[1] ** 0.5)


def _onwards(
    material: Material, last: int, device: torch.device | str, most: int
) -> Iterator[Floats]:
    """Yield the frame ``last``, which moves on for a short time, without an end."""
    model = registry.load_predictor("flow", device, torch.float32)
    numbers = [max(last - k, 0) for k in reversed(range(model.spec.context))]
    pictures = [lambda k=k: _sent(material.picture(k), device) for k in numbers]
    # Later, things would be stretched, and half of the places have changed.
    for forecast in model.forecast_from(pictures, range(1, max(2, most + 1))):
        picture = picture_from(forecast[0])
        yield picture
    while True:
        yield picture


def _compared(picture: Bytes) -> Floats:
    small: Floats = reduced(cv2.GaussianBlur(picture, (0, 0), 1), COARSE_SIDE).astype(
        np.float32
    )
    return small.ravel()


def _sent(picture: Floats, device: torch.device | str) -> Tensor:
    """Return a picture on the device of the network: (1, 3, H, W)."""
    return tensor_of(picture)[None].to(device)
