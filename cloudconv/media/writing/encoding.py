"""Plan the encoding of an output, and encode.

The plan has the encoder, its clock, and warnings about lost contents. `Encoder` makes
packets of frames. Encoders only log what they refuse, see `open_strictly`.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cache
from math import lcm
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
from av.container import OutputContainer

from cloudconv.errors import EncoderError, EncoderUsageError
from cloudconv.events import Warned, Warnings
from cloudconv.media.carried.carry import Carry
from cloudconv.media.colour.convert import (
    UPRIGHT,
    Turn,
    encoder_picture,
    output_tags,
    turn_of,
)
from cloudconv.media.containers.containers import MOST_TICKS, Content, container_of
from cloudconv.media.containers.ffmpeg import (
    LogLine,
    log_lines,
    reason_of,
    tidy,
    unchanged_priority,
)
from cloudconv.media.containers.input import is_stdout
from cloudconv.media.containers.sidedata import CAPTIONS, KINDS, Captions, keep, left_out
from cloudconv.media.frames.filters import Chain
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame, MediaInfo
from cloudconv.media.writing.encoders import (
    DEFAULTS,
    EncoderChoice,
    choose,
    codec_of,
    supported_options,
)
from cloudconv.media.writing.known_encoders import known_encoder
from cloudconv.media.writing.output import check_rate, too_close
from cloudconv.messages import short
from cloudconv.settings import EncodeSettings

_ZERO = Fraction(0)
_STAND_IN_RATE = Fraction(30)  # frames per second, for encoders of a variable rate
# Names of codecs, and the most samples of a picture and of a second that phones and TVs
# decode: level 5.2 of H.264, and level 6.1 of HEVC.
_PLAYED = {
    "h264": ("H.264", 9_437_184, 530_841_600),
    "hevc": ("HEVC", 35_651_584, 2_139_095_040),
}
_FEW = 2  # at most so many pictures get arbitrary decode times from libx265, as one shows
_SIDE = 256  # side in pixels of the picture that tests whether an encoder works


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingDraft:
    """The settings of an encoding that do not depend on the times of the frames."""

    target: Path  # the final name of the output
    info: MediaInfo  # of the source, with the width and height of the written pictures
    turn: Turn  # the rotation of the pictures before they are encoded
    choice: EncoderChoice
    rate: Fraction | None  # the constant rate; None for a variable one
    tags: ColorTags  # of the output
    threads: int | None  # of the encoder; None for its default
    # About the choice, and contents that the output cannot store.
    warnings: tuple[Warned, ...] = ()

    def at(
        self,
        spans: Iterable[Fraction] = (),
        offset: Fraction = _ZERO,
        carry: Carry | None = None,
    ) -> "EncodingPlan":
        """Return the complete plan, whose first frame is shown at ``offset``, in seconds.

        At a variable rate all times of the frames are sums of ``spans``, in seconds, and of
        ``offset``.
        """
        decided = {field.name: getattr(self, field.name) for field in fields(EncodingDraft)}
        return EncodingPlan(
            **decided, tick=_tick(self, spans, offset), offset=offset, carry=carry
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingPlan(EncodingDraft):
    """The settings of an encoding, its clock, and the other contents of the output."""

    tick: Fraction  # of the encoder's clock, in seconds
    offset: Fraction  # the time of the first frame, in seconds
    carry: Carry | None  # the contents to carry over from the source

    def add_video(self, out: OutputContainer) -> Any:
        """Return a video stream with an encoder, added to ``out``.

        The encoder is opened later.
        """
        # Encoders adapt the quality to the rate, so a variable rate needs a plausible
        # substitute. libvpx refuses a rate with less than one tick per frame.
        rate = self.rate or min(_STAND_IN_RATE, 1 / self.tick)
        options = dict(self.choice.options)
        parameters = known_encoder(self.choice.encoder).parameters
        if parameters is not None:
            options = parameters.joined(options, *parameters.for_this_processor())
        info = self.info
        formats = (layout(info.working_pix_fmt), layout(self.choice.working))
        shifts = {(form.chroma_shift_x, form.chroma_shift_y) for form in formats}
        if info.chroma_location is not None and len(shifts) == 1 and shifts != {(0, 0)}:
            options["chroma_sample_location"] = info.chroma_location
        stream: Any = out.add_stream(self.choice.encoder, rate=rate, options=options)
        context = stream.codec_context
        tags = self.tags
        container = container_of(self.target)
        if keep(stream, info, container):
            context.framerate = rate
        context.width, context.height = info.width, info.height
        context.pix_fmt = "pal8" if container.has_palette else self.choice.pix_fmt
        if container.is_folder:
            context.framerate = Fraction(0)  # EXR pictures would state a rate
        context.time_base = self.tick
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        context.colorspace = tags.matrix
        context.color_range = tags.range
        context.sample_aspect_ratio = info.aspect or Fraction(1)
        if self.choice.codec_tag is not None:
            context.codec_tag = self.choice.codec_tag
        # By default, PyAV allows slice threads only, with which libx264 compresses worse.
        context.thread_type = "AUTO"
        context.thread_count = self.threads or 0
        return stream


def draft_encoding(
    path: Path,
    info: MediaInfo,
    *,
    rate: Fraction | None,
    settings: EncodeSettings = DEFAULTS,
    carries: bool = False,
) -> EncodingDraft:
    """Choose the encoder of an output with the final name ``path``.

    ``rate`` is the exact constant rate; None for a variable one. ``carries``: whether the
    output gets the other contents of the source. Raises EncoderError if the encoder is
    missing, or the container refuses it, and OutputError if the output cannot store the
    rate.
    """
    container = container_of(path)
    turn = UPRIGHT if Content.ROTATION in container.keeps else turn_of(info.display_matrix)
    info = (turn or UPRIGHT).info(info)
    choice = choose(container, info, settings)
    info = replace(info, width=choice.size[0], height=choice.size[1])
    check_rate(path, rate)
    draft = EncodingDraft(
        target=path,
        info=info,
        turn=turn or UPRIGHT,
        choice=choice,
        rate=rate,
        tags=output_tags(info, choice.encoder, choice.working),
        threads=settings.threads,
    )
    losses = _losses(draft, carries=carries)
    refused = [
        Warned(f"few-devices: Phones and TVs refuse {text}.") for text in _refused(draft)
    ]
    return replace(draft, warnings=(*choice.warnings, *losses, *refused))


def _tick(plan: EncodingDraft, spans: Iterable[Fraction], offset: Fraction) -> Fraction:
    """Return the length of a tick in seconds, such that all output times are whole ticks.

    If that is too short for a file, only the times without ``offset`` are whole ticks, or
    they are rounded to a tick of the finest clock.
    """
    container = container_of(plan.target)
    # Encoders of video adapt their quality to the clock, and the muxer rounds their times.
    if container.clock is not None and container.has_one_encoder:
        return container.clock
    finest = known_encoder(plan.choice.encoder).finest
    even = (
        lcm(*(s.denominator for s in spans)) if plan.rate is None else plan.rate.numerator
    )
    most = MOST_TICKS if plan.rate is None else finest
    exact = lcm(even, offset.denominator)
    return Fraction(
        1, min(next((n for n in (exact, even) if n <= most), 1_000_000), finest)
    )


def _losses(plan: EncodingDraft, *, carries: bool) -> Iterator[Warned]:
    """Yield a warning that names the contents of the source which the output cannot hold.

    ``carries``: see :func:`draft_encoding`.
    """
    info = plan.info
    container = container_of(plan.target)
    keeps = container.keeps
    known = known_encoder(plan.choice.encoder)
    packs = known.parameters is not None and bool(known.parameters.packing)
    states_aspect = known.states_aspect or not is_stdout(plan.target)
    looks = "narrow" if (info.aspect or 1) > 1 else "wide"
    kinds = sorted({kind for kind, _ in info.streams}) + ["chapters"] * (info.chapters > 0)
    shape = f"sample aspect ratio {info.aspect}, without which pictures look too {looks}"
    contents = {
        **dict.fromkeys(left_out(info, container, packs=packs), True),
        shape: info.aspect and not (Content.ASPECT in keeps and states_aspect),
        "rotation, which is not a quarter turn": Content.ROTATION not in keeps
        and turn_of(info.display_matrix) is None,
        "uneven timing": container.is_folder and plan.rate is None,
        ", ".join(kinds): carries and kinds and Content.STREAMS not in keeps,
    }
    lost = [words for words, is_lost in contents.items() if is_lost]
    if lost:
        by = "" if container.has_one_encoder else f" by {plan.choice.encoder}"
        yield Warned(
            f"not-kept: {container.name}{by} cannot hold these parts of the source, which "
            f"are left out: {'; '.join(lost)}."
        )


def _refused(plan: EncodingDraft) -> Iterator[str]:
    """Yield what decoders of hardware refuse, and the option that avoids it."""
    info = plan.info
    encoder = plan.choice.encoder
    codec = codec_of(encoder)
    depth = layout(plan.choice.working).depth
    if encoder == "libx264" and depth > 8:
        yield f"H.264 of {depth} bits: give --encoder=libx265"
    elif encoder == "libx264" and plan.choice.options.get("crf") == "0":
        yield "lossless H.264: give --crf=1"
    samples = info.width * info.height
    rate = plan.rate or Fraction(0)
    fitting = [
        name
        for name, (_, picture, second) in _PLAYED.items()
        if samples <= picture and samples * rate <= second
    ]
    if codec in _PLAYED and codec not in fitting:
        advice = "give --encoder=libx265" if fitting else "choose a lower rate"
        name, *_ = _PLAYED[codec]
        pictures = f"{info.width}x{info.height} at {short(float(rate))} frames a second"
        yield f"{name} of {pictures}: {advice}"


class Shown(NamedTuple):
    """The frames of an output: their number, and times of the last one in seconds."""

    frames: int = 0
    last: Fraction = Fraction(0)  # its time
    end: Fraction = Fraction(0)
    lasts: Fraction = Fraction(0)  # 0 if packets were copied


class Encoder:
    """An encoder of frames into packets, whose times are in ticks of the plan.

    ``stream`` is its video stream in ``out``, whose encoder `open_strictly` opens.
    ``shown`` are the frames so far.
    """

    def __init__(
        self, plan: EncodingPlan, out: OutputContainer, warnings: Warnings
    ) -> None:
        self.stream = plan.add_video(out)
        self.shown = Shown()
        self._plan = plan
        self._warnings = warnings
        self._container = container_of(plan.target)
        self._palette: Chain | None = None
        stores = "a53cc" in supported_options(plan.choice.encoder)
        size = plan.info.width, plan.info.height
        self._captions = Captions(*size, plan.choice.pix_fmt) if stores else None
        # Of the pictures in the encoder, by time in ticks.
        self._durations: dict[int, int] = {}
        self._last = -1  # the time of the last picture in ticks

    @property
    def extradata_hash(self) -> str:
        """Return a hash of the data that a decoder needs at first."""
        return hashlib.sha256(self.stream.codec_context.extradata or b"").hexdigest()

    def encode(self, frame: Frame) -> list[Any]:
        """Encode a frame without changing the frame's picture; return finished packets.

        ``frame.time`` is on the output's clock, at least 0, and later than the time of the
        frame before. Raises OutputError if players cannot show frames so close to each
        other, or the container cannot store so long a frame.
        """
        plan = self._plan
        container = self._container
        counts = self.shown
        tick = round(frame.time / plan.tick)
        end = round((frame.time + frame.duration) / plan.tick)
        frame = replace(frame, picture=plan.turn.picture(frame.picture, plan.choice.size))
        gap = 1 if container.fastest is None else round(1 / (container.fastest * plan.tick))
        if counts.frames and tick - self._last < gap:
            # The frame is too close to the frame before: players need a larger gap, or the
            # clock is so coarse that both frames have the same tick.
            if container.fastest is not None:
                raise too_close(container)
            tick = self._last + 1
        container.check_span(frame.time, frame.duration, plan.tick)
        picture = self._prepared(frame)
        picture.pts = tick
        picture.time_base = plan.tick
        lasts = self._durations[tick] = max(end - tick, 1)
        packets = self._timed(self.stream.encode(picture))
        self._last = tick
        self.shown = Shown(
            counts.frames + 1, frame.time, (tick + lasts) * plan.tick, lasts * plan.tick
        )
        return packets

    def flush(self) -> list[Any]:
        """Return the last packets."""
        packets = self._timed(self.stream.encode(None))
        if self.shown.frames <= _FEW:
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def _prepared(self, frame: Frame) -> Any:
        """Return the picture in the encoder's pixel format, with its captions."""
        choice = self._plan.choice
        picture = encoder_picture(
            frame, pix_fmt=choice.pix_fmt, working=choice.working, tags=self._plan.tags
        )
        if self._container.has_palette:
            self._palette = self._palette or Chain(picture, reduces=True)
            (picture,) = self._palette.push(picture, self.shown.frames)
        if frame.captions and self._captions is not None:
            return self._captions.add(picture, frame.captions)
        if frame.captions:
            self._warnings.add(
                Warned(
                    f"captions-lost: The {KINDS[CAPTIONS]} of the source cannot be written "
                    f"by {choice.encoder}, and will be missing; libx264 and libx265 write "
                    "them."
                )
            )
        return picture

    def _timed(self, packets: list[Any]) -> list[Any]:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
        return packets


def open_strictly(choice: EncoderChoice, start: Any) -> None:
    """Call ``start``, which opens the encoder; raise EncoderError if it does not start.

    The same error is raised for a refused parameter, which the encoder libraries only log.
    """
    log: list[LogLine] = []
    try:
        with log_lines() as log, unchanged_priority():
            start()
    except (MemoryError, BlockingIOError):  # the machine refuses, not the encoder
        raise
    except (av.error.FFmpegError, NotImplementedError, ValueError) as error:
        lines = [line for _, _, line in log if line.strip()] or [reason_of(error)]
        options = ", ".join(f"{key}={value}" for key, value in choice.options.items())
        works = encoder_state(choice.encoder) == "works"
        raise (EncoderUsageError if works else EncoderError)(
            f"encoder-not-started: {choice.encoder} did not start with {choice.pix_fmt} "
            f"and {options or 'no options'} ({'; '.join(map(tidy, lines))}): give other "
            "options, or another --encoder."
        ) from error
    for _, name, line in log:
        if name == choice.encoder and tidy(line).startswith(
            ("Error parsing option", "Unknown option", "Invalid value")
        ):
            parameters = known_encoder(choice.encoder).parameters
            option = "an option" if parameters is None else parameters.option
            raise EncoderUsageError(
                f"encoder-refuses-option: {choice.encoder} does not accept the value of "
                f"{option} ({tidy(line)}): give another value."
            )


@cache
def encoder_state(name: str) -> Literal["works", "missing", "fails"]:
    """Encode a test picture, and return the state of the encoder on this machine.

    "missing": FFmpeg was built without the encoder. "fails": the encoder makes no packet.
    """
    if name not in av.codec.codecs_available:
        return "missing"
    formats = [f.name for f in av.codec.Codec(name, "w").video_formats or ()]
    picture = av.VideoFrame(_SIDE, _SIDE, "yuv420p" if "yuv420p" in formats else formats[0])
    picture.pts = 0
    picture.time_base = Fraction(1, 25)
    context: Any = av.CodecContext.create(name, "w")
    context.width = context.height = _SIDE
    context.pix_fmt = picture.format.name
    context.time_base = Fraction(1, 25)
    context.options = dict(known_encoder(name).options)
    try:
        with unchanged_priority():
            context.open()
        packets = [*context.encode(picture), *context.encode(None)]
    except av.error.FFmpegError:
        return "fails"
    return "works" if any(packet.size for packet in packets) else "fails"
