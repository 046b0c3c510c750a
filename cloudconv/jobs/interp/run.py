"""Raise a video's frame rate, from file to file.

A source decodes, ``schedule`` plans each output frame, a renderer makes the new frames, and a sink
encodes: in three threads with bounded queues between them. A video is made as segments, which
remain after a crash. An output that cannot be joined is one segment that is written to the output
itself.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, fields, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.errors import CloudconvError
from cloudconv.events import Event, Finished, Job, Progress, TaskEvent, Warned, each_once
from cloudconv.jobs.interp.plan import InterpPlan, InterpResult, decide, is_joinable
from cloudconv.jobs.interp.pool import Workers, start
from cloudconv.jobs.interp.render import (
    OpenPart,
    RenderPlan,
    SegmentJob,
    SegmentWork,
    render_segments,
)
from cloudconv.jobs.interp.segments import OpenSegment, split
from cloudconv.jobs.interp.store import SegmentStore, fresh_file, token_of
from cloudconv.jobs.output import size_of
from cloudconv.media.frame import FrameTask
from cloudconv.media.output import check_free, claim
from cloudconv.media.packets import PacketSummary
from cloudconv.media.sink import FrameEncoder, Sink, try_copies
from cloudconv.pipeline import drained, prefetch
from cloudconv.render.device import machine_fingerprint, precision_name, set_threads
from cloudconv.render.memory import MAX_BATCH, Sizes, empty_cache, least_free_memory
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, ScheduleEvents, schedule
from cloudconv.settings import InterpSettings

_PLANNED = 8
"""The number of segments that are planned ahead, in addition to one per worker."""
_UNSET = ("tile", "threads")
"""The decisions that may be None."""

SegmentEvents = Generator[TaskEvent[int], None, None]
"""The events of segments, by the segments' numbers."""

__all__ = ["decide", "interpolate", "run"]


def run(settings: InterpSettings) -> Job:
    """Interpolate ``settings.input`` into a new file, which appears only when it is complete.

    Closing the iterator cancels the run, which keeps the finished segments, as Ctrl-C does.
    """
    plan = decide(settings, live=True)
    with start(plan.workers, SegmentWork()) as workers:
        yield Finished((yield from interpolate(plan, workers)))


@each_once
def interpolate(
    reported: list[Warned], plan: InterpPlan, workers: Workers[SegmentJob]
) -> Generator[Event, None, InterpResult]:
    """Interpolate one video."""
    began = time.monotonic()
    set_threads(plan.settings.threads)
    yield from plan.warnings
    with ExitStack() as stack:
        stack.enter_context(SegmentStore(plan.output).named())
        # Decode and plan in another thread.
        events = ScheduleEvents()
        source = stack.enter_context(plan.source())
        ahead = stack.enter_context(
            prefetch(schedule(plan.frames(source), plan.request, events), 8)
        )
        head = next(ahead)
        first, tasks = head.left.time, chain([head], ahead)
        del head  # so that the first pictures do not stay in memory after they are rendered
        # Load the finished segments of an earlier run, or open the output.
        work = stack.enter_context(_claimed(plan, first))
        yield from work.warnings
        store = work if isinstance(work, SegmentStore) else None
        resumed = 0 if store is None else store.frames
        folder = (
            Path(stack.enter_context(TemporaryDirectory(prefix="cloudconv-")))
            if store is None
            else store.path
        )
        renderer = plan.renderer(plan.settings.chosen_model)
        render_plan = _resolved(plan, store, folder, first, renderer)
        # A GPU that decodes here also decodes for the workers.
        render_plan = replace(render_plan, nvdec=source.by_gpu)
        yield from renderer.new_warnings()
        # Render the missing segments.
        set_threads(render_plan.threads)
        if store is None or plan.workers.kind == "inline":
            render_plan.apply_to(renderer)
            rendering = render_segments(
                render_plan,
                _parts(render_plan, tasks, work),
                renderer,
                None if store is None else partial(_record, store),
            )
        else:
            del renderer
            empty_cache(plan.device)  # the workers need the memory of the model
            count = plan.workers.count
            rendering = _render_by_workers(render_plan, tasks, store, workers, count)
        if resumed:
            yield Progress("rendering", resumed, plan.expected, resumed)
        counts = yield from _followed(rendering, events, resumed, plan.expected)
        # Join the segments.
        if isinstance(work, SegmentStore):
            sink = Sink(render_plan.encoding, overwrite=plan.settings.overwrite)
            work.join(sink)
        else:
            (sink := work).complete()
        yield from (*sink.warnings, *source.warnings)
    seconds = time.monotonic() - began
    return InterpResult(
        **plan.counted(counts),
        **size_of(plan.output, counts.duration),
        wall_seconds=seconds,
        frames_per_second=(counts.output_frames - resumed) / seconds,
        resumed=resumed > 0,
        warnings=reported,
    )


@contextmanager
def _claimed(plan: InterpPlan, first: Fraction) -> Iterator[SegmentStore | Sink]:
    settings, output = plan.settings, plan.output
    if not is_joinable(output):
        with (
            claim(output, overwrite=settings.overwrite),
            Sink(plan.encoding(first, settings.threads), overwrite=settings.overwrite) as sink,
        ):
            yield sink
        return
    store = SegmentStore(output)
    with store.locked():
        # Another run may have finished the output since the first check.
        check_free(output, overwrite=settings.overwrite)
        encoding = plan.encoding(first, settings.threads)
        # Copied streams that cannot be written raise their errors now instead of at the end.
        store.warnings += [*encoding.warnings, *try_copies(encoding)]
        machine = machine_fingerprint(plan.device, each_gpu=plan.workers.each_gpu)
        if plan.workers.device_type != plan.device.type:
            machine["device"] = f"{plan.workers.device_type} of a cluster"
        choice = encoding.choice
        identity = {
            "input": plan.info.fingerprint,
            **settings.pinned(),
            **machine,
            "weights": plan.weights,
            "precision": precision_name(plan.dtype),
            "encoder": f"{choice.encoder}, {dict(choice.options)}",
            "pix_fmt": choice.working,
            "times": f"{encoding.tick} {plan.offset(first)}",
        }
        store.open(identity, partial(_is_possible, settings), resume=settings.resume)
        yield store


def _is_possible(settings: InterpSettings, decided: dict[str, Any]) -> bool:
    """Return whether decisions have the types and ranges of those in :func:`_resolved`."""
    batch = MAX_BATCH if settings.batch == "auto" else settings.batch
    most = {"batch": batch, "tile": 1 << 16, "cpu_streams": 64, "threads": 1024}
    return decided.keys() == most.keys() and all(
        0 < value <= most[name] if type(value) is int else value is None and name in _UNSET
        for name, value in decided.items()
    )


def _resolved(
    plan: InterpPlan,
    store: SegmentStore | None,
    folder: Path,
    first: Fraction,
    renderer: Renderer,
) -> RenderPlan:
    """Return the plan to render, with the decisions that are pinned in the store, or are now."""
    info, settings, workers = plan.info, plan.settings, plan.workers
    pinned = {} if store is None else store.pinned
    if not pinned:
        at_once = 1 if workers.each_gpu else workers.count
        free = least_free_memory(plan.device) if workers.each_gpu else None
        sizes = renderer.choose_sizes(info.width, info.height, at_once, free_bytes=free)
        threads = workers.threads(settings.threads)
        pinned = {**asdict(sizes), "threads": threads}
        if store is not None:
            store.pin(pinned)
    return RenderPlan(
        settings=settings,
        model=settings.chosen_model,
        weights=plan.weights,
        threads=pinned["threads"],
        sizes=Sizes(**{each.name: pinned[each.name] for each in fields(Sizes)}),
        info=info,
        encoding=plan.encoding(first, pinned["threads"]),
        folder=folder.absolute(),
        offset=plan.offset(first),
        device=workers.device_type,
        precision=precision_name(plan.dtype),
        nvdec=False,
        token=token_of(folder),
    )


def _followed(
    rendering: SegmentEvents,
    planning: ScheduleEvents,
    resumed: int,
    expected: int | None,
) -> Generator[Event, None, Counts]:
    counts, finished, started = Counts(), resumed, dict[int, int]()
    with closing(rendering):
        for event in chain(rendering, [None]):  # also if no segment was missing
            for planned in drained(planning):
                if isinstance(planned, Counts):
                    counts = planned
                else:
                    yield planned
            if event is None:
                break
            if isinstance(event.content, Warned):
                yield event.content
            elif isinstance(event.content, Finished):
                finished += started.pop(event.task, 0)
            else:
                started[event.task] = max(event.content.done, started.get(event.task, 0))
                yield Progress("rendering", finished + sum(started.values()), expected, resumed)
    return counts


def _parts(
    render_plan: RenderPlan, tasks: Iterator[FrameTask], work: SegmentStore | Sink
) -> Iterator[OpenPart[Iterable[FrameTask]]]:
    if isinstance(work, Sink):
        yield OpenPart(0, tasks, lambda: work)
        return

    def encoder() -> FrameEncoder:
        return FrameEncoder(render_plan.encoding, fresh_file(render_plan.folder))

    for segment in _missing(tasks, work):
        yield OpenPart(segment.number, segment, encoder)


def _missing(tasks: Iterator[FrameTask], store: SegmentStore) -> Iterator[OpenSegment]:
    finished = {number: summary.packets for number, (_, summary) in store.finished.items()}
    for segment in split(tasks, finished):
        if segment.number in store.finished:
            store.check(segment.skip())
        else:
            yield segment


def _record(store: SegmentStore, segment: Any, sink: Any, summary: PacketSummary) -> None:
    store.record(segment.plan.first(summary.packets), sink.file, summary)


def _render_by_workers(
    render_plan: RenderPlan,
    frames: Iterator[FrameTask],
    store: SegmentStore,
    workers: Workers[SegmentJob],
    count: int,
) -> SegmentEvents:
    """Render the missing segments in workers, which decode the source frames again."""
    errors: list[CloudconvError] = []

    def jobs() -> Generator[SegmentJob | None, None, None]:
        missing = ((render_plan, segment.skip()) for segment in _missing(frames, store))
        with prefetch(missing, count + _PLANNED) as ahead:
            try:
                for job in ahead.arriving():
                    if errors:
                        return
                    yield job
            except CloudconvError as error:  # raised when the workers have finished their jobs
                errors.append(error)

    def keep(event: TaskEvent[SegmentJob]) -> None:
        segment, made = event.task[1], event.content.result
        file = made.file_in(render_plan.folder)
        store.record(segment.first(made.summary.packets), file, made.summary)

    with closing(jobs()) as given, closing(workers.map(given, keep)) as events:
        for event in events:
            if event.error is not None:
                errors.append(event.error)
                continue
            if isinstance(event.content, Finished):
                keep(event)
            yield TaskEvent(event.task[1].number, event.content)
    if errors:
        raise errors[0]
