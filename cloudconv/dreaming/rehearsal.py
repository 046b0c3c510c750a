"""Rehearse a dream: make small pictures of a dream, and judge them, before the dream.

The jumps, the passes and the cuts of a dream depend on small pictures of the original
material, the seed and the length, and on nothing else. So a dream at full size follows the
plan of its rehearsal, and the judgement of one is that of the other.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any

from cloudconv import interrupts
from cloudconv.doubts import GRADES, Grade, grade_of
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import DreamFrame, Filmed, Options
from cloudconv.dreaming.methods.modes import MethodSpec
from cloudconv.dreaming.vitals.features import WINDOW, FilmFeatures
from cloudconv.images import MIDDLE_SIDE, as_picture, small_copy
from cloudconv.media.frames.frame import Frame

LONGEST = Fraction(20)
"""The longest rehearsal, in seconds, if this is a window of vitals or more.

What follows is judged when it is made."""

_MOST = Fraction(1)  # the longest part of a film that a dream leaves out, in seconds
_PART = Fraction(1, 4)  # the same as a part of the clip


class Rehearsal:
    """The small pictures of a dream, and the judgement, which is complete with the last.

    ``options``: those of the dream at full size. ``film``: the film in pictures of at most
    320 pixels. ``count``: the number of pictures: all of the dream, or whole windows.
    """

    def __init__(self, spec: MethodSpec, material: Material, options: Options) -> None:
        self.spec = spec
        self.material = material
        self.options = options
        self.film = material.once(_middle)
        small = options.loop_to
        if small is not None:
            small = as_picture(small_copy(small, self.film.material.size))
        self.meter, frames = spec.judged(self.film, replace(options, loop_to=small))
        windows = max(int(LONGEST / material.step) // WINDOW, 1)
        self.count = min(options.frames, windows * WINDOW)
        self._frames = islice(frames, self.count)

    def __iter__(self) -> Iterator[DreamFrame]:
        """Make and judge the pictures."""
        for frame, _, _ in self._frames:
            interrupts.check()
            yield frame

    def made(self) -> "Rehearsal":
        """Return this rehearsal with all of its pictures judged."""
        deque(self, maxlen=0)
        return self

    @property
    def worst(self) -> int:
        """Return the number of the worst grade, from 0; -1 without a fault."""
        faults = self.meter.faults
        return max((GRADES.index(fault.grade) for fault in faults), default=-1)

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Return a value that is less for a better dream.

        Land that slides so that this spoils the dream is worse than all else.
        """
        spoils = (fault for fault in self.meter.faults if fault.grade is Grade.SPOILS)
        slides = "slides" in {fault.vital for fault in spoils}
        return slides, self.worst, self.meter.visible

    @property
    def last(self) -> Frame:
        """Return the last frame of the film that is shown."""
        if self.options.leaves == -1:
            return self.material.last
        return self.material.frames[self.material.source_of(self.options.leaves)]

    @property
    def ends(self) -> Fraction | None:
        """Return the source time at which the film is left early, or None."""
        early = self.options.leaves != -1
        return self.last.time + self.last.duration if early else None

    def vitals(self) -> list[dict[str, Any]]:
        """Return the entries of ``vitals`` in the JSON, of a dream that may be longer."""
        return [
            {
                **row.as_json(),
                "measured_on": ("rehearsal", "dream")[row.start >= self.count],
            }
            for row in self.meter.rows
        ]


Rehearse = Callable[[str], Rehearsal]
"""A function that returns the finished rehearsal of a mode."""


def earlier_exit(spec: MethodSpec, material: Material, options: Options) -> Options | None:
    """Return options with which a dream is seen least to leave a film before its end.

    The result is None if the mode cannot run or does not leave early, if the jump at the
    end is not ``seen``, or if no earlier one is a grade better.
    """
    if spec.exits is None or len(material) < spec.least_frames:
        return None
    best = at_end = _first_jump(spec, material, options)
    if grade_of(at_end) is Grade.HARDLY:
        return None
    most = int(min(_MOST / material.step, _PART * len(material)))
    found = None
    for before in spec.exits(material, most):
        earlier = replace(options, leaves=~before)
        size = _first_jump(spec, material, earlier)
        if size < best:
            best = size
            found = earlier
        if not size:
            break
    return None if grade_of(best) is grade_of(at_end) else found


def _first_jump(spec: MethodSpec, material: Material, options: Options) -> float:
    """Return how much is wrong in the first jump of a dream, see `cloudconv.doubts`."""
    rehearsal = Rehearsal(
        spec, material, replace(options, frames=len(material), loop=False, loop_to=None)
    )
    for frame in rehearsal:
        if isinstance(frame.origin, Filmed):
            break
    return max((fault.size for fault in rehearsal.meter.faults), default=0.0)


def _middle(material: Material) -> FilmFeatures:
    """Return the features of the film in pictures of at most 320 pixels."""
    return FilmFeatures(material.reduced(MIDDLE_SIDE))
