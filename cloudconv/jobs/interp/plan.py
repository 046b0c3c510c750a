"""Plan an interpolation from its settings and a probe of the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from cloudconv.errors import InputError, OutputError, SettingsError
from cloudconv.events import Warned
from cloudconv.jobs.adapt import check_adapting
from cloudconv.jobs.output import check_encoding, output_path, part_tag
from cloudconv.jobs.reads import check_outputs
from cloudconv.media.containers import container_of
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.names import is_stdout
from cloudconv.media.read.probe import probe
from cloudconv.media.read.source import Source
from cloudconv.media.write.target import check_output, check_rate, collect_refusals, written_by
from cloudconv.messages import short
from cloudconv.models import registry
from cloudconv.models.catalogue import ModelSpec
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import set_threads
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.frames import Request
from cloudconv.settings import InterpSettings, exact
from cloudconv.timeline import Multiply, Resample, expected_frames, output_rate, rate_name
from cloudconv.workers.pool import WorkerConfig, choose_workers
from cloudconv.workers.remote import check_single

_MANY_FRAMES, _MANY_TIMES = 100_000, 10
"""A run needs ``many_frames`` to make more frames than the first number, if they are also more than
the second number times those that the source's frames make at their usual rate."""
_SLOWEST = Fraction(1, 60)
"""The lowest usual rate: the header of a damaged AVI states a constant rate of days per frame."""
_FEW_KEPT = 2
"""A rate gives a warning if it keeps fewer than one in this many source frames unchanged."""
_NTSC = Fraction(1000, 1001)
_STILL_RATES = 30, 50, 60
"""The rates that the warning of a long gap names for repeated pictures."""
_LONG_GAP, _LONG_TIMES = Fraction(1), 8
"""A gap between two frames gives a warning if it lasts at least so many seconds, and at least the
second number times the median gap."""


@dataclass(frozen=True, slots=True)
class InterpPlan:
    """The decisions that an interpolation makes before the first frame.

    ``request`` describes the output frames, and ``rate`` is the output's rate, None if variable.
    ``spec`` describes the model, and ``device`` and ``dtype`` are the model's. ``refusals`` are the
    reasons for which a run refuses to write the output.
    """

    settings: InterpSettings
    info: MediaInfo
    output: Path
    request: Request
    rate: Fraction | None
    spec: ModelSpec
    device: torch.device
    dtype: torch.dtype
    workers: WorkerConfig
    device_warnings: tuple[Warned, ...]
    refusals: tuple[OutputError, ...]

    @property
    def window(self) -> tuple[Fraction, Fraction]:
        """Return start and end of the used part of the source, in seconds on the source's clock."""
        timing, s = self.info.timing, self.settings
        end = timing.end if s.end is None else min(timing.end, timing.start + exact(s.end))
        return timing.start + (exact(s.start) or 0), end

    @property
    def warnings(self) -> list[Warned]:
        """Return the warnings about the input, the device, a long gap and the output rate."""
        others = [*self._gap_warnings, *self._rate_warnings]
        return [*self.info.warnings, *self.device_warnings, *others]

    @property
    def _gap_warnings(self) -> list[Warned]:
        """Return a warning if new frames fill the time of a picture that lasts unusually long."""
        timing, (start, end) = self.info.timing, self.window
        if timing.median_gap is None or timing.longest_gap is None:
            return []
        begin, following = timing.longest_gap
        lasts, usual = following - begin, timing.median_gap
        if lasts < max(_LONG_GAP, _LONG_TIMES * usual) or following >= end or begin < start:
            return []
        rate = min(_STILL_RATES, key=lambda each: abs(each - 1 / usual))
        return [
            Warned(
                f"long-gap: The picture at {float(begin - timing.start):.1f} s lasts "
                f"{float(lasts):.1f} s, and others mostly {float(usual):.2f} s: unless a cut "
                "follows, new frames spread the change to the next picture over the whole time. "
                "To keep still pictures of a screen recording still, repeat them first: ffmpeg "
                f"-i IN -vf fps={rate} OUT."
            )
        ]

    @property
    def _rate_warnings(self) -> list[Warned]:
        """Return a warning if the rate is the source's or less, or if it keeps few frames."""
        timing, rate = self.info.timing, exact(self.settings.fps)
        own = timing.rate
        if rate is not None and not timing.open_ended:
            mean = own or (timing.frames / (timing.end - timing.start)).limit_denominator(1000)
            mean /= self.request.slowdown
            if rate < mean:
                return [
                    Warned(
                        f"frames-dropped: {rate_name(rate)} fps is less than the {rate_name(mean)} "
                        f"fps of the source: about {float(1 - rate / mean):.0%} of its frames are "
                        "left out."
                    )
                ]
        if own is None or rate is None or self.settings.slowmo is not None:
            return []
        if rate == own and not self.settings.refill:
            return [
                Warned(
                    f"rate-kept: The source has {rate_name(own)} fps already: its frames are only "
                    "encoded again, and new ones only fill gaps."
                )
            ]
        factor = rate / own
        if factor.denominator <= _FEW_KEPT:
            return []
        beside = (rate * each for each in (_NTSC, 1 / _NTSC))  # 59.94 for 60, and 60 for 59.94
        near = next((each for each in beside if (each / own).denominator <= _FEW_KEPT), rate)
        whole = own * max(2, round(near / own))
        half = "" if near in (rate, whole) else self._advice(near, "every second one")
        all_kept = self._advice(whole, "all source frames")
        return [
            Warned(
                f"few-frames-kept: At {rate_name(rate)} fps only one of {factor.denominator} "
                f"source frames is kept, and new frames replace the others{half}{all_kept}."
            )
        ]

    def _advice(self, rate: Fraction, kept: str) -> str:
        """Return a clause about a rate; empty if the output's container does not support it."""
        plays = is_stdout(self.output) or container_of(self.output).plays(rate)
        return f"; {rate_name(rate)} fps keeps {kept}" if plays else ""

    @property
    def expected(self) -> int | None:
        """Return the approximate number of output frames; None for a stream of unknown length."""
        timing = self.info.timing
        if timing.open_ended and self.settings.end is None:
            return None
        start, end = self.window
        return expected_frames(
            self.request.rate, self._source_frames, end - start, self.request.slowdown
        )

    @property
    def _source_frames(self) -> int:
        timing, (start, end) = self.info.timing, self.window
        return round(timing.frames * (end - start) / (timing.end - timing.start))


def decide(
    settings: InterpSettings, inputs: Sequence[Path | str] = (), *, live: bool = False
) -> InterpPlan:
    """Probe the input, and return the plan of its interpolation.

    Args:
        settings: the settings of the command.
        inputs: other files that the command reads, so the output must not replace them.
        live: whether standard input may be read as it arrives, by the one job that uses the plan.

    Raises:
        CloudconvError: the input, the model or the device cannot be used.
    """
    spec = registry.spec(settings.chosen_model, "interpolate")
    workers, device, warned = choose_workers(settings.workers, settings.device, settings.threads)
    dtype = workers.precision(settings.precision, device, spec)
    info = probe(
        *(settings.input, exact(settings.input_fps)),
        live=live and _is_live(settings),
        deinterlace=settings.deinterlace,
    )
    timing = info.timing
    if timing.frames == 1:
        raise InputError(
            f"single-frame: {info.path} has a single frame, and interpolation needs two or more: "
            "give a longer video or part."
        )
    start, end = exact(settings.start), exact(settings.end)
    if start is not None and start >= timing.end - timing.start:
        raise InputError(
            f"at-after-end: {info.path} lasts {short(float(timing.end - timing.start))} s, so it "
            f"has no frame at {short(float(start))} s: choose an earlier time."
        )
    request = Request(
        name=str(info.path),
        rate=_rate(settings, info),
        slowdown=exact(settings.slowmo or 1),
        scene_cut=settings.scene_cut,
        duplicates="refill" if settings.refill else "keep",
        loop=settings.loop,
        context=spec.frames(fallback=spec.falls_back(settings.fallback)),
        end=None if end is None or settings.loop else timing.start + end,
        tick=timing.time_base if timing.rate is None else None,
    )
    registry.check_times(spec, _frames_for_each(request, timing.rate))
    gap_rate = output_rate(request.rate, timing.gap_rate, request.slowdown)
    fastest = output_rate(request.rate, timing.fastest_rate, request.slowdown)
    output = output_path(settings.output, info, _tag(settings), gap_rate, fastest)
    rate = output_rate(request.rate, timing.rate, request.slowdown)
    if workers.kind != "inline" and not is_joinable(output):
        raise SettingsError(
            f"not-joinable: {output} has a format that cannot be joined from segments: leave "
            "--workers and --device=cuda:all out, or write an .mp4 or .mkv."
        )
    if workers.kind == "ray":
        check_single(info.path)
    if not settings.many_frames:
        _check_count(settings, info, request)
    return InterpPlan(
        settings,
        info,
        output,
        request,
        rate,
        spec,
        device,
        dtype,
        workers,
        tuple(warned),
        tuple(_refusals(settings, inputs, info, output, (rate, fastest))),
    )


def _is_live(settings: InterpSettings) -> bool:
    """Return whether frames are written as they arrive: from standard input to standard output.

    Resuming, which other outputs allow, and adapting need the complete input first.
    """
    to_stdout = settings.output is not None and is_stdout(Path(str(settings.output)))
    return str(settings.input) == "-" and to_stdout and settings.adapt is None


def _refusals(
    settings: InterpSettings,
    inputs: Sequence[Path | str],
    info: MediaInfo,
    output: Path,
    rates: tuple[Fraction | None, Fraction | None],
) -> list[OutputError]:
    """Check every file that the run writes, and return the reasons to refuse the output.

    ``rates`` are the constant rate of the output, and that of its shortest frame; None if there is
    none, or if it is unknown.

    Raises:
        SettingsError: a name cannot be used.
    """
    check_encoding(output, info, settings)
    refusals: list[OutputError] = []
    with collect_refusals(refusals):
        check_output(output, overwrite=settings.overwrite, inputs=[info.path])
    with collect_refusals(refusals):
        check_adapting(settings, settings.chosen_model)
    with collect_refusals(refusals):
        check_outputs(settings, written_by(output), [info.path, *map(Path, inputs)])
    with collect_refusals(refusals):
        is_whole = settings.start is None and settings.end is None
        check_rate(output, rates[0], rates[1] if is_whole else None)
    return refusals


def _rate(settings: InterpSettings, info: MediaInfo) -> Multiply | Resample:
    fps = exact(settings.fps)
    if fps is not None:
        return Resample(fps)
    factor = exact(settings.factor or settings.slowmo or 1)
    if info.timing.rate is not None:
        # At a constant rate the output times are evenly spaced, even where the source lacks frames.
        return Resample(info.timing.rate * exact(settings.factor or 1))
    if factor.denominator == 1:
        return Multiply(int(factor))
    if info.timing.gap_rate is not None:
        return Resample(info.timing.gap_rate * exact(settings.factor or 1))
    raise SettingsError(
        f"factor-on-variable-rate: {info.path} has a variable frame rate, for which a factor of "
        f"{short(float(factor))} gives no definite times: give a whole number, or a fixed rate "
        "with --fps."
    )


def _check_count(settings: InterpSettings, info: MediaInfo, request: Request) -> None:
    """Compute the number of output frames that gaps of the source cause.

    Raises:
        InputError: a gap makes the number much larger than the source's frames do.
    """
    timing = info.timing
    if timing.open_ended:
        return  # ``frames_of`` checks the frames as they arrive
    # The output begins with the first frame after the start.
    begins = timing.next_frame(timing.start + (exact(settings.start) or 0))
    ends = timing.end
    if settings.end is not None:
        ends = min(ends, timing.start + exact(settings.end))
    _refuse_many(info, request, timing.frames, ends - begins)


def frames_of(plan: InterpPlan, source: Source) -> Iterator[Frame]:
    """Yield the source's frames.

    Raises:
        InputError: gaps of an input that still arrives make too many frames; see ``_check_count``.
    """
    frames = source.frames()
    if plan.settings.many_frames or not plan.info.timing.open_ended:
        yield from frames
        return
    begins = None
    for number, frame in enumerate(frames, 1):
        begins = frame.time if begins is None else begins
        _refuse_many(plan.info, plan.request, number, frame.time + frame.duration - begins)
        yield frame


def _refuse_many(info: MediaInfo, request: Request, frames: int, length: Fraction) -> None:
    rate = request.rate
    if isinstance(rate, Multiply):
        return
    count = expected_frames(rate, frames, length, request.slowdown)
    own = info.timing.usual_rate
    usual = expected_frames(rate, frames, frames / max(own, _SLOWEST), request.slowdown)
    if count > max(_MANY_FRAMES, _MANY_TIMES * usual):
        usual_rate = "their usual rate" if own >= _SLOWEST else "one frame a minute"
        made = (
            f"{frames} frames last {float(length):.0f} s, which is {count:,} frames at "
            f"{rate_name(rate.rate)} fps, and only {usual:,} at {usual_rate}"
        )
        if info.timing.open_ended:
            raise InputError(
                f"too-many-frames-arrive: {info.path} shows a frame for very long: its first "
                f"{made}. Save the input as a file first, which a whole --factor divides gap by "
                "gap, or give --many-frames to make all frames."
            )
        raise InputError(
            f"too-many-frames: {info.path} shows frames for very long: its {made}. Give a whole "
            "--factor to divide each gap, or --many-frames to make all frames."
        )


def _frames_for_each(request: Request, own: Fraction | None) -> Fraction | None:
    """Return the number of output frames for each source frame; None if that number varies."""
    if isinstance(request.rate, Multiply):
        return Fraction(request.rate.factor)
    return None if own is None else request.rate.rate * request.slowdown / own


def _tag(settings: InterpSettings) -> str:
    parts = "_loop" if settings.loop else ""
    parts += "_refill" if settings.refill else ""
    return _speed_tag(settings) + parts + part_tag(exact(settings.start), exact(settings.end))


def _speed_tag(settings: InterpSettings) -> str:
    if settings.factor is not None:
        return f"x{float(settings.factor):g}"
    tags = []
    if settings.slowmo is not None:
        tags.append(f"slow{float(settings.slowmo):g}")
    fps = exact(settings.fps)
    if fps is not None:
        # NTSC rates have rounded names, such as 59.94.
        ntsc = fps.denominator == 1001
        tags.append(f"{float(fps):.2f}fps" if ntsc else f"{float(fps):g}fps")
    return "_".join(tags)


def is_joinable(output: Path) -> bool:
    """Return whether the output can be joined from segments."""
    return not is_stdout(output) and container_of(output).is_video


def source_of(plan: InterpPlan) -> Source:
    """Return a source that decodes the requested part of the input."""
    s = plan.settings
    return Source(
        plan.info,
        start=exact(s.start),
        end=exact(s.end),
        threads=s.threads,
        nvdec=(plan.device.index or 0) if s.nvdec else None,
        following=plan.request.end is not None,
    )


def renderer_of(plan: InterpPlan, model: str | None = None) -> Renderer:
    """Return a renderer with the plan's model, or another one; its batch is not chosen yet."""
    settings, name = plan.settings, model or plan.settings.chosen_model
    threads = plan.workers.threads(settings.threads) or set_threads(None)
    streams = useful_cpu_streams(torch.device(plan.workers.device), threads)
    return renderer_for(name, settings, plan.device, plan.dtype, streams)
