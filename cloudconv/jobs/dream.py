"""Go on from a video's last frame for as long as is asked, from file to file, and stay alive.

What the dream is made of is read first. Then the source's frames pass through untouched, and those
of the dream follow. Whether it lives is measured on each of them while it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import MethodSpec, Options
from cloudconv.dreaming.methods.registry import METHODS, method
from cloudconv.dreaming.methods.rollout import DEFAULT
from cloudconv.dreaming.select import choose
from cloudconv.dreaming.vitals.vitals import Meter, Vitals
from cloudconv.dreaming.vitals.words import failures
from cloudconv.engine.device import (
    auto_remarks,
    choose_device,
    choose_precision,
    precision_name,
    set_threads,
)
from cloudconv.engine.memory import process_memory
from cloudconv.errors import InputError, SettingsError
from cloudconv.jobs.extend.dream_report import PAGE, RESULT, write_report
from cloudconv.jobs.extend.history import gather_material
from cloudconv.jobs.extend.plan import (
    ContinueOutcome,
    ContinueSettings,
    ExtendPlan,
    begun,
    enough_memory,
    new_frame,
    write,
)
from cloudconv.jobs.extend.plan import Progress as CommonProgress
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.media.read.source import Source
from cloudconv.media.write.encoders import choose_for
from cloudconv.media.write.target import claim, container_of, noted
from cloudconv.models import registry
from cloudconv.report import ReportFolder, check_folder

AUTO = "auto"
"""The mode that looks at the material to choose one."""

_TRIAL = 3  # frames that a plan makes to tell the time
_BYTES_A_PIXEL = 250  # peak of the pictures that are worked on, measured
_FIRST_LOOK = 20  # frames before it can be said that a dream dies
_OFTEN = 10  # frames between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamSettings(ContinueSettings):
    """What to do; see also :class:`ContinueSettings`.

    ``mode``: a method's name, or ``auto`` to choose by the material. ``wind``: where things move,
    (dx, dy) in pixels a frame. ``model``: a predictor, for a mode that takes one.
    ``texture_keep``: hold a rollout to the source's detail and colours. ``loop``: the last frame
    leads into the first. ``audio``: whether sound ends where the source does, or begins again.
    ``report``: a folder for a page with the vitals.
    """

    mode: str = AUTO
    model: str | None = None
    seed: int = 0
    loop: bool = False
    wind: tuple[float, float] | None = None
    texture_keep: bool = False
    audio: Literal["end", "loop"] = "end"
    report: Path | str | None = None

    def __post_init__(self) -> None:
        ContinueSettings.__post_init__(self)
        if self.seed < 0:
            raise SettingsError(f"The seed must be 0 or more, got {self.seed}.")
        if self.audio not in ("end", "loop"):
            raise SettingsError(f"`audio` must be end or loop, got {self.audio!r}.")
        if self.mode != AUTO:
            _check_options(method(self.mode), self.given)

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the methods' options that were given."""
        values = {"wind": self.wind, "model": self.model, "texture_keep": self.texture_keep}
        return tuple(name for name, value in values.items() if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(CommonProgress):
    """How far a run has come; ``vitals`` are those of the last frames, about once a second."""

    vitals: Vitals | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamOutcome(ContinueOutcome):
    """What a plan and a result both say; the fields are keys of the command's JSON.

    ``why`` says what spoke for the mode. ``model``: the predictor, in a mode that takes one.
    ``material_frames``: how many frames the dream is made of. ``cut``: when the scene that they
    belong to began, in seconds from the first frame, if a cut was found.
    """

    mode: str
    why: str
    model: str | None
    seed: int
    loop: bool
    material_frames: int
    cut: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamPlan(DreamOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` are estimates for this machine.

    ``refusals``: why the run would refuse to write the output.
    """

    pix_fmt: str
    memory_bytes: int
    seconds: float
    refusals: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamResult(DreamOutcome):
    """What was done.

    ``vitals``: a row for every 100 frames. ``limits``: between which values each vital lives,
    None for no limit. ``alive``: whether all of it does. ``report``: the page, if one was wanted.
    """

    vitals: list[dict[str, Any]]
    limits: dict[str, tuple[float | None, float | None]]
    alive: bool
    report: str | None
    wall_seconds: float
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class _Job:
    """Settings, source and material: everything that is decided before the first frame."""

    settings: DreamSettings
    place: ExtendPlan
    material: Material
    spec: MethodSpec
    why: str
    options: Options
    warnings: list[str]

    @property
    def loops(self) -> bool:
        """Whether the end can lead into the output's first frame: one of the same scene."""
        settings = self.settings
        return settings.loop and (settings.only_new or self.material.cut is None)

    @property
    def model(self) -> str | None:
        takes = "model" in self.spec.options
        return (self.settings.model or DEFAULT) if takes else None


@dataclass(slots=True)
class _Watch:
    """What the thread that dreams tells the one that writes."""

    meter: Meter
    vitals: Vitals | None = None
    warning: str | None = None
    bad_looks: int = 0
    history: list[Vitals] = field(default_factory=list)


def run(
    settings: DreamSettings,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> DreamResult:
    """Dream on from ``settings.input`` into a new file and say what was done.

    The target appears only when it is whole. ``on_warning`` gets the result's warnings as soon as
    they are known; among them is, once, a sentence if the dream leaves the living range.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.monotonic()
    set_threads(settings.threads)
    report = None
    with ExitStack() as stack:
        job = _prepare(settings, stack)
        stack.enter_context(claim(job.place.output, overwrite=settings.overwrite))
        if settings.report is not None:
            report = stack.enter_context(
                ReportFolder(Path(settings.report), overwrite=settings.overwrite)
            )
        return _run(job, report, began, on_progress, on_warning)


def _run(
    job: _Job,
    report: ReportFolder | None,
    began: float,
    on_progress: Callable[[Progress], None] | None,
    on_warning: Callable[[str], None] | None,
) -> DreamResult:
    settings, place = job.settings, job.place
    watch = _Watch(_meter(job))
    warned = False
    warn = on_warning or (lambda _: None)
    for message in job.warnings:
        warn(message)

    def tell(written: int, new: int) -> None:
        nonlocal warned
        if watch.warning is not None and not warned:
            warn(watch.warning)
            warned = True
        if on_progress is not None:
            on_progress(
                Progress(
                    frames_done=written,
                    frames_expected=place.output_frames,
                    new_frames=new,
                    seconds=time.monotonic() - began,
                    vitals=watch.vitals,
                )
            )

    done = write(place, lambda first: _pictures(job, watch, first), tell, warn)
    rows = watch.meter.finish()
    wall = time.monotonic() - began
    late = [] if watch.warning is None else [watch.warning]
    result = DreamResult(
        **_found(job),
        **place.told(done),
        vitals=[row.as_json() for row in rows],
        limits=watch.meter.limits_as_json(),
        alive=all(row.alive for row in rows),
        report=None if settings.report is None else str(settings.report),
        wall_seconds=wall,
        frames_per_second=(done.source_frames + done.new_frames) / wall,
        warnings=list(dict.fromkeys([*job.warnings, *done.warnings, *late])),
    )
    if report is not None:
        write_report(report, result, watch.history, rows, place.step)
    return result


def plan(settings: DreamSettings) -> DreamPlan:
    """What :func:`run` would do: the material is read, a few frames made, and nothing written.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    set_threads(settings.threads)
    refusals: list[str] = []
    with ExitStack() as stack:
        return _plan(_prepare(settings, stack, refusals), refusals)


def _plan(job: _Job, refusals: list[str]) -> DreamPlan:
    settings, place, info = job.settings, job.place, job.place.info
    choice = choose_for(container_of(place.output), info, settings.encode)
    pixels = info.width * info.height
    return DreamPlan(
        **_found(job),
        **place.planned(),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=(process_memory() or len(job.material) * 2 * pixels) + _BYTES_A_PIXEL * pixels,
        seconds=_estimate(job),
        warnings=[*job.warnings, *choice.warnings],
        refusals=refusals,
    )


def _prepare(settings: DreamSettings, stack: ExitStack, refusals: list[str] | None = None) -> _Job:
    if settings.report is not None:
        with noted(refusals):
            check_folder(Path(settings.report), (PAGE, RESULT), overwrite=settings.overwrite)
    device = choose_device(settings.device)
    network = registry.spec(settings.model or DEFAULT, "predict")
    precise = choose_precision(settings.precision, device, network)
    info, output = begun(settings, "dream", refusals)
    # A copy of standard input is kept until it is closed.
    stack.enter_context(Source(info))
    with enough_memory(device, info), torch.inference_mode():
        material = gather_material(
            info,
            at=settings.at,
            scene_cut=settings.scene_cut,
            device=device,
            threads=settings.threads,
        )
        spec, why, doubt = _method(settings, material)
    warnings = [*info.warnings, *auto_remarks(settings.device), *([doubt] if doubt else [])]
    count = len(material)
    start = None if material.cut is None else float(material.cut - info.timing.start)
    if start is not None:
        warnings.append(
            f"Only the last scene, from {start:g} s on, is what the dream is made of: {count} "
            f"frame{'s' if count > 1 else ''}."
        )
    if count < spec.least_frames:
        raise InputError(
            f"{info.path} has {count} frame{'s' if count > 1 else ''} "
            f"{'since its last cut' if start is not None else 'to go on from'}, and the mode "
            f"{spec.name} needs {spec.least_frames}: use the mode {choose(material).mode}."
        )
    if settings.loop and not settings.only_new and start is not None:
        warnings.append(
            "The video begins with another scene, so the end cannot lead into it: leave the "
            "source out with `only_new` for a loop of the dream alone."
        )
    last = material.last
    place = ExtendPlan(
        settings,
        info,
        output,
        last.time + last.duration,
        material.step,
        sound_goes_on=settings.audio == "loop",
    )
    options = Options(
        wind=settings.wind,
        model=settings.model,
        texture_keep=settings.texture_keep,
        dtype=precise if "model" in spec.options else torch.float32,
    )
    return _Job(settings, place, material, spec, why, options, warnings)


def _method(settings: DreamSettings, material: Material) -> tuple[MethodSpec, str, str | None]:
    """The method to use, why, and why it may not hold."""
    if settings.mode != AUTO:
        return method(settings.mode), f"{settings.mode}: asked for.", None
    chosen = choose(material)
    spec = method(chosen.mode)
    if set(settings.given) <= set(spec.options):
        return spec, chosen.why, chosen.doubt
    named = " and ".join(f"`{name}`" for name in settings.given)
    for other in METHODS:
        if set(settings.given) <= set(other.options):
            return other, f"{other.name}: the mode that {named} is for.", None
    raise SettingsError(f"No mode takes {named} together: leave one of them out.")


def _check_options(spec: MethodSpec, given: tuple[str, ...]) -> None:
    for name in given:
        if name not in spec.options:
            takers = [other.name for other in METHODS if name in other.options]
            raise SettingsError(
                f"The mode {spec.name} has no use for `{name}`: leave it out, or choose the mode "
                f"{' or '.join(takers)}."
            )


def _meter(job: _Job) -> Meter:
    settings = job.settings
    with torch.inference_mode():
        return Meter(
            job.material,
            repeats=job.spec.repeats or job.loops,
            pasted=job.spec.static,
            as_filmed=job.spec.as_filmed,
            frames=job.place.new_frames,
            follows=not (settings.loop and settings.only_new),
        )


def _pictures(job: _Job, watch: _Watch, first: Frame | None) -> Iterator[Frame]:
    """The dream, on the source's clock."""
    place, material = job.place, job.material
    a_second = max(1, round(1 / place.step))
    with enough_memory(material.device, place.info):
        dream = _dream(job, place.new_frames, first)
        for number in range(place.new_frames):
            with torch.inference_mode():
                rgb = next(dream)
                frame = new_frame(rgb, material.last)
                watch.meter.push(rgb)
            _check_life(job, watch, number + 1, a_second)
            yield frame.at(place.begins + number * place.step, place.step)


def _dream(job: _Job, frames: int, first: Frame | None) -> Iterator[Tensor]:
    settings, material = job.settings, job.material
    loop_to = None
    if job.loops and first is not None:
        loop_to = rgb_of(first, material.device)
    chosen = job.spec.build(job.options)
    return chosen.dream(
        material, frames=frames, seed=settings.seed, loop=job.loops, loop_to=loop_to
    )


def _check_life(job: _Job, watch: _Watch, count: int, a_second: int) -> None:
    """Now and then, look at the vitals, and say it once when they leave the living range."""
    look = count >= _FIRST_LOOK and count % _OFTEN == 0
    if not look and count % a_second and count != job.place.new_frames:
        return
    vitals = watch.meter.now()
    if vitals is not None and (count % a_second == 0 or count == job.place.new_frames):
        watch.vitals = vitals
        watch.history.append(vitals)
    if watch.warning is not None or vitals is None:
        return
    # One look over few frames may err; two in a row, or a whole window, do not.
    watch.bad_looks = 0 if vitals.alive else watch.bad_looks + look
    whole = count == job.place.new_frames or count % 100 == 0
    if vitals.alive or not (watch.bad_looks >= 2 or whole):
        return
    with torch.inference_mode():
        better = choose(job.material)
    failed = ", ".join(failures(vitals).values())
    advice = "no mode is known to hold better here"
    if better.mode != job.spec.name:
        advice = f"the mode {better.mode} suits this clip better"
    watch.warning = f"The dream leaves the living range by frame {count} ({failed}): {advice}."


def _estimate(job: _Job) -> float:
    """Time a few frames, the first of which pays for getting ready."""
    frames = min(_TRIAL, job.place.new_frames)
    times = [time.perf_counter()]
    dream = _dream(job, frames, None)
    for _ in range(frames):
        with torch.inference_mode():
            new_frame(next(dream), job.material.last)
        times.append(time.perf_counter())
    ready, usual = times[1] - times[0], (times[-1] - times[1]) / max(frames - 1, 1)
    return ready + (job.place.new_frames - 1) * usual


def _found(job: _Job) -> dict[str, Any]:
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
