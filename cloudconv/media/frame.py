"""The one picture type that travels through cloudconv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack


@dataclass(frozen=True, slots=True)
class ColorTags:
    """Colour description as FFmpeg's enum integers; the defaults mean *unspecified*."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture in its own planar pixel format, at an exact time.

    ``picture`` is never written to: decoders keep references to what they hand out, and held
    frames are encoded more than once. ``time`` is in seconds on the source's own clock for
    decoded frames, on the output's clock for frames that go to a sink.
    """

    picture: av.VideoFrame
    time: Fraction
    duration: Fraction
    tags: ColorTags = ColorTags()

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    @property
    def pix_fmt(self) -> str:
        return self.picture.format.name

    def planes(self) -> tuple[Tensor, ...]:
        """The planes without a copy: (H, W) uint8 or uint16 each, in FFmpeg's plane order.

        For ``gbrp*`` that order is G, B, R. Read-only by convention.
        """
        return tuple(from_dlpack(plane) for plane in self.picture.planes)

    def at(self, time: Fraction, duration: Fraction) -> Frame:
        """The same picture shown at another time."""
        return replace(self, time=time, duration=duration)

    def same_picture(self, other: Frame) -> bool:
        """Whether both show exactly the same samples."""
        if (self.pix_fmt, self.width, self.height) != (other.pix_fmt, other.width, other.height):
            return False
        return all(torch.equal(a, b) for a, b in zip(self.planes(), other.planes(), strict=True))
