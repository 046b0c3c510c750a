"""Let a film of a sky pass by again and again, as the wind carries the sky.

A *pass* is the film as it passes once: its first frame comes in with the wind, the film
plays, and its last frame leaves. So all sky moves at one speed, nothing is mirrored, and
each cloud comes in at the edge. Before an oblique wind, sky must come in from two sides,
and only the film itself shows both: a pass plays in its place, and takes over where sky
comes in. Film times and dream times are in steps; the film ends at time 0.

Source of the cut between two passes: Kwatra et al., Graphcut Textures, SIGGRAPH 2003, in
OpenCV's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.steady import (
    LIGHT_SIDE,
    standing_light,
    steady_wind,
    sun_of,
)
from cloudconv.dreaming.material.wind import RECENT, SMOOTH, SkyBehind, unfolded
from cloudconv.dreaming.planes import colours, held
from cloudconv.images import (
    TINY,
    Floats,
    as_picture,
    blurred,
    centres,
    gradients,
    grid_of,
    in_channels,
    luma,
    reduced,
    resized,
    resized_flow,
    smooth,
    spread,
    warp,
)

SLOW = 50.0
"""Time in which a slow wind crosses the picture, in seconds."""

_OVERLAPS = 0.1, 0.14, 0.19, 0.25  # of two passes, in times of a crossing
_SLOWER = 0.15  # way that slow clouds stay behind the wind, in widths
_STARTS = 5  # number of film times at which a pass may start
_LIFE = 1.2  # film time that a frame that leaves runs back and forth, in seconds
_GRAIN = 8  # frames of a slow sky that are shown in turn
_EDGE = 0.1  # part of a crossing in which this motion begins
_GOES_ON = 1.5  # time constant with which the film's own motion ends, in seconds
_TURN = 0.12  # part of the height by which a wind that blows across still carries clouds
# Least way of an oblique wind across the picture while it crosses, as a part of that side.
_OBLIQUE = 0.5
_SOFT = 0.06  # sigma of a cut in coarse detail, of the longer side
# Cost of the contrast of clouds in view that a cut takes away, for a whole crossing.
_KEPT = 100.0
# Directions of hues around grey, of length 1, evenly over half a circle.
_ANGLES = np.pi * centres(4)
_AXES = np.outer(np.cos(_ANGLES), np.array([1, -1, 0], np.float32) / 2**0.5) + np.outer(
    np.sin(_ANGLES), np.array([1, 1, -2], np.float32) / 6**0.5
)
_FAINT = 0.1  # added to a brightness before it divides
_UNLIKE = 0.2  # random part of the cost of a pass
_AGAIN = 0.5  # added part for a pass that starts like the one before
_SLOWEST = 1e-5  # least speed, in widths a step


def _ease(part: Any) -> Any:
    """Return a part, cut to 0 to 1, that begins and ends slowly."""
    part = np.clip(part, 0, 1)
    return part * part * (3 - 2 * part)


def _rest(material: Material, wind: Floats, sky: Floats, frames: int) -> Floats:
    """Return the flow of the film's end beside the wind, (h, w, 2), where it is sure.

    The flow is so smooth that ``frames`` of it do not fold a picture.
    """
    pairs = range(1, len(material))[-RECENT:]
    grey = luma(material.glance(-1)).astype(np.float32)
    # The rounding of cv2.magnitude depends on the place in memory.
    sure = smooth(np.hypot(*gradients(grey)) * sky, 2)
    sigma = SMOOTH * max(sure.shape)
    rest = np.mean([material.flow(k) + wind for k in pairs] or [0 * wind], 0)
    total = blurred(rest * in_channels(sure, 2), sigma)
    even = total / in_channels(blurred(sure, sigma) + np.float32(1), 2)
    return unfolded(even, frames)


def _bright(picture: Floats) -> Floats:
    return luma(picture).clip(0) + np.float32(_FAINT)


def _hues(picture: Floats) -> Floats:
    """Return how far colours are in each direction, over their brightness: (h, w, 4)."""
    hues = cv2.transform(picture, _AXES) / in_channels(_bright(picture), 4)
    return hues.astype(np.float32, copy=False)


def _shown(films: Sequence[Floats], reach: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return the least and the greatest hues at each place, (h, w, 4) each, with grey.

    ``reach``: how far above and beside a place hues count as its own.
    """
    hues = np.stack([_hues(films[j]) for j in spread(len(films))])
    beside = np.ones([2 * one + 1 for one in reach], np.uint8)
    return (
        cv2.erode(hues.min(0), beside).clip(max=0),
        cv2.dilate(hues.max(0), beside).clip(0),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """A film that passes once.

    ``end``: the number of the dream's frame at which the film ends. ``first``: the film
    time from which on the film plays. ``cut``: where this pass covers the pass before when
    that film ends, (h, w, 2) in [0, 1], in fine and in coarse detail; the cut moves with
    the wind. ``sweeps``: the frames in which the last pass of a loop covers all, however
    slow the wind is.
    """

    end: float
    first: float
    cut: Floats = field(default_factory=lambda: np.zeros((1, 1, 2), np.float32))
    sweeps: range | None = None


class Sky:
    """A film's sky, its wind and its light, which dreams of all sizes share.

    ``carries``: the wind that brings new sky, (h, w, 2): along one axis, or along both if
    the wind is oblique. ``since``: the time since which this wind has carried each point of
    the picture, (h, w) of the size for analysis. ``crosses``: the least time in which the
    wind crosses.
    """

    def __init__(self, material: Material) -> None:
        """Measure the film."""
        last = material.times[-1]
        self.times = [float((time - last) / material.step) for time in material.times]
        self.wind = steady_wind(material)
        self.axis = int(np.abs(self.wind).mean((0, 1)).argmax())
        height, width = material.small_size
        main = self.wind[..., self.axis]
        least = np.float32(_SLOWEST * width)
        main[:] = np.where(np.abs(main) < least, np.copysign(least, main.mean()), main)
        self.sun, self.glow = sun_of(material, self.wind)
        still = np.maximum(material.static, self.sun)
        side = (width, height)[self.axis]
        ways = np.abs(self.wind).mean((0, 1)) / (width, height)
        self.oblique = bool(ways[1 - self.axis] > _OBLIQUE * ways[self.axis])
        if self.oblique:
            self.wind[:] = self.wind.mean((0, 1))
        self.carries = self.wind * np.float32(self.oblique)
        self.carries[..., self.axis] = main
        self.since: Floats = np.full((height, width), np.inf, np.float32)
        for axis in (0, 1):
            speed = self.carries[..., axis]
            place = grid_of((height, width))[..., axis]
            way = place if speed.mean() > 0 else np.flip(place, 1 - axis)
            self.since = np.minimum(self.since, way / np.maximum(np.abs(speed), TINY))
        self.crosses = float((side / np.abs(main)).min())
        second = 1 / float(material.step)
        self.slow = SLOW * second
        self.life = min(_LIFE * second, -self.times[0] / 2, 0.08 * self.crosses)
        # In a slow sky, little but grain changes from frame to frame.
        self.grain = min(_GRAIN, self.life) if self.crosses > self.slow / 2 else TINY
        self.opens = 3 * second
        self.goes_on = _GOES_ON * second
        cross = self.wind[..., 1 - self.axis].mean()
        self.turn = _TURN * (height, width)[self.axis] / max(abs(float(cross)), TINY)
        rest = _rest(material, self.wind, 1 - still, round(self.goes_on))
        # The edge follows the wind, and the picture is stretched by half there, at most.
        most = np.float32(_EDGE * side / (2 * self.goes_on))
        rest /= np.maximum(np.linalg.norm(rest, axis=2) / most, 1)[..., None]
        self.rest = rest * _ease(self.since / (_EDGE * self.crosses))[..., None]
        smalls = [
            reduced(material.views.small(j), LIGHT_SIDE) for j in range(len(self.times))
        ]
        size = smalls[0].shape[:2]
        behind = SkyBehind(still)
        self._films = [
            behind.look(held(as_picture(one))).whole(colours(*size)) for one in smalls
        ]
        self._clear = resized(1 - still, size)
        # Of the sky that may come, a place has seen as much as the wind has carried by.
        unseen = max(1 + self.times[0] / self.crosses, 0)
        self._shown = _shown(
            self._films,
            (self.oblique * round(size[0] * unseen / 2), round(size[1] * unseen / 2)),
        )
        self.lights = standing_light(
            self._films, self._clear, resized(self.sun, size), self.wind, self.times
        )
        self.starts = self._starts()

    # How a pass moves

    def film_time(self, one: Pass, number: float) -> float:
        """Return the film time that a pass shows at a frame of the dream."""
        time = number - one.end
        begin = self.times[0]
        if time > 0:
            # Before, sky would be needed that was not yet in the picture.
            turns = max(time - self.opens / 3, 0) / (1.4 * self.life + TINY)
            time_back = self.life * float(1 - np.cos(np.pi * turns)) / 2
            return abs(time % (2 * self.grain) - self.grain) - self.grain - time_back
        if time < one.first:
            own = one.first - begin
            return begin + own * float(np.exp((time - one.first) / max(own, TINY)))
        return time

    def frames(self, one: Pass, number: float) -> list[tuple[int, float]]:
        """Return the filmed frames around a film time, and their shares."""
        time = self.film_time(one, number)
        later = min(max(int(np.searchsorted(self.times, time)), 1), len(self.times) - 1)
        gap = self.times[later] - self.times[later - 1]
        # Two frames are mixed as seldom as possible: each mixture is less sharp.
        share = min(max(2 * (time - self.times[later - 1]) / gap - 1 / 2, 0.0), 1.0)
        both = [(later - 1, 1 - share), (later, share)]
        return [(frame, part) for frame, part in both if part > 1 / 64]

    def flow(self, one: Pass, number: float, frame: int, size: tuple[int, int]) -> Floats:
        """Return the flow, (h, w, 2) of ``size``, from a pass back to a filmed frame."""
        time = number - one.end
        wind, carries = (resized_flow(one, size) for one in (self.wind, self.carries))
        beside = wind - carries
        away = self.times[frame]
        way = np.float32(away - time) * carries
        if time <= 0:
            return way + np.float32(away - self.film_time(one, number)) * beside
        # The motion of the film's end goes on, and ends slowly.
        gone = np.float32(1 - np.exp(-time / self.goes_on)) * np.float32(self.goes_on)
        own = warp(gone * resized_flow(self.rest, size), np.float32(-time) * wind)
        part = min(time / self.turn, 1)
        turned = self.turn * (part - part**3 + part**4 / 2)
        # Nothing comes in across the wind: there the picture is stretched.
        across = 1 - self.axis
        place = grid_of(size)[..., across]
        side = size[self.axis]
        own[..., across] += (away - turned) * beside[..., across]
        wall = np.where(own[..., across] < 0, place, side - 1 - place) * np.float32(
            2 / side
        )
        own[..., across] *= _ease(wall)
        return way + own

    def light(self, frame: int, flow: Floats, sky: Floats) -> tuple[Floats, Floats]:
        """Return a moved sky, (h, w, 3), in the light of its place, and the gain."""
        size = flow.shape[:2]
        there = resized(self.lights[-1], size)
        filmed = resized(self.lights[frame], size)
        here = warp(filmed, flow, how=cv2.INTER_LINEAR, mirrors=True)
        gain = ((there + _FAINT) / (here + _FAINT)).clip(0.6, 1.6).mean(2)
        lit = (sky - here) * in_channels(gain) + there
        # No cloud gets a hue that is neither its own nor that of its place, nor one that
        # the film does not show there.
        own, place, hue = (_hues(one) for one in (sky, there, lit))
        shown = (resized(one, size) for one in self._shown)
        near = hue.clip(np.minimum(own, place), np.maximum(own, place)).clip(*shown)
        beyond = (hue - near) * _bright(lit)[..., None]
        return lit - cv2.transform(beyond, _AXES.T / np.float32(2)), gain

    def weights(
        self, one: Pass, before: Pass, number: float, size: tuple[int, int]
    ) -> Floats:
        """Return how far a pass covers another, (h, w, 2): fine and coarse detail."""
        time = number - before.end
        since = resized(self.since, size) - np.float32(time)
        if one.sweeps is not None:
            part = (number + 1 - one.sweeps.start) / len(one.sweeps)
            swept = _ease((1.15 * part - resized(self.since, size) / self.crosses) / 0.15)
            return np.dstack([swept, swept])
        # Of what is in view when the film ends, fine detail changes first, and all slowly.
        film_ends = before.end < 0 or self.oblique
        opened = float(_ease(time / self.opens)) if film_ends else 1.0
        way = np.float32(-time) * resized_flow(self.carries, size)
        cut = warp(resized(one.cut, size), way, how=cv2.INTER_LINEAR)
        moved = time if film_ends else self.crosses
        soft = np.float32(min(0.015 * self.crosses, max(moved, TINY)))
        wide = np.float32(0.2 * self.crosses) + soft
        # Sky that has come in since the time that the pass before shows is not known there.
        back = self.film_time(before, number) if time > 0 else 0.0
        fine = np.maximum(
            _ease(1 / 4 - (since + np.float32(back)) / soft), opened * cut[..., 0]
        )
        late = np.float32((1 - opened) * 0.2 * self.opens) if film_ends else 0
        coarse = np.maximum(_ease(-2.5 * (since + late) / wide), opened * cut[..., 1])
        return np.dstack([fine, coarse])

    # Which pass follows

    def leaves(self, one: Pass, number: int) -> bool:
        """Return whether another pass may already be seen after this one."""
        return number >= one.end - 2 * _OVERLAPS[-1] * self.crosses

    def next(self, before: Pass, random: np.random.Generator) -> Pass:
        """Return a pass that follows another: one of those with small costs."""
        costs = [
            start[3] * (1 + _UNLIKE * random.random() + _AGAIN * (start[0] == before.first))
            for start in self.starts
        ]
        first, step, cut, _ = self.starts[int(np.argmin(costs))]
        return Pass(before.end + step - first, first, cut)

    def _starts(self) -> list[tuple[float, float, Floats, float]]:
        """Return passes that may follow: their first film time, step, cut, and cost."""
        begin = self.times[0]
        most = max((-begin - self.life) / self.crosses, 0.03)
        found = []
        for overlap in sorted({min(one, most) for one in _OVERLAPS}):
            step = 0.0 if self.oblique else (1 - overlap) * self.crosses
            # No cloud is in the picture twice: so late a start, at most. Clouds may be
            # slower than the wind. A film in its place plays as a whole.
            latest = max(begin, -(overlap + _SLOWER) * self.crosses)
            earliest = min(begin + self.life, latest)
            firsts = np.linspace(earliest, latest, _STARTS).tolist()
            for first in [begin] if self.oblique else firsts:
                cut, cost = self._cut(first, step, overlap * self.crosses)
                # A wide overlap takes clouds away. A film of which one half plays while the
                # clouds come in, and the other then, is alive.
                cost *= (1 + 2 * overlap) * (1 + abs(first / begin - 1 / 2))
                found.append((first, step, cut, cost))
        return found

    def _cut(self, first: float, step: float, overlap: float) -> tuple[Floats, float]:
        """Return the cut of least difference to a pass that follows, and its cost.

        The cut goes around what differs, in two dimensions (a minimum cut, by OpenCV).
        """
        size = self._films[0].shape[:2]
        blank = Pass(0, first)
        after = Pass(step - first, first)
        pictures = []
        for one, number in ((blank, 0.0), (after, (step or -first) / 2)):
            frame = self.frames(one, number)[-1][0]
            flow = self.flow(one, 0.0, frame, size)
            sky = warp(self._films[frame], flow, how=cv2.INTER_LINEAR, mirrors=True)
            pictures.append(self.light(frame, flow, sky)[0])
        old, new = pictures
        contrast = [np.hypot(*gradients(255 * luma(one))) for one in pictures]
        apart = 255 * np.abs(old - new).sum(2)
        apart = (
            apart + smooth(apart, 1.5) + 4 * contrast[0] + 4 * contrast[1]
        ) * self._clear + 1
        kept = smooth(contrast[0], 1) * self._clear
        since = resized(self.since, size)
        may = since >= self.life, since <= max(overlap, self.life)
        masks = [255 * one.astype(np.uint8) for one in may]
        # The cut of two pictures whose difference is the cost.
        costs = [np.zeros_like(old), in_channels(apart)]
        finder = cv2.detail.GraphCutSeamFinder("COST_COLOR")
        _, found = finder.find(costs, [(0, 0), (0, 0)], masks)
        cut = (found.get() > 0).astype(np.float32)
        border = cv2.dilate(cut, np.ones((3, 3))) > cut
        cost = float(apart[border].sum()) / max(int(border.sum()), 1)
        cost += _KEPT * float((kept * cut).mean())
        return np.dstack([cut, blurred(cut, _SOFT * max(size))]), cost
