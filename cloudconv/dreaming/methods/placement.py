"""Show a clip's sky as new sky: mirrored and backwards, shifted.

A clip that is mirrored left-right and played backwards keeps its wind. A shifted picture leaves
one side unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Placement:
    """The footage to show, and its place in the picture.

    ``start``: the first frame; the others follow one by one, with falling numbers if ``backwards``.
    Numbers below 0 and from the clip's length on are of times before and after the clip.
    ``mirrored``: left and right are exchanged. ``shift``: the distance to the right, in widths of
    the picture. ``hidden``: how much of the frames' left and right is unknown, in widths.
    """

    start: int
    backwards: bool = False
    mirrored: bool = False
    shift: float = 0.0
    hidden: tuple[float, float] = (0.0, 0.0)

    @property
    def aligned(self) -> bool:
        """True if each point is shown at its place in the clip."""
        return not (self.mirrored or self.shift)

    def frame(self, age: int) -> int:
        """Return the number of the frame shown ``age`` frames after the first."""
        return self.start - age if self.backwards else self.start + age

    def placed(self, picture: Tensor) -> Tensor:
        """Return a picture (C, H, W) in its place; its mirror image fills what is not known."""
        if self.aligned:
            return picture
        width = picture.shape[-1]
        whole = picture.flip(-1) if self.mirrored else picture
        left, begin, end = self._span(width)
        turn = 2 * (end - begin)
        steps = (torch.arange(width, device=picture.device) - begin) % turn
        return whole[..., begin - left + torch.minimum(steps, turn - 1 - steps)]

    def known(self, width: int) -> Tensor:
        """Return 1 in the columns that the placed picture covers, else 0: (width,)."""
        _, begin, end = self._span(width)
        columns = torch.arange(width)
        return ((columns >= begin) & (columns < end)).float()

    def covers(self, known: Tensor, picture: Tensor) -> Tensor:
        """Return the known part of a placed picture, (h, w), from that of the picture.

        ``known``: (w,), the result of ``known``. ``picture``: (h, w), 1 where the picture is known.
        """
        return known * self.placed(picture[None])[0]

    def flow(self, flow: Tensor) -> Tensor:
        """Return a backward flow (2, h, w) as the placement shows the flow."""
        turned = flow.clone()
        if self.backwards:
            turned = -turned
        if self.mirrored:
            turned[0] = -turned[0]
        return self.placed(turned)

    def source(self, width: int) -> Tensor:
        """Return the place in the clip's picture that each of ``width`` columns shows.

        Returns:
            (width,), from 0 to 1; outside this range where the picture is unknown.
        """
        left, _, _ = self._span(width)
        columns = (torch.arange(width) - left + 0.5) / width
        return 1 - columns if self.mirrored else columns

    def _span(self, width: int) -> tuple[int, int, int]:
        """Return the left edge, and the first and the last column (exclusive) that are known."""
        left = round(self.shift * width)
        before, after = (round(side * width) for side in self.hidden)
        if self.mirrored:
            before, after = after, before
        return left, max(left + before, 0), min(left + width - after, width)
