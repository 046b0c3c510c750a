"""Mode ``flow``: move one picture along a steady field, from a clip or from a still.

Source: Holynski et al., Animating Pictures with Eulerian Motion Fields, CVPR 2021 (arXiv
2011.15128). The picture moves forwards and backwards along a field that does not change with time.
The two movements are cross-faded over a period, so that the result repeats without a seam. Unlike
in the paper, pictures are sampled along backward flow. Where one of the two movements leads out of
the picture, the other movement is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.sky import sky_of
from cloudconv.dreaming.material.wind import EDGE, Drift, SkyBehind, end_pairs, inside, mean_flow
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.transition import order_of
from cloudconv.dreaming.pictures import TINY, blurred, moved, resized_flow, spread, weight_size
from cloudconv.models.ops import warp

# Distance that the fastest parts move in a period, of the longer side. A measured motion is uneven
# and distorts clouds; with an even wind the sky enters again before it has left.
_TRAVEL, _TRAVEL_EVEN = 0.1, 0.8
_SHORTEST, _LONGEST = 24, 320  # least and greatest number of frames in a period
_CALM = 1 / 960  # default wind of a still picture, in widths per frame
_SMOOTH = 0.04  # blur of the field, of the longer side: an uneven field distorts clouds
_HORIZON = 0.6  # speed at the horizon, relative to the speed at the top of the sky
_SOFT = 0.5  # one pixel's cross-fade, relative to the time from the first pixel's start to the last


class Flow(DreamMethod):
    """A method that cross-fades forward and backward movements of a picture along a steady field.

    The option ``wind`` replaces the measured motion of a clip. For a still picture, the option
    replaces a slow wind from the left.
    """

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the moved picture; see the base class."""
        material = material.steady
        last = material.picture(-1)
        still, field = self._field(material, last)
        # In a loop with the source, the source's first frame follows the dream's last.
        turns = frames + (loop_to is not None)
        measured = len(material) > 1 and self.options.wind is None
        period = _period(field, _TRAVEL if measured else _TRAVEL_EVEN)
        rounds = max(1, round(turns / period)) if loop else -(-turns // period)
        # A loop is a whole number of periods, whose lengths differ by a frame at most.
        longest = -(-turns // rounds) if loop else period
        ahead = _followed(-warp(field[None], -field[None])[0], longest)
        back = _followed(field, longest)
        behind = SkyBehind(still, weight_size(*material.size))
        here = there = last
        order = order_of(field, np.random.default_rng(seed), weight_size(*material.size))
        # The first period begins with a forecast from the motion of the last frames.
        flow = mean_flow(material, end_pairs(len(material), first=False))
        carried = Drift(lambda _: last, 1, behind, [flow, flow], period) if measured else None
        number = 0
        for k in range(1, rounds + 1):
            end = turns * k // rounds if loop else period * k
            if loop_to is not None and end == turns:
                there = loop_to
            skies = behind.filled(here), behind.filled(there)
            turn = _Period((here, there), skies, still, carried, back, ahead, order, end - number)
            for phase in range(1, min(end, frames) - number + 1):
                yield turn.at(phase)
            here, carried, number = there, None, end

    def _field(self, material: Material, last: Tensor) -> tuple[Tensor, Tensor]:
        """Return the still parts, (H, W), and the backward flow per frame, (2, h, w)."""
        size = weight_size(*material.size)
        if len(material) > 1 and self.options.wind is None:
            still = material.matte
            field = resized_flow(mean_flow(material, spread(len(material), 1))[None], size)[0]
            return still, blurred(field, _SMOOTH * max(size))
        height, width = material.size
        if len(material) > 1:
            still, foot = material.matte, None
        else:
            sky, foot = sky_of(last)
            still = 1 - sky
        dx, dy = self.options.wind or (_CALM * width, 0.0)
        wind = last.new_tensor([-dx * size[1] / width, -dy * size[0] / height])
        speed = torch.ones(size[0], device=last.device)
        if foot is not None:
            # Clouds near the horizon are further away and move more slowly.
            rows = torch.arange(size[0], device=last.device) / max(1.0, foot * size[0])
            speed = 1 - (1 - _HORIZON) * rows.clamp(0, 1)
        return still, wind[:, None, None] * speed[:, None].expand(size)


def _followed(field: Tensor, period: int) -> list[Tensor]:
    """Return each point's displacement along a flow, (2, h, w), after 0 to ``period`` frames."""
    displacement = torch.zeros_like(field)
    paths = [displacement.half()]
    for _ in range(period):
        displacement = field + warp(displacement[None], field[None])[0]
        paths.append(displacement.half())
    return paths


@dataclass(frozen=True, slots=True)
class _Period:
    """A cross-fade of ``count`` frames from one picture, or from its forecast, to another.

    ``skies`` are the ``pictures`` with sky in place of the ``still`` parts, (H, W). ``carried`` is
    the forecast from the first picture, or None. ``back`` and ``ahead`` are the displacements to
    each point's place some frames ago and later. ``order``: the times at which pixels cross-fade,
    at their positions in the middle of the period.
    """

    pictures: tuple[Tensor, Tensor]
    skies: tuple[Tensor, Tensor]
    still: Tensor
    carried: Drift | None
    back: list[Tensor]
    ahead: list[Tensor]
    order: Tensor
    count: int

    def at(self, phase: int) -> Tensor:
        """Return the frame ``phase`` after the first picture: (3, H, W); call in order from 1."""
        if phase == self.count:
            return self.pictures[1]
        back, ahead = self.back[phase].float(), self.ahead[self.count - phase].float()
        if self.carried is None:
            earlier = moved(self.skies[0], back)
        else:
            earlier = self.carried.picture(phase)
            back = self.carried.displacement(phase, (back.shape[-2], back.shape[-1]))
        weights = _weights(self._second_weight(phase), back, ahead)
        sky = blended([earlier, moved(self.skies[1], ahead)], weights)
        mean = (1 - cos(pi * phase / self.count)) / 2
        return torch.lerp(sky, torch.lerp(*self.pictures, mean), self.still)

    def _second_weight(self, phase: int) -> Tensor:
        """Return the weight of the second picture, (h, w), from 0 to 1.

        The order of the pixels moves with the field.
        """
        half = self.count // 2
        away = phase - half
        displacement = self.back[away] if away >= 0 else self.ahead[-away]
        order = warp(self.order[None, None], displacement[None].float())[0, 0]
        progress = phase / self.count * (1 + _SOFT)
        weight = ((progress - order) / _SOFT).clamp(0, 1)
        return weight * weight * (3 - 2 * weight)


def _weights(weight: Tensor, back: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights, (h, w), of the first and the second picture.

    A picture has less weight where its displacement leads outside.
    """
    edge = max(1.0, EDGE * max(back.shape[-2:]))
    first, second = (1 - weight) * inside(back, edge), weight * inside(ahead, edge)
    # The other picture is better than a smeared edge.
    first = first + (1 - inside(ahead, edge)) * inside(back, edge) * weight
    second = second + (1 - inside(back, edge)) * inside(ahead, edge) * (1 - weight)
    total = first + second
    weight = torch.where(total > TINY, first / total.clamp_min(TINY), 1 - weight)
    return weight, 1 - weight


def _period(field: Tensor, travel: float) -> int:
    """Return the number of frames in which the fastest parts move by ``travel``."""
    speed = field.norm(dim=0).max()
    far = travel * max(field.shape[-2:])
    return int(min(max(far / max(float(speed), TINY), _SHORTEST), _LONGEST))
