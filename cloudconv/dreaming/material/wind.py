"""Measure the material's wind, and move a real frame along it.

Flow fields are backward, (h, w, 2) float32, in pixels of the small picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.planes import Group, Look, colours
from cloudconv.images import (
    TINY,
    Area,
    Floats,
    Mask,
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
    weight_size,
    within,
)

_EDGE = 0.02  # reach of the fade to unknown parts outside, of the longer side
RECENT = 4
"""The pairs of frames that show the motion of the film's end."""
_CAUTION = 0.25  # part of its way by which a moved point counts as nearer to the edge
SMOOTH = 0.06
"""The least sigma of the blur of the motion of a moved picture, of the longer side."""
_FOLD = 0.25  # greatest change of displacements per pixel; else they are blurred more
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
        path = material.views.path[[material.source_of(k) for k in pairs]]
        for shift in (path.min(0), path.max(0)):
            certain = certain * _inside(np.full(size, -shift, np.float32))
    return filled(measured, fill_weights(certain))


def end_flow(material: Material, frames: int) -> Floats:
    """Return the last pairs' flow, smooth enough to move for ``frames``."""
    recent = range(1, len(material))[-RECENT:]
    return unfolded(mean_flow(material, recent), frames)


def unfolded(flow: Floats, frames: int) -> Floats:
    """Return a flow (h, w, 2) so smooth that ``frames`` of motion do not fold a picture."""
    # A blur as wide as this is the same in few pixels, and takes a fraction of the time.
    small = resized_flow(flow, weight_size(*flow.shape[:2]))
    longest = max(small.shape)
    sigma = SMOOTH * longest
    while sigma < 2 * longest:
        smoothed = smooth(small, sigma)
        steps = max(
            float(np.abs(np.diff(smoothed, axis=axis)).max(initial=0)) for axis in (0, 1)
        )
        if frames * steps <= _FOLD:
            return resized_flow(smoothed, flow.shape[:2])
        sigma *= 1.5
    return np.full_like(flow, flow.mean((0, 1)))


class Drift:
    """A picture that moves steadily.

    ``flow``: (h, w, 2) backward flow per frame, so smooth that the picture does not fold.
    ``behind``: shows sky in place of the still parts. A mirror image continues the picture,
    because repeated edges are visible as streaks.
    """

    def __init__(self, picture: Look, flow: Floats, behind: SkyBehind) -> None:
        """Store the picture and its motion."""
        self._picture = picture
        self._flow = resized_flow(flow, behind.grain.size)
        self._fastest = float(np.linalg.norm(flow, axis=-1).max())
        self._sky = behind.sky(picture)

    def look(self, by: int, *, sky: bool) -> Look:
        """Return the picture, moved by frames, to look at.

        ``sky``: show sky in place of its still parts. These stay at their place otherwise,
        and fade to sky with the way.
        """
        flow = np.float32(by) * self._flow
        moves = self._sky.moved(flow)
        left = 0.0 if sky else max(1 - abs(by) * self._fastest / _FILLS_BY, 0.0)
        if not left:
            return moves

        def fading(group: Group, area: Area) -> Floats:
            difference = self._picture.at(group, area) - self._sky.at(group, area)
            return moves.at(group, area) + np.float32(left) * difference

        return Look(fading)

    def covers(self, by: int, size: tuple[int, int]) -> Floats:
        """Return the known part of the moved picture: (h, w), 0 for points from outside."""
        return _inside(resized_flow(np.float32(by) * self._flow, size))


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
        largest = F.adaptive_max_pool2d(torch.from_numpy(self._fraction)[None], small.shape)
        self._weights = fill_weights(1 - largest[0].numpy())
        self._mirror = _mirror(small > 1 / 2)
        self._parts = lru_cache(8)(self._parts_of)

    def _parts_of(self, group: Group) -> tuple[Floats, Floats]:
        """Return the share of the still parts in each channel, and the mirror's flow."""
        share = in_channels(resized(self._fraction, group.size), len(group.numbers))
        return share, resized_flow(self._mirror, group.size)

    def sky(self, look: Look) -> Look:
        """Return a picture with sky in its still parts, filled once for many looks."""
        whole = lru_cache(8)(self.look(look).whole)
        return Look(lambda group, area: whole(group)[area])

    def look(self, look: Look) -> Look:
        """Return a picture with sky in its still parts, to look at."""
        small = cache(lambda: filled(look.whole(self.grain), self._weights))
        sky = lru_cache(1)(lambda group: resized(group.codes(small()), group.size))

        def part(group: Group, area: Area) -> Floats:
            share, flow = self._parts(group)
            if not share[area].any():
                return look.at(group, area)
            window = needed_by(area, self._mirror, group.size)
            smooth = look.at(group, window).copy()
            lerp_into(smooth, sky(group)[window], share[window])
            places = placed_in(window, area, flow[area], group.size)
            mirrored = sample(smooth, places, mirrors=True)
            picture = smooth[within(area, window)]
            lerp_into(picture, mirrored, share[area])
            return picture

        return Look(part)


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
    return np.dstack(list(flow[:, around:-around, around:-around])).astype(np.float32)


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
