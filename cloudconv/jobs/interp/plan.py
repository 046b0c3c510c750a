"""Settings and source brought together: all that is decided before the first frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch

from cloudconv.errors import InputError, OutputError, SettingsError
from cloudconv.events import Warned
from cloudconv.jobs.interp.scale import resolve_scale
from cloudconv.jobs.interp.settings import InterpSettings
from cloudconv.jobs.output import output_path, part_tag
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.probe import probe
from cloudconv.media.read.source import Source
from cloudconv.media.write.containers import container_of
from cloudconv.media.write.names import is_stdout
from cloudconv.media.write.target import check_output, check_rate, noted, written_by
from cloudconv.models import registry
from cloudconv.models.reads import check_outputs
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import (
    choose_precision,
    set_threads,
)
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Request, early_cadence
from cloudconv.segments.store import SegmentStore, clear_finished
from cloudconv.settings import exact
from cloudconv.timeline import (
    Multiply,
    Resample,
    expected_frames,
    output_rate,
    rate_name,
)
from cloudconv.training.fine_tune import check
from cloudconv.workers.pool import WorkerConfig, parse_workers, settle
from cloudconv.workers.remote import check_single

_FEW_KEPT = 2
"""One source frame of more than so many is hardly any."""


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """Settings and source brought together: everything decided before the first frame."""

    settings: InterpSettings
    info: MediaInfo
    output: Path
    request: Request
    rate: Fraction | None
    device: torch.device
    dtype: torch.dtype
    workers: WorkerConfig
    notes: list[Warned]

    @property
    def window(self) -> tuple[Fraction, Fraction]:
        """The part of the source that is used, in seconds on its own clock."""
        timing, s = self.info.timing, self.settings
        end = timing.end if s.end is None else min(timing.end, timing.start + exact(s.end))
        return timing.start + (exact(s.start) or 0), end

    @property
    def remarks(self) -> list[Warned]:
        """What is worth saying of the input, as it is used, and of the device."""
        whole = self.settings.deinterlace
        of_input = [w for w in self.info.warnings if w.code != "interlaced" or not whole]
        return [*of_input, *self.notes, *self._replaced]

    @property
    def _replaced(self) -> list[Warned]:
        """A rate that the source has, or that keeps hardly any of its frames, is worth a word."""
        own, asked = self.info.timing.rate, exact(self.settings.fps)
        if own is None or asked is None or self.settings.slowmo is not None:
            return []
        if asked == own and self.settings.duplicates == "keep":
            return [Warned("rate-kept", {"rate": rate_name(own)})]
        share = asked / own
        if share < 1 or share.denominator <= _FEW_KEPT:
            return []
        whole = own * max(2, round(share))
        kept = {
            "rate": rate_name(asked),
            "one_of": share.denominator,
            "whole": rate_name(whole),
        }
        return [Warned("few-frames-kept", kept)]

    @property
    def expected(self) -> int | None:
        """About how many frames the output will have; None of what is read as it comes."""
        timing = self.info.timing
        if timing.open_ended and self.settings.end is None:
            return None
        start, end = self.window
        whole = timing.end - timing.start
        frames = round(timing.frames * (end - start) / whole)
        return expected_frames(self.request.rate, frames, end - start, self.request.stretch)

    @property
    def expected_new(self) -> int | None:
        """About how many of them are new."""
        expected, (start, end) = self.expected, self.window
        timing = self.info.timing
        source = round(timing.frames * (end - start) / (timing.end - timing.start))
        return None if expected is None else max(expected - source, 1)


def decide(
    settings: InterpSettings,
    inputs: Sequence[Path | str] = (),
    refusals: list[OutputError] | None = None,
) -> VideoPlan:
    """Look at the input, and decide all that can be decided before its first frame.

    ``inputs``: what else the command reads, and so must not write. ``refusals``: where to note why
    the output could not be written, instead of raising it; then nothing is touched either. Raises
    :class:`~cloudconv.errors.CloudconvError`.
    """
    spec = registry.spec(settings.chosen_model, "interpolate")
    workers, device, notes = settle(
        parse_workers(settings.workers, settings.device), settings.device, settings.threads
    )
    dtype = choose_precision(settings.precision, device, spec)
    # What can be carried on with later, or is learnt from first, must be known whole.
    live = str(settings.input) == "-" and settings.output is not None
    live = live and settings.adapt is None and refusals is None
    live = live and is_stdout(Path(str(settings.output)))
    info = probe(settings.input, exact(settings.input_fps), live=live)
    timing = info.timing
    if timing.frames == 1:
        raise InputError(f"{info.path} has a single frame, and interpolation needs two or more.")
    start = exact(settings.start)
    if start is not None and start >= timing.end - timing.start:
        raise InputError(
            f"{info.path} lasts {float(timing.end - timing.start):g} s, so nothing follows "
            f"{float(start):g} s: choose an earlier start."
        )
    request = Request(
        name=str(info.path),
        rate=_rate(settings, info),
        stretch=exact(settings.slowmo or 1),
        scene_cut=settings.scene_cut,
        duplicates=settings.duplicates,
        loop=settings.loop,
        context=spec.frames(fallback=settings.fallback == "blend"),
    )
    rate = output_rate(request.rate, timing.rate, request.stretch)
    pace = output_rate(request.rate, timing.pace, request.stretch)
    output = output_path(settings.output, settings.input, info, _tag(settings), pace)
    if refusals is None:
        clear_finished(output)
    with noted(refusals):
        check_output(
            output,
            overwrite=settings.overwrite,
            inputs=[info.path],
        )
    with noted(refusals):
        check(
            settings.adapt,
            settings.chosen_model,
            settings.saved_model,
            overwrite=settings.overwrite,
            folder=SegmentStore(output).path,
        )
    with noted(refusals):
        check_outputs(
            settings,
            [*written_by(output), settings.saved_model, settings.preview_file],
            [info.path, *map(Path, inputs)],
        )
    with noted(refusals):
        check_rate(output, rate)
    if workers.kind != "inline" and not is_joinable(output):
        raise SettingsError(
            f"{output} can only be made in one go: leave `workers` out, or write an .mp4 or .mkv."
        )
    if workers.kind == "ray":
        check_single(info.path)
    if settings.duplicates == "keep" and refusals is None and not timing.open_ended:
        notes = [*notes, *_repeats(settings, info)]
    plan = VideoPlan(settings, info, output, request, rate, device, dtype, workers, notes)
    if str(settings.input) == "-":
        return plan
    scale, remarks = resolve_scale(
        info,
        spec,
        settings.scale,
        plan.expected_new,
        device,
        dtype,
        dry_run=refusals is not None,
    )
    return replace(plan, settings=replace(settings, scale=scale), notes=[*notes, *remarks])


def _repeats(settings: InterpSettings, info: MediaInfo) -> Iterator[Warned]:
    """Yield the warning about a regular cadence, found before the first frame is made."""
    source = Source(
        info,
        start=exact(settings.start),
        end=exact(settings.end),
        threads=settings.threads,
        deinterlace=settings.deinterlace,
    )
    # Not closed: that would end what comes from standard input.
    cadence = early_cadence(source.frames())
    if cadence is not None:
        yield Warned("cadence-kept", {"cadence": cadence})


def _rate(settings: InterpSettings, info: MediaInfo) -> Multiply | Resample:
    fps = exact(settings.fps)
    if fps is not None:
        return Resample(fps)
    factor = exact(settings.factor or settings.slowmo or 1)
    if info.timing.rate is not None:
        # On a constant rate the divided gaps are a grid, which stays constant over lost frames.
        return Resample(info.timing.rate * exact(settings.factor or 1))
    if factor.denominator == 1:
        return Multiply(int(factor))
    if info.timing.pace is not None:
        return Resample(info.timing.pace * exact(settings.factor or 1))
    raise SettingsError(
        f"{info.path} has a variable frame rate, so {float(factor):g} times as many frames have "
        "no place of their own: give a whole number, or a fixed rate with `fps`."
    )


def _tag(settings: InterpSettings) -> str:
    parts = "_loop" if settings.loop else ""
    parts += "_refill" if settings.duplicates == "refill" else ""
    return _speed_tag(settings) + parts + part_tag(exact(settings.start), exact(settings.end))


def _speed_tag(settings: InterpSettings) -> str:
    if settings.factor is not None:
        return f"x{float(settings.factor):g}"
    tags = []
    if settings.slowmo is not None:
        tags.append(f"slow{float(settings.slowmo):g}")
    fps = exact(settings.fps)
    if fps is not None:
        # 59.94 and its like are known by their rounded names.
        ntsc = fps.denominator == 1001
        tags.append(f"{float(fps):.2f}fps" if ntsc else f"{float(fps):g}fps")
    return "_".join(tags)


def is_joinable(output: Path) -> bool:
    """Whether the output can be put together from segments; else it is made in one go."""
    return not is_stdout(output) and container_of(output).is_video


def source_of(job: VideoPlan) -> Source:
    """The part of the input that is asked for."""
    s = job.settings
    return Source(
        job.info,
        start=exact(s.start),
        end=exact(s.end),
        threads=s.threads,
        deinterlace=s.deinterlace,
        nvdec=(job.device.index or 0) if s.hwaccel == "nvdec" else None,
    )


def renderer_of(job: VideoPlan, model: str | None = None) -> Renderer:
    """The model as the settings want it, or another; batch and tiles not decided yet."""
    settings = job.settings
    threads = job.workers.threads(settings.threads) or set_threads(None)
    return Renderer(
        registry.load(model or settings.chosen_model, job.device, job.dtype),
        device=job.device,
        dtype=job.dtype,
        batch=settings.batch,
        tile=settings.tile,
        scale=settings.scale or 1.0,
        cpu_streams=useful_cpu_streams(job.device, threads),
        fallback=settings.fallback == "blend",
        exact=partial(registry.load, model or settings.chosen_model, job.device)
        if settings.precision == "auto"
        else None,
    )
