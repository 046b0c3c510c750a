"""Choose the mode that fits a clip by small dreams, judged by vitals; say why in a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cloudconv.dreaming.images import small_copy, spread
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import crossing, mean_flow
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.modes import MethodSpec, method
from cloudconv.dreaming.vitals.vitals import RATIOS, VITALS, VitalsMeter, in_words

FRAMES = 150
"""Number of frames of a trial: enough for two changes of footage, and for a replay."""

_REPLAY = 1.5  # factor of the faults of a replay
_TORN = {"smear", "silhouette", "detail"}
_COLLAGE = 48  # least number of frames for a collage: with fewer, the same clouds soon return
_CROSSES = 25.0  # longest time in which the wind crosses a sky, in seconds: new sky enters with it
_ONE_WIND = 0.58  # least mean motion of a sky, relative to the mean speed of its parts


class ModeChoice(NamedTuple):
    """A mode's name, and the reason in a sentence."""

    mode: str
    why: str


def choose(material: Material, seed: int = 0) -> ModeChoice:
    """Choose the mode for a material, with the reason.

    Where two modes are possible, each makes a small dream, whose vitals are compared. New pictures
    are better than a replay, and pictures with faults are worst.
    """
    mode, count = "flow", len(material)
    if count == 1:
        why = "the input is a single picture, which this mode moves"
    elif bool(material.land.all()):
        why = "nothing moves in the clip, and this mode adds a slow motion"
    elif count < method("collage").least_frames:
        why = f"{count} frames are too few for the modes that play the clip's frames"
    elif count < _COLLAGE:
        mode, why = "texture", f"{count} frames are too few for a collage"
    else:
        small = material.reduced()
        trials = [tried(method("collage"), small, seed)]
        if any(trials[0].rank):  # a fault, or a replay
            trials.insert(0, tried(method("texture"), small, seed))
        mode = min(trials, key=lambda trial: trial.rank).mode
        why = f"in a trial of {FRAMES} small frames, {'; '.join(map(str, reversed(trials)))}"
    return ModeChoice(mode, f"{mode}: {why}.")


def _in_one_wind(material: Material) -> bool:
    """Return whether the moving parts have one motion, like clouds, and unlike people or a sea."""
    moving = material.land.cpu().numpy() == 0
    flows = np.stack([material.flow(k)[moving] for k in spread(len(material), 1)])
    speed = np.linalg.norm(flows, axis=-1).mean() if moving.any() else 0.0
    return bool(np.linalg.norm(flows.mean((0, 1))) >= _ONE_WIND * speed) if speed else True


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial of the mode ``mode``.

    ``faults``: each fault as a clause, with its size relative to the limit. ``replays``: pictures
    of the clip, or of the dream itself, come again. ``torn``: parts are torn, or the mode does not
    suit the clip.
    """

    mode: str
    faults: dict[str, float]
    replays: bool
    torn: bool = False

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """The order of trials; the least is the best.

        Torn pictures are worst, then the size of the worst fault counts, then a replay, whose
        faults weigh more.
        """
        worst = max(self.faults.values(), default=0.0) * (_REPLAY if self.replays else 1.0)
        return self.torn, worst, self.replays

    def __str__(self) -> str:
        """Return a clause about the result."""
        if self.faults:
            worst = sorted(self.faults, key=lambda clause: -self.faults[clause])[:2]
            return f"in {self.mode} {', '.join(worst)}"
        shown = "the same pictures again" if self.replays else "new pictures"
        return f"{self.mode} shows {shown}"


def tried(spec: MethodSpec, material: Material, seed: int) -> Trial:
    """Make a small dream in a mode, and judge the dream. ``material`` is a small material."""
    kind = replace(spec.kind, frames=FRAMES)
    meter = VitalsMeter(material, kind)
    if kind.sky and meter.solid:
        return Trial(
            spec.name, {"moving things have finer detail than clouds": 1.0}, False, torn=True
        )
    if kind.sky and not _in_one_wind(material):
        return Trial(spec.name, {"parts do not move in one direction": 1.0}, False, torn=True)
    if kind.sky:
        crosses = crossing(material, mean_flow(material, spread(len(material), 1))) * material.step
        if not 0 < crosses < _CROSSES:
            return Trial(spec.name, {"parts hardly move": 1.0}, False, torn=True)
    for picture in spec.dream(material, Options(FRAMES, seed)):
        meter.push(small_copy(picture, material.small_size))
    # Small pictures that are moved are softer than footage. Frames as filmed have no fault but
    # sudden changes. Changes of a place do not count: they would choose a texture for a sunset over
    # a ridge, which is far better as a collage.
    ignored = {"local", "against", "novelty", *RATIOS} if kind.sky else VITALS.keys() - {"sudden"}
    faults: dict[str, float] = {}
    for row in meter.rows:
        for key in set(row.failed) - ignored:
            clause, value = in_words(key, row.values[key]), row.values[key] or 0.0
            low, high = meter.limits[key]
            faults[clause] = max(faults.get(clause, 0.0), value / (high if value > high else low))
    failed = {key for row in meter.rows for key in row.failed}
    torn = kind.sky and not failed.isdisjoint(_TORN)
    return Trial(spec.name, faults, kind.repeats or "novelty" in failed, torn)
