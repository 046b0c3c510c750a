"""Keep pictures in the planes of the film's format, so that none becomes RGB and back.

RGB becomes codes by a matrix. Codes can therefore be moved, and summed with weights, like
RGB. A *group* is all planes of one size: luma, and both planes of smaller chroma; or all
planes of a format without smaller ones. The *samples* of a group are (H, W), or (H, W,
channels), in float32 codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
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
    Look,
    levels_of,
    picture_from,
    picture_of,
    resized,
    tensor_of,
)
from cloudconv.media.color import (
    code_matrix,
    description_of,
    from_rgb,
    rgb_matrix,
    to_codes,
    to_rgb,
)
from cloudconv.media.frame import Frame

Samples = list[Floats]
"""The samples of each group of a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The planes of one size, whose ``numbers`` follow each other.

    ``size``: height and width. ``shifts``: the height and the width of the picture are
    larger by 2 to the power of these. ``matrix``: (channels, 4), from RGB and 1 to codes.
    """

    numbers: range
    size: tuple[int, int]
    shifts: tuple[int, int]
    matrix: Floats

    def codes(self, picture: Floats, share: Floats | None = None) -> Floats:
        """Return the codes of a picture, (h, w, 3): (h, w) or (h, w, channels).

        ``share``: (h, w), the sum of the weights with which the picture was summed.
        """
        if share is None:
            codes: Floats = cv2.transform(picture, self.matrix)
            return codes
        weighted: Floats = cv2.transform(
            cv2.merge([*cv2.split(picture), share]), self.matrix
        )
        return weighted

    def within(self, area: Area) -> Area:
        """Return the part of the group that an area of the picture shows.

        The area consists of whole cells, see :meth:`Planes.in_cells`.
        """
        rows, columns = (
            slice(span.start >> shift, -(-span.stop >> shift))
            for span, shift in zip(area, self.shifts, strict=True)
        )
        return rows, columns


class Planes:
    """The form of pictures like a frame. ``groups``: the groups of its planes."""

    def __init__(self, like: Frame) -> None:
        """Find the groups."""
        self._like = like
        self._layout, self._space = description_of(like)
        self.depth = self._layout.depth
        rows, zeros = code_matrix(self._layout, self._space)
        inverse, offsets = rgb_matrix(self._layout, self._space)
        self._to_rgb = np.column_stack([inverse, offsets]).astype(np.float32)
        planes = like.planes()[: len(rows)]
        self.groups: list[Group] = []
        for size, some in groupby(range(len(planes)), lambda n: tuple(planes[n].shape)):
            numbers = list(some)
            own = range(numbers[0], numbers[-1] + 1)
            shifts = self._layout.chroma_shift_y, self._layout.chroma_shift_x
            group = Group(
                own,
                (size[0], size[1]),
                shifts if own.start else (0, 0),
                np.array([(*rows[n], zeros[n]) for n in own], np.float32),
            )
            self.groups.append(group)

    def look(self, frame: Frame, number: int) -> Look:
        """Return the samples of a frame, to look at; ``number``: that of the group."""
        if description_of(frame) != (self._layout, self._space):
            return self.from_rgb(picture_of(frame))[number].__getitem__
        planes = frame.planes()
        chosen = [planes[k].numpy() for k in self.groups[number].numbers]
        return lambda area: _merged([codes[area] for codes in chosen])

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
        picture: Floats = cv2.transform(cv2.merge(few), self._to_rgb)
        return picture

    def frame(self, samples: Samples) -> Frame:
        """Return samples as a frame at time 0, rounded; the opacity is that of ``like``."""
        planes = [to_codes(plane, 0.0, self._layout) for plane in _split(samples)]
        opacity = self._like.planes()[len(planes) :]
        return self._like.like([*planes, *opacity], Fraction(0), Fraction(0))

    def in_cells(self, area: Area) -> Area:
        """Return the least area of whole cells around an area."""
        shifts = self._layout.chroma_shift_y, self._layout.chroma_shift_x
        rows, columns = (
            slice(span.start >> shift << shift, min(-(-span.stop >> shift) << shift, side))
            for span, shift, side in zip(area, shifts, self.groups[0].size, strict=True)
        )
        return rows, columns


def small_copy_of(frame: Frame, size: tuple[int, int]) -> Bytes:
    """Return a frame averaged over areas: (h, w, 3) uint8; see :func:`small_copy`."""
    form = Planes(frame)
    everything = slice(None), slice(None)
    numbers = range(len(form.groups))
    samples = [form.look(frame, number)(everything) for number in numbers]
    return levels_of(form.small(samples, size))


def _merged(codes: Sequence[NDArray[Any]]) -> Floats:
    """Return planes, (H, W) each, as float32: (H, W), or (H, W, channels)."""
    merged = codes[0] if len(codes) == 1 else cv2.merge(codes)
    return np.asarray(merged, np.float32)


def _split(samples: Samples) -> list[Tensor]:
    """Return samples as new planes, (H, W) each."""
    planes = [plane for one in samples for plane in cv2.split(one)]
    return [torch.from_numpy(plane) for plane in planes]
