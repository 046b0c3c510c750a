"""Raise a video's frame rate, from file to file.

Data walks one way: :class:`~cloudconv.media.read.source.Source` decodes, :func:`schedule` decides
what each output frame is made of, :class:`~cloudconv.render.renderer.Renderer` makes the new ones,
and :class:`~cloudconv.media.write.sink.Sink` encodes. Decoding with planning, inference, and
encoding each have a thread of their own, with bounded queues between them. A video is made as
segments, which outlast a crash and are joined in the end; what cannot be joined (standard output,
animations, pictures) is made in one go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import disk_usage
from typing import Any

from cloudconv.errors import CloudconvError, OutputError
from cloudconv.events import Warned
from cloudconv.jobs.interp.plan import VideoPlan, is_joinable, plan_video, renderer_of, source_of
from cloudconv.jobs.interp.preview import Preview
from cloudconv.jobs.interp.queue import FramesMade, rendering
from cloudconv.jobs.interp.settings import InterpPlan, InterpResult, InterpSettings, Progress
from cloudconv.jobs.interp.trial import Trial, measure
from cloudconv.jobs.interp.video import VideoRender
from cloudconv.media.input import images
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.target import container_of, noted
from cloudconv.render.device import (
    precision_name,
    set_threads,
)
from cloudconv.schedule.frames import Counts, schedule
from cloudconv.timeline import (
    format_rate,
)


def run(
    settings: InterpSettings,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[Warned], None] | None = None,
) -> InterpResult:
    """Interpolate ``settings.input`` into a new file and say what was done.

    The target appears only when it is whole. ``on_warning`` gets each of the result's warnings as
    soon as it is known, most of them before the first frame.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.monotonic()
    video = VideoRender(plan_video(settings), on_warning)
    preview = _preview(video.job)
    set_threads(settings.threads)
    made = 0

    def adapting(seconds: float, total: float) -> None:
        tell(0, (seconds, total))

    def tell(more: int, at: tuple[float, float] | None = None) -> None:
        nonlocal made
        made += more
        if on_progress is not None:
            on_progress(
                Progress(
                    frames_done=video.found + made,
                    frames_found=video.found,
                    frames_expected=video.job.expected,
                    new_frames=video.counts.new_frames,
                    cuts=len(video.counts.cuts),
                    seconds=time.monotonic() - began,
                    adapting=at,
                )
            )

    video.on_adapting = adapting
    if video.job.workers.kind == "inline":
        with video.frames() as frames:
            for frame in frames:
                if preview is not None:
                    preview.show(frame)
                tell(1)
    else:
        video.adapt()
        with rendering([lambda: video], video.job.workers) as events:
            for event in events:
                if isinstance(event, FramesMade):
                    tell(event.more)
                elif isinstance(event.outcome, CloudconvError):
                    raise event.outcome
    video.warn(*(preview.warnings if preview is not None else ()))
    return result_of(video)


def result_of(video: VideoRender) -> InterpResult:
    """What is said of a video that has just been finished."""
    seconds = time.monotonic() - video.began
    return InterpResult(
        **_found(video.job, video.counts),
        wall_seconds=seconds,
        frames_per_second=(video.counts.output_frames - video.found) / seconds,
        resumed=video.found > 0,
        adapted=video.adapted,
        encoder=video.encoder,
        warnings=list(video.warnings),
    )


def plan(settings: InterpSettings, inputs: Sequence[Path | str] = ()) -> InterpPlan:
    """What :func:`run` would do: the source is read to its end, a few frames are made on trial.

    Nothing is written, and nothing is refused because it could not be; see ``refusals``.

    ``inputs``: what else the command reads. Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.perf_counter()
    refusals: list[OutputError] = []
    job = plan_video(settings, inputs, refusals)
    info, counts, workers = job.info, Counts(), job.workers
    warnings: dict[Warned, None] = dict.fromkeys(job.remarks)
    set_threads(settings.threads)
    choice = choose_for(container_of(job.output), info, settings.encode)
    with source_of(job) as source:
        opened = time.perf_counter()
        for _ in schedule(source.frames(), job.request, counts):
            pass
        reading = time.perf_counter() - opened
    renderer = renderer_of(job, lambda message: warnings.setdefault(message))
    batch, _, cpu_streams = renderer.plan_once(
        info.width, info.height, 1 if workers.each_gpu else workers.count
    )
    ready = time.perf_counter() - began - reading
    trial: Trial | None = None
    with noted(refusals):
        trial = measure(job, renderer, batch * cpu_streams, counts, reading)
    warnings |= dict.fromkeys(
        [*source.warnings, *choice.warnings, *VideoRender.remarks(job, counts)]
    )
    takes = _disk_bytes(job, counts)
    home = next(folder for folder in job.output.absolute().parents if folder.is_dir())
    if takes > disk_usage(home).free:
        warnings.setdefault(Warned("disk-space", {"bytes": takes, "folder": str(home)}))
    memory, seconds = None, None
    if trial is not None:
        memory = trial.memory_bytes * (workers.count if workers.kind == "local" else 1)
        seconds = ready + trial.expect(counts) / (workers.count if workers.each_gpu else 1)
        seconds += 60 * (settings.adapt or 0)
    return InterpPlan(
        **_found(job, counts),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=memory,
        disk_bytes=takes,
        seconds=seconds,
        adapt=job.settings.adapt,
        warnings=list(warnings),
        refusals=list({str(error): error for error in refusals}.values()),
    )


def _disk_bytes(job: VideoPlan, counts: Counts) -> int:
    read = sum(file.stat().st_size for file in images.files_of(job.info.path))
    made = read * counts.output_frames // max(job.info.timing.frames, 1)
    return made * 2 if is_joinable(job.output) else made


def _preview(job: VideoPlan) -> Preview | None:
    settings = job.settings
    if settings.preview_file is None:
        return None
    return Preview(
        settings.preview_file,
        [job.info.path],
        job.output,
        overwrite=settings.overwrite,
        turn=turn_of(job.info) or UPRIGHT,
    )


def _found(job: VideoPlan, counts: Counts) -> dict[str, Any]:
    """The fields that a plan and a result share."""
    source_rate, start = job.info.timing.rate, job.info.timing.start
    duration = counts.output_frames / job.rate if job.rate else counts.duration
    return {
        "input": str(job.settings.input),
        "output": str(job.output),
        "model": job.settings.chosen_model,
        "device": "cuda:all" if job.workers.each_gpu else str(job.device),
        "precision": precision_name(job.dtype),
        "source_frames": counts.source_frames,
        "output_frames": counts.output_frames,
        "new_frames": counts.new_frames,
        "held_frames": counts.held_frames,
        "cuts": [float(cut - start) for cut in counts.cuts],
        "source_fps": None if source_rate is None else format_rate(source_rate),
        "output_fps": None if job.rate is None else format_rate(job.rate),
        "duration": float(duration),
    }
