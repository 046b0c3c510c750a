"""Choose the encoder of an output, its pixel format and its options."""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import av

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.events import Warned
from cloudconv.media.containers.containers import Container, Content
from cloudconv.media.frames.formats import (
    PixelLayout,
    is_exact,
    is_float,
    layout,
    working_format,
)
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.writing.known_encoders import CrfScale, known_encoder
from cloudconv.messages import did_you_mean, listed, short
from cloudconv.settings import EncodeSettings
from cloudconv.settings.values import pairs

# SVT-AV1 reads this variable when SVT-AV1 starts. Without the variable, SVT-AV1 writes more
# than errors to standard error.
os.environ.setdefault("SVT_LOG", "1")

DEFAULTS = EncodeSettings()
# The default quality on libx264's scale: visually lossless at ordinary viewing.
DEFAULT_CRF = 17.0
_GENERAL_CRF = CrfScale(most=63)  # of an encoder that is not known and has ``crf``

# Options that set the quality. If the user gives one of them, the default quality is not
# set.
_QUALITY = {
    *("crf", "qp", "b", "q", "cq", "qscale"),
    *("global_quality", "lossless", "quality", "rc"),
}
# Codecs for video editing, which a source keeps by default, and their encoders.
_EDITED = {"dnxhd": "dnxhd", "prores": "prores_ks"}


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """The encoder of an output.

    ``pix_fmt`` is the pixel format of the encoder's input, ``working`` the planar format of
    the same samples. ``size``: width and height of the written pictures. ``codec_tag`` is
    the codec's tag of four characters; None for the muxer's default.
    """

    encoder: str
    pix_fmt: str
    working: str
    size: tuple[int, int]
    options: dict[str, str]
    codec_tag: str | None
    warnings: tuple[Warned, ...]


_ALSO_CALLED = {"x264": "libx264", "avc": "libx264", "x265": "libx265", "h265": "libx265"}


def choose(
    container: Container, info: MediaInfo, settings: EncodeSettings
) -> EncoderChoice:
    """Choose the encoder and the pixel format that lose nothing, or least, of a source.

    More than 8 bits, or HDR, select HEVC before H.264, because more players support such
    video in HEVC. Video in an editing codec keeps its codec if the container and the size
    allow the codec, unless any encoder setting but ``threads`` is given. In MP4 and MOV,
    pictures and animations become 4:2:0 of even sides, because few players show RGB, 4:4:4
    or 4:2:2 there, and H.264 needs even sides; MOV keeps transparency. No rule applies if
    an encoder or a pixel format is requested. Each substitution adds a warning to the
    choice.

    Raises EncoderError if an encoder, option, preset or pixel format is unknown, the
    container refuses the encoder, or no encoder fits the size.
    """
    source = layout(info.working_pix_fmt)
    exactly = settings.pix_fmt
    wanted_name = settings.encoder or _same_codec(container, info, settings)
    free = wanted_name is None and exactly is None and container.has_few_formats
    drawn = source.alpha or info.input_format.is_drawn
    becomes_plain = free and drawn and not (source.alpha and container.keeps_alpha)
    wanted = _plain(source) if becomes_plain else info.working_pix_fmt
    wanted = wanted if exactly is None else _working(exactly)
    hevc = info.tags.hdr is not None and not becomes_plain
    names = _candidates(container, layout(wanted), wanted_name, hevc=hevc)
    # One row or column more where 4:2:0 needs even sides.
    more = int(becomes_plain)
    size = info.width + info.width % 2 * more, info.height + info.height % 2 * more
    name, picked = _best(container, names, wanted, size, exactly)
    picked = exactly if exactly in _formats(name) else picked
    working = _working(picked)
    tag = container.hevc_tag if codec_of(name) == "hevc" else None
    options = options_for(name, working, settings, info.profile)
    parameters = known_encoder(name).parameters
    if parameters is not None:
        options = parameters.joined(options, *parameters.about(info))
    choice = EncoderChoice(name, picked, working, size, options, tag, ())
    warnings = _warnings(
        container, info, settings, wanted, choice, is_free=wanted_name is None
    )
    return replace(choice, warnings=tuple(warnings))


def _warnings(
    container: Container,
    info: MediaInfo,
    settings: EncodeSettings,
    wanted: str,
    choice: EncoderChoice,
    *,
    is_free: bool,
) -> Iterator[Warned]:
    name = choice.encoder
    first = container.encoders[0]
    codec = codec_of(choice.encoder)
    source, kept, stored = (
        layout(f) for f in (info.working_pix_fmt, wanted, choice.working)
    )
    size = f"{info.width}x{info.height}"
    is_420 = (stored.chroma_shift_x, stored.chroma_shift_y) == (1, 1)
    is_plain = stored.family == "gray" or (stored.family == "yuv" and is_420)
    is_shown = is_plain or settings.pix_fmt is not None or codec in (info.codec, *_EDITED)
    few = (is_free and container.has_few_formats) or codec == "h264"
    if settings.pix_fmt is None and wanted != info.working_pix_fmt:
        opaque = " without transparency" if source.alpha else ""
        keeping = ".mov and .webm keep the transparency. " if source.alpha else ""
        is_finer = source.family == "yuv" and not source.alpha
        finer = info.working_pix_fmt if is_finer else wanted.replace("420", "444")
        yield Warned(
            f"few-players: Few players show {source.words} in {container.name}, so the "
            f"pictures are converted to {stored.words}{opaque}. {keeping}To choose another "
            f"format, give --pix-fmt={finer} or --encoder."
        )
    elif few and not is_shown:
        yield Warned(
            f"kept-few-players: Few players show {stored.words} in {container.name}, which "
            "keeps the colours of the source exactly. For a file that most players show, "
            f"give --pix-fmt={_plain(stored)}."
        )
    elif is_free and name != first and codec != info.codec:
        shown = "Few players show that; for a file that most players show, give"
        tail = f" {shown} --pix-fmt={_plain(kept)}." if name == "ffv1" else ""
        why = "does not suit" if wanted in _takes(first) else "cannot hold"
        hdr = f" in HDR ({info.tags.hdr})" * (info.tags.hdr is not None)
        yield Warned(
            f"other-encoder: The encoder {first} {why} {kept.words}{hdr} at {size}: {name} "
            f"is used instead.{tail}"
        )
    width, height = choice.size
    if size != f"{width}x{height}":
        yield Warned(
            f"even-sides: {name} needs even sides for 4:2:0, so the last row or column of "
            f"{size} is repeated: the output has {width}x{height}. To keep the size, give "
            "--pix-fmt=yuv444p."
        )
    needs_bits = info.tags.hdr is not None and Content.COLOURS in container.keeps
    if needs_bits and stored.depth < min(source.depth, 10):
        yield Warned(
            f"hdr-few-bits: The source is HDR ({info.tags.hdr}), which needs 10 bits, and "
            f"{choice.working} has {stored.depth}: skies show steps. Give --pix-fmt="
            f"{_plain(source)}."
        )
    loses_alpha = kept.alpha and not stored.alpha
    # Animations and pictures report only fewer bits and lost transparency. A GIF always
    # has few colours, so fewer bits need no warning there.
    coarser = stored.depth < kept.depth and not container.has_palette
    is_fixed = container.has_one_encoder
    if choice.working != wanted and (coarser or loses_alpha or not is_fixed):
        who = container.name if is_fixed else f"{name} in {container.name}"
        opaque = " Their transparency is dropped." if loses_alpha else ""
        yield Warned(
            f"pix-fmt-changed: {who} cannot hold {kept.words} at {size}: the pictures are "
            f"written as {stored.words}.{opaque}"
        )
    if Content.COLOURS not in container.keeps and not is_float(choice.pix_fmt):
        yield from info.tags.flat_in(container.name)


def _plain(kept: PixelLayout) -> str:
    return "yuv420p" + ("10le" if kept.depth > 8 else "")


def codec_of(encoder: str) -> str:
    """Return the name of what an encoder writes, such as ``h264``."""
    return av.codec.Codec(encoder, "w").canonical_name


def _same_codec(
    container: Container, info: MediaInfo, settings: EncodeSettings
) -> str | None:
    """Return the encoder of the source's codec for editing.

    The result is None if the codec is not kept.
    """
    name = _EDITED.get(info.codec)
    changes = settings.crf is not None or settings.preset or settings.pix_fmt
    if name is None or changes or settings.encoder_option or container.has_one_encoder:
        return None
    size = info.width, info.height
    fits = _can_be_in(container, name) and any(
        _fits(name, pix_fmt, size) for pix_fmt in _takes(name)
    )
    return name if fits and present([name]) else None


def _candidates(
    container: Container, wanted: PixelLayout, kept: str | None, *, hevc: bool
) -> list[str]:
    names = list(container.encoders)
    deep = hevc or wanted.depth > 8
    if container.has_one_encoder:
        if kept not in (None, names[0]):
            raise EncoderUsageError(
                f"fixed-encoder: {container.name} is always written by {names[0]}, so "
                f"{kept!r} cannot be used: leave --encoder out."
            )
    elif kept is not None:
        names = [_checked_name(kept, container)]
    elif "ffv1" in names and (wanted.family == "rgb" or wanted.alpha or wanted.depth > 10):
        # Few players show these formats from any lossy codec, so lossless FFV1 comes first.
        names.sort(key=lambda name: (name != "ffv1", name != "libx265" or not deep))
    elif deep:
        names.sort(key=lambda name: name != "libx265")
    return names


def _checked_name(name: str, container: Container) -> str:
    try:
        codec = av.codec.Codec(_ALSO_CALLED.get(name.lower(), name.lower()), "w")
    except av.codec.codec.UnknownCodecError as error:
        encoders = present(("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1"))
        near = did_you_mean(name, [*encoders, *_ALSO_CALLED, *container.encoders])
        raise EncoderUsageError(
            f'unknown-encoder: There is no encoder "{name}" here{near}: choose one, such '
            f"as {', '.join(encoders)}."
        ) from error
    if codec.type != "video":
        raise EncoderUsageError(
            f"not-for-video: {name!r} encodes {codec.type}, not video: choose an encoder "
            "of video."
        )
    if not _can_be_in(container, codec.name):
        raise EncoderUsageError(
            f"encoder-not-in-container: FFmpeg does not write what {name} makes to "
            f"{container.name}: use {listed(present(container.encoders), 'or')}, or "
            "another container (Matroska takes most)."
        )
    return codec.name


def present(names: Iterable[str]) -> list[str]:
    """Return the encoders that this FFmpeg has."""
    return [name for name in names if name in av.codec.codecs_available]


def _can_be_in(container: Container, name: str) -> bool:
    return name not in container.refuses and name in _supported_by(container.muxer)


@cache
def _supported_by(muxer: str) -> frozenset[str]:
    with av.open(io.BytesIO(), "w", format=muxer) as out:
        return frozenset(out.supported_codecs)


def _working(pix_fmt: str) -> str:
    try:
        return working_format(pix_fmt)
    except ValueError as error:
        raise EncoderUsageError(
            f'unknown-pix-fmt: There is no pixel format "{pix_fmt}" that can be written: '
            "choose one such as yuv420p or yuv444p10le."
        ) from error


@cache
def _formats(name: str) -> tuple[str, ...]:
    """Return the encoder's pixel formats that store their working format exactly.

    The floats of EXR count as such.
    """
    accepted = known_encoder(name).accepted
    usable = is_float if accepted.is_float else is_exact
    listed = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    return accepted.formats or tuple(
        f
        for f in listed
        if usable(f) and f not in accepted.refused and not f.startswith("yuvj")
    )


@cache
def _takes(name: str) -> dict[str, str]:
    stored: dict[str, str] = {}
    for pix_fmt in _formats(name):
        working = working_format(pix_fmt)
        if working not in stored or pix_fmt == working:
            stored[working] = pix_fmt
    return stored


def _fits(name: str, pix_fmt: str, size: tuple[int, int]) -> bool:
    return known_encoder(name).accepted.fits(layout(pix_fmt), size)


def _cost(wanted: PixelLayout, stored: PixelLayout) -> tuple[int, ...]:
    """Return the cost of storing pictures in another format.

    Of two costs the first number that differs decides: losses come before samples that are
    stored but not used. A conversion is one between RGB, YUV and gray: 1 from gray to YUV,
    2 between others.
    """
    lost = surplus = 0
    is_gray = wanted.family == "gray" and stored.family == "yuv"
    if is_gray:
        surplus = 4 - stored.chroma_shift_x - stored.chroma_shift_y
    elif wanted.family != "gray" and stored.family != "rgb":
        across = stored.chroma_shift_x - wanted.chroma_shift_x
        down = stored.chroma_shift_y - wanted.chroma_shift_y
        lost = max(across, 0) + max(down, 0) + (4 if stored.family == "gray" else 0)
        surplus = max(-across, 0) + max(-down, 0)
    conversion = 0
    if wanted.family != stored.family:
        conversion = 1 if is_gray else 2
    return (
        wanted.alpha and not stored.alpha,
        max(wanted.depth - stored.depth, 0),
        lost,
        conversion,
        stored.alpha and not wanted.alpha,
        max(stored.depth - wanted.depth, 0),
        surplus,
    )


def _best(
    container: Container,
    names: list[str],
    wanted: str,
    size: tuple[int, int],
    exactly: str | None,
) -> tuple[str, str]:
    """Return the cheapest pair of encoder and pixel format; earlier encoders win ties.

    ``exactly`` is a requested pixel format, whose samples must not change.
    """
    options = []
    for order, name in enumerate(present(names)):
        for working, pix_fmt in _takes(name).items():
            if exactly is not None and (
                working != wanted or is_float(pix_fmt) != is_float(exactly)
            ):
                continue
            if name in container.refuses_alpha and layout(working).alpha:
                continue
            if _fits(name, working, size):
                options.append(
                    (_cost(layout(wanted), layout(working)), order, name, pix_fmt)
                )
    if options:
        return min(options)[2:]
    who = " and ".join(names)
    shape = f"{size[0]}x{size[1]}"
    if exactly is None:
        raise EncoderError(
            f"encoder-size: {who} cannot encode pictures of {shape}: choose another "
            "encoder or output."
        )
    taken = ", ".join(sorted(set().union(*map(_formats, present(names)))))
    raise EncoderError(
        f"encoder-cannot-write: {who} in {container.name} cannot write {exactly} at "
        f"{shape}: choose one of {taken}."
    )


def options_for(
    name: str, working: str, settings: EncodeSettings, profile: str
) -> dict[str, str]:
    """Return the options of an encoder for pictures of the ``working`` format.

    An editing codec keeps the source's ``profile``, if that profile suits such pictures.
    Raises EncoderUsageError for a setting that the encoder does not accept.
    """
    encoder = known_encoder(name)
    own_options = dict(pairs(settings.encoder_option))
    # FFmpeg itself ignores an unknown option.
    for key in own_options.keys() - supported_options(name):
        near = did_you_mean(key, sorted(supported_options(name)))
        raise EncoderUsageError(
            f"unknown-encoder-option: {name} has no option {key!r}{near}."
        )
    options = dict(encoder.options)
    if encoder.profiles and "profile" not in own_options:
        for_full, for_deep, for_8_bits = encoder.profiles
        suitable = for_deep if layout(working).depth > 8 else for_8_bits
        if not working.startswith("yuv422"):
            suitable = for_full
        options["profile"] = suitable.get(profile, next(iter(suitable.values())))
    if layout(working).alpha:
        options |= encoder.alpha_options
    if settings.crf is not None:
        options |= _crf(name, settings.crf)
    elif not _QUALITY & own_options.keys():
        options |= encoder.quality if encoder.crf is None else _crf(name, DEFAULT_CRF)
    if settings.preset is not None:
        options["preset"] = _preset(name, settings.preset)
    for key, value in own_options.items():
        joins = key.endswith("-params") and options.get(key)
        options[key] = f"{options[key]}:{value}" if joins else value
    parameters = encoder.parameters
    if settings.threads and parameters is not None and parameters.threads:
        options = parameters.joined(options, f"{parameters.threads}={settings.threads}")
    return options


def _preset(name: str, preset: str) -> str:
    presets = known_encoder(name).presets
    if presets and preset not in presets:
        raise EncoderUsageError(
            f"unknown-preset: {name} has no preset {preset!r}"
            f"{did_you_mean(preset, presets)}: choose one of {', '.join(presets)}."
        )
    if not presets and "preset" not in supported_options(name):
        raise EncoderUsageError(f"no-presets: {name} has no presets: leave --preset out.")
    return preset


def _crf(name: str, crf: float) -> dict[str, str]:
    encoder = known_encoder(name)
    scale = encoder.crf or _GENERAL_CRF
    if encoder.crf is None and "crf" not in supported_options(name):
        raise EncoderUsageError(
            f"no-crf: {name} has no --crf: set its quality with --encoder-option, or use "
            "libx264."
        )
    if not 0 <= crf <= scale.most:
        raise EncoderUsageError(
            f"crf-out-of-range: --crf={crf:g} is out of range: {name} takes 0 to "
            f"{short(scale.most)}."
        )
    return {**encoder.quality, scale.option: scale.value(crf)}


@cache
def supported_options(name: str) -> frozenset[str]:
    """Return the names of all options of an encoder."""
    context = av.CodecContext.create(name, "w").supported_options
    # FFmpeg's flags of an option: 1 for encoding, 16 for video.
    general = {o.name for o in context.generic if int(o.flags) & 1 and int(o.flags) & 16}
    return frozenset(general | {o.name for o in context.private})
