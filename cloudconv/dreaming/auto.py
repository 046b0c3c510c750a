"""Choose the mode that fits a clip by small dreams, judged by vitals.

Say why in a sentence.
"""

from collections import deque
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options, watched
from cloudconv.dreaming.methods.modes import MethodSpec, method
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import Fault, VitalsMeter
from cloudconv.images import (
    COARSE_SIDE,
    TINY,
    flow_between,
    gradients,
    luma,
    parts,
    spread,
)

FRAMES = 150
"""Number of frames of a trial: enough for two changes of footage, and for a replay."""

# Least number of frames for a collage: with fewer, the same clouds soon return.
_COLLAGE = 48
_STEADY = 0.6  # least steadiness in time of the motion of a sky
# Least unity of a wind. Eleven skies that are better as collages have .61 to 1. Without the
# rule, drawn things that pass each other (.01) become a collage, which tears them.
_ONE = 0.3
# Time between two pictures whose motion is compared, in seconds: two successive pictures
# show less motion of a slow sky than noise.
_APART = Fraction(1, 5)
# Finest detail of moving parts, relative to their mean gradient, of solid things ….
_SOLID = 0.54
_SOLID_BESIDE_LAND = 0.7  # … and where land stands still, whose edge is fine
_ALL = 0.9  # least moving part of a picture without land


class ModeChoice(NamedTuple):
    """A mode's name, and the reason in a sentence."""

    mode: str
    why: str


class Trial(NamedTuple):
    """The result of a mode's trial: the faults, and how visible they are on average.

    ``slides``: land slides for seconds, and not for a moment.
    """

    visible: float
    mode: str
    faults: list[Fault]
    slides: bool = False

    def __str__(self) -> str:
        """Return a clause about the result."""
        worst = sorted(self.faults, key=lambda fault: -fault.size)
        texts = list(dict.fromkeys(fault.text for fault in worst))[:2]
        return (
            f"in {self.mode} {', '.join(texts)}" if texts else f"{self.mode} shows no fault"
        )

    def taken(self) -> str:
        """Return a clause about the best trial: the dream itself may have no fault."""
        if not self.faults:
            return str(self)
        what = "less that is wrong" if self.visible else "hardly a fault"
        return f"{self.mode} shows {what}"


class Wind(NamedTuple):
    """The likeness of the motion of the moving parts to a wind: 1, or 0 for none.

    ``steadiness``: the length of the mean motion of a place over the mean length.
    ``unity``: the length of the mean motion of all places over the mean of their lengths.
    """

    steadiness: float
    unity: float


def choose(material: Material, seed: int = 0) -> ModeChoice:
    """Choose the mode for a material, with the reason.

    Where two modes are possible, each makes a small dream. The one with the least visible
    faults is taken, and the collage of two without a fault: its pictures are new.
    """
    mode = "flow"
    count = len(material)
    if count == 1:
        why = "the input is a single picture, which this mode moves"
    elif bool(material.views.land.all()) and material.views.path is None:
        why = "nothing moves in the clip, and this mode adds a slow motion"
    elif count < method("collage").least_frames:
        why = f"{count} frames are too few for the modes that play the clip's frames"
    elif count < _COLLAGE:
        mode = "texture"
        why = f"{count} frames are too few for a collage"
    elif torn := torn_by_collage(small := material.reduced()):
        mode = "texture"
        why = torn
    else:
        trials = [tried(method("collage"), small, seed)]
        if trials[0].faults:
            trials.append(tried(method("texture"), small, seed))
        # A wind moves the sky alone: where land slides with the sky, there is no collage.
        best = trials[-1] if trials[0].slides else min(trials)
        clauses = [trial.taken() if trial is best else str(trial) for trial in trials]
        mode = best.mode
        why = f"in a trial of {FRAMES} small frames, {'; '.join(clauses)}"
    return ModeChoice(mode, f"{mode}: {why}.")


def torn_by_collage(material: Material) -> str:
    """Return why a collage would tear what moves; empty if it does not.

    ``material`` is a small material.
    """
    wind = wind_of(material)
    if wind.steadiness < _STEADY:
        return "what moves has no steady direction, and a collage needs a wind"
    if wind.unity < _ONE:
        return "things move in several directions, and a collage needs one wind"
    if _is_solid(material):
        return "what moves has finer detail than clouds, so a collage would tear it"
    if material.things.hold:
        return "things move before a still camera, so a collage would tear them"
    return ""


def wind_of(material: Material) -> Wind:
    """Return how steady, and how uniform, the motion of the moving parts is.

    ``material`` is a small material.
    """
    apart = max(1, min(round(_APART / material.step), len(material) - 1))
    pairs = [(k - apart, k) for k in spread(len(material), apart)]

    flows = np.array([flow_between(*map(material.glance, pair)) for pair in pairs])
    moving = parts(material.moving, COARSE_SIDE)
    mean = flows.mean(0)[moving]
    lengths = np.linalg.norm(mean, axis=-1).sum()
    all_lengths = np.linalg.norm(flows, axis=-1).mean(0)[moving].sum()
    return Wind(
        float(lengths / max(all_lengths, TINY)),
        float(np.linalg.norm(mean.sum(0)) / max(lengths, TINY)),
    )


def _is_solid(material: Material) -> bool:
    """Return whether the parts that move have finer detail than clouds."""
    moving = parts(material.moving, COARSE_SIDE)
    fineness = []
    for number in spread(len(material)):
        brightness = luma(material.glance(number)).astype(np.float32)
        detail = np.abs(brightness - cv2.GaussianBlur(brightness, (0, 0), 1))[moving]
        fineness.append(
            detail.sum() / max(cv2.magnitude(*gradients(brightness))[moving].sum(), TINY)
        )
    return bool(
        np.mean(fineness) > (_SOLID if moving.mean() > _ALL else _SOLID_BESIDE_LAND)
    )


def tried(spec: MethodSpec, material: Material, seed: int) -> Trial:
    """Make a small dream in a mode, and judge the dream.

    ``material`` is a small material.
    """
    meter = VitalsMeter(FilmFeatures(material), FRAMES)
    frames = spec.dream(material, Options(FRAMES, seed))
    deque(watched(frames, material, meter.push), maxlen=0)
    most = meter.limits["slides"][1]
    slides = any((row.values["slides"] or 0.0) > most for row in meter.rows)
    return Trial(meter.visible, spec.name, meter.faults, slides)
