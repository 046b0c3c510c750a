"""Find the moment near the end of a film at which a texture is seen least to begin.

The first jump of a texture leads from the last frame of the film, which may look like no
other. A little earlier, a frame may look more like another one.
"""

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from cloudconv.doubts import Grade, grade_of
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Filmed, Options
from cloudconv.dreaming.methods.texture import exits, texture
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import VitalsMeter
from cloudconv.images import MIDDLE_SIDE
from cloudconv.media.frames.frame import Frame

MOST = Fraction(1)
"""The longest part of a film that a dream leaves out, in seconds."""

PART = Fraction(1, 4)
"""The same as a part of the clip."""

_TRIED = 6  # moments, of as many parts of what may be left out


class Exit(NamedTuple):
    """The moment at which a dream leaves its film, and how much is wrong in the next jump.

    ``size``: see :mod:`cloudconv.doubts`. ``before``: the points of the material that are
    left out. ``last``: the last frame of the film that is shown.
    """

    size: float
    before: int
    last: Frame


def earlier_exit(material: Material, options: Options, most: int) -> Exit | None:
    """Return the moment at which a texture is seen least to leave a film before its end.

    The result is None if the jump at the end is not ``seen``, or if no earlier one is a
    grade better. ``most``: the greatest number of points before the end.
    """
    film = material.once(_film)
    at_end = _tried(film, options, 0)
    if grade_of(at_end.size) is Grade.HARDLY:
        return None
    best = at_end
    for before in exits(film.material, options, most, _TRIED):
        best = min(best, _tried(film, options, before))
        if not best.size:
            break
    return None if grade_of(best.size) is grade_of(at_end.size) else best


def _film(material: Material) -> FilmFeatures:
    """Return the features of the film, small, which each search for an exit reads."""
    return FilmFeatures(material.reduced(MIDDLE_SIDE))


def _tried(film: FilmFeatures, options: Options, before: int) -> Exit:
    """Judge the first jump of a texture that leaves out some points of its film."""
    small = film.material
    options = replace(options, leaves=~before, frames=len(small), loop=False)
    meter = VitalsMeter(film, options.frames, ~before)
    for frame, _, _ in meter.judged(texture(small, options)):
        if isinstance(frame.origin, Filmed):
            break
    last = small.original.frames[small.source_of(~before)[0]]
    return Exit(max((fault.size for fault in meter.faults), default=0.0), before, last)
