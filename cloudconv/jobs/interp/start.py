"""Start an interpolation: resolve its clock, its work folder, and the plan to render."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.errors import OutputError, WeightsError
from cloudconv.events import Event, Warned
from cloudconv.jobs.adapt import Adapted, AdaptPlan, adapt, adapted_digest, check_weights
from cloudconv.jobs.interp.plan import InterpPlan, frames_of, is_joinable, renderer_of, source_of
from cloudconv.jobs.output import origin, time_base
from cloudconv.media.carry.carry import Carry
from cloudconv.media.read.rates import constant_rate
from cloudconv.media.read.source import Source
from cloudconv.media.task import FrameTask
from cloudconv.media.write.encode import EncodingPlan
from cloudconv.media.write.encoder_options import EncoderChoice
from cloudconv.media.write.encoding import plan_encoding
from cloudconv.media.write.sink import Sink, check_copies
from cloudconv.media.write.target import check_free, claim
from cloudconv.models import registry
from cloudconv.models.registry import weights_fingerprint
from cloudconv.pipeline import prefetch
from cloudconv.render.device import machine_fingerprint, precision_name
from cloudconv.render.memory import Sizes, least_free_memory
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Counts, ScheduleEvents, schedule
from cloudconv.segments.render import RenderPlan
from cloudconv.segments.store import SegmentStore, token_of
from cloudconv.settings import exact
from cloudconv.timeline import Multiply, output_rate


@dataclass(frozen=True, slots=True)
class OutputClock:
    """The relation of the output's times to the source's times.

    All times are in seconds. ``zero`` is the time on the source's clock that becomes 0. ``offset``
    is the output time of the first frame. ``time_base`` is the length of a tick.
    """

    zero: Fraction
    offset: Fraction
    time_base: Fraction

    @classmethod
    def of(cls, plan: InterpPlan, first: Fraction) -> OutputClock:
        """Return the clock of an output whose first source frame is at ``first``."""
        request, timing, settings = plan.request, plan.info.timing, plan.settings
        # These outputs begin with the first frame, even if the source's sound begins earlier.
        starts_with_frame = settings.start is not None or settings.slowmo is not None
        zero = first if starts_with_frame else origin(plan.info, first)
        factor = request.slowdown
        if isinstance(request.rate, Multiply):
            factor /= request.rate.factor
        ends = exact(settings.end) or Fraction(1)  # at a variable rate this can be within a frame
        gap = 1 / (timing.gap_rate or Fraction(1))
        spans = [timing.time_base, timing.last_duration, gap, ends]
        tick = time_base(plan.rate, [span * factor for span in spans], first - zero)
        return cls(zero, first - zero, tick)


def encoding_of(plan: InterpPlan, clock: OutputClock, threads: int | None) -> EncodingPlan:
    """Plan the encoding, with the streams and tags that are copied from the source.

    ``threads`` is the number of the encoder's threads, None for all.

    Raises:
        OutputError: the output cannot store the rate, or the encoder cannot be used.
    """
    settings = plan.settings
    whole = settings.start is None and settings.end is None
    start, end = (None, None) if whole else plan.window
    return plan_encoding(
        plan.output,
        plan.info,
        rate=plan.rate,
        time_base=clock.time_base,
        settings=settings.encoding(threads),
        carry=Carry(
            plan.info,
            clock.zero,
            start,
            end,
            audio=settings.slowmo is None or settings.audio == "stretch",
            slowdown=exact(settings.slowmo),
            copies_only=settings.audio == "copy",
        ),
    )


@dataclass(frozen=True, slots=True)
class PlannedVideo:
    """A video that another thread decodes and plans.

    ``tasks`` are the planned output frames with their source frames. ``is_next_known`` returns
    whether the next task is available without waiting. ``events`` receives the warnings of the
    planning and, at the end, the counts of frames.
    """

    source: Source
    clock: OutputClock
    tasks: Iterator[FrameTask]
    is_next_known: Callable[[], bool]
    events: ScheduleEvents


@contextmanager
def planned(plan: InterpPlan) -> Iterator[PlannedVideo]:
    """Decode a video and plan its output, in another thread.

    Raises:
        CloudconvError: the input cannot be read.
    """
    events = ScheduleEvents()
    with (
        source_of(plan) as source,
        prefetch(schedule(frames_of(plan, source), plan.request, events), 8) as ahead,
    ):
        head = next(ahead)
        clock, tasks = OutputClock.of(plan, head.plan.left), chain([head], ahead)
        del head  # so that the first pictures do not stay in memory after they are rendered
        yield PlannedVideo(source, clock, tasks, lambda: ahead.ready, events)


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """The files of a run: the ``store`` of its segments, or the ``sink`` of its output.

    The other of the two is None. ``folder`` is the store's folder, or a temporary one. An earlier
    run has finished ``resumed`` output frames.
    """

    folder: Path
    store: SegmentStore | None
    sink: Sink | None
    resumed: int
    warnings: list[Warned]


@contextmanager
def work_files(plan: InterpPlan, clock: OutputClock) -> Iterator[WorkFiles]:
    """Claim the output, and load the finished segments of an earlier run.

    Raises:
        OutputError: another run makes the output, the output exists and must not be replaced, the
            output could not be written at the end, or an earlier run with other settings has left
            finished segments.
        Interrupted: Ctrl-C in the block, and finished segments or other work remain.
    """
    settings, output = plan.settings, plan.output
    if not is_joinable(output):
        with (
            claim(output, overwrite=settings.overwrite),
            TemporaryDirectory(prefix="cloudconv-") as folder,
            Sink(encoding_of(plan, clock, settings.threads), overwrite=settings.overwrite) as sink,
        ):
            yield WorkFiles(Path(folder), None, sink, 0, sink.warnings)
        return
    store = SegmentStore(output)
    with store.locked():
        # Another run may have finished the output since the first check.
        check_free(output, overwrite=settings.overwrite)
        encoding = encoding_of(plan, clock, settings.threads)
        # Copied streams that cannot be written raise their errors now instead of at the end.
        warnings = [*encoding.warnings, *check_copies(encoding)]
        store.open(_identity(plan, clock, encoding.choice), resume=settings.resume)
        check_weights(store.path, adapt_plan(plan))
        yield WorkFiles(store.path, store, None, store.frames, [*warnings, *store.warnings])


def _identity(plan: InterpPlan, clock: OutputClock, choice: EncoderChoice) -> dict[str, Any]:
    machine = machine_fingerprint(plan.device, each_gpu=plan.workers.each_gpu)
    if plan.workers.device_type != plan.device.type:
        machine["device"] = f"{plan.workers.device_type} of a cluster"
    return {
        "input": plan.info.fingerprint,
        **plan.settings.pinned(),
        **machine,
        "weights": weights_fingerprint(plan.settings.chosen_model),
        "precision": precision_name(plan.dtype),
        "encoder": f"{choice.encoder}, {dict(choice.options)}",
        "pix_fmt": choice.working,
        "times": f"{clock.time_base} {clock.offset}",
    }


def adapt_plan(plan: InterpPlan) -> AdaptPlan | None:
    """Return the plan to adapt the model to the video; None if the user did not request it."""
    settings = plan.settings
    if settings.adapt is None:
        return None
    renderer = partial(renderer_of, plan)
    return AdaptPlan(settings, plan.info, settings.chosen_model, plan.device, plan.dtype, renderer)


def adapted_model(
    plan: InterpPlan, folder: Path
) -> Generator[Event, None, tuple[str, Adapted | None]]:
    """Adapt the model if the user requested it.

    Return the name or weights file of the model to use, and the result of adapting or None.
    """
    adapting = adapt_plan(plan)
    if adapting is None:
        return plan.settings.chosen_model, None
    return (yield from adapt(adapting, folder))


def resolve(
    plan: InterpPlan, video: PlannedVideo, work: WorkFiles, model: str, renderer: Renderer
) -> RenderPlan:
    """Return the plan to render, with the decisions that an earlier run pinned in the store.

    Without an earlier run, decide the batch, tiles and threads, and pin them in the store.
    """
    info, settings, workers, store = plan.info, plan.settings, plan.workers, work.store
    pinned = None if store is None else store.pinned
    digest = adapted_digest(work.folder, model)
    if pinned is None:
        at_once = 1 if workers.each_gpu else workers.count
        free = least_free_memory(plan.device) if workers.each_gpu else None
        sizes = renderer.choose_sizes(info.width, info.height, at_once, free_bytes=free)
        threads = workers.threads(settings.threads)
        pinned = {**asdict(sizes), "threads": threads, "adapted": digest}
        if store is not None:
            store.pin(pinned)
    elif not _is_decided(pinned):
        raise OutputError(
            f"plan-damaged: The plan of the unfinished work in {work.folder} is not one of "
            "cloudconv: start again with --no-resume."
        )
    elif pinned.get("adapted") != digest:
        raise WeightsError(
            f"adapted-weights-differ: The adapted weights in {work.folder} are not the weights "
            "that made the finished frames: start again with --no-resume."
        )
    sizes = Sizes(**{each.name: pinned[each.name] for each in fields(Sizes)})
    threads = pinned["threads"]
    return RenderPlan(
        settings=settings,
        model=registry.located(model),
        threads=threads,
        sizes=sizes,
        info=info,
        encoding=encoding_of(plan, video.clock, threads),
        folder=work.folder.absolute(),
        offset=video.clock.offset,
        device=workers.device_type,
        precision=precision_name(plan.dtype),
        nvdec=video.source.by_gpu,  # a GPU that decodes here also decodes for the workers
        token=token_of(work.folder),
    )


def _is_decided(pinned: dict[str, Any]) -> bool:
    """Return whether a run can have made these decisions; others could fill the memory."""
    most = {"batch": 10**6, "tile": 10**6, "cpu_streams": 1 << 12, "threads": 1 << 12}
    found = {name: pinned.get(name, 0) for name in most}
    for name in ("tile", "threads"):
        found[name] = 1 if found[name] is None else found[name]
    return all(type(found[name]) is int and 1 <= found[name] <= most[name] for name in most)


def _rate_of_part(plan: InterpPlan, counts: Counts) -> Fraction | None:
    """Return the output's rate if the times of the source's part are even but for the clock."""
    if len(counts.ticks) < 2 or plan.request.end is None:
        return None
    tick, length = plan.info.timing.time_base, counts.duration / plan.request.slowdown
    rate = constant_rate(counts.ticks, tick)
    if rate is None or length > len(counts.ticks) / rate + tick:  # the last frame lasts longer
        return None
    return output_rate(plan.request.rate, rate, plan.request.slowdown)


def facts(plan: InterpPlan, counts: Counts) -> dict[str, Any]:
    """Return the fields that an estimate and a result share, except for encoder and warnings."""
    source_rate, start = plan.info.timing.rate, plan.info.timing.start
    rate = plan.rate or counts.rate or _rate_of_part(plan, counts)
    duration = counts.output_frames / plan.rate if plan.rate else counts.duration
    return {
        "input": str(plan.settings.input),
        "output": str(plan.output),
        "model": plan.settings.chosen_model,
        "device": "cuda:all" if plan.workers.each_gpu else plan.workers.device,
        "precision": precision_name(plan.dtype),
        "source_frames": counts.source_frames,
        "output_frames": counts.output_frames,
        "new_frames": counts.new_frames,
        "held_frames": counts.held_frames,
        "cuts": [float(cut - start) for cut in counts.cuts],
        "source_fps": None if source_rate is None else str(source_rate),
        "output_fps": None if rate is None else str(rate),
        "duration": float(duration),
    }
