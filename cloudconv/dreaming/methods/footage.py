"""Yield the pictures of placed footage, adapted to the light of the new place and time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.wind import Drift
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.pictures import resized


@dataclass(frozen=True, slots=True)
class LayerPicture:
    """A picture (3, H, W) of a layer.

    ``small``: (3, h, w), a copy at the size of the weights. ``relit``: the same copy, adapted to
    the current light. ``covers``: (h, w), 1 where the picture is known.
    """

    picture: Tensor
    small: Tensor
    relit: Tensor
    covers: Tensor


class Footage:
    """The pictures of a placement. ``size``: height and width of the weights."""

    def __init__(
        self,
        moving: Drift,
        placement: Placement,
        light: Light,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Measure the gain that adapts the light to the new place."""
        self.placement = placement
        self._moving = moving
        self._light = light
        self._size = size
        self._gain = None
        if not placement.aligned:
            self._gain = light.moved(placement.source(size[1]), size[0]).to(device)
        self._known = placement.known(size[1]).to(device)

    def frame(self, age: int) -> int:
        """Return the number of the real frame that is shown at an age in frames."""
        return self._moving.frame(self.placement.frame(age))

    def at(self, age: int) -> LayerPicture:
        """Return the picture at an age in frames."""
        placement, moving = self.placement, self._moving
        frame = placement.frame(age)
        aligned = placement.aligned
        picture = moving.picture(frame) if aligned else placement.placed(moving.sky(frame))
        small = relit = resized(picture, self._size)
        if self._gain is not None:
            relit = relit * self._gain
        gain = self._light.on(self.frame(age), mirrored=placement.mirrored, shift=placement.shift)
        if gain is not None:
            relit = relit * resized(gain.to(relit.device), self._size)
        covers = placement.covers(self._known, moving.covers(frame, self._size))
        return LayerPicture(picture, small, relit, covers)
