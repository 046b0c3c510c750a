"""Play placed footage of the clip, with still parts replaced by sky."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import SkyBehind
from cloudconv.dreaming.methods.clip_selector import gains
from cloudconv.dreaming.methods.compositing import pyramid_mean
from cloudconv.dreaming.methods.front import upright_seam
from cloudconv.dreaming.methods.placement import Copy, Placement, joined
from cloudconv.dreaming.pictures import blurred, resized

_SOFT = 6.0  # pixels of the weights: softness of the seam between two copies
_LOOKS = 4  # moments at which two copies are compared
_AREA = 1.5  # pixels of the weights, over which differences are averaged


@dataclass(frozen=True, slots=True)
class LayerPicture:
    """A picture (3, H, W) of a layer.

    ``small``: (3, h, w), a copy at the size of the weights; ``lit``: the copy in the light of now.
    ``covers``: (h, w), the known part of the picture; None for all.
    """

    picture: Tensor
    small: Tensor
    lit: Tensor
    covers: Tensor | None


class Footage:
    """The pictures of a placement, one after the other."""

    def __init__(
        self,
        material: Material,
        placement: Placement,
        light: Light,
        behind: SkyBehind,
        wind: Tensor,
        life: int,
    ) -> None:
        """Find the seam between two copies.

        ``wind``: (2, h, w) backward flow at the size of the weights; ``life``: number of frames.
        """
        self.placement = placement
        self.age = 0
        self._material = material
        self._light = light
        self._behind = behind
        self._size = (wind.shape[-2], wind.shape[-1])
        self._gains = gains(light, placement, self._size)
        self._seam: Tensor | None = None
        self._drift: Tensor | None = None
        if len(self._gains) == 2:
            self._find_seam(wind.cpu(), life)

    @property
    def frame(self) -> int:
        """The number of the frame that is shown now."""
        return self.placement.frame(self.age, len(self._material))

    def __iter__(self) -> Iterator[LayerPicture]:
        """Yield each next picture, without an end."""
        while True:
            yield self._picture()
            self.age += 1

    def _picture(self) -> LayerPicture:
        frame = self.frame
        source = self._behind.filled(self._material.picture(frame))
        share = self._share()
        size = source.shape[-2:]
        full = None if share is None else resized(share[None].to(source.device), size)[0]
        picture = joined(self.placement.copies(source), size[1], full)
        copies = self.placement.copies(resized(source, self._size))
        small = joined(copies, self._size[1], share)
        lit = self._lit(copies, share)
        gain = self._light.on(frame, mirrored=self.placement.mirrored, shift=self.placement.shift)
        if gain is not None:
            lit = lit * resized(gain.to(small.device), self._size)
        return LayerPicture(picture, small, lit, self._material.covers(frame))

    def _lit(self, copies: list[Copy], share: Tensor | None) -> Tensor:
        """Return the small picture, each copy in the light of its new place."""
        lit = [
            copy.values * gain.values.to(copy.values.device)
            for copy, gain in zip(copies, self._gains, strict=True)
        ]
        if share is None:
            return lit[0]
        width = self._size[1]
        wide = [
            F.pad(values, (copy.left, width - copy.right, 0, 0), mode="replicate")
            for copy, values in zip(copies, lit, strict=True)
        ]
        second = share.to(lit[0].device)
        return pyramid_mean(torch.stack(wide), torch.stack([1 - second, second])[:, None])

    def _share(self) -> Tensor | None:
        """Return the weight of the second copy, (h, w); None for a single copy."""
        if self._seam is None or self._drift is None:
            return None
        width = self._size[1]
        (first, second) = self.placement.spans(width)
        columns = torch.arange(width, dtype=torch.float32)[None]
        seam = (self._seam + self.age * self._drift)[:, None]
        to_right = second[0] > first[0]
        share = ((columns - seam) / _SOFT + 0.5).clamp(0, 1)
        if not to_right:
            share = 1 - share
        # Beyond its edges neither copy is known.
        low, high = max(first[0], second[0]), min(first[1], second[1])
        inside = torch.minimum((columns - low) / _SOFT, (high - 1 - columns) / _SOFT).clamp(0, 1)
        beyond = (columns >= (low + high) / 2).float()
        ends = beyond if to_right else 1 - beyond
        return torch.lerp(ends.expand_as(share), share, inside)

    def _find_seam(self, wind: Tensor, life: int) -> None:
        """Find the cut of least error between the copies; the cut then drifts with the wind."""
        width = self._size[1]
        (first, second) = self.placement.spans(width)
        low, high = max(first[0], second[0]), min(first[1], second[1])
        drift = -wind[0, :, low:high].mean(1)
        kernel = max(1, self._size[0] // 8)
        drift = blurred(drift[None, :, None].expand(1, -1, 8).contiguous(), kernel)[0, :, 0]
        room = int(_SOFT) + 1
        left, right = low + room, max(high - room - 1, low + room)
        far = float(drift.mean()) * life
        # Begin upwind, where the cut can drift furthest.
        if far > 0:
            right = max(left, min(right, int(right - far)))
        else:
            left = min(right, max(left, int(left - far)))
        total = torch.zeros(self._size[0], width)
        for number in range(_LOOKS):
            age = round(life * (number + 0.5) / _LOOKS)
            frame = self.placement.frame(age, len(self._material))
            small = torch.from_numpy(self._material.glance(frame)).permute(2, 0, 1) / 255
            one, two = self.placement.copies(resized(small, self._size))
            apart = torch.zeros_like(total)
            a = one.values[..., low - one.left : high - one.left]
            b = two.values[..., low - two.left : high - two.left]
            apart[:, low:high] = (a - b).abs().sum(0)
            # The difference as seen by a point that drifts along.
            index = torch.arange(width)[None] + (drift * age).round().long()[:, None]
            total += apart.gather(1, index.clamp(low, high - 1))
        total = blurred(total[None], _AREA)[0]
        self._seam = torch.from_numpy(upright_seam(total.numpy(), left, right))
        self._drift = drift
