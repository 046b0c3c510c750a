"""Render segments in worker processes, on this machine or on another one."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from cloudconv.checkpoints import is_file_name
from cloudconv.events import TaskEvent
from cloudconv.media.frame import FrameTask
from cloudconv.media.read.decode import DecoderCache
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import SegmentSink
from cloudconv.pipeline import prefetch
from cloudconv.segments.reader import decode
from cloudconv.segments.render import RendererCache, RenderJob, RenderPlan, render_segments
from cloudconv.segments.segment import SegmentPlan
from cloudconv.segments.store import fresh_file, save, token_of
from cloudconv.workers.events import Tasks, Work

SegmentTask = tuple[RenderPlan, SegmentPlan]
"""A segment, and everything that is needed to render it."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment's packets: a file ``name`` in the work folder, or ``data`` from another machine."""

    summary: PacketSummary
    name: str = ""
    data: bytes = b""

    def file_in(self, folder: Path) -> Path:
        """Return the segment's file in the work folder; write the file if ``data`` has the packets.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.name:
            return folder / self.name
        file = fresh_file(folder)
        save(file, self.data)
        return file


class SegmentWork(Work[SegmentTask]):
    """The work of rendering segments; reports the progress of each segment, and warnings."""

    def __init__(self) -> None:
        """Start without a model."""
        self._renderers = RendererCache()

    def __call__(self, tasks: Tasks[SegmentTask]) -> Generator[TaskEvent[SegmentTask], None, None]:
        """Render the segments of all tasks."""
        taken: SimpleQueue[SegmentTask] = SimpleQueue()
        with ExitStack() as stack:
            frames = stack.enter_context(prefetch(_decoded(tasks, taken), 8))
            stack.callback(tasks.close)
            jobs = _jobs(frames, taken, stack)
            yield from render_segments(jobs, self._renderers, is_next_known=lambda: frames.ready)

    def files(self, task: SegmentTask) -> tuple[Path, ...]:
        """Return the video and the weights file."""
        model = Path(task[0].model)
        return (task[0].info.path, *([model] if is_file_name(model) else []))

    def moved(self, task: SegmentTask, files: Mapping[Path, Path]) -> SegmentTask:
        """Return the task with the paths that its files have on another machine."""
        plan, segment = task
        model = str(files.get(Path(plan.model), plan.model))
        # A copy on another machine has another date; without a fingerprint the date is not checked.
        info = replace(plan.info, path=files[plan.info.path], fingerprint="")
        return replace(plan, info=info, model=model), segment


def _decoded(tasks: Tasks[SegmentTask], taken: SimpleQueue[SegmentTask]) -> Iterator[FrameTask]:
    """Yield the frames of all tasks; put each task into ``taken`` before its frames."""
    with closing(DecoderCache()) as cache:
        for task in tasks:
            taken.put(task)
            yield from decode(*task, cache)


def _jobs(
    frames: Iterator[FrameTask], taken: SimpleQueue[SegmentTask], stack: ExitStack
) -> Iterator[RenderJob[SegmentTask]]:
    """Yield a job for each task; ``stack`` deletes temporary folders."""
    for first in frames:
        plan, segment = task = taken.get()
        own = chain([first], islice(frames, len(segment.frames) - 1))
        del first  # releases its pictures as soon as they are rendered
        folder = plan.folder
        if token_of(folder) != plan.token:
            # A machine without access to the work folder sends the packets. With access, no
            # temporary folder is created: the main process ends its workers without any cleanup.
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="cloudconv-")))
        file = fresh_file(folder)
        sink, result = partial(SegmentSink, plan.encoding, file), partial(_result, plan, file)
        yield RenderJob(task, plan, own, sink, result)


def _result(plan: RenderPlan, file: Path, summary: PacketSummary) -> SegmentResult:
    if file.parent == plan.folder:
        return SegmentResult(summary, file.name)
    data = file.read_bytes()
    file.unlink()
    return SegmentResult(summary, data=data)
