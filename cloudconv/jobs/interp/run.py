"""Raise a video's frame rate, from file to file.

Frames pass through four stages: :class:`~cloudconv.media.read.source.Source` decodes,
:func:`~cloudconv.schedule.frames.schedule` plans each output frame,
:class:`~cloudconv.render.renderer.Renderer` makes the new frames, and
:class:`~cloudconv.media.write.sink.Sink` encodes. Decoding and planning share a thread. Inference
and encoding have a thread each. Bounded queues connect the threads.

A video is made as segments, which remain after a crash and are joined at the end. An output that
cannot be joined (standard output, animations, pictures) is one segment that is written to the
output itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from cloudconv.errors import CloudconvError
from cloudconv.events import Event, Finished, Job, Progress, TaskEvent, Warned, each_once
from cloudconv.jobs.interp.estimate import estimate
from cloudconv.jobs.interp.plan import InterpPlan, decide, renderer_of, source_of
from cloudconv.jobs.interp.results import InterpResult
from cloudconv.jobs.interp.start import (
    PlannedVideo,
    WorkFiles,
    adapted_model,
    facts,
    planned,
    resolve,
    work_files,
)
from cloudconv.jobs.output import size_of
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import SegmentSink, Sink
from cloudconv.media.write.target import raise_first
from cloudconv.pipeline import drained, prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import empty_cache
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, ScheduleEvents, early_cadence
from cloudconv.segments.render import RenderJob, RenderPlan, render_segments
from cloudconv.segments.segment import OpenSegment, split
from cloudconv.segments.store import SegmentStore, clear_finished, fresh_file
from cloudconv.settings import InterpSettings
from cloudconv.workers.pool import Workers, start
from cloudconv.workers.segments import SegmentTask, SegmentWork

_PLANNED = 8
"""The number of segments that are planned ahead, in addition to one per worker."""

SegmentEvents = Generator[TaskEvent[int], None, None]
"""The events of segments, by the segments' numbers."""

__all__ = ["decide", "estimate", "interpolate", "run"]


def run(settings: InterpSettings) -> Job:
    """Interpolate ``settings.input`` into a new file.

    The output appears only when it is complete. Closing the iterator cancels the run, which keeps
    the finished segments.

    Yields:
        Warnings, progress, and at the end an :class:`InterpResult`.

    Raises:
        CloudconvError: the run is not possible or fails. No output is written, and a file that
            existed before is unchanged.
        Interrupted: Ctrl-C; finished segments are kept.
    """
    plan = decide(settings, live=True)
    with start(plan.workers, SegmentWork()) as workers:
        yield Finished((yield from interpolate(plan, workers)))


@each_once
def interpolate(
    reported: list[Warned],
    plan: InterpPlan,
    workers: Workers[SegmentTask],
    note: Callable[[Path], None] = lambda _: None,
) -> Generator[Event, None, InterpResult]:
    """Interpolate one video.

    Args:
        reported: the warnings so far; see :func:`~cloudconv.events.each_once`.
        plan: the decisions before the first frame.
        workers: the workers; unused if the kind of ``plan.workers`` is ``inline``.
        note: a function that is called with the path of the complete output, just before the
            output gets its name.

    Raises:
        CloudconvError: the run is not possible or fails.
        Interrupted: Ctrl-C; finished segments are kept.
    """
    began = time.monotonic()
    clear_finished(plan.output)
    raise_first(plan.refusals)
    set_threads(plan.settings.threads)
    yield from plan.warnings
    with ExitStack() as stack:
        stack.enter_context(SegmentStore(plan.output).named())
        yield from _early_warnings(plan)
        # Decode and plan in another thread.
        video = stack.enter_context(planned(plan))
        # Load the finished segments of an earlier run, and resolve the plan to render.
        work = stack.enter_context(work_files(plan, video.clock))
        yield from work.warnings
        model, adapted = yield from adapted_model(plan, work.folder)
        renderer = renderer_of(plan, model)
        render_plan = resolve(plan, video, work, model, renderer)
        yield from renderer.new_warnings()
        # Render the missing segments.
        set_threads(render_plan.threads)
        if plan.workers.kind == "inline" or work.store is None:
            rendering = _render_here(video, render_plan, renderer, work)
        else:
            del renderer
            empty_cache(plan.device)  # the workers need the memory of the model
            count = plan.workers.count
            rendering = _render_by_workers(video, render_plan, workers, work.store, count)
        counts = yield from _followed(rendering, video, work.resumed, plan.expected, reported)
        # Join the segments.
        sink = work.sink or Sink(render_plan.encoding, overwrite=plan.settings.overwrite)
        if work.store is not None:
            work.store.join(sink, note)
        elif (complete := sink.complete()) is not None:
            note(complete)
        yield from (*sink.warnings, *video.source.warnings)
    seconds = time.monotonic() - began
    return InterpResult(
        **facts(plan, counts),
        **size_of(plan.output, counts.duration),
        wall_seconds=seconds,
        frames_per_second=(counts.output_frames - work.resumed) / seconds,
        resumed=work.resumed > 0,
        adapted=adapted,
        encoder=render_plan.encoding.choice.encoder,
        warnings=reported,
    )


def _early_warnings(plan: InterpPlan) -> Iterator[Warned]:
    """Yield the warnings that need frames of the source, before the first new frame."""
    if not plan.settings.refill and not plan.info.timing.open_ended:
        # These frames are decoded again later: 14 without repeats, up to 200 with repeats. To keep
        # 200 frames would take too much memory.
        cadence = early_cadence(source_of(plan).frames())
        if cadence is not None:
            yield Warned(
                f"cadence-kept: The video repeats frames: {cadence}. --refill makes "
                "the motion even."
            )


def _followed(
    rendering: SegmentEvents,
    video: PlannedVideo,
    resumed: int,
    expected: int | None,
    reported: list[Warned],
) -> Generator[Event, None, Counts]:
    """Yield the progress and the warnings of all segments; return the counts of frames."""
    counts, finished, started = Counts(), resumed, dict[int, int]()
    for event in _with_schedule(rendering, video.events):
        if isinstance(event, Counts):
            counts = event
        elif isinstance(event, Warned):
            # The first frames of the schedule may have given the same warning with other numbers.
            if event.code not in (warned.code for warned in reported):
                yield event
        elif isinstance(event.content, Warned):
            yield event.content
        elif isinstance(event.content, Finished):
            finished += started.pop(event.task, 0)
        else:
            started[event.task] = max(event.content.done, started.get(event.task, 0))
            yield Progress("rendering", finished + sum(started.values()), expected, resumed)
    return counts


def _with_schedule(
    rendering: SegmentEvents, events: ScheduleEvents
) -> Iterator[TaskEvent[int] | Warned | Counts]:
    """Yield the events of the segments and of the thread that plans."""
    with closing(rendering):
        for event in rendering:
            yield event
            yield from drained(events)
    yield from drained(events)  # also if no segment was missing


def _render_here(
    video: PlannedVideo,
    render_plan: RenderPlan,
    renderer: Renderer,
    work: WorkFiles,
) -> SegmentEvents:
    """Render in this process, from the frames that ``video`` decodes.

    Missing segments are written to the store. Without a store, all frames are written to the output
    itself, as one segment.
    """

    def jobs() -> Iterator[RenderJob[int]]:
        store, output = work.store, work.sink
        if output is not None:
            yield RenderJob(0, render_plan, video.tasks, lambda: output, lambda _: None)
        if store is not None:
            for segment in _missing(video, store):
                file = fresh_file(render_plan.folder)
                sink = partial(SegmentSink, render_plan.encoding, file)
                record = partial(_record, store, segment, file)
                yield RenderJob(segment.number, render_plan, segment, sink, record)

    render_plan.apply_to(renderer)
    return render_segments(jobs(), lambda _: renderer, is_next_known=video.is_next_known)


def _missing(video: PlannedVideo, store: SegmentStore) -> Iterator[OpenSegment]:
    """Yield the segments that the store lacks; check the plans of the others."""
    for segment in split(video.tasks):
        if segment.number in store.finished:
            store.check(segment.skip())
        else:
            yield segment


def _record(store: SegmentStore, segment: OpenSegment, file: Path, summary: PacketSummary) -> None:
    assert segment.plan is not None
    store.record(segment.plan, file, summary)


def _render_by_workers(
    video: PlannedVideo,
    render_plan: RenderPlan,
    workers: Workers[SegmentTask],
    store: SegmentStore,
    count: int,
) -> SegmentEvents:
    """Render the missing segments in workers, which decode the source frames again."""
    errors: list[CloudconvError] = []

    def tasks() -> Generator[SegmentTask | None, None, None]:
        missing = ((render_plan, segment.skip()) for segment in _missing(video, store))
        with prefetch(missing, count + _PLANNED) as ahead:
            try:
                for task in ahead.arriving():
                    if errors:
                        return
                    yield task
            except CloudconvError as error:  # raised when the workers have finished their tasks
                errors.append(error)

    with closing(tasks()) as given, closing(workers.map(given)) as events:
        for event in events:
            segment, content = event.task[1], event.content
            if event.error is not None:
                errors.append(event.error)
                continue
            if isinstance(content, Finished):
                made = content.result
                store.record(segment, made.file_in(render_plan.folder), made.summary)
            yield TaskEvent(segment.number, content)
    if errors:
        raise errors[0]
