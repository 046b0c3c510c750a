"""Measure the material's wind, and move a real frame along it.

Flow fields are backward, (h, w, 2) float32, in pixels of the small picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.planes import Group, Look, colours, held
from cloudconv.images import (
    TINY,
    Area,
    Floats,
    Mask,
    as_picture,
    fill_weights,
    filled,
    in_channels,
    lerp_into,
    needed_by,
    placed_in,
    pointed,
    resized,
    resized_flow,
    sample,
    smooth,
    warp,
    weight_size,
    within,
)

_EDGE = 0.02  # reach of the fade to unknown parts outside, of the longer side
_RECENT = 4  # pairs that measure the motion of the last frame
_CAUTION = 0.25  # part of its way by which a moved point counts as nearer to the edge
# Sigma of the blur of the motion of a moved picture, at least, of the longer side.
_SMOOTH = 0.06
_FOLD = 0.25  # greatest change of displacements per pixel; else they are blurred more
_TURNS = 16  # frames that a picture of a slow sky shows in turn, at most
# Change of the moved frame, relative to the clip's, from which none is shown.
_ENOUGH = 0.85
_FILLED = 0.15  # still fraction of a pixel from which on the whole pixel is filled
# Sigma of the blur of the rim at which the sky is mirrored, of the longer side.
_ROUND = 0.05
_FILLS_BY = 12.0  # displacement from which only the filled picture is used, in pixels


def mean_flow(material: Material, pairs: Sequence[int]) -> Floats:
    """Return the mean flow of pairs of frames: (h, w, 2), 0 without a pair.

    ``pairs``: the later frames of the pairs. The flow is backward, in small pixels per
    frame, and continues behind still parts and where not all frames are known.
    """
    size = *material.small_size, 2
    total = sum((material.flow(k) for k in pairs), np.zeros(size, np.float32))
    measured = total / np.float32(max(len(pairs), 1))
    certain = 1 - material.views.land
    if material.views.path is not None and pairs:
        # Where a pan has not been yet, the frames are mirrored, and so is their flow.
        path = material.views.path[[material.source_of(k)[0] for k in pairs]]
        for shift in (path.min(0), path.max(0)):
            certain = certain * _inside(np.full(size, -shift, np.float32))
    return filled(measured, fill_weights(certain))


def crossing(material: Material, wind: Floats) -> float:
    """Return in how many frames a wind, (h, w, 2) in small pixels, crosses the sky."""
    x, y = np.abs(wind[material.moving].mean(0))
    height, width = material.small_size
    return float((x * width + y * height) / max(x * x + y * y, TINY))


def end_flow(material: Material, frames: int, *, first: bool) -> Floats:
    """Return the first or last pairs' flow, smooth enough to move for ``frames``."""
    pairs = range(1, len(material))
    recent = pairs[:_RECENT] if first else pairs[-_RECENT:]
    return unfolded(mean_flow(material, recent), frames)


def end_flows(material: Material, frames: int) -> list[Floats]:
    """Return the motion at both ends of a clip, see :func:`end_flow`."""
    return [end_flow(material, frames, first=first) for first in (True, False)]


def unfolded(flow: Floats, frames: int) -> Floats:
    """Return a flow (h, w, 2) so smooth that ``frames`` of motion do not fold a picture."""
    even = np.full_like(flow, flow.mean((0, 1)))
    # A blur as wide as this is the same in few pixels, and takes a fraction of the time.
    small = resized_flow(flow, weight_size(*flow.shape[:2]))
    longest = max(small.shape)
    sigma = _SMOOTH * longest
    while sigma < 2 * longest:
        smoothed = smooth(small, sigma)
        steps = max(
            float(np.abs(np.diff(smoothed, axis=axis)).max(initial=0)) for axis in (0, 1)
        )
        if frames * steps <= _FOLD:
            even = resized_flow(smoothed, flow.shape[:2])
            break
        sigma *= 1.5
    return even


class Drift:
    """Frames, the first and last of which move steadily before and after their times.

    ``frames``: a function that returns a frame by its number from 0 to ``count`` - 1.
    ``flows``: (h, w, 2) backward flow per frame at the first and at the last frame, so
    smooth that pictures do not fold. ``grain``: the group of small colours. ``behind``:
    shows sky in place of the still parts; None without any. ``turns``: the number of frames
    that are shown in turn, so that clouds of a slow sky change their form. ``mirrors``: a
    mirror image continues each picture, because repeated edges are visible as streaks.
    ``path``: (count, 2), the way that each frame was moved before, in widths; its edges are
    unknown then. ``leads``: returns the flow, (h, w, 2), that moves a frame to its time, or
    None.
    """

    def __init__(
        self,
        frames: Callable[[int], Look],
        grain: Group,
        count: int,
        flows: Sequence[Floats],
        behind: SkyBehind | None = None,
        *,
        turns: int = 0,
        mirrors: bool = True,
        path: Floats | None = None,
        leads: Callable[[int], Floats | None] = lambda _: None,
    ) -> None:
        """Store the frames and their motion."""
        self.count = count
        self.turns = turns
        self.mirrors = mirrors
        self.grain = grain
        self._frames = frames
        self._behind = behind
        self._path = path
        self._flows = [resized_flow(flow, grain.size) for flow in flows]
        self._leads = leads
        self._way = lru_cache(16)(self._joined)
        self._fastest = [float(np.linalg.norm(flow, axis=-1).max()) for flow in flows]
        self._hidden = lru_cache(4)(self._with_sky)
        # Only two frames are shown for long.
        self._filled = lru_cache(8)(lambda number, group: self._hidden(number).whole(group))

    def frame(self, k: int) -> int:
        """Return the number of the frame that a picture shows."""
        return self._source_of(k)[0]

    def look(self, k: int, *, sky: bool = False) -> Look:
        """Return the frame ``k``, or the moved picture, to look at.

        ``sky``: show sky in place of its still parts. In a moved picture these stay at
        their place, and fade to sky.
        """
        number, by = self._source_of(k)
        left = self._left(k, by, sky=sky)
        moves = self._moving(number, by, later=k > 0, sky=left < 1)
        if self._behind is None or left in (0, 1):
            return moves
        still, gone = (
            self._moving(number, 0, later=k > 0, sky=one) for one in (False, True)
        )

        def fading(group: Group, area: Area) -> Floats:
            difference = still.at(group, area) - gone.at(group, area)
            return moves.at(group, area) + np.float32(left) * difference

        return Look(fading)

    def _moving(self, number: int, by: int, *, later: bool, sky: bool) -> Look:
        """Return a frame that moves, perhaps with sky in place of its still parts.

        The frame is sampled once, at the places to which all flows lead together.
        """
        look = self._frames(number)
        if self._behind is not None and sky:
            look = self._hidden(number)
            # A frame that is not shown in turn with others moves many times.
            if by and not self.turns:
                look = Look(lambda group, area: self._filled(number, group)[area])
        flow = self._way(number, by, later)
        return look if flow is None else look.moved(flow, mirrors=self.mirrors)

    def _joined(self, number: int, by: int, later: bool) -> Floats | None:
        """Return the flow that leads to the places of a frame; None if the frame stays."""
        lead = self._leads(number)
        if not by:
            return lead
        flow = np.float32(by) * self._flows[later]
        if lead is None:
            return flow
        size = flow.shape[:2]
        moves = cv2.remap(
            resized_flow(lead, size),
            pointed(flow, size),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        joined: Floats = cv2.add(flow, moves)
        return joined

    def _left(self, k: int, by: int, *, sky: bool) -> float:
        """Return how much of the still parts is left in a picture."""
        return 0.0 if sky else max(1 - abs(by) * self._fastest[k > 0] / _FILLS_BY, 0.0)

    def _with_sky(self, number: int) -> Look:
        assert self._behind is not None
        return self._behind.look(self._frames(number))

    def covers(self, k: int, size: tuple[int, int]) -> Floats:
        """Return a picture's known part: (h, w) of ``size``, 0 for points from outside."""
        away = self._outside(k)
        if not away and self._path is None:
            return np.ones(size, np.float32)
        displacement = resized_flow(np.float32(away) * self._flows[k > 0], size)
        if self._path is not None:
            displacement = displacement - size[1] * self._path[self.frame(k)]
        return _inside(displacement)

    def _outside(self, k: int) -> int:
        return k if k < 0 else max(k - self.count + 1, 0)

    def _source_of(self, k: int) -> tuple[int, int]:
        """Return the number of a picture's frame, and for how long that has moved."""
        away = self._outside(k)
        way = 1 if k > 0 else -1
        ago = self.turns - abs(self.turns - abs(away) % max(2 * self.turns, 1))
        return min(max(k, 0), self.count - 1) - way * ago, away + way * ago


def sky_drift(
    skies: Sequence[Floats], flows: Sequence[Floats], path: Floats | None = None
) -> Drift:
    """Return the drift of small pictures, (h, w, 3) each, that show only sky.

    Before and after their times one frame is shown, not several in turn, and edges are
    repeated: a choice of footage would take a mirror image for clouds.
    """
    grain = colours(*skies[0].shape[:2])
    looks = [held(sky) for sky in skies]
    sized = [resized_flow(flow, grain.size) for flow in flows]
    return Drift(looks.__getitem__, grain, len(skies), sized, mirrors=False, path=path)


def path_of(material: Material) -> Floats | None:
    """Return the way that each frame was moved before, (n, 2) in widths, or None."""
    if material.views.path is None:
        return None
    numbers = [material.source_of(k)[0] for k in range(len(material))]
    moved = material.views.path[numbers] / material.small_size[1]
    path: Floats = moved.astype(np.float32)
    return path


def drift_of(material: Material, flows: Sequence[Floats], behind: SkyBehind) -> Drift:
    """Return the frames of a material, which drift by the motion at both ends of the clip.

    ``flows``: those of :func:`end_flows`, in pixels of the material's small pictures.
    """
    count = len(material)
    turns = min(_TURNS, count - 1) if _moves(material, flows[1]) < _ENOUGH else 0
    return Drift(
        material.look,
        behind.grain,
        count,
        flows,
        behind,
        turns=turns,
        path=path_of(material),
        leads=material.lead,
    )


def _moves(material: Material, flow: Floats) -> float:
    """Return the change of the last frame that a flow moves, relative to the clip's change.

    A change of the whole picture is light and does not count.
    """
    sky = in_channels(1 - material.views.land)

    def change(one: Floats, two: Floats) -> float:
        apart = two - one
        return float((np.abs(apart - apart.mean((0, 1))) * sky).mean())

    # Two pictures at a time: a list of all would need the memory several times.
    count = min(_TURNS + 1, len(material))
    latest = as_picture(material.glance(-1))
    moved_on = change(warp(latest, flow), latest)
    filmed = []
    for k in range(1, count):
        before = as_picture(material.glance(-1 - k))
        filmed.append(change(latest, before))
        latest = before
    return moved_on / max(float(np.mean(filmed or 0.0)), TINY)


class SkyBehind:
    """Sky in place of a picture's still parts, (H, W).

    The still parts are widened a little, so that none of their rim remains in the sky.
    Behind them the sky continues as its mirror image at their rim, or smoothly where they
    are thin. The sky beside them stays: it may glow above a ridge.
    """

    def __init__(self, still: Floats) -> None:
        """Find the still parts, and the places of the mirror image."""
        self.grain = colours(*weight_size(still.shape[0], still.shape[1]))
        """The group of small colours, of the size of the weights."""
        # Even a rim that covers a tenth of a pixel would be visible in the moved sky.
        wide = cv2.dilate(still, np.ones((5, 5), np.uint8)) / np.float32(_FILLED)
        self._fraction: Floats = wide.clip(0, 1)
        small = resized(self._fraction, self.grain.size)
        self._weights = fill_weights(1 - _largest(self._fraction, small.shape))
        self._mirror = _mirror(small > 1 / 2)
        self._parts = lru_cache(8)(self._parts_of)

    def _parts_of(self, group: Group) -> tuple[Floats, Floats]:
        """Return the share of the still parts in each channel, and the mirror's flow."""
        share = in_channels(resized(self._fraction, group.size), len(group.numbers))
        return share, resized_flow(self._mirror, group.size)

    def look(self, look: Look) -> Look:
        """Return a picture with sky in its still parts, to look at."""
        small = cache(lambda: filled(look.whole(self.grain), self._weights))
        sky = lru_cache(1)(lambda group: resized(group.codes(small()), group.size))

        def part(group: Group, area: Area) -> Floats:
            share, flow = self._parts(group)
            if not share[area].any():
                return look.at(group, area)
            window = needed_by(area, self._mirror, group.size, mirrors=True)
            smooth = look.at(group, window).copy()
            lerp_into(smooth, sky(group)[window], share[window])
            places = placed_in(window, area, flow[area], group.size)
            mirrored = sample(smooth, places, mirrors=True)
            picture = smooth[within(area, window)]
            lerp_into(picture, mirrored, share[area])
            return picture

        return Look(part)


def _largest(values: Floats, size: Sequence[int]) -> Floats:
    """Return the largest of the values (H, W) in each cell of a smaller picture, (h, w)."""
    for axis, few in enumerate(size):
        starts = np.arange(few) * values.shape[axis] // few
        values = np.maximum.reduceat(values, starts, axis)
    return values


def _mirror(hidden: Mask) -> Floats:
    """Return the flow from hidden points to their mirror images at the rim of the seen.

    ``hidden``: (h, w). The result is (h, w, 2), and 0 in what is seen or thin.
    """
    sigma = _ROUND * max(hidden.shape)
    around = round(3 * sigma) + 1
    land = np.pad(hidden.astype(np.uint8), around, mode="edge")
    inner, outer = (
        cv2.distanceTransform(region, cv2.DIST_L2, 5) for region in (land, 1 - land)
    )
    # The distance is infinite without a rim, and the image would be torn at its corners.
    depth = cv2.GaussianBlur((inner - outer).clip(-len(land), len(land)), (0, 0), sigma)
    towards = np.stack(np.gradient(depth)[::-1])
    flow = -2 * depth.clip(0) * towards / np.maximum(np.hypot(*towards), TINY)
    inner_flow: Floats = np.dstack(list(flow[:, around:-around, around:-around]))
    return inner_flow.astype(np.float32)


def _inside(displacement: Floats) -> Floats:
    """Return how certainly points of a displacement (h, w, 2) come from the picture.

    The result, (h, w), is 1 inside and where nothing moves, and falls to 0 outside. Points
    that have moved count as nearer to the edge.
    """
    height, width = displacement.shape[:2]
    edge = np.float32(_EDGE * max(height, width))
    axes = []
    # NumPy is slow along a short last axis.
    for way, place, side in zip(
        cv2.split(displacement),
        cv2.split(pointed(displacement, (height, width))),
        (width, height),
        strict=True,
    ):
        middle = np.float32((side - 1) / 2)
        caution = np.minimum(np.float32(_CAUTION) * np.abs(way), edge)
        axes.append(np.abs(place - middle) + (caution - middle))
    certainty: Floats = (1 - np.maximum(*axes) / edge).clip(0, 1)
    return certainty
