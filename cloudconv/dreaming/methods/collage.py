"""Mode ``collage``: real footage replaces older footage again and again, by the wind.

The method is cloudconv's own, and all its pictures come from the material. First the wind
moves the last real frame. Then footage, which is moving frames of the material, replaces
this picture. New footage starts at another time, and is shifted.
The borders between old and new footage are cuts of least error that move with the wind.

Related: Kwatra et al., Graphcut Textures, SIGGRAPH 2003 (seams between patches of video);
Schoedl et al., Video Textures, SIGGRAPH 2000 (which part of a clip may follow which).
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cloudconv.dreaming.material.light import Light, lit
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import (
    Drift,
    SkyBehind,
    crossing,
    drift_of,
    end_flow,
    end_flows,
    mean_flow,
    sky_drift,
)
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Options
from cloudconv.dreaming.methods.clip_selector import PARTS, ClipSelector, Past
from cloudconv.dreaming.methods.compositing import mixed, summed
from cloudconv.dreaming.methods.pieces import Footage, Piece, Thumbs, visible
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import front_of
from cloudconv.dreaming.planes import Samples
from cloudconv.dreaming.vitals.features import SPAN
from cloudconv.images import (
    Floats,
    as_picture,
    bounds,
    in_channels,
    lerp,
    lerp_into,
    resized,
    resized_flow,
    spread,
    weight_size,
)

_SPACING = 0.45  # least time from footage to footage, in lengths of the clip
_SLOWEST = 10.0  # greatest such time, in seconds
# Part of the way across the picture by which the sky moves while one place changes.
_FADE = 0.23
# Time in which fine detail changes, relative to the time in which the sky itself does.
_FINE_FADE = 0.6
_STEP = 1 / 255  # change of a gain from which the land is lit again: a level of white


def collage(material: Material, options: Options) -> Iterator[DreamFrame]:
    """Yield frames in which new footage replaces older footage along with the wind."""
    composition = _Composition(material, options.seed)
    frames = options.frames
    # A loop leads to the source's first frame (``loop_to``). If the output begins with the
    # dream, a loop leads to the last real frame instead.
    ending = min(composition.spacing, frames // 2) if options.loop else 0
    for number in range(frames):
        left = frames - number
        if left == ending:
            composition.end(left, options.loop_to)
        elif left > ending and number % composition.spacing == 0:
            composition.start_next()
        yield composition.step()


class _Sketch:
    """The thumbnails of a clip and their wind, which collages of all sizes share.

    ``light``: at its beginning. ``flows``: the motion at both ends. ``spacing``:
    the number of frames from footage to footage. ``fades``: see ``Front``. ``firsts``: the
    first piece of each seed, and the state of the random numbers after its choice.
    """

    def __init__(self, material: Material) -> None:
        self.firsts: dict[int, tuple[Piece, Any]] = {}
        wind = mean_flow(material, spread(len(material), 1))
        self.light = Light(material)
        crosses = crossing(material, wind)
        shortest = max(2, int(len(material) * _SPACING))
        # New footage arrives while the wind crosses the picture, so that old sky leaves as
        # new sky enters.
        self.spacing = max(shortest, int(min(crosses, _SLOWEST / float(material.step))))
        # Without wind all places fade slowly.
        coarse = min(_FADE * crosses, self.spacing / 2) or self.spacing / 2
        self.flows = end_flows(material, self.spacing)
        self.thumbs = Thumbs(material, self.light, wind, self.flows, self.spacing)
        lag = max(1, min(round(SPAN / material.step), len(material) // 2))
        fine = max(1.0, _FINE_FADE * self.thumbs.changes_in(lag))
        self.fades = min(coarse, fine), coarse


class _Composition:
    """The frames of one dream, one after the other."""

    def __init__(self, material: Material, seed: int) -> None:
        self._material = material
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._size = weight_size(*material.size)
        self._form = material.form
        self._sketch = sketch = material.original.once(_Sketch)
        self._light = sketch.light.anew()
        self.spacing = sketch.spacing
        flows = [resized_flow(flow, material.small_size) for flow in sketch.flows]
        self._behind = SkyBehind(material.matte)
        self._thumbs = sketch.thumbs
        self._past = Past(self._thumbs)
        self._chooser = ClipSelector(
            material, self._thumbs, self._past, self._random, sketch.fades
        )
        pictures = [
            resized(as_picture(material.glance(k)), self._size)
            for k in spread(len(material))
        ]
        self._mean = np.mean(pictures, 0)
        self._land = _Land(material, self._light)
        footage = Footage(drift_of(material, flows, self._behind), self._light)
        self._footage = footage, self._thumbs.footage
        self._pieces = [Piece(self._footage, 0, Placement(len(material)))]
        self._number = 0

    def start_next(self) -> None:
        firsts = self._sketch.firsts
        if self._number == 0 and self._seed in firsts:
            piece, self._random.bit_generator.state = firsts[self._seed]
            self._pieces.append(replace(piece, footage=self._footage))
            return
        blank = Piece(self._footage, self._number, Placement(0), life=2 * self.spacing)
        ages = [self.spacing * number // PARTS for number in range(PARTS)]
        older = [self._beneath(age)[0] for age in ages]
        piece = self._arriving(self._chooser.choose(blank, older, ages), self.spacing)
        self._pieces.append(piece)
        if self._number == 0:
            # The footage of a trial has other sizes.
            thumbs = self._thumbs.footage
            kept = replace(piece, footage=(thumbs, thumbs))
            firsts[self._seed] = kept, self._random.bit_generator.state

    def end(self, frames: int, loop_to: Floats | None) -> None:
        """Start a loop's last transition, to pictures that lead to the output's first."""
        if loop_to is None:
            start = Placement(len(self._material) - frames)
            piece = Piece(self._footage, self._number, start, life=frames)
        else:
            self._land.lead_to(loop_to, frames)
            flows = [end_flow(self._material, frames, first=True)] * 2
            looks = [self._form.held(loop_to)]
            drift = Drift(looks.__getitem__, self._behind.grain, 1, flows, self._behind)
            sky = drift.look(0, sky=True).whole(drift.grain)
            thumbs = sky_drift([resized(sky, self._thumbs.size)], flows)
            footage = (
                Footage(drift, self._light),
                Footage(thumbs, self._light, follows=False),
            )
            piece = Piece(footage, self._number, Placement(-frames), life=frames)
        self._pieces.append(self._arriving(piece, frames))

    def step(self) -> DreamFrame:
        top = self._pieces[-1]
        self._light.follow(top.footage[0].frame(top.first, self._number - top.start))
        pictures, weights, hidden = visible(self._pieces, self._number, self._thumbs.points)
        del self._pieces[:hidden]
        rest, shares = mixed(
            weights,
            [picture.small for picture in pictures],
            [picture.relit for picture in pictures],
            self._mean,
        )
        form = self._form
        looks = [picture.look for picture in pictures]
        seen = [
            summed(rest, shares, looks, group, group.within(self._land.beside))
            for group in form.groups
        ]
        self._number += 1
        self._past.remember(partial(form.small, seen))
        self._land.paste(seen)
        return DreamFrame(partial(form.rgb, seen), Composed(), seen)

    def _beneath(self, age: int) -> tuple[Floats, Floats]:
        """Return the last piece's thumbnail in ``age`` frames, and its known part."""
        return self._pieces[-1].thumbnail(self._number + age, self._thumbs.points)

    def _arriving(self, piece: Piece, lasts: int) -> Piece:
        points = self._thumbs.points
        front = front_of(
            self._beneath,
            lambda age: piece.thumbnail(self._number + age, points),
            points.wind,
            lasts,
            self._random,
            self._sketch.fades,
        )
        return replace(piece, front=front)


class _Land:
    """The still parts of the last real frame, in front of the sky.

    At the end of a loop these parts fade to those of the output's first frame.
    """

    def __init__(self, material: Material, light: Light) -> None:
        form = material.form
        self._form = form
        self._light = light
        self._size = material.size
        self.beside = form.in_cells(bounds((material.matte < 1).astype(np.float32)))
        """The area that the land does not hide."""
        self._box = form.in_cells(bounds(material.matte))
        self._picture = material.picture(-1)[self._box]
        self._places = [group.within(self._box) for group in form.groups]
        self._shares = [
            in_channels(resized(material.matte, group.size)[place], len(group.numbers))
            for group, place in zip(form.groups, self._places, strict=True)
        ]
        self._samples = form.from_rgb(self._picture)
        self._relit: tuple[Floats, Samples] | None = None
        self._target: Samples | None = None
        self._fade = 0.0
        self._left = 1.0

    def lead_to(self, picture: Floats, frames: int) -> None:
        self._target = self._form.from_rgb(picture[self._box])
        self._fade = 1 / frames

    def paste(self, seen: Samples) -> None:
        if not self._picture.size:
            return
        self._left = max(self._left - self._fade, 0.0)
        pasted = self._lit() if self._target is None else self._on_the_way(self._target)
        for samples, place, one, share in zip(
            seen, self._places, pasted, self._shares, strict=True
        ):
            lerp_into(samples[place], one, share)

    def _lit(self) -> Samples:
        """Return the land in the current light."""
        gain = self._light.on(-1)
        if gain is None:
            return self._samples
        if self._relit is None or np.abs(gain - self._relit[0]).max() > _STEP:
            picture = lit(self._picture, resized(gain, self._size)[self._box])
            self._relit = gain, self._form.from_rgb(picture)
        return self._relit[1]

    def _on_the_way(self, target: Samples) -> Samples:
        both = zip(target, self._samples, strict=True)
        return [lerp(end, begin, self._left) for end, begin in both]
