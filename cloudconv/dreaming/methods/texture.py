"""Mode ``texture``: play the clip for ever, and jump back where that is seen least.

The dream consists of shots: the last real frame, and then parts of the clip, which
:mod:`cloudconv.dreaming.methods.jumps` chooses. Each begins at a frame that looks like the
frame shown before. An interpolation network makes the pictures between the two, so things
move to their new place and do not dissolve. But water and clouds that move in one direction
would run back. There both pictures go on moving instead, and each place changes at its own
time.

Sources: Schödl, Szeliski, Salesin and Essa, Video Textures, SIGGRAPH 2000; Kwatra, Schödl,
Essa, Turk and Bobick, Graphcut Textures, SIGGRAPH 2003, for the change by place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.doubts import doubled
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import mean_flow
from cloudconv.dreaming.methods.base import DreamFrame, Filmed, Jump, Options
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.jumps import PART, Jumps, Pairing, Stay, walk
from cloudconv.dreaming.methods.transition import Points, Seam, seam_of
from cloudconv.dreaming.vitals.residual import NETWORK
from cloudconv.images import (
    LONGEST_SIDE,
    THUMB_SIDE,
    Bytes,
    Floats,
    as_picture,
    lerp,
    picture_from,
    reduced,
    resized_flow,
    spread,
    tensor_of,
    warp,
    weight_size,
)
from cloudconv.models import registry
from cloudconv.models.pair import Pair
from cloudconv.settings.values import SCALES

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
_EDGE = 0.1  # part of a jump, at its begin and at its end, in which the shot itself fades
_EXITS = 6
_KEPT_BYTES = 1 << 27  # of the pictures of jumps, which may come again


def exits(material: Material, most: int) -> list[int]:
    """Return numbers of points before the last one after which the dream may begin.

    They are one of each of six parts of the last ``most`` points: the one that looks most
    like another.
    """
    jumps = material.original.once(_jumps)
    last = len(material) - 1
    unlike = [jumps.entries(last - before).min() for before in range(most + 1)]
    parts = [part.tolist() for part in np.array_split(range(1, most + 1), _EXITS)]
    return [min(part, key=unlike.__getitem__) for part in parts if part]


def texture(material: Material, options: Options) -> Iterator[DreamFrame]:
    """Yield the clip's frames forwards, again and again."""
    clip = _Clip(material, options)
    shots = clip.shots()
    before = now = next(shots)
    coming = next(shots, None)
    for time in range(1, options.frames + 1):
        while coming is not None and time >= coming.stay.begins:
            before = now
            now = coming
            coming = next(shots, None)
        yield clip.joined(before, now, time)


@dataclass(frozen=True, slots=True)
class _Shot:
    """The pictures of a stay, by the time of the dream.

    ``picture``: returns the picture of a time, (H, W, 3), and ``number`` the real frame of
    a time. ``seam``: the times at which the places change to this shot; None if a network
    makes the change. ``passing``: returns the fast motion that is added to the network's
    pictures, or None.
    """

    stay: Stay
    picture: Callable[[int], Floats]
    number: Callable[[int], int]
    seam: Seam | None = None
    passing: Callable[[int], Floats] | None = None


class _Clip:
    """The frames of a clip, and how they follow each other."""

    def __init__(self, material: Material, options: Options) -> None:
        self._material = material
        self._options = options
        self._device = options.device
        self._network = registry.shared(NETWORK, str(options.device), options.dtype)
        scales = [s for s in SCALES if s <= 1 and s * max(material.size) <= LONGEST_SIDE]
        self._scale = max(scales, default=min(SCALES))
        # The plan depends on the original material, also in a dream of small pictures.
        self._plan = material.original
        wind = self._plan.once(_wind)
        self._own = self._plan.once(_own)
        self._points = Points(resized_flow(wind, self._own.shape))
        self._jumps = self._plan.once(_jumps)
        self._slow = round(_SLOW / float(material.step)) * bool(wind.any())
        # The latest changes, and the pictures of jumps, which may come again.
        self._change = lru_cache(self._made_change)
        self._kept: dict[Any, tuple[Floats, Floats | None]] = {}

    def shots(self) -> Iterator[_Shot]:
        """Yield the shots of the dream in their order."""
        home: Any = self._options.loop_to
        for stay in walk(self._jumps, self._plan, self._options):
            if stay.is_home:
                yield _Shot(stay, lambda _: home, lambda _: 0)
            elif stay.jump is None:
                yield from self._entering(stay) if stay.lasts else [self._shot(stay)]
            else:
                lasts, seam = self._change(stay.jump, stay.lasts, stay.most)
                yield self._shot(stay._replace(lasts=lasts), seam)

    def _entering(self, stay: Stay) -> Iterator[_Shot]:
        """Yield the last frame shown, and the clip.

        Between two pictures that stand still, things move evenly. But rain must not stand
        still for long, so in a long entry the rain of the clip passes in front of both
        pictures.
        """
        start, _, lasts, most, *_ = stay
        shown = self._options.leaves % self._jumps.count
        if lasts <= self._slow:
            ahead = _onwards(self._material, shown, self._device, self._jumps.least // 2)
            small = self._small(shown)
            yield _Shot(stay, lambda _: next(ahead), lambda _: self._real(shown))
            count, seam = self._by_place(
                lambda age: warp(small, self._points.back(age), how=cv2.INTER_LINEAR),
                start + 1,
                lasts,
                most,
            )
            yield self._shot(stay._replace(lasts=count), seam)
            return
        last = self._material.picture(shown)
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
            one, two, three = (self._material.picture(k) for k in numbers)
            low = np.minimum(one, two)
            high = np.maximum(one, two)
            slow = np.minimum(np.maximum(three, low), high)  # the median
            return slow, two - slow

        before = last
        after = clip(entered)
        if is_long:
            before = split(shown - beside)[0]
            after = split(start + entered)[0]
        yield _Shot(
            stay,
            lambda time: lerp(last, before, min(time / (2 * beside), 1.0)),
            lambda _: self._real(shown),
        )
        yield _Shot(
            stay,
            lambda time: after if time < entered else clip(time),
            lambda time: self._real(start + max(time, entered)),
            passing=(lambda time: split(start + time)[1]) if is_long else None,
        )

    def _made_change(self, jump: Pairing, lasts: int, most: int) -> tuple[int, Seam | None]:
        """Return the number of frames of a jump's change, and the seam; see `Stay`."""
        old, new = jump
        if 0 < lasts <= self._slow:
            return self._by_place(lambda age: self._small(old + age), new, lasts, most)
        return min(lasts, most), None

    def _by_place(
        self, old: Callable[[int], Floats], new: int, lasts: int, most: int
    ) -> tuple[int, Seam]:
        """Return a change by place to frame ``new`` and those after, as `_made_change`.

        ``old``: the small picture shown before, by its number of frames from the begin.
        """
        count = min(max(lasts, min(4 * lasts, self._jumps.least)), most)
        seam = seam_of(
            old,
            lambda age: self._small(new + age),
            self._points.wind,
            count,
            np.random.default_rng((self._options.seed, max(new, 0))),
            self._own,
        )
        return count, seam

    def _small(self, number: int) -> Floats:
        return _thumb(self._plan.glance(self._inside(number)))

    def joined(self, before: _Shot, now: _Shot, time: int) -> DreamFrame:
        """Return the frame of a time, between two shots if the later one has just begun."""
        _, begins, lasts, _, again, is_home = now.stay
        age = time - begins + 1
        share = age / (lasts + 1)
        if share >= 1:
            return DreamFrame(partial(now.picture, time), Filmed(now.number(time)))
        after = None if is_home else now.number(time)
        jump = Jump(before.number(time), after, share, begins - 1, lasts)
        key = again, lasts, age
        new, double = self._kept.get(key) or self._between(before, now, time, jump)
        if again is not None and (len(self._kept) + 1) * new.nbytes <= _KEPT_BYTES:
            self._kept[key] = new, double
        return DreamFrame.made(new, jump, double)

    def _between(
        self, before: _Shot, now: _Shot, time: int, jump: Jump
    ) -> tuple[Floats, Floats | None]:
        """Return the picture of a time in a jump, and see `DreamFrame.ghost`."""
        pictures = [shot.picture(time) for shot in (before, now)]
        if now.seam is None:
            new = self._interpolated(pictures, jump.part)
            return new if now.passing is None else new + now.passing(time), None
        age = time - jump.start
        weights = now.seam.weights(
            self._points.back(age), age, weight_size(*self._material.size)
        )
        return blended(pictures, [1 - weights, weights]), doubled(pictures, weights)

    def _interpolated(self, pictures: list[Floats], share: float) -> Floats:
        """Return the network's picture between two others."""
        both = [_sent(picture, self._device) for picture in pictures]
        made = self._network.between(Pair.of(both, share, None, self._scale))
        new = picture_from(made[0])
        # The network's picture is softer than both, and a sudden end of this would be seen.
        return lerp(pictures[round(share)], new, min(share, 1 - share, _EDGE) / _EDGE)

    def _shot(self, stay: Stay, seam: Seam | None = None) -> _Shot:
        picture = self._from(stay.start)
        return _Shot(stay, picture, lambda time: self._real(stay.start + time), seam)

    def _real(self, number: int) -> int:
        return self._material.source_of(self._inside(number))

    def _from(self, start: int) -> Callable[[int], Floats]:
        """Return a function from a time to the frame ``start + time``: (H, W, 3)."""
        return lambda time: self._material.picture(self._inside(start + time))

    def _inside(self, number: int) -> int:
        return min(max(number, 0), self._jumps.count - 1)


def _jumps(material: Material) -> Jumps:
    """Return the jumps of a clip, which leave time for a change by place if it has one."""
    least = min(_BY_PLACE / float(material.step), PART * len(material))
    return Jumps(material, round(least) * bool(material.once(_wind).any()))


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


def _sent(picture: Floats, device: torch.device | str) -> Tensor:
    """Return a picture on the device of the network: (1, 3, H, W)."""
    return tensor_of(picture)[None].to(device)
