"""Choose the frames of the clip that a collage shows next, and their place in the picture.

Random arrangements are compared by thumbnails. The cheapest arrangement resembles the footage that
it replaces, but not the earlier pictures of the dream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.symmetry import detail, symmetry
from cloudconv.dreaming.methods.transition import Front, cut_between
from cloudconv.dreaming.pictures import filled, resized, resized_flow
from cloudconv.metrics import luma
from cloudconv.models.ops import warp

THUMB = 72
"""Longest side of the thumbnails that footage is chosen by."""

_LEAST = 8  # least side of these thumbnails, also of a tiny or narrow picture
_TRIED = 200  # random arrangements, of which the cheapest is used
_AT_ONCE = 20  # arrangements that are compared in one step, which bounds the memory
_SINGLE = 0.2  # fraction of arrangements with a single placement
_OVERLAPS = 0.4, 0.65  # least and greatest overlap of two placements, in widths
_LATER = 0.55, 0.75, 0.95  # moments after the transition that are compared, relative to the life
_EVERY = 6  # frames between two remembered pictures …
_REMEMBERS = 200  # … and their greatest number
_APART = 2.0  # cost of the median difference from the pictures that are replaced
_SEEN = 40.0  # cost of a squared correlation of 1 with earlier pictures, a mirror image, or itself
_COVERED = 4.0  # cost of an area that still parts hide in the clip
_LIGHT = 1.2  # cost of each level by which the light exceeds the clip's range …
_LIGHT_LEAST = 5.0  # … and the least size of this range, in levels
_REGIONS = 4  # regions of light along the longer side
_CUT = 2.0  # cost of the difference along a cut, relative to `typical` in `choose`
_WIDE, _TALL = 0.2, 2 / 3  # size of the parts that are compared with parts beside, of the picture
_FAINT = 0.1  # added to the contrast of both parts, so that a part without detail does not count
_BESIDE = 0.12, 0.7  # least and greatest distance of such a part, in widths
_ASTRAY = 0.9  # greatest difference of footage's wind from the clip's, relative to its speed


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

    def known(self, width: int) -> Tensor:
        """Return the columns that one of the placements shows: (width,) bool."""
        known = self.first.known(width)
        if self.second is not None:
            known = known + self.second.known(width)
        return known > 0


class ClipSelector:
    """A chooser of arrangements.

    Arrangements are compared by thumbnails, (3, h, w), with still parts replaced by sky, and with
    the light of the last frame.
    """

    def __init__(
        self, material: Material, light: Light, wind: Tensor, random: np.random.Generator
    ) -> None:
        """Make the thumbnails; ``wind``: (2, h, w) backward flow in pixels of the small picture."""
        self._material = material
        self._random = random
        self._light = light
        height, width = material.small_size
        factor = min(1.0, THUMB / max(height, width))
        self.size = max(_LEAST, round(height * factor)), max(_LEAST, round(width * factor))
        self._covered = resized(material.matte[None].cpu(), self.size)
        known = (1 - 1.5 * self._covered[0]).clamp(0, 1)
        thumbs = []
        for k in range(len(material)):
            levels = torch.from_numpy(material.glance(k)).permute(2, 0, 1)
            thumb = filled(resized(levels / 255, self.size), known)
            gain = light.on(k)
            thumbs.append(thumb if gain is None else thumb * resized(gain, self.size))
        self._thumbs = torch.stack(thumbs)
        self._mean_luma = luma(self._thumbs).mean(0)
        self._moving = (1 - resized(torch.from_numpy(material.static)[None], self.size)[0]) > 0.5
        if int(self._moving.sum()) < 2:  # one pixel has no contrast
            self._moving = torch.ones_like(self._moving)
        self._wind = resized(wind.cpu(), self.size)
        self._thumb_wind = resized_flow(wind.cpu()[None], self.size)[0]
        self._directions = self._kept_winds()
        self._past: deque[Tensor] = deque(maxlen=_REMEMBERS)
        self._past.extend(self._patterns(self._thumbs[::_EVERY]))
        self._count = 0
        self._eastward = float(self._wind[0][self._moving].mean()) < 0
        self._light_fields = _light_fields(self._thumbs)
        # Light changes slowly, so the halves of the clip show by how much light may differ.
        halves = self._light_fields.chunk(2)
        self._light_reach = max(
            _LIGHT_LEAST, float(torch.cdist(halves[0], halves[-1]).amin(1).max())
        )
        self._clip_contrast = float(self._contrast(self._thumbs).mean())
        self.contrast = 1.0
        self._displacements = [torch.zeros_like(self._thumb_wind)]

    def _kept_winds(self) -> list[tuple[bool, bool]]:
        """Return the directions, (backwards, mirrored), that keep the wind about the same."""
        kept = [(False, False)]
        speed = float(self._wind.norm(dim=0)[self._moving].mean())
        for direction in ((True, True), (False, True), (True, False)):
            apart = (Placement(0, *direction).flow(self._wind) - self._wind).norm(dim=0)
            if float(apart[self._moving].mean()) < _ASTRAY * speed and len(kept) < 3:
                kept.append(direction)
        return kept

    def remember(self, picture: Tensor) -> None:
        """Remember the next picture of the dream, (3, H, W); the first of every six counts.

        ``contrast`` becomes the contrast of this picture, relative to the clip's.
        """
        if self._count % _EVERY == 0:
            thumb = resized(picture, self.size).cpu()[None]
            self._past.append(self._patterns(thumb)[0])
            self.contrast = float(self._contrast(thumb)[0]) / self._clip_contrast
        self._count += 1

    def thumb(self, shown: Arrangement, age: int) -> Tensor:
        """Return the thumbnail of an arrangement at an age in frames, (3, h, w)."""
        first = self._placed(shown.first, age)
        if shown.second is None:
            return first
        assert shown.cut is not None
        known, second_known = (p.known(self.size[1]) for p in (shown.first, shown.second))
        weight = shown.cut.weights(self._displacement(age), age, shown.life)
        weight = weight.clamp(1 - known, second_known)
        return torch.lerp(first, self._placed(shown.second, age), weight)

    def _placed(self, placement: Placement, age: int) -> Tensor:
        thumb = placement.placed(self._thumbs[placement.frame(age, len(self._thumbs))])
        return thumb * self._light.moved(placement.source(self.size[1]), self.size[0])

    def _composed(self, tried: Sequence[Arrangement], ages: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the thumbnails of arrangements, with the border in the middle of the overlap.

        Returns:
            (arrangements, ages, 3, h, w), and the still fraction of the clip at the place that each
            pixel shows, (arrangements, h, w).
        """
        (height, width), count = self.size, len(self._thumbs)
        frames, sources = [], []
        for one in tried:
            both = one.first, one.second or one.first
            side = _second_side(*(placement.known(width) for placement in both))
            numbers = torch.tensor([[p.frame(age, count) for p in both] for age in ages])
            frames.append(torch.where(side, numbers[:, 1:], numbers[:, :1]))
            source, other = (placement.source(width) for placement in both)
            sources.append(torch.where(side, other, source))
        columns = (torch.stack(sources) * width).long().clamp(0, width - 1)
        rows, columns = torch.arange(height)[None, :, None], columns[:, None]
        # The indices are (arrangements, ages, h, w); each chooses a colour of (frames, h, w, 3).
        chosen = torch.stack(frames)[:, :, None], rows[:, None], columns[:, None]
        thumbs = self._thumbs.permute(0, 2, 3, 1)[chosen].permute(0, 1, 4, 2, 3)
        gains = torch.stack([self._light.moved(source, height) for source in sources])
        return thumbs * gains[:, None], self._covered[0][rows, columns]

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
        before = torch.stack(list(seen))
        apart, cost = torch.zeros(_TRIED), torch.zeros(_TRIED)
        for start in range(0, _TRIED, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            thumbs, covered = self._composed(tried[part], looks)
            changing, shown = thumbs[:, : len(ages)], thumbs[:, len(ages) - 1 :]
            apart[part] = (changing - before).abs().mean(2)[..., self._moving].mean((1, 2))
            doubled = self._doubled(before, changing).clamp_min(0)
            cost[part] = self._picture_cost(shown) + _SEEN * doubled.square().sum(0)
            cost[part] += _COVERED * covered[:, self._moving].mean(1)
        typical = float(apart.median().clamp_min(1e-6))
        cost += _APART * apart / typical
        for number, one in enumerate(tried):
            if not bool(one.known(self.size[1]).all()):
                cost[number] = inf
            cost[number] += _CUT * self._cut_cost(one, life) / typical
        best = tried[int(cost.argmin())]
        if best.second is None:
            return best
        first, second = best.first, best.second
        cut = cut_between(
            lambda age: self._placed(first, age),
            lambda age: self._placed(second, age),
            (first.known(self.size[1]), second.known(self.size[1])),
            self._thumb_wind,
            life,
        )
        return replace(best, cut=cut)

    def _drawn(self, life: int) -> Arrangement:
        random = self._random
        # Beside each other, a placement and a mirrored one would be symmetric.
        direction = self._directions[int(random.integers(len(self._directions)))]
        first, second = (self._played(life, *direction) for _ in range(2))
        if random.random() < _SINGLE:
            return Arrangement(first, life=life)
        beyond = 1 - random.uniform(*_OVERLAPS)
        split = random.random()
        # Clouds drift from the first placement to the second.
        side = 1 if self._eastward else -1
        first = replace(first, shift=-side * split * beyond)
        second = replace(second, shift=side * (1 - split) * beyond)
        return Arrangement(first, second, life=life)

    def _played(self, life: int, backwards: bool, mirrored: bool) -> Placement:
        """Return a random placement that plays in one direction."""
        random, count = self._random, len(self._thumbs)
        offset = int(random.integers(max(count - life, 0) + 1))
        start = count - 1 - offset if backwards else offset
        end = Placement(start, backwards).frame(life, count)
        return Placement(start, backwards, mirrored, hidden=self._material.hidden(start, end))

    def _cut_cost(self, shown: Arrangement, life: int) -> float:
        """Return the visible difference of two placements; 0 for a single one.

        The result is the least difference along a cut, plus the mean difference in the part of the
        overlap that the wind crosses.
        """
        if shown.second is None:
            return 0.0
        width = self.size[1]
        both = (shown.first.known(width) * shown.second.known(width)) > 0
        one, two = (self._placed(p, life // 2)[..., both] for p in (shown.first, shown.second))
        # A cut is continuous, so the mean of five rows counts.
        apart = functional.avg_pool2d((one - two).abs().mean(0, keepdim=True), (5, 1), 1)[0]
        changing = float(self._thumb_wind[0].abs().mean()) * life / max(int(both.sum()), 1)
        return float(apart.amin(1).mean() + min(changing, 1.0) * apart.mean())

    def _picture_cost(self, thumbs: Tensor) -> Tensor:
        """Return the cost of likeness to earlier pictures, and of other light.

        ``thumbs``: (arrangements, moments, 3, h, w).
        """
        flat, shape = thumbs.flatten(0, 1), thumbs.shape[:2]
        likeness = (self._patterns(flat) @ torch.stack(list(self._past)).T).amax(1)
        likeness = likeness.reshape(shape).mean(1)
        apart = torch.cdist(_light_fields(flat), self._light_fields).amin(1).reshape(shape)
        beyond = (apart - self._light_reach).clamp_min(0).mean(1)
        return _SEEN * likeness.clamp_min(0).square() + _LIGHT * beyond

    def _doubled(self, before: Tensor, after: Tensor) -> Tensor:
        """Return how much new pictures mirror old ones, and how much they show clouds twice.

        ``before``: (moments, 3, h, w). ``after``: (arrangements, moments, 3, h, w). The result is
        (2, arrangements).
        """
        middle, shape = len(before) // 2, after.shape[:2]
        old = detail(255 * luma(before), self._moving).repeat(len(after), 1, 1)
        new = detail(255 * luma(after.flatten(0, 1)), self._moving)
        mirrored = torch.maximum(symmetry(old, new), symmetry(new, old)).reshape(shape).amax(1)
        # One moment at half the size is enough to find clouds that are visible twice.
        old, new = (
            functional.avg_pool2d(one.reshape(*shape, *self.size)[:, middle], 2)
            for one in (old, new)
        )
        twice = torch.stack([repeats(old, new), repeats(new, old), repeats(new, new)]).amax(0)
        return torch.stack([mirrored, twice])

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


def repeats(left: Tensor, right: Tensor) -> Tensor:
    """Return how much a part of ``left`` resembles a part of ``right`` to the left of its place.

    Both are the results of ``detail``, (n, h, w). The result is the greatest correlation, (n,).
    """
    height, width = left.shape[-2:]
    part = max(1, round(_TALL * height)), max(1, round(_WIDE * width))
    energy = [functional.avg_pool2d(one.square(), part, 1) for one in (left, right)]
    least, most = (max(1, round(distance * width)) for distance in _BESIDE)
    found = [left.new_zeros(len(left))]
    for shift in range(least, min(most, width - part[1])):
        both = functional.avg_pool2d(left[..., shift:] * right[..., :-shift], part, 1)
        size = (energy[0][..., shift:] * energy[1][..., :-shift]).sqrt()
        found.append((both / (size + _FAINT)).amax((1, 2)))
    return torch.stack(found).amax(0)
