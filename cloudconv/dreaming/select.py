"""Which way of dreaming fits a clip, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.material.similarity import Floats, distances, repetition, thumbnails
from cloudconv.dreaming.material.stabilise import SOFT, fineness
from cloudconv.dreaming.methods.texture import doubt_of
from cloudconv.dreaming.pictures import grey
from cloudconv.events import Warned
from cloudconv.models.flow import measured_flow

_LEAST = 8  # frames; fewer are no material for anything that plays them
_SHORT = 24  # frames; of fewer a collage shows the same again within a second
_COLLAGE = 48  # frames that a collage is made of, at least
_DRIFTS = 0.65  # steadiness from which things drift on one way
_REPEATS = 1.5  # of `repetition`; below it the motion comes back
# Speeds are in pixels of the small picture a frame. The limits were found on clips of sky, water,
# fire, people, animals and things.
_STANDS = 0.1  # speed of the fastest parts below which nothing moves
_MORE = 1.5  # times as far apart as neighbours, from which what is too small to follow moves
_SLOW = 0.15  # speed below which a pixel stands still
_UNSTEADY = 1.1  # how much motion varies in time at a place, from which something passes by
_LOCAL = 0.9  # share of the picture that stands still, from which only something small moves
_APART = 10  # frames over which flow is measured to tell drift from what goes its own way
_LOOKS = 8  # pairs of such frames
_DRIFTING = 0.3  # share of that flow that is not the usual one at its place: in skies it is less
_FINE, _GROUND_FINE = 0.6, 0.9  # fineness up to which such a drift is sky, ground below it or not
_ABOVE = 0.49  # height of the middle of what moves, from the top: sky over ground


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode's name, a sentence on why, and a warning of why it may not hold, if so."""

    mode: str
    why: str
    doubt: Warned | None = None


@dataclass(frozen=True, slots=True)
class Motion:
    """How things move in a clip.

    ``fastest``: the .98 quantile over the picture of the mean speed. ``steadiness``: how much of
    the motion remains in its mean over time, from 0 to 1: clouds drift one way, people do not.
    ``variation``: how much motion varies in time at a place, against its mean: it is large where
    something passes by. ``standing``: share of the picture. ``wander``: of the flow over ten
    frames, the share that is not the usual one at its place: little in clouds, half or more in
    water, fire and people. ``middle``: height of the middle of what moves, from 0 (top) to 1.
    """

    fastest: float
    steadiness: float
    variation: float
    standing: float
    wander: float
    middle: float


def motion_of(material: Material, on_share: Callable[[float], None] = lambda _: None) -> Motion:
    """Measure the motion of a material of at least two frames.

    ``on_share`` gets the share that is done, from 0 to 1.
    """
    numbers = spread(len(material))[::2]
    pairs = []
    for k in numbers:
        pairs.append(material.flow(k)[::2, ::2])
        on_share(len(pairs) / len(numbers))
    flows = np.stack(pairs)
    speed = np.hypot(flows[..., 0], flows[..., 1]).mean(0)
    drift = np.hypot(*flows.mean(0).transpose(2, 0, 1))
    usual = max(float(speed.mean()), 1e-6)
    return Motion(
        fastest=float(np.quantile(speed, 0.98)),
        steadiness=float(drift.mean()) / usual,
        variation=float(flows.std(0).sum(-1).mean()) / usual,
        standing=float((speed < _SLOW).mean()),
        wander=_wander(material),
        middle=_middle(material),
    )


def _wander(material: Material) -> float:
    last = len(material) - 1
    apart = min(_APART, max(1, last // 2))
    starts = np.unique(np.linspace(0, last - apart, _LOOKS).round().astype(int))
    pairs = ((grey(material.glance(int(k) + apart)), grey(material.glance(int(k)))) for k in starts)
    flows = np.stack([measured_flow(later, earlier) for later, earlier in pairs])
    moving = _moving(material)
    usual = np.median(flows, 0)
    strayed = np.linalg.norm(flows - usual, axis=-1)[:, moving].mean()
    return float(strayed / max(float(np.linalg.norm(flows, axis=-1)[:, moving].mean()), 1e-3))


def _middle(material: Material) -> float:
    rows = np.argwhere(_moving(material))[:, 0]
    return float(rows.mean() / material.small_size[0])


def _moving(material: Material) -> NDArray[np.bool_]:
    moving = material.static < 0.5
    return moving if moving.mean() > 0.01 else np.ones_like(moving)


def is_sky(material: Material, motion: Motion | None = None) -> bool:
    """Return whether what moves in a clip drifts as clouds do, all of it."""
    if len(material) < _LEAST:
        return False
    motion = motion or motion_of(material)
    if motion.fastest < _STANDS or motion.wander > _DRIFTING:
        return False
    above_ground = motion.middle < _ABOVE
    return fineness(material) < (_GROUND_FINE if above_ground else _FINE)


def choose(material: Material, on_share: Callable[[float], None] = lambda _: None) -> Choice:
    """The mode that should hold on this material.

    ``on_share`` gets the share that is done, from 0 to 1.
    """
    count = len(material)
    if count == 1:
        return Choice("flow", "flow: a single picture is set in motion.")
    motion = motion_of(material, lambda share: on_share(share / 2))
    apart = distances(thumbnails(material, lambda share: on_share((1 + share) / 2)))
    if motion.fastest < _STANDS and not _changes(apart):
        return Choice("flow", "flow: nothing moves in the clip, so it is set in motion gently.")
    if count < _LEAST:
        return Choice("flow", f"flow: {count} frames are too few to play on.")
    ratio = repetition(apart)
    if ratio is not None and ratio < _REPEATS:
        return Choice(
            "texture",
            f"texture: the motion comes back (likeness {ratio:.1f}; below {_REPEATS} it repeats).",
        )
    if count >= _COLLAGE and is_sky(material, motion):
        return Choice(
            "collage",
            "collage: what moves drifts one way, as clouds do "
            f"({1 - motion.wander:.0%} of its motion is the same at all times).",
        )
    if motion.standing > _LOCAL:
        return _real_frames(
            material,
            f"{motion.standing:.0%} of the picture stands still, and what moves is too small to "
            "be cut apart",
        )
    if motion.variation > _UNSTEADY or motion.steadiness < _DRIFTS:
        return _real_frames(
            material,
            "what moves goes its own way (its motion varies by "
            f"{motion.variation:.1f} of the mean), which a collage would cut apart",
        )
    fine = fineness(material)
    if fine > SOFT:
        return _real_frames(
            material,
            f"what moves has fine edges ({fine:.2f}; clouds have up to {SOFT}), which a collage "
            "would cut apart",
        )
    if count < _SHORT:
        return Choice(
            "flow",
            f"flow: what moves drifts, and {count} frames are too few for a collage of them.",
        )
    if count < _COLLAGE:
        return _real_frames(material, f"{count} frames are too few for a collage")
    shown = "" if ratio is None else f" and never comes back (likeness {ratio:.1f})"
    return Choice("collage", f"collage: what moves drifts as clouds do{shown}.")


def _changes(apart: Floats) -> bool:
    """Whether frames differ more than neighbours do: by noise they don't, by a string they do."""
    return bool(np.median(apart) > _MORE * np.median(np.diagonal(apart, 1)))


def advice(material: Material, died: str, chosen: str | None = None) -> str:
    """What to do about a mode that died on this material: the end of a sentence.

    ``chosen``: the mode that :func:`choose` gave, where that is known already.
    """
    chosen = chosen or choose(material).mode
    if chosen != died:
        return f"try the mode {chosen}, which auto chooses for this clip"
    if died != "texture" and len(material) > 1:
        return "try the mode texture, which shows real frames only"
    return "no other mode is known to hold on this clip"


def _real_frames(material: Material, why: str) -> Choice:
    """Real frames, and whether it will be seen that they turn."""
    return Choice("texture", f"texture: {why}.", doubt_of(material))
