"""Mode ``collage``: real footage replaces older footage, again and again, along with the wind.

The method is cloudconv's own, and all its pictures come from the material. First the wind moves the
last real frame. Then footage, which is moving frames of the material, replaces this picture. New
footage starts at another time, and may be mirrored, backwards or shifted. The
borders between old and new footage are cuts of least error that move with the wind.

Related: Kwatra et al., Graphcut Textures, SIGGRAPH 2003 (seams between patches of video); Schoedl
et al., Video Textures, SIGGRAPH 2000 (which part of a clip may follow which).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import LOOKS, Material
from cloudconv.dreaming.material.overlay import ClearFilm, overlay_of
from cloudconv.dreaming.material.wind import Carried, Recent, SkyBehind, Wind, led_up, outside
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.dreaming.methods.clip_selector import Arrangement, ClipSelector
from cloudconv.dreaming.methods.compositing import blended
from cloudconv.dreaming.methods.footage import Footage, LayerPicture
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Front, Transition, front_of
from cloudconv.dreaming.pictures import blurred, bounds, resized, resized_flow, weight_size
from cloudconv.metrics import luma

_SPACING = 48  # frames between two starts of footage, at most: longer footage leaves less choice
_FORECAST = 6  # frames that show the forecast alone
_ADAPTS = 0.04  # part of a difference of contrast from the clip that each frame corrects …
_MOST_GAIN = 1.3  # … up to this factor
_RIM = 0.01  # width of the rim around unseen parts that is hidden too, of the longer side


class Collage(DreamMethod):
    """A method that replaces older footage of the clip by new footage, along with the wind."""

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield the collage; see the base class."""
        overlay = overlay_of(material.film)
        if overlay is not None:
            material = material.with_film(ClearFilm(material.film, overlay))
            loop_to = None if loop_to is None else overlay.removed(loop_to)
        for picture in self._without_overlay(material.steady, frames, seed, loop, loop_to):
            yield picture if overlay is None else overlay.put_on(picture)

    def _without_overlay(
        self, material: Material, frames: int, seed: int, loop: bool, loop_to: Tensor | None
    ) -> Iterator[Tensor]:
        composition = _Composition(material, seed)
        # A loop leads to the source's first frame (``loop_to``). If the output begins with the
        # dream, a loop leads to the last real frame instead.
        ending = min(composition.timing.spacing, frames // 2, len(material)) if loop else 0
        for number in range(frames):
            left = frames - number
            if left == ending:
                composition.end(left, loop_to)
            elif left > ending and composition.due:
                composition.start_next()
            yield composition.step()


@dataclass(frozen=True, slots=True)
class CollageTiming:
    """The times at which footage starts and covers the picture, in frames.

    ``spacing``: from one start of footage to the next. New footage covers the picture in this time.
    ``forecast``: the time before the first footage starts.
    """

    spacing: int
    forecast: int

    @classmethod
    def of(cls, frames: int) -> CollageTiming:
        """Return the times for ``frames`` frames of material; less material gives shorter times.

        Footage is visible during two spacings. A third of the material is left to vary its start.
        """
        spacing = max(2, min(_SPACING, frames // 3))
        return cls(spacing, min(_FORECAST, spacing // 4))

    @property
    def life(self) -> int:
        """The number of frames in which footage is visible."""
        return 2 * self.spacing


@dataclass(slots=True)
class _Layer:
    """A sequence of pictures over the layers below.

    ``arrival``: the weights of the pictures; None for 1. ``footage``: the source of the pictures;
    None for pictures made from a single frame. ``arrangement``: the placements of the footage.
    ``beside``: the second footage of the arrangement, and the times at which points change to this
    footage.
    """

    pictures: Iterator[LayerPicture]
    arrival: Transition | None = None
    footage: Footage | None = None
    arrangement: Arrangement | None = None
    beside: tuple[Footage, Front] | None = None

    def advance(self, size: tuple[int, int]) -> tuple[LayerPicture, Tensor]:
        """Return the next picture, and its weight (h, w) over the layers below."""
        shot = next(self.pictures)
        shown = torch.ones(size, device=shot.picture.device)
        if self.arrival is not None:
            shown = self.arrival.advance()
        if self.footage is not None and self.beside is None:
            shown = shown * self.footage.known
        return shot, shown if shot.covers is None else shown * shot.covers

    def second(self) -> tuple[LayerPicture, Tensor] | None:
        """Return the picture of the second footage, and its weight (h, w) within the layer.

        The result is None if the layer does not show a second footage now.
        """
        if self.beside is None or self.arrival is None or self.arrangement is None:
            return None
        footage, cut = self.beside
        assert self.footage is not None
        age = self.footage.age
        weight = cut.weights(self.arrival.displacement, age, self.arrangement.life)
        weight = weight.clamp(1 - self.footage.known, footage.known)
        return (footage.at(age), weight) if bool((weight > 0).any()) else None


class _Composition:
    """The stack of layers from which the frames of one dream are made."""

    def __init__(self, material: Material, seed: int) -> None:
        """Measure the material, and make the layer of the forecast from the last frame."""
        self._material = material
        self._random = np.random.default_rng(seed)
        self._wind = Wind(material)
        self._size = weight_size(*material.size)
        self._mean = resized_flow(self._wind.mean[None], self._size)[0]
        self._light = Light(material)
        self._chooser = ClipSelector(material, self._light, self._wind.mean, self._random)
        self.timing = CollageTiming.of(len(material))
        self._still = material.matte
        self._box = bounds(self._still)
        self._clip_mean = _clip_mean(material, self._size)
        self._gain = 1.0
        self._behind = SkyBehind(material.matte, self._size)
        self._pasted = material.picture(-1)
        self._seen = material.picture(-1)
        self._leads_to: Tensor | None = None
        self._left = self._ending = 0
        self._light_frame = len(material) - 1
        recent = Recent(material, self._wind)
        carried = Carried(self._seen, material.matte, self._wind, recent)
        self._carried = carried
        self._forecast = _Layer(self._lighted(carried.pictures()))
        self._layers = [self._forecast]
        self._number = self._next_start = 0

    @property
    def due(self) -> bool:
        """True if the next footage starts now."""
        return self._number == self._next_start

    def start_next(self) -> None:
        """Choose the next footage and start the transition to this footage."""
        lasts = self.timing.spacing
        delay = self.timing.forecast if self._number == 0 else 0
        life = min(delay + self.timing.life, len(self._material))
        ages = [delay + lasts * quarter // 4 for quarter in (1, 2, 3)]
        beneath = [self._beneath(age) for age in ages]
        arrangement = self._chooser.choose(beneath, ages, life)
        self._add(arrangement, lasts, delay)
        self._next_start = self._number + delay + lasts

    def end(self, frames: int, loop_to: Tensor | None) -> None:
        """Start the last transition of a loop, to pictures that lead to the output's first."""
        if loop_to is None:
            start, last = len(self._material) - frames, len(self._material) - 1
            hidden = self._material.hidden(start, last)
            self._add(Arrangement(Placement(start, hidden=hidden)), frames)
            return
        self._leads_to, self._left, self._ending = loop_to, frames, frames
        thumb = resized(loop_to.cpu(), self._chooser.size)
        arrival = Transition(self._front(lambda age: thumb, frames, 0), self._mean, frames)
        pictures = self._lighted(led_up(self._material, loop_to, frames, self._size))
        self._layers.append(_Layer(pictures, arrival))
        self._light_frame = 0

    def step(self) -> Tensor:
        """Return the next frame: (3, H, W)."""
        self._number += 1
        self._light.follow(self._light_frame)
        shots: list[LayerPicture] = []
        weights: list[Tensor] = []
        for number, layer in enumerate(list(self._layers)):
            shot, shown = layer.advance(self._size)
            if number == 1 and self._layers[0] is self._forecast:
                shown = torch.maximum(shown, self._blown_in())
            if number and bool((shown == 1).all()):
                # This layer hides all layers below.
                self._layers = self._layers[-(len(self._layers) - number) :]
                shots, weights = [], []
            if not shots:
                shown = torch.ones_like(shown)
            shots.append(shot)
            weights = [weight * (1 - shown) for weight in weights] + [shown]
            second = layer.second()
            if second is not None:
                shots.append(second[0])
                weights[-1:] = [shown * (1 - second[1]), shown * second[1]]
        footage = self._layers[-1].footage
        if footage is not None:
            self._light_frame = footage.frame
        self._seen = blended(
            [shot.picture for shot in shots],
            weights,
            self._clip_mean,
            [shot.small for shot in shots],
            list(self._contrasted(torch.stack([shot.relit for shot in shots]))),
        )
        self._chooser.remember(self._seen)
        self._adapt()
        self._paste()
        return self._seen

    def _contrasted(self, pictures: Tensor) -> Tensor:
        """Return small pictures (N, 3, h, w) with the contrast that is needed."""
        return pictures + (self._gain - 1) * luma(pictures - self._clip_mean)[:, None]

    def _adapt(self) -> None:
        """Move the contrast a little towards the clip's; at the end of a loop, to no change."""
        gain = self._gain * self._chooser.contrast**-_ADAPTS
        self._gain = min(max(gain, 1 / _MOST_GAIN), _MOST_GAIN)
        if self._leads_to is not None:
            self._gain = 1 + (self._gain - 1) * self._left / (self._left + 1)

    def _blown_in(self) -> Tensor:
        """Return 1 where the forecast needs points outside the last frame, else 0: (h, w)."""
        displacement = resized_flow(self._carried.sampled[None], self._size)[0]
        beyond = outside(displacement).clamp_max(1)[None]
        rim = max(1, round(_RIM * max(self._size)))
        return blurred(functional.max_pool2d(beyond, 2 * rim + 1, 1, rim), rim / 2)[0]

    def _beneath(self, age: int) -> Tensor:
        """Return the thumbnail of the top layer ``age`` frames from now."""
        layer = self._layers[-1]
        if layer.footage is not None and layer.arrangement is not None:
            return self._chooser.thumb(layer.arrangement, layer.footage.age + age)
        return self._chooser.thumb(Arrangement(Placement(len(self._material) - 1)), 0)

    def _add(self, arrangement: Arrangement, lasts: int, delay: int = 0) -> None:
        front = self._front(lambda age: self._chooser.thumb(arrangement, delay + age), lasts, delay)
        arrival = Transition(front, self._mean, lasts, delay)
        footage = self._footage(arrangement.first)
        beside = None
        if arrangement.second is not None and arrangement.cut is not None:
            cut = arrangement.cut.resized(self._chooser.size, self._mean)
            beside = self._footage(arrangement.second), cut
        self._layers.append(_Layer(iter(footage), arrival, footage, arrangement, beside))

    def _footage(self, placement: Placement) -> Footage:
        return Footage(self._material, placement, self._light, self._behind, self._size)

    def _front(self, coming: Callable[[int], Tensor], lasts: int, delay: int) -> Front:
        """Return the times at which points change to incoming footage: see ``front_of``."""
        known = self._layers[-1].footage is not None
        return front_of(
            lambda age: self._beneath(delay + age),
            coming,
            self._mean,
            lasts,
            self._random,
            known=known,
        )

    def _lighted(self, pictures: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[LayerPicture]:
        """Yield layer pictures from pictures of a single frame and the known part of each.

        The single frame is the clip's last, and at the end of a loop the first.
        """
        frame = -1 if self._leads_to is None else 0
        for picture, covers in pictures:
            small = relit = resized(picture, self._size)
            gain = self._light.on(frame)
            if gain is not None:
                relit = small * resized(gain.to(small.device), self._size)
            yield LayerPicture(picture, small, relit, covers)

    def _paste(self) -> None:
        """Paste the still parts of the last real frame into the current frame.

        At the end of a loop these parts fade to those of the output's first frame.
        """
        pasted, gain = self._pasted[:, *self._box], self._light.on(-1)
        if self._leads_to is not None:
            self._left -= 1
            weight = self._left / self._ending
            pasted = torch.lerp(self._leads_to[:, *self._box], pasted, weight)
        elif gain is not None:
            gain = gain.to(pasted.device)
            pasted = pasted * resized(gain, self._pasted.shape[-2:])[:, *self._box]
        seen = self._seen[:, *self._box]
        seen.lerp_(pasted, self._still[self._box])


def _clip_mean(material: Material, size: tuple[int, int]) -> Tensor:
    """Return the mean of the material: (3, h, w)."""
    number = len(material)
    chosen = np.unique(np.linspace(0, number - 1, min(number, LOOKS)).round().astype(int))
    total = sum(torch.from_numpy(material.glance(int(k))).float() for k in chosen)
    mean = torch.as_tensor(total).permute(2, 0, 1) / (255 * len(chosen))
    return resized(mean.contiguous(), size).to(material.device)
