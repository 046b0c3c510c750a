"""Hold the facts about encoders that their libraries do not report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cloudconv.media.containers.sidedata import (
    frame_packing,
    light_levels,
    mastering_display,
)
from cloudconv.media.frames.formats import PixelLayout
from cloudconv.media.frames.frame import MediaInfo

# CRF values of libx264, and the CRF values of two other encoders with the same XPSNR:
# medians over five clips (benchmarks/encoder_quality.py of c1484f06). libx265 uses
# libx264's values, because the values of the same XPSNR differ by less than one.
_SCALE = (0, 8, 12, 14, 16, 17, 18, 20, 23, 26, 30, 34, 51)
_SVT_AV1 = (0, 4, 6, 9, 12, 15, 18, 25, 36, 45, 55, 59, 63)
_VP9 = (0, 4, 8, 10, 13, 15, 17, 23, 30, 36, 44, 51, 63)
_AVX512 = 13  # CV_CPU_AVX_512F of OpenCV, which has no name in Python


@dataclass(frozen=True, slots=True)
class CrfScale:
    """The values of ``--crf``, from 0 to ``most``, and the values of the encoder's option.

    ``looks_like`` are the encoder's values with the visual quality of the values of
    ``_SCALE``; None for the same values. ``least`` is the smallest value to set.
    """

    option: str = "crf"
    most: float = 51
    looks_like: tuple[float, ...] | None = None
    least: float = 0

    def value(self, crf: float) -> str:
        """Return the value of the encoder's option for a value of ``--crf``."""
        if self.looks_like is not None:
            crf = round(float(np.interp(crf, _SCALE, self.looks_like)))
        return f"{max(crf, self.least):g}"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The names of the parameters of an encoder's library, empty for those that it lacks.

    FFmpeg passes all parameters on in one ``option``, as ``key=value:…``. ``display``,
    ``light`` and ``packing`` describe the pictures: the mastering display and the light
    levels of HDR10, and the packing of 3D video. ``with_hdr`` are needed beside them.
    ``threads`` is for a library that ignores FFmpeg's number of threads. ``avx512`` is
    needed on processors with AVX-512.
    """

    option: str
    display: str = ""
    light: str = ""
    with_hdr: tuple[str, ...] = ()
    # Whether the display is stated in decimal numbers, and not in the units of HEVC:
    # 0.00002 for chromaticities, 0.0001 cd/m² for luminances.
    has_decimals: bool = False
    packing: str = ""
    threads: str = ""
    avx512: str = ""

    def joined(self, options: Mapping[str, str], *stated: str) -> dict[str, str]:
        """Return options with further parameters; those in ``options`` take precedence."""
        texts = [*stated, *filter(None, [options.get(self.option)])]
        return {**options, self.option: ":".join(texts)} if texts else {**options}

    def for_this_processor(self) -> list[str]:
        """Return the parameters that this processor needs."""
        import cv2  # imported here, because every command loads this module

        needed = self.avx512 and cv2.checkHardwareSupport(_AVX512)
        return [self.avx512] if needed else []

    def about(self, info: MediaInfo) -> list[str]:
        """Return the parameters that describe the pictures of a source."""
        stated = [*self._hdr(info)]
        if stated:
            stated += self.with_hdr
        if self.packing and (packing := frame_packing(info)) is not None:
            stated.append(f"{self.packing}={packing}")
        return stated

    def _hdr(self, info: MediaInfo) -> Iterator[str]:
        display = mastering_display(info)
        if self.display and display is not None and all(display):
            chromaticities, luminances = display
            units = [50_000] * 8 + [10_000] * 2
            values = [*zip(chromaticities + luminances, units, strict=True)]
            texts = [f"{float(value):g}" for value, _ in values]
            if not self.has_decimals:
                texts = [str(round(value * unit)) for value, unit in values]
            rx, ry, gx, gy, bx, by, wx, wy, least, most = texts
            points = f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})"
            yield f"{self.display}={points}L({most},{least})"
        light = light_levels(info)
        if self.light and light is not None:
            brightest, mean = light
            yield f"{self.light}={brightest},{mean}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The pictures that an encoder accepts, of those that its library lists."""

    refused: tuple[str, ...] = ()  # pixel formats that are listed but not accepted
    # The only ones, if the library lists others or none.
    formats: tuple[str, ...] = ()
    is_float: bool = False  # only floats are stored
    whole_chroma: bool = False  # width and height must be whole numbers of chroma samples
    smallest: int = 1  # the least width and height in pixels
    # Widths at which the encoder writes beyond its memory, as valgrind shows.
    corrupts: range = range(0)

    def fits(self, shape: PixelLayout, size: tuple[int, int]) -> bool:
        """Return whether the encoder accepts pictures of a format and a size."""
        width, height = size
        if min(size) < self.smallest or width in self.corrupts:
            return False
        odd = width % (1 << shape.chroma_shift_x) or height % (1 << shape.chroma_shift_y)
        return not (self.whole_chroma and odd)


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """The known facts about an encoder beyond those that its library reports."""

    accepted: Accepted = Accepted()
    options: Mapping[str, str] = field(default_factory=dict)  # the default options
    # The options that every quality needs beside that of ``crf``; without ``crf``, those of
    # the default quality.
    quality: Mapping[str, str] = field(default_factory=dict)
    crf: CrfScale | None = None  # None if unknown
    presets: tuple[str, ...] = ()  # the accepted ones; empty if they are not known
    parameters: Parameters | None = None
    # The profiles of an editing codec for 4:4:4, for 10 bits and for 8 bits by FFmpeg's
    # names, the default one first.
    profiles: tuple[Mapping[str, str], ...] = ()
    # For pictures with alpha: further options, and tags of the stream for readers.
    alpha_options: Mapping[str, str] = field(default_factory=dict)
    alpha_tags: Mapping[str, str] = field(default_factory=dict)
    # Ticks per second of the finest clock. With a finer one a gap of a few seconds has more
    # ticks than MP4 stores.
    finest: int = 100_000_000
    states_aspect: bool = False  # its bitstream contains the sample aspect ratio


_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# These values are not measured, but follow FFmpeg's help for the encoders. ``cq`` is 0 to
# 51 for H.264 and HEVC, like the CRF of libx264, and 0 to 63 for AV1, like the CRF of
# SVT-AV1. 0 means automatic.
_NVENC = KnownEncoder(
    accepted=Accepted(whole_chroma=True, smallest=160),
    options={"preset": "p5"},
    quality={"rc": "vbr"},
    crf=CrfScale("cq", least=1),
    presets=tuple(f"p{k}" for k in range(1, 8)),
)
_AV1_NVENC = replace(_NVENC, crf=CrfScale("cq", looks_like=_SVT_AV1, least=1))
# Readers look for alpha beside the packets only if the tag is set. The library rounds all
# times to a clock of its own.
_VPX = KnownEncoder(alpha_tags={"alpha_mode": "1"}, finest=10_000_000)
# Quality 2 on FFmpeg's scale of 1 (best) to 31, times FF_QP2LAMBDA (118).
_QSCALE = KnownEncoder(quality={"flags": "+qscale", "global_quality": "236"})
_X265_OPTION = "x265-params"
# With AVX-512, libx264 (core 164 and 165) reads memory that it has not written, and runs
# differ by 41 to 44 dB. AVX2 takes as long, with the same size and PSNR.
_X264 = Parameters("x264-params", packing="frame-packing", avx512="asm=avx2")
_PRORES_422 = {"HQ": "hq", "Standard": "standard", "LT": "lt", "Proxy": "proxy"}

_KNOWN: dict[str, KnownEncoder] = {
    "libx264": KnownEncoder(
        accepted=Accepted(whole_chroma=True, smallest=2),
        states_aspect=True,
        crf=CrfScale(),
        presets=_PRESETS,
        parameters=replace(_X264, display="mastering-display", light="cll"),
    ),
    "libx264rgb": KnownEncoder(
        crf=CrfScale(),
        presets=_PRESETS,
        parameters=_X264,
    ),
    "libx265": KnownEncoder(
        accepted=Accepted(
            refused=("yuva420p", "yuva420p10le"),
            whole_chroma=True,
            smallest=16,
            corrupts=range(33, 64),
        ),
        options={_X265_OPTION: "log-level=none", "a53cc": "1"},
        states_aspect=True,
        crf=CrfScale(),
        presets=_PRESETS,
        parameters=Parameters(
            _X265_OPTION,
            display="master-display",
            light="max-cll",
            with_hdr=("hdr10=1", "repeat-headers=1"),
            threads="pools",
        ),
    ),
    "libsvtav1": KnownEncoder(
        accepted=Accepted(smallest=4),
        options={"preset": "6"},
        crf=CrfScale(looks_like=_SVT_AV1),
        presets=tuple(str(k) for k in range(-1, 14)),
        parameters=Parameters(
            "svtav1-params",
            display="mastering-display",
            light="content-light",
            has_decimals=True,
        ),
    ),
    "libvpx": _VPX,
    "libvpx-vp9": replace(
        _VPX,
        # MP4 cannot state the last format.
        accepted=Accepted(refused=("yuva422p", "yuva444p", "gbrap", "yuv440p")),
        options={"deadline": "good", "cpu-used": "2", "row-mt": "1"},
        alpha_options={"auto-alt-ref": "0"},
        quality={"b": "0"},
        crf=CrfScale(looks_like=_VP9),
    ),
    # Level 3 of FFV1 cuts pictures into slices. Small pictures have too few samples for
    # slices.
    "ffv1": KnownEncoder(
        accepted=Accepted(smallest=16), options={"level": "3", "slicecrc": "1", "g": "1"}
    ),
    "prores_ks": KnownEncoder(
        accepted=Accepted(whole_chroma=True),
        profiles=({"4444": "4444", "XQ": "4444xq"}, _PRORES_422, _PRORES_422),
    ),
    "dnxhd": KnownEncoder(
        accepted=Accepted(whole_chroma=True, smallest=120),
        profiles=(
            {"DNXHR 444": "dnxhr_444"},
            {"DNXHR HQX": "dnxhr_hqx"},
            {"DNXHR HQ": "dnxhr_hq", "DNXHR SQ": "dnxhr_sq", "DNXHR LB": "dnxhr_lb"},
        ),
    ),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": _AV1_NVENC,
    **dict.fromkeys(("mjpeg", "mpeg4", "mpeg2video"), _QSCALE),
    # Few programs read a TIFF of YUV.
    "tiff": KnownEncoder(
        accepted=Accepted(
            refused=tuple(f"yuv{s}p" for s in ("410", "411", "420", "422", "440", "444"))
        )
    ),
    "exr": KnownEncoder(accepted=Accepted(is_float=True), options={"compression": "zip16"}),
    # The encoder needs pictures with a palette, which the sink makes from this format.
    "gif": KnownEncoder(accepted=Accepted(formats=("bgra",))),
    **dict.fromkeys(("libwebp", "libwebp_anim"), KnownEncoder(quality={"quality": "92"})),
    **dict.fromkeys(("png", "apng"), KnownEncoder(quality={"pred": "mixed"})),
}


def known_encoder(name: str) -> KnownEncoder:
    """Return the known facts about the encoder; default values for an unknown one."""
    return _KNOWN.get(name, KnownEncoder())
