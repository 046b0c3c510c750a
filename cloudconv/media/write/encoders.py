"""Which encoder, in which pixel format, with which options."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

import av
import av.codec.codec
import av.error

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.media.formats import PixelLayout, is_float, layout, working_format
from cloudconv.media.read.probe import MediaInfo
from cloudconv.media.write.target import Container

# SVT-AV1 reads this when it starts; without it, it talks on standard error.
os.environ.setdefault("SVT_LOG", "1")

_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# FFmpeg's names of containers of pictures, and of the transfers of HDR (PQ and HLG).
_DRAWN = ("image2", "gif", "apng", "webp")
_HDR = (16, 18)
# Options that set the quality themselves: our default quality stands back for them.
_QUALITY = frozenset(
    ("crf", "qp", "b", "q", "cq", "qscale", "global_quality", "lossless", "quality", "rc")
)


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What the user asked of the encoding; None and empty mean our own choice."""

    encoder: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    threads: int | None = None


DEFAULTS = EncodeSettings()


@dataclass(frozen=True, slots=True)
class Choice:
    """The encoder that will be used.

    ``pix_fmt`` is what it is handed, ``working`` the planar format of the same samples.
    """

    encoder: str
    pix_fmt: str
    working: str
    options: dict[str, str]
    codec_tag: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Encoder:
    """What is known about one encoder beyond what the library says of it.

    ``quality`` holds what else the default quality needs, ``crf`` the option that ``--crf`` sets
    and its largest value, ``looks_like`` which of its values look like those of :data:`_SCALE`
    (None: the same), ``refused`` the pixel formats that it lists and then does not take,
    ``corrupts`` the widths at which it writes beyond its memory.
    """

    quality: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    crf: tuple[str, float] | None = None
    looks_like: tuple[float, ...] | None = None
    presets: tuple[str, ...] = ()
    parameters: str | None = None
    refused: tuple[str, ...] = ()
    whole_chroma: bool = False
    smallest: int = 1
    corrupts: range = range(0)


DEFAULT_CRF = 17.0
"""Visually lossless at ordinary viewing, on libx264's scale."""

# Crf values of libx264, and those of other encoders that score the same XPSNR: medians over five
# clips (benchmarks/encoder_quality.py). libx265's own differ from libx264's by less than one.
_SCALE = (0, 8, 12, 14, 16, 17, 18, 20, 23, 26, 30, 34, 51)
_SVT_AV1 = (0, 4, 6, 9, 12, 15, 18, 25, 36, 45, 55, 59, 63)
_VP9 = (0, 4, 8, 10, 13, 15, 17, 23, 30, 36, 44, 51, 63)

_NVENC = _Encoder(
    quality={"rc": "vbr"},
    options={"preset": "p5"},
    crf=("cq", 51),
    presets=tuple(f"p{k}" for k in range(1, 8)),
    whole_chroma=True,
    smallest=160,
)
_QSCALE = _Encoder(quality={"flags": "+qscale", "global_quality": "236"})

_KNOWN: dict[str, _Encoder] = {
    "libx264": _Encoder(
        crf=("crf", 63),
        presets=_PRESETS,
        parameters="x264-params",
        whole_chroma=True,
        smallest=2,
    ),
    "libx264rgb": _Encoder(crf=("crf", 63), presets=_PRESETS, parameters="x264-params"),
    "libx265": _Encoder(
        options={"x265-params": "log-level=none"},
        crf=("crf", 51),
        presets=_PRESETS,
        parameters="x265-params",
        refused=("yuva420p", "yuva420p10le"),
        whole_chroma=True,
        smallest=16,
        corrupts=range(33, 64),
    ),
    "libsvtav1": _Encoder(
        options={"preset": "6"},
        crf=("crf", 51),
        looks_like=_SVT_AV1,
        presets=tuple(str(k) for k in range(-1, 14)),
        parameters="svtav1-params",
        smallest=4,
    ),
    "libvpx-vp9": _Encoder(
        quality={"b": "0"},
        options={"deadline": "good", "cpu-used": "2", "row-mt": "1"},
        crf=("crf", 51),
        looks_like=_VP9,
        refused=("yuva422p", "yuva444p", "gbrap"),
    ),
    "ffv1": _Encoder(options={"level": "3", "slicecrc": "1", "g": "1"}),
    "prores_ks": _Encoder(whole_chroma=True),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": _NVENC,
    "mjpeg": _QSCALE,
    "mpeg4": _QSCALE,
    "mpeg2video": _QSCALE,
    # Few programs read a TIFF of YUV.
    "tiff": _Encoder(refused=tuple(f"yuv{s}p" for s in ("410", "411", "420", "422", "440", "444"))),
    "exr": _Encoder(options={"compression": "zip16"}),
    "libwebp": _Encoder({"quality": "92"}),
    "libwebp_anim": _Encoder({"quality": "92"}),
    "png": _Encoder({"pred": "mixed"}),
    "apng": _Encoder({"pred": "mixed"}),
}


def choose_for(container: Container, info: MediaInfo, settings: EncodeSettings) -> Choice:
    """The choice for a source; see :func:`choose`.

    Pictures and animations are RGB, which in MP4 few players show: there they become 4:2:0, unless
    an encoder or a pixel format is asked for.
    """
    source = layout(info.working_pix_fmt)
    free = settings.encoder is None and settings.pix_fmt is None
    drawn = source.family != "yuv" and info.container.split(",")[0] in _DRAWN
    drawn = drawn or info.container.endswith("_pipe")
    keeps_alpha = source.alpha and container.muxer == "mov"
    if not (free and drawn and container.muxer in ("mp4", "mov")) or keeps_alpha:
        hdr = info.tags.transfer in _HDR
        return choose(container, info.working_pix_fmt, info.width, info.height, settings, hevc=hdr)
    wanted = "yuv420p10le" if source.depth > 8 else "yuv420p"
    choice = choose(container, wanted, info.width, info.height, settings)
    said = (
        f"Few players show {info.working_pix_fmt} in {container.name}: the pictures are written as "
        f"{choice.working}; --pix-fmt yuv444p, or --encoder, for others."
        + (" Their transparency is dropped." if source.alpha else "")
    )
    # Which encoder holds that is no surprise then.
    return replace(choice, warnings=(said,))


def choose(
    container: Container,
    pix_fmt: str,
    width: int,
    height: int,
    settings: EncodeSettings = DEFAULTS,
    *,
    hevc: bool = False,
) -> Choice:
    """Pick the encoder and the pixel format that lose nothing, or least, of ``pix_fmt``.

    ``pix_fmt`` is a working format. More than 8 bits, and what ``hevc`` says of, go to HEVC before
    H.264, as that is what players show. Every substitution is one of the choice's warnings. Raises
    EncoderError for an unknown encoder, option, preset or pixel format, and for an encoder that
    the container refuses.
    """
    wanted, exact = pix_fmt, False
    if settings.pix_fmt is not None:
        wanted, exact = _working(settings.pix_fmt), True
    if container.kind != "video":
        names = _fixed_encoder(container, settings)
    elif settings.encoder is not None:
        names = (_checked_name(settings.encoder, container),)
    else:
        names = _in_order(container, layout(wanted), hevc=hevc)
    name, picked = _best(container, names, wanted, width, height, asked=settings, exact=exact)
    if exact and settings.pix_fmt in _formats(name):
        picked = str(settings.pix_fmt)
    working = _working(picked)
    warnings: list[str] = []
    first = container.encoders[0]
    if settings.encoder is None and container.kind == "video" and name != first:
        if wanted in _takes(first) and _fits(first, wanted, width, height):
            said = f"Few players show {wanted} as {first} writes it"
        else:
            said = f"{first} cannot hold {_why_not(first, wanted, width, height)}"
        warnings.append(f"{said}: {name} is used instead.")
    if _worth_a_word(container, wanted, working):
        who = f"{name} in {container.name}" if container.kind == "video" else container.name
        warnings.append(
            f"{who} cannot hold {wanted} at {width}x{height}: "
            f"the pictures are written as {working}."
            + (" Their transparency is dropped." if _alpha_lost(wanted, working) else "")
        )
    return Choice(
        encoder=name,
        pix_fmt=picked,
        working=working,
        options=_options(name, working, settings),
        codec_tag="hvc1" if _is_hevc(name) and container.muxer in ("mp4", "mov") else None,
        warnings=tuple(warnings),
    )


def _is_hevc(name: str) -> bool:
    return av.codec.Codec(name, "w").canonical_name == "hevc"


def _alpha_lost(wanted: str, working: str) -> bool:
    return layout(wanted).alpha and not layout(working).alpha


def _worth_a_word(container: Container, wanted: str, working: str) -> bool:
    if container.kind == "video":
        return working != wanted
    # That pictures are RGB is no surprise, nor that a GIF has few colours.
    coarser = layout(working).depth < layout(wanted).depth and container.muxer != "gif"
    return coarser or _alpha_lost(wanted, working)


def _why_not(name: str, pix_fmt: str, width: int, height: int) -> str:
    if pix_fmt in _takes(name):
        return f"{pix_fmt} at the size {width}x{height}"
    return pix_fmt


def _in_order(container: Container, source: PixelLayout, *, hevc: bool) -> tuple[str, ...]:
    names = container.encoders
    if "libx265" in names and (hevc or source.depth > 8):
        names = ("libx265", *(name for name in names if name != "libx265"))
    if "ffv1" in names and (source.family == "rgb" or source.alpha or source.depth > 10):
        # Few players show these from any lossy codec, so the archive codec comes first.
        names = ("ffv1", *(name for name in names if name != "ffv1"))
    return names


def _fixed_encoder(container: Container, settings: EncodeSettings) -> tuple[str, ...]:
    name = container.encoders[0]
    if settings.encoder not in (None, name):
        raise EncoderError(
            f"{container.name} is always written by {name}, so {settings.encoder!r} cannot be used."
        )
    return (name,)


def _checked_name(name: str, container: Container) -> str:
    try:
        codec = av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError as error:
        known = ", ".join(_present(("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1")))
        raise EncoderError(
            f'There is no encoder "{name}" here: choose one, such as {known}.'
        ) from error
    if codec.type != "video":
        raise EncoderError(f"{name!r} encodes {codec.type}, not video.")
    if codec.name in container.refuses or codec.name not in _held_by(container.muxer):
        takes = ", ".join(_present(container.encoders))
        raise EncoderError(
            f"{container.name} cannot hold what {name} writes; use {takes}, or another container "
            "(.mkv holds most)."
        )
    return codec.name


def _present(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in av.codec.codecs_available]


@cache
def _held_by(muxer: str) -> frozenset[str]:
    with av.open(io.BytesIO(), "w", format=muxer) as out:
        return frozenset(out.supported_codecs)


def _working(pix_fmt: str) -> str:
    try:
        layout(pix_fmt)
    except ValueError as error:
        raise EncoderUsageError(f'There is no pixel format "{pix_fmt}".') from error
    try:
        return working_format(pix_fmt)
    except ValueError as error:
        raise EncoderUsageError(
            f"The pixel format {pix_fmt!r} cannot be written: {error}"
        ) from error


@cache
def _formats(name: str) -> tuple[str, ...]:
    """The pixel formats that the encoder really takes and that we can fill exactly."""
    listed = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    refused = _KNOWN.get(name, _Encoder()).refused
    found = []
    for pix_fmt in listed:
        if pix_fmt in refused or pix_fmt.startswith(("yuvj", "pal", "mono", "ya")):
            continue
        try:
            working = layout(working_format(pix_fmt))
        except ValueError:
            continue
        if is_float(pix_fmt) != (name == "exr"):
            continue
        same_depth = is_float(pix_fmt) or working.depth == layout(pix_fmt).depth
        if same_depth and working.alpha == layout(pix_fmt).alpha:
            found.append(pix_fmt)
    if name == "gif":
        # It takes a palette; the sink makes one from these.
        return ("bgra",)
    return tuple(found)


@cache
def _takes(name: str) -> dict[str, str]:
    """The working formats that the encoder holds exactly, each with what to hand it."""
    found: dict[str, str] = {}
    for pix_fmt in _formats(name):
        working = working_format(pix_fmt)
        if working not in found or pix_fmt == working:
            found[working] = pix_fmt
    return found


def _fits(name: str, pix_fmt: str, width: int, height: int) -> bool:
    known, shape = _KNOWN.get(name, _Encoder()), layout(pix_fmt)
    if min(width, height) < known.smallest or width in known.corrupts:
        return False
    odd = width % (1 << shape.chroma_shift_x) or height % (1 << shape.chroma_shift_y)
    return not (known.whole_chroma and odd)


def _cost(wanted: PixelLayout, held: PixelLayout) -> tuple[int, ...]:
    """How much of ``wanted`` is lost, then how much is spent on what it does not have."""
    chroma = 0, 0
    if wanted.family != "gray" and held.family != "rgb":
        lost_x = held.chroma_shift_x - wanted.chroma_shift_x
        lost_y = held.chroma_shift_y - wanted.chroma_shift_y
        gray = 4 if held.family == "gray" else 0
        chroma = max(lost_x, 0) + max(lost_y, 0) + gray, max(-lost_x, 0) + max(-lost_y, 0)
    elif wanted.family == "gray" and held.family == "yuv":
        chroma = 0, 4 - held.chroma_shift_x - held.chroma_shift_y
    family = 0 if wanted.family == held.family else 1 if wanted.family == "gray" else 2
    family += 1 if wanted.family == "gray" and held.family == "rgb" else 0
    return (
        wanted.alpha and not held.alpha,
        max(wanted.depth - held.depth, 0),
        chroma[0],
        family,
        held.alpha and not wanted.alpha,
        max(held.depth - wanted.depth, 0),
        chroma[1],
    )


def _best(
    container: Container,
    names: tuple[str, ...],
    wanted: str,
    width: int,
    height: int,
    *,
    asked: EncodeSettings,
    exact: bool,
) -> tuple[str, str]:
    """The cheapest pair of encoder and pixel format; earlier encoders win ties."""
    options = [
        (_cost(layout(wanted), layout(working)), order, name, pix_fmt)
        for order, name in enumerate(_present(names))
        for working, pix_fmt in _takes(name).items()
        if (not exact or (working == wanted and is_float(pix_fmt) == is_float(asked.pix_fmt or "")))
        and _fits(name, working, width, height)
        # VP9 keeps alpha beside its packets, where only Matroska and WebM have room.
        if not (name == "libvpx-vp9" and container.muxer == "mp4" and layout(working).alpha)
    ]
    if options:
        return min(options)[2:]
    who = " and ".join(names)
    if not exact:
        raise EncoderError(
            f"{who} cannot encode pictures of {width}x{height}; choose another encoder or output."
        )
    taken = sorted({f for name in _present(names) for f in _formats(name)})
    raise EncoderError(
        f"{who} in {container.name} cannot write {asked.pix_fmt} at {width}x{height}; "
        f"it takes {', '.join(taken)}."
    )


def _options(name: str, working: str, settings: EncodeSettings) -> dict[str, str]:
    known = _KNOWN.get(name, _Encoder())
    asked = dict(settings.options)
    _check_options(name, asked)
    options = dict(known.options)
    if name == "prores_ks":
        options["profile"] = "4" if working.startswith("yuv444") or layout(working).alpha else "3"
    if name == "libvpx-vp9" and layout(working).alpha:
        options["auto-alt-ref"] = "0"
    if settings.crf is not None:
        options |= _crf(name, settings.crf)
    elif not _QUALITY & asked.keys():
        options |= known.quality if known.crf is None else _crf(name, DEFAULT_CRF)
    if settings.preset is not None:
        options["preset"] = _preset(name, settings.preset)
    for key, value in asked.items():
        joins = key.endswith("-params") and options.get(key)
        options[key] = f"{options[key]}:{value}" if joins else value
    if settings.threads and name == "libx265":
        # The library's own thread pool does not follow FFmpeg's thread count.
        options["x265-params"] += f":pools={settings.threads}"
    return options


def _crf(name: str, crf: float) -> dict[str, str]:
    """The options for a quality on libx264's scale, in the encoder's own terms."""
    known = _KNOWN.get(name, _Encoder())
    option, most = known.crf or ("crf", 63.0)
    if known.crf is None and "crf" not in supported_options(name):
        raise EncoderUsageError(
            f"{name} has no --crf; set its quality with --encoder-option, or use libx264."
        )
    if not 0 <= crf <= most:
        raise EncoderUsageError(f"--crf {crf:g} is out of range: {name} takes 0 to {most:g}.")
    if known.looks_like is not None:
        crf = round(_between(_SCALE, known.looks_like, crf))
    return {**known.quality, option: f"{crf:g}"}


def _between(scale: tuple[float, ...], other: tuple[float, ...], value: float) -> float:
    """``value`` brought from one rising scale to another, linearly between their marks."""
    for (a, b), (c, d) in zip(pairwise(scale), pairwise(other), strict=True):
        if value <= b:
            return c + (d - c) * (value - a) / (b - a)
    return other[-1]


def _preset(name: str, preset: str) -> str:
    known = _KNOWN.get(name, _Encoder())
    if known.presets and preset not in known.presets:
        raise EncoderUsageError(
            f"{name} has no preset {preset!r}; it takes {', '.join(known.presets)}."
        )
    if not known.presets and "preset" not in supported_options(name):
        raise EncoderUsageError(f"{name} has no presets; leave --preset out.")
    return preset


@cache
def supported_options(name: str) -> frozenset[str]:
    """The names of all options of an encoder."""
    known = av.CodecContext.create(name, "w").supported_options
    general = {o.name for o in known.generic if int(o.flags) & 1 and int(o.flags) & 16}
    return frozenset(general | {o.name for o in known.private})


def _check_options(name: str, asked: Mapping[str, str]) -> None:
    # FFmpeg itself takes an unknown option without a word.
    for key in asked:
        if key not in supported_options(name):
            near = _near(key, supported_options(name))
            raise EncoderUsageError(
                f"{name} has no option {key!r}{f'; did you mean {near!r}?' if near else '.'}"
            )


def _near(key: str, names: frozenset[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, sorted(names), 1)), None)


def parameters_key(name: str) -> str | None:
    """The option that takes the encoder library's own ``key=value:…`` parameters."""
    return _KNOWN.get(name, _Encoder()).parameters
