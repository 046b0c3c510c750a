"""Report the abilities of the FFmpeg inside PyAV on this machine."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.codec.codec
import av.error
import av.filter

from cloudconv.media.write.containers import container_of
from cloudconv.media.write.encode import unchanged_priority
from cloudconv.media.write.encoder_options import DEFAULTS
from cloudconv.media.write.encoders import choose

ENCODERS = (
    *("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"),
    *("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "h264_vaapi"),
    *("h264_videotoolbox", "hevc_videotoolbox"),
)
"""The encoders that a user may choose by name."""

FILTERS = ("minterpolate", "xpsnr", "bwdif")
"""The filters of libavfilter that commands use."""

_SIDE = 256

EncoderState = Literal["works", "missing", "fails"]


def libraries() -> dict[str, str]:
    """Return the versions of FFmpeg's libraries, such as ``{"libavcodec": "62.11.100"}``."""
    return {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}


def version() -> str:
    """Return FFmpeg's own version name, such as ``8.1``."""
    return str(av.ffmpeg_version_info)


def encoders() -> dict[str, EncoderState]:
    """Return for each of :data:`ENCODERS` whether it can encode a frame here.

    A hardware encoder may be built in and still fail without its hardware.
    """
    return {name: _state(name) for name in ENCODERS}


def filters() -> dict[str, bool]:
    """Return for each of :data:`FILTERS` whether it is built in."""
    return {name: name in av.filter.filters_available for name in FILTERS}


def default_encoders() -> dict[str, str]:
    """Return each container's encoder for 8-bit 4:2:0 video, such as ``{".mp4": "libx264"}``."""
    return {
        suffix: choose(container_of(Path(f"a{suffix}")), "yuv420p", 1920, 1080, DEFAULTS).encoder
        for suffix in (".mp4", ".mkv", ".mov", ".webm")
    }


def _state(name: str) -> EncoderState:
    if name not in av.codec.codecs_available:
        return "missing"
    codec = av.codec.Codec(name, "w")
    formats = [f.name for f in codec.video_formats or ()]
    picture = av.VideoFrame(_SIDE, _SIDE, "yuv420p")
    for plane in picture.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    picture = picture.reformat(format="yuv420p" if "yuv420p" in formats else formats[0])
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    context: Any = av.CodecContext.create(name, "w")
    context.width = context.height = _SIDE
    context.pix_fmt, context.time_base = picture.format.name, Fraction(1, 25)
    if name == "libx265":
        context.options = {"x265-params": "log-level=none"}
    try:
        with unchanged_priority():
            context.open()
        packets = [*context.encode(picture), *context.encode(None)]
    except av.error.FFmpegError:
        return "fails"
    return "works" if any(packet.size for packet in packets) else "fails"
