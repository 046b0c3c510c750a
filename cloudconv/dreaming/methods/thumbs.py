"""Show how arrangements of footage look, as thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import Drift
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Front
from cloudconv.dreaming.pictures import THUMB_SIDE, filled, moved, reduced, resized, resized_flow
from cloudconv.models.ops import warp


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


class Thumbs:
    """The thumbnails of a clip's frames, with sky in place of still parts, and in one light.

    ``size``: their height and width. ``frames``: (n, 3, h, w). ``moving``: (h, w) bool, the parts
    that move. ``wind``: (2, h, w), the backward flow per frame.
    """

    def __init__(
        self, material: Material, light: Light, wind: Tensor, drifting: Drift, before: int
    ) -> None:
        """Make the thumbnails of the clip, and of ``before`` frames before and after the clip.

        ``wind``: (2, h, w) backward flow in pixels of the small picture.
        """
        height, width = reduced(material.glance(0), THUMB_SIDE).shape[:2]
        self.size = height, width
        self.wind = resized_flow(wind.cpu()[None], self.size)[0]
        self._light = light
        covered = resized(material.matte[None].cpu(), self.size)[0]
        self.moving = covered < 0.5
        if int(self.moving.sum()) < 2:  # one pixel has no contrast
            self.moving = torch.ones_like(self.moving)
        known = (1 - 2 * covered).clamp_min(0)
        thumbs = []
        for k in range(len(material)):
            levels = torch.from_numpy(material.glance(k)).permute(2, 0, 1)
            thumb = filled(resized(levels / 255, self.size), known)
            gain = light.on(k)
            thumbs.append(thumb if gain is None else thumb * resized(gain, self.size))
        self.frames = torch.stack(thumbs)
        self._displacements = [torch.zeros_like(self.wind)]
        self._before = before
        numbers = range(-before, len(thumbs) + before)
        self._all = torch.stack([self._at(drifting, k) for k in numbers])
        self._covers = [drifting.covers(k, self.size).cpu() for k in numbers]

    def _at(self, drifting: Drift, k: int) -> Tensor:
        """Return the thumbnail of a frame, or of the first or last frame that drifts."""
        if 0 <= k < len(self.frames):
            return self.frames[k]
        displacement = drifting.displacement(k, self.size).cpu()
        return moved(self.frames[0 if k < 0 else -1], displacement)

    def shown(self, shown: Arrangement, age: int) -> tuple[Tensor, Tensor]:
        """Return an arrangement at an age in frames, see :meth:`placed`."""
        first, known = self.placed(shown.first, age)
        if shown.second is None:
            return first, known
        assert shown.cut is not None
        second, second_known = self.placed(shown.second, age)
        weight = shown.cut.weights(self._displacement(age), age, shown.life)
        weight = weight.clamp(1 - known, second_known)
        return torch.lerp(first, second, weight), known.maximum(second_known)

    def placed(self, placement: Placement, age: int) -> tuple[Tensor, Tensor]:
        """Return the thumbnail of a placement at an age in frames, and its known part.

        The thumbnail is (3, h, w), the known part (h, w), from 0 to 1.
        """
        thumb = placement.placed(self._all[self._number(placement.frame(age))])
        thumb = thumb * self._light.moved(placement.source(self.size[1]), self.size[0])
        return thumb, self.covers(placement, age)

    def covers(self, placement: Placement, age: int) -> Tensor:
        """Return the known part of a placement at an age: (h, w), from 0 to 1."""
        known = self._covers[self._number(placement.frame(age))]
        return placement.covers(placement.known(self.size[1]), known)

    def known(self, shown: Arrangement, age: int) -> Tensor:
        """Return the known part of an arrangement at an age: (h, w), from 0 to 1."""
        known = self.covers(shown.first, age)
        return known if shown.second is None else known.maximum(self.covers(shown.second, age))

    def composed(self, tried: Sequence[Arrangement], ages: Sequence[int]) -> Tensor:
        """Return the thumbnails of arrangements, with the border in the middle of the overlap.

        The result is (arrangements, ages, 3, h, w).
        """
        height, width = self.size
        frames, sources = [], []
        for one in tried:
            both = one.first, one.second or one.first
            side = _second_side(*(placement.known(width) for placement in both))
            numbers = torch.tensor([[self._number(p.frame(age)) for p in both] for age in ages])
            frames.append(torch.where(side, numbers[:, 1:], numbers[:, :1]))
            source, other = (placement.source(width) for placement in both)
            sources.append(torch.where(side, other, source))
        columns = (torch.stack(sources) * width).long().clamp(0, width - 1)
        rows, columns = torch.arange(height)[None, :, None], columns[:, None]
        # The indices are (arrangements, ages, h, w); each chooses a colour of (frames, h, w, 3).
        chosen = torch.stack(frames)[:, :, None], rows[:, None], columns[:, None]
        thumbs = self._all.permute(0, 2, 3, 1)[chosen].permute(0, 1, 4, 2, 3)
        gains = torch.stack([self._light.moved(source, height) for source in sources])
        return thumbs * gains[:, None]

    def _number(self, frame: int) -> int:
        return min(max(frame + self._before, 0), len(self._all) - 1)

    def _displacement(self, age: int) -> Tensor:
        """Return the displacement to each point's place ``age`` frames ago: (2, h, w)."""
        while len(self._displacements) <= age:
            wind = self.wind
            self._displacements.append(wind + warp(self._displacements[-1][None], wind[None])[0])
        return self._displacements[age]


def _second_side(first: Tensor, second: Tensor) -> Tensor:
    """Return the columns of the second placement, (w,) bool, from the known columns of both."""
    columns = torch.arange(len(first))
    middle, left, right = (
        float((columns * part).sum() / part.sum().clamp_min(1))
        for part in (first * second, first, second)
    )
    return columns > middle if right > left else columns < middle
