"""From planned segments to their files: the one way, in this process, in another, on a cluster.

Decoding, inference, encoding, and the flush of the encoder before each have a thread of their own,
so nothing stands still where one segment ends and the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from cloudconv.engine.device import PRECISIONS, set_threads
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer, Task
from cloudconv.jobs.frames import FramesByTime
from cloudconv.jobs.workfolder import fresh_file
from cloudconv.media.encoders import EncodeSettings
from cloudconv.media.frame import Frame
from cloudconv.media.packets import PacketSummary
from cloudconv.media.probe import MediaInfo
from cloudconv.media.sink import Sink
from cloudconv.models import registry
from cloudconv.segments import Segment

Shown = Callable[[int, Frame | None], None]
"""Told how many more frames there are, and the newest of them if it was made here."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that it takes to make any segment of a job; the same wherever that is done.

    ``offset`` is when the first frame is shown, in seconds. ``batch``, ``tile`` and ``lanes`` are
    decided: a segment never decides again. ``device`` is PyTorch's name, ``precision`` a key of
    :data:`~cloudconv.engine.device.PRECISIONS`. The segments' files go into ``folder``.
    """

    info: MediaInfo
    output: Path
    folder: Path
    rate: Fraction | None
    time_base: Fraction
    offset: Fraction
    encode: EncodeSettings
    model: str
    device: str
    precision: str
    scale: float
    fallback: bool
    batch: int
    tile: int | None
    lanes: int
    threads: int | None
    deinterlace: bool

    @property
    def model_key(self) -> tuple[object, ...]:
        """Alike where the same model can be used."""
        return self.model, self.device, self.precision, self.scale, self.fallback

    @property
    def work_key(self) -> tuple[object, ...]:
        """Alike where the model works in the same way."""
        known = self.batch, self.tile, self.lanes, self.threads
        return self.info.width, self.info.height, *known

    def renderer(self, on_warning: Callable[[str], None]) -> Renderer:
        """The model on its device; see :class:`~cloudconv.engine.runner.Renderer`."""
        device, dtype = torch.device(self.device), PRECISIONS[self.precision]
        renderer = Renderer(
            registry.load(self.model, device, dtype),
            device=device,
            dtype=dtype,
            scale=self.scale,
            fallback=self.fallback,
            on_warning=on_warning,
        )
        self.keep(renderer)
        return renderer

    def keep(self, renderer: Renderer) -> None:
        """Let the renderer work as was decided."""
        renderer.keep_to(self.info.width, self.info.height, self.batch, self.tile, self.lanes)

    def sink(self, segment: Path) -> Sink:
        """The encoder of one segment."""
        return Sink(
            self.output,
            self.info,
            rate=self.rate,
            time_base=self.time_base,
            settings=self.encode,
            segment=segment,
        )

    def placed(self, frame: Frame) -> Frame:
        """The frame on the output's own clock."""
        lasts = frame.duration if self.rate is None else 1 / self.rate
        return frame.at(frame.time + self.offset, lasts)


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment, and how to make it: all that another process needs."""

    recipe: Recipe
    segment: Segment


Step = Recipe | Task | Segment
"""A recipe, for all that follows; a segment's tasks, then the segment itself. One without tasks
is there already."""


class Renderers:
    """The renderer of each recipe. The model stays loaded as long as it is the same.

    Args:
        on_warning: told, in a sentence, what the renderer of a recipe has to say.
    """

    def __init__(self, on_warning: Callable[[Recipe, str], None]) -> None:
        self._warn = on_warning
        self._renderer: Renderer | None = None
        self._recipe: Recipe | None = None

    def __call__(self, recipe: Recipe) -> Renderer:
        before, self._recipe = self._recipe, recipe
        if self._renderer is None or before is None or before.model_key != recipe.model_key:
            self._renderer = None  # before the next one takes memory
            set_threads(recipe.threads)
            self._renderer = recipe.renderer(self._told)
        elif before.work_key != recipe.work_key:
            # Not for every segment: what a lack of memory has changed stays so.
            set_threads(recipe.threads)
            recipe.keep(self._renderer)
        return self._renderer

    def _told(self, message: str) -> None:
        assert self._recipe is not None
        self._warn(self._recipe, message)


def make_segments(
    steps: Iterator[Step],
    renderer_of: Callable[[Recipe], Renderer],
    *,
    done: Callable[[Segment, Path, PacketSummary], None],
    shown: Shown,
) -> None:
    """Render and encode segment after segment.

    Args:
        steps: taken in a thread of its own, and closed in it.
        renderer_of: makes the frames of a recipe's segments.
        done: told of each segment when its file is whole and synced; from another thread, one
            segment at a time and in order.
        shown: told of each frame as it goes to the encoder, and of each segment without tasks.

    Raises:
        CloudconvError: what decoding, inference or encoding raise. Segments that were complete by
            then have been told of; the file of the unfinished one is gone.
    """
    with ExitStack() as stack:
        pictures = stack.enter_context(prefetch(_pictures(steps, renderer_of), 4))
        finisher = stack.enter_context(_Finisher(done))
        current = stack.enter_context(_Current())
        for item in pictures:
            if isinstance(item, Recipe):
                current.recipe = item
            elif isinstance(item, Frame):
                current.write(item)
                shown(1, item)
            elif current.sink is not None:
                finisher.add(item, *current.take())
            else:
                shown(len(item.frames), None)
        finisher.wait()


def decoded(pieces: Iterable[Piece]) -> Generator[Step, None, None]:
    """The steps of segments that were planned elsewhere, with frames decoded for each of them.

    Raises:
        UnfitInputError: a frame is not where the plan has seen it.
    """
    for piece in pieces:
        yield piece.recipe
        frames = _frames(piece)
        for planned in piece.segment.frames:
            left = frames.get(planned.left)
            right = None if planned.right is None else frames.get(planned.right)
            yield Task(left, right, planned.timestep, planned.time, planned.duration)
            frames.forget(planned.left)
        yield piece.segment


def _frames(piece: Piece) -> FramesByTime:
    recipe, segment = piece.recipe, piece.segment
    return FramesByTime(
        recipe.info,
        segment.sources,
        # In a loop the last frames lead on to the first one, long before them.
        main=segment.frames[0].left,
        threads=recipe.threads,
        deinterlace=recipe.deinterlace,
    )


def _pictures(
    steps: Iterator[Step], renderer_of: Callable[[Recipe], Renderer]
) -> Generator[Recipe | Frame | Segment, None, None]:
    border: Recipe | Segment | None = None

    def tasks() -> Iterator[Task]:
        nonlocal border
        border = None
        for step in steps:
            if not isinstance(step, Task):
                border = step
                return
            yield step

    renderer: Renderer | None = None
    try:
        while True:
            if renderer is not None:
                # A batch never crosses the border: a segment gives the same frames anywhere.
                yield from renderer.render(tasks())
            else:
                first = next(steps, None)
                assert not isinstance(first, Task)
                border = first
            if border is None:
                return
            if isinstance(border, Recipe):
                renderer = renderer_of(border)
            yield border
    finally:
        close: Callable[[], None] | None = getattr(steps, "close", None)
        if close is not None:
            close()


class _Current:
    """The segment that is being encoded."""

    def __init__(self) -> None:
        self.recipe: Recipe | None = None
        self.sink: Sink | None = None
        self._file = Path()

    def write(self, frame: Frame) -> None:
        recipe = self.recipe
        assert recipe is not None
        if self.sink is None:
            self._file = fresh_file(recipe.folder)
            self.sink = recipe.sink(self._file)
        self.sink.write(recipe.placed(frame))

    def take(self) -> tuple[Path, Sink]:
        """Hand it over; the next frame begins another."""
        sink, self.sink = self.sink, None
        assert sink is not None
        return self._file, sink

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.sink is not None:
            self.sink.abandon()


class _Finisher:
    """Flushes one segment's encoder while the next one is already filled."""

    def __init__(self, done: Callable[[Segment, Path, PacketSummary], None]) -> None:
        self._done = done
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cloudconv-finish")
        self._last: Future[None] | None = None

    def add(self, segment: Segment, file: Path, sink: Sink) -> None:
        with ExitStack() as undo:
            undo.callback(sink.abandon)
            self.wait()
            undo.pop_all()
        self._last = self._worker.submit(self._finish, segment, file, sink)

    def wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _finish(self, segment: Segment, file: Path, sink: Sink) -> None:
        sink.finish()
        self._done(segment, file, sink.summary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.shutdown(wait=True)
