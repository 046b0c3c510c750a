"""Which way of dreaming fits a clip, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.material.similarity import Floats, distances, repetition, thumbnails
from cloudconv.dreaming.material.stabilise import SOFT, fineness
from cloudconv.events import Warned

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
_REST = 3  # frames over which motion must rest to turn there …
_RESTLESS = 0.6  # … below that share of what is usual


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
    something passes by. ``standing``: share of the picture.
    """

    fastest: float
    steadiness: float
    variation: float
    standing: float


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
    )


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
    if motion.standing > _LOCAL:
        return _back_and_forth(
            apart,
            f"{motion.standing:.0%} of the picture stands still, and what moves is too small to "
            "be cut apart",
        )
    if motion.variation > _UNSTEADY or motion.steadiness < _DRIFTS:
        return _back_and_forth(
            apart,
            "what moves goes its own way (its motion varies by "
            f"{motion.variation:.1f} of the mean), which a collage would cut apart",
        )
    fine = fineness(material)
    if fine > SOFT:
        return _back_and_forth(
            apart,
            f"what moves has fine edges ({fine:.2f}; clouds have up to {SOFT}), which a collage "
            "would cut apart",
        )
    if count < _SHORT:
        return Choice(
            "flow",
            f"flow: what moves drifts, and {count} frames are too few for a collage of them.",
        )
    if count < _COLLAGE:
        return _back_and_forth(apart, f"{count} frames are too few for a collage")
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


def _back_and_forth(apart: Floats, why: str) -> Choice:
    """Real frames, and whether it will be seen that they turn."""
    changes = np.diagonal(apart, 1)
    rests = np.convolve(changes, np.full(_REST, 1 / _REST), "valid").min()
    doubt = None
    if rests > _RESTLESS * changes.mean():
        doubt = Warned("motion-never-rests")
    return Choice("texture", f"texture: {why}.", doubt)
