"""Choose the frames of the clip that a collage shows next, and their place in the picture.

Random arrangements are compared by thumbnails. The cheapest arrangement resembles the footage that
it replaces, but not the earlier pictures of the dream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Front, cut_between
from cloudconv.dreaming.pictures import filled, resized, resized_flow
from cloudconv.dreaming.vitals.symmetry import detail, symmetry
from cloudconv.metrics import luma
from cloudconv.models.ops import warp

THUMB = 72
"""Longest side of the thumbnails that footage is chosen by."""

_TRIED = 96  # random arrangements, of which the cheapest is used
_SINGLE = 0.2  # fraction of arrangements with a single placement
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_LEAST_SPLIT = 0.2  # least part of the shift of two placements that either of them has
_BAND = 0.3  # greatest width of the band in which the cut lies, in widths
_ENLARGED, _MOST = 0.4, 1.2  # fraction of enlarged placements, and their greatest scale
_LATER = 0.55, 0.75, 0.95  # moments after the transition that are compared, relative to the life
_EVERY = 6  # frames between two remembered pictures …
_REMEMBERS = 200  # … and their greatest number
_APART = 2.0  # cost of the median difference from the pictures that are replaced
_SEEN = 20.0  # cost of a squared correlation of 1 with earlier pictures
_OTHER_WIND = 1.5  # cost of a wind that differs by the speed of the clip's wind
_COVERED = 4.0  # cost of an area that still parts hide in the clip
_LIGHT = 0.6  # cost of each level by which the light exceeds the clip's range …
_LIGHT_LEAST = 5.0  # … and the least size of this range, in levels
_REGIONS = 4  # regions of light along the longer side
_CONTRAST = 3.0  # cost of a contrast that differs by a factor of e
_MIRRORED = 30.0  # cost of a symmetry of old and new pictures that is 1 above …
_BY_CHANCE = 0.6  # … this symmetry, which unrelated pictures may have
_CUT = 2.0  # cost of the difference along a cut, relative to `typical` in `choose`
_TWICE = 3.0  # cost if all clouds are visible twice
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
        self._directions = self._kept_winds()
        self._past: deque[Tensor] = deque(maxlen=_REMEMBERS)
        self._past.extend(self._patterns(self._thumbs[::_EVERY]))
        self._count = 0
        self._eastward = float(self._wind[0][self._moving].mean()) < 0
        self._clip_contrast = float(self._contrast(self._thumbs).mean())
        self.contrast, self.level = 1.0, 0.0
        self._light_fields = _light_fields(self._thumbs)
        # Light changes slowly, so the halves of the clip show by how much light may differ.
        halves = self._light_fields.chunk(2)
        self._light_reach = max(
            _LIGHT_LEAST, float(torch.cdist(halves[0], halves[-1]).amin(1).max())
        )
        self._gains: dict[Placement, Tensor] = {}
        self._displacements = [torch.zeros_like(self._thumb_wind)]

    def _kept_winds(self) -> dict[tuple[bool, bool], float]:
        """Return the directions, (backwards, mirrored), that keep the wind about the same.

        The value is the mean difference from the clip's wind, relative to its speed.
        """
        kept = {(False, False): 0.0}
        for direction in ((True, True), (False, True), (True, False)):
            apart = (Placement(0, *direction).flow(self._wind) - self._wind).norm(dim=0)
            astray = float(apart[self._moving].mean()) / self._speed
            if astray < _ASTRAY and len(kept) < 3:
                kept[direction] = astray
        return kept

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
        """Remember the next picture of the dream, (3, H, W).

        Only the first of every six pictures counts. ``contrast`` becomes the contrast of this
        picture, relative to the clip's, and ``level`` its mean luma, from -1 to 1, minus the
        clip's.
        """
        if self._count % _EVERY == 0:
            thumb = resized(picture, self.size).cpu()[None]
            self._past.append(self._patterns(thumb)[0])
            self.contrast = float(self._contrast(thumb)[0]) / self._clip_contrast
            self.level = float((luma(thumb)[0] - self._mean_luma)[self._moving].mean())
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
        while len(self._displacements) <= age:
            wind = self._thumb_wind
            self._displacements.append(wind + warp(self._displacements[-1][None], wind[None])[0])
        return self._displacements[age]

    def choose(self, seen: Sequence[Tensor], ages: Sequence[int], life: int) -> Arrangement:
        """Return the next arrangement.

        Args:
            seen: the thumbnails of the older footage at some moments of the transition, (3, h, w)
                each.
            ages: those moments, in frames after the arrangement's start.
            life: the number of frames that the arrangement must have.
        """
        tried = [self._drawn(life) for _ in range(_TRIED)]
        looks = [*ages, *(round(part * life) for part in _LATER)]
        thumbs = torch.stack([torch.stack([self.thumb(t, age) for age in looks]) for t in tried])
        changing, shown = thumbs[:, : len(ages)], thumbs[:, len(ages) - 1 :]
        before = torch.stack(list(seen))
        apart = (changing - before).abs().mean(2)[..., self._moving].mean((1, 2))
        typical = float(apart.median().clamp_min(1e-6))
        cost = _APART * apart / typical + self._picture_cost(shown)
        mirrored = self._symmetry(before, changing)
        cost += _MIRRORED * (mirrored - _BY_CHANCE).clamp_min(0)
        cost += _CHANCE * torch.from_numpy(self._random.random(len(tried))).float()
        for number, one in enumerate(tried):
            cost[number] += self._strain(one)
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

    def _strain(self, shown: Arrangement) -> float:
        """Return the cost of an arrangement's different wind, and of sky that is hidden."""
        costs = []
        for placement in (shown.first, shown.second or shown.first):
            known = (placement.known(self.size[1]) * self._moving).clamp_min(1e-3)
            hidden = float((placement.placed(self._covered)[0] * known).sum() / known.sum())
            astray = self._directions[placement.backwards, placement.mirrored]
            costs.append(_OTHER_WIND * (astray + placement.scale - 1) + _COVERED * hidden)
        return sum(costs) / 2

    def _drawn(self, life: int) -> Arrangement:
        random = self._random
        # Beside each other, a placement and a mirrored one would be symmetric.
        directions = list(self._directions)
        direction = directions[int(random.integers(len(directions)))]
        first, second = (self._played(life, *direction) for _ in range(2))
        if random.random() < _SINGLE:
            scale = random.uniform(1.0, _MOST)
            room = (scale - 1) / 2
            shift = random.uniform(-room, room)
            return Arrangement(replace(first, scale=scale, shift=shift), life=life)
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.uniform(_LEAST_SPLIT, 1 - _LEAST_SPLIT)
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

    def _picture_cost(self, thumbs: Tensor) -> Tensor:
        """Return the cost of likeness to earlier pictures, of other contrast and other light.

        ``thumbs``: (arrangements, moments, 3, h, w).
        """
        flat, shape = thumbs.flatten(0, 1), thumbs.shape[:2]
        likeness = (self._patterns(flat) @ torch.stack(list(self._past)).T).amax(1)
        likeness = likeness.reshape(shape).mean(1)
        contrast = self._contrast(flat).reshape(shape).mean(1) / self._clip_contrast
        apart = torch.cdist(_light_fields(flat), self._light_fields).amin(1).reshape(shape)
        return (
            _SEEN * likeness.clamp_min(0).square()
            + _CONTRAST * contrast.log().abs()
            + _LIGHT * (apart - self._light_reach).clamp_min(0).mean(1)
        )

    def _symmetry(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much new pictures mirror the old ones, (arrangements,).

        ``before``: (moments, 3, h, w). ``after``: (arrangements, moments, 3, h, w).
        """
        old = detail(255 * luma(before), self._moving).repeat(len(after), 1, 1)
        new = detail(255 * luma(after.flatten(0, 1)), self._moving)
        both = torch.maximum(symmetry(old, new), symmetry(new, old))
        return both.reshape(after.shape[:2]).amax(1)

    def _contrast(self, thumbs: Tensor) -> Tensor:
        """Return the standard deviation of luma over the moving parts: (n,)."""
        return luma(thumbs)[:, self._moving].std(1).clamp_min(1e-3)

    def _patterns(self, thumbs: Tensor) -> Tensor:
        """Return the differences of thumbnails from the mean, as rows of length 1."""
        apart = (luma(thumbs) - self._mean_luma)[:, self._moving]
        apart = apart - apart.mean(1, keepdim=True)
        rows: Tensor = apart / apart.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return rows


def _second_side(first: Tensor, second: Tensor) -> Tensor:
    """Return the columns of the second placement, (w,) bool, from the known columns of both."""
    columns = torch.arange(len(first))
    middle, left, right = (
        float((columns * part).sum() / part.sum().clamp_min(1))
        for part in (first * second, first, second)
    )
    return columns > middle if right > left else columns < middle


def _light_fields(thumbs: Tensor) -> Tensor:
    """Return the colours of large regions, in levels: (n, values)."""
    fields = functional.adaptive_avg_pool2d(thumbs, (_REGIONS - 1, _REGIONS))
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
    one, two = (
        placement.source((1, _PARTS))[1][0][columns]
        for placement, columns in zip(both, (~side, side), strict=True)
    )
    return max(0.0, float(min(one.max(), two.max()) - max(one.min(), two.min())))
