"""Show a clip's sky as new sky: mirrored and backwards, shifted, enlarged.

A clip that is mirrored left-right and played backwards keeps its wind. A shifted picture leaves
one side empty: a second copy of the same picture fills that side, and the two overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.pictures import enlarged

OVERLAP = 0.3
"""Overlap of the two copies of a shifted picture, as a share of the width."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A placed picture: values (C, H, w) for the columns from ``left`` to ``right``."""

    values: Tensor
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The footage to show, and its place in the picture.

    ``start``: the first frame; the others follow one by one, with falling numbers if ``backwards``.
    ``mirrored``: left is right. ``scale``: from 1 on; the bottom is cut off. ``shift``: to the
    right, in widths, from -0.5 to 0.5.
    """

    start: int
    backwards: bool = False
    mirrored: bool = False
    shift: float = 0.0
    scale: float = 1.0

    def frame(self, age: int, count: int) -> int:
        """Return the number of the frame shown ``age`` frames after the first, of ``count``."""
        wanted = self.start - age if self.backwards else self.start + age
        return min(max(wanted, 0), count - 1)

    def lefts(self, width: int) -> tuple[int, ...]:
        """Return the left edge of each copy in a picture of that width, one or two."""
        wide = round(width * self.scale)
        left = round(self.shift * width) - (wide - width) // 2
        if left <= 0 and left + wide >= width:
            return (left,)
        period = wide - round(OVERLAP * width)
        return (left, left - period if left > 0 else left + period)

    def spans(self, width: int) -> list[tuple[int, int]]:
        """Return the first and the last column (exclusive) of each copy."""
        wide = round(width * self.scale)
        return [(max(left, 0), min(left + wide, width)) for left in self.lefts(width)]

    def copies(self, picture: Tensor) -> list[Copy]:
        """Return a picture (C, H, W) in its place: one copy, or two that overlap."""
        width = picture.shape[-1]
        if self.mirrored:
            picture = picture.flip(-1)
        made = []
        whole = enlarged(picture, self.scale)[:, : picture.shape[-2]]
        for left, (begin, end) in zip(self.lefts(width), self.spans(width), strict=True):
            made.append(Copy(whole[:, :, begin - left : end - left], begin, end))
        return made

    def flow(self, flow: Tensor) -> Tensor:
        """Return a backward flow (2, h, w) as the placement shows the flow."""
        turned = flow.clone()
        if self.backwards:
            turned = -turned
        if self.mirrored:
            turned[0] = -turned[0]
        return joined(self.copies(turned * self.scale), flow.shape[-1])

    def source(self, size: tuple[int, int], copy: int) -> tuple[Tensor, Tensor]:
        """Return the place in the clip's picture that each pixel of a copy is from.

        Returns:
            Rows (h, 1) and columns (1, w), both from 0 to 1; outside of that in the columns that
            the copy does not reach.
        """
        height, width = size
        left = self.lefts(width)[copy]
        columns = (torch.arange(width)[None] - left + 0.5) / round(width * self.scale)
        rows = (torch.arange(height)[:, None] + 0.5) / (height * self.scale)
        return rows, 1 - columns if self.mirrored else columns


def joined(copies: list[Copy], width: int, share: Tensor | None = None) -> Tensor:
    """Return copies as one picture (C, H, W).

    ``share``, (H, W): the weight of the second copy in the overlap; None for one half.
    """
    first = copies[0]
    if len(copies) == 1:
        return first.values
    second = copies[1]
    made = first.values.new_empty(*first.values.shape[:2], width)
    made[..., first.left : first.right] = first.values
    begin, end = max(first.left, second.left), min(first.right, second.right)
    here = second.values[..., begin - second.left : end - second.left]
    if share is None:
        mixed = torch.lerp(made[..., begin:end], here, 0.5)
    else:
        mixed = torch.lerp(made[..., begin:end], here, share[:, begin:end].to(here.device))
    made[..., second.left : second.right] = second.values
    made[..., begin:end] = mixed
    return made
