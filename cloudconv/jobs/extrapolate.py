"""Forecast what follows a video's last frame, or any other of its frames, from file to file.

The context is read first, by a seek to shortly before the place where the forecast begins. Then
the source's frames pass through untouched, and the forecast follows them: made in steps of content
where frames repeat regularly (24 fps material in a 30 fps file), with the cadence put back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import torch

from cloudconv.errors import InputError, OutputError
from cloudconv.events import Finished, Job, Warned, Warnings
from cloudconv.jobs.extend.context import WINDOW, Context, gather
from cloudconv.jobs.extend.plan import (
    ContinueOutcome,
    ExtendPlan,
    begun,
    enough_memory,
    new_frame,
    write,
)
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.source import Source
from cloudconv.media.write.containers import container_of
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.target import claim
from cloudconv.models import registry
from cloudconv.models.base import Predictor
from cloudconv.render.device import (
    auto_remarks,
    choose_device,
    choose_precision,
    precision_name,
    set_threads,
)
from cloudconv.render.memory import process_memory
from cloudconv.schedule.frames import look
from cloudconv.settings import ExtrapolateSettings, exact

_TRIAL = 4  # frames that a plan makes to tell the time


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolateOutcome(ContinueOutcome):
    """What a plan and a result both say; ``context_frames``: how many frames the model saw."""

    model: str
    context_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolatePlan(ExtrapolateOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` are estimates for this machine.

    ``refusals``: why the run would refuse to write the output.
    """

    pix_fmt: str
    memory_bytes: int
    seconds: float
    refusals: list[OutputError]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtrapolateResult(ExtrapolateOutcome):
    """What was done."""

    wall_seconds: float
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class _Job:
    """Settings and source brought together: everything decided before the first frame."""

    settings: ExtrapolateSettings
    place: ExtendPlan
    context: Context
    need: int
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[Warned, ...]


def run(
    settings: ExtrapolateSettings,
) -> Job:
    """Forecast what follows ``settings.input`` into a new file.

    The target appears only when it is whole.

    Yields:
        Warnings and progress, and in the end an :class:`ExtrapolateResult`.

    Raises:
        CloudconvError: then the output does not exist, or is as it was before.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    with ExitStack() as stack:
        job = _prepare(settings, stack)
        place, warnings = job.place, Warnings()
        yield from warnings.new(job.warnings)
        stack.enter_context(claim(place.output, overwrite=settings.overwrite))
        model = registry.load_predictor(settings.chosen_model, job.device, job.dtype)
        done = yield from write(place, lambda _: _pictures(job, model), warnings)
    wall = time.monotonic() - began
    yield Finished(
        ExtrapolateResult(
            **_found(job),
            **place.told(done),
            wall_seconds=wall,
            frames_per_second=(done.source_frames + done.new_frames) / wall,
            warnings=warnings.said,
        )
    )


def estimate(settings: ExtrapolateSettings) -> ExtrapolatePlan:
    """Say what :func:`run` would do: only the context is read, a few frames are made on trial.

    Nothing is written; the time is that of the new frames.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    set_threads(settings.threads)
    refusals: list[OutputError] = []
    with ExitStack() as stack:
        job = _prepare(settings, stack, refusals)
    place, info = job.place, job.place.info
    choice = choose_for(container_of(place.output), info, settings.encode)
    spec = registry.spec(settings.chosen_model, "predict")
    seconds = _seconds(job)
    return ExtrapolatePlan(
        **_found(job),
        **place.planned(),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=process_memory() or spec.bytes_per_pixel * info.width * info.height,
        seconds=seconds,
        warnings=[*job.warnings, *choice.warnings],
        refusals=refusals,
    )


def _prepare(
    settings: ExtrapolateSettings, stack: ExitStack, refusals: list[OutputError] | None = None
) -> _Job:
    spec = registry.spec(settings.chosen_model, "predict")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    info, output = begun(settings, "forecast", refusals)
    timing = info.timing
    context = _context(settings, info, spec.context + spec.past, stack)
    _check_context(context, info, settings, spec.context)
    warnings = [*info.warnings, *auto_remarks(settings.device)]
    if len(context.frames) < spec.context:
        short = {
            "model": spec.name,
            "needed": spec.context,
            "found": len(context.frames),
            "cut": context.cut is not None,
        }
        warnings.append(Warned("context-short", short))
    last = context.last
    step = 1 / timing.rate if timing.rate is not None else context.gap or timing.last_duration
    return _Job(
        settings=settings,
        place=ExtendPlan(settings, info, output, last.time + last.duration, step),
        context=context,
        need=spec.context,
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
    end = length if settings.at is None else exact(settings.at)
    span = WINDOW * length / timing.frames
    while True:
        start = end - span
        # A source of standard input ends with its close, so both that are opened stay open.
        source = stack.enter_context(
            Source(
                info,
                start=start if start > 0 else None,
                end=exact(settings.at),
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
            f"{info.path} has a cut at {at:g} s and a single frame after it, and "
            f"{settings.chosen_model} needs two or more of a scene: forecast from another "
            "time with `at`, or turn `scene_cut` off."
        )
    raise InputError(
        f"{info.path} has a single frame to forecast from, and {settings.chosen_model} needs two "
        "or more."
    )


def _pictures(job: _Job, model: Predictor) -> Iterator[Frame]:
    """The forecast, on the source's clock."""
    forecast = _forecast(job, model)
    shown = job.context.frames[-1]
    place = job.place
    for number, repeats in enumerate(islice(job.context.beat(), place.new_frames)):
        if not repeats:
            shown = next(forecast)
        yield shown.at(place.begins + number * place.step, place.step)


def _forecast(job: _Job, model: Predictor) -> Iterator[Frame]:
    """Without an end: the frames that follow the context, in steps of content."""
    frames = job.context.frames
    frames = (frames[0],) * (job.need - len(frames)) + frames
    last = frames[-1]
    with enough_memory(job.device, job.place.info):
        with torch.inference_mode():
            seen = torch.stack([rgb_of(frame, job.device) for frame in frames])
            made = model.forecast(seen[None], job.place.new_frames)
        for _ in range(job.place.new_frames):
            with torch.inference_mode():
                frame = new_frame(next(made)[0], last)
            yield frame


def _seconds(job: _Job) -> float:
    """How long the new frames take: some are made, the first of which pays for getting ready."""
    times = [time.perf_counter()]
    model = registry.load_predictor(job.settings.chosen_model, job.device, job.dtype)
    for _ in islice(_pictures(job, model), min(_TRIAL, job.place.new_frames)):
        times.append(time.perf_counter())
    ready, *more = [after - before for before, after in pairwise(times)]
    return ready + (job.place.new_frames - 1) * (sum(more) / len(more) if more else 0.0)


def _found(job: _Job) -> dict[str, Any]:
    """The fields that a plan and a result share, but those of where it is written."""
    return {
        "model": job.settings.chosen_model,
        "device": str(job.device),
        "precision": precision_name(job.dtype),
        "context_frames": min(len(job.context.frames), job.need),
        "cadence": job.context.cadence,
    }
