"""Hold fast moving objects: what flies over film by more than its own size in a frame.

The term is that of Rozumnyi et al., The World of Fast Moving Objects, CVPR 2017. Tasks
carry these objects from the plan to the renderer, in any process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Point = tuple[float, float]
"""Column and row of a place in a frame, in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Matte:
    """A fast object as one source frame shows it.

    ``corner``: column and row of the first pixel of the matte. ``centre``: that of the
    object. ``alpha``: (h, w) float32, 0 to 1. ``colours``: (h, w, 3) float32 RGB times
    alpha, nominally in [0, 1]. ``ground``: (h, w, 3), what is behind the object.
    """

    corner: tuple[int, int]
    centre: Point
    alpha: NDArray[np.float32]
    colours: NDArray[np.float32]
    ground: NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class FastObject:
    """A fast object between two source frames.

    ``ends``: its mattes in both. ``beside``: those in the frames before and after both,
    None where it is not seen. ``bend``: the second difference of its trajectory.
    """

    ends: tuple[Matte, Matte]
    beside: tuple[Matte | None, Matte | None]
    bend: Point

    def at(self, t: float) -> Point:
        """Return the centre at a time from 0 to 1, on a parabola through both centres."""
        first, second = (matte.centre for matte in self.ends)
        x, y = (
            (1 - t) * start + t * end - t * (1 - t) / 2 * bend
            for start, end, bend in zip(first, second, self.bend, strict=True)
        )
        return x, y
