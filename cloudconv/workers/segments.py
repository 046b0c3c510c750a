"""Render segments in workers: the same code in every process and on every machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from cloudconv.media.pictures import Pictures
from cloudconv.media.write.packets import PacketSummary
from cloudconv.render.pipeline import prefetch
from cloudconv.segments.plan import RenderPlan
from cloudconv.segments.reader import decode
from cloudconv.segments.render import Rendered, RendererCache, RenderJob, render_segments
from cloudconv.segments.segment import OpenSegment, SegmentPlan
from cloudconv.segments.store import fresh_file, save, token_of
from cloudconv.timeline import FramePlan
from cloudconv.workers.events import Done, Event, Report, Tasks, Work

SegmentTask = tuple[RenderPlan, SegmentPlan]
"""A segment, and everything that is needed to render it."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment's packets: the file ``name`` in the store, or ``data`` from another machine."""

    summary: PacketSummary
    name: str = ""
    data: bytes = b""

    def file_in(self, folder: Path) -> Path:
        """Return the segment's file in the store's folder, and write it if necessary.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.name:
            return folder / self.name
        file = fresh_file(folder)
        save(file, self.data)
        return file


class SegmentWork(Work[SegmentTask]):
    """The rendering of segments; reports the progress of each segment, and warnings."""

    def __init__(self) -> None:
        """Start without a model."""
        self._renderers = RendererCache()

    def __call__(self, tasks: Tasks[SegmentTask]) -> Generator[Event[SegmentTask], None, None]:
        """Render the segments of all tasks."""
        taken: SimpleQueue[SegmentTask] = SimpleQueue()
        pictures = Pictures()
        with ExitStack() as stack:
            planned = stack.enter_context(prefetch(_decoded(tasks, taken, pictures), 8))
            stack.callback(tasks.close)
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="cloudconv-")))
            jobs = _jobs(planned, taken, pictures, folder)
            events = render_segments(
                jobs, self._renderers, lambda *_: None, is_next_known=lambda: planned.ready
            )
            with closing(events):
                for task, event in events:
                    if isinstance(event, Rendered):
                        yield Done(task, _result(task, event))
                    else:
                        yield Report(task, event)

    def files(self, task: SegmentTask) -> tuple[Path, ...]:
        """Return the video and the weights file."""
        model = Path(task[0].model)
        return (task[0].info.path, *([model] if model.suffix == ".safetensors" else []))

    def moved(self, task: SegmentTask, files: Mapping[Path, Path]) -> SegmentTask:
        """Return the task with the paths of another machine."""
        plan, segment = task
        model = str(files.get(Path(plan.model), plan.model))
        info = replace(plan.info, path=files[plan.info.path])
        return replace(plan, info=info, model=model), segment


def _decoded(
    tasks: Tasks[SegmentTask], taken: SimpleQueue[SegmentTask], pictures: Pictures
) -> Iterator[tuple[FramePlan, SegmentPlan | None]]:
    """Yield each frame of all tasks, with the segment of which it is the last frame, or None."""
    for task in tasks:
        taken.put(task)
        plan, segment = task
        for number, frame in enumerate(decode(plan, segment, pictures), 1):
            yield frame, segment if number == len(segment.frames) else None


def _jobs(
    planned: Iterator[tuple[FramePlan, SegmentPlan | None]],
    taken: SimpleQueue[SegmentTask],
    pictures: Pictures,
    folder: Path,
) -> Iterator[RenderJob[SegmentTask]]:
    for segment in OpenSegment.each(planned):
        task = taken.get()
        plan = task[0]
        # A machine without access to the store sends the packets.
        file = fresh_file(plan.folder if token_of(plan.folder) == plan.token else folder)
        yield RenderJob(task, plan, segment, pictures, partial(plan.sink, file), file)


def _result(task: SegmentTask, made: Rendered) -> SegmentResult:
    data = b"" if made.file.parent == task[0].folder else made.file.read_bytes()
    if data:
        made.file.unlink()
    return SegmentResult(made.sink.summary, "" if data else made.file.name, data)
