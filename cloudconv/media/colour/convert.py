"""Convert a frame to a new picture for an encoder; turn pictures.

An encoder never receives a frame's own picture: encoding writes times and frame types into
the picture, and a repeated frame is encoded many times. The new picture may share the
memory of the samples, which nobody changes.
"""

import struct
from dataclasses import replace
from typing import NamedTuple

import av
import torch
from torch import Tensor

from cloudconv.media.colour import color
from cloudconv.media.frames.formats import (
    LINEAR,
    is_float,
    layout,
    on_its_side,
    repack,
    turned,
)
from cloudconv.media.frames.frame import (
    ColorTags,
    Frame,
    MediaInfo,
    make_picture,
    share_picture,
)

# Encoders whose format defines the (matrix, range) of every picture: JFIF is full-range
# BT.601, and WebP is limited-range BT.601.
_OWN_COLOURS = {"mjpeg": (5, 2), "libwebp": (6, 1), "libwebp_anim": (6, 1)}
# Encoders whose gray video decoders may return as YUV.
_READ_AS_YUV = ("libx264", "libx265")
_RGB = 0  # FFmpeg's number of the matrix
_UNSPECIFIED, _RESERVED = 2, 3  # of primaries, transfer functions and matrices
# The largest numbers of primaries, transfer function and matrix with which an encoder
# starts.
_MOST_TAGS = {"libx265": (12, 18, 14)}


def output_tags(info: MediaInfo, encoder: str, working: str) -> ColorTags:
    """Return the colour tags of the output in a working format.

    The source's tags that remain true are kept. RGB, and nothing else, has the matrix of
    RGB; FFmpeg states that matrix for gray PNG, too.
    """
    was = layout(info.working_pix_fmt)
    becomes = layout(working)
    tags = info.tags
    space = color.color_space(tags, was, info.width, info.height)
    matrix = tags.matrix
    extent = tags.range
    if encoder == "exr":
        matrix = _RGB if becomes.family == "rgb" else _UNSPECIFIED
        extent = 2
    elif becomes.family == "rgb":
        matrix = _RGB
        extent = extent if was.family == "rgb" else 2
    elif encoder in _OWN_COLOURS:
        matrix, extent = _OWN_COLOURS[encoder]
    elif was.family != becomes.family:
        if tags.primaries == 9:
            matrix = 9
        else:
            matrix = 1 if info.width >= 1280 or info.height > 576 else 6
        extent = 2 if was.family == "gray" and space.full_range else 1
    elif matrix == _RGB:
        matrix = _UNSPECIFIED if was.family == "gray" else {"bt709": 1}.get(space.matrix, 6)
    if was.family == becomes.family == "gray" and not extent and encoder in _READ_AS_YUV:
        # Decoders may return YUV, and would read an unspecified range as limited.
        extent = 2
    numbers = tags.primaries or _RESERVED, tags.transfer or _RESERVED, matrix
    most = _MOST_TAGS.get(encoder, numbers)
    primaries, transfer, matrix = (
        _UNSPECIFIED if number == _RESERVED or number > limit else number
        for number, limit in zip(numbers, most, strict=True)
    )
    return ColorTags(primaries, transfer, matrix, extent)


def encoder_picture(
    frame: Frame, *, pix_fmt: str, working: str, tags: ColorTags
) -> av.VideoFrame:
    """Return a new picture for the encoder with the frame's content.

    The picture has no time and no frame type. ``working`` is the planar format with the
    same samples as ``pix_fmt``. ``tags`` are those of the output. If the frame already has
    that format and colour space, the picture shares its memory. Otherwise its planes are
    converted through floating-point RGB.
    """
    planes = frame.planes()
    was, before = color.description_of(frame)
    becomes = layout(working)
    after = color.color_space(tags, becomes, frame.width, frame.height)
    if frame.pix_fmt != working or before != after:
        colours = planes[:-1] if was.alpha else planes
        other = replace(was, name=becomes.name, alpha=becomes.alpha) != becomes
        if other or before != after:
            colours = color.from_rgb(color.to_rgb(colours, was, before), becomes, after)
        if becomes.alpha:
            opaque = torch.ones((1, frame.height, frame.width))
            opacity = color.alpha_to_float(planes[-1], was) if was.alpha else opaque
            colours = (*colours, color.alpha_from_float(opacity, becomes))
        picture = make_picture(colours, working, frame.width, frame.height)
    else:
        picture = share_picture(frame.picture)
    picture.color_trc = tags.transfer
    picture = repack(picture, pix_fmt)
    # ProRes and PNG write the tags of the picture, not those of the encoder's context.
    picture.color_primaries = tags.primaries
    picture.color_trc = LINEAR if is_float(pix_fmt) else tags.transfer
    picture.colorspace = tags.matrix
    picture.color_range = tags.range
    return picture


class Turn(NamedTuple):
    """A rotation: swapped rows and columns, then reversed rows, columns or both."""

    swaps: bool
    reverses_rows: bool
    reverses_columns: bool

    def info(self, info: MediaInfo) -> MediaInfo:
        """Return the description of the turned pictures."""
        if not self.swaps:
            return info
        pix_fmt = on_its_side(info.working_pix_fmt)
        return replace(
            info,
            width=info.height,
            height=info.width,
            pix_fmt=pix_fmt if pix_fmt != info.working_pix_fmt else info.pix_fmt,
            working_pix_fmt=pix_fmt,
            aspect=None if info.aspect is None else 1 / info.aspect,
        )

    def picture(
        self, picture: av.VideoFrame, size: tuple[int, int] | None = None
    ) -> av.VideoFrame:
        """Return the turned picture, whose last row and column are repeated up to a size.

        Return the picture itself if nothing changes.
        """
        sides = picture.width, picture.height
        own = sides[::-1] if self.swaps else sides
        if self == UPRIGHT and size in (None, own):
            return picture
        return turned(picture, *self, size or own)

    def samples(self, samples: Tensor) -> Tensor:
        """Return turned samples, (…, H, W)."""
        if self.swaps:
            samples = samples.transpose(-2, -1)
        axes = [-2] * self.reverses_rows + [-1] * self.reverses_columns
        return samples.flip(axes) if axes else samples


UPRIGHT = Turn(False, False, False)


def turn_of(matrix: bytes | None) -> Turn | None:
    """Return the turn of a display matrix; None for an angle that is no quarter turn."""
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("<9i", matrix)
    if a and d and not (b or c):
        return Turn(False, d < 0, a < 0)
    return Turn(True, b < 0, c < 0) if b and c and not (a or d) else None
