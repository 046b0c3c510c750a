"""Report the abilities of the FFmpeg inside PyAV on this machine."""

from __future__ import annotations

from pathlib import Path

import av

from cloudconv.media.containers import container_of
from cloudconv.media.filters import has_filter
from cloudconv.media.write.encode import EncoderState, encoder_state
from cloudconv.media.write.encoder_options import DEFAULTS
from cloudconv.media.write.encoders import choose

ENCODERS = (
    *("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"),
    *("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "h264_vaapi"),
    *("h264_videotoolbox", "hevc_videotoolbox"),
)
"""The encoders that ``cloudconv doctor`` tests."""

FILTERS = ("minterpolate", "xpsnr", "bwdif", "idet")
"""The filters of FFmpeg that ``cloudconv doctor`` looks for."""


def libraries() -> dict[str, str]:
    """Return the versions of FFmpeg's libraries, such as ``{"libavcodec": "62.11.100"}``."""
    return {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}


def version() -> str:
    """Return FFmpeg's own version name, such as ``8.1``."""
    return str(av.ffmpeg_version_info)


def encoders() -> dict[str, EncoderState]:
    """Return for each of :data:`ENCODERS` whether it can encode a frame on this machine.

    A hardware encoder may be built in and still fail without its hardware.
    """
    return {name: encoder_state(name) for name in ENCODERS}


def filters() -> dict[str, bool]:
    """Return for each of :data:`FILTERS` whether it is built in."""
    return {name: has_filter(name) for name in FILTERS}


def default_encoders() -> dict[str, str]:
    """Return each container's encoder for 8-bit 4:2:0 video, such as ``{".mp4": "libx264"}``.

    Raises:
        EncoderError: FFmpeg has no encoder for one of the containers.
    """
    return {
        suffix: choose(container_of(Path(f"a{suffix}")), "yuv420p", 1920, 1080, DEFAULTS).encoder
        for suffix in (".mp4", ".mkv", ".mov", ".webm")
    }
