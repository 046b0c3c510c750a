"""Which way of dreaming fits a clip, and why, in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.likeness import distances, repetition, thumbnails
from cloudconv.dreaming.material import Material, spread
from cloudconv.dreaming.stabilise import Panorama, panorama_of

_LEAST = 8  # frames; fewer are no material for anything that plays them
_SHORT = 24  # frames; of fewer a collage shows the same again within a second
_DRIFTS = 0.6  # steadiness from which things drift on one way
_REPEATS = 1.5  # of `repetition`; below it the motion comes back
# Speeds are in pixels of the small picture a frame. The limits were found on 18 clips of sky, water
# and fire and 15 of people, animals and things.
_STANDS = 0.1  # speed of the fastest parts below which nothing moves
_SLOW = 0.15  # speed below which a pixel stands still
_TRAVELS = 1.0  # speed of the fastest parts from which something is under way
_UNSTEADY = 1.1  # how much motion varies in time at a place, from which something passes by
_GROUND = 0.02  # share of the picture that stands still, below which the camera may move …
_STEADY = 0.88  # … and does, where less of the motion than that stays in its mean over time
_LOCAL = 0.9  # share of the picture that stands still, from which only something small moves


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode's name, and a sentence on why."""

    mode: str
    why: str


@dataclass(frozen=True, slots=True)
class Motion:
    """How things move in a clip.

    ``fastest``: the .98 quantile over the picture of the mean speed. ``steadiness``: how much of
    the motion remains in its mean over time, from 0 to 1: clouds drift one way, people do not.
    ``variation``: how much motion varies in time at a place, against its mean: it is large where
    something passes by. ``standing``: share of the picture.
    """

    fastest: float
    steadiness: float
    variation: float
    standing: float


def motion_of(material: Material) -> Motion:
    """Measure the motion of a material of at least two frames."""
    return _motion([material.flow(k)[::2, ::2] for k in spread(len(material))[::2]])


def _motion_beside(pan: Panorama, material: Material) -> Motion:
    """What moves besides the camera."""
    scale = np.array(material.small_size[::-1]) / np.array(material.size[::-1])
    first = len(material.real_frames) - len(pan.path)
    flows = []
    for k in spread(len(pan.path))[::2]:
        camera = (pan.path[k] - pan.path[k - 1]) * scale
        flows.append(material.real_flow(first + k)[::2, ::2] - camera.astype(np.float32))
    return _motion(flows)


def _motion(pairs: list[NDArray[np.float32]]) -> Motion:
    flows = np.stack(pairs)
    speed = np.hypot(flows[..., 0], flows[..., 1]).mean(0)
    drift = np.hypot(*flows.mean(0).transpose(2, 0, 1))
    usual = max(float(speed.mean()), 1e-6)
    return Motion(
        fastest=float(np.quantile(speed, 0.98)),
        steadiness=float(drift.mean()) / usual,
        variation=float(flows.std(0).sum(-1).mean()) / usual,
        standing=float((speed < _SLOW).mean()),
    )


def choose(material: Material) -> Choice:
    """The mode that should hold on this material."""
    count = len(material)
    if count == 1:
        return Choice("flow", "flow: a single picture is set in motion.")
    motion = motion_of(material)
    if motion.fastest < _STANDS:
        return Choice("flow", "flow: nothing moves in the clip, so it is set in motion gently.")
    if count < _LEAST:
        return Choice("flow", f"flow: {count} frames are too few to play on.")
    ratio = repetition(distances(thumbnails(material)))
    if ratio is not None and ratio < _REPEATS:
        return Choice(
            "texture",
            f"texture: the motion comes back (likeness {ratio:.1f}; below {_REPEATS} it repeats).",
        )
    if motion.standing > _LOCAL:
        return Choice(
            "texture",
            f"texture: {motion.standing:.0%} of the picture stands still, and what moves is too "
            "small to be cut apart.",
        )
    pan = panorama_of(material)
    if pan is not None:
        motion = _motion_beside(pan, material)
    if motion.fastest > _TRAVELS and motion.variation > _UNSTEADY:
        return Choice(
            "texture",
            "texture: something solid moves its own way (its motion varies by "
            f"{motion.variation:.1f} of the mean), which a collage would cut apart.",
        )
    if pan is not None:
        return Choice(
            "collage",
            "collage: the camera pans slowly; what it has seen is dreamt on, and the pan put back.",
        )
    if motion.fastest > _TRAVELS and motion.standing < _GROUND and motion.steadiness < _STEADY:
        return Choice(
            "texture",
            "texture: the camera moves, and not evenly, so a collage would cut things apart.",
        )
    if count < _SHORT and motion.steadiness > _DRIFTS:
        return Choice(
            "flow",
            f"flow: what moves drifts, and {count} frames are too few for a collage of them.",
        )
    shown = "" if ratio is None else f" and never comes back (likeness {ratio:.1f})"
    what = "drifts" if motion.fastest > _TRAVELS else "drifts or ripples gently"
    return Choice("collage", f"collage: what moves {what}{shown}.")
