"""An interpolation that is about to be made: planned as it is read, in one go or resumably."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.errors import CloudconvError, WeightsError
from cloudconv.events import Warned
from cloudconv.jobs.interp.adapt import (
    Adapted,
    AdaptPlan,
    OnAdapting,
    adapt,
    check_folder,
    pinned,
    save,
)
from cloudconv.jobs.interp.plan import VideoPlan, is_joinable, renderer_of, source_of
from cloudconv.jobs.output import origin, time_base
from cloudconv.media.carry.carry import Carry
from cloudconv.media.frame import Frame
from cloudconv.media.input.spool import discard, held
from cloudconv.media.write.packets import PacketSummary
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import check_free, claim
from cloudconv.messages import option
from cloudconv.render.device import precision_name, set_threads
from cloudconv.render.memory import empty_cache
from cloudconv.render.pipeline import prefetch
from cloudconv.render.renderer import FrameTask, Renderer
from cloudconv.schedule.frames import Counts, schedule
from cloudconv.segments.fingerprint import (
    machine_fingerprint,
    weights_fingerprint,
)
from cloudconv.segments.plan import RenderPlan, SegmentTask, plan_segments
from cloudconv.segments.render import render_segments
from cloudconv.segments.segment import Segment
from cloudconv.segments.store import SegmentStore, token_of
from cloudconv.settings import EncodeSettings, exact
from cloudconv.timeline import Multiply


class VideoRender:
    """An output on its way: planned as it is read, made, and joined.

    Its :meth:`frames` are made here, or its :meth:`segments` by others; then each of those is
    recorded, and in the end they are joined by :meth:`finish`, or given up by :meth:`give_up`.
    ``counts`` are those of what is planned so far; ``warnings`` holds each once;
    ``found`` is how many output frames an earlier run had made, ``began`` when work on it began,
    in seconds of :func:`time.monotonic`.

    Args:
        job: what was decided before the first frame.
        on_warning: told each warning when it is known.

    ``encoder`` is FFmpeg's name of the one that is used, once work has begun.
    ``on_whole``, if set, is told where the whole output is, just before that takes its name.
    """

    def __init__(self, job: VideoPlan, on_warning: Callable[[Warned], None] | None = None) -> None:
        self.job = job
        self.counts = Counts()
        self.warnings: dict[Warned, None] = {}
        self._on_warning = on_warning
        self.on_whole: Callable[[Path], None] | None = None
        self.warn(*job.remarks)
        self.found = 0
        self.began = time.monotonic()
        self.encoder = ""
        self._store = SegmentStore(job.output)
        self._zero = Fraction(0)  # the source time that becomes 0
        self._offset = Fraction(0)  # when the first frame is shown
        self._time_base = Fraction(1)
        self._by_gpu = False  # what decodes here also does so with the workers
        self._plan: RenderPlan | None = None
        self._kept = ExitStack()  # a copy of a pipe, as long as workers read it
        self._model = job.settings.chosen_model
        self.adapted: Adapted | None = None
        self.on_adapting: OnAdapting | None = None

    def adapt(self) -> None:
        """Fine-tune the model on the video first, if that is asked for and others make its pieces.

        Raises:
            CloudconvError: the input cannot be read, or nothing can be written.
            Interrupted: Ctrl-C, and what was learnt so far is kept.
        """
        if self.job.settings.adapt is not None:
            with held(self.job.info.path), self._tasks(), self._store.locked():
                self._open()

    @contextmanager
    def frames(self) -> Iterator[Iterator[Frame]]:
        """Make the output in this process: each frame when the encoder has it, all to be taken.

        Raises:
            CloudconvError: then there is no output, or it is as it was before.
            Interrupted: Ctrl-C, and what is finished is kept.
        """
        with self._tasks() as tasks:
            if not is_joinable(self.job.output):
                with (
                    claim(self.job.output, overwrite=self.job.settings.overwrite),
                    closing(self._in_one_go(tasks)) as frames,
                ):
                    yield frames
                return
            with self._store.locked():
                renderer = self._begin()
                set_threads(self._pinned.threads)
                planned = plan_segments(tasks, self._pinned, self._store)
                with closing(
                    render_segments(planned, lambda _: renderer, self._store.record)
                ) as frames:
                    yield frames
                self.finish()

    def segments(self) -> Generator[SegmentTask, None, None]:
        """Plan the video; the segments that are missing, as they become known.

        Raises:
            CloudconvError: the input cannot be read on, or nothing can be written.
        """
        self._kept.callback(discard, self.job.info.path)
        self._kept.enter_context(held(self.job.info.path))
        with self._tasks() as tasks:
            self._store.lock()
            self._begin()
            empty_cache(self.job.device)  # the model was here to plan; now others need the room
            for planned in plan_segments(tasks, self._pinned, self._store):
                if planned.completes is not None:
                    yield SegmentTask(self._pinned, planned.completes)

    def record(self, segment: Segment, file: Path, summary: PacketSummary) -> None:
        """Note a segment that is complete; see :meth:`SegmentStore.record`."""
        self._store.record(segment, file, summary)

    def finish(self) -> None:
        """Join the segments, which are all there.

        Raises:
            CloudconvError: then there is no output, or it is as it was before.
        """
        self.warn(*self._store.join(self._sink(self._pinned.encode)))
        self._kept.close()

    def give_up(self, error: CloudconvError) -> CloudconvError:
        """The error, with a word on what is kept."""
        self._kept.close()
        return self._store.with_resume_hint(error)

    def interrupt(self) -> str | None:
        """Leave the output as it is; says what is kept."""
        self._kept.close()
        return self._store.release()

    @contextmanager
    def _tasks(self) -> Iterator[Iterator[FrameTask]]:
        job = self.job
        self.counts = Counts()
        with (
            source_of(job) as source,
            prefetch(schedule(source.frames(), job.request, self.counts), 8) as tasks,
        ):
            head = next(tasks)
            self._by_gpu = source.by_gpu
            self._offset, self._time_base = clock_of(job, head.left)
            self._zero = head.left.time - self._offset
            rest = self._watched(head, tasks)
            del head
            yield rest
        self.warn(*source.warnings, *self.remarks(job, self.counts))

    def _watched(self, head: FrameTask, tasks: Iterator[FrameTask]) -> Iterator[FrameTask]:
        """All tasks; what is to be said of them is said as soon as it is known."""
        yield head
        del head
        for task in tasks:
            if self.counts.cadence:
                self.warn(*self.remarks(self.job, self.counts))
            yield task

    @staticmethod
    def remarks(job: VideoPlan, counts: Counts) -> list[Warned]:
        """What is to be said of a plan as far as it was made."""
        said = any(warned.code == "cadence-kept" for warned in job.notes)
        if counts.cadence and job.settings.duplicates == "keep" and not said:
            return [Warned("cadence-kept", {"cadence": counts.cadence})]
        return []

    def _in_one_go(self, tasks: Iterator[FrameTask]) -> Generator[Frame, None, None]:
        job = self.job
        with TemporaryDirectory(prefix="cloudconv-") as folder:
            self._adapt(Path(folder))
            renderer = renderer_of(job, self.warn, self._model)
        renderer.plan_once(job.info.width, job.info.height)
        with (
            self._sink(job.settings.encode) as sink,
            prefetch(renderer.render(tasks), 4) as frames,
        ):
            self.encoder = sink.encoder
            self.warn(*sink.warnings)
            for frame in frames:
                lasts = frame.duration if job.rate is None else 1 / job.rate
                sink.write(frame.at(frame.time + self._offset, lasts))
                yield frame
        self.warn(*sink.warnings)

    def _begin(self) -> Renderer:
        """Take over what the locked folder holds, and decide how the rest is made."""
        self._open()
        renderer = renderer_of(self.job, self.warn, self._model)
        self._plan = self._decide(renderer)
        self._plan.keep(renderer)
        return renderer

    def _open(self) -> None:
        job = self.job
        # Another run may have finished it since it was checked.
        check_free(job.output, overwrite=job.settings.overwrite)
        # What would go wrong at the very end goes wrong now.
        rehearsal = self._sink(job.settings.encode)
        self.encoder = rehearsal.encoder
        self.warn(*rehearsal.warnings)
        rehearsal.rehearse()
        # What this very run has adapted is carried on in any case.
        resume = job.settings.resume or self.adapted is not None
        self._store.open(self._fingerprint(rehearsal), resume=resume)
        self.warn(*self._store.remarks)
        self.found = self._store.frames
        check_folder(self._store.path, adapt_plan(job, self.warn))
        self._store.adapting = job.settings.adapt is not None
        self._adapt(self._store.path)

    def _adapt(self, folder: Path) -> None:
        plan, settings = adapt_plan(self.job, self.warn), self.job.settings
        if plan is None:
            return
        self._model, self.adapted = adapt(
            plan,
            folder,
            on_adapting=self.on_adapting,
            on_warning=self.warn,
        )
        save(folder, settings.saved_model, overwrite=settings.overwrite, on_warning=self.warn)

    @property
    def _pinned(self) -> RenderPlan:
        assert self._plan is not None
        return self._plan

    def _decide(self, renderer: Renderer) -> RenderPlan:
        job, info, settings = self.job, self.job.info, self.job.settings
        decided = self._store.pinned
        if decided is None:
            at_once = 1 if job.workers.each_gpu else job.workers.count
            batch, tile, cpu_streams = renderer.plan_once(info.width, info.height, at_once)
            threads = job.workers.threads(settings.threads)
            encoding = settings.encode.threads if job.workers.kind == "inline" else threads
            decided = {
                "batch": batch,
                "tile": tile,
                "cpu_streams": cpu_streams,
                "threads": threads,
                "encoding": encoding,
                "adapted": pinned(self._store.path, self._model),
            }
            self._store.pin(decided)
        elif decided.get("adapted") != pinned(self._store.path, self._model):
            raise WeightsError(
                f"The adapted weights in {self._store.path} are not those that the finished "
                f"frames were made with: begin anew with {option('resume', False)}."
            )
        return RenderPlan(
            info=info,
            output=job.output,
            folder=self._store.path.absolute(),
            rate=job.rate,
            time_base=self._time_base,
            offset=self._offset,
            encode=replace(settings.encode, threads=decided["encoding"]),
            model=self._model,
            device=job.device.type,  # of which a worker sees one
            precision=precision_name(job.dtype),
            scale=settings.scale,
            fallback=settings.fallback == "blend",
            batch=decided["batch"],
            tile=decided["tile"],
            cpu_streams=decided["cpu_streams"],
            threads=decided["threads"],
            deinterlace=settings.deinterlace,
            nvdec=self._by_gpu,
            token=token_of(self._store.path),
            may_raise=settings.precision == "auto",
        )

    def _fingerprint(self, rehearsal: Sink) -> dict[str, Any]:
        job = self.job
        return {
            "input": job.info.fingerprint,
            **job.settings.pinned(),
            **machine_fingerprint(job.device),
            "weights": weights_fingerprint(job.settings.chosen_model),
            "precision": precision_name(job.dtype),
            "encoder": f"{rehearsal.encoder}, {rehearsal.options}",
            "pix_fmt": rehearsal.pix_fmt,
            "times": f"{self._time_base} {self._offset}",
        }

    def _sink(self, encode: EncodeSettings) -> Sink:
        job, settings = self.job, self.job.settings
        whole = settings.start is None and settings.end is None
        start, end = (None, None) if whole else job.window
        return Sink(
            job.output,
            job.info,
            rate=job.rate,
            time_base=self._time_base,
            settings=encode,
            carry=Carry(
                job.info,
                self._zero,
                start,
                end,
                audio=settings.slowmo is None or settings.audio == "stretch",
                stretch=exact(settings.slowmo),
                copies_only=settings.audio == "copy",
            ),
            overwrite=settings.overwrite,
            on_whole=self._note_whole,
        )

    def _note_whole(self, made: Path) -> None:
        if is_joinable(self.job.output):
            self._store.note_whole(made)
        if self.on_whole is not None:
            self.on_whole(made)

    def warn(self, *warnings: Warned) -> None:
        """Add to the warnings, and say those that are new."""
        for warned in warnings:
            if warned not in self.warnings:
                self.warnings[warned] = None
                if self._on_warning is not None:
                    self._on_warning(warned)


def adapt_plan(job: VideoPlan, on_warning: Callable[[Warned], None]) -> AdaptPlan | None:
    """How the model is adapted to the video; None where it is not."""
    settings = job.settings
    if settings.adapt is None:
        return None
    return AdaptPlan(
        info=job.info,
        model=settings.chosen_model,
        minutes=settings.adapt,
        start=exact(settings.start),
        end=exact(settings.end),
        deinterlace=settings.deinterlace,
        device=job.device,
        dtype=job.dtype,
        threads=settings.threads,
        renderer=lambda model: renderer_of(job, on_warning, model),
    )


def clock_of(job: VideoPlan, first: Frame) -> tuple[Fraction, Fraction]:
    """When the first frame is shown, and the clock that tells all times of the output."""
    offset = first.time - _origin(job, first)
    return offset, _time_base(job, offset)


def _origin(job: VideoPlan, first: Frame) -> Fraction:
    # The sound of the whole clip is not what a part of it, or slow motion, begins with.
    if job.settings.start is not None or job.settings.slowmo is not None:
        return first.time
    return origin(job.info, first)


def _time_base(job: VideoPlan, offset: Fraction) -> Fraction:
    request, timing = job.request, job.info.timing
    share = request.stretch
    if isinstance(request.rate, Multiply):
        share /= request.rate.factor
    spans = [timing.time_base, timing.last_duration, 1 / (timing.pace or Fraction(1))]
    return time_base(job.rate, [span * share for span in spans], offset)
