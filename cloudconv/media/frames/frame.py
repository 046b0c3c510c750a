"""Define a frame, which is a picture at a time, and the description of an input."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cloudconv.events import Warned
from cloudconv.media.frames.clock import InputFormat, format_of
from cloudconv.media.frames.deinterlace import FieldKind
from cloudconv.media.frames.timing import Timing
from cloudconv.timeline import Task
from cloudconv.transfer import PADDING

ALIGNMENT = 64  # bytes; the largest alignment that FFmpeg's codecs expect of rows (AVX-512)


@dataclass(frozen=True, slots=True)
class ColorTags:
    """A colour description as FFmpeg's enum integers; the defaults mean *unspecified*."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0

    @property
    def hdr(self) -> str | None:
        """Return the HDR transfer function, ``PQ`` or ``HLG``; None for other video."""
        return {16: "PQ", 18: "HLG"}.get(self.transfer)

    def flat_in(self, where: str) -> list[Warned]:
        """Return a warning for HDR video, which 8-bit pictures in ``where`` show flat."""
        text = (
            f"flat-pictures: The source is HDR ({self.hdr}), which the {where} cannot "
            "show: its pictures look flat and pale."
        )
        return [] if self.hdr is None else [Warned(text)]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """The description of an input: the main video, and everything else in the file."""

    path: Path  # the file, folder or pattern
    container: str  # FFmpeg's short name of the container
    suffix: str  # of the file name, in lower case
    codec: str  # FFmpeg's name of the video codec
    width: int
    height: int
    pix_fmt: str  # the pixel format of the decoder
    working_pix_fmt: str  # the planar pixel format to which decoded frames are converted
    tags: ColorTags
    timing: Timing  # of the pictures in the file, or of both frames that are made from each
    warnings: tuple[Warned, ...]  # of the probe
    profile: str = ""  # of the codec, such as "HQ" of ProRes
    video_index: int = 0  # of the video stream
    aspect: Fraction | None = None  # the aspect ratio of a sample; None for square samples
    display_matrix: bytes | None = None  # the rotation, as FFmpeg's structure of 36 bytes
    # The other side data of the first picture, as FFmpeg's structures; see
    # media/containers/sidedata.py.
    side_data: dict[str, bytes] = field(default_factory=dict)
    chroma_location: str | None = None  # FFmpeg's name for the place of chroma samples
    interlaced: bool = False  # whether the first picture is interlaced
    fields: FieldKind | None = None  # if two frames are made from each picture
    coded: Timing | None = None  # then the times of the pictures in the file
    # The kind of each other stream, and its start in seconds; None if the file states no
    # start.
    streams: tuple[tuple[str, Fraction | None], ...] = ()
    # The stream and the time in seconds of each change of format within sound.
    sound_changes: tuple[tuple[int, Fraction], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)  # of the file, such as a title
    chapters: int = 0
    # A hash of the files when they were probed; empty if they still arrive.
    fingerprint: str = ""
    stamp: str = ""  # stays the same while no file is changed on this machine; may be empty

    @property
    def file_timing(self) -> Timing:
        """Return the times of the pictures in the file."""
        return self.coded or self.timing

    @property
    def has_streams(self) -> bool:
        """Return whether the input is a file that may contain streams to carry."""
        return self.path.is_file() and self.input_format.has_streams

    @property
    def input_format(self) -> InputFormat:
        """Return how FFmpeg's reader for this container behaves, such as after a seek."""
        return format_of(self.container)


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture in its own planar pixel format, at an exact time.

    The samples of ``picture`` never change, because decoders keep references to their
    pictures, and repeated frames are encoded more than once. ``time`` and ``duration`` are
    in seconds. ``time`` is on the source's clock for decoded frames, and on the output's
    clock for written frames.
    """

    picture: av.VideoFrame
    time: Fraction
    duration: Fraction
    tags: ColorTags = ColorTags()
    captions: bytes = b""  # closed captions, as FFmpeg's side data A53_CC
    # The thumbnail of luma that detectors see, on the CPU, if it is known.
    luma: Tensor | None = field(default=None, compare=False)

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
        """Return the planes in FFmpeg's order, not copied: (H, W) uint8 or uint16 each.

        For ``gbrp*`` that order is G, B, R. Callers must not change the planes.
        """
        return tuple(from_dlpack(plane) for plane in self.picture.planes)

    def at(self, time: Fraction, duration: Fraction) -> Self:
        """Return the same picture at another time."""
        return replace(self, time=time, duration=duration)

    def like(self, planes: Sequence[Tensor], time: Fraction, duration: Fraction) -> "Frame":
        """Return a frame with copies of other planes; pixel format, size and tags stay."""
        return Frame(
            make_picture(planes, self.pix_fmt, self.width, self.height),
            time,
            duration,
            self.tags,
        )

    def same_picture(self, other: "Frame") -> bool:
        """Return whether both frames have exactly the same samples."""
        if (self.pix_fmt, self.width, self.height) != (
            other.pix_fmt,
            other.width,
            other.height,
        ):
            return False
        return all(
            torch.equal(a, b) for a, b in zip(self.planes(), other.planes(), strict=True)
        )


# An output frame to make; its source frames stay in memory with the task.
FrameTask = Task[Frame]


def make_picture(
    planes: Sequence[Tensor], pix_fmt: str, width: int, height: int
) -> av.VideoFrame:
    """Create a picture of the planes, which have its sizes and types.

    The planes are copied, unless FFmpeg's codecs can use their memory. Their memory must
    not change then.
    """
    are_usable = all(_is_usable(plane) for plane in planes)
    if are_usable and (shared := _shared(planes, pix_fmt, width, height)):
        return shared
    # FFmpeg allocates the memory, because its codecs may read beyond the end of a row.
    picture = av.VideoFrame(width, height, pix_fmt)
    for target, plane in zip(picture.planes, planes, strict=True):
        # `copy_` would wake every thread of PyTorch.
        np.copyto(from_dlpack(target).numpy(), plane.numpy(), casting="no")
    return picture


def share_picture(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a new picture with the same samples in the same memory, but without time.

    The picture has no frame type either.
    """
    form = picture.format.name, picture.width, picture.height
    planes = picture.planes
    return _shared(planes, *form) or make_picture(
        [from_dlpack(plane) for plane in planes], *form
    )


def _shared(
    planes: Sequence[object], pix_fmt: str, width: int, height: int
) -> av.VideoFrame | None:
    """Return a picture that uses the planes' memory, or None if PyAV cannot do that.

    PyAV 18 refuses odd sizes of formats with smaller chroma planes, such as 5x5 of yuv420p.
    """
    try:
        return av.VideoFrame.from_dlpack(list(planes), pix_fmt, width, height)
    except (ValueError, TypeError, NotImplementedError):
        return None


def _is_usable(plane: Tensor) -> bool:
    """Return whether codecs can read the plane: aligned rows, and memory after the last."""
    row = plane.stride(0) * plane.itemsize
    after = plane.untyped_storage().nbytes() - plane.storage_offset() * plane.itemsize
    after -= row * plane.shape[0]
    aligned = plane.data_ptr() % ALIGNMENT == 0 and row % ALIGNMENT == 0
    return plane.is_contiguous() and aligned and after >= PADDING
