"""Which way of dreaming fits a clip, and why, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudconv.dreaming.likeness import distances, repetition, thumbnails
from cloudconv.dreaming.material import Material

_LEAST = 8  # frames; fewer are no material for anything that plays them
_STILL = 0.05  # mean speed in pixels of the small picture a frame, below which nothing moves
_REPEATS = 1.5  # of `repetition`; below it the motion comes back


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode's name, and a sentence on why."""

    mode: str
    why: str


def choose(material: Material) -> Choice:
    """The mode that should hold on this material."""
    count = len(material)
    if count == 1:
        return Choice("flow", "flow: there is a single picture, which is set in motion.")
    if count < _LEAST:
        return Choice("flow", f"flow: {count} frames are too few to play on.")
    speeds = [np.hypot(*material.flow(k).transpose(2, 0, 1)) for k in range(1, count, 4)]
    if float(np.mean(speeds)) < _STILL:
        return Choice("flow", "flow: the clip stands still, so it is set in motion gently.")
    ratio = repetition(distances(thumbnails(material)))
    if ratio is not None and ratio < _REPEATS:
        return Choice("texture", f"texture: the motion repeats itself ({ratio:.1f}).")
    return Choice("collage", "collage: the motion never repeats itself.")
