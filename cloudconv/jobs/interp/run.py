"""Raise a video's frame rate, from file to file.

Data walks one way: :class:`~cloudconv.media.read.source.Source` decodes, :func:`schedule` plans
each output frame, :class:`~cloudconv.render.renderer.Renderer` makes the new ones, and
:class:`~cloudconv.media.write.sink.Sink` encodes. Decoding with planning, inference, and encoding
each have a thread of their own, with bounded queues between them. A video is made as segments,
which outlast a crash and are joined in the end; what cannot be joined (standard output, animations,
pictures) is one segment that goes into the output itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

from cloudconv.errors import CloudconvError, OutputError
from cloudconv.events import Event, Finished, Job, Progress, Warned, Warnings
from cloudconv.jobs.interp.output import (
    Planned,
    adapted_model,
    planned,
    resolve,
    sink_of,
    workplace,
)
from cloudconv.jobs.interp.plan import VideoPlan, decide, is_joinable, renderer_of, source_of
from cloudconv.jobs.interp.preview import Preview
from cloudconv.jobs.interp.settings import InterpPlan, InterpResult, InterpSettings
from cloudconv.jobs.interp.trial import Trial, measure
from cloudconv.media.input import images
from cloudconv.media.pictures import Pictures
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.containers import container_of
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import noted
from cloudconv.render.device import precision_name, set_threads
from cloudconv.render.memory import empty_cache
from cloudconv.render.pipeline import drained, prefetch
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, News, schedule
from cloudconv.segments.plan import RenderPlan
from cloudconv.segments.render import RenderJob, render_segments
from cloudconv.segments.segment import OpenSegment, SegmentPlan, split
from cloudconv.segments.store import SegmentStore, fresh_file
from cloudconv.timeline import format_rate
from cloudconv.workers.events import Done, Failed
from cloudconv.workers.pool import Pool
from cloudconv.workers.segments import SegmentTask, SegmentWork

_PLANNED = 8
"""So many segments more than there are workers are planned ahead: times without pictures."""

Rendering = Generator[tuple[int, Progress | Warned | None], None, None]
"""Numbers of segments with what is told of them; None when one is finished."""


def run(settings: InterpSettings) -> Job:
    """Interpolate ``settings.input`` into a new file.

    The target appears only when it is whole. Closing the iterator ends the run, and keeps what is
    finished.

    Yields:
        Warnings and progress, and in the end an :class:`InterpResult`.

    Raises:
        CloudconvError: then there is no output, or it is as it was before.
        Interrupted: Ctrl-C, and what is finished is kept.
    """
    plan = decide(settings)
    with Pool(plan.workers, SegmentWork()) as pool:
        yield Finished((yield from interpolate(plan, pool)))


def interpolate(
    plan: VideoPlan, pool: Pool[SegmentTask], note: Callable[[Path], None] = lambda _: None
) -> Generator[Event, None, InterpResult]:
    """Interpolate one video.

    Args:
        plan: what was decided before the first frame.
        pool: renders, unless ``plan.workers`` is this process.
        note: called with where the whole output is, just before that takes its name.
    """
    began = time.monotonic()
    warnings, counts = Warnings(), Counts()
    yield from warnings.new(plan.remarks)
    preview = _preview(plan)
    set_threads(plan.settings.threads)
    with ExitStack() as stack:
        # Decode and plan, in a thread of its own.
        video = stack.enter_context(planned(plan))
        # Take over what an earlier run has left, and decide how frames are made.
        place = stack.enter_context(workplace(plan, video.clock))
        store, resumed = place.store, 0 if place.store is None else place.store.frames
        yield from warnings.new(place.warnings)
        model, adapted = yield from adapted_model(plan, place.folder, warnings)
        renderer = renderer_of(plan, model)
        render_plan = resolve(plan, video.clock, place, model, renderer, video.source)
        yield from warnings.new(renderer.warnings())
        # Render the segments that are missing.
        set_threads(render_plan.threads)
        if store is None:
            rendering = _render_whole(video, render_plan, renderer, place.sink, preview)
        elif plan.workers.kind == "inline":
            rendering = _render_here(video, render_plan, renderer, store, preview)
        else:
            del renderer
            empty_cache(plan.device)  # the model was here to plan; now others need the room
            rendering = _render_by_pool(video, render_plan, pool, store, plan.workers.count)
        made, begun = resumed, dict[int, int]()
        with closing(rendering):
            for number, event in rendering:
                if isinstance(event, Progress):
                    begun[number] = max(event.done, begun.get(number, 0))
                    done = made + sum(begun.values())
                    yield Progress("rendering", done, plan.expected, resumed)
                elif isinstance(event, Warned):
                    yield from warnings.new([event])
                else:
                    made += begun.pop(number, 0)
                for told in drained(video.news):
                    if isinstance(told, Counts):
                        counts = told
                    elif told.code not in (warned.code for warned in warnings.said):
                        yield from warnings.new([told])
        # Join the segments.
        sink = place.sink if store is None else sink_of(plan, video.clock, render_plan.encode)
        for whole in store.join(sink) if store is not None else _completed(sink):
            note(whole)
        yield from warnings.new([*sink.warnings, *video.source.warnings])
    yield from warnings.new(() if preview is None else preview.warnings)
    seconds = time.monotonic() - began
    return InterpResult(
        **_found(plan, counts),
        wall_seconds=seconds,
        frames_per_second=(counts.output_frames - resumed) / seconds,
        resumed=resumed > 0,
        adapted=adapted,
        encoder=place.sink.encoder,
        warnings=warnings.said,
    )


def _completed(sink: Sink) -> Iterator[Path]:
    whole = sink.complete()
    if whole is not None:
        yield whole


def _render_whole(
    video: Planned, plan: RenderPlan, renderer: Renderer, sink: Sink, preview: Preview | None
) -> Rendering:
    """Render all frames into the output itself."""
    job = RenderJob(0, plan, video.frames, video.pictures, lambda: sink, Path(), preview)
    for number, event in render_segments([job], lambda _: renderer, lambda *_: None):
        yield number, event if isinstance(event, Progress | Warned) else None


def _render_here(
    video: Planned,
    plan: RenderPlan,
    renderer: Renderer,
    store: SegmentStore,
    preview: Preview | None,
) -> Rendering:
    """Render the missing segments in this process, from the frames that the planner decodes."""

    def jobs() -> Iterator[RenderJob[OpenSegment]]:
        for segment in split(video.frames):
            if segment.number in store.finished:
                store.check(_passed_over(segment, video.pictures))
                continue
            file = fresh_file(plan.folder)
            opened = partial(plan.sink, file)
            yield RenderJob(segment, plan, segment, video.pictures, opened, file, preview)

    def record(job: RenderJob[OpenSegment], sink: Sink) -> None:
        assert job.key.plan is not None
        store.record(job.key.plan, job.file, sink.summary)

    plan.keep(renderer)
    rendering = render_segments(
        jobs(), lambda _: renderer, record, is_next_known=video.is_next_known
    )
    with closing(rendering):
        for segment, event in rendering:
            yield segment.number, event if isinstance(event, Progress | Warned) else None


def _render_by_pool(
    video: Planned, plan: RenderPlan, pool: Pool[SegmentTask], store: SegmentStore, workers: int
) -> Rendering:
    """Have the missing segments rendered by others, who decode their frames themselves."""
    errors: list[CloudconvError] = []

    def missing() -> Iterator[SegmentTask]:
        for open_segment in split(video.frames):
            segment = _passed_over(open_segment, video.pictures)
            if segment.number in store.finished:
                store.check(segment)
            else:
                yield plan, segment

    def tasks() -> Generator[SegmentTask | None, None, None]:
        with prefetch(missing(), workers + _PLANNED) as ahead:
            try:
                for task in ahead.arriving():
                    if errors:
                        return
                    yield task
            except CloudconvError as error:  # what is under way is finished first
                errors.append(error)

    with closing(tasks()) as given, closing(pool.run(given)) as events:
        for event in events:
            if isinstance(event, Failed):
                errors.append(event.error)
                continue
            assert event.task is not None
            segment = event.task[1]
            if isinstance(event, Done):
                store.record(segment, event.result.file_in(plan.folder), event.result.summary)
                yield segment.number, None
            else:
                yield segment.number, event.message
    if errors:
        raise errors[0]


def _passed_over(segment: OpenSegment, pictures: Pictures) -> SegmentPlan:
    """Take a segment's frames without a look at them; return the whole plan."""
    for frame in segment:
        pictures.take(frame)
    assert segment.plan is not None
    return segment.plan


def estimate(settings: InterpSettings, inputs: Sequence[Path | str] = ()) -> InterpPlan:
    """Say what :func:`run` would do: read the source to its end, make a few frames on trial.

    Nothing is written, and nothing is refused because it could not be; see ``refusals``.

    ``inputs``: what else the command reads. Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.perf_counter()
    refusals: list[OutputError] = []
    plan = decide(settings, inputs, refusals)
    info, workers = plan.info, plan.workers
    set_threads(settings.threads)
    choice = choose_for(container_of(plan.output), info, settings.encode)
    pictures, news = Pictures(), News()
    with source_of(plan) as source:
        opened = time.perf_counter()
        for frame in schedule(source.frames(), plan.request, pictures, news):
            pictures.take(frame)
        reading = time.perf_counter() - opened
    *kept, counts = drained(news)
    assert isinstance(counts, Counts)
    renderer = renderer_of(plan)
    batch, _, cpu_streams = renderer.plan_once(
        info.width, info.height, 1 if workers.each_gpu else workers.count
    )
    ready = time.perf_counter() - began - reading
    trial: Trial | None = None
    with noted(refusals):
        trial = measure(plan, renderer, batch * cpu_streams, counts, reading)
    takes = _disk_bytes(plan, counts)
    home = next(folder for folder in plan.output.absolute().parents if folder.is_dir())
    room = takes <= disk_usage(home).free
    space = [] if room else [Warned("disk-space", {"bytes": takes, "folder": str(home)})]
    memory, seconds = None, None
    if trial is not None:
        memory = trial.memory_bytes * (workers.count if workers.kind == "local" else 1)
        seconds = ready + trial.expect(counts) / (workers.count if workers.each_gpu else 1)
        seconds += 60 * (settings.adapt or 0)
    told = (w for w in kept if isinstance(w, Warned))
    found = [*plan.remarks, *renderer.warnings(), *source.warnings, *choice.warnings, *told, *space]
    return InterpPlan(
        **_found(plan, counts),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=memory,
        disk_bytes=takes,
        seconds=seconds,
        adapt=settings.adapt,
        warnings=list(Warnings().new(found)),
        refusals=list({str(error): error for error in refusals}.values()),
    )


def _disk_bytes(plan: VideoPlan, counts: Counts) -> int:
    read = sum(file.stat().st_size for file in images.files_of(plan.info.path))
    made = read * counts.output_frames // max(plan.info.timing.frames, 1)
    return made * 2 if is_joinable(plan.output) else made


def _preview(plan: VideoPlan) -> Preview | None:
    settings = plan.settings
    if settings.preview_file is None:
        return None
    return Preview(
        settings.preview_file,
        [plan.info.path],
        plan.output,
        overwrite=settings.overwrite,
        turn=turn_of(plan.info) or UPRIGHT,
    )


def _found(plan: VideoPlan, counts: Counts) -> dict[str, Any]:
    """The fields that a plan and a result share."""
    source_rate, start = plan.info.timing.rate, plan.info.timing.start
    duration = counts.output_frames / plan.rate if plan.rate else counts.duration
    return {
        "input": str(plan.settings.input),
        "output": str(plan.output),
        "model": plan.settings.chosen_model,
        "device": "cuda:all" if plan.workers.each_gpu else str(plan.device),
        "precision": precision_name(plan.dtype),
        "source_frames": counts.source_frames,
        "output_frames": counts.output_frames,
        "new_frames": counts.new_frames,
        "held_frames": counts.held_frames,
        "cuts": [float(cut - start) for cut in counts.cuts],
        "source_fps": None if source_rate is None else format_rate(source_rate),
        "output_fps": None if plan.rate is None else format_rate(plan.rate),
        "duration": float(duration),
    }
