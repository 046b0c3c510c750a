"""Turn pictures upright if the output cannot store a rotation flag."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from torch import Tensor

from cloudconv.media.convert import encoder_picture
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame, make_picture
from cloudconv.media.input.info import MediaInfo


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation by quarter turns, mirrored or not.

    A turn first swaps rows and columns, then reverses the order of rows, of columns or of both.
    Each step is optional.
    """

    swaps: bool
    reverses_rows: bool
    reverses_columns: bool

    def info(self, info: MediaInfo) -> MediaInfo:
        """Return the description of the turned pictures."""
        if not self.swaps:
            return info
        pix_fmt = _even(info.working_pix_fmt)
        return replace(
            info,
            width=info.height,
            height=info.width,
            pix_fmt=pix_fmt if pix_fmt != info.working_pix_fmt else info.pix_fmt,
            working_pix_fmt=pix_fmt,
            aspect=None if info.aspect is None else 1 / info.aspect,
        )

    def frame(self, frame: Frame) -> Frame:
        """Return the frame with its picture turned; the frame itself if there is no turn."""
        if self == UPRIGHT:
            return frame
        pix_fmt = _even(frame.pix_fmt) if self.swaps else frame.pix_fmt
        if pix_fmt != frame.pix_fmt:
            even = encoder_picture(frame, pix_fmt=pix_fmt, working=pix_fmt, tags=frame.tags)
            frame = replace(frame, picture=even)
        size = (frame.height, frame.width) if self.swaps else (frame.width, frame.height)
        planes = [self.samples(plane) for plane in frame.planes()]
        return replace(frame, picture=make_picture(planes, pix_fmt, *size))

    def samples(self, samples: Tensor) -> Tensor:
        """Return turned samples, (…, H, W)."""
        if self.swaps:
            samples = samples.transpose(-2, -1)
        axes = [-2] * self.reverses_rows + [-1] * self.reverses_columns
        return samples.flip(axes) if axes else samples


UPRIGHT = Turn(False, False, False)


def turn_of(info: MediaInfo) -> Turn | None:
    """Return the turn of the source's rotation flag; None for an angle that is no quarter turn."""
    if info.display_matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("<9i", info.display_matrix)
    if a and d and not (b or c):
        return Turn(False, d < 0, a < 0)
    return Turn(True, b < 0, c < 0) if b and c and not (a or d) else None


def _even(pix_fmt: str) -> str:
    """Return a format with equal chroma subsampling in both directions, such as 4:4:4 for 4:2:2."""
    shape = layout(pix_fmt)
    if shape.chroma_shift_x == shape.chroma_shift_y:
        return pix_fmt
    return next(pix_fmt.replace(s, "444") for s in ("411", "422", "440") if s in pix_fmt)
