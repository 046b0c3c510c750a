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

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import LOOKS, Material
from cloudconv.dreaming.material.overlay import ClearFilm, overlay_of
from cloudconv.dreaming.material.wind import Carried, Recent, SkyBehind, Wind, led_up
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.dreaming.methods.clip_selector import ClipSelector, Past
from cloudconv.dreaming.methods.compositing import along_clouds, blended
from cloudconv.dreaming.methods.footage import Footage, LayerPicture
from cloudconv.dreaming.methods.layers import Layer, Stack
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.thumbs import Arrangement, Thumbs
from cloudconv.dreaming.methods.transition import Front, Transition, front_of
from cloudconv.dreaming.pictures import bounds, resized, resized_flow, weight_size
from cloudconv.metrics import luma

_FORECAST = 6  # frames that show the forecast alone
_SPACING = 0.45  # time from footage to footage, in lengths of the clip
_ADAPTS = 0.04  # part of a difference of contrast from the clip that each frame corrects …
_MOST_GAIN = 1.3  # … up to this factor


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

        Footage is visible during two spacings. The rest of the material is left to vary its start.
        """
        spacing = max(2, int(frames * _SPACING))
        return cls(spacing, min(_FORECAST, spacing // 4))

    @property
    def life(self) -> int:
        """The number of frames in which footage is visible."""
        return 2 * self.spacing


class _Composition:
    """The frames of one dream, one after the other."""

    def __init__(self, material: Material, seed: int) -> None:
        """Measure the material, and make the layer of the forecast from the last frame."""
        self._material = material
        self._random = np.random.default_rng(seed)
        wind = Wind(material)
        self._size = weight_size(*material.size)
        self._mean = resized_flow(wind.mean[None], self._size)[0]
        self._light = Light(material)
        self._thumbs = Thumbs(material, self._light, wind.mean)
        self._past = Past(self._thumbs)
        self._chooser = ClipSelector(material, self._thumbs, self._past, self._random)
        self.timing = CollageTiming.of(len(material))
        self._behind = SkyBehind(material.matte, self._size)
        self._contrast = _Contrast(_clip_mean(material, self._size))
        self._land = _Land(material, self._light)
        recent = Recent(material, wind)
        lasts = self.timing.spacing + self.timing.forecast
        carried = Carried(material.picture(-1), material.matte, wind, lasts, recent)
        forecast = self._lighted(carried.pictures(), -1)
        self._stack = Stack(carried, forecast, self._size)
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
        self._add(self._chooser.choose(beneath, ages, life), lasts, delay)
        self._next_start = self._number + delay + lasts

    def end(self, frames: int, loop_to: Tensor | None) -> None:
        """Start the last transition of a loop, to pictures that lead to the output's first."""
        if loop_to is None:
            start, last = len(self._material) - frames, len(self._material) - 1
            hidden = self._material.hidden(start, last)
            self._add(Arrangement(Placement(start, hidden=hidden)), frames)
            return
        self._land.lead_to(loop_to, frames)
        thumb = resized(loop_to.cpu(), self._thumbs.size)
        arrival = Transition(self._front(lambda age: thumb, frames, 0), self._mean, frames)
        pictures = led_up(self._material, loop_to, frames, self._size)
        self._stack.add(Layer(self._lighted(pictures, 0), arrival))

    def step(self) -> Tensor:
        """Return the next frame: (3, H, W)."""
        self._number += 1
        footage = self._stack.top.footage
        ends = 0 if self._land.leads else len(self._material) - 1
        self._light.follow(ends if footage is None else footage.frame)
        shots, weights = self._stack.advance()
        relit = torch.stack([shot.relit for shot in shots])
        forecasts = 1 if self._stack.forecasts else 0
        seen = blended(
            [shot.picture for shot in shots],
            along_clouds(weights, relit, [shot.covers for shot in shots], forecasts),
            self._contrast.mean,
            [shot.small for shot in shots],
            list(self._contrast.applied(relit)),
        )
        self._past.remember(seen)
        self._contrast.adapt(self._past.contrast)
        if self._land.leads:
            self._contrast.gain **= self._land.left
        self._land.paste(seen)
        return seen

    def _beneath(self, age: int) -> Tensor:
        """Return the thumbnail of the top layer ``age`` frames from now."""
        layer = self._stack.top
        if layer.footage is not None and layer.arrangement is not None:
            return self._thumbs.shown(layer.arrangement, layer.footage.age + age)
        return self._thumbs.frames[-1]

    def _add(self, arrangement: Arrangement, lasts: int, delay: int = 0) -> None:
        front = self._front(lambda age: self._thumbs.shown(arrangement, delay + age), lasts, delay)
        arrival = Transition(front, self._mean, lasts, delay)
        footage = self._footage(arrangement.first)
        beside = None
        if arrangement.second is not None and arrangement.cut is not None:
            cut = arrangement.cut.resized(self._thumbs.size, self._mean)
            beside = self._footage(arrangement.second), cut
        self._stack.add(Layer(iter(footage), arrival, footage, arrangement, beside))

    def _footage(self, placement: Placement) -> Footage:
        return Footage(self._material, placement, self._light, self._behind, self._size)

    def _front(self, coming: Callable[[int], Tensor], lasts: int, delay: int) -> Front:
        """Return the times at which points change to incoming footage: see ``front_of``."""
        known = self._stack.top.footage is not None
        return front_of(
            lambda age: self._beneath(delay + age),
            coming,
            self._mean,
            lasts,
            self._random,
            known=known,
        )

    def _lighted(
        self, pictures: Iterator[tuple[Tensor, Tensor | None]], frame: int
    ) -> Iterator[LayerPicture]:
        """Yield layer pictures from pictures of one ``frame`` and the known part of each."""
        for picture, covers in pictures:
            small = relit = resized(picture, self._size)
            gain = self._light.on(frame)
            if gain is not None:
                relit = small * resized(gain.to(small.device), self._size)
            yield LayerPicture(picture, small, relit, covers)


class _Contrast:
    """A correction of the contrast towards the clip's.

    ``mean``: (3, h, w), the mean picture of the clip. ``gain``: the factor of differences from it.
    """

    def __init__(self, mean: Tensor) -> None:
        """Begin with the contrast of the footage."""
        self.mean = mean
        self.gain = 1.0

    def applied(self, pictures: Tensor) -> Tensor:
        """Return small pictures (N, 3, h, w) with the contrast that is needed."""
        return pictures + (self.gain - 1) * luma(pictures - self.mean)[:, None]

    def adapt(self, contrast: float) -> None:
        """Correct a part of the difference of a ``contrast``, relative to the clip's."""
        self.gain = min(max(self.gain * contrast**-_ADAPTS, 1 / _MOST_GAIN), _MOST_GAIN)


class _Land:
    """The still parts of the last real frame, in front of the sky.

    At the end of a loop these parts fade to those of the output's first frame. ``leads``: whether
    this end has begun. ``left``: the part of the end that is left, from 1 to 0.
    """

    def __init__(self, material: Material, light: Light) -> None:
        """Store the last frame."""
        self._light = light
        self._picture = material.picture(-1)
        self._matte = material.matte
        self._box = bounds(self._matte)
        self._target = self._picture
        self._fade = 0.0
        self.left = 1.0

    @property
    def leads(self) -> bool:
        """Return whether the end of a loop has begun."""
        return self._fade > 0

    def lead_to(self, picture: Tensor, frames: int) -> None:
        """Fade to the still parts of a picture within ``frames`` frames."""
        self._target = picture
        self._fade = 1 / frames

    def paste(self, seen: Tensor) -> None:
        """Paste the still parts into the next frame, (3, H, W), in place."""
        self.left = max(self.left - self._fade, 0.0)
        pasted, gain = self._picture[:, *self._box], self._light.on(-1)
        if self.leads:
            pasted = torch.lerp(self._target[:, *self._box], pasted, self.left)
        elif gain is not None:
            size = self._matte.shape
            pasted = pasted * resized(gain.to(pasted.device), size)[:, *self._box]
        seen[:, *self._box].lerp_(pasted, self._matte[self._box])


def _clip_mean(material: Material, size: tuple[int, int]) -> Tensor:
    """Return the mean of the material: (3, h, w)."""
    number = len(material)
    chosen = np.unique(np.linspace(0, number - 1, min(number, LOOKS)).round().astype(int))
    total = sum(torch.from_numpy(material.glance(int(k))).float() for k in chosen)
    mean = torch.as_tensor(total).permute(2, 0, 1) / (255 * len(chosen))
    return resized(mean.contiguous(), size).to(material.device)
