"""Mode ``texture``: play the clip forwards for ever; each place jumps back at its own time.

The dream is a row of pieces: first the last real frame, which moves on; then the clip again and
again, one period later each time. Each place of the picture changes from a piece to the next at the
time when the two differ least around the place, so the picture never changes everywhere at once.

Sources: Kwatra, Schödl, Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH 2003; Liao, Joshi and
Hoppe, Automated Video Looping with Progressive Dynamism, SIGGRAPH 2013. Costs are summed over areas
in place of a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import Drift, end_flow
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.transition import order_of
from cloudconv.dreaming.pictures import COARSE_SIDE, reduced, resized, small_copy, weight_size
from cloudconv.transfer import upload

Floats = NDArray[np.float32]

_AREA = 13  # side of the squares over which differences are summed, in pixels of COARSE_SIDE
_PERIODS = 60  # number of periods that are tried, at most
_SHORTEST = 1 / 3  # shortest period, as a fraction of the clip; the rest is compared
_FADE = 0.2  # duration of the change of one place, in seconds
_LEAD = 1.5  # duration of the first piece, in seconds, at most …
_PART = 0.4  # … and as a fraction of the clip, or of a loop
_UNSEEN = 0.4  # time in which changes are compared with the clip's, in seconds
_SLOWER = 4.0  # greatest factor by which the first change takes longer if it is large
_SOFT = 0.33  # duration of the first change of one place, as a fraction of the longer time
_ORDERED = 10.0  # cost of a place that changes at another time than the wind's, if it takes longer
_OUTSIDE = 255.0  # difference of points from outside the picture, in levels
_VARIES = 0.1  # part of the cost of a period that depends on the seed
_ALWAYS = np.full((1, 1), -np.inf, np.float32)  # times of a piece that every place shows


def texture(material: Material, options: Options) -> Iterator[Tensor]:
    """Yield the clip's frames forwards, each place in its own order."""
    frames, loop, loop_to = options.frames, options.loop, options.loop_to
    count = len(material)
    shorter = min(count, frames) if loop else count
    lead = min(round(_LEAD / float(material.step)), round(_PART * shorter))
    row = _Row(material, np.random.default_rng(options.seed))
    if loop and loop_to is None:
        # The dream follows no frame, so the dream begins inside the clip.
        home = count // 2
        row.pieces = [replace(row.clip, start=home - 1)]
    else:
        unlike = np.zeros(count) if loop_to is None else row.unlike(loop_to)
        least = 0 if loop_to is None else min(2 * lead, count - 1)
        home = least + int(unlike[least:].argmin())
        row.begin(lead, 1.0 if loop else _SLOWER)
    turn = frames - 2 * lead if loop else frames
    for time in range(1, frames + 1):
        if time <= turn:
            row.extend(time + row.fade)
        elif time == turn + 1:
            row.extend(frames)
            back = replace(row.clip, start=home - 1 - frames)
            enters = time + _earliest(row.apart(back, time, lead))
            row.pieces.append(replace(back, enters=enters))
            if loop_to is not None and unlike[home] > row.usual.mean():
                end = row.piece([row.small(loop_to)], lambda _: loop_to, -frames - 1, lead)
                costs = np.maximum(row.apart(end, time + lead, lead), row.usual)
                row.pieces.append(replace(end, enters=frames + 1 - _earliest(costs[::-1])))
        yield row.picture(time)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Frames, of which the number ``start + t`` is shown at time t, the last real frame's being 0.

    Before the first and after the last frame, these two move on. ``smalls``: the same at the size
    for comparison, in levels. ``enters``: (h, w), the time at which each place changes to them.
    """

    drift: Drift
    smalls: Drift
    start: int
    enters: Floats
    fade: int

    def picture(self, time: int) -> Tensor:
        """Return the picture of a time: (3, H, W)."""
        return self.drift.picture(self.start + time)

    def small(self, time: int) -> Floats:
        """Return the picture for comparison, (3, h, w); points from outside are far off."""
        picture = self.smalls.picture(self.start + time)
        known = self.smalls.covers(self.start + time, (picture.shape[1], picture.shape[2]))
        small: Floats = (picture + _OUTSIDE * (1 - known)).numpy()
        return small

    def share(self, time: int) -> Floats:
        """Return the weight of this piece over those before at a time: (h, w) from 0 to 1."""
        share: Floats = np.clip((time - self.enters) / self.fade + 0.5, 0, 1).astype(np.float32)
        return share


class _Row:
    """The pieces of a dream, and how they follow each other.

    ``clip``: the whole clip, for all places. ``fade``: the frames in which a place changes.
    ``usual``: (h, w), the mean square of the differences of neighbours.
    """

    def __init__(self, material: Material, random: np.random.Generator) -> None:
        """Compare all frames, and choose the period with the least visible jumps."""
        self._material = material
        smalls = [_small(material.glance(k)) for k in range(len(material))]
        self._frames = np.stack([small.numpy() for small in smalls])
        self.fade = max(2, round(_FADE / float(material.step)))
        self.clip = self.piece(smalls, material.shown, 0, 0)
        apart = np.square(np.diff(self._frames, axis=0)).mean(1)
        moves = apart.mean(0) if len(apart) else np.zeros(self._frames.shape[2:], np.float32)
        self.usual: Floats = cv2.blur(moves, (_AREA, _AREA)) + 1
        # Place x jumps from frame ``_starts[x] + _period`` to ``_starts[x]``.
        self._period, self._starts = _period_of(self._frames, random)
        self.pieces: list[_Piece] = []
        # The last frame is shown over the pieces until each place has changed to them.
        self._last: _Piece | None = None
        wind = end_flow(material, 1, first=False, behind=False).cpu()
        self._order = order_of(wind, random, self._frames.shape[2:]).numpy()

    def piece(
        self, smalls: list[Tensor], frames: Callable[[int], Tensor], start: int, lasts: int
    ) -> _Piece:
        """Return a piece whose first and last frame move on without a fold for ``lasts`` frames."""
        flows = [end_flow(self._material, lasts, first=one, behind=False) for one in (True, False)]
        drift = Drift(frames, len(smalls), flows)
        return _Piece(drift, drift.over(smalls), start, _ALWAYS, self.fade)

    def begin(self, lead: int, slowest: float) -> None:
        """Begin with the last frame, which moves on, and the clip that follows best.

        A change that is larger than the clip's own changes takes longer, so that it is no faster.

        Args:
            lead: the least number of frames of this change; 0 for the clip alone.
            slowest: the greatest factor by which the change takes longer.
        """
        best, found, jump = np.inf, self.clip, 0.0
        last, shown = self._moved_on(lead)
        for start in range(self._period) if lead else ():
            self.pieces = [replace(self.clip, start=start)]
            costs = self._apart_from(shown)
            least = costs.min(0)
            # A thing stays whole if the first frame fits everywhere.
            cost = float((least + costs[0]).mean())
            if cost < best:
                best, found, jump = cost, self.pieces[0], float(least.mean())
        self.pieces = [found]
        if lead:
            lag = max(1, min(round(_UNSEEN / float(self._material.step)), len(self._frames) - 1))
            own = _costs(zip(self._frames[:-lag], self._frames[lag:], strict=True))
            slower = min(max(jump / max(float(np.sqrt(own).mean()), 1), 1), slowest)
            longer = round(lead * (slower - 1))
            lead += longer
            last, shown = self._moved_on(lead)
            unseen = np.maximum(self._apart_from(shown), np.sqrt(self.usual))
            soft = max(self.fade, round(_SOFT * longer))
            wanted = soft / 2 + (lead - soft) * self._order
            late = (np.arange(lead, dtype=np.float32)[:, None, None] - wanted) / lead
            apart = unseen / unseen.min(0) + _ORDERED * (slower - 1) * np.square(late)
            leaves = 1 + np.maximum(_earliest(apart), (soft - self.fade) / 2)
            self._last = replace(last, enters=leaves, fade=soft)

    def _moved_on(self, lead: int) -> tuple[_Piece, list[Floats]]:
        """Return the last frame, which moves on for ``lead`` frames, and its small pictures."""
        picture, smalls = self._material.picture(-1), [torch.from_numpy(self._frames[-1])]
        last = self.piece(smalls, lambda _: picture, 0, max(lead, 1))
        return last, [last.small(time) for time in range(1, lead + 1)]

    def _apart_from(self, shown: list[Floats]) -> Floats:
        """Return the root mean square differences of the pieces from the first small pictures."""
        self.extend(len(shown))
        pairs = ((one, self._seen(time)) for time, one in enumerate(shown, 1))
        apart: Floats = np.sqrt(_costs(pairs))
        return apart

    def extend(self, until: int) -> None:
        """Append the pieces to which places change up to a time."""
        newest = self.pieces[-1]
        first = int(self._starts.min()) + self._period  # the frame at which the first place jumps
        while newest.start + until >= first:
            enters = self._starts + self._period - newest.start
            newest = replace(newest, start=newest.start - self._period, enters=enters)
            self.pieces.append(newest)

    def picture(self, time: int) -> Tensor:
        """Return the picture of a time, (3, H, W), and forget what is hidden from then on."""
        shares = [piece.share(time) for piece in self.pieces]
        hidden = max(number for number, share in enumerate(shares) if share.min() == 1)
        del self.pieces[:hidden], shares[:hidden]
        pictures, weights = list[Tensor](), list[Tensor]()
        size = weight_size(*self._material.size)
        shown = [*zip(self.pieces, shares, strict=True)]
        if self._last is not None:
            shown.append((self._last, 1 - self._last.share(time)))
        for piece, share in shown:
            if share.max() > 0:
                pictures.append(piece.picture(time))
                weight = resized(torch.from_numpy(share)[None], size)[0]
                weights = [*(each * (1 - weight) for each in weights), weight]
        if len(pictures) == 1:
            return pictures[0]
        # The exposure of a clip may change: a pyramid hides the borders between two times.
        return blended(pictures, upload(weights, pictures[0].device))

    def apart(self, piece: _Piece, begin: int, count: int) -> Floats:
        """Return the differences of a piece from those before at ``count`` times."""
        times = range(begin, begin + max(count, 1))
        return _costs((self._seen(at), piece.small(at)) for at in times)

    def unlike(self, picture: Tensor) -> Floats:
        """Return the mean square of the difference of a picture (3, H, W) from each frame."""
        apart: Floats = np.square(self._frames - self.small(picture).numpy()).mean((1, 2, 3))
        return apart

    def small(self, picture: Tensor) -> Tensor:
        """Return a picture (3, H, W) for comparison: (3, h, w)."""
        return _small(small_copy(picture, self._material.small_size))

    def _seen(self, time: int) -> Floats:
        """Return the small picture of a time."""
        seen = self.pieces[0].small(time)
        for piece in self.pieces[1:]:
            seen = np.where(time > piece.enters, piece.small(time), seen)
        if self._last is not None:
            seen = np.where(time > self._last.enters, seen, self._last.small(time))
        return seen


def _small(picture: NDArray[np.uint8]) -> Tensor:
    """Return a picture (h, w, 3) for comparison: (3, h, w) in levels."""
    small = reduced(cv2.GaussianBlur(picture, (0, 0), 1), COARSE_SIDE)
    return torch.from_numpy(small).permute(2, 0, 1).float().contiguous()


def _costs(pairs: Iterable[tuple[Floats, Floats]]) -> Floats:
    """Return the differences of pairs of small pictures, summed over areas: (pairs, h, w)."""
    apart = np.stack([np.square(one - other).mean(0) for one, other in pairs])
    if len(apart) > 1:
        # Two consecutive frames tell a motion from its reverse.
        apart[:-1] = (apart[:-1] + apart[1:]) / 2
    # A filter of running sums may leave negative zeros.
    return np.stack([np.maximum(cv2.blur(one, (_AREA, _AREA)), 0) for one in apart])


def _earliest(costs: Floats) -> Floats:
    """Return the number of the least cost at each place, (h, w), smooth over places."""
    smooth: Floats = cv2.GaussianBlur(costs.argmin(0).astype(np.float32), (0, 0), 2)
    return smooth


def _period_of(frames: Floats, random: np.random.Generator) -> tuple[int, Floats]:
    """Return the period with the least visible jumps, and the frame to which each place jumps."""
    count = len(frames)
    best, found = np.inf, (max(count, 1), np.zeros(frames.shape[2:], np.float32))
    shortest = max(1, round(count * _SHORTEST))
    for length in range(shortest, count - shortest + 1, max(1, count // _PERIODS)):
        apart = _costs(zip(frames[:-length], frames[length:], strict=True))
        if len(apart) > 1:
            apart = apart[:-1]
        apart = np.sqrt(apart)
        # A thing stays whole where all places jump at once.
        apart += apart.mean((1, 2), keepdims=True)
        cost = float(apart.min(0).mean()) * (1 + _VARIES * random.random())
        if cost < best:
            best, found = cost, (length, _earliest(apart))
    return found
