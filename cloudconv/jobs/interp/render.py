"""Render planned frames into files, in this process or in a worker."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cloudconv.errors import CloudconvError, DeviceError, UnfitInputError
from cloudconv.events import Finished, Progress, SegmentEvent
from cloudconv.jobs.interp.plan import InterpPlan
from cloudconv.jobs.interp.segments import Segment, SegmentPlan
from cloudconv.jobs.interp.store import FinishedSegment, fresh_file, token_of
from cloudconv.media.encoding import EncodingPlan
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.pipeline import one_thread, prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import Sizes
from cloudconv.render.renderer import Renderer, renderer_for


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Everything that is needed to render any segment of a run, in any process.

    ``threads`` is the number of each worker's threads, None for all. ``sizes`` are the same for all
    segments. ``nvdec``: the GPU of each worker decodes. The segments' files are written to
    ``folder``. ``token`` identifies the folder's content: a machine that finds another token at
    that path does not see the same folder. Paths are absolute.
    """

    run: InterpPlan
    encoding: EncodingPlan
    threads: int | None
    sizes: Sizes
    nvdec: bool
    folder: Path
    token: str

    @property
    def model_key(self) -> tuple[object, ...]:
        """Return a key that is equal for plans that can use the same model."""
        run, settings = self.run, self.run.settings
        options = settings.scale, settings.fallback, settings.tile, settings.timesteps
        return run.workers.device_type, run.dtype, settings.chosen_model, run.weights, *options

    def source(self) -> Source:
        """Return a source that stays open between two segments, in a process with one GPU."""
        return Source(self.run.info, threads=self.threads, nvdec=0 if self.nvdec else None)

    def apply_to(self, renderer: Renderer) -> None:
        """Set the sizes of a renderer."""
        renderer.use_sizes(self.run.info.width, self.run.info.height, self.sizes)


def decode(segment: SegmentPlan, source: Source) -> Iterator[FrameTask]:
    """Decode the source frames of a segment, and yield each planned frame with its source frames.

    Raises UnfitInputError if the source has changed and has no frame at a planned time.
    """
    info, wanted, main = source.info, set(segment.sources), segment.start
    origin = info.timing.start
    decoded: dict[Fraction, Frame] = {}
    # The last frames of a loop also need the source's first frame, which is before this start.
    for early in sorted(each for each in wanted if each < main):
        first = next(source.frames(start=early - origin), None)
        if first is not None and first.time == early:
            decoded[early] = first
    frames, is_whole = source.onward(main - origin), False

    def get(time: Fraction) -> Frame:
        nonlocal frames, is_whole
        while time not in decoded:
            frame = next(frames, None)
            if frame is not None and frame.time <= time:
                if frame.time in wanted:
                    decoded[frame.time] = frame
            elif is_whole:
                raise UnfitInputError(
                    f"frame-gone: {info.path} has no frame at {float(time):.3f} s any more: the "
                    "file has changed, or it is damaged and each reading gives other frames. "
                    "Repair the file, or convert a copy of it, and start again; interp needs "
                    "--no-resume then."
                )
            else:
                # Start at the beginning: some damaged files lose frames after a seek.
                frames, is_whole = source.frames(), True
        return decoded[time]

    lefts = main, segment.frames[0].left
    for plan in segment.frames:
        yield plan.of(get)
        # The left frame of the previous pair may still be an outer frame of this pair.
        lefts = lefts if plan.left == lefts[1] else (lefts[1], plan.left)
        for old in [each for each in decoded if main <= each < lefts[0]]:
            del decoded[old]


SegmentEvents = Generator[SegmentEvent, None, None]


def render_segments(
    segments: Iterable[Segment], renderer: Renderer, offset: Fraction
) -> SegmentEvents:
    """Render segments in order, while another thread completes the previous segment's file.

    ``offset`` is the output's time of the first frame, in seconds. Yield the events of each
    segment; ``Finished`` has what its ``keep`` returned. The device makes the frames of the next
    segment meanwhile. If a segment cannot be planned to its end, the frames before are rendered,
    and then the error is raised. The file of an incomplete segment is deleted; after an interrupt
    it ends with its last encoded frame, if there is ``keep``.
    """
    taken: deque[Segment] = deque()
    errors: list[CloudconvError] = []

    def completed(segment: Segment) -> SegmentEvent:
        return SegmentEvent(segment.number, Finished(segment.complete()))

    def abandon() -> None:
        if taken and taken[0].encoder is not None:
            taken[0].encoder.abandon()

    with ExitStack() as stack:
        # After an interrupt the threads may still be encoding: they end before the file is closed.
        stack.callback(abandon)
        worker = stack.enter_context(one_thread("cloudconv-finish"))
        # An interrupt leaves no frame half encoded.
        encoding = stack.enter_context(one_thread("cloudconv-encode"))
        flushing: list[Future[SegmentEvent]] = []
        made = stack.enter_context(prefetch(renderer.render(_tasks(segments, taken, errors)), 4))
        try:
            for frame in chain(made, [None]):
                if taken and taken[0].is_written:
                    yield from (each.result() for each in flushing)
                    done = taken.popleft()
                    flushing = [worker.submit(completed, done)]
                    assert done.encoder is not None
                    yield from (SegmentEvent(done.number, each) for each in done.encoder.warnings)
                if frame is None:
                    break
                segment = taken[0]
                timed = frame.at(frame.time + offset, frame.duration)
                encoding.submit(segment.write, timed).result()
                written = Progress("rendering", segment.written, None)
                for event in (*renderer.new_warnings(), written):
                    yield SegmentEvent(segment.number, event)
                if flushing and flushing[0].done():
                    yield flushing.pop().result()
        except (KeyboardInterrupt, GeneratorExit):
            if taken and taken[0].keep is not None:
                with suppress(CloudconvError, AssertionError):  # no frame, or no room
                    encoding.submit(completed, taken.popleft()).result()
            raise
        yield from (each.result() for each in flushing)
        if errors:
            raise errors[0]


def _tasks(
    segments: Iterable[Segment], taken: deque[Segment], errors: list[CloudconvError]
) -> Iterator[FrameTask | None]:
    """Yield the tasks of all segments, each of which joins ``taken``; an error ends the tasks."""
    try:
        for segment in segments:
            taken.append(segment)
            yield from segment.tasks()
    except CloudconvError as error:
        errors.append(error)


class SegmentWork:
    """Render segments in a worker; model and source remain open between two segments."""

    def __init__(self) -> None:
        self._plan: RenderPlan | None = None
        self._renderer: Renderer | None = None
        self._source: Source | None = None

    def __call__(self, plan: RenderPlan, segment: SegmentPlan) -> Iterator[Any]:
        """Render a segment; yield its progress, warnings, and ``Finished`` with the result."""
        source, renderer = self._opened(plan)
        if token_of(plan.folder) != plan.token:
            raise DeviceError(
                f"folder-not-shared: A machine of the cluster does not see {plan.folder}: give all "
                "machines the input, the weights and the output's folder at the same paths."
            )
        made: list[FinishedSegment] = []

        def keep(_: SegmentPlan, *finished: Any) -> FinishedSegment:
            made.append(finished)
            return finished

        def encoder() -> Sink:
            return Sink(plan.encoding, file=fresh_file(plan.folder))

        with prefetch(decode(segment, source), 8) as frames:
            opened = Segment(segment.number, frames, encoder, keep)
            events = render_segments([opened], renderer, plan.encoding.offset)
            try:
                for event in events:
                    yield event.content
            except KeyboardInterrupt:
                events.close()
                yield from map(Finished, made)

    def _opened(self, plan: RenderPlan) -> tuple[Source, Renderer]:
        before, self._plan = self._plan, plan
        # An equal plan keeps the batch size, which a lack of memory may have reduced.
        if self._source is None or self._renderer is None or before != plan:
            set_threads(plan.threads)
            if self._renderer is None or before is None or before.model_key != plan.model_key:
                self._renderer = None  # frees the memory for the next one
                run, device = plan.run, torch.device(plan.run.workers.device_type)  # of a worker
                given = run.settings.chosen_model, run.settings, device, run.dtype
                streams = plan.sizes.cpu_streams
                self._renderer = renderer_for(*given, streams, sha256=run.weights)
            plan.apply_to(self._renderer)
            if self._source is not None:
                self._source.__exit__()
            self._source = plan.source()
        return self._source, self._renderer
