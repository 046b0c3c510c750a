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
from cloudconv.dreaming.methods.modes import MethodSpec
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.images import MIDDLE_SIDE
from cloudconv.media.frames.frame import Frame

_MOST = Fraction(1)  # the longest part of a film that a dream leaves out, in seconds
_PART = Fraction(1, 4)  # the same as a part of the clip


class Exit(NamedTuple):
    """The moment at which a dream leaves its film, and how much is wrong in the next jump.

    ``size``: see :mod:`cloudconv.doubts`. ``before``: the points of the material that are
    left out. ``last``: the last frame of the film that is shown.
    """

    size: float
    before: int
    last: Frame

    @property
    def time(self) -> Fraction:
        """Return the source time at which the dream begins."""
        return self.last.time + self.last.duration


def earlier_exit(
    spec: MethodSpec, material: Material, options: Options, most: int | None = None
) -> Exit | None:
    """Return the moment at which a dream is seen least to leave a film before its end.

    The result is None if the mode does not leave early, if the jump at the end is not
    ``seen``, or if no earlier one is a grade better. ``most``: the greatest number of
    points before the end, by default those of a second, or of a quarter of the clip.
    """
    if spec.exits is None:
        return None
    film = material.once(middle_film)
    best = at_end = _tried(spec, film, options, 0)
    if grade_of(at_end.size) is Grade.HARDLY:
        return None
    if most is None:
        most = int(min(_MOST / material.step, _PART * len(material)))
    for before in spec.exits(film.material, most):
        best = min(best, _tried(spec, film, options, before))
        if not best.size:
            break
    return None if grade_of(best.size) is grade_of(at_end.size) else best


def middle_film(material: Material) -> FilmFeatures:
    """Return the features of the film in pictures of at most 320 pixels."""
    return FilmFeatures(material.reduced(MIDDLE_SIDE))


def _tried(spec: MethodSpec, film: FilmFeatures, options: Options, before: int) -> Exit:
    """Judge the first jump of a dream that leaves out some points of its film."""
    options = replace(options, leaves=~before, frames=len(film.material), loop=False)
    meter, frames = spec.judged(film, options)
    for frame, _, _ in frames:
        if isinstance(frame.origin, Filmed):
            break
    last = film.material.original.frames[film.material.source_of(~before)]
    return Exit(max((fault.size for fault in meter.faults), default=0.0), before, last)
