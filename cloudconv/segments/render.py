"""From planned segments to their files: the one way, in this process, in another, on a cluster.

Decoding, inference, encoding, and the flush of the encoder before each have a thread of their own,
so nothing stands still where one segment ends and the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from typing import Self

from cloudconv.events import Warned
from cloudconv.media.frame import Frame
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import Sink
from cloudconv.render.device import set_threads
from cloudconv.render.pipeline import one_thread, prefetch
from cloudconv.render.renderer import FrameTask, OuterFrame, Renderer
from cloudconv.segments.plan import PlannedTask, RenderPlan, SegmentTask
from cloudconv.segments.reader import FramesByTime
from cloudconv.segments.segment import OuterTime, Segment
from cloudconv.segments.store import fresh_file


class RendererCache:
    """The renderer of each plan. The model stays loaded as long as it is the same.

    Args:
        on_warning: told what the renderer of a plan has to say.
    """

    def __init__(self, on_warning: Callable[[RenderPlan, Warned], None]) -> None:
        self._warn = on_warning
        self._renderer: Renderer | None = None
        self._plan: RenderPlan | None = None

    def __call__(self, plan: RenderPlan) -> Renderer:
        before, self._plan = self._plan, plan
        if self._renderer is None or before is None or before.model_key != plan.model_key:
            self._renderer = None  # before the next one takes memory
            set_threads(plan.threads)
            self._renderer = plan.renderer(self._told)
        elif before.work_key != plan.work_key:
            # Not for every segment: what a lack of memory has changed stays so.
            set_threads(plan.threads)
            plan.keep(self._renderer)
        return self._renderer

    def _told(self, message: Warned) -> None:
        assert self._plan is not None
        self._warn(self._plan, message)


def render_segments(
    tasks: Iterator[PlannedTask],
    renderer_of: Callable[[RenderPlan], Renderer],
    record: Callable[[Segment, Path, PacketSummary], None],
) -> Generator[Frame, None, None]:
    """Render and encode segment after segment; yields each frame when the encoder has it.

    Args:
        tasks: taken in a thread of its own, and closed in it.
        renderer_of: makes the frames of a plan's segments.
        record: told of each segment when its file is whole and synced; from another thread, one
            segment at a time and in order.

    Raises:
        CloudconvError: what decoding, inference or encoding raise. Segments that were complete by
            then have been recorded; the file of the unfinished one is gone.
    """
    with prefetch(_rendered(tasks, renderer_of), 4) as pictures, _Encoder(record) as encoder:
        for frame, plan, completes in pictures:
            encoder.write(frame, plan)
            yield frame
            if completes is not None:
                encoder.finish(completes)
        encoder.wait()


def decoded(pieces: Iterable[SegmentTask]) -> Generator[PlannedTask, None, None]:
    """The tasks of segments that were planned elsewhere, with frames decoded for each of them.

    Raises:
        UnfitInputError: a frame is not where the plan has seen it.
    """
    for piece in pieces:
        frames = _frames(piece)
        lefts = piece.segment.start, piece.segment.frames[0].left
        for number, planned in enumerate(piece.segment.frames, 1):
            left = frames.get(planned.left)
            right = None if planned.right is None else frames.get(planned.right)
            task = FrameTask(
                left,
                right,
                planned.timestep,
                planned.time,
                planned.duration,
                before=_outer(frames, planned.before),
                after=_outer(frames, planned.after),
            )
            last = number == len(piece.segment.frames)
            yield PlannedTask(piece.plan, task, piece.segment if last else None)
            # The one before it may still be asked for, as what lies before a pair.
            lefts = lefts if planned.left == lefts[1] else (lefts[1], planned.left)
            frames.forget(lefts[0])


def _outer(frames: FramesByTime, planned: OuterTime | None) -> OuterFrame | None:
    return planned and OuterFrame(frames.get(planned.time), planned.reach)


def _frames(piece: SegmentTask) -> FramesByTime:
    plan, segment = piece.plan, piece.segment
    return FramesByTime(
        plan.info,
        segment.sources,
        # In a loop the last frames lead on to the first one, long before them.
        main=segment.start,
        threads=plan.threads,
        deinterlace=plan.deinterlace,
        nvdec=plan.nvdec,
    )


def _rendered(
    tasks: Iterator[PlannedTask], renderer_of: Callable[[RenderPlan], Renderer]
) -> Generator[tuple[Frame, RenderPlan, Segment | None], None, None]:
    """Each frame, how its segment is made, and that segment if the frame is its last."""
    completed: Segment | None = None

    def of_segment(first: PlannedTask) -> Iterator[FrameTask]:
        nonlocal completed
        for item in chain([first], tasks):
            completed = item.completes
            yield item.task
            if completed is not None:
                return

    try:
        for first in tasks:
            # A batch never crosses the border: a segment gives the same frames anywhere.
            frames = renderer_of(first.plan).render(of_segment(first))
            held = next(frames)
            for frame in frames:
                yield held, first.plan, None
                held = frame
            yield held, first.plan, completed
    finally:
        close: Callable[[], None] | None = getattr(tasks, "close", None)
        if close is not None:
            close()


class _Encoder:
    """Encodes segment after segment; flushes one while the next is already filled."""

    def __init__(self, record: Callable[[Segment, Path, PacketSummary], None]) -> None:
        self._record = record
        self._worker = one_thread("cloudconv-finish")
        self._last: Future[None] | None = None
        self._sink: Sink | None = None
        self._file = Path()

    def write(self, frame: Frame, plan: RenderPlan) -> None:
        if self._sink is None:
            self._file = fresh_file(plan.folder)
            self._sink = plan.sink(self._file)
        self._sink.write(plan.placed(frame))

    def finish(self, segment: Segment) -> None:
        """The next frame begins another segment."""
        self.wait()
        sink, self._sink = self._sink, None
        assert sink is not None
        self._last = self._worker.submit(self._finish, segment, self._file, sink)

    def wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _finish(self, segment: Segment, file: Path, sink: Sink) -> None:
        sink.finish()
        self._record(segment, file, sink.summary)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sink is not None:
            self._sink.abandon()
        self._worker.shutdown(wait=True)
