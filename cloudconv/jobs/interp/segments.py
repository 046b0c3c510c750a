"""Divide the output frames of a run into segments, and render segments in any process.

Segments are independent of each other: an interrupted run resumes after the finished
segments, and several processes or machines can make segments at once. The plan of a segment
and the source are enough to make its frames in any process.
"""

import hashlib
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import chain, count
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from cloudconv.doubts import SHOWN, Box, entry, joined, of_one
from cloudconv.errors import CloudconvError, DeviceError, UnfitInputError
from cloudconv.events import Event, Finished, Progress, Warnings
from cloudconv.jobs.interp.opened import renderer_on
from cloudconv.jobs.interp.plan import InterpPlan
from cloudconv.jobs.reports import pictured
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.encoding import EncodingPlan
from cloudconv.media.writing.packets import PacketFile, PacketSummary, Writer
from cloudconv.media.writing.sink import Sink
from cloudconv.pipeline import one_thread, prefetch
from cloudconv.render.device import set_threads
from cloudconv.render.memory import Sizes
from cloudconv.render.renderer import Rendered, Renderer
from cloudconv.timeline import Task

MAX_SOURCE_FRAMES = 64  # the largest number of source frames that start a pair in a segment
MAX_FRAMES = 512
"""The largest number of output frames in a segment, so that the end of a run loses little
work."""
MAX_NEW_PIXELS = 200_000_000
"""The number of pixels of new frames after which a segment ends, for the same reason."""
_FIRST = 8
"""The largest number of source frames in the first segment, and the least in one that ends
at a cut. Each further segment doubles this number, up to ``MAX_SOURCE_FRAMES``."""
GUESS = "no motion explains the change"
"""The clause about a new frame that is a guess."""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Consecutive output frames; ``number`` is that of the first one, counted from 0."""

    number: int
    frames: tuple[Task[Fraction], ...]

    @classmethod
    def of(cls, number: int, tasks: Iterable[FrameTask]) -> Self:
        """Return the plan of a segment's frames, which need not be decoded any more."""
        return cls(number, tuple(task.of(attrgetter("time")) for task in tasks))

    @property
    def digest(self) -> str:
        """Return a hash of the plan, which does not depend on the process."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]

    @property
    def sources(self) -> list[Fraction]:
        """Return the times of all source frames that the segment needs, in order."""
        return sorted(set().union(*(frame.sources for frame in self.frames)))

    @property
    def start(self) -> Fraction:
        """Return the time of the segment's first source frame.

        ``right`` does not count. In the last pair of a loop, ``right`` is the first frame
        of the video, which can be earlier than the segment.
        """
        parts = [part for frame in self.frames for part in (frame, *frame.seen)]
        before = [part.before[0] for part in parts if part.before is not None]
        return min([self.frames[0].left, *before])


FinishedSegment = tuple[Path, PacketSummary]
"""The complete file of a segment, and its summary."""
SegmentEvents = Generator[tuple[int, Event], None, None]
"""Events, each with the number of its segment."""
Keep = Callable[[SegmentPlan, FinishedSegment], Any]
"""A function that keeps a finished segment."""


def divide(tasks: Iterable[FrameTask]) -> Iterator[FrameTask]:
    """Give each planned frame the number of its segment.

    A segment ends after :data:`MAX_SOURCE_FRAMES` source frames, :data:`MAX_FRAMES` output
    frames or :data:`MAX_NEW_PIXELS`. It also ends before a cut, where the encoder would
    start a key frame anyway, unless the segment is very short. The first segments are
    shorter, so that a run soon has finished segments, and each worker soon receives a
    segment.
    """
    numbers = _numbers()
    next(numbers)
    return (replace(task, segment=numbers.send(task)) for task in tasks)


def _numbers() -> Generator[int, FrameTask, None]:
    """Yield the number of each sent frame's segment: that of the segment's first frame."""
    number = segments = 0  # the segment's, and how many came before
    frames = new_pixels = sources = 0  # in this segment so far
    left: Fraction | None = None
    for index in count():
        task = yield number
        is_new_source = task.left.time != left
        most = min(_FIRST << min(segments, 8), MAX_SOURCE_FRAMES)
        is_full = sources + is_new_source > most or frames >= MAX_FRAMES
        is_full |= new_pixels >= MAX_NEW_PIXELS
        if is_full or (task.opens_scene and sources >= _FIRST):
            number = index
            segments += 1
            frames = new_pixels = sources = 0
            is_new_source = True
        frames += 1
        if task.right is not None:
            new_pixels += task.left.width * task.left.height
        sources += is_new_source
        left = task.left.time


@dataclass(frozen=True, slots=True)
class RenderJob:
    """Everything that is needed to render any segment of a run, in any process.

    ``sizes`` and ``engines`` are the same for all segments. ``nvdec``: the GPU of each
    worker decodes. The segments' files are written to ``folder``. ``token`` identifies the
    folder's content: a machine that finds another token at that path does not see the same
    folder. Paths are absolute.
    """

    run: InterpPlan
    encoding: EncodingPlan
    sizes: Sizes
    engines: dict[str, str]
    nvdec: bool
    folder: Path
    token: str

    @classmethod
    def of(
        cls,
        plan: InterpPlan,
        encoding: EncodingPlan,
        decisions: dict[str, Any],
        folder: Path | None,
        *,
        nvdec: bool,
    ) -> Self:
        """Return the job of a run; without ``folder`` only this process can do it."""
        sizes = {field.name: decisions[field.name] for field in fields(Sizes)}
        return cls(
            run=plan.absolute(),
            encoding=replace(encoding, threads=decisions["threads"]),
            sizes=Sizes(**sizes),
            engines=decisions["engines"],
            nvdec=nvdec,
            folder=Path() if folder is None else folder.absolute(),
            token="" if folder is None else token_of(folder),
        )

    def source(self) -> Source:
        """Return a source that stays open between segments, in a worker."""
        gpu = self.run.workers.used.index or 0
        nvdec = gpu if self.nvdec else None
        return Source(self.run.info, threads=self.encoding.threads, nvdec=nvdec)

    def apply_to(self, renderer: Renderer) -> None:
        """Set the sizes and the engines of a renderer."""
        renderer.use_sizes(self.run.info.width, self.run.info.height, self.sizes)
        renderer.engines.use(self.engines)


def decode(segment: SegmentPlan, source: Source) -> Iterator[FrameTask]:
    """Decode a segment's source frames, and yield each planned frame with its own.

    Raises UnfitInputError if the source has changed and has no frame at a planned time.
    """
    info = source.info
    wanted = set(segment.sources)
    main = segment.start
    begins = info.timing.start
    decoded: dict[Fraction, Frame] = {}
    # The last frames of a loop also need the source's first frame, which is before this
    # start.
    for early in sorted(time for time in wanted if time < main):
        first = next(source.frames(start=early - begins), None)
        if first is not None and first.time == early:
            decoded[early] = first
    frames = source.onward(main - begins)
    is_whole = False

    def get(time: Fraction) -> Frame:
        nonlocal frames, is_whole
        while time not in decoded:
            frame = next(frames, None)
            if frame is not None and frame.time <= time:
                if frame.time in wanted:
                    decoded[frame.time] = frame
            elif is_whole:
                raise UnfitInputError(
                    f"frame-gone: {info.path} has no frame at {float(time):.3f} s any "
                    "more: the file has changed, or it is damaged and each reading gives "
                    "other frames. Repair the file, or convert a copy of it, and start "
                    "again; interp needs --no-resume then."
                )
            else:
                # Start at the beginning: some damaged files lose frames after a seek.
                frames = source.frames()
                is_whole = True
        return decoded[time]

    lefts = main, segment.frames[0].left
    for plan in segment.frames:
        yield plan.of(get)
        # The left frame of the previous pair may still be an outer frame of this pair.
        lefts = lefts if plan.left == lefts[1] else (lefts[1], plan.left)
        for old in [time for time in decoded if main <= time < lefts[0]]:
            del decoded[old]


class _SegmentFile:
    """The file of the segment that is being encoded, and the doubts of its frames.

    For ``keep`` and ``output`` see :func:`render_segments`.
    """

    def __init__(
        self,
        number: int,
        job: RenderJob,
        keep: Keep | None,
        output: Sink | None,
        warnings: Warnings,
    ) -> None:
        self.number = number
        self._job = job
        self.written = 0
        self._keep = keep
        self.encoder: Writer = output or PacketFile(
            job.encoding, fresh_file(job.folder), warnings
        )
        self._frames: list[Task[Fraction]] = []
        self._doubts = joined([])

    def write(self, made: Rendered) -> None:
        if self._keep is not None:  # otherwise the segment may have any length
            self._frames.append(made.task.of(attrgetter("time")))
        time = made.frame.time + self._job.encoding.offset
        frame = made.frame.at(time, made.frame.duration)
        self.encoder.write(frame)
        if made.doubt is not None:
            self._doubt(frame, made.task, *made.doubt)
        self.written += 1

    def _doubt(self, frame: Frame, task: FrameTask, size: float, box: Box) -> None:
        number = self.number + self.written
        shape = frame.height, frame.width
        found = entry(number, frame.time, size, box, GUESS, shape)
        info = self._job.run.info
        timing = info.timing
        # In a part, the frames before are not counted.
        if timing.rate is not None and not timing.is_part and task.right is not None:
            found["between"] = [
                round((source.time - timing.start) * timing.rate)
                for source in (task.left, task.right)
            ]
        worst = self._doubts["frames"][:SHOWN]
        is_shown = len(worst) < SHOWN or found["size"] > worst[-1]["size"]
        has_report = self._job.run.settings.report is not None
        if has_report and task.right and is_shown:
            frames = map(rgb_of, (task.left, frame, task.right))
            found["pictures"] = pictured([*frames], found["box"], info)
        self._doubts = joined([self._doubts, of_one(found)])

    def complete(self) -> tuple[int, Event]:
        summary = self.encoder.complete()
        if self._keep is None:
            return self.number, Finished(self._doubts)
        summary = replace(summary, notes=self._doubts)
        plan = SegmentPlan(self.number, tuple(self._frames))
        return self.number, Finished(self._keep(plan, (self.encoder.file, summary)))


def render_segments(
    tasks: Iterable[FrameTask],
    renderer: Renderer,
    job: RenderJob,
    keep: Keep | None = None,
    output: Sink | None = None,
) -> SegmentEvents:
    """Render frames in order, while another thread completes the previous segment's file.

    Another thread calls ``keep`` with the complete file. Without ``keep`` the only segment
    is the ``output`` itself. Yield events, each with the number of its segment;
    ``Finished`` ends a segment, with what ``keep`` returned, or without ``keep`` with the
    doubts of the frames. The device makes the frames of the next segment meanwhile. If a
    segment cannot be planned to its end, the frames before are rendered, and then the error
    is raised. The file of an incomplete segment is deleted.
    """
    errors: list[CloudconvError] = []
    file: _SegmentFile | None = None
    ending: list[Future[tuple[int, Event]]] = []  # of the segment before

    def abandon() -> None:
        if file is not None:
            file.encoder.abandon()

    with ExitStack() as stack:
        # The threads end before the file is closed, also after an interrupt.
        stack.callback(abandon)
        finishing = stack.enter_context(one_thread("finish"))
        rendered = renderer.render(_planned(tasks, errors))
        rendering = stack.enter_context(prefetch(rendered, 4, "render"))
        for made in chain(rendering, [None]):
            if errors and made is None:
                yield from (future.result() for future in ending)
                raise errors[0]
            if file is not None and (made is None or made.task.segment != file.number):
                yield from (future.result() for future in ending)
                done = file
                file = None
                ending = [finishing.submit(done.complete)]
            if made is None:
                break
            if file is None:
                file = _SegmentFile(made.task.segment, job, keep, output, renderer.warnings)
            file.write(made)
            yield file.number, Progress("rendering", file.written, None)
            if ending and ending[0].done():
                yield ending.pop().result()
        yield from (future.result() for future in ending)


def _planned(
    tasks: Iterable[FrameTask], errors: list[CloudconvError]
) -> Iterator[FrameTask]:
    """Yield the planned frames; append an error that ends them to ``errors``."""
    try:
        yield from tasks
    except CloudconvError as error:
        errors.append(error)


class SegmentWork:
    """Render segments in a worker; model and source remain open between those of a job."""

    _job: RenderJob | None = None
    _open: tuple[Source, Renderer] | None = None

    def __call__(self, job: RenderJob, segment: SegmentPlan) -> Iterator[Any]:
        """Render a segment; yield its progress, warnings, and ``Finished`` at the end."""
        source, renderer = self._opened(job)
        if token_of(job.folder) != job.token:
            raise DeviceError(
                f"folder-not-shared: A machine of the cluster does not see {job.folder}: "
                "give all machines the input, the weights and the output's folder at the "
                "same paths."
            )

        def keep(_: SegmentPlan, finished: FinishedSegment) -> FinishedSegment:
            return finished

        ahead = job.run.request.ahead
        with prefetch(decode(segment, source), ahead, "decode") as tasks:
            rendered = render_segments(tasks, renderer, job, keep)
            yield from renderer.warnings.amid(event for _, event in rendered)

    def _opened(self, job: RenderJob) -> tuple[Source, Renderer]:
        # An equal job keeps the batch size, which a lack of memory may have reduced.
        if self._open is None or self._job != job:
            if self._open is not None:
                self._open[0].__exit__()
            self._open = None  # frees the memory for the next model
            set_threads(job.encoding.threads)
            used = job.run, job.run.workers.used
            renderer = renderer_on(*used, job.sizes.cpu_streams, Warnings())
            job.apply_to(renderer)
            self._open = job.source(), renderer
            self._job = job
        return self._open


PLAN = ".cloudconv-plan.json"
"""The file in the folder of unfinished work that identifies the work."""


def token_of(folder: Path) -> str:
    """Return a hash of the plan file, which identifies the folder; empty without a plan."""
    try:
        return hashlib.sha256((folder / PLAN).read_bytes()).hexdigest()
    except OSError:
        return ""


def fresh_file(folder: Path) -> Path:
    """Return a name for the unfinished file of a segment that no other process uses."""
    return folder / f".cloudconv-{secrets.token_hex(8)}.part"
