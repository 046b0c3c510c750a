"""Choose the frames of the clip that a collage shows next, and their place in the picture.

Random arrangements are compared by thumbnails. The cheapest arrangement resembles the footage that
it replaces, but not the earlier pictures of the dream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Front, cut_between
from cloudconv.dreaming.pictures import filled, resized, resized_flow
from cloudconv.metrics import luma
from cloudconv.models.ops import warp

THUMB = 72
"""Longest side of the thumbnails that footage is chosen by."""

_TRIED = 64  # random arrangements, of which the cheapest is used
_SINGLE = 0.2  # fraction of arrangements with a single placement
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_BAND = 0.5  # greatest width of the band in which the cut lies, in widths
_ENLARGED, _MOST = 0.4, 1.25  # fraction of enlarged placements, and their greatest scale
_LOOKS = 5  # moments of an arrangement that are compared with earlier pictures
_EVERY = 6  # frames between two remembered pictures …
_REMEMBERS = 200  # … and their greatest number
_SEEN = 10.0  # cost of a correlation of 1 with earlier pictures
_OTHER_WIND = 1.5  # cost of a wind that differs by the speed of the clip's wind
_COVERED = 4.0  # cost of an area that still parts hide in the clip
_LIGHT = 0.3  # cost of each level by which the light exceeds the clip's range …
_LIGHT_LEAST = 5.0  # … and the least size of this range, in levels
_REGIONS = 4  # regions of light along the longer side
_CONTRAST = 6.0  # cost of a contrast that differs by a factor of e
_CUT = 2.0  # cost of the difference along a cut, relative to `typical` in `choose`
_TWICE = 1.5  # cost if all clouds are visible twice
_PARTS = 80  # columns into which the picture is divided for that cost
_CHANCE = 0.2  # greatest random cost
_ASTRAY = 0.9  # greatest difference of footage's wind from the clip's, relative to its speed
_CALM = 0.1  # pixels of the small picture a frame, added to the speed of the clip's wind


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The footage to show: one placement, or two with a cut between them.

    Points of the sky drift with the wind from the first placement to the second. ``cut``: the time
    at which each point changes to the second, as a fraction of ``life``. ``life``: the number of
    frames for which the arrangement can be shown.
    """

    first: Placement
    second: Placement | None = None
    cut: Front | None = None
    life: int = 1


class ClipSelector:
    """A chooser of arrangements.

    Arrangements are compared by thumbnails, (3, h, w), with still parts replaced by sky.
    """

    def __init__(
        self, material: Material, light: Light, wind: Tensor, random: np.random.Generator
    ) -> None:
        """Make the thumbnails; ``wind``: (2, h, w) backward flow in pixels of the small picture."""
        self._random = random
        self._light = light
        height, width = material.small_size
        factor = min(1.0, THUMB / max(height, width))
        self.size = max(2, round(height * factor)), max(2, round(width * factor))
        self._covered = resized(material.wide_matte[None].cpu(), self.size)
        known = (1 - 1.5 * self._covered[0]).clamp(0, 1)
        smalls = (torch.from_numpy(material.glance(k)) for k in range(len(material)))
        shrunk = [resized(s.permute(2, 0, 1) / 255, self.size) for s in smalls]
        if float(self._covered.max()) > 0.1:
            shrunk = [filled(s, known) for s in shrunk]
        self._thumbs = torch.stack(shrunk)
        self._mean_luma = luma(self._thumbs).mean(0)
        self._moving = (1 - resized(torch.from_numpy(material.static)[None], self.size)[0]) > 0.5
        if not bool(self._moving.any()):
            self._moving = torch.ones_like(self._moving)
        self._wind = resized(wind.cpu(), self.size)
        self._thumb_wind = resized_flow(wind.cpu()[None], self.size)[0]
        self._speed = float(self._wind.norm(dim=0).mean()) + _CALM
        self._kinds = self._kept_winds()
        self._past: deque[Tensor] = deque(maxlen=_REMEMBERS)
        for thumb in self._thumbs[::_EVERY]:
            self._past.append(self._pattern(thumb))
        self._count = 0
        self._eastward = float(self._wind[0][self._moving].mean()) < 0
        self._clip_contrast = self._contrast(self._thumbs)
        self._light_fields = _light_fields(self._thumbs)
        # Light changes slowly, so the halves of the clip show by how much light may differ.
        halves = self._light_fields.chunk(2)
        self._light_reach = max(
            _LIGHT_LEAST, float(torch.cdist(halves[0], halves[-1]).amin(1).max())
        )
        self._gains: dict[Placement, Tensor] = {}
        self._ways = [torch.zeros_like(self._thumb_wind)]

    def _kept_winds(self) -> list[tuple[bool, bool]]:
        """Return the ways to play, (backwards, mirrored), that keep the wind about the same."""
        kinds = [(False, False)]
        for kind in ((True, True), (False, True), (True, False)):
            if self._astray(Placement(0, *kind)) < _ASTRAY:
                kinds.append(kind)
        return kinds[:3]

    def _astray(self, placement: Placement) -> float:
        apart = (placement.flow(self._wind) - self._wind).norm(dim=0)
        return float(apart[self._moving].mean()) / self._speed

    @property
    def slowness(self) -> float:
        """The difference of frames half the clip apart, relative to that of neighbours."""
        half = max(1, len(self._thumbs) // 2)
        moving = self._thumbs.mean(1)[:, self._moving]
        if len(moving) < 2:
            return 0.0
        near = (moving[1:] - moving[:-1]).abs().mean()
        return float((moving[half:] - moving[:-half]).abs().mean() / near.clamp_min(1e-6))

    def remember(self, picture: Tensor) -> None:
        """Remember the next picture of the dream, (3, H, W)."""
        if self._count % _EVERY == 0:
            self._past.append(self._pattern(resized(picture, self.size).cpu()))
        self._count += 1

    def thumb(self, shown: Arrangement, age: int) -> Tensor:
        """Return the thumbnail of an arrangement at an age in frames, (3, h, w)."""
        first = self._placed(shown.first, age)
        if shown.second is None:
            return first
        return torch.lerp(
            first, self._placed(shown.second, age), self._weight(shown, shown.second, age)
        )

    def _placed(self, placement: Placement, age: int) -> Tensor:
        thumb = placement.placed(self._thumbs[placement.frame(age, len(self._thumbs))])
        return thumb if placement.aligned else thumb * self._gain(placement)

    def _gain(self, placement: Placement) -> Tensor:
        """Return the gain that adapts a placement to the light of its place, (1, h, w)."""
        if placement not in self._gains:
            self._gains[placement] = self._light.moved(*placement.source(self.size))
        return self._gains[placement]

    def _weight(self, shown: Arrangement, second: Placement, age: int) -> Tensor:
        """Return the weight of the second placement: (h, w).

        Without a cut, the border is the middle of the overlap.
        """
        width = self.size[1]
        known = shown.first.known(width), second.known(width)
        if shown.cut is not None:
            weight = shown.cut.weights(self._displacement(age), age, shown.life)
            return weight.clamp(1 - known[0], known[1])
        return _second_side(*known).float().expand(self.size)

    def _displacement(self, age: int) -> Tensor:
        """Return the displacement to each point's place ``age`` frames ago: (2, h, w)."""
        while len(self._ways) <= age:
            wind = self._thumb_wind
            self._ways.append(wind + warp(self._ways[-1][None], wind[None])[0])
        return self._ways[age]

    def choose(self, seen: Sequence[Tensor], ages: Sequence[int], life: int) -> Arrangement:
        """Return the next arrangement.

        Args:
            seen: the thumbnails of the older footage at some moments of the transition, (3, h, w)
                each.
            ages: those moments, in frames after the arrangement's start.
            life: the number of frames that the arrangement must have.
        """
        tried = [self._drawn(life) for _ in range(_TRIED)]
        apart = np.array([self._apart(one, seen, ages) for one in tried])
        typical = max(float(np.median(apart)), 1e-6)
        cost = apart / typical + _CHANCE * self._random.random(len(tried))
        for number, one in enumerate(tried):
            cost[number] += self._picture_cost(one, life)
            for placement in (one.first, one.second):
                if placement is not None and not placement.aligned:
                    cost[number] += self._strain(placement) / (1 if one.second is None else 2)
            cost[number] += _CUT * self._cut_cost(one, life) / typical + _TWICE * _doubled(one)
        best = tried[int(cost.argmin())]
        self._gains.clear()
        if best.second is None:
            return best
        first, second = best.first, best.second
        cut = cut_between(
            lambda age: self._placed(first, age),
            lambda age: self._placed(second, age),
            _band(first.known(self.size[1]), second.known(self.size[1])),
            self._thumb_wind,
            life,
        )
        return replace(best, cut=cut)

    def _strain(self, placement: Placement) -> float:
        """Return the cost of a placement for its different wind and for sky that is hidden."""
        width = self.size[1]
        known = (placement.known(width) * self._moving).clamp_min(1e-3)
        hidden = float((placement.placed(self._covered)[0] * known).sum() / known.sum())
        return _OTHER_WIND * self._astray(placement) + _COVERED * hidden

    def _drawn(self, life: int) -> Arrangement:
        random = self._random
        first, second = (
            self._played(life, *self._kinds[int(random.integers(len(self._kinds)))])
            for _ in range(2)
        )
        if random.random() < _SINGLE:
            room = (first.scale - 1) / 2
            return Arrangement(replace(first, shift=random.uniform(-room, room)), life=life)
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.random()
        # Clouds drift from the first placement to the second.
        side = 1 if self._eastward else -1
        first = replace(first, shift=-side * (split * beyond + (first.scale - 1) / 2))
        second = replace(second, shift=side * ((1 - split) * beyond + (second.scale - 1) / 2))
        return Arrangement(first, second, life=life)

    def _played(self, life: int, backwards: bool, mirrored: bool) -> Placement:
        """Return a random placement that plays in one direction."""
        random, count = self._random, len(self._thumbs)
        offset = int(random.integers(max(count - life, 0) + 1))
        start = count - 1 - offset if backwards else offset
        scale = random.uniform(1.0, _MOST) if random.random() < _ENLARGED else 1.0
        return Placement(start, backwards, mirrored, scale=scale)

    def _apart(self, shown: Arrangement, seen: Sequence[Tensor], ages: Sequence[int]) -> float:
        differences = [
            float((self.thumb(shown, age) - beneath).abs().mean(0)[self._moving].mean())
            for beneath, age in zip(seen, ages, strict=True)
        ]
        return float(np.mean(differences))

    def _cut_cost(self, shown: Arrangement, life: int) -> float:
        """Return the visible difference of two placements; 0 for a single one.

        The result is the least difference along a cut, plus the mean difference in the part of the
        overlap that the wind crosses.
        """
        if shown.second is None:
            return 0.0
        width = self.size[1]
        first, second = _band(shown.first.known(width), shown.second.known(width))
        both = (first * second) > 0
        one, two = (self._placed(p, life // 2)[..., both] for p in (shown.first, shown.second))
        # A cut is continuous, so the mean of five rows counts.
        apart = functional.avg_pool2d((one - two).abs().mean(0, keepdim=True), (5, 1), 1)[0]
        changing = float(self._thumb_wind[0].abs().mean()) * life / max(int(both.sum()), 1)
        return float(apart.amin(1).mean() + min(changing, 1.0) * apart.mean())

    def _picture_cost(self, shown: Arrangement, life: int) -> float:
        """Return the cost of likeness to earlier pictures, of other contrast and other light."""
        ages = np.linspace(0.3 * life, 0.9 * life, _LOOKS).astype(int)
        thumbs = torch.stack([self.thumb(shown, int(age)) for age in ages])
        patterns = torch.stack([self._pattern(thumb) for thumb in thumbs])
        likeness = float((patterns @ torch.stack(list(self._past)).T).amax(1).mean().clamp_min(0))
        contrast = self._contrast(thumbs) / self._clip_contrast
        apart = torch.cdist(_light_fields(thumbs), self._light_fields).amin(1)
        return (
            _SEEN * likeness
            + _CONTRAST * abs(log(contrast))
            + _LIGHT * float((apart - self._light_reach).clamp_min(0).mean())
        )

    def _contrast(self, thumbs: Tensor) -> float:
        """Return the mean standard deviation of luma over the moving parts."""
        return max(float(luma(thumbs)[:, self._moving].std(1).mean()), 1e-3)

    def _pattern(self, thumb: Tensor) -> Tensor:
        """Return the difference of a thumbnail from the mean, as a vector of length 1."""
        apart = (luma(thumb[None])[0] - self._mean_luma)[self._moving]
        apart = apart - apart.mean()
        pattern: Tensor = apart / apart.norm().clamp_min(1e-6)
        return pattern


def _second_side(first: Tensor, second: Tensor) -> Tensor:
    """Return the columns of the second placement, (w,) bool, from the known columns of both."""
    columns = torch.arange(len(first))
    middle, left, right = (
        float((columns * part).sum() / part.sum().clamp_min(1))
        for part in (first * second, first, second)
    )
    return columns > middle if right > left else columns < middle


def _light_fields(thumbs: Tensor) -> Tensor:
    """Return the colours of large regions relative to the whole, in levels: (n, values)."""
    fields = functional.adaptive_avg_pool2d(thumbs, (_REGIONS - 1, _REGIONS))
    fields = fields - fields.mean((2, 3), keepdim=True)
    levels: Tensor = 255 * fields.flatten(1) / (_REGIONS * (_REGIONS - 1)) ** 0.5
    return levels


def _band(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns that each placement may show, (w,), 1 or 0, from those that are known.

    The cut lies in a band around the middle of the overlap. Otherwise a placement that covers the
    whole picture would hide the other.
    """
    reach = round(_BAND / 2 * len(first))
    side = _second_side(first, second).float()[None]
    wide = functional.max_pool1d(side, 2 * reach + 1, 1, reach)[0]
    narrow = 1 - functional.max_pool1d(1 - side, 2 * reach + 1, 1, reach)[0]
    return first * (1 - narrow), second * wide


def _doubled(shown: Arrangement) -> float:
    """Return the fraction of the clip's width that is visible in both placements."""
    if shown.second is None:
        return 0.0
    both = (shown.first, shown.second)
    side = _second_side(*(placement.known(_PARTS) for placement in both))
    visible = [
        torch.histc(placement.source((1, _PARTS))[1][0][columns], _PARTS // 4, 0, 1) > 0
        for placement, columns in zip(both, (~side, side), strict=True)
    ]
    return float((visible[0] & visible[1]).float().mean())
