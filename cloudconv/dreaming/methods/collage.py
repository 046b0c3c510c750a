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
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.stabilise import Pan, panorama_of
from cloudconv.dreaming.material.wind import Carried, Wind, led_up, outside
from cloudconv.dreaming.methods.clip_selector import ClipSelector
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.fade_detector import FadeDetector
from cloudconv.dreaming.methods.transition import Transition, order_of
from cloudconv.dreaming.pictures import around, blurred, resized, resized_flow, weight_size

_FULL = 190  # frames of material for which the times below are meant
_SPACING = 38  # frames between two births
_BLOWS_IN = 92  # frames until a segment is all there
_FIRST_BLOWS_IN = 112
_SECOND = 46  # frames from when the first segment comes in to the second birth
_FORECAST = 20  # frames before the first segment comes in otherwise than with the wind …
_FORECAST_SHARE = 0.2  # … or that share of all frames of the material
_FADED_BLOWS_IN, _FADED_SECOND = 72, 36  # the same from when a forecast has faded before that
_WHOLE = 0.999  # of the weight: so much is all of it
_MEAN_OF = 50  # frames that tell what the material usually looks like
_RIM = 0.01  # of the longer side: around what no frame has seen, that is not shown either
_SETTLES = 30  # frames in which the edges of the last frame of a pan give way to the others'


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
        world = panorama_of(material)
        if world is None:
            yield from self._dream(material, frames, seed, loop, loop_to)
            return
        pan = Pan(world, frames, loop=loop, to_first=loop_to is not None)
        if loop_to is not None:
            loop_to = world.around(loop_to)
        made = self._dream(world, frames, seed, loop, loop_to)
        for number, picture in enumerate(made, 1):
            yield pan.view(picture, number)

    def _dream(
        self, material: Material, frames: int, seed: int, loop: bool, loop_to: Tensor | None
    ) -> Iterator[Tensor]:
        run = _Run(material, seed)
        pace = run.pace
        # The end leads to where the output begins: to the last real frame, which the dream goes on
        # from, or to the source's first.
        ending = min(pace.blows_in, frames // 2, len(material)) if loop else 0
        for number in range(frames):
            left = frames - number
            if left == ending:
                run.end(left, loop_to)
            elif left > ending and run.due:
                run.bear()
            yield run.step()


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly segments follow one another, in frames."""

    spacing: int
    blows_in: int
    first_blows_in: int
    second: int
    forecast: int
    faded_blows_in: int
    faded_second: int

    @classmethod
    def of(cls, frames: int) -> Pace:
        """For so many frames of material: short material makes short segments."""
        share = min(1.0, frames / _FULL)

        # The forecast is as good on short material.
        forecast = min(_FORECAST, int(frames * _FORECAST_SHARE))

        def scaled(count: int) -> int:
            return max(2, round(count * share))

        return cls(
            scaled(_SPACING),
            scaled(_BLOWS_IN),
            scaled(_FIRST_BLOWS_IN),
            forecast + scaled(_SECOND),
            forecast,
            scaled(_FADED_BLOWS_IN),
            scaled(_FADED_SECOND),
        )


@dataclass(slots=True)
class _Layer:
    """Pictures with what they cover (all, if None), and how far they have come in.

    ``frame``: which of the material is shown next, None where it is none of them. ``lit``: the
    frame that it has the light of.
    """

    pictures: Iterator[tuple[Tensor, Tensor | None]]
    arrival: Transition | None
    frame: int | None = None
    lit: int = -1

    def advance(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The next picture, and its weight (h, w) over what is below."""
        picture, covers = next(self.pictures)
        if self.frame is not None:
            self.lit = self.frame
            self.frame += 1
        shown = torch.ones(size, device=picture.device)
        if self.arrival is not None:
            shown = self.arrival.advance()
        return picture, shown if covers is None else shown * covers


class _Run:
    """One dream: what is on top of what, frame by frame."""

    def __init__(self, material: Material, seed: int) -> None:
        self.pace = Pace.of(len(material))
        self._material = material
        self._random = np.random.default_rng(seed)
        self._wind = Wind(material)
        self._size = weight_size(*material.size)
        self._mean = resized_flow(self._wind.mean[None], self._size)[0]
        self._chooser = ClipSelector(material, self._random)
        self._still = material.matte
        self._box = around(self._still)
        self._usual = _usual(material, self._size)
        self._pasted = material.picture(-1)
        self._seen = material.last_seen
        self._leads_to: Tensor | None = None
        self._left = self._ending = 0
        covers = material.covers(-1)
        self._carried = Carried(self._seen, material.held, self._wind, covers)
        self._forecast = _Layer(self._carried.pictures(), None)
        self._layers = [self._forecast]
        if covers is not None:
            # Nothing else may be known of a part of the picture.
            self._layers.insert(0, _Layer(_settling(self._seen, self._pasted), None))
        self._light = Light(material)
        self._births = self._number = self._next_birth = 0
        self._fading: FadeDetector | None = FadeDetector(material)

    @property
    def due(self) -> bool:
        """Whether the next segment is to be born."""
        return self._number == self._next_birth

    def bear(self) -> None:
        """Choose a segment and let it come in."""
        pace, first = self.pace, self._births == 0
        lasts = pace.first_blows_in if first else pace.blows_in
        delay = pace.forecast if first else 0
        until = pace.second if first else pace.spacing
        playing = [layer.frame for layer in self._layers if layer.frame is not None]
        start = self._chooser.choose(
            delay + lasts // 2, until + pace.blows_in + 2, playing or [len(self._material) - 1]
        )
        picture = self._material.picture(start)
        self._add(self._playing(start), picture, lasts, delay, alike_first=first)
        self._layers[-1].frame = start
        self._births += 1
        self._next_birth += until

    def end(self, frames: int, loop_to: Tensor | None) -> None:
        """Let the last segment come in: what leads up to where the output begins."""
        if loop_to is None:
            start = len(self._material) - frames
            self._add(self._playing(start), self._material.picture(start), frames)
            self._layers[-1].frame = start
            return
        self._leads_to, self._left, self._ending = loop_to, frames, frames
        self._add(led_up(self._material, loop_to, frames, self._size), loop_to, frames)
        self._layers[-1].lit = 0

    def step(self) -> Tensor:
        """The next frame: (3, H, W)."""
        self._number += 1
        self._light.follow(min(self._layers[-1].lit, len(self._material) - 1))
        pictures: list[Tensor] = []
        weights: list[Tensor] = []
        gains: list[Tensor | None] = []
        for number, layer in enumerate(list(self._layers)):
            picture, shown = layer.advance(self._size)
            if number == 1 and self._layers[0] is self._forecast:
                shown = torch.maximum(shown, self._blown_in())
            if number and bool((shown > _WHOLE).all()):
                # Nothing below it is seen any more.
                self._layers = self._layers[-(len(self._layers) - number) :]
                pictures, weights, gains = [], [], []
            if not pictures:
                shown = torch.ones_like(shown)
            pictures.append(picture)
            gains.append(self._gain(layer.lit))
            weights = [weight * (1 - shown) for weight in weights] + [shown]
        self._seen = blended(pictures, weights, self._usual, gains)
        self._paste()
        self._hand_over()
        return self._seen

    def _blown_in(self) -> Tensor:
        """Where the forecast would show what no frame has seen: (h, w) from 0 to 1."""
        way = resized_flow(self._carried.way[None], self._size)[0]
        beyond = outside(way).clamp_max(1)[None]
        rim = max(1, round(_RIM * max(self._size)))
        return blurred(functional.max_pool2d(beyond, 2 * rim + 1, 1, rim), rim / 2)[0]

    def _gain(self, frame: int) -> Tensor | None:
        """What brings a picture with the light of a frame to the light of now."""
        gain = self._light.on(min(frame, len(self._material) - 1))
        return None if gain is None else gain.to(self._material.device)

    def _hand_over(self) -> None:
        """Let the first segment come in sooner, and faster, where the forecast fades."""
        if self._fading is None:
            return
        if self._number >= self.pace.forecast or self._leads_to is not None:
            self._fading = None
        elif self._fading.over(self._seen):
            self._fading = None
            arrival = self._layers[-1].arrival
            if arrival is not None:
                arrival.begin(self.pace.faded_blows_in)
                self._next_birth = self._number + self.pace.faded_second

    def _paste(self) -> None:
        """What stands still, as the last real frame has it, and in the end as the first has it."""
        pasted, gain = self._pasted[:, *self._box], self._gain(-1)
        if self._leads_to is not None:
            self._left -= 1
            share = self._left / self._ending
            pasted = torch.lerp(self._leads_to[:, *self._box], pasted, share)
        elif gain is not None:
            pasted = pasted * resized(gain, self._pasted.shape[-2:])[:, *self._box]
        # Pictures of the material are not to be written to.
        if len(self._layers) == 1:
            self._seen = self._seen.clone()
        seen = self._seen[:, *self._box]
        seen.lerp_(pasted, self._still[self._box])

    def _playing(self, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        for frame in range(start, len(self._material)):
            yield self._material.picture(frame), self._material.covers(frame)
        while True:
            yield self._material.picture(-1), self._material.covers(-1)

    def _add(
        self,
        pictures: Iterator[tuple[Tensor, Tensor | None]],
        coming: Tensor,
        lasts: int,
        delay: int = 0,
        *,
        alike_first: bool = False,
    ) -> None:
        order = order_of(
            self._seen, coming, self._mean, self._random, self._size, alike_first=alike_first
        )
        self._layers.append(_Layer(pictures, Transition(order, self._mean, lasts, delay)))


def _usual(material: Material, size: tuple[int, int]) -> Tensor:
    """The mean of the material: (3, h, w)."""
    count = len(material)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MEAN_OF)).round().astype(int))
    total = sum(torch.from_numpy(material.glance(int(k))).float() for k in chosen)
    mean = torch.as_tensor(total).permute(2, 0, 1) / (255 * len(chosen))
    return resized(mean.contiguous(), size).to(material.device)


def _settling(first: Tensor, rest: Tensor) -> Iterator[tuple[Tensor, None]]:
    """From one picture to another, which then stays."""
    for number in count(1):
        share = number / _SETTLES
        yield torch.lerp(first, rest, share) if share < 1 else rest, None
