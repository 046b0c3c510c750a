"""Describe all output formats, and find the format of an output's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Flag, auto
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudconv.errors import EncoderError, OutputUsageError
from cloudconv.media.containers import animations, matroska, mp4
from cloudconv.media.containers.input import is_stdout, numbered
from cloudconv.media.containers.muxed import MuxedFile

if TYPE_CHECKING:
    from av.container import OutputContainer

    from cloudconv.media.frames.frame import MediaInfo

MOST_TICKS = 2**31 - 1  # between two frames of a video in MP4, which stores 32 bits


class Content(Flag):
    """Contents of a source, beside pictures and their times, that an output may store."""

    STREAMS = auto()  # audio, subtitles, data, covers, attachments, chapters and tags
    ROTATION = auto()
    ASPECT = auto()  # of the samples
    COLOURS = auto()  # tags of the colours, so that HDR looks right
    HDR10 = auto()  # light levels, and the mastering display
    CROPPING = auto()  # marks of the shown part of the picture
    SPHERES = auto()  # whole 360° pictures
    PROJECTIONS = auto()  # parts of 360° pictures, cube maps, and poses


_NOTHING = Content(0)


@dataclass(frozen=True, kw_only=True)
class Container:
    """A kind of output: a file format, or a folder of pictures."""

    name: str  # in messages
    muxer: str = ""  # FFmpeg's name; empty if no muxer is needed
    suffixes: tuple[str, ...] = ()
    # The encoders of its video, in the order of preference. No other encoder is chosen if
    # there is exactly one.
    encoders: tuple[str, ...] = ()
    # The contents that it stores. A new container lists those that somebody has tried.
    keeps: Content = _NOTHING
    # Matroska's numbers of the stereo 3D layouts that its muxer stores.
    stereo_modes: frozenset[int] = frozenset()
    # Whether packets of encoders that worked apart can follow each other in it.
    has_segments: bool = False
    is_folder: bool = False  # of pictures without times
    # The tick in seconds that all times are rounded to; None for any.
    clock: Fraction | None = None
    # The fastest rate that players show, in frames per second.
    fastest: Fraction | None = None
    most_ticks: int | None = None  # of the longest frame; None for any
    # Whether edit lists hide samples that a decoder needs before the first one, and a
    # track's length is the sum of the gaps between decode times.
    has_edit_lists: bool = False
    has_few_formats: bool = False  # few players show RGB, 4:4:4 or transparency in it
    orders_channels: bool = False  # it states the order of the channels of audio
    # The fastest rate of time codes, in frames per second; None for any.
    fastest_code: int | None = None
    refuses: tuple[str, ...] = ()  # encoders whose codecs the muxer lists but cannot write
    refuses_alpha: tuple[str, ...] = ()  # encoders whose transparency it cannot store
    keeps_alpha: bool = False  # players show transparency in it all the same
    has_palette: bool = False  # pictures are reduced to few colours
    hevc_tag: str | None = None  # the tag that players need for HEVC
    attachments: bool = False  # fonts and covers are attached as files
    covers: bool = True  # the muxer stores the covers that its header takes
    subtitles: str | None = None  # the codec for text subtitles whose own codec is refused
    # Prefixes of audio codecs that few players support in it.
    seldom_heard: tuple[str, ...] = ()
    # Codecs of audio that its muxer takes, and that FFmpeg does not list for it.
    unlisted: tuple[str, ...] = ()
    states_delay: bool = False  # of each audio track; no edit list does
    is_readable: bool = True  # FFmpeg reads it
    sums_rounded: bool = False  # readers round each duration, and add up the rounded ones
    # The options of its muxer, by the source and the tick of the video in seconds.
    options: Callable[[Path, Fraction], dict[str, str]] | None = None
    # The tags that are kept, as it stores them.
    tags: Callable[[dict[str, str]], dict[str, str]] = dict
    # Changes the streams before the header, and returns what ``amend`` needs.
    prepare: Callable[[OutputContainer, Any], bytes] | None = None
    amend: Callable[[MuxedFile], None] | None = None  # corrects a finished file

    @property
    def has_one_encoder(self) -> bool:
        """Return whether no encoder can be chosen: animations and pictures."""
        return len(self.encoders) == 1

    def plays(self, rate: Fraction | None, fastest: Fraction | None = None) -> bool:
        """Return whether the container supports a constant rate, or a variable one (None).

        ``fastest`` is the rate of the shortest frame at a variable rate, None if unknown:
        some frames may then be too short.
        """
        if self.fastest is not None:
            most = rate or fastest
            return most is not None and most <= self.fastest
        return rate is None or self.clock is None or rate * self.clock <= 1

    def longest_frame(self, tick: Fraction) -> Fraction | None:
        """Return the longest time that a frame can last at that encoder's tick.

        The result is None for any.
        """
        if not self.has_edit_lists:
            return None if self.most_ticks is None else self.most_ticks * tick
        scale = tick.denominator
        while scale < 10_000:  # ticks a second, as FFmpeg's muxer of MP4 does
            scale *= 2
        return Fraction(MOST_TICKS, scale)

    def check_span(self, time: Fraction, span: Fraction, tick: Fraction) -> None:
        """Raise EncoderError for a frame, times in seconds, that the muxer would refuse.

        A muxer that sums gaps also stores the time between decoding and showing a frame,
        which is longer than a frame if the encoder reorders frames.
        """
        longest = self.longest_frame(tick)
        if longest is not None and span > longest:
            raise EncoderError(
                f"frame-too-long: The frames around {float(time):.3f} s last "
                f"{float(span):.0f} s, and a frame in {self.name} lasts at most "
                f"{float(longest):.0f} s there: write an .mkv instead, or choose a part "
                "without the gap."
            )


MP4 = Container(
    name="MP4",
    muxer="mp4",
    suffixes=(".mp4", ".m4v"),
    encoders=("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1"),
    keeps=~_NOTHING,
    stereo_modes=frozenset({1, 3}),
    has_segments=True,
    subtitles="mov_text",
    seldom_heard=("pcm_",),
    has_edit_lists=True,
    has_few_formats=True,
    orders_channels=True,
    fastest_code=255,  # it stores the rate in a byte
    options=mp4.options,
    tags=mp4.tags,
    prepare=mp4.prepare,
    amend=mp4.amend,
    # Only Matroska and WebM can store alpha beside the packets.
    refuses_alpha=("libvpx-vp9",),
    hevc_tag="hvc1",
)
MOV = replace(
    MP4,
    name="MOV",
    muxer="mov",
    suffixes=(".mov",),
    encoders=("libx264", "libx264rgb", "libx265", "prores_ks"),
    keeps=~Content.PROJECTIONS,
    covers=False,
    stereo_modes=frozenset(),
    seldom_heard=(),
    # The muxer lists these two encoders but refuses to write their header.
    refuses=("libvpx-vp9", "libsvtav1"),
    keeps_alpha=True,
    prepare=mp4.prepare_mov,
    amend=mp4.amend_mov,
)
MKV = Container(
    name="Matroska",
    muxer="matroska",
    suffixes=(".mkv",),
    encoders=("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1"),
    keeps=~_NOTHING,
    stereo_modes=frozenset(range(1, 15)),
    has_segments=True,
    states_delay=True,
    clock=Fraction(1, 1000),
    # FFmpeg writes them as in an AVI.
    unlisted=(
        *("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice"),
        *("pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav"),
    ),
    options=matroska.options,
    tags=matroska.tags,
    prepare=matroska.prepare,
    amend=matroska.amend,
    attachments=True,
    subtitles="subrip",
)
WEBM = replace(
    MKV,
    name="WebM",
    muxer="webm",
    suffixes=(".webm",),
    encoders=("libvpx-vp9", "libsvtav1"),
    stereo_modes=frozenset({1, 2, 3, 11}),
    attachments=False,
    unlisted=(),
    subtitles="webvtt",
)
GIF = Container(
    name="GIF",
    muxer="gif",
    suffixes=(".gif",),
    encoders=("gif",),
    clock=Fraction(1, 100),
    # Players show frames of less than two hundredths of a second longer.
    fastest=Fraction(50),
    has_palette=True,
    most_ticks=2**16 - 1,
    options=animations.gif_options,
)
APNG = Container(
    name="APNG",
    muxer="apng",
    suffixes=(".apng",),
    encoders=("apng",),
    sums_rounded=True,
    options=partial(animations.shows, option="plays"),
    amend=animations.hold_apng,
)
WEBP = Container(
    name="WebP",
    muxer="webp",
    suffixes=(".webp",),
    encoders=("libwebp_anim",),
    clock=Fraction(1, 1000),
    most_ticks=2**24 - 1,
    # FFmpeg before 9 reads no animation (trac.ffmpeg.org/ticket/4907).
    is_readable=False,
    options=partial(animations.shows, option="loop"),
    amend=animations.hold_webp,
)
PICTURES = {
    suffix: Container(name=f"{name} pictures", encoders=(encoder,), is_folder=True)
    for suffix, name, encoder in (
        (".png", "PNG", "png"),
        (".bmp", "BMP", "bmp"),
        (".webp", "WebP", "libwebp"),
        (".tif", "TIFF", "tiff"),
        (".tiff", "TIFF", "tiff"),
        (".exr", "EXR", "exr"),
        (".jpg", "JPEG", "mjpeg"),
        (".jpeg", "JPEG", "mjpeg"),
    )
}
CONTAINERS: dict[str, Container] = {}
for _container in (MP4, MOV, MKV, WEBM, GIF, APNG, WEBP):
    CONTAINERS |= dict.fromkeys(_container.suffixes, _container)


def is_sequence(path: Path) -> bool:
    """Return whether the name is a pattern of numbered pictures: ``out/%05d.png``."""
    return path.suffix.lower() in PICTURES and numbered(path) is not None


def container_of(path: Path) -> Container:
    """Return the container of an output's name; standard output is Matroska.

    Raises OutputUsageError if the name selects no format.
    """
    suffix = ".mkv" if is_stdout(path) else path.suffix.lower()
    if is_sequence(path):
        return PICTURES[suffix]
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    if suffix in PICTURES:
        pattern = path.with_name("frames") / f"%05d{suffix}"
        raise OutputUsageError(
            f"one-picture: {path} names one picture: for a sequence give {pattern}."
        )
    ending = f"the ending {suffix}" if suffix else "no ending"
    pattern = (Path("frames") if suffix else path) / "%05d.png"
    raise OutputUsageError(
        f"no-format: The output {path} has {ending}, which names no format to write: use "
        f"one of {' '.join(CONTAINERS)}, or {pattern} for pictures."
    )


def default_suffix(
    info: MediaInfo, rate: Fraction | None = None, fastest: Fraction | None = None
) -> str:
    """Return the suffix of a default output name.

    For the rates see :meth:`Container.plays`. A video keeps the video container that its
    name selects, else becomes Matroska. An animation keeps its format under any name.
    Pictures, an MP4 or MOV without a suffix, and sources whose container cannot play the
    rate become MP4.
    """
    own = CONTAINERS.get(f".{info.container}") or CONTAINERS.get(info.suffix, MKV)
    if info.input_format.is_pictures or (
        not info.suffix and "mp4" in info.container.split(",")
    ):
        own = MP4
    elif not (info.input_format.is_drawn or not own.has_one_encoder):
        own = MKV
    return (own if own.plays(rate, fastest) else MP4).suffixes[0]
