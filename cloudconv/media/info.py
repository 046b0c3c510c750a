"""Describe an input that was probed: its video, exact timing, and other streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from cloudconv.events import Warned
from cloudconv.media.clock import InputFormat, format_of
from cloudconv.media.deinterlace import FieldKind
from cloudconv.media.frame import ColorTags
from cloudconv.media.timing import Timing


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
    # The other side data of the first picture, as FFmpeg's structures; see media/sidedata.py.
    side_data: dict[str, bytes] = field(default_factory=dict)
    chroma_location: str | None = None  # FFmpeg's name for the place of chroma samples
    interlaced: bool = False  # whether the first picture is interlaced
    fields: FieldKind | None = None  # if two frames are made from each picture
    coded: Timing | None = None  # then the times of the pictures in the file
    # The kind of each other stream, and its start in seconds; None if the file states no start.
    streams: tuple[tuple[str, Fraction | None], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)  # of the file, such as a title
    chapters: int = 0
    fingerprint: str = ""  # a hash of the files when they were probed; empty if they still arrive
    stamp: str = ""  # stays the same while no file is changed on this machine; may be empty

    @property
    def file_timing(self) -> Timing:
        """Return the times of the pictures in the file."""
        return self.coded or self.timing

    @property
    def input_format(self) -> InputFormat:
        """Return the behaviour of FFmpeg's reader for this container, for example after a seek."""
        return format_of(self.container)
