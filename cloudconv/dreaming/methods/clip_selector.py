"""Choose the next footage and its place: footage that fits and was not seen before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.placement import Copy, Placement, joined
from cloudconv.dreaming.pictures import filled, resized
from cloudconv.metrics import luma

THUMB = 72
"""Longest side of the thumbnails that footage is chosen by."""

_TRIED = 64  # placements, of which the best is taken
_STAYS = 0.15  # share of them that is not shifted
_ENLARGED, _MOST = 0.25, 1.12  # share of placements that are enlarged, and by how much at most
_LOOKS = 5  # moments of a placement that are compared with earlier pictures
_EVERY = 6  # frames between two remembered pictures …
_REMEMBERS = 200  # … and the number of these
_SEEN = 3.0  # cost of likeness to earlier pictures, relative to the usual difference
_OTHER_WIND = 1.5  # cost of a wind that differs by the usual wind
_COVERED = 4.0  # cost of sky that was behind something in the clip
_LIGHTER = 2.0  # cost of a change of light, for each unit of the logarithm
_SEAM = 2.5  # cost of the difference of two copies along their cut, relative to the usual
_CHANCE = 0.2  # random cost
_ASTRAY = 0.9  # of the usual wind: footage whose wind differs more is not used at all
_CALM = 0.1  # pixels of the small picture a frame, added to the usual wind


class ClipSelector:
    """A chooser of placements, by thumbnails (3, h, w) with still parts replaced by sky."""

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
        self._usual = luma(self._thumbs).mean(0)
        self._moving = (1 - resized(torch.from_numpy(material.static)[None], self.size)[0]) > 0.5
        if not bool(self._moving.any()):
            self._moving = torch.ones_like(self._moving)
        self._wind = resized(wind.cpu(), self.size)
        self._pace = float(self._wind.norm(dim=0).mean()) + _CALM
        self._kinds = self._kept_winds()
        self._past: deque[Tensor] = deque(maxlen=_REMEMBERS)
        for thumb in self._thumbs[::_EVERY]:
            self._past.append(self._pattern(thumb))
        self._count = 0
        self._gains: dict[Placement, Tensor] = {}
        self._shown: list[Placement] = []

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
        half = max(1, len(self._thumbs) // 2)
        moving = self._thumbs.mean(1)[:, self._moving]
        if len(moving) < 2:
            return 0.0
        near = (moving[1:] - moving[:-1]).abs().mean()
        return float((moving[half:] - moving[:-half]).abs().mean() / near.clamp_min(1e-6))

    def remember(self, picture: Tensor) -> None:
        """Remember the next picture of the dream, (3, H, W)."""
        if self._count % _EVERY == 0:
            self._past.append(self._pattern(resized(picture.cpu(), self.size)))
        self._count += 1

    def thumb(self, placement: Placement, age: int) -> Tensor:
        """Return the thumbnail of a placement at an age in frames, (3, h, w)."""
        frame = placement.frame(age, len(self._thumbs))
        copies = placement.copies(self._thumbs[frame])
        return joined(copies, self.size[1]) * self._gain(placement)

    def _gain(self, placement: Placement) -> Tensor:
        """Return the gain that adapts a placement to the light of its place, (1, h, w)."""
        gain = self._gains.get(placement)
        if gain is None:
            gain = joined(gains(self._light, placement, self.size), self.size[1])
            self._gains[placement] = gain
        return gain

    def choose(
        self, seen: Sequence[Tensor], ages: Sequence[int], life: int, shifted: bool = True
    ) -> Placement:
        """Return the next placement.

        Args:
            seen: the thumbnails of the older footage at moments of the arrival, (3, h, w) each.
            ages: those moments, in frames after the placement's start.
            life: the number of frames that the placement must have.
            shifted: whether other places than the clip's own may be used.
        """
        count = len(self._thumbs)
        tried = [self._drawn(count, life, shifted) for _ in range(_TRIED)]
        apart = np.array([self._apart(one, seen, ages) for one in tried])
        usual = max(float(np.median(apart)), 1e-6)
        cost = apart / usual + _CHANCE * self._random.random(len(tried))
        for number, one in enumerate(tried):
            cost[number] += _SEEN * self._likeness(one, life)
            if one.shift or one.mirrored or one.scale > 1:
                cost[number] += _OTHER_WIND * self._astray(one)
                hidden = joined(one.copies(self._covered), self.size[1])[0]
                cost[number] += _COVERED * float(hidden[self._moving].mean())
                cost[number] += _LIGHTER * float(self._gain(one).log().abs().mean())
                cost[number] += _SEAM * self._seam(one, life) / usual
        chosen = tried[int(cost.argmin())]
        self._gains = {
            one: gain for one, gain in self._gains.items() if one in (chosen, *self._shown)
        }
        self._shown = [*self._shown[-1:], chosen]
        return chosen

    def _drawn(self, count: int, life: int, shifted: bool) -> Placement:
        random = self._random
        room = max(count - life, 0)
        offset = int(random.integers(room + 1))
        if not shifted:
            return Placement(offset)
        backwards, mirrored = self._kinds[int(random.integers(len(self._kinds)))]
        start = count - 1 - offset if backwards else offset
        shift = 0.0 if random.random() < _STAYS else float(random.uniform(-0.5, 0.5))
        scale = 1.0
        if random.random() < _ENLARGED:
            scale = float(random.uniform(1.0, _MOST))
        return Placement(start, backwards, mirrored, shift, scale)

    def _apart(self, placement: Placement, seen: Sequence[Tensor], ages: Sequence[int]) -> float:
        found = [
            float((self.thumb(placement, age) - beneath).abs().mean(0)[self._moving].mean())
            for beneath, age in zip(seen, ages, strict=True)
        ]
        return float(np.mean(found))

    def _seam(self, placement: Placement, life: int) -> float:
        """Return the difference of two copies of a placement along the best cut between them."""
        frame = placement.frame(life // 2, len(self._thumbs))
        both = placement.copies(self._thumbs[frame])
        if len(both) < 2:
            return 0.0
        lit = gains(self._light, placement, self.size)
        begin, end = max(c.left for c in both), min(c.right for c in both)
        one, two = (
            (copy.values * gain.values)[..., begin - copy.left : end - copy.left]
            for copy, gain in zip(both, lit, strict=True)
        )
        return float((one - two).abs().mean(0).amin(1).mean())

    def _likeness(self, placement: Placement, life: int) -> float:
        """Return the greatest likeness of a placement to earlier pictures, from 0 to 1."""
        past = torch.stack(list(self._past))
        ages = np.linspace(0.3 * life, 0.9 * life, _LOOKS).astype(int)
        shown = torch.stack([self._pattern(self.thumb(placement, int(age))) for age in ages])
        likeness = (shown @ past.T).amax(1)
        return float(likeness.mean().clamp_min(0))

    def _pattern(self, thumb: Tensor) -> Tensor:
        """Return the difference of a thumbnail from the usual, as a vector of length 1."""
        apart = (luma(thumb[None])[0] - self._usual)[self._moving]
        apart = apart - apart.mean()
        pattern: Tensor = apart / apart.norm().clamp_min(1e-6)
        return pattern


def gains(light: Light, placement: Placement, size: tuple[int, int]) -> list[Copy]:
    """Return for each copy of a placement the gain that adapts the light to its place."""
    made = []
    for number, (begin, end) in enumerate(placement.spans(size[1])):
        gain = light.moved(*placement.source(size, number))
        made.append(Copy(gain[..., begin:end], begin, end))
    return made
