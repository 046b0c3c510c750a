"""Measure the steady wind of a sky, and the light that belongs to places."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.images import (
    TINY,
    Floats,
    blurred,
    centres,
    connected,
    gradients,
    grid_of,
    in_channels,
    lerp_into,
    luma,
    measured_flow,
    reduced,
    resized,
    resized_flow,
    smooth,
    spread,
    warp,
    wider,
)

LIGHT_SIDE = 96
"""Longest side of the pictures of the light."""

_SIDE = 240  # longest side of the pictures whose motion is measured
_GAPS = 2, 6, 16  # frames between two pictures: the longer ones show slow winds exactly
_PAIRS = 14  # number of pairs for each gap
_ROUNDS = 12  # iterations of the robust fit
_CLEAR = 60.0  # contrast from which on a place counts fully, in levels
# Greatest difference of the speeds at the upper and the lower edge, relative to the mean.
_SLOPE = 0.2
_WHITE = 235  # least level of a sun
_OFTEN = 0.8  # least part of the frames in which a sun is white
_LARGEST = 0.2  # greatest side of a sun, of the longer side
_GLOW = 0.04  # sigma of the rim of the glow around a sun, of the longer side
_TURNS = 3  # iterations that divide light that stands from sky that moves


def steady_wind(material: Material) -> Floats:
    """Return the motion of the whole sky: (h, w, 2) forward, in small pixels a step.

    The wind is the same everywhere, but a level wind grows evenly from the upper to the
    lower edge. Places count by their contrast, and less the more they differ from the wind
    (a fit by reweighted least squares).
    """
    count = len(material)
    pictures = {k: luma(reduced(material.glance(k), _SIDE)) for k in range(count)}
    height, width = pictures[0].shape
    sky = resized(1 - material.static, (height, width)) > 1 - TINY
    down = np.repeat(centres(height)[:, None] - np.float32(0.5), width, 1)
    mean = np.zeros(2)
    slope = 0.0
    for gap in [gap for gap in _GAPS if gap < count / 2] or [1][: count - 1]:
        rows = []
        for k in spread(count, gap, _PAIRS):
            guess = _field(mean, slope, down)
            moved = warp(pictures[k - gap], np.float32(-gap) * guess, how=cv2.INTER_LINEAR)
            flow = guess - measured_flow(pictures[k], moved) / np.float32(gap)
            contrast = blurred(np.hypot(*gradients(pictures[k].astype(np.float32))), 2)
            weight = np.minimum(contrast, _CLEAR) * sky
            rim = 4 + int(gap * np.abs(mean).max())
            inner = tuple(
                slice(min(rim, side // 3), side - min(rim, side // 3), 3)
                for side in (height, width)
            )
            rows.append(np.dstack([flow, weight, down])[inner].reshape(-1, 4))
        flow_x, flow_y, weight, at = np.concatenate(rows).T.astype(float)
        fit = weight + TINY
        for _ in range(_ROUNDS):
            mean = np.array([flow_x @ fit, flow_y @ fit]) / fit.sum()
            slope = (flow_x - mean[0]) * at @ fit / ((at * at + 0.05) @ fit)
            apart = np.hypot(flow_x - mean[0] - slope * at, flow_y - mean[1])
            usual = np.median(apart[weight > 0]) if weight.any() else 1.0
            fit = weight / (1 + np.square(apart / (usual + TINY))) + TINY
    most = _SLOPE * abs(mean[0]) * (abs(mean[0]) > abs(mean[1]))
    return resized_flow(
        _field(mean, np.clip(slope, -most, most), down), material.small_size
    )


def _field(mean: Any, slope: float, down: Floats) -> Floats:
    field: Floats = np.dstack([mean[0] + slope * down, np.full_like(down, mean[1])])
    return field.astype(np.float32)


def sun_of(material: Material, wind: Floats) -> tuple[Floats, Floats]:
    """Return the share of a sun in each pixel, and of its glow: (h, w) each, for analysis.

    A sun is white in nearly all frames, and smaller than the way of the wind in the film. A
    sun that clouds cover when the film ends has no glow.
    """
    white = np.mean([luma(material.glance(k)) > _WHITE for k in spread(len(material))], 0)
    shows = luma(material.glance(-1)) > _WHITE
    sun, glow = np.zeros((2, *white.shape), np.float32)
    way = len(material) * float(np.linalg.norm(wind.mean((0, 1))))
    for part in connected(white > _OFTEN, 4):
        _, _, *sides = cv2.boundingRect(part)
        if max(sides) < min(way / 2, _LARGEST * max(white.shape)):
            reach = max(sides) // 4 + 4
            sun = np.maximum(sun, part)
            if shows[part > 0].mean() > 1 / 2:
                wide = wider(part, reach).astype(np.float32)
                glow = np.maximum(glow, smooth(wide, reach / 2))
    return sun, glow


def standing_light(
    skies: Sequence[Floats],
    clear: Floats,
    sun: Floats,
    wind: Floats,
    times: Sequence[float],
) -> Floats:
    """Return the light of each filmed frame that does not move with the wind: (n, h, w, 3).

    What stands in all frames is divided from what moves: each is the mean of what the other
    does not explain. What neither explains is light that changes in time. Light is coarse,
    but the glow around a sun is as it is most often.

    Args:
        skies: the frames without land and sun, (h, w, 3) each.
        clear: (h, w), the share of the sky in each pixel.
        sun: (h, w), the share of a sun in each pixel.
        wind: the result of :func:`steady_wind`.
        times: the time of each frame, in steps.
    """
    chosen = spread(len(times), 0, 20)
    films = [skies[j] for j in chosen]
    size = clear.shape
    side = max(size)
    sky = (clear > 0.98) + np.float32(1e-4)
    wind = resized_flow(wind, size)

    def soft(values: Floats, sigma: float) -> Floats:
        weighted = blurred(values * in_channels(sky), sigma * side)
        return weighted / blurred(sky, sigma * side)[..., None]

    def ways_to(number: int) -> list[Floats]:
        """Return the motion of each chosen frame to a frame."""
        return [wind * np.float32(times[other] - times[number]) for other in chosen]

    def seen_along(way: Floats) -> Any:
        places = cv2.split(way + grid_of(size))
        return cv2.remap(sky, *places, cv2.INTER_LINEAR) + np.float32(1e-6)

    def apart(own: Any, rest: Any, row: Any, shares: Any) -> Any:
        """Return by how much a frame differs from the mean of all moved frames."""
        moved = (
            warp(one, way, how=cv2.INTER_LINEAR) * in_channels(share)
            for one, way, share in zip(rest, row, shares, strict=True)
        )
        return own - sum(moved) / in_channels(sum(shares))

    ways = [*map(ways_to, chosen)]
    seen = [[*map(seen_along, row)] for row in ways]
    usual = np.median(films, 0).astype(np.float32)
    stands = soft(usual, 1 / 4)
    # A parabola in time: clouds that pass are no change of light.
    powers = np.vander(np.asarray(times) / max(-times[0], TINY), min(3, len(chosen)))

    def steadily(changes: Any) -> Any:
        """Return changes of the chosen frames, as far as a parabola explains them."""
        flat = np.stack(changes).reshape(len(chosen), -1)
        fit, *_ = np.linalg.lstsq(powers[chosen], flat, rcond=None)
        mean = flat.mean(0)
        left = np.square(flat - powers[chosen] @ fit).sum(0)
        sure = 1 - left / np.square(flat - mean).sum(0).clip(TINY)
        every = mean + sure.clip(0, 1) * (powers @ fit - mean)
        return every.reshape(-1, *stands.shape).astype(np.float32)

    changes = steadily([soft(film - usual, 1 / 4) for film in films])[chosen]
    for _ in range(_TURNS):
        rest = [
            (film - stands - change) * in_channels(sky)
            for film, change in zip(films, changes, strict=True)
        ]
        beside = zip(rest, ways, seen, strict=True)
        left = np.stack([apart(own, rest, row, shares) for own, row, shares in beside])
        always = left.mean(0)
        stands = stands + soft(always, 1 / 8)
        changes += np.stack([soft(one - always, 1 / 4) for one in left])
    glow = blurred(wider((sun > 0).astype(np.float32), side // 10), _GLOW * side)
    lerp_into(stands, usual, in_channels(glow))
    lights: Floats = stands + steadily(changes)
    return lights
