"""collage: real footage blows in while the old blows out.

cloudconv's own. Nothing is invented, and nothing is sampled twice: the last real frame is carried
on by the wind, and one part of the material after the other, playing, comes in over what is there,
along edges that travel with the wind. Related: Kwatra et al., Graphcut Textures, SIGGRAPH 2003
(seams between patches of video); Schoedl et al., Video Textures, SIGGRAPH 2000 (which part of a
clip may follow which).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.analysis import resized_flow
from cloudconv.dreaming.arrival import Arrival, order_of
from cloudconv.dreaming.compositing import blended, weight_size
from cloudconv.dreaming.material import Material
from cloudconv.dreaming.segments import Chooser
from cloudconv.dreaming.wind import Carried, Wind

_FULL = 250  # frames of material for which the times below are meant
_SPACING = 42  # frames between two births
_BLOWS_IN = 75  # frames until a segment is all there
_FIRST_BLOWS_IN = 85
_SECOND = 65  # frames from the first birth to the second
_FORECAST = 15  # frames before the first segment comes in otherwise than with the wind


class Collage:
    """The wind collage."""

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """See ``Method.dream``."""
        run = _Run(material, seed)
        for _ in range(frames):
            yield run.step()


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly segments follow one another, in frames."""

    spacing: int
    blows_in: int
    first_blows_in: int
    second: int

    @classmethod
    def of(cls, frames: int) -> Pace:
        share = min(1.0, frames / _FULL)

        def scaled(count: int) -> int:
            return max(4, round(count * share))

        return cls(scaled(_SPACING), scaled(_BLOWS_IN), scaled(_FIRST_BLOWS_IN), scaled(_SECOND))


@dataclass(slots=True)
class _Segment:
    """A part of the material that plays, and how far it has come in."""

    frame: int
    arrival: Arrival


class _Run:
    """One dream: what is on top of what, frame by frame."""

    def __init__(self, material: Material, seed: int) -> None:
        self._material = material
        self._random = np.random.default_rng(seed)
        self._pace = Pace.of(len(material))
        self._wind = Wind(material)
        self._field = weight_size(*material.size)
        self._mean = resized_flow(self._wind.mean[None], self._field)[0]
        self._last = material.picture(-1)
        self._carried: Carried | None = Carried(self._last, material.held, self._wind)
        self._still = material.matte
        self._chooser = Chooser(material, self._random)
        self._segments: list[_Segment] = []
        self._seen = self._last
        self._next_birth = 0
        self._births = 0
        self.number = 0

    def step(self) -> Tensor:
        if self.number == self._next_birth:
            self._bear()
        self.number += 1
        pictures: list[Tensor] = []
        weights: list[Tensor] = []
        if self._carried is not None:
            self._carried.advance()
            pictures.append(self._carried.picture())
            weights.append(torch.ones(self._field, device=self._last.device))
        for number, segment in enumerate(self._segments):
            shown = segment.arrival.advance()
            if segment.arrival.done:
                # Nothing below it is seen any more.
                self._segments = self._segments[number:]
                self._carried = None
                pictures, weights = [], []
                shown = torch.ones_like(shown)
            weights = [weight * (1 - shown) for weight in weights] + [shown]
            pictures.append(self._material.picture(segment.frame))
            segment.frame += 1
        made = blended(pictures, weights)
        self._seen = torch.lerp(made, self._last, self._still)
        return self._seen

    def _bear(self) -> None:
        pace, first = self._pace, self._births == 0
        lasts = pace.first_blows_in if first else pace.blows_in
        delay = _FORECAST if first else 0
        until = pace.second if first else pace.spacing
        life = until + pace.blows_in + 2
        playing = [s.frame for s in self._segments] or [len(self._material) - 1]
        start = self._chooser.choose(delay + lasts // 2, life, playing)
        coming = self._material.picture(start)
        order = order_of(self._seen, coming, self._mean, self._random, self._field)
        self._segments.append(_Segment(start, Arrival(order, self._mean, lasts, delay)))
        self._births += 1
        self._next_birth += until
