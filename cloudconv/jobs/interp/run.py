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
from itertools import chain
from pathlib import Path

from cloudconv.errors import CloudconvError
from cloudconv.events import Event, Finished, Job, Progress, Warned, Warnings
from cloudconv.jobs.interp.estimate import estimate
from cloudconv.jobs.interp.output import (
    PlannedVideo,
    WorkFiles,
    adapted_model,
    facts,
    planned,
    resolve,
    sink_of,
    work_files,
)
from cloudconv.jobs.interp.plan import InterpPlan, decide, renderer_of, source_of
from cloudconv.jobs.interp.preview import Preview
from cloudconv.jobs.interp.scale import scale_warnings
from cloudconv.jobs.interp.settings import InterpResult, InterpSettings
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import raise_first
from cloudconv.render.device import set_threads
from cloudconv.render.memory import empty_cache
from cloudconv.render.pipeline import drained, prefetch
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, early_cadence
from cloudconv.segments.plan import RenderPlan
from cloudconv.segments.render import RenderJob, render_segments
from cloudconv.segments.segment import OpenSegment, split
from cloudconv.segments.store import SegmentStore, clear_finished, fresh_file
from cloudconv.workers.events import Done, Failed
from cloudconv.workers.pool import Workers, start
from cloudconv.workers.segments import SegmentTask, SegmentWork

_PLANNED = 8
"""The number of segments that are planned ahead, in addition to one per worker."""

Rendering = Generator[tuple[int, Progress | Warned | None], None, None]
"""Pairs of a segment's number and its event; the event None means that the segment is finished."""

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


def interpolate(
    plan: InterpPlan, workers: Workers[SegmentTask], note: Callable[[Path], None] = lambda _: None
) -> Generator[Event, None, InterpResult]:
    """Interpolate one video.

    Args:
        plan: the decisions before the first frame.
        workers: the workers; unused if the kind of ``plan.workers`` is ``inline``.
        note: a function that is called with the path of the complete output, just before the
            output gets its name.

    Raises:
        CloudconvError: the run is not possible or fails.
        Interrupted: Ctrl-C; finished segments are kept.
    """
    began = time.monotonic()
    warnings, counts = Warnings(), Counts()
    clear_finished(plan.output)
    raise_first(plan.refusals)
    set_threads(plan.settings.threads)
    yield from warnings.new(plan.warnings)
    yield from warnings.new(_early_warnings(plan))
    preview = _preview(plan)
    if preview is not None:
        yield from warnings.new(plan.info.tags.flat_in("preview"))
    with ExitStack() as stack:
        # Decode and plan in another thread.
        video = stack.enter_context(planned(plan))
        # Load the finished segments of an earlier run, and resolve the plan to render.
        work = stack.enter_context(work_files(plan, video.clock))
        store, resumed = work.store, 0 if work.store is None else work.store.frames
        yield from warnings.new(work.warnings)
        model, adapted = yield from adapted_model(plan, work.folder, warnings)
        renderer = renderer_of(plan, model)
        render_plan = resolve(plan, video, work, model, renderer)
        yield from warnings.new(renderer.warnings())
        # Render the missing segments.
        set_threads(render_plan.threads)
        if store is None or plan.workers.kind == "inline":
            rendering = _render_here(video, render_plan, renderer, work, preview)
        else:
            del renderer
            empty_cache(plan.device)  # the workers need the memory of the model
            rendering = _render_by_workers(video, render_plan, workers, store, plan.workers.count)
        finished, started, expected = resumed, dict[int, int](), plan.expected
        with closing(rendering):
            # The counts arrive after the last frame, even if no segment is missing.
            for number, event in chain(rendering, [(-1, None)]):
                if isinstance(event, Progress):
                    started[number] = max(event.done, started.get(number, 0))
                    done = finished + sum(started.values())
                    yield Progress("rendering", done, expected, resumed)
                elif isinstance(event, Warned):
                    yield from warnings.new([event])
                else:
                    finished += started.pop(number, 0)
                for given in drained(video.events):
                    if isinstance(given, Counts):
                        counts = given
                    elif given.code not in (warned.code for warned in warnings.reported):
                        yield from warnings.new([given])
        # Join the segments.
        threads = render_plan.threads
        sink = work.sink if store is None else sink_of(plan, video.clock, threads)
        for complete in _completed(sink) if store is None else store.join(sink):
            note(complete)
        yield from warnings.new([*sink.warnings, *video.source.warnings])
    yield from warnings.new(() if preview is None else preview.warnings)
    seconds = time.monotonic() - began
    return InterpResult(
        **facts(plan, counts),
        wall_seconds=seconds,
        frames_per_second=(counts.output_frames - resumed) / seconds,
        resumed=resumed > 0,
        adapted=adapted,
        encoder=work.sink.encoder,
        warnings=warnings.reported,
    )


def _early_warnings(plan: InterpPlan) -> Iterator[Warned]:
    """Yield the warnings that need frames of the source, before the first new frame."""
    if plan.settings.duplicates == "keep" and not plan.info.timing.open_ended:
        # These frames are decoded again later: 14 without repeats, up to 200 with repeats. To keep
        # 200 frames would take too much memory.
        cadence = early_cadence(source_of(plan).frames())
        if cadence is not None:
            yield Warned("cadence-kept", {"cadence": cadence})
    yield from scale_warnings(plan)


def _preview(plan: InterpPlan) -> Preview | None:
    file, turn = plan.settings.preview_file, turn_of(plan.info) or UPRIGHT
    return None if file is None else Preview(file, overwrite=plan.settings.overwrite, turn=turn)


def _completed(sink: Sink) -> Iterator[Path]:
    """Complete the output except for its name; yield its path if it is a file."""
    complete = sink.complete()
    if complete is not None:
        yield complete


def _render_here(
    video: PlannedVideo,
    plan: RenderPlan,
    renderer: Renderer,
    work: WorkFiles,
    preview: Preview | None,
) -> Rendering:
    """Render in this process, from the frames that ``video`` decodes.

    Missing segments are written to the store. Without a store, all frames are written to the output
    itself.
    """
    store = work.store
    show = (lambda _: None) if preview is None else preview.show

    def jobs() -> Iterator[RenderJob[OpenSegment | None]]:
        if store is None:
            yield RenderJob(None, plan, video.tasks, lambda: work.sink, Path(), show)
            return
        for segment in split(video.tasks):
            if segment.number in store.finished:
                store.check(segment.skip())
                continue
            file = fresh_file(plan.folder)
            sink = partial(plan.sink, file)
            yield RenderJob(segment, plan, segment, sink, file, show)

    def record(job: RenderJob[OpenSegment | None], sink: Sink) -> None:
        if store is not None:
            assert job.key is not None
            assert job.key.plan is not None
            store.record(job.key.plan, job.file, sink.summary)

    plan.apply_to(renderer)
    rendering = render_segments(
        jobs(), lambda _: renderer, record, is_next_known=video.is_next_known
    )
    with closing(rendering):
        for segment, event in rendering:
            number = 0 if segment is None else segment.number
            yield number, event


def _render_by_workers(
    video: PlannedVideo,
    plan: RenderPlan,
    workers: Workers[SegmentTask],
    store: SegmentStore,
    count: int,
) -> Rendering:
    """Render the missing segments in workers, which decode the source frames again."""
    errors: list[CloudconvError] = []

    def missing() -> Iterator[SegmentTask]:
        for open_segment in split(video.tasks):
            segment = open_segment.skip()
            if segment.number in store.finished:
                store.check(segment)
            else:
                yield plan, segment

    def tasks() -> Generator[SegmentTask | None, None, None]:
        with prefetch(missing(), count + _PLANNED) as ahead:
            try:
                for task in ahead.arriving():
                    if errors:
                        return
                    yield task
            except CloudconvError as error:  # raised when the workers have finished their tasks
                errors.append(error)

    with closing(tasks()) as given, closing(workers.run(given)) as events:
        for event in events:
            if isinstance(event, Failed):
                errors.append(event.content)
                continue
            segment = event.task[1]
            if isinstance(event, Done):
                store.record(segment, event.content.file_in(plan.folder), event.content.summary)
                yield segment.number, None
            else:
                yield segment.number, event.content
    if errors:
        raise errors[0]
