"""Render planned frames into files; every kind of worker uses this module."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cloudconv.errors import CloudconvError
from cloudconv.events import Progress, Warned
from cloudconv.media.frame import Frame
from cloudconv.media.task import Task
from cloudconv.media.write.encode import encoder_state
from cloudconv.media.write.sink import Sink
from cloudconv.render.device import set_threads
from cloudconv.render.pipeline import one_thread, prefetch
from cloudconv.render.renderer import Renderer
from cloudconv.segments.plan import RenderPlan

Key = TypeVar("Key")
Recorded = TypeVar("Recorded")

_SLOW = 0.5
"""The fraction of a segment's rendering time above which encoding counts as slow."""
_LEAST_SECONDS = 2.0
"""The shortest rendering time, in seconds, that shows whether encoding is slow."""


@dataclass(frozen=True, slots=True)
class RenderJob(Generic[Key]):
    """A segment to render.

    ``key`` identifies the segment for the caller. ``tasks`` are the planned frames. ``open`` opens
    the sink, which writes ``file``. ``show`` shows each frame in a preview.
    """

    key: Key
    plan: RenderPlan
    tasks: Iterable[Task]
    open: Callable[[], Sink]
    file: Path
    show: Callable[[Frame], None] = lambda _: None


def render_segment(
    job: RenderJob[Any], renderer: Renderer, sink: Sink
) -> Generator[Progress | Warned, None, None]:
    """Render and encode the frames of a segment; the caller completes the sink.

    The inference runs in another thread.

    Raises:
        CloudconvError: an error of decoding, inference or encoding.
    """
    began, encoding = time.monotonic(), 0.0
    with prefetch(renderer.render(job.tasks), 4) as frames:
        for count, frame in enumerate(frames, 1):
            shown = frame.at(frame.time + job.plan.offset, frame.duration)
            started = time.monotonic()
            sink.write(shown)
            encoding += time.monotonic() - started
            job.show(shown)
            yield from renderer.warnings()
            yield Progress("rendering", count, None)
    seconds = time.monotonic() - began
    slow = seconds >= _LEAST_SECONDS and encoding > _SLOW * seconds
    replaceable = job.plan.device == "cuda" and sink.encoder == "libx264"
    if slow and replaceable and encoder_state("h264_nvenc") == "works":
        yield Warned("nvenc-is-there", {"encoder": sink.encoder})


def render_segments(
    jobs: Iterable[RenderJob[Key]],
    renderer_of: Callable[[RenderPlan], Renderer],
    record: Callable[[RenderJob[Key], Sink], Recorded],
    *,
    is_next_known: Callable[[], bool] = lambda: True,
) -> Generator[tuple[Key, Progress | Warned | Recorded], None, None]:
    """Render segments in order, while another thread completes the previous segment's file.

    Yields each segment's key with its events, the last of which is the result of ``record``.

    Args:
        jobs: the segments; the next segment is requested when the previous one is rendered.
        renderer_of: a function that returns the renderer of a plan.
        record: a function that is called with each segment whose file is complete and synced, in
            order. Closing this generator also records a segment that another thread completes.
        is_next_known: a function that returns whether the next job is available without waiting.
            If not, a segment is completed and recorded before the wait.

    Raises:
        CloudconvError: an error of decoding, inference or encoding. Segments that are complete by
            then are recorded, and the file of the incomplete one is deleted.
    """
    flushing: tuple[RenderJob[Key], Sink, Future[Path | None]] | None = None

    def flushed() -> tuple[Key, Recorded]:
        nonlocal flushing
        assert flushing is not None
        job, sink, flush = flushing
        flush.result()
        flushing = None
        return job.key, record(job, sink)

    with one_thread("cloudconv-finish") as worker:
        try:
            for job in jobs:
                sink = job.open()
                with ExitStack() as undo:
                    undo.callback(sink.abandon)
                    for event in render_segment(job, renderer_of(job.plan), sink):
                        yield job.key, event
                        if flushing is not None and flushing[2].done():
                            yield flushed()
                    if flushing is not None:
                        yield flushed()
                    undo.pop_all()
                flushing = job, sink, worker.submit(sink.complete)
                if not is_next_known():
                    yield flushed()
            if flushing is not None:
                yield flushed()
        except CloudconvError:
            if flushing is not None:
                yield flushed()
            raise
        finally:
            if flushing is not None and flushing[2].exception() is None:
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
