"""Where the frames of an interpolation go: the clock, the sink, and what is pinned of a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloudconv.errors import WeightsError
from cloudconv.events import Event, Warned, Warnings
from cloudconv.jobs.interp.plan import VideoPlan, is_joinable, renderer_of, source_of
from cloudconv.jobs.output import origin, time_base
from cloudconv.media.carry.carry import Carry
from cloudconv.media.pictures import Pictures
from cloudconv.media.read.source import Source
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import check_free, claim
from cloudconv.messages import option
from cloudconv.models.fingerprint import (
    machine_fingerprint,
    weights_fingerprint,
)
from cloudconv.render.device import precision_name
from cloudconv.render.pipeline import prefetch
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import News, schedule
from cloudconv.segments.plan import RenderPlan
from cloudconv.segments.store import SegmentStore, token_of
from cloudconv.settings import EncodeSettings, exact
from cloudconv.timeline import FramePlan, Multiply
from cloudconv.training.fine_tune import (
    Adapted,
    AdaptPlan,
    adapt,
    adapted_digest,
    check_folder,
    save,
)


@dataclass(frozen=True, slots=True)
class Clock:
    """The output's clock: the source time that becomes 0, when the first frame is shown, a tick."""

    zero: Fraction
    offset: Fraction
    time_base: Fraction

    @classmethod
    def of(cls, plan: VideoPlan, first: Fraction) -> Clock:
        """Return the clock of an output whose first source frame is at ``first``."""
        request, timing, settings = plan.request, plan.info.timing, plan.settings
        # The sound of the whole clip is not what a part of it, or slow motion, begins with.
        alone = settings.start is not None or settings.slowmo is not None
        zero = first if alone else origin(plan.info, first)
        longer = request.stretch
        if isinstance(request.rate, Multiply):
            longer /= request.rate.factor
        spans = [timing.time_base, timing.last_duration, 1 / (timing.pace or Fraction(1))]
        tick = time_base(plan.rate, [span * longer for span in spans], first - zero)
        return cls(zero, first - zero, tick)


def sink_of(plan: VideoPlan, clock: Clock, encode: EncodeSettings | None = None) -> Sink:
    """Open the output, with all that is copied from the source."""
    settings = plan.settings
    whole = settings.start is None and settings.end is None
    start, end = (None, None) if whole else plan.window
    return Sink(
        plan.output,
        plan.info,
        rate=plan.rate,
        time_base=clock.time_base,
        settings=encode or settings.encode,
        carry=Carry(
            plan.info,
            clock.zero,
            start,
            end,
            audio=settings.slowmo is None or settings.audio == "stretch",
            stretch=exact(settings.slowmo),
            copies_only=settings.audio == "copy",
        ),
        overwrite=settings.overwrite,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """A video that is decoded and planned, in a thread of its own, as its ``frames`` are taken."""

    source: Source
    clock: Clock
    frames: Iterator[FramePlan]
    is_next_known: Callable[[], bool]
    pictures: Pictures
    news: News


@contextmanager
def planned(plan: VideoPlan) -> Iterator[Planned]:
    """Decode the video and plan its output.

    Raises:
        CloudconvError: the input cannot be read.
    """
    pictures, news = Pictures(), News()
    with source_of(plan) as source:
        frames = schedule(source.frames(), plan.request, pictures, news)
        with prefetch(frames, 8) as ahead:
            head = next(ahead)
            clock = Clock.of(plan, head.left)
            rest = chain([head], ahead)
            yield Planned(source, clock, rest, lambda: ahead.ready, pictures, news)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a run has for itself: the store of its segments, or the ``sink`` where there are none.

    ``folder`` is that of the store, or a temporary one.
    """

    folder: Path
    store: SegmentStore | None
    sink: Sink
    warnings: list[Warned]


@contextmanager
def workplace(plan: VideoPlan, clock: Clock) -> Iterator[Workplace]:
    """Have the output for oneself, and take over what an earlier run has finished.

    Raises:
        OutputError: another run makes it, or it could not be written in the end.
        Interrupted: Ctrl-C in the block, and something is kept.
    """
    settings, output = plan.settings, plan.output
    if not is_joinable(output):
        with (
            claim(output, overwrite=settings.overwrite),
            TemporaryDirectory(prefix="cloudconv-") as folder,
            sink_of(plan, clock) as sink,
        ):
            yield Workplace(Path(folder), None, sink, sink.warnings)
        return
    store = SegmentStore(output)
    with store.locked():
        # Another run may have finished it since it was checked.
        check_free(output, overwrite=settings.overwrite)
        # What would go wrong at the very end goes wrong now.
        rehearsal = sink_of(plan, clock)
        rehearsal.rehearse()
        store.open(_identity(plan, clock, rehearsal), resume=settings.resume)
        check_folder(store.path, adapt_plan(plan))
        store.adapting = settings.adapt is not None
        warnings = [*rehearsal.warnings, *store.remarks]
        yield Workplace(store.path, store, rehearsal, warnings)


def _identity(plan: VideoPlan, clock: Clock, rehearsal: Sink) -> dict[str, Any]:
    return {
        "input": plan.info.fingerprint,
        **plan.settings.pinned(),
        **machine_fingerprint(plan.device),
        "weights": weights_fingerprint(plan.settings.chosen_model),
        "precision": precision_name(plan.dtype),
        "encoder": f"{rehearsal.encoder}, {rehearsal.options}",
        "pix_fmt": rehearsal.pix_fmt,
        "times": f"{clock.time_base} {clock.offset}",
    }


def adapt_plan(plan: VideoPlan) -> AdaptPlan | None:
    """Return how the model is adapted to the video; None where it is not."""
    settings = plan.settings
    if settings.adapt is None:
        return None
    return AdaptPlan(
        info=plan.info,
        model=settings.chosen_model,
        minutes=settings.adapt,
        start=exact(settings.start),
        end=exact(settings.end),
        deinterlace=settings.deinterlace,
        device=plan.device,
        dtype=plan.dtype,
        threads=settings.threads,
        renderer=lambda model: renderer_of(plan, model),
    )


def adapted_model(
    plan: VideoPlan, folder: Path, warnings: Warnings
) -> Generator[Event, None, tuple[str, Adapted | None]]:
    """Adapt the model first, if that is asked for; return the model, and what came of adapting."""
    asked, settings = adapt_plan(plan), plan.settings
    if asked is None:
        return settings.chosen_model, None
    model, adapted = yield from adapt(asked, folder, warnings)
    saved = save(folder, settings.saved_model, overwrite=settings.overwrite)
    yield from warnings.new(saved)
    return model, adapted


def resolve(
    plan: VideoPlan, clock: Clock, place: Workplace, model: str, renderer: Renderer, source: Source
) -> RenderPlan:
    """Decide how frames are made, or keep to what an earlier run has pinned.

    Raises:
        WeightsError: the adapted weights are not those that finished frames were made with.
    """
    info, settings, workers, store = plan.info, plan.settings, plan.workers, place.store
    decided = None if store is None else store.pinned
    digest = adapted_digest(place.folder, model)
    if decided is None:
        at_once = 1 if workers.each_gpu else workers.count
        batch, tile, cpu_streams = renderer.plan_once(info.width, info.height, at_once)
        threads = workers.threads(settings.threads)
        decided = {
            "batch": batch,
            "tile": tile,
            "cpu_streams": cpu_streams,
            "threads": threads,
            "encoding": settings.encode.threads if workers.kind == "inline" else threads,
            "adapted": digest,
        }
        if store is not None:
            store.pin(decided)
    elif decided.get("adapted") != digest:
        raise WeightsError(
            f"The adapted weights in {place.folder} are not those that the finished "
            f"frames were made with: begin anew with {option('resume', False)}."
        )
    return RenderPlan(
        info=info,
        output=plan.output,
        folder=place.folder.absolute(),
        rate=plan.rate,
        time_base=clock.time_base,
        offset=clock.offset,
        encode=replace(settings.encode, threads=decided["encoding"]),
        model=model,
        device=plan.device.type,  # of which a worker sees one
        precision=precision_name(plan.dtype),
        scale=settings.scale or 1.0,
        fallback=settings.fallback == "blend",
        batch=decided["batch"],
        tile=decided["tile"],
        cpu_streams=decided["cpu_streams"],
        threads=decided["threads"],
        deinterlace=settings.deinterlace,
        nvdec=source.by_gpu,  # what decodes here also does so with the workers
        token=token_of(place.folder),
        may_raise=settings.precision == "auto",
    )
