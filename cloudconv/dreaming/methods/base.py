"""Define the options of the modes of dreaming, and the frames that a mode yields."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.planes import Samples
from cloudconv.images import Bytes, Floats, levels_of, small_copy


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a dream; a mode ignores those that its description does not name.

    ``frames``: the number of new frames, at least 1. ``seed``: any integer from 0.
    ``loop``: the first frame of the output follows smoothly after the last one.
    ``loop_to``: this first frame, (H, W, 3) RGB, if the output begins with the source's
    frames; None if it begins with the dream. ``wind``: the motion of the sky, (dx, dy) in
    pixels of the film per frame. ``leaves``: the point of the material after which the
    dream begins. ``model``: the name or weights file of a predictor. ``device``, ``dtype``:
    the device and the precision of networks.
    """

    frames: int = 1
    seed: int = 0
    loop: bool = False
    loop_to: Floats | None = None
    wind: tuple[float, float] | None = None
    leaves: int = -1
    model: str | None = None
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Filmed:
    """The origin of a frame of the film, perhaps moved as a whole (a steadied camera).

    ``number``: the real frame, an index of ``material.frames`` and of ``material.times``.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Jump:
    """The origin of a picture that is made between two frames of the film.

    ``before``, ``after``: the real frames that the old and the new shot show at this time,
    indices like :attr:`Filmed.number`. ``after`` is None in a loop that leads to the first
    frame of the source, which need not be in the material. ``part``: how far the jump is,
    between 0 and 1. ``start``, ``length``: the first picture of the jump, counted from 0 in
    the dream, and the number of its pictures, which the end of the dream may cut short; all
    pictures of one jump have the same two.
    """

    before: int
    after: int | None
    part: float
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Composed:
    """The origin of a picture that is put together or forecast."""


Origin = Filmed | Jump | Composed


@dataclass(frozen=True, slots=True, eq=False)
class DreamFrame:
    """A frame of a dream, and its origin.

    ``show`` returns the picture, (H, W, 3) RGB, nominally in [0, 1]. For a frame of the
    film this takes time, so that callers can take the film's own frame instead.
    ``samples``: the same picture in the material's form; empty if the picture was made as
    RGB. ``ghost``: by how many levels each place shows two pictures through each other, as
    :func:`cloudconv.doubts.by_place`; None if the mode mixes no two pictures.
    """

    show: Callable[[], Floats]
    origin: Origin
    samples: Samples = field(default_factory=list)
    ghost: Floats | None = None

    @classmethod
    def made(cls, picture: Floats, origin: Origin, ghost: Floats | None = None) -> Self:
        """Return a frame of a picture that is finished."""
        return cls(lambda: picture, origin, ghost=ghost)

    def small(self, material: Material) -> Bytes:
        """Return the picture for analysis: (h, w, 3), of the material's ``small_size``."""
        if isinstance(self.origin, Filmed):
            return material.views.small(self.origin.number)
        if self.samples:
            return levels_of(material.form.small(self.samples, material.small_size))
        return small_copy(self.show(), material.small_size)
