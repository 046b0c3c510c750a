"""Forecast what follows a video's last frame, or any other of its frames, from file to file.

The context is read first, by a seek to shortly before the place where the forecast begins. Then
the source's frames pass through untouched, and the forecast follows them: made in steps of content
where frames repeat regularly (24 fps material in a 30 fps file), with the cadence put back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudconv.engine.device import choose_device, choose_precision, precision_name, set_threads
from cloudconv.engine.memory import is_out_of_memory
from cloudconv.engine.pipeline import prefetch
from cloudconv.errors import DeviceError, InputError, SettingsError
from cloudconv.jobs.context import WINDOW, Context, gather
from cloudconv.jobs.output import origin, output_path, time_base
from cloudconv.jobs.schedule import SceneCut, look
from cloudconv.media.carry import Carry
from cloudconv.media.color import color_space, from_rgb, make_picture, to_rgb
from cloudconv.media.encoders import EncodeSettings, choose
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.probe import MediaInfo, probe
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.media.target import check_output, container_of
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.timeline import format_rate

DEFAULT = "flow"
"""The predictor that is used when none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolateSettings:
    """What to do; exactly one of ``frames`` and ``seconds``.

    ``at``: where the forecast begins, in seconds from the first frame (frames from there on are not
    looked at, and not in the output); None for the end. ``only_new``: leave the source's frames
    out of the output. Raises :class:`SettingsError` on values out of range.
    """

    input: Path | str
    output: Path | str | None = None
    frames: int | None = None
    seconds: Fraction | None = None
    at: Fraction | None = None
    model: str = DEFAULT
    only_new: bool = False
    scene_cut: SceneCut = "auto"
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    overwrite: bool = False
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if (self.frames is None) == (self.seconds is None):
            given = "both" if self.frames is not None else "neither"
            raise SettingsError(f"Give exactly one of frames and seconds; got {given}.")
        if self.frames is not None and self.frames < 1:
            raise SettingsError(f"The number of frames must be 1 or more, got {self.frames}.")
        if self.seconds is not None and self.seconds <= 0:
            raise SettingsError(f"The seconds must be above 0, got {float(self.seconds):g}.")
        if self.at is not None and self.at <= 0:
            raise SettingsError(
                f"A forecast needs frames before it, so at must be above 0, got {float(self.at):g}."
            )
        if not isinstance(self.scene_cut, str) and not 0 <= self.scene_cut <= 1:
            raise SettingsError(
                f"scene_cut must be auto, off or between 0 and 1, got {self.scene_cut:g}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    frames_done: int
    frames_expected: int
    new_frames: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolateOutcome:
    """What a plan and a result both say; the fields are keys of the command's JSON.

    ``context_frames``: how many frames the model saw; ``source_frames``: how many of the source's
    are in the output. ``at``: where the forecast begins, in seconds from the source's first frame.
    ``cadence``: how frames repeat, if they do so regularly.
    """

    input: str
    output: str
    model: str
    device: str
    precision: str
    context_frames: int
    source_frames: int
    new_frames: int
    output_frames: int
    at: float
    cadence: str | None
    source_fps: str | None
    output_fps: str | None
    duration: float
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolatePlan(ExtrapolateOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` are estimates for this machine."""

    encoder: str
    pix_fmt: str
    memory_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolateResult(ExtrapolateOutcome):
    """What was done."""

    wall_seconds: float
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class _Job:
    """Settings and source brought together: everything decided before the first frame.

    ``begins`` is the new frames' first time on the source's clock, ``step`` their distance.
    """

    settings: ExtrapolateSettings
    info: MediaInfo
    output: Path
    context: Context
    need: int
    begins: Fraction
    step: Fraction
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[str, ...]

    @property
    def new_frames(self) -> int:
        s = self.settings
        return s.frames if s.frames is not None else ceil((s.seconds or 0) / self.step)


def run(
    settings: ExtrapolateSettings, on_progress: Callable[[Progress], None] | None = None
) -> ExtrapolateResult:
    """Forecast what follows ``settings.input`` into a new file and say what was done.

    The target appears only when it is whole. Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    with ExitStack() as stack:
        job = _prepare(settings, stack)
        model = registry.load_predictor(settings.model, job.device, job.dtype)
        source = stack.enter_context(_source(job.info, settings))
        passing = iter(()) if settings.only_new else source.frames()
        first = next(passing, None)
        zero = job.begins if first is None else origin(job.info, first)
        sink = stack.enter_context(_sink(job, zero, first))
        pictures = stack.enter_context(prefetch(_pictures(job, model, first, passing), 4))
        written = new = 0
        for frame in pictures:
            lasts = frame.duration if job.info.timing.rate is None else job.step
            sink.write(frame.at(frame.time - zero, lasts))
            written += 1
            new += frame.time >= job.begins
            if on_progress is not None:
                on_progress(
                    Progress(
                        frames_done=written,
                        frames_expected=_expected(job),
                        new_frames=new,
                        seconds=time.monotonic() - began,
                    )
                )
    # What the sink says of slow motion is true of a forecast alone: nothing runs beside it.
    left_out = [
        m.replace("it runs at the old speed", "nothing is new in it") for m in sink.warnings
    ]
    warnings = dict.fromkeys([*job.warnings, *source.warnings, *left_out])
    wall = time.monotonic() - began
    end = job.begins + new * job.step
    return ExtrapolateResult(
        **_found(job),
        source_frames=written - new,
        output_frames=written,
        duration=float(end - (job.begins if first is None else first.time)),
        wall_seconds=wall,
        frames_per_second=written / wall,
        warnings=list(warnings),
    )


def plan(settings: ExtrapolateSettings) -> ExtrapolatePlan:
    """What :func:`run` would do: only the context is read, nothing is made or written.

    The time is that of the network alone, from a trial on a small picture.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    set_threads(settings.threads)
    with ExitStack() as stack:
        job = _prepare(settings, stack)
    info = job.info
    choice = choose(
        container_of(job.output), info.working_pix_fmt, info.width, info.height, settings.encode
    )
    spec = registry.spec(settings.model, "predict")
    expected = _expected(job)
    start = job.begins if settings.only_new else info.timing.start
    return ExtrapolatePlan(
        **_found(job),
        source_frames=expected - job.new_frames,
        output_frames=expected,
        duration=float(job.begins + job.new_frames * job.step - start),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=spec.bytes_per_pixel * info.width * info.height,
        seconds=job.new_frames * _seconds_per_frame(job),
        warnings=[*job.warnings, *choice.warnings],
    )


def _prepare(settings: ExtrapolateSettings, stack: ExitStack) -> _Job:
    spec = registry.spec(settings.model, "predict")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    info = probe(settings.input)
    output = output_path(settings.output, settings.input, info, "forecast", info.timing.rate)
    check_output(output, overwrite=settings.overwrite, inputs=[info.path])
    timing = info.timing
    length = timing.end - timing.start
    if settings.at is not None and settings.at > length:
        raise InputError(
            f"{info.path} lasts {float(length):g} s, so nothing is known at "
            f"{float(settings.at):g} s: choose an earlier time."
        )
    context = _context(settings, info, spec.context, stack)
    _check_context(context, info, settings, spec.context)
    warnings = list(info.warnings)
    if len(context.frames) < spec.context:
        since = "since a cut" if context.cut is not None else "in the video"
        warnings.append(
            f"{spec.name} looks at {spec.context} frames, and there are {len(context.frames)} "
            f"{since}: the first of them stands in for those that are missing."
        )
    last = context.last
    step = 1 / timing.rate if timing.rate is not None else context.gap or timing.last_duration
    return _Job(
        settings=settings,
        info=info,
        output=output,
        context=context,
        need=spec.context,
        begins=last.time + last.duration,
        step=step,
        device=device,
        dtype=dtype,
        warnings=tuple(warnings),
    )


def _context(
    settings: ExtrapolateSettings, info: MediaInfo, size: int, stack: ExitStack
) -> Context:
    """Look at the last frames before the forecast, and at more where they all are alike."""
    timing = info.timing
    length = timing.end - timing.start
    end = length if settings.at is None else settings.at
    span = WINDOW * length / timing.frames
    while True:
        start = end - span
        # A source of standard input ends with its close, so both that are opened stay open.
        source = stack.enter_context(
            Source(
                info,
                start=start if start > 0 else None,
                end=settings.at,
                threads=settings.threads,
            )
        )
        context = gather(look(_or_none(source, start), settings.scene_cut), size)
        if context is not None and (len(context.frames) >= size or context.cut is not None):
            return context
        if start <= 0:
            break
        span *= 4
    if context is None:
        raise InputError(f"{info.path} has no frame before {float(end):g} s: choose a later time.")
    return context


def _or_none(source: Source, start: Fraction) -> Iterator[Frame]:
    """The frames; an empty part, which a sparse video may have, is no error if there is more."""
    found = False
    try:
        for frame in source.frames():
            found = True
            yield frame
    except InputError:
        if found or start <= 0:
            raise


def _check_context(
    context: Context, info: MediaInfo, settings: ExtrapolateSettings, need: int
) -> None:
    if len(context.frames) >= min(need, 2):
        return
    if context.cut is not None:
        at = float(context.cut - info.timing.start)
        raise InputError(
            f"{info.path} has a cut at {at:g} s and a single frame after it, and {settings.model} "
            "needs two or more of a scene: forecast from another time with at, or turn "
            "scene_cut off."
        )
    raise InputError(
        f"{info.path} has a single frame to forecast from, and {settings.model} needs two or more."
    )


def _source(info: MediaInfo, settings: ExtrapolateSettings) -> Source:
    return Source(info, end=settings.at, threads=settings.threads)


def _sink(job: _Job, zero: Fraction, first: Frame | None) -> Sink:
    settings, timing = job.settings, job.info.timing
    # Sound ends where the source does; with at, where the part of it that is used does.
    end = None if settings.at is None else job.begins
    carry = Carry(job.info, zero, None, end, audio=not settings.only_new)
    offset = Fraction(0) if first is None else first.time - zero
    return Sink(
        job.output,
        job.info,
        rate=timing.rate,
        time_base=time_base(
            timing.rate, (timing.time_base, timing.last_duration, job.step), offset
        ),
        settings=settings.encode,
        carry=carry,
    )


def _pictures(
    job: _Job, model: Predictor, first: Frame | None, passing: Iterator[Frame]
) -> Iterator[Frame]:
    """The source's frames, then the forecast; all on the source's clock."""
    if first is not None:
        yield first
    yield from passing
    beat = job.context.beat()
    forecast = _forecast(job, model)
    shown = job.context.frames[-1]
    for number, repeats in enumerate(islice(beat, job.new_frames)):
        if not repeats:
            shown = next(forecast)
        yield shown.at(job.begins + number * job.step, job.step)


def _forecast(job: _Job, model: Predictor) -> Iterator[Frame]:
    """Without an end: the frames that follow the context, in steps of content."""
    frames = job.context.frames
    frames = (frames[0],) * (job.need - len(frames)) + frames
    last = frames[-1]
    form = layout(last.pix_fmt)
    space = color_space(last.tags, form, last.width, last.height)
    colours = 3 if form.family != "gray" else 1
    try:
        with torch.inference_mode():
            seen = [
                to_rgb([p.to(job.device) for p in frame.planes()[:colours]], form, space)
                for frame in frames
            ]
            made = model.forecast(torch.stack(seen)[None], job.new_frames)
        for _ in range(job.new_frames):
            with torch.inference_mode():
                rgb: Tensor = next(made)[0]
                planes = [plane.cpu() for plane in from_rgb(rgb, form, space)]
            # A model knows nothing of opacity: it stays as it was.
            planes += [plane.clone() for plane in last.planes()[colours:]]
            picture = make_picture(planes, last.pix_fmt, last.width, last.height)
            yield Frame(picture, Fraction(0), Fraction(0), last.tags)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{job.device} ran out of memory on a {last.width}x{last.height} frame: close other "
            "programs, use another device, or a smaller copy of the video."
        ) from error


def _expected(job: _Job) -> int:
    """About how many frames the output will have."""
    if job.settings.only_new:
        return job.new_frames
    timing = job.info.timing
    share = (job.begins - timing.start) / (timing.end - timing.start)
    return round(timing.frames * min(share, Fraction(1))) + job.new_frames


def _seconds_per_frame(job: _Job) -> float:
    """Time one new frame of a small size, twice, and scale the second by the number of pixels."""
    side = 128
    model = registry.load_predictor(job.settings.model, job.device, job.dtype)
    context = torch.rand(1, job.need, 3, side, side, device=job.device)
    for _ in range(2):
        began = time.perf_counter()
        model.predict(context).cpu()
    return (time.perf_counter() - began) * job.info.width * job.info.height / side**2


def _found(job: _Job) -> dict[str, Any]:
    """The fields that a plan and a result share."""
    rate = job.info.timing.rate
    named = None if rate is None else format_rate(rate)
    return {
        "input": str(job.settings.input),
        "output": str(job.output),
        "model": job.settings.model,
        "device": str(job.device),
        "precision": precision_name(job.dtype),
        "context_frames": min(len(job.context.frames), job.need),
        "new_frames": job.new_frames,
        "at": float(job.begins - job.info.timing.start),
        "cadence": job.context.cadence,
        "source_fps": named,
        "output_fps": named,
    }
