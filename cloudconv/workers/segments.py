"""Segments rendered by workers: the same function in every process and on every machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from cloudconv.events import Warned
from cloudconv.media.write.packets import PacketSummary
from cloudconv.render.pipeline import prefetch
from cloudconv.segments.plan import RenderPlan, SegmentTask
from cloudconv.segments.render import RendererCache, decoded, render_segments
from cloudconv.segments.segment import Segment
from cloudconv.segments.store import fresh_file, save, token_of
from cloudconv.workers.events import Done, Event, Report, Tasks, Work


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment's packets: in the store as ``name``, or ``data`` where that is out of reach."""

    summary: PacketSummary
    name: str = ""
    data: bytes = b""

    def file_in(self, folder: Path) -> Path:
        """The segment's file, in the store's folder. Raises OutputError: it cannot be written."""
        if self.name:
            return folder / self.name
        file = fresh_file(folder)
        save(file, self.data)
        return file


class SegmentWork(Work[SegmentTask]):
    """Renders segments. Reports how many of a segment's frames are encoded, and warnings."""

    def __init__(self) -> None:
        self._call: _Call | None = None
        self._renderers: RendererCache | None = None

    def __call__(self, tasks: Tasks[SegmentTask]) -> Generator[Event[SegmentTask], None, None]:
        if self._renderers is None:
            self._renderers = RendererCache(self._warn)
        self._call = call = _Call(tasks)
        with ThreadPoolExecutor(1, thread_name_prefix="cloudconv-segments") as worker:
            running = worker.submit(call.render, self._renderers)
            running.add_done_callback(lambda _: call.events.put(None))
            with closing(tasks):
                while (event := call.events.get()) is not None:
                    yield event
            running.result()

    def _warn(self, plan: RenderPlan, message: Warned) -> None:
        assert self._call is not None
        self._call.warn(plan, message)

    def files(self, task: SegmentTask) -> tuple[Path, ...]:
        model = Path(task.plan.model)
        return (task.plan.info.path, *([model] if model.suffix == ".safetensors" else []))

    def moved(self, task: SegmentTask, files: Mapping[Path, Path]) -> SegmentTask:
        plan = task.plan
        model = str(files.get(Path(plan.model), plan.model))
        info = replace(plan.info, path=files[plan.info.path])
        return replace(task, plan=replace(plan, info=info, model=model))


class _Call:
    """Tasks on their way through the threads that render them."""

    def __init__(self, tasks: Tasks[SegmentTask]) -> None:
        self.events: SimpleQueue[Event[SegmentTask] | None] = SimpleQueue()
        self._tasks = tasks
        self._under_way: deque[tuple[SegmentTask, RenderPlan]] = deque()

    def render(self, renderers: RendererCache) -> None:
        lengths: deque[tuple[SegmentTask, int]] = deque()
        with ExitStack() as stack:
            planned = stack.enter_context(prefetch(decoded(self._taken(stack, lengths)), 8))
            stack.callback(self._tasks.close)
            made = 0
            for _ in render_segments(planned, renderers, self._record):
                task, frames = lengths[0]
                made += 1
                self.events.put(Report(task, made))
                if made == frames:
                    lengths.popleft()
                    made = 0

    def warn(self, plan: RenderPlan, message: Warned) -> None:
        task = next(task for task, used in self._under_way if used is plan)
        self.events.put(Report(task, message))

    def _taken(
        self, stack: ExitStack, lengths: deque[tuple[SegmentTask, int]]
    ) -> Iterator[SegmentTask]:
        for task in self._tasks:
            plan = task.plan
            if token_of(plan.folder) != plan.token:
                # On a machine that does not see the store.
                folder = stack.enter_context(TemporaryDirectory(prefix="cloudconv-"))
                plan = replace(plan, folder=Path(folder))
            self._under_way.append((task, plan))
            lengths.append((task, len(task.segment.frames)))
            yield SegmentTask(plan, task.segment)

    def _record(self, segment: Segment, file: Path, summary: PacketSummary) -> None:
        task, plan = self._under_way.popleft()
        data = b"" if plan is task.plan else file.read_bytes()
        result = SegmentResult(summary, "" if data else file.name, data)
        self.events.put(Done(task, result))
