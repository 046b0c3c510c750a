"""Show a clip's sky as new sky: mirrored and backwards, shifted.

A clip that is mirrored left-right and played backwards keeps its wind. A shifted picture
leaves one side unknown.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cloudconv.images import Area, Floats, Look, centres


@dataclass(frozen=True, slots=True)
class Placement:
    """The footage to show, and its place in the picture.

    ``start``: the first frame; the others follow one by one, with falling numbers if
    ``backwards``. Numbers below 0 and from the clip's length on are of times before and
    after the clip. ``mirrored``: left and right are exchanged. ``shift``: the distance to
    the right, in widths of the picture.
    """

    start: int
    backwards: bool = False
    mirrored: bool = False
    shift: float = 0.0

    @property
    def aligned(self) -> bool:
        """True if each point is shown at its place in the clip."""
        return not (self.mirrored or self.shift)

    def frame(self, age: int) -> int:
        """Return the number of the frame shown ``age`` frames after the first."""
        return self.start - age if self.backwards else self.start + age

    def placed(self, picture: Floats) -> Floats:
        """Return a picture in its place; its mirror image fills what is not known."""
        if self.aligned:
            return picture
        width = picture.shape[1]
        whole = cv2.flip(picture, 1) if self.mirrored else picture
        by = round(self.shift * width)
        left, right = max(by, 0), max(-by, 0)
        widened: Floats = cv2.copyMakeBorder(whole, 0, 0, left, right, cv2.BORDER_REFLECT)
        return widened[:, right : right + width]

    def look(self, look: Look, width: int, cells: int) -> Look:
        """Return a picture of a width in its place, which is made where it is looked at.

        ``cells``: the columns of the smallest planes. The shift is by whole columns of
        these, so that all planes of a picture stay together.
        """
        if self.aligned:
            return look
        by = round(self.shift * cells) * round(width / cells)

        def placed(area: Area) -> Floats:
            rows, columns = area
            parts = []
            start = columns.start
            while start < columns.stop:
                # The picture and its mirror image follow each other.
                turn, first = divmod(start - by, width)
                last = min(width, first + columns.stop - start)
                backwards = bool(turn % 2) != self.mirrored
                source = (
                    slice(width - last, width - first) if backwards else slice(first, last)
                )
                piece = look((rows, source))
                parts.append(cv2.flip(piece, 1) if backwards else piece)
                start += last - first
            picture: Floats = cv2.hconcat(parts) if len(parts) > 1 else parts[0]
            return picture

        return placed

    def known(self, width: int) -> Floats:
        """Return 1 in the columns that the placed picture covers, else 0: (width,)."""
        source = self.source(width)
        return ((source > 0) & (source < 1)).astype(np.float32)

    def flow(self, flow: Floats) -> Floats:
        """Return a backward flow (h, w, 2) as the placement shows the flow."""
        x = self.backwards != self.mirrored
        y = self.backwards
        return self.placed(flow * np.array([-1 if x else 1, -1 if y else 1], np.float32))

    def source(self, width: int) -> Floats:
        """Return the place in the clip's picture that each of ``width`` columns shows.

        Returns:
            (width,), from 0 to 1; outside this range where the picture is unknown.
        """
        columns = centres(width) - np.float32(round(self.shift * width) / width)
        return 1 - columns if self.mirrored else columns
