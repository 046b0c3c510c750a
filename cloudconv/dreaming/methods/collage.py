"""Mode ``collage``: the film's sky passes by again and again, as the wind carries it.

The method is cloudconv's own. The film's last frame drifts on with the wind. A frame of an
earlier time of the film follows along a cut of least error, and plays on to the film's end,
which drifts on, and so on. The light of places stays, and so does the land.

Related: Kwatra et al., Graphcut Textures, SIGGRAPH 2003 (cuts between patches of video);
Agarwala et al., Panoramic Video Textures, SIGGRAPH 2005 (a film as a moving panorama).
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import SkyBehind
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Options
from cloudconv.dreaming.methods.compositing import pyramid_mean, summed
from cloudconv.dreaming.methods.passing import Pass, Sky
from cloudconv.dreaming.planes import Look, Samples
from cloudconv.images import Floats, bounds, in_channels, lerp, lerp_into, resized, spread


def collage(material: Material, options: Options) -> Iterator[DreamFrame]:
    """Yield frames in which the film's sky passes by again and again."""
    dream = _Collage(material, options)
    for number in range(options.frames):
        yield dream.frame(number)


class _Collage:
    """The frames of one dream, one after the other."""

    def __init__(self, material: Material, options: Options) -> None:
        self._form = material.form
        self._random = np.random.default_rng(options.seed)
        self._sky = material.original.once(Sky)
        sun, glow = (resized(one, material.size) for one in (self._sky.sun, self._sky.glow))
        self._behind = SkyBehind(np.maximum(material.matte, sun))
        self._land = _Land(material, glow)
        self._passes = [Pass(-1, self._sky.times[0])]  # the film itself, before the dream
        self._filmed = lru_cache(4)(
            lambda frame: self._behind.sky(material.views.look(frame))
        )
        self._target: Look | None = None
        self._last: Pass | None = None
        if options.loop:
            self._last = self._leading(options.frames, options.loop_to)

    def _leading(self, frames: int, loop_to: Floats | None) -> Pass:
        """Return the last pass of a loop.

        A loop leads to the source's first frame. If the output begins with the dream, a
        loop leads to the last real frame instead.
        """
        lasts = max(1, min(int(self._sky.crosses), frames // 2))
        begin = self._sky.times[0]
        sweeps = range(frames - lasts, frames)
        if loop_to is None:
            return Pass(frames - 1.0, max(begin, -lasts), sweeps=sweeps)
        self._target = self._behind.sky(self._form.held(loop_to))
        self._land.lead_to(loop_to, lasts)
        return Pass(frames - begin, begin, sweeps=sweeps)

    def frame(self, number: int) -> DreamFrame:
        """Return the frame of a number, which rises by one from call to call."""
        size = self._behind.grain.size
        last, before = self._last, self._passes[-1]
        if last is not None and last.sweeps is not None and number >= last.sweeps.start:
            self._passes += [last] * (before is not last)
        elif self._sky.leaves(before, number):
            self._passes.append(self._sky.next(before, self._random))
        weights = [np.ones((*size, 2), np.float32)]
        for before, one in pairwise(self._passes):
            covers = self._sky.weights(one, before, number, size)
            weights = [*(weight * (1 - covers) for weight in weights), covers]
        while not weights[0].any():
            del self._passes[0], weights[0]
        looks, shares, pictures = [], [], []
        rest = np.zeros((*size, 3), np.float32)
        for one, weight in zip(self._passes, weights, strict=True):
            lit = np.zeros_like(rest)
            for filmed, part in self._sky.frames(one, number):
                flow = self._sky.flow(one, number, filmed, size)
                whole = self._target if one is last else None
                look = (whole or self._filmed(filmed)).moved(flow)
                small = look.whole(self._behind.grain)
                own, gain = small, np.ones(size, np.float32)
                if whole is None:
                    own, gain = self._sky.light(filmed, flow, small)
                share = weight[..., 0] * gain * np.float32(part)
                lit += np.float32(part) * own
                rest -= small * in_channels(share)
                looks.append(look)
                shares.append(share)
            pictures.append(lit)
        rest += pyramid_mean(pictures, weights) if len(pictures) > 1 else pictures[0]
        seen = [
            summed(rest, shares, looks, group, group.within(self._land.beside))
            for group in self._form.groups
        ]
        self._land.paste(seen)
        return DreamFrame(partial(self._form.rgb, seen), Composed(), seen)


class _Land:
    """The still parts of the last real frame, in front of the sky, and a sun.

    At the end of a loop these parts fade to those of the output's first frame.
    """

    def __init__(self, material: Material, sun: Floats) -> None:
        form = material.form
        still = np.maximum(material.matte, sun)
        self._form = form
        self.beside = form.in_cells(bounds((still < 1).astype(np.float32)))
        """The area that the land does not hide."""
        self._box = form.in_cells(bounds(still))
        self._places = [group.within(self._box) for group in form.groups]
        self._shares = [
            in_channels(resized(still, group.size)[place], len(group.numbers))
            for group, place in zip(form.groups, self._places, strict=True)
        ]
        picture = material.picture(-1)[self._box]
        if sun.any():
            # Clouds pass before a sun: it is as it is most often.
            views = [
                material.views.picture(k)[self._box]
                for k in spread(len(material.frames), 0, 9)
            ]
            lerp_into(picture, np.median(views, 0), in_channels(sun[self._box]))
        self._samples = form.from_rgb(picture)
        self._target = self._samples
        self._fade = 0.0
        self._left = 1.0

    def lead_to(self, picture: Floats, frames: int) -> None:
        self._target = self._form.from_rgb(picture[self._box])
        self._fade = 1 / frames

    def paste(self, seen: Samples) -> None:
        self._left = max(self._left - self._fade, 0.0)
        for samples, place, own, target, share in zip(
            seen, self._places, self._samples, self._target, self._shares, strict=False
        ):
            lerp_into(samples[place], lerp(target, own, self._left), share)
