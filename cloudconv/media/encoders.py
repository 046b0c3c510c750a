"""Choose the encoder of an output, its pixel format and its options."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache

import av
import av.codec.codec
import av.error
import numpy as np

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.events import Warned
from cloudconv.media.containers import CONTAINERS, Container
from cloudconv.media.formats import PixelLayout, is_exact, is_float, layout, working_format
from cloudconv.media.info import MediaInfo
from cloudconv.messages import did_you_mean, short
from cloudconv.settings import EncodeSettings
from cloudconv.settings.values import pairs

# SVT-AV1 reads this variable when SVT-AV1 starts. Without the variable, SVT-AV1 writes more than
# errors to standard error.
os.environ.setdefault("SVT_LOG", "1")

NVENC = "nvenc"
"""The name for an encoder of NVIDIA GPUs whose codec is chosen by container and bit depth."""
SOURCE = "source"
"""The name for the encoder of the source's codec."""
DEFAULTS = EncodeSettings()
DEFAULT_CRF = 17.0
"""The default quality on libx264's scale: visually lossless at ordinary viewing."""

_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# Options that set the quality. If the user gives one of them, the default quality is not set.
_QUALITY = frozenset(
    ("crf", "qp", "b", "q", "cq", "qscale", "global_quality", "lossless", "quality", "rc")
)
# Codecs for video editing, which a source keeps by default.
_EDITED = ("dnxhd", "prores")


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
    """The known facts about an encoder beyond those that its library reports."""

    keeps: str | None = None  # the codec that a source in this codec keeps on request
    # The options that every quality needs beside ``crf``; without ``crf``, those of the default.
    quality: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)  # the default options
    # The option that ``--crf`` sets, and the largest value of ``--crf``; None if unknown.
    crf: tuple[str, float] | None = None
    # Its values with the visual quality of the values of ``_SCALE``; None for the same values.
    looks_like: tuple[float, ...] | None = None
    least: float = 0.0  # the smallest value to set
    presets: tuple[str, ...] = ()  # the accepted ones; empty if they are not known
    parameters: str | None = None  # the option for parameters of the encoder's library
    refused: tuple[str, ...] = ()  # pixel formats that are listed but not accepted
    whole_chroma: bool = False  # width and height must be whole numbers of chroma samples
    smallest: int = 1  # the least width and height in pixels
    corrupts: range = range(0)  # widths at which the encoder writes beyond its memory


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
_X264 = KnownEncoder("h264", crf=("crf", 63), presets=_PRESETS, parameters="x264-params")
_X265_PARAMS = "x265-params"

_KNOWN: dict[str, KnownEncoder] = {
    "libx264": replace(_X264, whole_chroma=True, smallest=2),
    "libx264rgb": _X264,
    "libx265": KnownEncoder(
        "hevc",
        options={_X265_PARAMS: "log-level=none"},
        crf=("crf", 51),
        presets=_PRESETS,
        parameters=_X265_PARAMS,
        refused=("yuva420p", "yuva420p10le"),
        whole_chroma=True,
        smallest=16,
        corrupts=range(33, 64),
    ),
    "libsvtav1": KnownEncoder(
        "av1",
        options={"preset": "6"},
        crf=("crf", 51),
        looks_like=_SVT_AV1,
        presets=tuple(str(k) for k in range(-1, 14)),
        parameters="svtav1-params",
        smallest=4,
    ),
    "libvpx-vp9": KnownEncoder(
        "vp9",
        quality={"b": "0"},
        options={"deadline": "good", "cpu-used": "2", "row-mt": "1"},
        crf=("crf", 51),
        looks_like=_VP9,
        refused=("yuva422p", "yuva444p", "gbrap"),
    ),
    # Level 3 of FFV1 cuts pictures into slices. Small pictures have too few samples for slices.
    "ffv1": KnownEncoder("ffv1", options={"level": "3", "slicecrc": "1", "g": "1"}, smallest=16),
    "prores_ks": KnownEncoder("prores", whole_chroma=True),
    "dnxhd": KnownEncoder("dnxhd", whole_chroma=True, smallest=120),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": replace(_NVENC, looks_like=_SVT_AV1),
    "mjpeg": replace(_QSCALE, keeps="mjpeg"),
    # ``source`` does not keep these two codecs, which do not accept all frame rates.
    "mpeg4": _QSCALE,
    "mpeg2video": _QSCALE,
    # Few programs read a TIFF of YUV.
    "tiff": KnownEncoder(
        refused=tuple(f"yuv{s}p" for s in ("410", "411", "420", "422", "440", "444"))
    ),
    "exr": KnownEncoder(options={"compression": "zip16"}),
    **dict.fromkeys(("libwebp", "libwebp_anim"), KnownEncoder(quality={"quality": "92"})),
    **dict.fromkeys(("png", "apng"), KnownEncoder(quality={"pred": "mixed"})),
}


def known_encoder(name: str) -> KnownEncoder:
    """Return the known facts about the encoder; default values for an unknown one."""
    return _KNOWN.get(name, KnownEncoder())


def names_of_encoders() -> list[str]:
    """Return the names of encoders that a user may choose and this FFmpeg has."""
    named = {name for each in CONTAINERS.values() if each.is_video for name in each.encoders}
    named |= {name for name, known in _KNOWN.items() if known.keeps}
    return [SOURCE, NVENC, *_present(sorted(named))]


def choose_for(container: Container, info: MediaInfo, settings: EncodeSettings) -> EncoderChoice:
    """Return the choice for a source; see :func:`choose`.

    Video in an editing codec keeps its codec if the container and the size allow the codec, unless
    any encoder setting but ``threads`` is given. In MP4 and MOV, a single picture becomes 4:2:0,
    and so do pictures and animations that are not YUV, because few players show RGB in these
    containers. A transparent source becomes 4:2:0 in MP4, for which no encoder keeps transparency,
    and stays transparent in MOV. None of these rules applies if an encoder or a pixel format is
    requested.
    """
    requested, settings = settings, replace(settings, encoder=_named(container, info, settings))
    source, curve = layout(info.working_pix_fmt), info.tags.hdr
    free = settings.encoder is None and settings.pix_fmt is None and container.needs_plain
    is_still = info.reader.is_pictures and info.timing.frames == 1
    drawn = source.alpha or is_still or (info.reader.is_drawn and source.family != "yuv")
    becomes_plain = free and drawn and not (source.alpha and container.keeps_alpha)
    depth = "10le" if source.depth > 8 else ""
    choice = choose(
        container,
        f"yuv420p{depth}" if becomes_plain else info.working_pix_fmt,
        info.width,
        info.height,
        settings,
        hevc=curve is not None and not becomes_plain,
        codec=info.codec,
    )
    said, stored = list(choice.warnings), layout(choice.working)
    made = av.codec.Codec(choice.encoder, "w").canonical_name
    plain = stored.family == "gray" or (stored.family == "yuv" and stored.chroma_shift_x > 0)
    if becomes_plain and choice.working != info.working_pix_fmt:
        # This warning replaces the warnings of `choose`.
        opaque = " without transparency" if source.alpha else ""
        said = [
            Warned(
                f"few-players: Few players show {info.working_pix_fmt} in {container.name}, so the "
                f"pictures are converted to {choice.working}{opaque}. To choose another format, "
                f"give --pix-fmt=yuv444p{depth} or --encoder."
            )
        ]
    elif free and not plain and made not in (info.codec, *_EDITED):
        # This warning names the reason for which the encoder is another one.
        said = [warned for warned in said if warned.code != "other-encoder"]
        said.append(
            Warned(
                f"kept-few-players: Few players show {choice.working} in {container.name}, which "
                "keeps the colours of the source exactly. For a file that most players show, give "
                f"{_plain(stored)}."
            )
        )
    if requested.encoder == SOURCE and made != info.codec:
        text = (
            f"encoder-not-of-source: The codec {info.codec} of the source cannot be written in "
            f"{container.name} here: {choice.encoder} is used."
        )
        said.insert(0, Warned(text))
    if curve is not None and not container.is_video and not is_float(choice.pix_fmt):
        text = (
            f"tones-not-mapped: The source is HDR ({curve}), which {container.name} cannot show: "
            "the pictures look flat and pale. An .mkv or .mp4 keeps HDR."
        )
        said.append(Warned(text))
    return replace(choice, warnings=tuple(said))


def _named(container: Container, info: MediaInfo, settings: EncodeSettings) -> str | None:
    """Return the requested encoder, or that of the source's codec if the codec is kept.

    The codec is kept if ``SOURCE`` is requested, or if the codec is for editing and no other
    setting is given. The result is None if no encoder of the codec fits container, size and format.
    """
    given = settings.encoder, settings.crf, settings.preset, settings.pix_fmt
    keeps_edited = info.codec in _EDITED and given == (None,) * 4 and not settings.encoder_option
    if settings.encoder != SOURCE and not keeps_edited:
        return settings.encoder
    wanted = info.working_pix_fmt if settings.pix_fmt is None else _working(settings.pix_fmt)
    for name in _present(name for name, known in _KNOWN.items() if known.keeps == info.codec):
        if container.is_video and _can_be_in(container, name):
            # Codecs for editing have few pixel formats, so the nearest one is used.
            formats = [f for f in _takes(name) if f == wanted or info.codec in _EDITED]
            if any(_fits(name, pix_fmt, info.width, info.height) for pix_fmt in formats):
                return name
    return None


def choose(
    container: Container,
    pix_fmt: str,
    width: int,
    height: int,
    settings: EncodeSettings = DEFAULTS,
    *,
    hevc: bool = False,
    codec: str | None = None,
) -> EncoderChoice:
    """Choose the encoder and the pixel format that lose nothing, or least, of ``pix_fmt``.

    ``pix_fmt`` is a working format. More than 8 bits, or ``hevc``, select HEVC before H.264,
    because more players support such video in HEVC. Each substitution adds a warning to the choice.
    An encoder of ``codec``, the codec of the source, is no substitution.

    Raises:
        EncoderError: an encoder, option, preset or pixel format is unknown, the container refuses
            the encoder, or no encoder fits the size.
    """
    wanted = pix_fmt if settings.pix_fmt is None else _working(settings.pix_fmt)
    names = _candidates(container, layout(wanted), settings.encoder, hevc=hevc)
    name, picked = _best(container, names, wanted, width, height, exactly=settings.pix_fmt)
    if settings.pix_fmt is not None and settings.pix_fmt in _formats(name):
        picked = settings.pix_fmt
    working = _working(picked)
    said: list[Warned] = []
    first, kept = container.encoders[0], layout(wanted)
    made = av.codec.Codec(name, "w").canonical_name
    if settings.encoder is None and container.is_video and name != first and made != codec:
        what, tail = f"The encoder {first} cannot hold {wanted}", ""
        if wanted not in _takes(first):
            special = {"RGB colours": kept.family == "rgb", "transparency": kept.alpha}
            special[f"{kept.depth} bits"] = kept.depth > 8
            words = ", ".join(word for word, is_given in special.items() if is_given)
            what += f" ({words})" if words else ""
            if name == "ffv1":
                few = "Few players show that; for a file that most players show, give"
                tail = f" {few} {_plain(kept)}."
        elif not _fits(first, wanted, width, height):
            what += f" at the size {width}x{height}"
        else:
            what = f"Few players show {wanted} from the encoder {first}"
        said.append(Warned(f"other-encoder: {what}: {name} is used instead.{tail}"))
    loses_alpha = kept.alpha and not layout(working).alpha
    # Outputs other than video report only fewer bits and lost transparency. A GIF always has few
    # colours, so fewer bits need no warning there.
    coarser = layout(working).depth < kept.depth and not container.has_palette
    if working != wanted and (container.is_video or coarser or loses_alpha):
        who = f"{name} in {container.name}" if container.is_video else container.name
        opaque = " Their transparency is dropped." if loses_alpha else ""
        what = f"{who} cannot hold {wanted} at {width}x{height}"
        said.append(
            Warned(f"pix-fmt-changed: {what}: the pictures are written as {working}.{opaque}")
        )
    tag = container.hevc_tag if made == "hevc" else None
    options = options_for(name, working, settings)
    return EncoderChoice(name, picked, working, options, tag, tuple(said))


def _plain(kept: PixelLayout) -> str:
    """Return the option for the pixel format that most players show."""
    return "--pix-fmt=yuv420p" + ("10le" if kept.depth > 8 else "")


def _candidates(
    container: Container, wanted: PixelLayout, given: str | None, *, hevc: bool
) -> list[str]:
    """Return the encoders to choose from, the most suitable one first."""
    names, deep = list(container.encoders), hevc or wanted.depth > 8
    if not container.is_video:
        if given not in (None, names[0]):
            raise EncoderUsageError(
                f"fixed-encoder: {container.name} is always written by {names[0]}, so "
                f"{given!r} cannot be used: leave --encoder out."
            )
    elif given == NVENC:
        # The GPUs encode H.264 with 8 bits only, so HEVC comes first for more bits, and for HDR.
        names = ["h264_nvenc", "hevc_nvenc", "av1_nvenc"]
        names = [each for each in _present(names) if _can_be_in(container, each)]
        names.sort(key=lambda each: deep and each == "h264_nvenc")
        if not names:
            raise EncoderUsageError(
                f"no-nvenc: No encoder of NVIDIA GPUs can be used here in {container.name}: use "
                "another container (.mp4 and .mkv hold all), or another encoder."
            )
    elif given is not None:
        names = [_checked_name(given, container)]
    elif "ffv1" in names and (wanted.family == "rgb" or wanted.alpha or wanted.depth > 10):
        # Few players show these formats from any lossy codec, so lossless FFV1 comes first.
        names.sort(key=lambda each: (each != "ffv1", each != "libx265" or not deep))
    elif deep:
        names.sort(key=lambda each: each != "libx265")
    return names


def _checked_name(name: str, container: Container) -> str:
    try:
        codec = av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError as error:
        known = ", ".join(_present(("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1")))
        raise EncoderUsageError(
            f'unknown-encoder: There is no encoder "{name}" here: choose one, such as {known}.'
        ) from error
    if codec.type != "video":
        raise EncoderUsageError(
            f"not-for-video: {name!r} encodes {codec.type}, not video: choose an encoder of video."
        )
    if not _can_be_in(container, codec.name):
        raise EncoderUsageError(
            f"encoder-not-in-container: {container.name} cannot hold what {name} writes: use "
            f"{_present(container.encoders)}, or another container (.mkv holds most)."
        )
    return codec.name


def _present(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in av.codec.codecs_available]


def _can_be_in(container: Container, name: str) -> bool:
    return name not in container.refuses and name in _supported_by(container.muxer)


@cache
def _supported_by(muxer: str) -> frozenset[str]:
    with av.open(io.BytesIO(), "w", format=muxer) as out:
        return frozenset(out.supported_codecs)


def _working(pix_fmt: str) -> str:
    try:
        layout(pix_fmt)
    except ValueError as error:
        raise EncoderUsageError(
            f'unknown-pix-fmt: There is no pixel format "{pix_fmt}" that can be written: choose '
            "one such as yuv420p or yuv444p10le."
        ) from error
    try:
        return working_format(pix_fmt)
    except ValueError as error:
        raise EncoderUsageError(
            f"unusable-pixel-format: The pixel format {pix_fmt} has samples that do not fit whole "
            "numbers of at most 16 bits: convert to a format such as yuv420p or yuv444p10le."
        ) from error


@cache
def _formats(name: str) -> tuple[str, ...]:
    """Return the encoder's pixel formats that store their working format exactly.

    For EXR, return the floating-point formats.
    """
    if name == "gif":
        # The encoder needs pictures with a palette, which the sink makes from bgra.
        return ("bgra",)
    usable = is_float if name == "exr" else is_exact
    refused = known_encoder(name).refused
    listed = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    return tuple(f for f in listed if usable(f) and f not in refused and not f.startswith("yuvj"))


@cache
def _takes(name: str) -> dict[str, str]:
    """Map each working format that the encoder stores to a pixel format of the encoder."""
    stored: dict[str, str] = {}
    for pix_fmt in _formats(name):
        working = working_format(pix_fmt)
        if working not in stored or pix_fmt == working:
            stored[working] = pix_fmt
    return stored


def _fits(name: str, pix_fmt: str, width: int, height: int) -> bool:
    """Return whether the encoder accepts pictures of this format and size."""
    known, shape = known_encoder(name), layout(pix_fmt)
    if min(width, height) < known.smallest or width in known.corrupts:
        return False
    odd = width % (1 << shape.chroma_shift_x) or height % (1 << shape.chroma_shift_y)
    return not (known.whole_chroma and odd)


def _cost(wanted: PixelLayout, stored: PixelLayout) -> tuple[int, ...]:
    """Return the cost of storing ``wanted`` as ``stored``; the smaller tuple is better.

    Losses come first: transparency, bits, chroma samples, a conversion between RGB, YUV and gray.
    Stored but unused transparency, bits and chroma samples follow.
    """
    lost = surplus = 0
    if wanted.family != "gray" and stored.family != "rgb":
        shifts = (
            stored.chroma_shift_x - wanted.chroma_shift_x,
            stored.chroma_shift_y - wanted.chroma_shift_y,
        )
        lost = sum(max(shift, 0) for shift in shifts) + (4 if stored.family == "gray" else 0)
        surplus = sum(max(-shift, 0) for shift in shifts)
    elif wanted.family == "gray" and stored.family == "yuv":
        surplus = 4 - stored.chroma_shift_x - stored.chroma_shift_y
    is_gray = wanted.family == "gray" and stored.family == "yuv"
    family = 0 if wanted.family == stored.family else 1 if is_gray else 2
    deeper = stored.depth - wanted.depth
    losses = wanted.alpha and not stored.alpha, max(-deeper, 0), lost, family
    return *losses, stored.alpha and not wanted.alpha, max(deeper, 0), surplus


def _best(
    container: Container,
    names: list[str],
    wanted: str,
    width: int,
    height: int,
    *,
    exactly: str | None,
) -> tuple[str, str]:
    """Return the cheapest pair of encoder and pixel format; earlier encoders win ties.

    ``exactly`` is a requested pixel format, whose samples must not change.
    """
    options = [
        (_cost(layout(wanted), layout(working)), order, name, pix_fmt)
        for order, name in enumerate(_present(names))
        for working, pix_fmt in _takes(name).items()
        if exactly is None or (working == wanted and is_float(pix_fmt) == is_float(exactly))
        if _fits(name, working, width, height)
        if not (name in container.refuses_alpha and layout(working).alpha)
    ]
    if options:
        return min(options)[2:]
    who, size = " and ".join(names), f"{width}x{height}"
    if exactly is None:
        raise EncoderError(
            f"encoder-size: {who} cannot encode pictures of {size}: choose another encoder or "
            "output."
        )
    taken = ", ".join(sorted({f for name in _present(names) for f in _formats(name)}))
    raise EncoderError(
        f"encoder-cannot-write: {who} in {container.name} cannot write {exactly} at {size}: choose "
        f"one of {taken}."
    )


def options_for(name: str, working: str, settings: EncodeSettings) -> dict[str, str]:
    """Return the options of an encoder for pictures of the ``working`` format.

    Raises EncoderUsageError for a setting that the encoder does not accept.
    """
    known = known_encoder(name)
    given = dict(pairs(settings.encoder_option))
    for key in given:  # FFmpeg itself ignores an unknown option without an error
        if key not in _supported_options(name):
            near = did_you_mean(key, sorted(_supported_options(name)))
            raise EncoderUsageError(f"unknown-encoder-option: {name} has no option {key!r}{near}.")
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
        options[_X265_PARAMS] += f":pools={settings.threads}"
    return options


def _preset(name: str, preset: str) -> str:
    presets = known_encoder(name).presets
    if presets and preset not in presets:
        raise EncoderUsageError(
            f"unknown-preset: {name} has no preset {preset!r}: choose one of {', '.join(presets)}."
        )
    if not presets and "preset" not in _supported_options(name):
        raise EncoderUsageError(f"no-presets: {name} has no presets: leave --preset out.")
    return preset


def _crf(name: str, crf: float) -> dict[str, str]:
    """Return the encoder's own options for a quality on libx264's scale."""
    known = known_encoder(name)
    option, most = known.crf or ("crf", 63.0)
    if known.crf is None and "crf" not in _supported_options(name):
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


@cache
def _supported_options(name: str) -> frozenset[str]:
    known = av.CodecContext.create(name, "w").supported_options
    # FFmpeg's flags of an option: 1 for encoding, 16 for video.
    general = {o.name for o in known.generic if int(o.flags) & 1 and int(o.flags) & 16}
    return frozenset(general | {o.name for o in known.private})


# The names of the parameters for the mastering display and for the light levels.
_HDR_NAMES = {
    "libx264": ("mastering-display", "cll"),
    "libx265": ("master-display", "max-cll"),
    "libsvtav1": ("mastering-display", "content-light"),
}


def hdr_parameters(encoder: str, display: bytes | None, light: bytes | None) -> str | None:
    """Return HDR10 metadata as ``key=value:…`` for the encoder; None if it cannot store them.

    Encoders ignore the side data of frames, and write these parameters into the bitstream.
    ``display`` is FFmpeg's AVMasteringDisplayMetadata (88 bytes), ``light`` its
    AVContentLightMetadata (at least 8 bytes). The string is empty if neither is given.
    """
    if encoder not in _HDR_NAMES:
        return None
    name_of_display, name_of_light = _HDR_NAMES[encoder]
    parts: list[str] = []
    # Ten fractions (red, green, blue, white point, least and most luminance), and two flags, which
    # are 0 if there are no primaries or no luminance.
    numbers = struct.unpack_from("<22i", display) if display else (0,) * 22
    if numbers[20] and numbers[21]:
        # Decimal numbers, or multiples of the units of HEVC: 0.00002 for chromaticities, 0.0001
        # cd/m² for luminances.
        values = [
            Fraction(top, bottom) if bottom else Fraction(0)
            for top, bottom in zip(numbers[0:20:2], numbers[1:20:2], strict=True)
        ]
        red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y, least, most = (
            f"{float(value):g}"
            if encoder == "libsvtav1"
            else str(round(value * (50000 if number < 8 else 10000)))
            for number, value in enumerate(values)
        )
        parts.append(
            f"{name_of_display}=G({green_x},{green_y})B({blue_x},{blue_y})R({red_x},{red_y})"
            f"WP({white_x},{white_y})L({most},{least})"
        )
    if light:
        brightest, mean = struct.unpack_from("<2I", light)
        parts.append(f"{name_of_light}={brightest},{mean}")
    if parts and encoder == "libx265":
        parts += ["hdr10=1", "repeat-headers=1"]
    return ":".join(parts)
