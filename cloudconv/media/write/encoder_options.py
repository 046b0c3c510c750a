"""Turn the user's settings into encoder options, and list known facts about each encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import av
import numpy as np

from cloudconv.errors import EncoderUsageError
from cloudconv.events import Warned
from cloudconv.media.formats import layout
from cloudconv.messages import did_you_mean, short
from cloudconv.settings.groups import EncodeSettings
from cloudconv.settings.values import pairs

_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# Options that set the quality. If the user gives one of them, the default quality is not set.
_QUALITY = frozenset(
    ("crf", "qp", "b", "q", "cq", "qscale", "global_quality", "lossless", "quality", "rc")
)


DEFAULTS = EncodeSettings()


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """The encoder of an output.

    ``pix_fmt`` is the pixel format of the encoder's input, ``working`` the planar format of the
    same samples. ``codec_tag`` is the codec's tag of four characters; None for the muxer's default.
    """

    encoder: str
    pix_fmt: str
    working: str
    options: dict[str, str]
    codec_tag: str | None
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """The known facts about an encoder beyond those that its library reports.

    Attributes:
        quality: the options that every quality needs in addition to ``crf``; without ``crf``, the
            options that set the default quality.
        options: the default options.
        crf: the option that ``--crf`` sets, and the largest value of ``--crf``; None if unknown.
        looks_like: the values of this option with the same visual quality as the values of
            :data:`_SCALE`; None for the same values.
        least: the smallest value to set.
        presets: the accepted presets; empty if they are not known.
        parameters: the option for parameters of the encoder's library; None if there is none.
        refused: pixel formats that the encoder lists but does not accept.
        whole_chroma: whether width and height must be whole numbers of chroma samples.
        smallest: the least width and height in pixels.
        corrupts: widths at which the encoder writes beyond its memory.
    """

    quality: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    crf: tuple[str, float] | None = None
    looks_like: tuple[float, ...] | None = None
    least: float = 0.0
    presets: tuple[str, ...] = ()
    parameters: str | None = None
    refused: tuple[str, ...] = ()
    whole_chroma: bool = False
    smallest: int = 1
    corrupts: range = range(0)


DEFAULT_CRF = 17.0
"""The default quality on libx264's scale: visually lossless at ordinary viewing."""

# CRF values of libx264, and the CRF values of two other encoders with the same XPSNR: medians over
# five clips (benchmarks/encoder_quality.py). libx265 uses libx264's values, because the values of
# the same XPSNR differ by less than one.
_SCALE = (0, 8, 12, 14, 16, 17, 18, 20, 23, 26, 30, 34, 51)
_SVT_AV1 = (0, 4, 6, 9, 12, 15, 18, 25, 36, 45, 55, 59, 63)
_VP9 = (0, 4, 8, 10, 13, 15, 17, 23, 30, 36, 44, 51, 63)

# These values are not measured, but follow FFmpeg's help for the encoders. ``cq`` is 0 to 51 for
# H.264 and HEVC, like the CRF of libx264, and 0 to 63 for AV1, like the CRF of SVT-AV1. 0 means
# automatic.
_NVENC = KnownEncoder(
    quality={"rc": "vbr"},
    options={"preset": "p5"},
    crf=("cq", 51),
    least=1,
    presets=tuple(f"p{k}" for k in range(1, 8)),
    whole_chroma=True,
    smallest=160,
)
# Quality 2 on FFmpeg's scale of 1 (best) to 31, times FF_QP2LAMBDA (118).
_QSCALE = KnownEncoder(quality={"flags": "+qscale", "global_quality": "236"})

_KNOWN: dict[str, KnownEncoder] = {
    "libx264": KnownEncoder(
        crf=("crf", 63), presets=_PRESETS, parameters="x264-params", whole_chroma=True, smallest=2
    ),
    "libx264rgb": KnownEncoder(crf=("crf", 63), presets=_PRESETS, parameters="x264-params"),
    "libx265": KnownEncoder(
        options={"x265-params": "log-level=none"},
        crf=("crf", 51),
        presets=_PRESETS,
        parameters="x265-params",
        refused=("yuva420p", "yuva420p10le"),
        whole_chroma=True,
        smallest=16,
        corrupts=range(33, 64),
    ),
    "libsvtav1": KnownEncoder(
        options={"preset": "6"},
        crf=("crf", 51),
        looks_like=_SVT_AV1,
        presets=tuple(str(k) for k in range(-1, 14)),
        parameters="svtav1-params",
        smallest=4,
    ),
    "libvpx-vp9": KnownEncoder(
        quality={"b": "0"},
        options={"deadline": "good", "cpu-used": "2", "row-mt": "1"},
        crf=("crf", 51),
        looks_like=_VP9,
        refused=("yuva422p", "yuva444p", "gbrap"),
    ),
    # Level 3 of FFV1 cuts pictures into slices. Small pictures have too few samples for slices.
    "ffv1": KnownEncoder(options={"level": "3", "slicecrc": "1", "g": "1"}, smallest=16),
    "prores_ks": KnownEncoder(whole_chroma=True),
    "dnxhd": KnownEncoder(whole_chroma=True, smallest=120),
    "cfhd": KnownEncoder(whole_chroma=True, smallest=32),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": replace(_NVENC, looks_like=_SVT_AV1),
    "mjpeg": _QSCALE,
    "mpeg4": _QSCALE,
    "mpeg2video": _QSCALE,
    # Few programs read a TIFF of YUV.
    "tiff": KnownEncoder(
        refused=tuple(f"yuv{s}p" for s in ("410", "411", "420", "422", "440", "444"))
    ),
    "exr": KnownEncoder(options={"compression": "zip16"}),
    "libwebp": KnownEncoder({"quality": "92"}),
    "libwebp_anim": KnownEncoder({"quality": "92"}),
    "png": KnownEncoder({"pred": "mixed"}),
    "apng": KnownEncoder({"pred": "mixed"}),
}


def known_encoder(name: str) -> KnownEncoder:
    """Return the known facts about the encoder; default values for an unknown one."""
    return _KNOWN.get(name, KnownEncoder())


def options_for(name: str, working: str, settings: EncodeSettings) -> dict[str, str]:
    """Return the options of an encoder for pictures of the ``working`` format.

    Raises:
        EncoderUsageError: the encoder does not accept one of the settings.
    """
    known = known_encoder(name)
    given = dict(pairs(settings.encoder_option))
    _check_options(name, given)
    options = dict(known.options)
    if name == "prores_ks":
        options["profile"] = "4" if working.startswith("yuv444") or layout(working).alpha else "3"
    if name == "dnxhd" and "profile" not in given:
        deep = "dnxhr_hqx" if layout(working).depth > 8 else "dnxhr_hq"
        options["profile"] = deep if working.startswith("yuv422") else "dnxhr_444"
    if name == "libvpx-vp9" and layout(working).alpha:
        options["auto-alt-ref"] = "0"
    if settings.crf is not None:
        options |= _crf(name, settings.crf)
    elif not _QUALITY & given.keys():
        options |= known.quality if known.crf is None else _crf(name, DEFAULT_CRF)
    if settings.preset is not None:
        options["preset"] = _preset(name, settings.preset)
    for key, value in given.items():
        joins = key.endswith("-params") and options.get(key)
        options[key] = f"{options[key]}:{value}" if joins else value
    if settings.threads and name == "libx265":
        # The thread pool of the library ignores FFmpeg's thread count.
        options["x265-params"] += f":pools={settings.threads}"
    return options


def _crf(name: str, crf: float) -> dict[str, str]:
    """Return the encoder's own options for a quality on libx264's scale."""
    known = known_encoder(name)
    option, most = known.crf or ("crf", 63.0)
    if known.crf is None and "crf" not in supported_options(name):
        raise EncoderUsageError(
            f"no-crf: {name} has no --crf: set its quality with --encoder-option, or use libx264."
        )
    if not 0 <= crf <= most:
        raise EncoderUsageError(
            f"crf-out-of-range: --crf={crf:g} is out of range: {name} takes 0 to {short(most)}."
        )
    if known.looks_like is not None:
        crf = round(float(np.interp(crf, _SCALE, known.looks_like)))
    return {**known.quality, option: f"{max(crf, known.least):g}"}


def _preset(name: str, preset: str) -> str:
    known = known_encoder(name)
    if known.presets and preset not in known.presets:
        raise EncoderUsageError(
            f"unknown-preset: {name} has no preset {preset!r}: choose one of "
            f"{', '.join(known.presets)}."
        )
    if not known.presets and "preset" not in supported_options(name):
        raise EncoderUsageError(f"no-presets: {name} has no presets: leave --preset out.")
    return preset


@cache
def supported_options(name: str) -> frozenset[str]:
    """Return the names of all options of an encoder."""
    known = av.CodecContext.create(name, "w").supported_options
    # FFmpeg's flags of an option: 1 for encoding, 16 for video.
    general = {o.name for o in known.generic if int(o.flags) & 1 and int(o.flags) & 16}
    return frozenset(general | {o.name for o in known.private})


def _check_options(name: str, given: Mapping[str, str]) -> None:
    # FFmpeg itself ignores an unknown option without an error.
    for key in given:
        if key not in supported_options(name):
            near = did_you_mean(key, sorted(supported_options(name)))
            raise EncoderUsageError(f"unknown-encoder-option: {name} has no option {key!r}{near}.")
