"""Choose the mode that fits a clip by its rehearsals, and say why."""

from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.rehearsal import Rehearsal, Rehearse
from cloudconv.images import (
    COARSE_SIDE,
    TINY,
    Bytes,
    Floats,
    flow_between,
    gradients,
    luma,
    parts,
    spread,
    warp,
)
from cloudconv.messages import counted

# Least number of frames for a collage: with fewer, the same clouds soon return.
_COLLAGE = 48
# Least part of a wind in what motion explains. Skies that are better as collages have .65
# to 1; fires, people, animals and surf have less than .5.
_WIND = 0.5
# Time between two pictures whose motion is compared, in seconds: two successive pictures
# show less motion of a slow sky than noise.
_APART = Fraction(1, 5)
_FAINT = 0.05  # part of the change below which motion explains nothing but noise
# Finest detail of moving parts, relative to their mean gradient, of solid things, which a
# camera may move like a wind.
_SOLID = 0.54
_ALL = 0.9  # least moving part of a picture without land, which shows a camera that stands


class ModeChoice(NamedTuple):
    """A mode's name, and the reason in some words."""

    mode: str
    why: str


def choose(material: Material, rehearse: Rehearse) -> ModeChoice:
    """Choose the mode for a material, with the reason.

    A film becomes a collage or a texture, by their rehearsals. A single picture, and a film
    without motion or with too few frames, becomes a flow.
    """
    mode = "texture"
    count = len(material)
    why = _stands(material)
    if why:
        mode = "flow"
    elif count < _COLLAGE:
        why = f"{count} frames, too few for a collage"
    elif not (why := torn_by_collage(material)):
        # Without a fault, the mode whose pictures are new is the better one.
        mode = "collage"
        if rehearse(mode).worst >= 0:
            mode = min("collage", "texture", key=lambda name: rehearse(name).rank)
        why = "a steady wind" if mode == "collage" else "better than a collage"
    return ModeChoice(mode, why)


def _stands(material: Material) -> str:
    """Return why only a flow is right for a material; empty if another mode may be."""
    count = len(material)
    if count == 1:
        return "a single picture"
    if bool(material.views.land.all()) and material.views.path is None:
        return "nothing moves"
    if count < method("collage").least_frames:
        return f"only {counted(count, 'frame')}"
    return ""


def better_mode(made: Rehearsal, rehearse: Rehearse) -> str | None:
    """Return another mode that is a grade better than that of a rehearsal, or None.

    A flow is no mode for a film that another mode can continue, nor a collage for one that
    it tears.
    """
    material = made.material
    modes = []
    if not _stands(material):
        modes = ["texture"]
        if len(material) >= _COLLAGE and not torn_by_collage(material):
            modes = ["collage", "texture"]
    others = [rehearse(mode) for mode in modes if mode != made.spec.name]
    better = [other for other in others if other.worst < made.worst]
    return min(better, key=lambda other: other.rank).spec.name if better else None


def torn_by_collage(material: Material) -> str:
    """Return why a collage would tear what moves; empty if it does not."""
    return material.once(_torn)


def _torn(material: Material) -> str:
    small = material.reduced()
    if wind_of(small) < _WIND:
        return "no steady wind"
    if _is_solid(small):
        return "what moves has finer detail than clouds"
    return ""


def wind_of(material: Material) -> float:
    """Return how much of the change that motion explains a wind explains: 1, 0 for none.

    A wind is the mean motion of each place, without places that move against the mean of
    all. A motion explains by how much the change of the moving parts becomes less when the
    earlier picture is moved. ``material`` is a small material.
    """
    apart = max(1, min(round(_APART / material.step), len(material) - 1))
    numbers = spread(len(material), apart)
    pairs = [(material.glance(k - apart), material.glance(k)) for k in numbers]
    flows = [flow_between(*pair) for pair in pairs]
    still = np.zeros_like(flows[0])
    moving = parts(material.moving, COARSE_SIDE)
    mean = np.mean(flows, 0)
    wind = mean * (mean @ mean[moving].mean(0) > 0)[..., None]

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
