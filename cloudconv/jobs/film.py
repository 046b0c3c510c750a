"""An interpolation whose first frame is decoded: how its output is made, in one go or resumably."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudconv.engine.device import precision_name, set_threads
from cloudconv.engine.pipeline import prefetch
from cloudconv.engine.runner import Renderer, Task
from cloudconv.errors import InputError
from cloudconv.jobs.clustering import share_on_cluster
from cloudconv.jobs.making import Recipe, Shown, make_segments
from cloudconv.jobs.output import origin, time_base
from cloudconv.jobs.resuming import (
    input_identity,
    join_finished,
    machine_identity,
    missing_segments,
    settings_identity,
    split,
    weights_identity,
    work_folder,
)
from cloudconv.jobs.schedule import Counts
from cloudconv.jobs.sharing import recipes, share_locally
from cloudconv.jobs.workfolder import WorkFolder
from cloudconv.media.carry import Carry
from cloudconv.media.encoders import EncodeSettings
from cloudconv.media.frame import Frame
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.media.target import container_of, is_stdout
from cloudconv.models import registry
from cloudconv.timeline import Multiply

if TYPE_CHECKING:
    from cloudconv.jobs.interp import Job


def is_joinable(output: Path) -> bool:
    """Whether the output can be put together from segments; else it is made in one go."""
    return not is_stdout(output) and container_of(output).kind == "film"


class Film:
    """All of a job's output frames, about to be made.

    Args:
        job: what was decided before the first frame.
        tasks: one for each output frame, in order; the first is taken at once.
        counts: kept by whoever makes the tasks.
        warnings: added to, in sentences.

    Raises:
        InputError: see :func:`~cloudconv.jobs.schedule.schedule`.
    """

    def __init__(
        self, job: Job, tasks: Iterator[Task], counts: Counts, warnings: dict[str, None]
    ) -> None:
        self._job = job
        self._counts = counts
        self._warnings = warnings
        head = next(tasks)
        self._zero = _origin(job, head.left)  # the source time that becomes 0
        self._offset = head.left.time - self._zero  # when the first frame is shown
        self._time_base = _time_base(job, self._offset)
        self._tasks = _rest(head, tasks)

    def make(self, shown: Shown) -> int:
        """Make the output. Returns how many of its frames an earlier run had made.

        Raises:
            CloudconvError: then there is no output, or it is as it was before.
            Interrupted: Ctrl-C, and what is finished is kept.
        """
        if is_joinable(self._job.output):
            return self._make_in_segments(shown)
        self._make_in_one_go(shown)
        return 0

    def _make_in_one_go(self, shown: Shown) -> None:
        renderer = renderer_of(self._job, self._warn)
        encode = self._job.settings.encode
        with self._sink(encode) as sink, prefetch(renderer.render(self._tasks), 4) as pictures:
            for picture in pictures:
                lasts = picture.duration if self._job.rate is None else 1 / self._job.rate
                sink.write(picture.at(picture.time + self._offset, lasts))
                shown(1, picture)
        self._warn(*sink.warnings)

    def _make_in_segments(self, shown: Shown) -> int:
        job = self._job
        with work_folder(job.output) as folder:
            # What would go wrong at the very end goes wrong now.
            rehearsal = self._sink(job.settings.encode)
            self._warn(*rehearsal.warnings)
            rehearsal.abandon()
            identity = self._identity(rehearsal)
            folder.open(identity, resume=job.settings.resume)
            self._warn(*folder.remarks)
            found = folder.frames
            renderer = renderer_of(job, self._warn)
            recipe = self._recipe(folder, renderer)
            self._make_missing(recipe, renderer, folder, shown)
            if self._input_identity() != identity["input"]:
                raise InputError(
                    f"{job.info.path} was changed while it was read, so the frames made of it do "
                    "not belong together: begin anew with --no-resume."
                )
            self._warn(*join_finished(folder, self._sink(recipe.encode)))
        return found

    def _make_missing(
        self, recipe: Recipe, renderer: Renderer, folder: WorkFolder, shown: Shown
    ) -> None:
        crew = self._job.crew
        steps = split(self._tasks, self._counts.cuts, folder)
        if crew.kind == "here":
            set_threads(recipe.threads)
            make_segments(
                recipe,
                renderer,
                steps,
                new_file=folder.new_file,
                done=folder.record,
                shown=shown,
            )
            return
        shown(folder.frames, None)
        missing = missing_segments(steps, folder)
        if crew.kind == "ray":
            share_on_cluster(recipe, crew.address, missing, folder, shown=shown, warn=self._warn)
        else:
            works = recipes(recipe, crew, self._job.settings.device)
            share_locally(works, missing, folder, shown=shown, warn=self._warn)

    def _recipe(self, folder: WorkFolder, renderer: Renderer) -> Recipe:
        job, info, settings = self._job, self._job.info, self._job.settings
        decided = folder.decided
        if decided is None:
            at_once = 1 if settings.device == "cuda:all" else job.crew.count
            batch, tile = renderer.settle(info.width, info.height, at_once)
            threads = job.crew.threads(settings.threads)
            encoding = settings.encode.threads if job.crew.kind == "here" else threads
            decided = {"batch": batch, "tile": tile, "threads": threads, "encoding": encoding}
            folder.decide(decided)
        renderer.keep_to(info.width, info.height, decided["batch"], decided["tile"])
        return Recipe(
            info=info,
            output=job.output,
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
            threads=decided["threads"],
            deinterlace=settings.deinterlace,
        )

    def _identity(self, rehearsal: Sink) -> dict[str, Any]:
        job = self._job
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
        lasting = str(self._job.settings.input) != "-"
        return input_identity(self._job.info.path, lasting=lasting)

    def _sink(self, encode: EncodeSettings) -> Sink:
        job, settings = self._job, self._job.settings
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

    def _warn(self, *messages: str) -> None:
        self._warnings.update(dict.fromkeys(messages))


def source_of(job: Job) -> Source:
    """The part of the input that is asked for."""
    s = job.settings
    return Source(job.info, start=s.start, end=s.end, threads=s.threads, deinterlace=s.deinterlace)


def renderer_of(job: Job, on_warning: Callable[[str], None]) -> Renderer:
    """The model as the settings want it, batch and tiles not decided yet."""
    settings = job.settings
    return Renderer(
        registry.load(settings.model, job.device, job.dtype),
        device=job.device,
        dtype=job.dtype,
        batch=settings.batch,
        tile=settings.tile,
        scale=settings.scale,
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
