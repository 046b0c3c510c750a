"""Choose the encoder and its pixel format."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from functools import cache

import av
import av.codec.codec
import av.error

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.events import Warned
from cloudconv.media.containers import CONTAINERS, Container
from cloudconv.media.formats import PixelLayout, is_exact, is_float, layout, working_format
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.encoder_options import (
    DEFAULTS,
    EncoderChoice,
    known_encoder,
    options_for,
)
from cloudconv.settings import EncodeSettings

# SVT-AV1 reads this variable when SVT-AV1 starts. Without the variable, SVT-AV1 writes more than
# errors to standard error.
os.environ.setdefault("SVT_LOG", "1")

NVENC = "nvenc"
"""The name for an encoder of NVIDIA GPUs whose codec is chosen by container and bit depth."""

SOURCE = "source"
"""The name for the encoder of the source's codec."""

# The encoders of each codec for video editing, which keeps its codec by default.
_EDITED = {"cfhd": ("cfhd",), "dnxhd": ("dnxhd",), "prores": ("prores_ks",), "v210": ("v210",)}
# The encoders of each other codec that ``source`` keeps. Others, such as mpeg4 and mpeg2video, do
# not accept all frame rates.
_OF_CODEC = {
    "av1": ("libsvtav1",),
    "h264": ("libx264", "libx264rgb"),
    "hevc": ("libx265",),
    "vp9": ("libvpx-vp9",),
    **{
        name: (name,)
        for name in (
            *("ffv1", "ffvhuff", "huffyuv", "magicyuv", "mjpeg", "png", "qtrle", "rawvideo"),
            "utvideo",
        )
    },
}


def choose_for(container: Container, info: MediaInfo, settings: EncodeSettings) -> EncoderChoice:
    """Return the choice for a source; see :func:`choose`.

    Video in an editing codec keeps its codec if the container and the size allow the codec, unless
    any encoder setting but ``threads`` is given. In MP4 and MOV, a single picture becomes 4:2:0,
    and so do pictures and animations that are not YUV, because few players show RGB in these
    containers. A transparent source becomes 4:2:0 in MP4, for which no encoder keeps transparency,
    and stays transparent in MOV. None of these rules applies if an encoder or a pixel format is
    requested.
    """
    requested, settings = settings, _with_codec(container, info, settings)
    source, curve = layout(info.working_pix_fmt), info.tags.hdr
    free = settings.encoder is None and settings.pix_fmt is None
    is_still = info.reader.is_pictures and info.timing.frames == 1
    drawn = source.alpha or is_still or (info.reader.is_drawn and source.family != "yuv")
    keeps_alpha = source.alpha and container.keeps_alpha
    becomes_plain = free and drawn and container.needs_plain and not keeps_alpha
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
    made = av.codec.Codec(choice.encoder, "w").canonical_name
    if requested.encoder == SOURCE and made != info.codec:
        choice = replace(
            choice,
            warnings=(
                Warned(
                    f"encoder-not-of-source: The codec {info.codec} of the source cannot be "
                    f"written in {container.name} here: {choice.encoder} is used."
                ),
                *choice.warnings,
            ),
        )
    if becomes_plain and choice.working != info.working_pix_fmt:
        # This warning replaces the warnings of `choose`.
        first = [w for w in choice.warnings if w.code == "encoder-not-of-source"]
        opaque = " without transparency" if source.alpha else ""
        return replace(
            choice,
            warnings=(
                *first,
                Warned(
                    f"few-players: Few players show {info.working_pix_fmt} in {container.name}, so "
                    f"the pictures are converted to {choice.working}{opaque}. To choose "
                    f"another format, give --pix-fmt=yuv444p{depth} or --encoder."
                ),
            ),
        )
    if free and container.needs_plain and made not in (info.codec, *_EDITED):
        choice = _with_players(container, choice)
    if curve is None or container.is_video or is_float(choice.pix_fmt):
        return choice
    flat = Warned(
        f"tones-not-mapped: The source is HDR ({curve}), which {container.name} cannot show: the "
        "pictures look flat and pale. An .mkv or .mp4 keeps HDR."
    )
    return replace(choice, warnings=(*choice.warnings, flat))


def _with_players(container: Container, choice: EncoderChoice) -> EncoderChoice:
    """Return the choice with a warning if few players show its pixel format."""
    kept = layout(choice.working)
    if kept.family != "rgb" and (kept.family == "gray" or kept.chroma_shift_x):
        return choice
    few = Warned(
        f"kept-few-players: Few players show {choice.working} in {container.name}, which keeps "
        "the colours of the source exactly. For a file that most players show, give "
        f"{_plain(kept)}."
    )
    # The warning names the reason for which the encoder is another one.
    others = (w for w in choice.warnings if w.code != "encoder-cannot-hold")
    return replace(choice, warnings=(*others, few))


def _plain(kept: PixelLayout) -> str:
    """Return the option for the pixel format that most players show."""
    return "--pix-fmt=yuv420p" + ("10le" if kept.depth > 8 else "")


def _special(kept: PixelLayout) -> str:
    """Return the contents of a pixel format that few encoders store, in words."""
    special = {"RGB colours": kept.family == "rgb", "transparency": kept.alpha}
    special[f"{kept.depth} bits"] = kept.depth > 8
    return ", ".join(name for name, is_given in special.items() if is_given)


def _with_codec(container: Container, info: MediaInfo, settings: EncodeSettings) -> EncodeSettings:
    """Return the settings with the encoder of the source's codec, if that codec is kept.

    The codec is kept if ``SOURCE`` is requested, or if the codec is for editing and no other
    setting is given. If no encoder of the codec fits the container, the size and the pixel format,
    the settings have no encoder.
    """
    given = settings.encoder, settings.crf, settings.preset, settings.pix_fmt
    free = given == (None,) * 4 and not settings.encoder_option
    names: tuple[str, ...] = _EDITED.get(info.codec, ())
    if settings.encoder == SOURCE:
        names = names or _OF_CODEC.get(info.codec, ())
    elif not free:
        return settings
    wanted = info.working_pix_fmt if settings.pix_fmt is None else _working(settings.pix_fmt)
    for name in _present(names) if container.is_video else ():
        if name in container.refuses or name not in _supported_by(container.muxer):
            continue
        # Codecs for editing have few pixel formats, so the nearest one is used.
        formats = [f for f in _takes(name) if f == wanted or info.codec in _EDITED]
        if any(_fits(name, pix_fmt, info.width, info.height) for pix_fmt in formats):
            return replace(settings, encoder=name)
    return replace(settings, encoder=None)


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

    ``pix_fmt`` is a working format: one of the planar, little-endian integer formats in which
    cloudconv processes pictures. More than 8 bits, or ``hevc``, select HEVC before H.264, because
    more players support such video in HEVC. Each substitution adds a warning to the choice. An
    encoder of ``codec``, the codec of the source, is no substitution.

    Raises:
        EncoderError: an encoder, option, preset or pixel format is unknown, the container refuses
            the encoder, or no encoder fits the size.
    """
    wanted = pix_fmt if settings.pix_fmt is None else _working(settings.pix_fmt)
    if not container.is_video:
        names = _fixed_encoder(container, settings)
    elif settings.encoder == NVENC:
        names = _nvenc(container, layout(wanted), hevc=hevc)
    elif settings.encoder is not None:
        names = (_checked_name(settings.encoder, container),)
    else:
        names = _in_order(container, layout(wanted), hevc=hevc)
    name, picked = _best(container, names, wanted, width, height, exactly=settings.pix_fmt)
    if settings.pix_fmt is not None and settings.pix_fmt in _formats(name):
        picked = settings.pix_fmt
    working = _working(picked)
    warnings: list[Warned] = []
    first = container.encoders[0]
    made = av.codec.Codec(name, "w").canonical_name
    if settings.encoder is None and container.is_video and name != first and made != codec:
        text = (
            f"encoder-few-players: Few players show {wanted} from the encoder {first}, so the "
            f"encoder {name} is used."
        )
        if wanted not in _takes(first):
            what = f" ({special})" if (special := _special(layout(wanted))) else ""
            text = (
                f"encoder-cannot-hold: The encoder {first} cannot hold {wanted}{what}: {name} is "
                "used instead."
            )
            if name == "ffv1":
                other = _plain(layout(wanted))
                text += f" Few players show that; for a file that most players show, give {other}."
        elif not _fits(first, wanted, width, height):
            text = (
                f"encoder-cannot-hold-size: The encoder {first} cannot hold {wanted} at the size "
                f"{width}x{height}: {name} is used instead."
            )
        warnings.append(Warned(text))
    if _is_change_reported(container, wanted, working):
        who = f"{name} in {container.name}" if container.is_video else container.name
        opaque = " Their transparency is dropped." if _alpha_lost(wanted, working) else ""
        warnings.append(
            Warned(
                f"pix-fmt-changed: {who} cannot hold {wanted} at {width}x{height}: the pictures "
                f"are written as {working}.{opaque}"
            )
        )
    return EncoderChoice(
        encoder=name,
        pix_fmt=picked,
        working=working,
        options=options_for(name, working, settings),
        codec_tag=container.hevc_tag if made == "hevc" else None,
        warnings=tuple(warnings),
    )


def _alpha_lost(wanted: str, working: str) -> bool:
    return layout(wanted).alpha and not layout(working).alpha


def _is_change_reported(container: Container, wanted: str, working: str) -> bool:
    if container.is_video:
        return working != wanted
    # Outputs other than video report only fewer bits and lost transparency. A GIF always has few
    # colours, so fewer bits need no warning there.
    coarser = layout(working).depth < layout(wanted).depth and not container.has_palette
    return coarser or _alpha_lost(wanted, working)


def _in_order(container: Container, source: PixelLayout, *, hevc: bool) -> tuple[str, ...]:
    names = container.encoders
    if "libx265" in names and (hevc or source.depth > 8):
        names = ("libx265", *(name for name in names if name != "libx265"))
    if "ffv1" in names and (source.family == "rgb" or source.alpha or source.depth > 10):
        # Few players show these formats from any lossy codec, so lossless FFV1 comes first.
        names = ("ffv1", *(name for name in names if name != "ffv1"))
    return names


def _nvenc(container: Container, source: PixelLayout, *, hevc: bool) -> tuple[str, ...]:
    """Return the encoders of NVIDIA GPUs that the container accepts, the most suitable one first.

    The GPUs encode H.264 with 8 bits only, so HEVC comes first for more bits, and also for HDR.
    """
    names = ["h264_nvenc", "hevc_nvenc", "av1_nvenc"]
    if hevc or source.depth > 8:
        names = [*names[1:], names[0]]
    usable = [n for n in _present(tuple(names)) if n in _supported_by(container.muxer)]
    usable = [name for name in usable if name not in container.refuses]
    if not usable:
        raise EncoderUsageError(
            f"no-nvenc: No encoder of NVIDIA GPUs can be used here in {container.name}: use "
            "another container (.mp4 and .mkv hold all), or another encoder."
        )
    return tuple(usable)


def _fixed_encoder(container: Container, settings: EncodeSettings) -> tuple[str, ...]:
    name = container.encoders[0]
    if settings.encoder not in (None, name):
        raise EncoderUsageError(
            f"fixed-encoder: {container.name} is always written by {name}, so "
            f"{settings.encoder!r} cannot be used: leave --encoder out."
        )
    return (name,)


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
    if codec.name in container.refuses or codec.name not in _supported_by(container.muxer):
        raise EncoderUsageError(
            f"encoder-not-in-container: {container.name} cannot hold what {name} writes: use "
            f"{_present(container.encoders)}, or another container (.mkv holds most)."
        )
    return codec.name


def names_of_encoders() -> list[str]:
    """Return the names of encoders that a user may choose and this FFmpeg has."""
    named = {name for each in CONTAINERS.values() if each.is_video for name in each.encoders}
    for names in (*_EDITED.values(), *_OF_CODEC.values()):
        named.update(names)
    return [SOURCE, NVENC, *_present(tuple(sorted(named)))]


def _present(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if name in av.codec.codecs_available]


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
    chroma = 0, 0
    if wanted.family != "gray" and stored.family != "rgb":
        lost_x = stored.chroma_shift_x - wanted.chroma_shift_x
        lost_y = stored.chroma_shift_y - wanted.chroma_shift_y
        gray = 4 if stored.family == "gray" else 0
        chroma = max(lost_x, 0) + max(lost_y, 0) + gray, max(-lost_x, 0) + max(-lost_y, 0)
    elif wanted.family == "gray" and stored.family == "yuv":
        chroma = 0, 4 - stored.chroma_shift_x - stored.chroma_shift_y
    family = 0 if wanted.family == stored.family else 1 if wanted.family == "gray" else 2
    family += 1 if wanted.family == "gray" and stored.family == "rgb" else 0
    return (
        wanted.alpha and not stored.alpha,
        max(wanted.depth - stored.depth, 0),
        chroma[0],
        family,
        stored.alpha and not wanted.alpha,
        max(stored.depth - wanted.depth, 0),
        chroma[1],
    )


def _best(
    container: Container,
    names: tuple[str, ...],
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
    if exactly is None:
        raise EncoderError(
            f"encoder-size: {' and '.join(names)} cannot encode pictures of {width}x{height}: "
            "choose another encoder or output."
        )
    taken = sorted({f for name in _present(names) for f in _formats(name)})
    raise EncoderError(
        f"encoder-cannot-write: {' and '.join(names)} in {container.name} cannot write {exactly} "
        f"at {width}x{height}: choose one of {', '.join(taken)}."
    )
