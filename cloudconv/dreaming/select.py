"""Choose the mode that fits a clip, with the reason in a sentence."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.fineness import SOFT, fineness
from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.material.similarity import Floats, distances, repetition, thumbnails
from cloudconv.dreaming.methods.registry import method
from cloudconv.dreaming.pictures import grey
from cloudconv.events import Warned, mapped, result_of
from cloudconv.models.flow import measured_flow

_LEAST = 8  # frames; with fewer, no mode that plays frames is chosen
_SHORT = 24  # frames; with fewer, a steady drift plays as flow, not as texture
_COLLAGE = 48  # least number of frames for a collage
_DRIFTS = 0.65  # `steadiness` from which everything drifts in one direction
_REPEATS = 1.5  # value of `repetition` below which the motion repeats
# Speeds are in pixels of the small picture a frame. The limits were found on clips of sky, water,
# fire, people, animals and things.
_STANDS = 0.1  # speed of the fastest parts below which the clip counts as still
_MORE = 1.5  # median difference of frames, relative to neighbours, from which something moves
_SLOW = 0.15  # speed below which a pixel stands still
_UNSTEADY = 1.1  # `variation` from which objects pass by
_LOCAL = 0.9  # `standing` from which only something small moves
_APART = 10  # frames between the two of a pair whose flow separates drift from other motion
_LOOKS = 8  # greatest number of such pairs
_DRIFTING = 0.3  # greatest `wander` of a sky
# Objects move separately if `wander`, `uneven` and `variation` exceed these limits.
_SEPARATE, _LEAST_UNEVEN, _LEAST_VARIATION = 0.47, 0.1, 0.2
# Clouds of a storm exceed the limits too, but have soft edges and change direction: `fineness` and
# `steadiness` are below these values. People and traffic have a fineness from .44 (a
# runner .32, with a steadiness of .16), a storm has .25.
_SOFT_EDGES, _ONE_WAY = 0.35, 0.9
_UNEVEN, _LOW = 0.2, 0.52  # least `uneven` and `middle` of people and cars
_AROUND = 0.05  # sigma of the surroundings of a point, relative to the longer side
_FINE, _GROUND_FINE = 0.6, 0.9  # `fineness` below which a drift is sky: anywhere, above ground
_ABOVE = 0.49  # `middle` below which the moving part is over ground


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """A mode's name, the reason in a sentence, and a warning about visible faults, if any.

    ``sky``: whether all moving parts drift as clouds do.
    """

    mode: str
    why: str
    warning: Warned | None = None
    sky: bool = False


@dataclass(frozen=True, slots=True)
class Motion:
    """Statistics of the motion in a clip.

    ``fastest``: the .98 quantile over the picture of the mean speed, in pixels of the small picture
    per frame. ``steadiness``: the speed of the mean motion, relative to the mean speed, from 0 to
    1; large for clouds, which drift one way. ``variation``: the standard deviation of motion over
    time, relative to the mean speed; large where something passes by. ``standing``: the fraction of
    the picture that does not move. ``wander``: the fraction of the flow over ten frames that
    differs from the usual flow at the same place; small in clouds, half or more in water, fire and
    people. ``uneven``: the fraction of this flow that differs from the flow of the surroundings;
    small in clouds, a fifth or more where people or cars move. ``middle``: the height of the middle
    of the moving parts, from 0 (top) to 1.
    """

    fastest: float
    steadiness: float
    variation: float
    standing: float
    wander: float
    uneven: float
    middle: float


def motion_of(material: Material) -> Generator[float, None, Motion]:
    """Measure the motion of a material of at least two frames.

    Yields:
        The fraction that is done, from 0 to 1.
    """
    numbers = spread(len(material))[::2]
    pairs = []
    for k in numbers:
        pairs.append(material.flow(k)[::2, ::2])
        yield len(pairs) / len(numbers)
    flows = np.stack(pairs)
    speed = np.hypot(flows[..., 0], flows[..., 1]).mean(0)
    drift = np.hypot(*flows.mean(0).transpose(2, 0, 1))
    mean_speed = max(float(speed.mean()), 1e-6)
    moving = material.static < 0.5
    moving = moving if moving.mean() > 0.01 else np.ones_like(moving)
    far = _far_flows(material)
    whole = max(float(np.linalg.norm(far, axis=-1)[:, moving].mean()), 1e-3)
    around = [cv2.GaussianBlur(flow, (0, 0), _AROUND * max(flow.shape)) for flow in far]
    astray = [np.linalg.norm(far - usual, axis=-1) for usual in (np.median(far, 0), around)]
    wander, uneven = (float(away[:, moving].mean()) / whole for away in astray)
    return Motion(
        fastest=float(np.quantile(speed, 0.98)),
        steadiness=float(drift.mean()) / mean_speed,
        variation=float(flows.std(0).sum(-1).mean()) / mean_speed,
        standing=float((speed < _SLOW).mean()),
        wander=wander,
        uneven=uneven,
        middle=float(np.argwhere(moving)[:, 0].mean() / material.small_size[0]),
    )


def _far_flows(material: Material) -> NDArray[np.float32]:
    """Return the backward flow over ten frames at up to eight times, (n, h, w, 2), in pixels."""
    last = len(material) - 1
    apart = min(_APART, max(1, last // 2))
    starts = np.unique(np.linspace(0, last - apart, _LOOKS).round().astype(int))
    pairs = ((grey(material.glance(int(k) + apart)), grey(material.glance(int(k)))) for k in starts)
    return np.stack([measured_flow(later, earlier) for later, earlier in pairs])


def is_sky(material: Material, motion: Motion | None = None) -> bool:
    """Return whether all moving parts of a clip drift as clouds do.

    ``motion``: the result of :func:`motion_of`, if known already. Fewer than 8 frames count as no
    sky.
    """
    if len(material) < _LEAST:
        return False
    motion = motion or result_of(motion_of(material))
    if motion.fastest < _STANDS or motion.wander > _DRIFTING or _people(motion):
        return False
    above_ground = motion.middle < _ABOVE
    return fineness(material) < (_GROUND_FINE if above_ground else _FINE)


def _people(motion: Motion) -> bool:
    """Return whether the parts that move lie low and move unevenly, as people and cars do."""
    return motion.uneven > _UNEVEN and motion.middle > _LOW


def wanders(motion: Motion, fine: float) -> bool:
    """Return whether parts move separately from their surroundings, and differently over time.

    Parts with soft edges count only if each of them keeps its direction: in a storm, clouds turn.
    ``fine``: the result of :func:`fineness`.
    """
    if motion.uneven < _LEAST_UNEVEN or motion.variation < _LEAST_VARIATION:
        return False
    if fine < _SOFT_EDGES and motion.steadiness < _ONE_WAY:
        return False
    return motion.wander > _SEPARATE


def choose(material: Material) -> Generator[float, None, ModeChoice]:
    """Choose the mode for a material, with the reason.

    Yields:
        The fraction of the analysis that is done, from 0 to 1.
    """
    if len(material) == 1:
        return ModeChoice("flow", "flow: the input is a single picture, which this mode moves.")
    motion = yield from mapped(motion_of(material), lambda part: part / 2)
    rows = yield from mapped(thumbnails(material), lambda part: (1 + part) / 2)
    sky = is_sky(material, motion)
    mode, why = _mode(material, motion, distances(rows), sky)
    return ModeChoice(mode, f"{mode}: {why}.", method(mode).warning(material), sky)


def _mode(material: Material, motion: Motion, apart: Floats, sky: bool) -> tuple[str, str]:
    """Return the name of the mode, and the reason without a full stop.

    ``apart``: (n, n), the distances of all pairs of frames.
    """
    count = len(material)
    if motion.fastest < _STANDS and not _changes(apart):
        return "flow", "nothing moves in the clip, and this mode adds a slow motion"
    if count < _LEAST:
        return "flow", f"{count} frames are too few for the modes that play the clip's frames"
    against = _against_collage(material, motion, apart, sky)
    if against:
        return "texture", against
    if count < _SHORT:
        return "flow", f"the motion is a steady drift, and {count} frames are too few for a collage"
    if count < _COLLAGE:
        return "texture", f"{count} frames are too few for a collage"
    if sky:
        same = f"({1 - motion.wander:.0%} of the motion is the same at all times)"
        return "collage", f"the clip looks like a sky, whose clouds drift in one direction {same}"
    return "collage", "the moving parts drift together, as clouds do"


def _against_collage(material: Material, motion: Motion, apart: Floats, sky: bool) -> str:
    """Return the reason to play the clip's frames instead of a collage or a flow; empty without."""
    ratio = repetition(apart)
    if ratio is not None and ratio < _REPEATS:
        return "the pictures of the clip come back in similar form, so its frames are played again"
    if sky and len(material) >= _COLLAGE:
        return ""
    if motion.standing > _LOCAL:
        return (
            f"{motion.standing:.0%} of the picture does not move, and a collage would cut through "
            "the small moving parts"
        )
    separate = motion.variation > _UNSTEADY or motion.steadiness < _DRIFTS
    fine = fineness(material)
    if separate or wanders(motion, fine) or _people(motion):
        return (
            "objects move separately in the clip, not together like clouds; a collage would cut "
            "through them"
        )
    sharp = "the moving parts have sharper edges than clouds; a collage would cut through them"
    return sharp if fine > SOFT else ""


def _changes(apart: Floats) -> bool:
    """Return whether frames differ more than neighbours; noise alone makes no such difference."""
    return bool(np.median(apart) > _MORE * np.median(np.diagonal(apart, 1)))


def advice(material: Material, died: str, chosen: str | None = None) -> str:
    """Return advice, as the end of a sentence, after the mode ``died`` failed on a material.

    ``chosen``: the name of the mode that :func:`choose` returns, if known already.
    """
    chosen = chosen or result_of(choose(material)).mode
    if chosen != died:
        return f"try the mode {chosen}, which auto chooses for this clip"
    if died != "texture" and len(material) > 1:
        return "try the mode texture, which shows real frames only"
    return "no other mode is known to hold on this clip"
