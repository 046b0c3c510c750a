"""Show a clip's sky at another time and place as new sky.

A shifted picture leaves one side unknown.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.planes import Group, Look
from cloudconv.images import Area, Floats, centres


@dataclass(frozen=True, slots=True)
class Placement:
    """The footage to show, and its place in the picture.

    ``start``: the first frame; the others follow one by one. Numbers below 0 and from the
    clip's length on are of times before and after the clip. ``shift``: the distance to the
    right, in widths of the picture.
    """

    start: int
    shift: float = 0.0

    @property
    def aligned(self) -> bool:
        """Return whether each point is shown at its place in the clip."""
        return not self.shift

    def frame(self, age: int) -> int:
        """Return the number of the frame shown ``age`` frames after the first."""
        return self.start + age

    def placed(self, picture: Floats) -> Floats:
        """Return a picture in its place; its mirror image fills what is not known."""
        width = picture.shape[1]
        return picture[:, self._columns(round(self.shift * width), width)]

    def look(self, look: Look) -> Look:
        """Return a picture in its place, to look at.

        The shift is by whole columns of the smallest planes, so that all planes of a
        picture stay together.
        """
        if self.aligned:
            return look

        def placed(group: Group, area: Area) -> Floats:
            width = group.size[1]
            by = round(self.shift * group.cells) * round(width / group.cells)
            columns = self._columns(by, width)[area[1]]
            first = int(columns.min())
            needed = slice(first, int(columns.max()) + 1)
            return look.at(group, (area[0], needed)).take(columns - first, 1)

        return Look(placed)

    def _columns(self, by: int, width: int) -> NDArray[np.intp]:
        """Return the column of the clip's picture that each column shows: (width,)."""
        # The picture and its mirror image follow each other.
        places = (np.arange(width) - by) % (2 * width)
        return np.minimum(places, 2 * width - 1 - places)

    def known(self, width: int) -> Floats:
        """Return 1 in the columns that the placed picture covers, else 0: (width,)."""
        source = self.source(width)
        return ((source > 0) & (source < 1)).astype(np.float32)

    def source(self, width: int) -> Floats:
        """Return the place in the clip's picture that each of ``width`` columns shows.

        Returns:
            (width,), from 0 to 1; outside this range where the picture is unknown.
        """
        return centres(width) - np.float32(round(self.shift * width) / width)
