"""Raise a video's frame rate, from file to file.

A source decodes, ``schedule`` plans each output frame, a renderer makes the new frames, and a sink
encodes: in three threads with bounded queues between them. A video is made as segments, which
remain after a crash. An output that cannot be joined is one segment that is written to the output
itself.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import chain
from typing import Any

from cloudconv.checkpoints import file_of
from cloudconv.errors import CloudconvError
from cloudconv.events import Event, Finished, Job, Progress, Warned, each_once
from cloudconv.jobs.interp.plan import InterpPlan, InterpResult, decide, is_joinable
from cloudconv.jobs.interp.pool import WorkerConfig, environments
from cloudconv.jobs.interp.render import RenderPlan, SegmentEvents, SegmentWork, render_segments
from cloudconv.jobs.interp.segments import SegmentPlan
from cloudconv.jobs.interp.store import DirectStore, FinishedSegment, SegmentStore, Store, token_of
from cloudconv.jobs.interp.workers import Cluster, Processes, Workers
from cloudconv.jobs.video import size_of
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.frame import FrameTask
from cloudconv.media.muxer import try_copies
from cloudconv.media.output import claim
from cloudconv.media.sink import Sink
from cloudconv.pipeline import drained, prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import MAX_BATCH, Sizes, empty_cache, least_free_memory
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.tasks import Counts, ScheduleEvents, schedule
from cloudconv.settings import InterpSettings

_PLANNED = 8  # the number of segments that are planned ahead, in addition to one per worker
_UNSET = ("tile", "threads")
"""The decisions that may be None."""

__all__ = ["decide", "interpolate", "run", "start"]


def run(settings: InterpSettings) -> Job:
    """Interpolate ``settings.input`` into a new file, which appears only when it is complete.

    Closing the iterator cancels the run, which keeps the finished segments, as Ctrl-C does.
    """
    plan = decide(settings, live=True)
    with start(plan.workers) as workers:
        yield Finished((yield from interpolate(plan, workers)))


def start(config: WorkerConfig, work: SegmentWork | None = None) -> Workers:
    """Return the workers; processes start with their first segments, of which ``inline`` gets none.

    Raises DeviceError if there is no such cluster.
    """
    work = work or SegmentWork()
    if config.kind != "ray":
        return Processes(work, environments(config))
    return Cluster(work, config.address, cores=config.cores, gpus=config.gpus)


@each_once
def interpolate(
    reported: list[Warned], plan: InterpPlan, workers: Workers
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
        scheduled = schedule(plan.frames(source), plan.request, events)
        ahead = stack.enter_context(prefetch(scheduled, 8))
        head = next(ahead)
        encoding, tasks = plan.encoding(head.left.time), chain([head], ahead)  # the only completion
        del head  # so that the first pictures do not stay in memory after they are rendered
        # Load the finished segments of an earlier run, or open the output.
        store = stack.enter_context(_opened(plan, encoding))
        yield from store.warnings
        resumed, expected = store.frames, plan.expected
        renderer = plan.renderer()
        # A GPU that decodes here also decodes for the workers.
        render_plan = _resolved(plan, encoding, store, renderer, nvdec=source.by_gpu)
        yield from renderer.new_warnings()
        # Render the missing segments.
        set_threads(render_plan.threads)
        encoding = render_plan.encoding
        if plan.workers.kind == "inline":
            render_plan.apply_to(renderer)
            rendering = render_segments(store.segments(tasks, encoding), renderer, encoding.offset)
        else:
            assert isinstance(store, SegmentStore)  # `decide` refuses workers for other outputs
            del renderer
            empty_cache(plan.device)  # the workers need the memory of the model
            rendering = _render_by_workers(render_plan, tasks, store, workers)
        if resumed:
            yield Progress("rendering", resumed, expected, resumed)
        counts = yield from _followed(rendering, events, resumed, expected)
        yield from store.join(encoding, overwrite=plan.settings.overwrite)
        yield from source.warnings
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
def _opened(plan: InterpPlan, encoding: EncodingPlan) -> Iterator[Store]:
    settings = plan.settings
    with claim(plan.output, overwrite=settings.overwrite):
        if not is_joinable(plan.output):
            with Sink(encoding, overwrite=settings.overwrite) as sink:
                yield DirectStore(sink)
            return
        store = SegmentStore(plan.output)
        # Copied streams that cannot be written raise their errors now instead of at the end.
        store.warnings += [*encoding.warnings, *try_copies(encoding)]
        fits = partial(_is_possible, settings)
        with store.opened(plan.identity(encoding), fits, resume=settings.resume):
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
    plan: InterpPlan, encoding: EncodingPlan, store: Store, renderer: Renderer, *, nvdec: bool
) -> RenderPlan:
    info, workers = plan.info, plan.workers
    if store.pinned is None:
        at_once = 1 if workers.each_gpu else workers.count
        free = least_free_memory(plan.device) if workers.each_gpu else None
        sizes = renderer.choose_sizes(info.width, info.height, at_once, free_bytes=free)
        store.pin({**asdict(sizes), "threads": workers.threads(plan.settings.threads)})
    pinned = store.pinned or {}
    threads = pinned["threads"]
    settings, model = plan.settings, file_of(plan.settings.chosen_model)
    if model is not None:
        settings = settings.changed(model=model.absolute())
    info = replace(info, path=info.path.absolute())
    encoding = replace(encoding, threads=threads)
    run = replace(plan, settings=settings, info=info)
    sizes = Sizes(**{each.name: pinned[each.name] for each in fields(Sizes)})
    return RenderPlan(
        run, encoding, threads, sizes, nvdec, store.path.absolute(), token_of(store.path)
    )


def _followed(
    rendering: SegmentEvents, planning: ScheduleEvents, resumed: int, expected: int | None
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
                finished += started.pop(event.number, 0)
            else:
                started[event.number] = max(event.content.done, started.get(event.number, 0))
                yield Progress("rendering", finished + sum(started.values()), expected, resumed)
    return counts


def _render_by_workers(
    plan: RenderPlan, frames: Iterator[FrameTask], store: SegmentStore, workers: Workers
) -> SegmentEvents:
    errors: list[CloudconvError] = []

    def missing() -> Generator[SegmentPlan | None, None, None]:
        segments = (segment.skip() for segment in store.missing(frames))
        with prefetch(segments, plan.run.workers.count + _PLANNED) as ahead:
            try:
                for segment in ahead.arriving():
                    if errors:
                        return
                    yield segment
            except CloudconvError as error:  # raised when the workers have finished their segments
                errors.append(error)

    def keep(segment: SegmentPlan, made: FinishedSegment) -> None:
        store.record(segment, *made)

    with closing(missing()) as given, closing(workers.map(plan, given, keep)) as events:
        for event in events:
            if event.error is None:
                yield event
            else:
                errors.append(event.error)
    if errors:
        raise errors[0]
