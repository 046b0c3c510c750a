"""Render planned frames into files; every kind of worker uses this module."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from cloudconv.errors import CloudconvError
from cloudconv.events import Finished, Progress, TaskEvent, Warned
from cloudconv.media.frame import FrameTask
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.write.encode import EncodingPlan, encoder_state
from cloudconv.media.write.sink import FrameEncoder
from cloudconv.pipeline import one_thread, prefetch
from cloudconv.render.device import PRECISIONS, set_threads
from cloudconv.render.memory import Sizes
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.settings import InterpSettings

Task = TypeVar("Task")

_SLOW = 0.5
"""The fraction of a segment's rendering time above which encoding counts as slow."""
_LEAST_SECONDS = 2.0
"""The shortest rendering time, in seconds, that shows whether encoding is slow."""


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Everything that is needed to render any segment of a job, in any process.

    ``model`` is the name or file of the model, and ``threads`` the number of each worker's threads,
    None for all. ``sizes`` are the same for all segments. ``offset`` is the time of the first
    frame, in seconds. ``device`` is a type of device; each worker sees one device of that type.
    ``precision`` is a key of :data:`~cloudconv.render.device.PRECISIONS`. ``encoding`` describes
    the output. The segments' files are written to ``folder``. ``token`` identifies the folder's
    content: a machine that finds another token at that path does not see the same folder.
    """

    settings: InterpSettings
    model: str
    threads: int | None
    sizes: Sizes
    info: MediaInfo
    encoding: EncodingPlan
    folder: Path
    offset: Fraction
    device: str
    precision: str
    nvdec: bool
    token: str = ""

    @property
    def model_key(self) -> tuple[object, ...]:
        """Return a key that is equal for plans that can use the same model."""
        settings = self.settings
        options = settings.scale, settings.fallback, settings.tile
        return self.device, self.precision, self.model, *options

    def renderer(self) -> Renderer:
        """Load the model on its device, and return a renderer for frames of this plan."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        streams = self.sizes.cpu_streams
        renderer = renderer_for(self.model, self.settings, device, dtype, streams)
        self.apply_to(renderer)
        return renderer

    def apply_to(self, renderer: Renderer) -> None:
        """Set the sizes of a renderer."""
        renderer.use_sizes(self.info.width, self.info.height, self.sizes)


@dataclass(frozen=True, slots=True)
class RenderJob(Generic[Task]):
    """A segment to render.

    ``task`` identifies the segment for the caller. ``frames`` are the planned frames with their
    source frames. ``open`` opens the sink. ``finish`` is a function of what ``sink.complete``
    returned; it returns the result of the task.
    """

    task: Task
    plan: RenderPlan
    frames: Iterable[FrameTask]
    open: Callable[[], FrameEncoder]
    finish: Callable[[Any], Any]


def render_segment(
    job: RenderJob[Any], renderer: Renderer, sink: FrameEncoder
) -> Generator[Progress | Warned, None, None]:
    """Render and encode the frames of a segment; the caller completes the sink.

    The inference runs in another thread.

    Raises:
        CloudconvError: an error of decoding, inference or encoding.
    """
    began, encoding = time.monotonic(), 0.0
    with prefetch(renderer.render(job.frames), 4) as frames:
        for count, frame in enumerate(frames, 1):
            shown = frame.at(frame.time + job.plan.offset, frame.duration)
            started = time.monotonic()
            sink.write(shown)
            encoding += time.monotonic() - started
            yield from renderer.new_warnings()
            yield Progress("rendering", count, None)
    seconds = time.monotonic() - began
    slow = seconds >= _LEAST_SECONDS and encoding > _SLOW * seconds
    replaceable = job.plan.device == "cuda" and sink.encoder == "libx264"
    if slow and replaceable and encoder_state("h264_nvenc") == "works":
        yield Warned(
            f"nvenc-is-there: Encoding with {sink.encoder} is the slowest stage, and the CPU does "
            "it: --encoder=nvenc lets the GPU encode."
        )


def render_segments(
    jobs: Iterable[RenderJob[Task]],
    renderer_of: Callable[[RenderPlan], Renderer],
    *,
    is_next_known: Callable[[], bool] = lambda: True,
) -> Generator[TaskEvent[Task], None, None]:
    """Render segments in order, while another thread completes the previous segment's file.

    Yields the events of each segment; ``Finished`` has the result of ``job.finish``, which is
    called when the file is complete and synced. Closing this generator also finishes a segment that
    another thread completes.

    Args:
        jobs: the segments; the next segment is requested when the previous one is rendered.
        renderer_of: a function that returns the renderer of a plan.
        is_next_known: a function that returns whether the next job is available without waiting.
            If not, a segment is completed and finished before the wait.

    Raises:
        CloudconvError: an error of decoding, inference or encoding. Segments that are complete by
            then are finished, and the file of the incomplete one is deleted.
    """
    flushing: tuple[RenderJob[Task], Future[Any]] | None = None

    def flushed() -> TaskEvent[Task]:
        nonlocal flushing
        assert flushing is not None
        job, flush = flushing
        completed = flush.result()
        flushing = None
        return TaskEvent(job.task, Finished(job.finish(completed)))

    with one_thread("cloudconv-finish") as worker:
        try:
            for job in jobs:
                sink = job.open()
                with ExitStack() as undo:
                    undo.callback(sink.abandon)
                    for event in render_segment(job, renderer_of(job.plan), sink):
                        yield TaskEvent(job.task, event)
                        if flushing is not None and flushing[1].done():
                            yield flushed()
                    if flushing is not None:
                        yield flushed()
                    undo.pop_all()
                flushing = job, worker.submit(sink.complete)
                if not is_next_known():
                    yield flushed()
            if flushing is not None:
                yield flushed()
        except CloudconvError:
            if flushing is not None:
                yield flushed()
            raise
        finally:
            if flushing is not None and flushing[1].exception() is None:
                flushed()


class RendererCache:
    """A cache of one renderer, whose model stays loaded while plans use the same model."""

    def __init__(self) -> None:
        """Create an empty cache."""
        self._renderer: Renderer | None = None
        self._plan: RenderPlan | None = None

    def __call__(self, plan: RenderPlan) -> Renderer:
        """Return the renderer of a plan, with the plan's frame size, batch and tiles."""
        before, self._plan = self._plan, plan
        # An equal plan keeps the batch size, which a lack of memory may have reduced.
        if self._renderer is None or before != plan:
            set_threads(plan.threads)
            if self._renderer is None or before is None or before.model_key != plan.model_key:
                self._renderer = None  # frees the memory for the next one
                self._renderer = plan.renderer()
            else:
                plan.apply_to(self._renderer)
        return self._renderer
