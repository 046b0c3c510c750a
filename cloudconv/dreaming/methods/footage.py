"""Yield the pictures of placed footage, adapted to the light of the new place and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import SkyBehind
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.pictures import resized


@dataclass(frozen=True, slots=True)
class LayerPicture:
    """A picture (3, H, W) of a layer.

    ``small``: (3, h, w), a copy at the size of the weights. ``relit``: the same copy, adapted to
    the current light. ``covers``: (h, w), 1 where the picture is known; None if all is known.
    """

    picture: Tensor
    small: Tensor
    relit: Tensor
    covers: Tensor | None


class Footage:
    """The pictures of a placement, one after the other.

    ``behind``: the sky behind still parts. ``size``: height and width of the weights. ``known``:
    the columns of the weights, (w,), that the footage covers, 1 or 0.
    """

    def __init__(
        self,
        material: Material,
        placement: Placement,
        light: Light,
        behind: SkyBehind,
        size: tuple[int, int],
    ) -> None:
        """Measure the gain that adapts the light to the new place."""
        self.placement = placement
        self.age = 0
        self._material = material
        self._light = light
        self._behind = behind
        self._size = size
        self._gain = None
        if not placement.aligned:
            gain = light.moved(placement.source(size[1]), size[0])
            self._gain = gain.to(material.device)
        self.known = placement.known(size[1]).to(material.device)

    @property
    def frame(self) -> int:
        """The number of the frame that is shown now."""
        return self.placement.frame(self.age, len(self._material))

    def __iter__(self) -> Iterator[LayerPicture]:
        """Yield the pictures in order, without an end."""
        while True:
            yield self.at(self.age)
            self.age += 1

    def at(self, age: int) -> LayerPicture:
        """Return the picture at an age in frames."""
        placement = self.placement
        frame = placement.frame(age, len(self._material))
        picture = self._material.picture(frame)
        if not placement.aligned:
            picture = placement.placed(self._behind.filled(picture))
        small = relit = resized(picture, self._size)
        if self._gain is not None:
            relit = relit * self._gain
        gain = self._light.on(frame, mirrored=placement.mirrored, shift=placement.shift)
        if gain is not None:
            relit = relit * resized(gain.to(relit.device), self._size)
        return LayerPicture(picture, small, relit, self.known.expand(self._size))
