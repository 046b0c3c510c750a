"""Define the picture type that all parts of cloudconv use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack


@dataclass(frozen=True, slots=True)
class ColorTags:
    """A colour description as FFmpeg's enum integers; the defaults mean *unspecified*."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture in its own planar pixel format, at an exact time.

    ``picture`` is never changed: decoders keep references to their pictures, and held frames are
    encoded more than once. ``time`` is in seconds, on the source's clock for decoded frames and on
    the output's clock for frames that are written.
    """

    picture: av.VideoFrame
    time: Fraction
    duration: Fraction
    tags: ColorTags = ColorTags()

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return self.picture.width

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return self.picture.height

    @property
    def pix_fmt(self) -> str:
        """Return FFmpeg's name of the pixel format."""
        return self.picture.format.name

    def planes(self) -> tuple[Tensor, ...]:
        """Return the planes without a copy: (H, W) uint8 or uint16 each, in FFmpeg's plane order.

        For ``gbrp*`` that order is G, B, R. Callers must not change the planes.
        """
        return tuple(from_dlpack(plane) for plane in self.picture.planes)

    def at(self, time: Fraction, duration: Fraction) -> Frame:
        """Return the same picture at another time."""
        return replace(self, time=time, duration=duration)

    def same_picture(self, other: Frame) -> bool:
        """Return whether both frames have exactly the same samples."""
        if (self.pix_fmt, self.width, self.height) != (other.pix_fmt, other.width, other.height):
            return False
        return all(torch.equal(a, b) for a, b in zip(self.planes(), other.planes(), strict=True))
