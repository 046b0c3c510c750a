"""Find the jumps of a clip that are seen least, and walk them for a video texture.

A jump leads from a frame to one that looks like another. All jumps count that are seen as
little as the best one. The next jump is the one after which the least is shown again, so
that no part of the clip comes again before the others. The last one before the end of a
loop is the one after which the loop closes least visibly.

Source: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.vitals.features import QUANTILE
from cloudconv.images import COARSE_SIDE, Bytes, Floats, reduced, small_copy

PART = 1 / 3
"""The shortest period, and the longest change, as a part of the clip."""

_LONGEST = 6.0  # greatest duration of a jump, in seconds
PARTLY = 0.8  # part of a jump's change that the clip itself makes in the same time
# Part of its cost, or of the change from frame to frame, by which a jump may be worse than
# the best; and the part of a showing by which the seed counts when jumps are chosen.
_ALIKE = 0.1


Pairing = tuple[int, int]
"""Two frames of a clip: the second looks like the first, and is shown in its place."""


class Stay(NamedTuple):
    """A part of the clip that a dream shows, by the dream's time.

    The last real frame before the dream has the time 0. ``start``: the number of the frame
    at the time 0. ``begins``: the first time at which the part is seen. ``lasts``,
    ``most``: the number of frames in which the clip itself changes as much as from the part
    before to this one, and the number that there is time for. ``jump``: the frames between
    which the change is; None for the first part of a dream. ``is_home``: the part is the
    first frame of the source, to which a loop leads; it need not be in the material.
    """

    start: int
    begins: int = 1
    lasts: int = 0
    most: int = 0
    jump: Pairing | None = None
    is_home: bool = False


class Jumps:
    """The jumps of a clip, and how visible they are.

    ``best``: the least visible jump back. ``good``: all jumps that are as little visible,
    (n, 2). ``longest``: the greatest number of frames of a change. ``stretch``: the least
    number of frames between two jumps.
    """

    def __init__(self, material: Material, least: int) -> None:
        """Compare the clip's frames; ``least``: frames of a change by place, at least."""
        count = self.count = len(material)
        smalls = _smalls(material)
        self.apart = _distances(smalls, smalls)
        # A large change of the clip within each number of frames.
        changes = [np.quantile(self.apart.diagonal(lag), QUANTILE) for lag in range(count)]
        self._changes = np.maximum.accumulate(changes)
        self._most = round(_LONGEST / float(material.step))
        self.least = least
        self.longest = round(PART * count)
        # A change by place takes long, so more is shown as filmed before the next.
        self.stretch = max(1, self.longest) + least // 2
        self.best, self.good = self._found()

    def _found(self) -> tuple[Pairing, Any]:
        count = self.count
        # Two consecutive frames tell a motion from its reverse.
        costs = (self.apart[:-1, :-1] + self.apart[1:, 1:]) / 2
        places: Any = np.indices(costs.shape)
        old, new = places
        lasts = np.maximum(self.lasting(costs, PART), self.least)
        possible = (np.abs(old - new) >= self.stretch) & (old + lasts <= count)
        is_back = possible & (new < old)
        if not is_back.any():
            return (count, 0), np.array([[count, 0]])
        back = np.where(is_back, costs, np.inf)
        best = divmod(int(back.argmin()), len(back))
        # A difference is not seen that is small beside the clip's own change there.
        own = self.apart.diagonal(1)
        most = costs[best] + _ALIKE * np.maximum(own, costs[best])
        if costs[best] > own[best[0]]:
            # No jump is exact, so those of one picture are seen as little.
            most = np.maximum(most, self._changes[1] / PARTLY)
        around = np.pad(costs, 1, constant_values=np.inf)
        least = (costs <= around[:-2, :-2]) & (costs <= around[2:, 2:])
        good = possible & least & (costs <= most[:, None])
        good[best] = True
        # After each jump, the last jump back is still to come.
        last = old[good & is_back].max()
        good &= new + self.stretch <= last
        return best, np.argwhere(good)

    def unlike_at(self, one: Any, other: Any) -> Any:
        """Return how unlike frames are to others, by their numbers."""
        most = self.count - 1
        return self.apart[np.clip(one, 0, most), np.clip(other, 0, most)].astype(float)

    def lasting(self, unlike: Any, limit: float = np.inf) -> Any:
        """Return the number of frames in which the clip itself changes nearly as much.

        ``limit``: the result as a part of the clip, at most.
        """
        frames = np.searchsorted(self._changes, PARTLY * unlike)
        return np.minimum(frames, min(self._most, limit * self.count)).astype(int)

    def entries(self, last: int) -> Any:
        """Return how visible the jumps from the frame ``last`` to other frames are."""
        end = self.best[0]
        costs = self.apart[last, :end].copy()
        costs[1:] = (costs[1:] + self.apart[max(last - 1, 0), : end - 1]) / 2
        # The next jump should not follow soon, unless nobody sees the jump.
        soon = 1 - (end - np.arange(len(costs))) / self.stretch
        costs += soon.clip(0) * self.unlike_at(*self.best)
        if last < self.count - 1:  # the clip itself follows
            costs[max(last - self.stretch, 1) :] = np.inf
        return costs

    def entry(self, last: int) -> tuple[int, int]:
        """Return the clip's frame at time 0, and the frames between ``last`` and this."""
        start = int(self.entries(last).argmin())
        lasts = int(self.lasting(self.apart[last, start]))
        return min(start, self.best[0] - 1 - lasts), lasts

    def following(self, shown: Any, now: int, least: int) -> Pairing:
        """Return the jump after which the least is shown again.

        ``shown``: the number of times that each frame has been shown, which is counted
        on. ``now``: the frame that is shown. ``least``: the frames before the jump, if
        possible.
        """
        old, new = self.good.T
        far = old >= now + least
        old, new = self.good[far if far.any() else old >= min(now + 1, old.max())].T
        first, last = self.good[:, 1].min(), self.good[:, 0].max()
        # A frame counts less the more often it has been shown than others.
        new_to_see = 1 - (shown - shown[first:last].min())
        sums = np.concatenate([[0.0], new_to_see.cumsum()])
        follows = np.minimum(new + self.stretch, self.count)
        twice = np.minimum(old, follows) - np.maximum(now, new)
        seen = sums[old] - sums[now] + sums[follows] - sums[new] - twice.clip(0)
        best = int(seen.argmax())
        shown[now : old[best]] += 1
        return int(old[best]), int(new[best])

    def closing(
        self, start: int, ready: int, back: int, times: range
    ) -> tuple[int, Pairing | None, int]:
        """Return the last jump before a loop closes, if any, and the time of the closing.

        Among those with which the least is cut short, the closing is seen least. The next
        change, the end of the clip and that of the loop cut a change short. The first value
        is 0 if nothing is cut short.

        ``start`` and ``back``: the frame at the time 0 of the part that is shown, and of
        the one that ends the loop. ``ready``: the first time at which the next change may
        begin. ``times``: those at which the loop may close.
        """
        old, new = self.good[self.good[:, 0] >= start + max(ready, 1)].T
        # The last of these is the part that is shown, without another jump.
        starts = np.append(start + new - old, start)[:, None]
        readies = np.append(old - start + self.longest, ready)[:, None]
        closes = np.array(times)
        shown = starts + closes
        unlike = np.where(starts == back, 0, self.unlike_at(shown, back + closes))
        lasts = self.lasting(unlike)
        # No change begins before the one before has ended, or after the clip has.
        outside = (readies - closes).clip(0) + (shown - self.count).clip(0)
        late = (shown + lasts - self.count).clip(0) + (closes + lasts - times.stop).clip(0)
        lags = np.abs(starts - back)  # a short one stands still or hurries for as long
        cut = self.count * outside + late + lags * (lags < self.stretch)
        unlike[cut > cut.min()] = np.inf
        last, best = divmod(int(unlike.argmin()), len(closes))
        jump = (int(old[last]), int(new[last])) if last < len(old) else None
        return int(cut.min()), jump, times[best]

    def change(self, jump: Pairing) -> int:
        """Return the number of frames that the change of a jump lasts."""
        return int(self.lasting(self.unlike_at(*jump), PART))


def walk(jumps: Jumps, material: Material, options: Options) -> Iterator[Stay]:
    """Yield the parts of a clip that a dream shows; without an end unless it is a loop."""
    frames = options.frames
    longest = jumps.longest
    shown = _ALIKE * np.random.default_rng(options.seed).random(jumps.count)
    # A loop leads to the frame before ``home``; a dream that follows no frame begins there.
    home = sum(jumps.best) // 2
    stop = frames
    if options.loop_to is not None:
        first = small_copy(options.loop_to, material.small_size)
        unlike: Any = _distances(_compared(first)[None], _smalls(material))[0]
        home = longest + int(unlike[longest:].argmin())
        stop -= min(int(jumps.lasting(unlike[home])), frames // 2)
    start = home - 1
    back = home - 1 - stop
    lasts = most = 0
    if not options.loop or options.loop_to is not None:
        start, lasts = jumps.entry(options.leaves % jumps.count)
        if options.loop and lasts + longest > stop:  # no time for a jump to the loop's end
            start = back
            lasts = min(lasts, stop)
        most = max(1, min(stop, jumps.best[0] - 1 - start))
    yield Stay(start, 1, lasts, most)
    ready = 1 + max(lasts, jumps.least)
    old, new = jumps.following(
        shown, min(max(start + ready, 0), jumps.count), jumps.stretch
    )
    times = range(min(max(1, 1 - back), stop), stop + 1)
    end = jumps.closing(start, ready, back, times)
    while not options.loop or old - start + longest <= times.start:
        begins = old - start
        if begins > frames:
            return
        ready = begins + longest
        if options.loop:
            later = jumps.closing(new - begins, ready, back, times)
            if later[0] > end[0] == 0:  # the jump leaves no room for the end
                break
            end = later
        start = new - begins
        yield Stay(start, begins, jumps.change((old, new)), longest, (old, new))
        old, new = jumps.following(shown, new, jumps.stretch)
    _, last, closes = end
    if last is not None and start != back:
        begins = last[0] - start
        start = last[1] - begins
        yield Stay(start, begins, jumps.change(last), longest, last)
    if start != back:
        jump = start + closes, back + closes
        most = min(longest, stop + 1 - closes)
        yield Stay(back, closes, jumps.change(jump), most, jump)
    if options.loop_to is not None:
        yield Stay(0, stop + 1, frames - stop, is_home=True)


def _distances(some: Floats, others: Floats) -> Floats:
    """Return root mean square differences of (n, values) from (m, values): (n, m)."""
    # A product of matrices loses small differences of large values.
    apart: Floats = torch.cdist(
        torch.from_numpy(some),
        torch.from_numpy(others),
        compute_mode="donot_use_mm_for_euclid_dist",
    ).numpy()
    return apart / np.float32(others.shape[1] ** 0.5)


def _smalls(material: Material) -> Floats:
    return np.stack([_compared(material.glance(k)) for k in range(len(material))])


def _compared(picture: Bytes) -> Floats:
    small: Floats = reduced(cv2.GaussianBlur(picture, (0, 0), 1), COARSE_SIDE).astype(
        np.float32
    )
    return small.ravel()
