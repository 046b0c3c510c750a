"""Choose the mode that fits a clip by small dreams, judged by vitals; say why in a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import crossing, mean_flow
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.registry import MethodSpec, method
from cloudconv.dreaming.pictures import small_copy, spread
from cloudconv.dreaming.vitals.vitals import RATIOS, VitalsMeter, in_words

FRAMES = 150
"""Number of frames of a trial: enough for two changes of footage, and for a replay."""

_REPLAY = 1.5  # a replay weighs as much as changes that are so much more sudden
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


def advice(died: str, count: int, *, by_choice: bool) -> str:
    """Return advice, as the end of a sentence, after the mode ``died`` failed on a material.

    ``count`` is the number of frames of the material. ``by_choice``: :func:`choose` chose the mode.
    """
    if not by_choice and count > 1:
        return "try the mode auto, which compares modes on this clip"
    if died != "texture" and count > 1:
        return "try the mode texture, which plays the clip's own frames"
    return "no other mode is known to hold on this clip"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial of the mode ``mode``.

    ``faults``: the failed vitals in words, without those of a replay and ``sudden``. ``replays``:
    pictures of the clip, or of the dream itself, come again. ``sudden``: the vital, if it fails.
    """

    mode: str
    faults: tuple[str, ...]
    replays: bool
    sudden: float | None = None

    @property
    def rank(self) -> tuple[bool, float, bool]:
        """The order of trials; the least is the best.

        Torn pictures are worse than a sudden change, and a sudden change is worse than a replay.
        """
        sudden = (self.sudden or 0.0) * (_REPLAY if self.replays else 1.0)
        return bool(self.faults), sudden, self.replays

    def __str__(self) -> str:
        """Return a clause about the result."""
        faults = [*self.faults[:2]]
        if self.sudden is not None:
            faults.append(in_words("sudden", self.sudden))
        if faults:
            return f"{self.mode} fails ({', '.join(faults)})"
        shown = "the same pictures again" if self.replays else "new pictures like those of the clip"
        return f"{self.mode} shows {shown}"


def tried(spec: MethodSpec, material: Material, seed: int) -> Trial:
    """Make a small dream in a mode, and judge the dream. ``material`` is a small material."""
    kind = replace(spec.kind, frames=FRAMES)
    meter = VitalsMeter(material, kind)
    if kind.sky and meter.solid:
        return Trial(spec.name, ("moving things have finer detail than clouds",), False)
    if kind.sky and not _in_one_wind(material):
        return Trial(spec.name, ("its parts do not move in one direction",), False)
    if kind.sky:
        crosses = crossing(material, mean_flow(material, spread(len(material), 1))) * material.step
        if not 0 < crosses < _CROSSES:
            return Trial(spec.name, ("its parts hardly move",), False)
    for picture in spec.dream(material, Options(FRAMES, seed)):
        meter.push(small_copy(picture, material.small_size))
    failed = {key: row.values[key] for row in meter.rows for key in row.failed}
    sudden = [row.values["sudden"] or 0.0 for row in meter.rows if "sudden" in row.failed]
    # Small pictures that are moved are softer than footage. Frames as filmed have no fault but
    # sudden changes.
    ignored = {"novelty", "sudden", *RATIOS} if kind.sky else failed.keys()
    faults = tuple(in_words(key, failed[key]) for key in failed if key not in ignored)
    replays = kind.repeats or "novelty" in failed
    return Trial(spec.name, faults, replays, max(sudden, default=None))
