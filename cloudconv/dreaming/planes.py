"""Keep pictures in the planes of the film's format, so that none becomes RGB and back.

RGB becomes codes by a matrix. Codes can therefore be moved, and summed with weights, like
RGB. A *group* is all planes of one size: luma, and both planes of smaller chroma; or all
planes of a format without smaller ones. The *samples* of a group are (H, W), or (H, W,
channels), in float32 codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    levels_of,
    needed_by,
    picture_from,
    picture_of,
    placed_in,
    resized,
    resized_flow,
    sample,
    tensor_of,
    whole,
)
from cloudconv.media.colour.color import (
    code_matrix,
    description_of,
    from_rgb,
    rgb_matrix,
    to_codes,
    to_rgb,
)
from cloudconv.media.frames.frame import Frame

Samples = list[Floats]
"""The samples of each group of a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The planes of one size, whose ``numbers`` follow each other.

    ``size``: height and width. ``matrix``: (channels, 4), from RGB and 1 to codes.
    ``shifts``: the height and the width of the picture are larger by 2 to the power of
    these.
    """

    numbers: range
    size: tuple[int, int]
    matrix: Floats
    shifts: tuple[int, int]

    def codes(self, picture: Floats, share: Floats | None = None) -> Floats:
        """Return the codes of a picture, (h, w, 3): (h, w) or (h, w, channels).

        ``share``: (h, w), the sum of the weights with which the picture was summed.
        """
        if share is None:
            return cv2.transform(picture, self.matrix)
        return cv2.transform(cv2.merge([*cv2.split(picture), share]), self.matrix)

    def within(self, area: Area) -> Area:
        """Return the part of the group that an area of the picture shows.

        The area consists of whole cells, see :meth:`Planes.in_cells`.
        """
        rows, columns = (
            slice(span.start >> shift, -(-span.stop >> shift))
            for span, shift in zip(area, self.shifts, strict=True)
        )
        return rows, columns


@cache
def colours(height: int, width: int) -> Group:
    """Return the group of RGB of a size."""
    return Group(range(3), (height, width), np.eye(3, 4, dtype=np.float32), (0, 0))


@dataclass(frozen=True, slots=True)
class Look:
    """A picture that is made where it is looked at.

    ``at``: returns an area of a group of its planes, or of its colours at any size, which
    nobody changes.
    """

    at: Callable[[Group, Area], Floats]

    def whole(self, group: Group) -> Floats:
        """Return all of a group: (H, W) or (H, W, channels)."""
        return self.at(group, whole(group.size))

    def moved(self, flow: Floats) -> Look:
        """Return the picture moved by a flow of any size, as in ``cloudconv.images.warp``.

        Its mirror image continues the picture. Only what an area needs is looked at.
        """
        enlarged = cache(lambda group: resized_flow(flow, group.size))

        def part(group: Group, area: Area) -> Floats:
            window = needed_by(area, flow, group.size)
            places = placed_in(window, area, enlarged(group)[area], group.size)
            return sample(self.at(group, window), places, mirrors=True)

        return Look(part)


def held(picture: Floats) -> Look:
    """Return a picture in memory, (H, W, 3), as one to look at in its colours."""
    return Look(lambda group, area: resized(picture, group.size)[area])


class Planes:
    """The form of pictures like a frame. ``groups``: the groups of its planes."""

    def __init__(self, like: Frame) -> None:
        """Find the groups."""
        self._like = like
        self._layout, self._space = description_of(like)
        self._shifts = self._layout.chroma_shift_y, self._layout.chroma_shift_x
        rows, zeros = code_matrix(self._layout, self._space)
        inverse, offsets = rgb_matrix(self._layout, self._space)
        self._to_rgb = np.column_stack([inverse, offsets]).astype(np.float32)
        planes = like.planes()[: len(rows)]
        self.groups: list[Group] = []
        for size, some in groupby(range(len(planes)), lambda n: tuple(planes[n].shape)):
            numbers = list(some)
            own = range(numbers[0], numbers[-1] + 1)
            matrix = np.array([(*rows[n], zeros[n]) for n in own], np.float32)
            shifts = self._shifts if own.start else (0, 0)
            self.groups.append(Group(own, (size[0], size[1]), matrix, shifts))

    def look(self, frame: Frame) -> Look:
        """Return the samples of a frame, to look at."""
        if description_of(frame) != (self._layout, self._space):
            return self.held(picture_of(frame))
        planes = [plane.numpy() for plane in frame.planes()]
        return Look(lambda group, area: _merged([planes[k][area] for k in group.numbers]))

    def held(self, picture: Floats) -> Look:
        """Return a picture in memory, (H, W, 3), to look at, in its colours too."""
        samples = dict(zip(self.groups, self.from_rgb(picture), strict=True))
        colour = held(picture)

        def part(group: Group, area: Area) -> Floats:
            if group in samples:
                return samples[group][area]
            return colour.at(group, area)

        return Look(part)

    def from_rgb(self, picture: Floats) -> Samples:
        """Return a picture, (H, W, 3), or whole cells of it, as samples; [] of no pixel."""
        if not picture.size:
            return []
        planes = from_rgb(tensor_of(picture), self._layout, self._space)
        return [
            _merged([planes[k].numpy() for k in group.numbers]) for group in self.groups
        ]

    def rgb(self, samples: Samples) -> Floats:
        """Return samples as a picture, (H, W, 3)."""
        return picture_from(to_rgb(_split(samples), self._layout, self._space))

    def small(self, samples: Samples, size: tuple[int, int]) -> Floats:
        """Return samples averaged over areas as a picture: (h, w, 3)."""
        if min(np.subtract(self.groups[-1].size, size)) < 0:
            return resized(self.rgb(samples), size)
        # The planes are averaged first, so that few pixels are converted.
        few = [plane for one in samples for plane in cv2.split(resized(one, size))]
        return cv2.transform(cv2.merge(few), self._to_rgb)

    def frame(self, samples: Samples) -> Frame:
        """Return samples as a frame at time 0, rounded; the opacity is that of ``like``."""
        planes = [to_codes(plane, 0.0, self._layout) for plane in _split(samples)]
        opacity = self._like.planes()[len(planes) :]
        return self._like.like([*planes, *opacity], Fraction(0), Fraction(0))

    def in_cells(self, area: Area) -> Area:
        """Return the least area of whole cells around an area."""
        rows, columns = (
            slice(span.start >> shift << shift, min(-(-span.stop >> shift) << shift, side))
            for span, shift, side in zip(
                area, self._shifts, self.groups[0].size, strict=True
            )
        )
        return rows, columns


def small_copy_of(frame: Frame, size: tuple[int, int]) -> Bytes:
    """Return a frame averaged over areas: (h, w, 3) uint8; see :func:`small_copy`."""
    form = Planes(frame)
    look = form.look(frame)
    samples = [look.whole(group) for group in form.groups]
    return levels_of(form.small(samples, size))


def _merged(codes: Sequence[NDArray[Any]]) -> Floats:
    """Return planes, (H, W) each, as float32: (H, W), or (H, W, channels)."""
    merged = codes[0] if len(codes) == 1 else cv2.merge(codes)
    return np.asarray(merged, np.float32)


def _split(samples: Samples) -> list[Tensor]:
    """Return samples as new planes, (H, W) each."""
    planes = [plane for one in samples for plane in cv2.split(one)]
    return [torch.from_numpy(plane) for plane in planes]
