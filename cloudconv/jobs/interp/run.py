"""Raise a video's frame rate, from file to file.

A source decodes, ``schedule`` plans each output frame, a renderer makes the new frames, and
a sink encodes: in three threads with bounded queues between them. A video is made as
segments, which remain after a crash. An output that cannot be joined is one segment that is
written to the output itself.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, groupby, starmap
from operator import attrgetter
from pathlib import Path
from typing import Any

from cloudconv import interrupts
from cloudconv.doubts import kinds_of, without_pictures
from cloudconv.errors import CloudconvError
from cloudconv.events import Finished, Job, Progress, Warned, Warnings, reporting
from cloudconv.jobs.interp.estimate import foresee
from cloudconv.jobs.interp.opened import (
    decisions_of,
    frames_of,
    open_source,
    renderer_of,
)
from cloudconv.jobs.interp.plan import InterpPlan, decide, is_joinable
from cloudconv.jobs.interp.pool import WorkerConfig
from cloudconv.jobs.interp.result import InterpResult, counted_by
from cloudconv.jobs.interp.segments import (
    RenderJob,
    SegmentEvents,
    SegmentPlan,
    SegmentWork,
    render_segments,
)
from cloudconv.jobs.interp.store import SegmentStore
from cloudconv.jobs.interp.workers import Workers
from cloudconv.jobs.reports import opened_report, write_places
from cloudconv.jobs.video import size_of
from cloudconv.media.frames.frame import FrameTask
from cloudconv.media.writing.encoding import EncodingPlan
from cloudconv.media.writing.output import claim
from cloudconv.media.writing.sink import Sink, try_streams
from cloudconv.messages import counted, plural
from cloudconv.pipeline import prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import empty_cache
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.tasks import Counts, schedule
from cloudconv.settings import InterpSettings

_VIEWS = ("source before", "new", "source after")
_PLANNED = 8  # the number of segments that are planned ahead, in addition to one per worker

__all__ = ["decide", "foresee", "interpolate", "run", "start"]


def run(settings: InterpSettings) -> Job:
    """Interpolate ``settings.input`` into a new file, which appears only when complete.

    Closing the iterator cancels the run, which keeps the finished segments, as Ctrl-C does.
    """
    plan = decide(settings, live=True)
    with start(plan.workers) as workers, opened_report(settings) as report:
        yield from interpolate(plan, workers, report)


def start(config: WorkerConfig, work: SegmentWork | None = None) -> Workers:
    """Return the workers, which start with their first segments; ``inline`` needs none."""
    return Workers(work or SegmentWork(), config)


@reporting
def interpolate(
    warnings: Warnings, plan: InterpPlan, workers: Workers, report: Path | None = None
) -> Job:
    """Interpolate one video, and finish its report."""
    began = time.monotonic()
    set_threads(plan.settings.threads)
    counts = Counts(warnings=warnings)
    warnings.add(*plan.warnings)
    with ExitStack() as stack:
        stack.enter_context(SegmentStore(plan.output, warnings).named())
        # Decode and plan in another thread.
        source = stack.enter_context(open_source(plan, warnings))
        scheduled = schedule(frames_of(plan, source), plan.request, counts)
        ahead = stack.enter_context(prefetch(scheduled, plan.request.ahead, "decode"))
        head = next(ahead)
        assert counts.first is not None  # there is a source frame
        encoding = plan.encoding(counts.first)
        tasks = chain([head], ahead)
        del head  # so that the first pictures do not stay in memory after they are rendered
        # Load the finished segments of an earlier run, or open the output.
        out = stack.enter_context(_opened(plan, encoding, warnings))
        renderer = renderer_of(plan, warnings)
        decisions = _decisions(plan, renderer, out)
        # Frames of each segment in work.
        folder, resumed, in_work = (
            (out.path, out.frames, out.in_work)
            if isinstance(out, SegmentStore)
            else (None, 0, dict[int, int]())
        )
        # A GPU that decodes here also decodes for the workers.
        job = RenderJob.of(plan, encoding, decisions, folder, nvdec=source.by_gpu)
        # Render the missing segments.
        expected = plan.expected
        if resumed:
            yield Progress("rendering", resumed, expected, resumed)
        done = resumed  # frames
        last: Any = None  # result of a segment
        rendering = _render(job, renderer, tasks, out, workers)
        is_judged = renderer.judges
        del renderer
        with closing(rendering):
            for number, event in rendering:
                if isinstance(event, Progress):
                    in_work[number] = max(event.done, in_work.get(number, 0))
                    yield Progress(
                        "rendering", done + sum(in_work.values()), expected, resumed
                    )
                    interrupts.check()
                elif isinstance(event, Finished):
                    done += in_work.pop(number, 0)
                    last = event.result
                elif isinstance(event, Warned):
                    warnings.add(event)
        yield from _complete(job, out)
        doubtful = out.doubts if isinstance(out, SegmentStore) else last
        warnings.add(*_doubtful(doubtful))
    _write_page(report, plan, doubtful, warnings, judged=is_judged)
    frames = [*map(without_pictures, doubtful["frames"])]
    seconds = time.monotonic() - began
    result = InterpResult(
        **counted_by(plan, counts)
        | {"source_timing": plan.info.timing.in_words}
        | size_of(plan.output, counts.duration),
        wall_seconds=seconds,
        frames_per_second=(counts.output_frames - resumed) / seconds,
        resumed=resumed > 0,
        doubtful=doubtful | {"frames": frames} if is_judged else None,
        warnings=warnings,
    )
    yield Finished(result)


def _doubtful(doubtful: dict[str, Any]) -> list[Warned]:
    """Return the warning about new frames that a viewer sees as wrong, if there are any."""
    kinds = [
        kind[0].lower() + kind[1:]
        for kind in kinds_of(doubtful["frames"], doubtful["count"])
    ]
    warned = Warned(f"doubtful-frames: {_said(doubtful)}: {'; '.join(kinds)}.")
    return [warned] if kinds else []


def _write_page(
    report: Path | None,
    plan: InterpPlan,
    doubtful: dict[str, Any],
    warnings: Warnings,
    *,
    judged: bool,
) -> None:
    if report is not None:
        said = (
            f"{_said(doubtful)}; {doubtful['hardly_seen']} more are hardly seen"
            if judged
            else "the new frames were not judged"
        )
        write_places(
            report,
            plan.settings,
            "interp",
            plan.info,
            said,
            doubtful["frames"],
            _VIEWS,
            warnings=warnings,
        )


def _said(doubtful: dict[str, Any]) -> str:
    are = plural(doubtful["count"], "is a guess", "are guesses")
    return f"{counted(doubtful['count'], 'new frame')} {are}"


@contextmanager
def _opened(
    plan: InterpPlan, encoding: EncodingPlan, warnings: Warnings
) -> Iterator[SegmentStore | Sink]:
    """Open the work folder, or the output itself if it cannot be joined from segments."""
    settings = plan.settings
    with claim(plan.output, overwrite=settings.overwrite):
        if not is_joinable(plan.output):
            with Sink(encoding, overwrite=settings.overwrite, warnings=warnings) as sink:
                yield sink
            return
        store = SegmentStore(plan.output, warnings)
        try_streams(encoding, warnings)
        with store.opened(plan.identity(encoding), settings):
            yield store


def _decisions(
    plan: InterpPlan, renderer: Renderer, out: SegmentStore | Sink
) -> dict[str, Any]:
    """Return the decisions of the run that began the output."""
    if isinstance(out, SegmentStore) and out.pinned is not None:
        return out.pinned
    decisions = decisions_of(plan, renderer)
    if isinstance(out, SegmentStore):
        out.pin(decisions)
    return decisions


def _render(
    job: RenderJob,
    renderer: Renderer,
    tasks: Iterator[FrameTask],
    out: SegmentStore | Sink,
    workers: Workers,
) -> SegmentEvents:
    set_threads(job.encoding.threads)
    if job.run.workers.kind != "inline":
        assert isinstance(out, SegmentStore)  # `decide` refuses workers for other outputs
        return _render_by_workers(job, tasks, out, workers)
    job.apply_to(renderer)
    if isinstance(out, Sink):
        return render_segments(tasks, renderer, job, output=out)
    return render_segments(out.missing(tasks), renderer, job, out.record)


def _complete(job: RenderJob, out: SegmentStore | Sink) -> Iterator[Progress]:
    """Complete the output except for its name."""
    if isinstance(out, SegmentStore):
        yield from out.join(job.encoding, overwrite=job.run.settings.overwrite)
    else:
        out.complete()


def _render_by_workers(
    job: RenderJob, tasks: Iterator[FrameTask], store: SegmentStore, workers: Workers
) -> SegmentEvents:
    empty_cache(job.run.device)  # the workers need the memory of the model
    errors: list[CloudconvError] = []

    def missing() -> Generator[SegmentPlan | None, None, None]:
        grouped = groupby(store.missing(tasks), attrgetter("segment"))
        segments = starmap(SegmentPlan.of, grouped)
        try:
            count = job.run.workers.count + _PLANNED
            with prefetch(segments, count, "plan") as ahead:
                for segment in ahead.arriving():
                    if errors:
                        return
                    yield segment
        except CloudconvError as error:  # after the segments before are made
            errors.append(error)

    with (
        closing(missing()) as waiting,
        closing(workers.map(job, waiting, store.record)) as events,
    ):
        for number, event in events:
            if isinstance(event, Finished) and isinstance(event.result, CloudconvError):
                errors.append(event.result)
            else:
                yield number, event
    if errors:
        raise errors[0]
