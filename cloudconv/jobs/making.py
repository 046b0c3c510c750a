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

from cloudconv.engine.device import PRECISIONS
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer, Task
from cloudconv.errors import InputError
from cloudconv.media.encoders import EncodeSettings
from cloudconv.media.frame import Frame
from cloudconv.media.packets import PacketSummary
from cloudconv.media.probe import MediaInfo
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.models import registry
from cloudconv.segments import Segment

Step = Task | Segment
"""A segment's tasks, then the segment itself; one without tasks is there already."""
Shown = Callable[[int, Frame | None], None]
"""Told how many more frames there are, and the newest of them if it was made here."""

# Seconds before a segment that are decoded as well where fields are made whole.
_EARLY = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that it takes to make any segment of a job; the same wherever that is done.

    ``offset`` is when the first frame is shown, in seconds. ``batch`` and ``tile`` are decided: a
    segment never decides again. ``device`` is PyTorch's name, ``precision`` a key of
    :data:`~cloudconv.engine.device.PRECISIONS`.
    """

    info: MediaInfo
    output: Path
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
    threads: int | None
    deinterlace: bool

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
        renderer.keep_to(self.info.width, self.info.height, self.batch, self.tile)
        return renderer

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


def make_segments(
    recipe: Recipe,
    renderer: Renderer,
    steps: Iterator[Step],
    *,
    new_file: Callable[[], Path],
    done: Callable[[Segment, Path, PacketSummary], None],
    shown: Shown,
) -> None:
    """Render and encode segment after segment.

    Args:
        recipe: what the encoders are set up from.
        renderer: of the same recipe.
        steps: taken in a thread of its own, and closed in it.
        new_file: a fresh path for a segment's file.
        done: told of each segment when its file is whole and synced; from another thread, one
            segment at a time and in order.
        shown: told of each frame as it goes to the encoder, and of each segment without tasks.

    Raises:
        CloudconvError: what decoding, inference or encoding raise. Segments that were complete by
            then have been told of; the file of the unfinished one is gone.
    """
    with ExitStack() as stack:
        pictures = stack.enter_context(prefetch(_pictures(renderer, steps), 4))
        finisher = stack.enter_context(_Finisher(done))
        current = stack.enter_context(_Current(recipe, new_file))
        for item in pictures:
            if isinstance(item, Frame):
                current.write(item)
                shown(1, item)
            elif current.sink is not None:
                finisher.add(item, *current.take())
            else:
                shown(len(item.frames), None)
        finisher.wait()


def decoded(recipe: Recipe, segments: Iterable[Segment]) -> Generator[Step, None, None]:
    """The steps of segments that were planned elsewhere, with frames decoded for each of them.

    Raises:
        InputError: a frame is not where the plan has seen it.
    """
    for segment in segments:
        frames = _Frames(recipe, segment)
        for planned in segment.frames:
            left = frames.get(planned.left)
            right = None if planned.right is None else frames.get(planned.right)
            yield Task(left, right, planned.timestep, planned.time, planned.duration)
            frames.forget(planned.left)
        yield segment


def _pictures(renderer: Renderer, steps: Iterator[Step]) -> Generator[Frame | Segment, None, None]:
    ended: Segment | None = None

    def tasks() -> Iterator[Task]:
        nonlocal ended
        ended = None
        for step in steps:
            if isinstance(step, Segment):
                ended = step
                return
            yield step

    try:
        while True:
            # A batch never crosses the border: the same segment gives the same frames anywhere.
            yield from renderer.render(tasks())
            if ended is None:
                return
            yield ended
    finally:
        close: Callable[[], None] | None = getattr(steps, "close", None)
        if close is not None:
            close()


class _Current:
    """The segment that is being encoded."""

    def __init__(self, recipe: Recipe, new_file: Callable[[], Path]) -> None:
        self.sink: Sink | None = None
        self._file = Path()
        self._recipe = recipe
        self._new_file = new_file

    def write(self, frame: Frame) -> None:
        if self.sink is None:
            self._file = self._new_file()
            self.sink = self._recipe.sink(self._file)
        self.sink.write(self._recipe.placed(frame))

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


class _Frames:
    """The source frames that a segment needs, by their times, decoded as they are asked for."""

    def __init__(self, recipe: Recipe, segment: Segment) -> None:
        self._recipe = recipe
        self._wanted = set(segment.sources)
        # In a loop the last frames lead on to the first one, long before them.
        self._main = segment.frames[0].left
        self._held: dict[Fraction, Frame] = {}
        self._frames = self._from(self._main)
        self._whole = False

    def get(self, time: Fraction) -> Frame:
        if time < self._main and time not in self._held:
            self._held[time] = next(self._from(time))
        while time not in self._held:
            frame = next(self._frames, None)
            if frame is not None and frame.time <= time:
                if frame.time in self._wanted:
                    self._held[frame.time] = frame
            elif self._whole:
                path = self._recipe.info.path
                raise InputError(
                    f"{path} has no frame at {float(time):.3f} s any more: it has changed, or it "
                    "is damaged and decodes otherwise each time."
                )
            else:
                # Some damaged files lose frames after a seek.
                self._frames, self._whole = self._from(None), True
        return self._held[time]

    def forget(self, before: Fraction) -> None:
        for time in [t for t in self._held if self._main <= t < before]:
            del self._held[time]

    def _from(self, time: Fraction | None) -> Iterator[Frame]:
        recipe, start = self._recipe, None
        if time is not None:
            # A frame is made whole with the help of its neighbours, so those are decoded as well.
            early = _EARLY if recipe.deinterlace else 0
            start = max(time - recipe.info.timing.start - early, Fraction(0))
        frames = Source(
            recipe.info, start=start, threads=recipe.threads, deinterlace=recipe.deinterlace
        ).frames()
        return frames if time is None else (frame for frame in frames if frame.time >= time)
