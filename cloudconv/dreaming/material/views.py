"""The filmed frames of a scene, as if the camera had always had its last view.

A camera that pans slowly over land moves each picture: see `view_of`. The dream goes on in
the last view, so every frame is moved there. Without a pan the frames are as filmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cloudconv.dreaming.material.pan import view_of
from cloudconv.dreaming.material.sky import sky_of
from cloudconv.dreaming.planes import Group, Look, Planes, colours, small_copy_of
from cloudconv.images import (
    LONGEST_SIDE,
    MIDDLE_SIDE,
    Area,
    Bytes,
    Floats,
    as_picture,
    picture_of,
    reduced,
    reduced_size,
    resized,
    small_copy,
    spread,
    warp,
)
from cloudconv.media.frames.frame import Frame, make_picture


class Views:
    """The filmed ``frames``, by their number, as from the last view.

    ``small_size``: height and width of the pictures for analysis, the longest side at most
    480. ``form`` and ``size``: those of the frame ``last``.
    """

    def __init__(self, frames: Sequence[Frame], last: Frame) -> None:
        self.frames = tuple(frames)
        self.form = Planes(last)
        self.size = last.height, last.width
        self.small_size = reduced_size(self.size, LONGEST_SIDE)
        # One block: single pictures would leave holes between values that live shortly.
        self._smalls = np.empty((len(frames), *self.small_size, 3), np.uint8)
        for small, frame in zip(self._smalls, frames, strict=True):
            small[:] = small_copy_of(frame, self.small_size)
        self.small = cache(self._seen_small)
        self._resized = lru_cache(4)(
            lambda number, group: resized(as_picture(self.small(number)), group.size)
        )

    def picture(self, number: int) -> Floats:
        """Return a frame, (H, W, 3) float32 RGB, nominally in [0, 1]."""
        look = Look(lambda _, area: picture_of(self.frames[number], area))
        return self._from_last_view(look, number).whole(colours(*self.size))

    def look(self, number: int) -> Look:
        """Return a frame, in its planes and in colours at a size for analysis."""
        planes = self._from_last_view(self.form.look(self.frames[number]), number)

        def part(group: Group, area: Area) -> Floats:
            if group in self.form.groups:
                return planes.at(group, area)
            return self._resized(number, group)[area]

        return Look(part)

    @property
    def land(self) -> Floats:
        """Return the parts in front of the sky, (h, w) float32, 0 or 1."""
        return self._view[0]

    @property
    def path(self) -> NDArray[np.float64] | None:
        """Return the shift from each frame to the last view; None without a pan."""
        return self._view[1]

    def reduced(self, longest: int) -> Views:
        """Return the same views with a longest side of ``longest`` pixels, at most 480.

        They are reduced from the pictures for analysis: no frame is decoded again.
        """
        frames = [
            self._reduced(number, frame, longest)
            for number, frame in enumerate(self.frames)
        ]
        smaller = Views(frames, frames[-1])
        scale = np.float32(smaller.size[1] / self.small_size[1])
        land = resized(self.land, smaller.size).round()
        smaller._view = land, None if self.path is None else scale * self.path
        return smaller

    def _reduced(self, number: int, frame: Frame, longest: int) -> Frame:
        small = reduced(self._smalls[number], longest)
        red, green, blue = (torch.from_numpy(channel) for channel in cv2.split(small))
        height, width = small.shape[:2]
        picture = make_picture([green, blue, red], "gbrp", width, height)
        return Frame(picture, frame.time, frame.duration)

    @cached_property
    def _view(self) -> tuple[Floats, NDArray[np.float64] | None]:
        chosen = spread(len(self.frames))
        # The land of a file from 320 pixels on is that of the same file of any other size.
        is_small = max(self.small_size) < MIDDLE_SIDE
        factor = 1.0 if is_small else LONGEST_SIDE / max(self.small_size)
        pictures = [
            cv2.resize(self._smalls[k], None, None, factor, factor, cv2.INTER_LINEAR)
            for k in chosen
        ]
        land, path = view_of(pictures) if len(chosen) > 1 else (~sky_of(*pictures), None)
        if path is not None:
            axes = [np.interp(np.arange(len(self.frames)), chosen, axis) for axis in path.T]
            path = np.stack(axes, 1) / factor
        return resized(land.astype(np.float32), self.small_size).round(), path

    def _from_last_view(self, look: Look, number: int) -> Look:
        return look if self.path is None else look.moved(self._back(number))

    def _back(self, number: int) -> Floats:
        """Return the flow from the last view to a frame: (h, w, 2)."""
        assert self.path is not None
        return np.full((*self.small_size, 2), -self.path[number], np.float32)

    def _seen_small(self, number: int) -> Bytes:
        small: Bytes = self._smalls[number]
        if self.path is None:
            return small
        seen = warp(as_picture(small), self._back(number), mirrors=True)
        return small_copy(seen, self.small_size)
