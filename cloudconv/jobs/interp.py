"""Raise a video's frame rate, from file to file.

Data walks one way: :class:`~cloudconv.media.source.Source` decodes, :func:`schedule` decides what
each output frame is made of, :class:`~cloudconv.engine.runner.Renderer` makes the new ones, and
:class:`~cloudconv.media.sink.Sink` encodes. Decoding with planning, inference, and encoding each
have a thread of their own, with bounded queues between them. A film is made as segments, which
outlast a crash and are joined in the end; what cannot be joined (standard output, animations,
pictures) is made in one go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from cloudconv.engine.device import choose_device, choose_precision, precision_name, set_threads
from cloudconv.errors import InputError, SettingsError
from cloudconv.jobs.clustering import check_single
from cloudconv.jobs.film import Film, is_joinable, renderer_of, source_of
from cloudconv.jobs.output import output_path
from cloudconv.jobs.preview import Preview
from cloudconv.jobs.queue import make_by_crew
from cloudconv.jobs.schedule import Counts, Request, SceneCut, schedule
from cloudconv.jobs.sharing import Crew, crew_of
from cloudconv.media.encoders import EncodeSettings, choose
from cloudconv.media.frame import Frame
from cloudconv.media.probe import INTERLACED, MediaInfo, probe
from cloudconv.media.target import check_output, container_of
from cloudconv.models import registry
from cloudconv.timeline import Multiply, Resample, expected_frames, format_rate, output_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpSettings:
    """What to do; exactly one of ``factor``, ``fps`` and ``slowmo``. Times are seconds from the
    first frame; ``end`` is exclusive. ``out_dir`` is where an output without a name goes.

    Raises :class:`SettingsError` on values out of range.
    """

    input: Path | str
    output: Path | str | None = None
    out_dir: Path | str | None = None
    factor: Fraction | None = None
    fps: Fraction | None = None
    slowmo: Fraction | None = None
    model: str = registry.DEFAULT
    scale: float = 1.0
    fallback: Literal["blend", "off"] = "blend"
    scene_cut: SceneCut = "auto"
    duplicates: Literal["keep", "refill"] = "keep"
    batch: int | Literal["auto"] = "auto"
    tile: int | Literal["auto", "off"] = "auto"
    loop: bool = False
    deinterlace: bool = False
    start: Fraction | None = None
    end: Fraction | None = None
    audio: Literal["drop", "stretch"] = "drop"
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    overwrite: bool = False
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    preview: Path | str | None = None
    resume: bool = True
    workers: str = "local"

    def __post_init__(self) -> None:
        chosen = [n for n in ("factor", "fps", "slowmo") if getattr(self, n) is not None]
        if len(chosen) != 1:
            given = " and ".join(chosen) or "none of them"
            raise SettingsError(f"give exactly one of factor, fps and slowmo; got {given}")
        value: Fraction = getattr(self, chosen[0])
        if chosen[0] == "fps" and not 0 < value <= 10_000:
            raise SettingsError(f"fps must be above 0 and at most 10000, got {float(value):g}")
        if chosen[0] != "fps" and not 1 < value <= 1000:
            raise SettingsError(
                f"{chosen[0]} must be above 1 and at most 1000, got {float(value):g}"
            )
        if not 0.25 <= self.scale <= 4:
            raise SettingsError(f"scale must be between 0.25 and 4, got {self.scale:g}")
        if not isinstance(self.scene_cut, str) and not 0 <= self.scene_cut <= 1:
            raise SettingsError(
                f"scene_cut must be auto, off or between 0 and 1, got {self.scene_cut:g}"
            )
        if self.start is not None and self.start < 0:
            raise SettingsError(f"start must not be negative, got {float(self.start):g}")
        if self.end is not None and self.end <= (self.start or 0):
            raise SettingsError(f"end ({float(self.end):g} s) must come after start")
        if self.audio == "stretch" and self.slowmo is None:
            raise SettingsError("audio can only be stretched in slow motion: add slowmo")
        if crew_of(self.workers, self.device).kind != "here" and self.preview is not None:
            raise SettingsError("preview shows what this process makes: leave workers out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come; ``frames_expected`` is None when the source can't say."""

    frames_done: int
    frames_expected: int | None
    new_frames: int
    cuts: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpOutcome:
    """What a plan and a result both say; the fields are keys of the command's JSON.

    ``cuts``: the time of each new scene's first frame, in seconds from the input's first frame.
    Rates are exact rationals, None where they vary; ``duration`` is in seconds.
    """

    input: str
    output: str
    model: str
    device: str
    precision: str
    source_frames: int
    output_frames: int
    new_frames: int
    held_frames: int
    cuts: list[float]
    source_fps: str | None
    output_fps: str | None
    duration: float
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpPlan(InterpOutcome):
    """What a run would do. ``memory_bytes`` and ``seconds`` are estimates for this machine."""

    encoder: str
    pix_fmt: str
    memory_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpResult(InterpOutcome):
    """What was done. ``frames_per_second`` leaves out the frames that an earlier run had made."""

    wall_seconds: float
    frames_per_second: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class Job:
    """Settings and source brought together: everything decided before the first frame."""

    settings: InterpSettings
    info: MediaInfo
    output: Path
    request: Request
    rate: Fraction | None
    device: torch.device
    dtype: torch.dtype
    crew: Crew

    @property
    def window(self) -> tuple[Fraction, Fraction]:
        """The part of the source that is used, in seconds on its own clock."""
        timing, s = self.info.timing, self.settings
        end = timing.end if s.end is None else min(timing.end, timing.start + s.end)
        return timing.start + (s.start or 0), end

    @property
    def remarks(self) -> list[str]:
        """What is worth saying of the input, as it is used."""
        whole = self.settings.deinterlace
        return [text for text in self.info.warnings if text != INTERLACED or not whole]

    @property
    def expected(self) -> int:
        """About how many frames the output will have."""
        timing = self.info.timing
        start, end = self.window
        whole = timing.end - timing.start
        frames = round(timing.frames * (end - start) / whole)
        return expected_frames(self.request.rate, frames, end - start, self.request.stretch)


def prepare(settings: InterpSettings) -> Job:
    """Look at the input, and decide all that can be decided before its first frame.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    spec = registry.spec(settings.model, "interpolate")
    crew = crew_of(settings.workers, settings.device)
    device = choose_device("cuda" if settings.device == "cuda:all" else settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    info = probe(settings.input)
    timing = info.timing
    if timing.frames == 1:
        raise InputError(f"{info.path} has a single frame, and interpolation needs two or more.")
    if settings.start is not None and settings.start >= timing.end - timing.start:
        raise InputError(
            f"{info.path} lasts {float(timing.end - timing.start):g} s, so nothing follows "
            f"{float(settings.start):g} s: choose an earlier start."
        )
    request = Request(
        name=str(info.path),
        rate=_rate(settings, info),
        stretch=Fraction(settings.slowmo or 1),
        scene_cut=settings.scene_cut,
        duplicates=settings.duplicates,
        loop=settings.loop,
    )
    rate = output_rate(request.rate, timing.rate, request.stretch)
    output = output_path(settings.output, settings.input, info, _tag(settings), rate)
    if settings.output is None and settings.out_dir is not None:
        output = Path(settings.out_dir) / output.name
    check_output(output, overwrite=settings.overwrite, inputs=[info.path])
    if crew.kind != "here" and not is_joinable(output):
        raise SettingsError(
            f"{output} can only be made in one go: leave workers out, or write an .mp4 or .mkv."
        )
    if crew.kind == "ray":
        check_single(info.path)
    return Job(settings, info, output, request, rate, device, dtype, crew)


def _rate(settings: InterpSettings, info: MediaInfo) -> Multiply | Resample:
    if settings.fps is not None:
        return Resample(settings.fps)
    factor = settings.factor or settings.slowmo or Fraction(1)
    if info.timing.rate is not None:
        # On a constant rate the divided gaps are a grid, which stays constant over lost frames.
        return Resample(info.timing.rate * (settings.factor or 1))
    if factor.denominator == 1:
        return Multiply(int(factor))
    raise SettingsError(
        f"{info.path} has a variable frame rate, so {float(factor):g} times as many frames have "
        "no place of their own: give a whole number, or a fixed rate with fps."
    )


def _tag(settings: InterpSettings) -> str:
    if settings.fps is not None:
        # 59.94 and its like are known by their rounded names.
        ntsc = settings.fps.denominator == 1001
        return f"{float(settings.fps):.2f}fps" if ntsc else f"{float(settings.fps):g}fps"
    if settings.factor is not None:
        return f"x{float(settings.factor):g}"
    return f"slow{float(settings.slowmo or 1):g}"


def run(
    settings: InterpSettings, on_progress: Callable[[Progress], None] | None = None
) -> InterpResult:
    """Interpolate ``settings.input`` into a new file and say what was done.

    The target appears only when it is whole. Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    began = time.monotonic()
    preview = _preview(settings)
    film = Film(prepare(settings))
    set_threads(settings.threads)
    written = 0

    def shown(more: int, picture: Frame | None = None) -> None:
        nonlocal written
        written += more
        if preview is not None and picture is not None:
            preview.show(picture)
        if on_progress is not None:
            on_progress(
                Progress(
                    frames_done=written,
                    frames_expected=film.job.expected,
                    new_frames=film.counts.new_frames,
                    cuts=len(film.counts.cuts),
                    seconds=time.monotonic() - began,
                )
            )

    if film.job.crew.kind == "here":
        film.make(shown)
    else:
        make_by_crew(film, shown)
    film.warn(*(preview.warnings if preview is not None else ()))
    return result_of(film)


def result_of(film: Film) -> InterpResult:
    """What is said of a film that has just been finished."""
    film.warn(*_remarks(film.job, film.counts))
    seconds = time.monotonic() - film.began
    return InterpResult(
        **_found(film.job, film.counts),
        wall_seconds=seconds,
        frames_per_second=(film.counts.output_frames - film.found) / seconds,
        resumed=film.found > 0,
        warnings=list(film.warnings),
    )


def plan(settings: InterpSettings) -> InterpPlan:
    """What :func:`run` would do: the source is read to its end, but no frame is made or written.

    The time is that of the network alone, from a trial on a small picture.

    Raises :class:`~cloudconv.errors.CloudconvError`.
    """
    job = prepare(settings)
    info, counts = job.info, Counts()
    warnings: dict[str, None] = dict.fromkeys(job.remarks)
    set_threads(settings.threads)
    choice = choose(
        container_of(job.output), info.working_pix_fmt, info.width, info.height, settings.encode
    )
    with source_of(job) as source:
        for _ in schedule(source.frames(), job.request, counts):
            pass
    memory = renderer_of(job, lambda message: warnings.setdefault(message)).plan(
        info.width, info.height
    )
    warnings |= dict.fromkeys([*source.warnings, *choice.warnings, *_remarks(job, counts)])
    return InterpPlan(
        **_found(job, counts),
        encoder=choice.encoder,
        pix_fmt=choice.pix_fmt,
        memory_bytes=memory.memory_bytes,
        seconds=counts.new_frames * _seconds_per_frame(job),
        warnings=list(warnings),
    )


def _seconds_per_frame(job: Job) -> float:
    """Time one new frame of a small size, twice, and scale the second by the number of pixels."""
    side = 256
    model = registry.load(job.settings.model, job.device, job.dtype)
    x0, x1 = torch.rand(2, 1, 3, side, side, device=job.device)
    for _ in range(2):
        began = time.perf_counter()
        model.interpolate(x0, x1, torch.tensor([0.5]), scale=job.settings.scale).cpu()
    return (time.perf_counter() - began) * job.info.width * job.info.height / side**2


def _preview(settings: InterpSettings) -> Preview | None:
    if settings.preview is None:
        return None
    named = [settings.input, settings.output]
    return Preview(settings.preview, [path for path in named if path is not None])


def _found(job: Job, counts: Counts) -> dict[str, Any]:
    """The fields that a plan and a result share."""
    source_rate, start = job.info.timing.rate, job.info.timing.start
    duration = counts.output_frames / job.rate if job.rate else counts.duration
    return {
        "input": str(job.settings.input),
        "output": str(job.output),
        "model": job.settings.model,
        "device": "cuda:all" if job.settings.device == "cuda:all" else str(job.device),
        "precision": precision_name(job.dtype),
        "source_frames": counts.source_frames,
        "output_frames": counts.output_frames,
        "new_frames": counts.new_frames,
        "held_frames": counts.held_frames,
        "cuts": [float(cut - start) for cut in counts.cuts],
        "source_fps": None if source_rate is None else format_rate(source_rate),
        "output_fps": None if job.rate is None else format_rate(job.rate),
        "duration": float(duration),
    }


def _remarks(job: Job, counts: Counts) -> list[str]:
    if counts.cadence and job.settings.duplicates == "keep":
        return [f"{counts.cadence}; --duplicates refill makes the motion even"]
    return []
