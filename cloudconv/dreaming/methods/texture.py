"""Mode ``texture``: play the clip forwards for ever; each place jumps back at its own time.

The dream is a row of pieces: first the last real frame, which moves on; then the clip again and
again, one period later each time. Each place of the picture changes from a piece to the next at the
time when the two differ least around the place, so the picture never changes everywhere at once.

Sources: Kwatra, Schödl, Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH 2003; Liao, Joshi and
Hoppe, Automated Video Looping with Progressive Dynamism, SIGGRAPH 2013. Costs are summed over areas
in place of a cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import (
    Drift,
    SkyBehind,
    end_pairs,
    mean_of_pairs,
    outside,
    unfolded,
)
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.dreaming.pictures import (
    COARSE_SIDE,
    bounds,
    moved,
    reduced,
    resized,
    small_copy,
    weight_size,
)

Floats = NDArray[np.float32]

_AREA = 13  # side of the squares over which differences are summed, in pixels of COARSE_SIDE
_PERIODS = 60  # number of periods that are tried, at most
_SHORTEST = 1 / 3  # shortest period, as a fraction of the clip …
_LONGER = 0.3  # … and exponent of the preference for longer periods
_FADE = 0.2  # duration of the change of one place, in seconds
_LEAD = 1.5  # duration of the first piece, in seconds, at most …
_PART = 0.4  # … and as a fraction of the clip
_OUTSIDE = 255.0  # difference of points from outside the picture, in levels
_AT_ONCE = 0.2  # weight of the difference if all places change at once: a thing stays whole
_VARIES = 0.05  # part of the cost of a period that depends on the seed


class Texture(DreamMethod):
    """A method that plays the clip's frames forwards, each place in its own order."""

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the pictures; see the base class."""
        count = len(material)
        looks = _Looks(material)
        period = _period_of(looks.frames, np.random.default_rng(seed))
        lead = min(round(_LEAD / float(material.step)), round(count * _PART))
        lead = min(lead, frames // 3) if loop else lead
        clip = _footage(material, material.shown, looks.frames, 0)
        if loop and loop_to is None:
            # The dream follows no frame, so the dream begins inside the clip.
            home = count // 2
            pieces = [_Piece(replace(clip, start=home - 1), None)]
        else:
            home = 0 if loop_to is None else looks.nearest(loop_to, min(2 * lead, count - 1))
            pieces = _first_pieces(looks, clip, period, lead)
        turn = frames - 2 * lead if loop else frames
        for time in range(1, frames + 1):
            if time <= turn:
                _extend(pieces, period, time + looks.fade)
            elif time == turn + 1:
                _extend(pieces, period, frames)
                back = replace(clip, start=home - 1 - frames)
                pieces.append(_Piece(back, time + _earliest(_apart(pieces, back, time, lead))))
                if loop_to is not None and not looks.alike(loop_to, home):
                    small = looks.reduced(loop_to)[None]
                    end = _footage(material, lambda _: loop_to, small, -frames - 1, lead)
                    costs = np.maximum(_apart(pieces, end, time + lead, lead), looks.usual)
                    pieces.append(_Piece(end, frames + 1 - _earliest(costs[::-1])))
            yield _shown(pieces, time, looks)
            while len(pieces) > 1 and pieces[1].share(time, looks.fade).min() == 1:
                pieces.pop(0)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Footage, and the time at which each place changes to it: (h, w); None for always.

    Times are in frames after the last real frame.
    """

    footage: _Footage
    enters: Floats | None

    def share(self, time: int, fade: int) -> Floats:
        """Return the weight of this piece over those before at a time: (h, w) from 0 to 1."""
        if self.enters is None:
            return np.ones((1, 1), np.float32)
        share: Floats = np.clip((time - self.enters) / fade + 0.5, 0, 1).astype(np.float32)
        return share


class _Looks:
    """The small pictures of a clip, for comparison.

    ``frames``: (n, h, w, 3) float32 in levels. ``fade``: the frames in which a place changes.
    ``usual``: (h, w), the mean square of the differences of neighbours.
    """

    def __init__(self, material: Material) -> None:
        """Make the pictures of all frames."""
        self.material = material
        self.frames = np.stack([self.of(material.glance(k)) for k in range(len(material))])
        apart = np.square(np.diff(self.frames, axis=0)).mean(3)
        moves = apart.mean(0) if len(apart) else np.zeros(self.frames.shape[1:3], np.float32)
        self.usual: Floats = cv2.blur(moves, (_AREA, _AREA)) + 1
        self.fade = max(2, round(_FADE / float(material.step)))

    def nearest(self, picture: Tensor, first: int) -> int:
        """Return the frame, from ``first`` on, that is most like a picture (3, H, W)."""
        one = self.reduced(picture)
        return first + int(np.square(self.frames[first:] - one).mean((1, 2, 3)).argmin())

    def alike(self, picture: Tensor, number: int) -> bool:
        """Return whether a picture differs from a frame no more than neighbours do."""
        one = self.reduced(picture)
        return bool(np.square(self.frames[number] - one).mean() <= self.usual.mean())

    def reduced(self, picture: Tensor) -> Floats:
        """Return a picture (3, H, W) for comparison: (h, w, 3)."""
        return self.of(small_copy(picture, self.material.small_size))

    def of(self, small: NDArray[np.uint8]) -> Floats:
        """Return a picture (h, w, 3) for comparison."""
        picture: Floats = reduced(cv2.GaussianBlur(small, (0, 0), 1), COARSE_SIDE)
        return picture.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Footage:
    """Frames, of which the number ``start + t`` is shown at time t.

    Before the first and after the last frame, these two may move on. ``smalls``: (n, h, w, 3), the
    frames for comparison, in levels.
    """

    drift: Drift
    smalls: Floats
    start: int

    def picture(self, time: int) -> Tensor:
        """Return the picture of a time, (3, H, W), which the caller may change."""
        return self.drift.picture(self.start + time)

    def small(self, time: int) -> Floats:
        """Return the picture for comparison, (h, w, 3); points from outside are far off."""
        number = self.start + time
        small: Floats = self.smalls[min(max(number, 0), len(self.smalls) - 1)]
        if 0 <= number < len(self.smalls):
            return small
        size = small.shape[0], small.shape[1]
        flow = self.drift.displacement(number, size).cpu()
        picture = moved(torch.from_numpy(small).permute(2, 0, 1), flow)
        picture += _OUTSIDE * (outside(flow) > 1)
        return picture.permute(1, 2, 0).numpy()


def _footage(
    material: Material, frames: Callable[[int], Tensor], smalls: Floats, start: int, lasts: int = 0
) -> _Footage:
    """Return frames whose first and last move on for up to ``lasts`` frames without a fold."""
    still = SkyBehind(torch.zeros(material.size), weight_size(*material.size))
    flows = []
    for first in (True, False):
        flow = mean_of_pairs(material, end_pairs(len(material), first=first) if lasts else [])
        moves = torch.from_numpy(flow).permute(2, 0, 1).to(material.device)
        flows.append(unfolded(moves, lasts))
    return _Footage(Drift(frames, len(smalls), still, flows), smalls, start)


@dataclass(frozen=True, slots=True)
class _Period:
    """The jumps of all places: place x jumps from frame ``starts[x] + length`` to ``starts[x]``."""

    length: int
    starts: Floats


def _costs(pairs: list[tuple[Floats, Floats]]) -> Floats:
    """Return the differences of pairs of small pictures, summed over areas: (pairs, h, w)."""
    apart = np.stack([np.square(one - other).mean(2) for one, other in pairs])
    if len(apart) > 1:
        # Two consecutive frames tell a motion from its reverse.
        apart[:-1] = (apart[:-1] + apart[1:]) / 2
    # A filter of running sums may leave negative zeros.
    return np.stack([np.maximum(cv2.blur(one, (_AREA, _AREA)), 0) for one in apart])


def _earliest(costs: Floats) -> Floats:
    """Return the number of the least cost at each place, (h, w), smooth over places."""
    smooth: Floats = cv2.GaussianBlur(costs.argmin(0).astype(np.float32), (0, 0), 2)
    return smooth


def _period_of(frames: Floats, random: np.random.Generator) -> _Period:
    """Return the period with the least visible jumps."""
    count = len(frames)
    best, found = np.inf, _Period(max(count, 1), np.zeros(frames.shape[1:3], np.float32))
    shortest, longest = max(1, round(count * _SHORTEST)), count - 1 - min(5, count // 3)
    for length in range(shortest, longest + 1, max(1, count // _PERIODS)):
        apart = _costs(list(zip(frames[:-length], frames[length:], strict=True)))
        if len(apart) > 1:
            apart = apart[:-1]
        apart = np.sqrt(apart)
        apart += _AT_ONCE * apart.mean((1, 2), keepdims=True)
        cost = float(apart.min(0).mean()) / length**_LONGER
        cost *= 1 + _VARIES * random.random()
        if cost < best:
            best, found = cost, _Period(length, _earliest(apart) + np.float32(0.5))
    return found


def _extend(pieces: list[_Piece], period: _Period, until: int) -> None:
    """Append the footage to which places change up to a time."""
    newest = pieces[-1].footage
    first = int(period.starts.min()) + period.length  # the frame at which the first place jumps
    while newest.start + until >= first:
        enters = period.starts + period.length - newest.start
        if pieces[-1].enters is not None:
            enters = np.maximum(enters, pieces[-1].enters)
        newest = replace(newest, start=newest.start - period.length)
        pieces.append(_Piece(newest, enters))


def _first_pieces(looks: _Looks, clip: _Footage, period: _Period, lead: int) -> list[_Piece]:
    """Return the last frame, which moves on, and the footage that follows."""
    picture = looks.material.picture(-1)
    last = _footage(looks.material, lambda _: picture, looks.frames[-1:], 0, max(lead, 1))
    shown = [last.small(time) for time in range(1, lead + 1)]
    best, found = np.inf, _Piece(clip, None)
    for start in range(period.length) if lead else ():
        pieces = [_Piece(replace(clip, start=start), None)]
        _extend(pieces, period, lead)
        costs = _costs([(one, _seen(pieces, time)) for time, one in enumerate(shown, 1)])
        cost = float((np.sqrt(costs.min(0)) + _AT_ONCE * np.sqrt(costs[0])).mean())
        if cost < best:
            unseen = np.maximum(costs, looks.usual)
            best, found = cost, _Piece(pieces[0].footage, 1 + _earliest(unseen))
    return [_Piece(last, None), found]


def _apart(pieces: list[_Piece], footage: _Footage, begin: int, count: int) -> Floats:
    """Return the differences of footage from pieces at ``count`` times."""
    times = range(begin, begin + max(count, 1))
    return _costs([(_seen(pieces, at), footage.small(at)) for at in times])


def _seen(pieces: list[_Piece], time: int) -> Floats:
    """Return the small picture of a time."""
    seen = pieces[0].footage.small(time)
    for piece in pieces[1:]:
        seen = np.where(piece.share(time, 1)[..., None] > 0.5, piece.footage.small(time), seen)
    return seen


def _shown(pieces: list[_Piece], time: int, looks: _Looks) -> Tensor:
    """Return the picture of a time, (3, H, W)."""
    shares = [piece.share(time, looks.fade) for piece in pieces]
    first = max(number for number, share in enumerate(shares) if share.min() == 1)
    shown = pieces[first].footage.picture(time)
    for piece, share in zip(pieces[first + 1 :], shares[first + 1 :], strict=True):
        if share.max() == 0:
            continue
        small = torch.from_numpy(share)
        box = tuple(
            slice(max(side.start - 1, 0) * full // part, -(-(side.stop + 1) * full // part))
            for side, full, part in zip(bounds(small), shown.shape[1:], share.shape, strict=True)
        )
        weight = resized(small[None].to(shown.device), shown.shape[1:])[0][box]
        shown[:, *box].lerp_(piece.footage.picture(time)[:, *box], weight)
    return shown
