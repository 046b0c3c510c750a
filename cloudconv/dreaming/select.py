"""Choose the mode that fits a clip by trials, with the reason in a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.registry import method
from cloudconv.dreaming.pictures import THUMB_SIDE, reduced
from cloudconv.dreaming.trial import FRAMES, Trial, small_material, tried

_COLLAGE = 48  # least number of frames for a collage: with fewer, the same clouds soon return
# Something moves if frames differ more than neighbours do, or neighbours more than by noise.
_MORE, _NOISE = 1.5, 1.0  # relative to neighbours, and in levels of a thumbnail


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """A mode's name, and the reason in a sentence."""

    mode: str
    why: str


def choose(material: Material, seed: int = 0) -> ModeChoice:
    """Choose the mode for a material, with the reason.

    Where several modes are possible, each makes a small dream, whose vitals are compared. New
    pictures are better than a replay, and pictures with faults are worst.
    """
    count = len(material)
    if count == 1:
        return ModeChoice("flow", "flow: the input is a single picture, which this mode moves.")
    if not _moves(material):
        why = "flow: nothing moves in the clip, and this mode adds a slow motion."
        return ModeChoice("flow", why)
    if count < method("collage").least_frames:
        why = f"flow: {count} frames are too few for the modes that play the clip's frames."
        return ModeChoice("flow", why)
    few = f"{count} frames are too few for a collage; " if count < _COLLAGE else ""
    small = small_material(material)
    trials: list[Trial] = []
    for name in ("flow" if few else "collage", "texture"):
        trials.append(tried(method(name), small, seed))
        if not any(trials[-1].rank):  # no fault, and no replay
            break
    best = min(reversed(trials), key=lambda trial: trial.rank)
    results = "; ".join(map(str, trials))
    why = f"{best.mode}: {few}in a trial of {FRAMES} small frames, {results}."
    return ModeChoice(best.mode, why)


def _moves(material: Material) -> bool:
    """Return whether anything moves in a material; noise alone is no motion."""
    pictures = [reduced(material.glance(k), THUMB_SIDE).ravel() for k in range(len(material))]
    # Double precision: the squares are large and their differences small.
    rows = np.stack(pictures).astype(np.float64) / len(pictures[0]) ** 0.5
    squares = np.square(rows).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * (rows @ rows.T), 0))
    neighbours = float(np.median(np.diagonal(apart, 1)))
    return bool(np.median(apart) > _MORE * neighbours or neighbours > _NOISE)


def advice(died: str, count: int, *, by_choice: bool) -> str:
    """Return advice, as the end of a sentence, after the mode ``died`` failed on a material.

    ``count`` is the number of frames of the material. ``by_choice``: :func:`choose` chose the mode.
    """
    if not by_choice and count > 1:
        return "try the mode auto, which compares modes on this clip"
    if died != "texture" and count > 1:
        return "try the mode texture, which plays the clip's own frames"
    return "no other mode is known to hold on this clip"
