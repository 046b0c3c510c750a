"""Choose the mode that fits a clip by trials, with the reason in a sentence."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.similarity import distances, thumbnails
from cloudconv.dreaming.methods.registry import method
from cloudconv.dreaming.trial import FRAMES, Trial, small_material, tried
from cloudconv.events import mapped

_COLLAGE = 48  # least number of frames for a collage: with fewer, the same clouds soon return
# Something moves if frames differ more than neighbours do, or neighbours more than by noise.
_MORE, _NOISE = 1.5, 1.0  # relative to neighbours, and in levels of a thumbnail


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """A mode's name, and the reason in a sentence."""

    mode: str
    why: str


def choose(material: Material, seed: int = 0) -> Generator[float, None, ModeChoice]:
    """Choose the mode for a material, with the reason.

    Where several modes are possible, each makes a small dream, whose vitals are compared. New
    pictures are better than a replay, and pictures with faults are worst.

    Yields:
        The fraction of the trials that is done, from 0 to 1.
    """
    count = len(material)
    if count == 1:
        return ModeChoice("flow", "flow: the input is a single picture, which this mode moves.")
    moves = yield from mapped(_moves(material), lambda part: part / 10)
    if not moves:
        why = "flow: nothing moves in the clip, and this mode adds a slow motion."
        return ModeChoice("flow", why)
    if count < method("collage").least_frames:
        why = f"flow: {count} frames are too few for the modes that play the clip's frames."
        return ModeChoice("flow", why)
    few = f"{count} frames are too few for a collage; " if count < _COLLAGE else ""
    trials = yield from mapped(
        _trials(material, ("flow" if few else "collage", "texture"), seed),
        lambda part: (1 + 9 * part) / 10,
    )
    best = min(reversed(trials), key=lambda trial: trial.rank)
    results = "; ".join(map(str, trials))
    why = f"{best.mode}: {few}in a trial of {FRAMES} small frames, {results}."
    return ModeChoice(best.mode, why)


def _trials(
    material: Material, modes: tuple[str, ...], seed: int
) -> Generator[float, None, list[Trial]]:
    """Try modes until one has no fault and does not replay.

    Yields:
        The fraction of the trials that is done, from 0 to 1.
    """
    small = small_material(material)
    trials: list[Trial] = []
    for name in modes:
        trial = yield from mapped(
            tried(method(name), small, seed), lambda part: (len(trials) + part) / len(modes)
        )
        trials.append(trial)
        if not any(trial.rank):
            break
    return trials


def _moves(material: Material) -> Generator[float, None, bool]:
    """Return whether anything moves in a material; noise alone is no motion.

    Yields:
        The fraction of the frames that is compared, from 0 to 1.
    """
    rows = yield from thumbnails(material)
    apart = distances(rows)
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
