"""Go on from a video's last frame for as long as is asked, from file to file, and stay alive.

What the dream is made of is read first. Then the source's frames pass through untouched, and those
of the dream follow. Whether it lives is measured on each of them while it runs.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.methods.base import Method
from cloudconv.dreaming.pictures import small_copy
from cloudconv.dreaming.select import advice
from cloudconv.dreaming.vitals.vitals import Meter, Vitals
from cloudconv.dreaming.vitals.words import failures
from cloudconv.errors import OutputError
from cloudconv.events import Event, Finished, Job, Measured, Progress, Warned, Warnings, returned
from cloudconv.jobs.dream.plan import CHOSEN, DreamJob, prepare
from cloudconv.jobs.dream.report import write_report
from cloudconv.jobs.dream.settings import AUTO, DreamPlan, DreamResult, DreamSettings
from cloudconv.jobs.extend.analysis import Tell, analysed
from cloudconv.jobs.extend.plan import (
    Written,
    enough_memory,
    new_frame,
    write,
)
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.turn import UPRIGHT, turn_of
from cloudconv.media.write.containers import container_of
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.target import claim
from cloudconv.render.device import (
    precision_name,
    set_threads,
)
from cloudconv.render.memory import process_memory
from cloudconv.render.pipeline import drained
from cloudconv.report import ReportFolder

_TRIAL = 3  # frames that a plan makes to tell the time
_BYTES_A_PIXEL = 250  # peak of the pictures that are worked on, measured
_FIRST_LOOK = 20  # frames before it can be said that a dream dies
_OFTEN = 10  # frames between two looks
_MEASURED = 0.8  # share of the analysis that is done when the clip's own vitals are
_SAMPLES = 8  # frames that a report shows


@dataclass(frozen=True, slots=True)
class _Sample:
    """A small picture of a new frame, for the report."""

    number: int
    picture: NDArray[np.uint8]


@dataclass(slots=True)
class _Watch:
    """Measures whether a dream lives, in the thread that dreams; ``news`` goes to the job."""

    meter: Meter
    method: Method
    sampled: frozenset[int]
    news: SimpleQueue[Warned | Measured | _Sample] = field(default_factory=SimpleQueue)
    bad_looks: int = 0
    is_dying: bool = False


def run(settings: DreamSettings) -> Job:
    """Dream on from ``settings.input`` into a new file.

    The target appears only when it is whole.

    Yields:
        Warnings, among them, once, one if the dream leaves the living range; progress, first of
        the analysis; ``vitals`` about once a second of the dream; and in the end a
        :class:`DreamResult`.

    Raises:
        CloudconvError: then the output does not exist, or is as it was before.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    warnings, report = Warnings(), None
    history: list[Vitals] = []
    pictures: dict[int, NDArray[np.uint8]] = {}
    with ExitStack() as stack:
        yield Progress("analysing", 0, 100, unit="%")
        job = yield from prepare(settings, stack)
        place = job.place
        stack.enter_context(claim(place.output, overwrite=settings.overwrite))
        if settings.report is not None:
            folder = ReportFolder(Path(settings.report), overwrite=settings.overwrite)
            report = stack.enter_context(folder)
        yield from warnings.new(job.warnings)
        meter = yield from analysed(partial(_meter, job), CHOSEN, _MEASURED)
        watch = _Watch(meter, job.spec.build(job.options), _sampled(job))
        yield Progress("analysing", 100, 100, unit="%")
        writing = write(place, lambda first: _pictures(job, watch, first), warnings)
        done = yield from _watched(writing, watch, warnings, history, pictures)
        rows = meter.finish()
        wall = time.monotonic() - began
        result = DreamResult(
            **_found(job),
            **place.told(done),
            vitals=[row.as_json() for row in rows],
            limits=meter.limits_as_json(),
            alive=all(row.alive for row in rows),
            backwards=None if (share := watch.method.backwards) is None else round(share, 4),
            report=None if settings.report is None else str(settings.report),
            wall_seconds=wall,
            frames_per_second=(done.source_frames + done.new_frames) / wall,
            warnings=warnings.said,
        )
        if report is not None:
            turn = turn_of(place.info) or UPRIGHT
            write_report(report, result, history, rows, pictures, place.step, turn)
    yield Finished(result)


def _watched(
    writing: Generator[Event, None, Written],
    watch: _Watch,
    warnings: Warnings,
    history: list[Vitals],
    pictures: dict[int, NDArray[np.uint8]],
) -> Generator[Event, None, Written]:
    """Pass on what is told of the writing, and of the dream."""
    written: Written | None = None
    with closing(writing):
        while written is None:
            event: Event | None = None
            try:
                event = next(writing)
            except StopIteration as end:
                written = end.value
            for news in drained(watch.news):
                if isinstance(news, _Sample):
                    pictures[news.number] = news.picture
                elif isinstance(news, Warned):
                    yield from warnings.new([news])
                else:
                    history.append(news.values)
                    yield news
            if event is not None:
                yield event
    return written


def estimate(settings: DreamSettings) -> DreamPlan:
    """Say what :func:`run` would do: the material is read, a few frames made, nothing written.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    set_threads(settings.threads)
    refusals: list[OutputError] = []
    with ExitStack() as stack:
        return _plan(returned(prepare(settings, stack, refusals)), refusals)


def _plan(job: DreamJob, refusals: list[OutputError]) -> DreamPlan:
    settings, place, info = job.settings, job.place, job.place.info
    choice = choose_for(container_of(place.output), info, settings.encode)
    pixels = info.width * info.height
    return DreamPlan(
        **_found(job),
        **place.planned(),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=(process_memory() or len(job.material) * 2 * pixels) + _BYTES_A_PIXEL * pixels,
        seconds=_seconds(job),
        warnings=[*job.warnings, *choice.warnings],
        refusals=refusals,
    )


def _meter(job: DreamJob, tell: Tell) -> Meter:
    settings = job.settings
    return Meter(
        job.material,
        repeats=job.loops or (job.spec.repeats and not job.sky),
        sky=job.sky,
        pasted=job.spec.static,
        as_filmed=job.spec.as_filmed,
        frames=job.place.new_frames,
        follows=not (settings.loop and settings.only_new),
        tell=tell,
    )


def _sampled(job: DreamJob) -> frozenset[int]:
    """The numbers of the frames that a report shows, from the first to the last."""
    if job.settings.report is None:
        return frozenset()
    last = job.place.new_frames - 1
    return frozenset(round(k * last / (_SAMPLES - 1)) for k in range(_SAMPLES))


def _pictures(job: DreamJob, watch: _Watch, first: Frame | None) -> Iterator[Frame]:
    """The dream, on the source's clock."""
    place, material = job.place, job.material
    a_second = max(1, round(1 / place.step))
    with enough_memory(material.device, place.info):
        dream = _dream(job, watch.method, place.new_frames, first)
        for number in range(place.new_frames):
            with torch.inference_mode():
                rgb = next(dream)
                frame = new_frame(rgb, material.last)
                watch.meter.push(rgb)
                if number in watch.sampled:
                    watch.news.put(_Sample(number, small_copy(rgb, material.small_size)))
            _check_life(job, watch, number + 1, a_second)
            yield frame.at(place.begins + number * place.step, place.step)


def _dream(job: DreamJob, method: Method, frames: int, first: Frame | None) -> Iterator[Tensor]:
    settings, material = job.settings, job.material
    loop_to = None
    if job.loops and first is not None:
        loop_to = rgb_of(first, material.device)
    return method.dream(
        material, frames=frames, seed=settings.seed, loop=job.loops, loop_to=loop_to
    )


def _check_life(job: DreamJob, watch: _Watch, count: int, a_second: int) -> None:
    """Now and then, look at the vitals, and say it once when they leave the living range."""
    look = count >= _FIRST_LOOK and count % _OFTEN == 0
    if not look and count % a_second and count != job.place.new_frames:
        return
    vitals = watch.meter.now()
    if vitals is not None and (count % a_second == 0 or count == job.place.new_frames):
        watch.news.put(Measured("vitals", vitals))
    if watch.is_dying or vitals is None:
        return
    # One look over few frames may err; two in a row, or a whole window, do not.
    watch.bad_looks = 0 if vitals.alive else watch.bad_looks + look
    whole = count == job.place.new_frames or count % 100 == 0
    if vitals.alive or not (watch.bad_looks >= 2 or whole):
        return
    by_choice = job.settings.mode == AUTO and not job.settings.given
    with torch.inference_mode():
        instead = advice(job.material, job.spec.name, job.spec.name if by_choice else None)
    failed = ", ".join(failures(vitals).values())
    watch.is_dying = True
    died = {"frame": count, "failed": failed, "advice": instead}
    watch.news.put(Warned("dream-dies", died))


def _seconds(job: DreamJob) -> float:
    """Time a few frames, the first of which pays for getting ready."""
    frames = min(_TRIAL, job.place.new_frames)
    times = [time.perf_counter()]
    dream = _dream(job, job.spec.build(job.options), frames, None)
    for _ in range(frames):
        with torch.inference_mode():
            new_frame(next(dream), job.material.last)
        times.append(time.perf_counter())
    ready, usual = times[1] - times[0], (times[-1] - times[1]) / max(frames - 1, 1)
    return ready + (job.place.new_frames - 1) * usual


def _found(job: DreamJob) -> dict[str, Any]:
    """The fields that a plan and a result share, but those of where it is written."""
    material, info = job.material, job.place.info
    return {
        "mode": job.spec.name,
        "why": job.why,
        "model": job.model,
        "device": str(material.device),
        "precision": precision_name(job.options.dtype),
        "seed": job.settings.seed,
        "loop": job.loops,
        "material_frames": len(material),
        "cut": None if material.cut is None else float(material.cut - info.timing.start),
        "cadence": material.cadence,
    }
