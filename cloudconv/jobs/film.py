"""An interpolation that is about to be made: planned as it is read, in one go or resumably."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudconv.engine.device import precision_name, set_threads
from cloudconv.engine.lanes import useful_lanes
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer, Task
from cloudconv.errors import CloudconvError, UnfitInputError
from cloudconv.jobs.making import Piece, Recipe, Shown, Step, make_segments
from cloudconv.jobs.output import origin, time_base
from cloudconv.jobs.resuming import (
    input_identity,
    join_finished,
    keeping,
    left,
    machine_identity,
    missing_segments,
    settings_identity,
    split,
    weights_identity,
)
from cloudconv.jobs.schedule import Counts, schedule
from cloudconv.jobs.workfolder import WorkFolder
from cloudconv.media.carry import Carry
from cloudconv.media.encoders import EncodeSettings
from cloudconv.media.frame import Frame
from cloudconv.media.packets import PacketSummary
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.media.target import container_of, is_stdout
from cloudconv.models import registry
from cloudconv.segments import Segment
from cloudconv.timeline import Multiply

if TYPE_CHECKING:
    from cloudconv.jobs.interp import Job


def is_joinable(output: Path) -> bool:
    """Whether the output can be put together from segments; else it is made in one go."""
    return not is_stdout(output) and container_of(output).kind == "film"


class Film:
    """An output on its way: planned as it is read, made, and joined.

    It is either made here, by :meth:`make`, or its :meth:`pieces` are made by others; then each
    is recorded, and in the end it is joined by :meth:`finish`, or given up by :meth:`leave`.
    ``counts`` are those of what is planned so far; ``warnings`` holds sentences, once each;
    ``found`` is how many output frames an earlier run had made, ``began`` when work on it began,
    in seconds of :func:`time.monotonic`.

    Args:
        job: what was decided before the first frame.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.counts = Counts()
        self.warnings: dict[str, None] = dict.fromkeys(job.remarks)
        self.found = 0
        self.began = time.monotonic()
        self._folder = WorkFolder(job.output)
        self._zero = Fraction(0)  # the source time that becomes 0
        self._offset = Fraction(0)  # when the first frame is shown
        self._time_base = Fraction(1)
        self._identified: dict[str, Any] = {}
        self._recipe: Recipe | None = None

    def make(self, shown: Shown) -> None:
        """Make the output in this process.

        Raises:
            CloudconvError: then there is no output, or it is as it was before.
            Interrupted: Ctrl-C, and what is finished is kept.
        """
        with self._tasks() as tasks:
            if not is_joinable(self.job.output):
                self._make_in_one_go(tasks, shown)
                return
            with keeping(self._folder):
                renderer = self._begin()
                set_threads(self._made_with.threads)
                make_segments(
                    self._steps(tasks),
                    lambda _: renderer,
                    done=self._folder.record,
                    shown=shown,
                )
                self.finish()

    def pieces(self) -> Generator[Piece, None, None]:
        """Plan the film; the segments that are missing, as they become known.

        Raises:
            CloudconvError: the input cannot be read on, or nothing can be written.
        """
        with self._tasks() as tasks:
            self._folder.lock()
            self._begin()
            recipe = self._made_with
            for segment in missing_segments(self._steps(tasks), self._folder):
                yield Piece(recipe, segment)

    def record(self, segment: Segment, file: Path, summary: PacketSummary) -> None:
        """Note a segment that is complete; see :meth:`WorkFolder.record`."""
        self._folder.record(segment, file, summary)

    def finish(self) -> None:
        """Join the segments, which are all there.

        Raises:
            CloudconvError: then there is no output, or it is as it was before.
        """
        if self._input_identity() != self._identified["input"]:
            raise UnfitInputError(
                f"{self.job.info.path} was changed while it was read, so the frames made of it do "
                "not belong together: run the command again."
            )
        self.warn(*join_finished(self._folder, self._sink(self._made_with.encode)))

    def leave(self, error: CloudconvError) -> CloudconvError:
        """Give the film up; the error, with a word on what is kept."""
        return left(self._folder, error)

    def interrupt(self) -> str | None:
        """Leave the film as it is; says what is kept."""
        return self._folder.leave()

    @contextmanager
    def _tasks(self) -> Iterator[Iterator[Task]]:
        job = self.job
        with (
            source_of(job) as source,
            prefetch(schedule(source.frames(), job.request, self.counts), 8) as tasks,
        ):
            head = next(tasks)
            self._zero = _origin(job, head.left)
            self._offset = head.left.time - self._zero
            self._time_base = _time_base(job, self._offset)
            rest = _rest(head, tasks)
            del head
            yield rest
        self.warn(*source.warnings)

    def _make_in_one_go(self, tasks: Iterator[Task], shown: Shown) -> None:
        job = self.job
        renderer = renderer_of(job, self.warn)
        renderer.settle(job.info.width, job.info.height)
        with (
            self._sink(job.settings.encode) as sink,
            prefetch(renderer.render(tasks), 4) as pictures,
        ):
            for picture in pictures:
                lasts = picture.duration if job.rate is None else 1 / job.rate
                sink.write(picture.at(picture.time + self._offset, lasts))
                shown(1, picture)
        self.warn(*sink.warnings)

    def _begin(self) -> Renderer:
        """Take over what the locked folder holds, and decide how the rest is made."""
        job = self.job
        # What would go wrong at the very end goes wrong now.
        rehearsal = self._sink(job.settings.encode)
        self.warn(*rehearsal.warnings)
        rehearsal.abandon()
        self._identified = self._identity(rehearsal)
        self._folder.open(self._identified, resume=job.settings.resume)
        self.warn(*self._folder.remarks)
        self.found = self._folder.frames
        renderer = renderer_of(job, self.warn)
        self._recipe = self._decide(renderer)
        self._recipe.keep(renderer)
        return renderer

    def _steps(self, tasks: Iterator[Task]) -> Iterator[Step]:
        yield self._made_with
        yield from split(tasks, self.counts.cuts, self._folder)

    @property
    def _made_with(self) -> Recipe:
        assert self._recipe is not None
        return self._recipe

    def _decide(self, renderer: Renderer) -> Recipe:
        job, info, settings = self.job, self.job.info, self.job.settings
        decided = self._folder.decided
        if decided is None:
            at_once = 1 if settings.device == "cuda:all" else job.crew.count
            batch, tile, lanes = renderer.settle(info.width, info.height, at_once)
            threads = job.crew.threads(settings.threads)
            encoding = settings.encode.threads if job.crew.kind == "here" else threads
            decided = {
                "batch": batch,
                "tile": tile,
                "lanes": lanes,
                "threads": threads,
                "encoding": encoding,
            }
            self._folder.decide(decided)
        return Recipe(
            info=info,
            output=job.output,
            folder=self._folder.path,
            rate=job.rate,
            time_base=self._time_base,
            offset=self._offset,
            encode=replace(settings.encode, threads=decided["encoding"]),
            model=settings.model,
            device=str(job.device),
            precision=precision_name(job.dtype),
            scale=settings.scale,
            fallback=settings.fallback == "blend",
            batch=decided["batch"],
            tile=decided["tile"],
            lanes=decided["lanes"],
            threads=decided["threads"],
            deinterlace=settings.deinterlace,
        )

    def _identity(self, rehearsal: Sink) -> dict[str, Any]:
        job = self.job
        return {
            "input": self._input_identity(),
            **settings_identity(job.settings),
            **machine_identity(job.device),
            "weights": weights_identity(job.settings.model),
            "precision": precision_name(job.dtype),
            "encoder": f"{rehearsal.encoder}, {rehearsal.options}",
            "pix_fmt": rehearsal.pix_fmt,
            "times": f"{self._time_base} {self._offset}",
        }

    def _input_identity(self) -> str:
        lasting = str(self.job.settings.input) != "-"
        return input_identity(self.job.info.path, lasting=lasting)

    def _sink(self, encode: EncodeSettings) -> Sink:
        job, settings = self.job, self.job.settings
        whole = settings.start is None and settings.end is None
        start, end = (None, None) if whole else job.window
        stretch = settings.slowmo if settings.audio == "stretch" else None
        copies = settings.slowmo is None or stretch is not None
        return Sink(
            job.output,
            job.info,
            rate=job.rate,
            time_base=self._time_base,
            settings=encode,
            carry=Carry(job.info, self._zero, start, end, audio=copies, stretch=stretch),
        )

    def warn(self, *messages: str) -> None:
        """Add to the warnings."""
        self.warnings.update(dict.fromkeys(messages))


def source_of(job: Job) -> Source:
    """The part of the input that is asked for."""
    s = job.settings
    return Source(
        job.info,
        start=s.start,
        end=s.end,
        threads=s.threads,
        deinterlace=s.deinterlace,
        nvdec=(job.device.index or 0) if job.device.type == "cuda" else None,
    )


def renderer_of(job: Job, on_warning: Callable[[str], None]) -> Renderer:
    """The model as the settings want it, batch and tiles not decided yet."""
    settings = job.settings
    threads = job.crew.threads(settings.threads) or set_threads(None)
    return Renderer(
        registry.load(settings.model, job.device, job.dtype),
        device=job.device,
        dtype=job.dtype,
        batch=settings.batch,
        tile=settings.tile,
        scale=settings.scale,
        lanes=useful_lanes(job.device, threads),
        fallback=settings.fallback == "blend",
        on_warning=on_warning,
    )


def _rest(head: Task, tasks: Iterator[Task]) -> Iterator[Task]:
    yield head
    del head
    yield from tasks


def _origin(job: Job, first: Frame) -> Fraction:
    # The sound of the whole clip is not what a part of it, or slow motion, begins with.
    if job.settings.start is not None or job.settings.slowmo is not None:
        return first.time
    return origin(job.info, first)


def _time_base(job: Job, offset: Fraction) -> Fraction:
    request, timing = job.request, job.info.timing
    share = request.stretch
    if isinstance(request.rate, Multiply):
        share /= request.rate.factor
    return time_base(job.rate, (timing.time_base * share, timing.last_duration * share), offset)
