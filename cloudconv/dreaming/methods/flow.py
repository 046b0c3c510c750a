"""flow: one picture that keeps moving along a steady field, from a clip or from a still.

Source: Holynski et al., Animating Pictures with Eulerian Motion Fields, CVPR 2021 (arXiv
2011.15128): a field that does not change with time is followed forwards and backwards from the
picture, and the two are cross-faded over a period, so that the result repeats without a seam.
Here it is sampled backwards, and where one way leads out of the picture the other is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import cos, pi

import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.sky import sky_of
from cloudconv.dreaming.material.wind import Carried, Wind, inside, sky_behind
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.transition import order_of
from cloudconv.dreaming.pictures import blurred, moved, resized_flow, weight_size
from cloudconv.models.ops import warp

_TRAVEL = 0.1  # of the longer side: how far things move in a period
_SHORTEST, _LONGEST = 24, 160  # frames of a period
_CALM = 1 / 960  # of the width a frame: the wind of a still, if none is given
_SMOOTH = 0.04  # of the longer side: blur of the field, so that nothing melts
_HORIZON = 0.3  # of the speed at the top of the sky, at its foot
_EDGE = 0.03  # of the longer side, over which a way that leads out of the picture fades
_KEPT = 0.15  # of the period at its beginning and at its end, in which nothing turns
_SOFT = 0.5  # of the rest: how long a pixel takes
_LEAST = 1e-3


class Flow:
    """The picture moves along a steady field, forwards and backwards cross-faded.

    Args:
        wind: how far the sky of a still moves from one frame to the next, (dx, dy) in pixels of
            the picture; for a clip it replaces the measured motion. None for the clip's own, or a
            calm wind from the left.
    """

    backwards = None

    def __init__(self, wind: tuple[float, float] | None = None) -> None:
        self._wind = wind

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
        last = material.picture(-1)
        still, field = self._field(material, last)
        # Where the output begins is shown by its own first frame, not by the dream's last.
        turns = frames + (loop_to is not None)
        period = _period(field)
        rounds = max(1, round(turns / period)) if loop else -(-turns // period)
        # A loop is a whole number of rounds, whose lengths differ by a frame at most.
        ends = [turns * k // rounds if loop else period * k for k in range(1, rounds + 1)]
        ways = _Ways(field, max(b - a for a, b in pairwise([0, *ends])))
        here = there = _Layer(last, still)
        order = _order(here, ways, np.random.default_rng(seed))
        # The first second is the forecast from how the last frames moved.
        measured = len(material) > 1 and self._wind is None
        carried = Carried(last, still, Wind(material)) if measured else None
        number = 0
        for end in ends:
            if loop_to is not None and end == turns:
                there = _Layer(loop_to, still)
            turn = _Turn(here, there, carried, ways, order, end - number)
            for phase in range(1, min(end, frames) - number + 1):
                yield turn.at(phase)
            here, carried, number = there, None, end

    def _field(self, material: Material, last: Tensor) -> tuple[Tensor, Tensor]:
        """What stands still, (H, W), and the backward flow of a frame, (2, h, w)."""
        size = weight_size(*material.size)
        if len(material) > 1 and self._wind is None:
            still = material.held
            field = resized_flow(Wind(material).mean[None], size)[0]
            return still, blurred(field, _SMOOTH * max(size))
        height, width = material.size
        if len(material) > 1:
            still, foot = material.held, None
        else:
            sky, foot = sky_of(last)
            still = 1 - sky
        dx, dy = self._wind or (_CALM * width, 0.0)
        wind = last.new_tensor([-dx * size[1] / width, -dy * size[0] / height])
        speed = torch.ones(size[0], device=last.device)
        if foot is not None:
            # Clouds are further away towards the horizon, and slower.
            rows = torch.arange(size[0], device=last.device) / max(1.0, foot * size[0])
            speed = 1 - (1 - _HORIZON) * rows.clamp(0, 1)
        return still, wind[:, None, None] * speed[:, None].expand(size)


class _Ways:
    """Where each point was, and will be, any number of frames away along a steady field."""

    def __init__(self, field: Tensor, period: int) -> None:
        self.period = period
        self.field = field
        ahead = -warp(field[None], -field[None])[0]
        self._back = self._followed(field, period)
        self._ahead = self._followed(ahead, period)

    def back(self, count: int) -> Tensor:
        return self._back[count].float()

    def ahead(self, count: int) -> Tensor:
        return self._ahead[count].float()

    @staticmethod
    def _followed(field: Tensor, period: int) -> list[Tensor]:
        way = torch.zeros_like(field)
        ways = [way.half()]
        for _ in range(period):
            way = field + warp(way[None], field[None])[0]
            ways.append(way.half())
        return ways


class _Layer:
    """A picture whose sky is continued behind what stands still."""

    def __init__(self, picture: Tensor, still: Tensor) -> None:
        self.picture = picture
        self.still = still
        size = weight_size(picture.shape[-2], picture.shape[-1])
        self._sky = sky_behind(picture, still, size)

    def at(self, way: Tensor) -> Tensor:
        """The sky moved: (3, H, W)."""
        size = (self.picture.shape[-2], self.picture.shape[-1])
        return moved(self._sky, resized_flow(way[None], size)[0])


class _Turn:
    """A period: from a picture (or what is ``carried`` on from it) to one, in ``count`` frames."""

    def __init__(
        self,
        here: _Layer,
        there: _Layer,
        carried: Carried | None,
        ways: _Ways,
        order: Tensor,
        count: int,
    ) -> None:
        self._here, self._there, self._carried = here, there, carried
        self._ways, self._order, self._count = ways, order, count

    def at(self, phase: int) -> Tensor:
        """The frame so many after the first picture: (3, H, W). To be asked for in order."""
        if phase == self._count:
            return self._there.picture
        back, ahead = self._ways.back(phase), self._ways.ahead(self._count - phase)
        if self._carried is None:
            earlier = self._here.at(back)
        else:
            self._carried.advance()
            earlier = self._carried.picture()
            back = resized_flow(self._carried.way[None], back.shape[-2:])[0]
        weights = _weights(self._share(phase), back, ahead)
        sky = blended([earlier, self._there.at(ahead)], weights)
        mean = 0.5 - 0.5 * cos(pi * phase / self._count)
        picture = torch.lerp(self._here.picture, self._there.picture, mean)
        return torch.lerp(sky, picture, self._here.still)

    def _share(self, phase: int) -> Tensor:
        """How far each pixel has turned, (h, w): the order travels, and is in place halfway."""
        half = self._count // 2
        away = phase - half
        way = self._ways.back(away) if away >= 0 else self._ways.ahead(-away)
        order = warp(self._order[None, None], way[None])[0, 0]
        progress = (phase / self._count - _KEPT) / (1 - 2 * _KEPT) * (1 + _SOFT)
        share = ((progress - order) / _SOFT).clamp(0, 1)
        return share * share * (3 - 2 * share)


def _order(layer: _Layer, ways: _Ways, random: np.random.Generator) -> Tensor:
    """In which order the pixels turn from what comes to what goes, halfway: (h, w) in [0, 1]."""
    half = ways.period // 2
    size = (ways.field.shape[-2], ways.field.shape[-1])
    earlier, later = layer.at(ways.back(half)), layer.at(ways.ahead(ways.period - half))
    return order_of(earlier, later, ways.field, random, size)


def _weights(share: Tensor, back: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
    """Of the way back and the way ahead; one that leads out of the picture gives in."""
    edge = max(1.0, _EDGE * max(back.shape[-2:]))
    first, second = (1 - share) * inside(back, edge), share * inside(ahead, edge)
    # Where one has turned and then leads outside, the other is better than the edge drawn out.
    first = first + (1 - inside(ahead, edge)) * inside(back, edge) * share
    second = second + (1 - inside(back, edge)) * inside(ahead, edge) * (1 - share)
    total = first + second
    weight = torch.where(total > _LEAST, first / total.clamp_min(_LEAST), 1 - share)
    return weight, 1 - weight


def _period(field: Tensor) -> int:
    """In how many frames the fastest parts travel as far as they may."""
    speed = field.norm(dim=0).flatten().quantile(0.95)
    far = _TRAVEL * max(field.shape[-2:])
    return int(min(max(far / max(float(speed), 1e-6), _SHORTEST), _LONGEST))
