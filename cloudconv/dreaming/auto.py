"""Choose the mode that fits a clip by small dreams, judged by vitals.

Say why in a sentence.
"""

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from math import inf
from typing import NamedTuple

import cv2
import numpy as np

from cloudconv.doubts import GRADES
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.modes import METHODS, MethodSpec, method
from cloudconv.dreaming.methods.passing import Sky
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import Fault
from cloudconv.images import (
    COARSE_SIDE,
    MIDDLE_SIDE,
    TINY,
    Bytes,
    Floats,
    flow_between,
    gradients,
    luma,
    parts,
    resized_flow,
    spread,
    warp,
)

FRAMES = 150
"""Number of frames of a trial: enough for two changes of footage, and for a replay."""

# What the best trial shows, by the number of its worst grade, from none.
_BEST = "no fault", "hardly a fault", "nothing that spoils it", "less that is wrong"
# Least number of frames for a collage: with fewer, the same clouds soon return.
_COLLAGE = 48
# Least part of a wind in what motion explains. Skies that are better as collages have .65
# to 1; fires, people, animals and surf have less than .5.
_WIND = 0.5
# The same of one wind everywhere, which carries all of the sky: skies that are better as
# collages have .33 to .95, others -.06 to .25.
_EVEN = 0.3
# Time between two pictures whose motion is compared, in seconds: two successive pictures
# show less motion of a slow sky than noise.
_APART = Fraction(1, 5)
_FAINT = 0.05  # part of the change below which motion explains nothing but noise
# Finest detail of moving parts, relative to their mean gradient, of solid things, which a
# camera may move like a wind.
_SOLID = 0.54
_ALL = 0.9  # least moving part of a picture without land, which shows a camera that stands


class ModeChoice(NamedTuple):
    """A mode's name, and the reason in a sentence."""

    mode: str
    why: str


class Trial(NamedTuple):
    """The result of a mode's trial: the faults, and how visible they are on average.

    ``visible``: infinite if land slides with a wind, or the picture becomes hard.
    """

    visible: float
    mode: str
    faults: list[Fault]

    def __str__(self) -> str:
        """Return a clause about the result."""
        worst = sorted(self.faults, key=lambda fault: -fault.size)
        texts = list(dict.fromkeys(fault.text for fault in worst))[:2]
        return (
            f"in {self.mode} {', '.join(texts)}" if texts else f"{self.mode} shows no fault"
        )

    def taken(self) -> str:
        """Return a clause about the best trial: the dream itself may have no fault."""
        grade = worst_of(self.faults)
        return f"{self.mode} shows {_BEST[grade + 1]}"


def choose(material: Material, seed: int = 0) -> ModeChoice:
    """Choose the mode for a material, with the reason.

    Where several modes are possible, they make small dreams. The one with the least visible
    faults is taken, and of two without a fault the one whose pictures are new.
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
    else:
        mode, why = _by_trials(material.reduced(), seed)
    return ModeChoice(mode, f"{mode}: {why}.")


def _by_trials(small: Material, seed: int) -> tuple[str, str]:
    """Return the mode whose small dream is the best, and why.

    A mode that hardly suits the clip is tried where what suits is seen to be wrong, and
    taken if it is a grade better: a flow stops a street, and no vital says so.
    """
    torn = torn_by_collage(small)
    reason = torn or uneven(small)
    # A sky that no wind carries through the picture plays again, or moves in its place.
    order = ["texture", "flow", "collage"]
    suit = 1 if torn else 2
    modes = order[:suit] if reason else ["collage", "texture"]
    trials = [tried(method(modes[0]), small, seed)]
    if trials[0].faults:
        trials += [tried(method(mode), small, seed) for mode in modes[1:]]
    best = min(trials)
    # The fewer modes suit, the worse these must be.
    if reason and worst_of(best.faults) >= len(order) - suit:
        trials.append(tried(method(order[suit]), small, seed))
        best = min(_better(trials, best.faults), default=best)
    clauses = [one.taken() if one is best else str(one) for one in trials]
    trial = f"in a trial of {FRAMES} small frames, {'; '.join(clauses)}"
    return best.mode, "; ".join(filter(None, [reason, trial]))


def better_mode(
    spec: MethodSpec, material: Material, seed: int, faults: Sequence[Fault]
) -> str | None:
    """Return another mode than ``spec`` whose trial is a grade better than some faults.

    A mode with a predictor is not tried, nor a collage that would tear what moves.
    """
    medium = material.reduced(MIDDLE_SIDE)
    trials = [
        tried(other, medium, seed)
        for other in METHODS
        if other is not spec
        and other.least_frames <= len(material)
        and "model" not in other.options
        and not (other.needs_wind and torn_by_collage(material.reduced()))
    ]
    better = _better(trials, faults)
    return min(better).mode if better else None


def _better(trials: Sequence[Trial], faults: Sequence[Fault]) -> list[Trial]:
    """Return the trials that are a grade better than some faults."""
    worst = worst_of(faults)
    return [one for one in trials if one.visible < inf and worst_of(one.faults) < worst]


def worst_of(faults: Sequence[Fault]) -> int:
    """Return the number of the worst grade, from 0; -1 without a fault."""
    return max((GRADES.index(fault.grade) for fault in faults), default=-1)


def torn_by_collage(material: Material) -> str:
    """Return why a collage would tear what moves; empty if it does not.

    ``material`` is a small material.
    """
    if wind_of(material) < _WIND:
        return "no steady wind explains what moves, and a collage needs one"
    if _is_solid(material):
        return "what moves has finer detail than clouds, so a collage would tear it"
    return ""


def uneven(material: Material) -> str:
    """Return why no wind carries all of a sky through the picture; empty if one does.

    ``material`` is a small material.
    """
    sky = material.original.once(Sky)
    if sky.crosses > sky.slow:
        return "the wind would take too long to cross the picture"
    if float((sky.sun - sky.glow).max()) > 1 / 2:
        return "clouds cover a sun when the clip ends"
    if wind_of(material, resized_flow(-sky.wind, material.small_size)) < _EVEN:
        return "no wind that is the same everywhere explains what moves"
    return ""


def wind_of(material: Material, wind: Floats | None = None) -> float:
    """Return how much of the change that motion explains a wind explains: 1, 0 for none.

    A wind is the mean motion of each place, without places that move against the mean of
    all. A motion explains by how much the change of the moving parts becomes less when the
    earlier picture is moved. ``material`` is a small material. ``wind``: another wind,
    backward flow in its pixels a step.
    """
    apart = max(1, min(round(_APART / material.step), len(material) - 1))
    numbers = spread(len(material), apart)
    pairs = [(material.glance(k - apart), material.glance(k)) for k in numbers]
    flows = [flow_between(*pair) for pair in pairs]
    still = np.zeros_like(flows[0])
    moving = parts(material.moving, COARSE_SIDE)
    if wind is None:
        mean = np.mean(flows, 0)
        wind = mean * (mean @ mean[moving].mean(0) > 0)[..., None]
    else:
        wind = np.float32(apart) * wind

    def left(pair: tuple[Bytes, Bytes], motion: Floats) -> float:
        """Return the change that is left after a motion."""
        before, after = (luma(picture).astype(np.float32) for picture in pair)
        moved = warp(before, motion, how=cv2.INTER_LINEAR)
        return float(np.abs(after - moved)[moving].sum())

    change = sum(left(pair, still) for pair in pairs)
    explained = change - sum(map(left, pairs, flows))
    by_wind = change - sum(left(pair, wind) for pair in pairs)
    return by_wind / max(explained, _FAINT * change, TINY)


def _is_solid(material: Material) -> bool:
    """Return whether all moves, and has finer detail than clouds."""
    moving = parts(material.moving, COARSE_SIDE)
    if moving.mean() <= _ALL:
        return False
    fineness = []
    for number in spread(len(material)):
        brightness = luma(material.glance(number)).astype(np.float32)
        detail = np.abs(brightness - cv2.GaussianBlur(brightness, (0, 0), 1))[moving]
        fineness.append(
            detail.sum() / max(cv2.magnitude(*gradients(brightness))[moving].sum(), TINY)
        )
    return bool(np.mean(fineness) > _SOLID)


def tried(spec: MethodSpec, material: Material, seed: int) -> Trial:
    """Make a small dream in a mode, and judge the dream.

    ``material`` is a small material.
    """
    meter, frames = spec.judged(FilmFeatures(material), Options(FRAMES, seed))
    deque(frames, maxlen=0)
    limits = meter.limits
    # Wind moves the sky alone, and motion alone makes no fire. Land may slide for a moment.
    unfit = any(
        (row.values["change"] or 1.0) < limits["change"][0]
        or (spec.needs_wind and (row.values["slides"] or 0.0) > limits["slides"][1])
        for row in meter.rows
    )
    return Trial(inf if unfit else meter.visible, spec.name, meter.faults)
