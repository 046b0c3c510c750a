"""Choose the next footage and its place: footage that fits and was not seen before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.front import (
    TIMES,
    PointMap,
    border_cost,
    carried,
    drifts,
    inset_of,
    inside,
)
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.pictures import filled, resized
from cloudconv.metrics import luma
from cloudconv.models.ops import warp

THUMB = 72
"""Longest side of the thumbnails that footage is chosen by."""

_TRIED = 64  # arrangements that are compared by their thumbnails …
_FINAL = 6  # … and the number of the best whose insets are cut out
_PLAIN = 0.2  # share of the arrangements that have no inset
_FURTHEST = 0.6  # shift of an inset at most, in widths
_ENLARGED, _MOST = 0.25, 1.12  # share of placements that are enlarged, and by how much at most
_RIM = 2  # pixels around still parts and the sun that an inset does not show
_STILL = 0.02  # still share of a thumbnail's pixel from which on an inset does not show the pixel
_LEAST_INSET = 0.1  # of the moving part, over the life of the footage: no inset is smaller
_LOOKS = 5  # moments of an arrangement that are compared with earlier pictures
_EVERY = 6  # frames between two remembered pictures …
_REMEMBERS = 200  # … and the number of these
_SEEN = 3.0  # cost of likeness to earlier pictures, relative to the usual difference
_OTHER_WIND = 1.5  # cost of a wind that differs by the usual wind
_LIGHTER = 2.0  # cost of a change of light, for each unit of the logarithm
_SEAM = 1.0  # cost of the difference along the border of an inset, relative to the usual
_TWICE = 3.0  # cost of a cloud that is visible in an inset and around the inset
_MIRROR = 4.0  # cost of a mirror image of the older footage
_FIELD, _EVEN = 3, 6 / 255  # regions of light each way; most difference from the mirror image
_HIDDEN = 0.05  # of the sky that still parts may hide in footage that moves as a whole
_HASTE = 1.5  # cost of an arrival that changes as much as the clip's own motion
_CHANCE = 0.2  # random cost
_ASTRAY = 0.9  # of the usual wind: footage whose wind differs more is not used at all
_CALM = 0.1  # pixels of the small picture a frame, added to the usual wind


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Footage that fills the picture, and an inset of other footage of the clip.

    ``shape``: 1 at the points of the sky that the inset shows, else 0; None without an inset.
    """

    base: Placement
    inset: Placement | None = None
    shape: PointMap | None = None


class ClipSelector:
    """A chooser of arrangements, by thumbnails (3, h, w) with still parts replaced by sky."""

    def __init__(
        self, material: Material, light: Light, wind: Tensor, random: np.random.Generator
    ) -> None:
        """Make the thumbnails; ``wind``: (2, h, w) backward flow in pixels of the small picture."""
        self._random = random
        self._light = light
        height, width = material.small_size
        factor = min(1.0, THUMB / max(height, width))
        self.size = max(2, round(height * factor)), max(2, round(width * factor))
        covered = resized(material.wide_matte[None].cpu(), self.size)
        known = (1 - 1.5 * covered[0]).clamp(0, 1)
        smalls = (torch.from_numpy(material.glance(k)) for k in range(len(material)))
        shrunk = [resized(s.permute(2, 0, 1) / 255, self.size) for s in smalls]
        if float(covered.max()) > 0.1:
            shrunk = [filled(s, known) for s in shrunk]
        self._thumbs = torch.stack(shrunk)
        self._mean_luma = luma(self._thumbs).mean(0)
        self._moving = (1 - resized(torch.from_numpy(material.static)[None], self.size)[0]) > 0.5
        if not bool(self._moving.any()):
            self._moving = torch.ones_like(self._moving)
        sun = resized(torch.from_numpy(material.sun)[None], self.size)
        rim = 2 * _RIM + 1
        self._stays, self._sun = (
            functional.max_pool2d((part > _STILL).float(), rim, 1, _RIM) for part in (covered, sun)
        )
        self._wind = resized(wind.cpu(), self.size)
        self._pace = float(self._wind.norm(dim=0).mean()) + _CALM
        self._ways = [torch.zeros_like(self._wind)]
        self._drifts: dict[int, tuple[NDArray[np.float32], tuple[int, int]]] = {}
        self._kinds = self._kept_winds()
        self._step = max(self._change(1), 1e-6)
        self._past: deque[Tensor] = deque(maxlen=_REMEMBERS)
        for thumb in self._thumbs[::_EVERY]:
            self._past.append(self._pattern(thumb))
        self._count = 0
        self._latest = Placement(len(self._thumbs) - 1)

    def _kept_winds(self) -> list[tuple[bool, bool]]:
        """Return the ways to play, (backwards, mirrored), that keep the wind about the same."""
        kinds = [(False, False)]
        for kind in ((True, True), (False, True), (True, False)):
            if self._astray(Placement(0, *kind)) < _ASTRAY:
                kinds.append(kind)
        return kinds[:3]

    def _astray(self, placement: Placement) -> float:
        apart = (placement.flow(self._wind) - self._wind).norm(dim=0)
        return float(apart[self._moving].mean()) / self._pace

    @property
    def slowness(self) -> float:
        """The difference of distant frames, relative to that of neighbours."""
        return self._change(max(1, len(self._thumbs) // 2)) / self._step

    def _change(self, away: int) -> float:
        """Return the mean difference of frames that are ``away`` frames apart."""
        moving = self._thumbs.mean(1)[:, self._moving]
        return float((moving[away:] - moving[:-away]).abs().mean()) if len(moving) > away else 0.0

    def remember(self, picture: Tensor) -> None:
        """Remember the next picture of the dream, (3, H, W)."""
        if self._count % _EVERY == 0:
            self._past.append(self._pattern(resized(picture.cpu(), self.size)))
        self._count += 1

    def thumb(self, shown: Arrangement, age: int) -> Tensor:
        """Return the thumbnail of an arrangement at an age in frames, (3, h, w)."""
        base = self._placed(shown.base, age)
        if shown.inset is None or shown.shape is None:
            return base
        return torch.lerp(base, self._placed(shown.inset, age), shown.shape.at(self._way(age)))

    def _placed(self, placement: Placement, age: int) -> Tensor:
        thumb = placement.placed(self._thumbs[placement.frame(age, len(self._thumbs))])
        return thumb if placement.aligned else thumb * self._gain(placement)

    def _gain(self, placement: Placement) -> Tensor:
        """Return the gain that adapts a placement to the light of its place, (1, h, w)."""
        return self._light.moved(*placement.source(self.size))

    def _way(self, age: int) -> Tensor:
        """Return the displacement of the wind over ``age`` frames, (2, h, w)."""
        while len(self._ways) <= age:
            self._ways.append(self._wind + warp(self._ways[-1][None], self._wind[None])[0])
        return self._ways[age]

    def choose(
        self, seen: Sequence[Tensor], ages: Sequence[int], life: int, shifted: bool = True
    ) -> Arrangement:
        """Return the next arrangement.

        Args:
            seen: the thumbnails of the older footage at moments of the arrival, (3, h, w) each.
            ages: those moments, in frames after the arrangement's start.
            life: the number of frames that the arrangement must have.
            shifted: whether other places than the clip's own may be used.
        """
        tried = [self._drawn(life, shifted) for _ in range(_TRIED)]
        apart = np.array([self._apart(one, seen, ages) for one in tried])
        typical = max(float(np.median(apart)), 1e-6)
        cost = apart / typical + _CHANCE * self._random.random(len(tried))
        cost += _HASTE * apart / (self._step * max(life // 2, 1))
        for number, one in enumerate(tried):
            cost[number] += _SEEN * self._likeness(one, life)
            for placement in (one.base, one.inset):
                if placement is not None and not placement.aligned:
                    cost[number] += _OTHER_WIND * self._astray(placement)
                    cost[number] += _LIGHTER * float(self._gain(placement).log().abs().mean())
            cost[number] += _TWICE * self._doubled(one, life)
            if one.base.mirrored != self._latest.mirrored:
                # The older footage and its mirror image are visible side by side.
                cost[number] += _MIRROR * self._alike(one.base, self._latest, ages[-1])
        best = []
        for number in cost.argsort()[:_FINAL]:
            made, seam = self._cut(tried[number], life)
            best.append((float(cost[number]) + _SEAM * seam / typical, made))
        chosen = min(best, key=lambda one: one[0])[1]
        self._latest = chosen.base
        return chosen

    def _drawn(self, life: int, shifted: bool) -> Arrangement:
        random = self._random
        if not shifted:
            return Arrangement(self._played(life, (False, False)))
        free = not bool(self._sun.any())
        kinds = [kind for kind in self._kinds if not kind[1] or (free and self._even())]
        base = self._played(life, kinds[int(random.integers(len(kinds)))], enlarged=free)
        hidden = base.placed(self._stays) * (1 - self._stays)
        if float(hidden[0][self._moving].mean()) > _HIDDEN:
            # Still parts would hide too much of the sky.
            base = self._played(life, (False, False))
        if random.random() < _PLAIN:
            return Arrangement(base)
        kind = self._kinds[int(random.integers(len(self._kinds)))]
        shift = float(random.uniform(-_FURTHEST, _FURTHEST))
        # The rounding to pixels must not hide a shift from the thumbnails.
        shift = shift if abs(shift) > 1.5 / self.size[1] else 0.0
        inset = replace(self._played(life, kind, enlarged=True), shift=shift)
        shape = self._possible(inset, life)
        return Arrangement(base) if shape is None else Arrangement(base, inset, shape)

    def _even(self) -> bool:
        """Return whether the light of the clip comes from the left as much as from the right."""
        mean = resized(self._thumbs.mean(0), (_FIELD, _FIELD))
        return float((mean - mean.flip(-1)).square().mean().sqrt()) < _EVEN

    def _played(self, life: int, kind: tuple[bool, bool], *, enlarged: bool = False) -> Placement:
        """Return a random placement that plays ``kind``, (backwards, mirrored)."""
        random, count = self._random, len(self._thumbs)
        offset = int(random.integers(max(count - life, 0) + 1))
        start = count - 1 - offset if kind[0] else offset
        larger = enlarged and random.random() < _ENLARGED
        return Placement(start, *kind, scale=float(random.uniform(1.0, _MOST)) if larger else 1.0)

    def _positions(self, life: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
        if life not in self._drifts:
            self._drifts = {life: drifts(self._wind.numpy(), life)}
        return self._drifts[life]

    def _possible(self, inset: Placement, life: int) -> PointMap | None:
        """Return 1 at the points where an inset is known all the time; None where hardly any is."""
        known = inset.placed(1 - self._stays) * inset.known(self.size[1]) * (1 - self._sun)
        # Points also move between the moments at which they are looked at.
        reach = 1 + ceil(float(self._wind.abs().max()) * life / (2 * TIMES))
        known = -functional.max_pool2d(-known, 2 * reach + 1, 1, reach)[0]
        positions, margins = self._positions(life)
        possible: Any = np.ones(positions.shape[2:], np.float32)
        start = (
            np.indices(positions.shape[2:], np.float32)[::-1]
            - np.array(margins[::-1], np.float32)[:, None, None]
        )
        positions = np.concatenate([start[None], positions])
        visible = inside(positions, self.size)
        for position, within in zip(positions, visible, strict=True):
            here = carried(known.numpy(), position)
            possible = np.where(within > 0, np.minimum(possible, here), possible)
        parts, labels = cv2.connectedComponents((possible > 0.99).astype(np.uint8))
        if parts < 2:
            return None
        areas = np.bincount(labels.ravel(), visible.sum(0).ravel(), parts)
        largest = 1 + int(areas[1:].argmax())
        if areas[largest] < _LEAST_INSET * visible.sum():
            return None
        return PointMap(torch.from_numpy((labels == largest).astype(np.float32)), margins)

    def _cut(self, shown: Arrangement, life: int) -> tuple[Arrangement, float]:
        """Return an arrangement with its inset cut out, and the difference along the border."""
        if shown.inset is None or shown.shape is None:
            return shown, 0.0
        positions, margins = self._positions(life)
        apart = []
        for number, position in enumerate(positions):
            age = round((number + 0.5) * life / TIMES)
            one, two = (self._placed(placed, age) for placed in (shown.base, shown.inset))
            unlike = (one - two).abs().sum(0).numpy()
            apart.append((carried(unlike, position) + 1e-4) * inside(position, self.size))
        shape = inset_of(np.stack(apart), shown.shape.values.numpy())
        seam = border_cost(np.stack(apart), shape) / 3
        cut_out = cv2.GaussianBlur(shape, (0, 0), 0.7)
        return replace(shown, shape=PointMap(torch.from_numpy(cut_out), margins)), seam

    def _doubled(self, shown: Arrangement, life: int) -> float:
        """Return the share of the picture that shows clouds a second time, from 0 to 1."""
        if shown.inset is None or shown.shape is None:
            return 0.0
        shape = shown.shape.at(self._way(life // 2))
        around = shown.inset.placed(1 - shown.base.placed(shape[None]))[0]
        alike = self._alike(shown.base, shown.inset, life // 2)
        return float((shape * around)[self._moving].mean()) * alike

    def _alike(self, one: Placement, other: Placement, age: int) -> float:
        """Return how alike two placements are if both are at their place in the clip, 0 to 1."""
        count = len(self._thumbs)
        first, second = (
            luma(self._thumbs[placed.frame(age, count)][None])[0][self._moving]
            for placed in (one, other)
        )
        varies = (first - first.mean()).abs().mean().clamp_min(1e-6)
        return float((1 - (first - second).abs().mean() / varies).clamp(0, 1))

    def _apart(self, shown: Arrangement, seen: Sequence[Tensor], ages: Sequence[int]) -> float:
        differences = [
            float((self.thumb(shown, age) - beneath).abs().mean(0)[self._moving].mean())
            for beneath, age in zip(seen, ages, strict=True)
        ]
        return float(np.mean(differences))

    def _likeness(self, shown: Arrangement, life: int) -> float:
        """Return the greatest likeness of an arrangement to earlier pictures, from 0 to 1."""
        past = torch.stack(list(self._past))
        ages = np.linspace(0.3 * life, 0.9 * life, _LOOKS).astype(int)
        patterns = torch.stack([self._pattern(self.thumb(shown, int(age))) for age in ages])
        likeness = (patterns @ past.T).amax(1)
        return float(likeness.mean().clamp_min(0))

    def _pattern(self, thumb: Tensor) -> Tensor:
        """Return the difference of a thumbnail from the mean, as a vector of length 1."""
        apart = (luma(thumb[None])[0] - self._mean_luma)[self._moving]
        apart = apart - apart.mean()
        pattern: Tensor = apart / apart.norm().clamp_min(1e-6)
        return pattern
