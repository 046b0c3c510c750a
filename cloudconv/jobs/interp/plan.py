"""Plan an interpolation from its settings and a probe of the input."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from cloudconv.checkpoints import file_of
from cloudconv.errors import InputError, SettingsError
from cloudconv.events import Warned
from cloudconv.jobs import video
from cloudconv.jobs.interp.advice import (
    disk_warnings,
    gap_warnings,
    rate_warnings,
)
from cloudconv.jobs.interp.pool import WorkerConfig, choose_workers
from cloudconv.jobs.madeof import Made, describe
from cloudconv.jobs.reports import PAGE, check_report
from cloudconv.media.carried.carry import Carry
from cloudconv.media.containers.containers import container_of, default_suffix
from cloudconv.media.containers.input import is_stdout
from cloudconv.media.frames.frame import MediaInfo
from cloudconv.media.frames.timing import Timing
from cloudconv.media.reading.pictures import motion_photo
from cloudconv.media.writing.encoding import EncodingPlan, draft_encoding
from cloudconv.messages import rate_name, short
from cloudconv.models import registry
from cloudconv.models.engines import set_engine
from cloudconv.render.device import (
    auto_warnings,
    machine_fingerprint,
    precision_name,
)
from cloudconv.schedule.tasks import Request
from cloudconv.settings import InterpSettings, exact
from cloudconv.settings.framelist import NO_FRAMES, FrameList, Place, parse_frames
from cloudconv.settings.numbers import parse_speed
from cloudconv.timeline import Multiply, Resample, expected_frames, output_rate
from cloudconv.timemap import TimeMap

_MANY_FRAMES = 100_000
_MANY_TIMES = 10
"""A run needs ``many_frames`` to make more frames than the first number, if they are also
more than the second number times those that the source's frames make at their usual
rate."""
_SLOWEST = Fraction(1, 60)
"""The lowest usual rate: the header of a damaged AVI states a constant rate of days per
frame."""


@dataclass(frozen=True)
class InterpPlan(video.VideoPlan):
    """The decisions that an interpolation makes before the first frame.

    ``request`` describes the output frames; ``rate`` is None if variable. ``weights`` is a
    hash of the model's weights.
    """

    settings: InterpSettings
    request: Request
    rate: Fraction | None
    weights: str | None
    workers: WorkerConfig

    @property
    def window(self) -> tuple[Fraction, Fraction]:
        """Return start and end of the used part of the source, in seconds of its clock."""
        settings = self.settings
        return self.info.timing.span(exact(settings.start), exact(settings.end))

    @property
    def warnings(self) -> list[Warned]:
        """Return all warnings that are known before the first frame."""
        device = auto_warnings(self.settings.device)
        timing = self.info.timing
        copies = 2 if is_joinable(self.output) else 1
        others = [
            *gap_warnings(timing, *self.window),
            *rate_warnings(self.settings, timing, self.request.shows, self.output),
            *disk_warnings(self.info, self.output, self.expected, copies),
        ]
        return [*self.info.warnings, *device, *others, *self.draft.warnings]

    @property
    def _used_frames(self) -> int | None:
        timing = self.info.timing
        start, end = self.window
        if timing.open_ended and self.settings.end is None:
            return None
        return round(timing.frames * (end - start) / (timing.end - timing.start))

    @property
    def expected(self) -> int | None:
        """Return the approximate number of output frames.

        The result is None for a stream of unknown length.
        """
        frames = self._used_frames
        if frames is None:
            return None
        return expected_frames(self.request.rate, frames, self.probable_length, self.shows)

    def absolute(self) -> Self:
        """Return the plan with paths that another process, or another machine, can read."""
        settings = self.settings
        model = file_of(self.settings.chosen_model)
        if model is not None:
            settings = settings.changed(model=model.absolute())
        return replace(
            self, settings=settings, info=replace(self.info, path=self.info.path.absolute())
        )

    @property
    def shows(self) -> TimeMap:
        """Return the map from output time to source time of the used part."""
        return self.request.shows_from(self.probable_start)

    @property
    def probable_start(self) -> Fraction:
        """Return the time of the output's first frame by the probe, in source time."""
        return self.info.timing.next_frame(self.window[0])

    @property
    def probable_length(self) -> Fraction:
        """Return for how long source frames are used, by the probe, in seconds."""
        return self.info.timing.next_frame(self.window[1]) - self.probable_start

    @property
    def begins_with_frame(self) -> bool:
        """Return whether the output is a part, or has another speed than the source."""
        settings = self.settings
        is_slow = settings.slowmo is not None or settings.speed is not None
        return settings.start is not None or is_slow

    def encoding(self, first: Fraction) -> EncodingPlan:
        """Return the encoding for the time of the first frame on the source's clock."""
        info = self.info
        timing = self.info.timing
        settings = self.settings
        request = self.request
        keeps_time = settings.slowmo is None and settings.speed is None
        zero = self.zero(first)
        factor = 1 / (request.shows.speed or Fraction(1))
        if isinstance(request.rate, Multiply):
            factor /= request.rate.factor
        # At a variable rate the end can be within a frame.
        gap = 1 / (timing.gap_rate or Fraction(1))
        given = zip((settings.start, settings.end), self.window, strict=True)
        # Sound goes on beyond an end that nobody chose.
        start, end = (None if chosen is None else at for chosen, at in given)
        ends = Fraction(1) if end is None else end - timing.start
        spans = [timing.time_base, timing.last_duration, gap, ends]
        has_sound = keeps_time or settings.audio == "stretch"
        shows = None if keeps_time else self.request.shows_from(first)
        copies = settings.audio == "copy"
        carry = Carry(
            info, zero, start, end, audio=has_sound, shows=shows, copies_only=copies
        )
        return self.draft.at([span * factor for span in spans], first - zero, carry)

    def identity(self, encoding: EncodingPlan) -> Made:
        """Return everything that can change a pixel of the output."""
        machine = machine_fingerprint(self.device, each_gpu=self.workers.each_gpu)
        if self.workers.device_type != self.device.type:
            machine["device"] = f"{self.workers.device_type} of a cluster"
        choice = encoding.choice
        return describe(
            self.settings,
            {"input": self.info.fingerprint},
            **machine,
            weights=self.weights,
            precision=precision_name(self.dtype),
            convolutions=set_engine() or "by processor",
            encoder=f"{choice.encoder}, {dict(choice.options)}",
            pix_fmt=choice.working,
            times=f"{encoding.tick} {encoding.offset}",
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields of the result that are decided.

        Numbers of frames are approximate.
        """
        lasts = None
        expected = self.expected
        common = self.common
        if expected is not None:
            shown = self.shows.output(self.probable_length)
            lasts = expected / self.rate if self.rate else shown
        return {
            "input": common.pop("input"),
            "output": common.pop("output"),
            "model": self.settings.chosen_model,
            **common,
            "device": "cuda:all" if self.workers.each_gpu else self.workers.device,
            "source_frames": self._used_frames,
            "output_frames": expected,
            "output_fps": None if self.rate is None else str(self.rate),
            "duration": None if lasts is None else float(lasts),
            "shutter": self.settings.shutter or None,
            "speed": parts_of(self, self.probable_start),
        }


def parts_of(plan: InterpPlan, first: Fraction) -> list[dict[str, float]] | None:
    """Return the parts of a speed that changes; None for one speed without points.

    The source times ``from`` and ``to`` count from the input's first frame, in seconds, and
    begin at the ``first`` frame of the output. ``lasts`` is the length in the output.
    """
    if plan.settings.speed is None:
        return None
    begin = first - plan.info.timing.start
    length = plan.probable_length - (first - plan.probable_start)
    return [
        {
            "from": float(begin + ramp.source),
            "to": float(begin + ends),
            "speed": float(ramp.first),
            "speed_at_end": float(ramp.speed_at(ends)),
            "lasts": float(ramp.output_at(ends) - ramp.output),
        }
        for ramp, ends in plan.request.shows_from(first).parts(length)
    ]


def decide(
    settings: InterpSettings, inputs: Sequence[Path | str] = (), *, live: bool = False
) -> InterpPlan:
    """Probe the input, and return the plan of its interpolation.

    The output must replace none of ``inputs``. ``live``: whether standard input may be read
    as it arrives, by the one run that uses the plan.
    """
    spec = registry.spec(settings.chosen_model, "interpolate", settings.timesteps)
    registry.check_timesteps(settings.timesteps, [spec])
    workers, device = choose_workers(settings.workers, settings.device, settings.threads)
    dtype = workers.precision(settings.precision, device, spec)
    to_stdout = settings.output is not None and is_stdout(Path(str(settings.output)))
    live = live and to_stdout and str(settings.input) == "-"
    start, end = exact(settings.start), exact(settings.end)
    # The numbers of frames to replace count all frames before.
    part = (start, end) if settings.replace is None else (None, None)
    info = video.probed(settings, part, live=live)
    timing = info.timing
    if timing.frames == 1:
        raise motion_photo(info.path) or InputError(
            f"single-frame: {info.path} has a single frame, and interpolation needs two or "
            "more: give a longer video or part."
        )
    video.check_begin(info, start)
    replaced = _replaced(settings, timing)
    begins, ends = timing.span(start, end)
    request = Request(
        name=f"{info.path}",
        rate=_rate(settings, info),
        shows=_shows(settings, timing),
        zero=timing.start if settings.speed else None,
        scene_cut=settings.scene_cut,
        duplicates="refill" if settings.refill else "keep",
        loop=settings.loop,
        context=spec.frames,
        end=None if end is None or settings.loop else timing.at(end),
        tick=timing.time_base if timing.rate is None else None,
        replaced=replaced,
        start=None if start is None else begins,
        shutter=Fraction(str(settings.shutter)) / 360,
        tracks=spec.cls.follows_motion,
        device=device,
    )
    registry.check_times(spec, _frames_for_each(request, timing.rate))
    gap_rate = output_rate(request.rate, timing.gap_rate, request.shows)
    fastest = output_rate(request.rate, timing.fastest_rate, request.shows)
    suffix = default_suffix(info, gap_rate, fastest)
    output = video.output_path(settings.output, info.path, name_tag(settings), suffix)
    rate = output_rate(request.rate, timing.rate, request.shows)
    if workers.kind != "inline" and not is_joinable(output):
        raise SettingsError(
            f"not-joinable: {output} has a format that cannot be joined from segments: "
            "leave --workers and --device=cuda:all out, or write an .mp4 or .mkv."
        )
    # `frames` checks those that still arrive.
    if not (settings.many_frames or timing.open_ended):
        refuse_many(info, request, timing.frames, ends - timing.next_frame(begins))
    draft = draft_encoding(output, info, rate=rate, settings=settings, carries=True)
    is_whole = settings.start is None and settings.end is None
    read = [info.path, *map(Path, inputs)]
    video.check_target(settings, output, rate, fastest if is_whole else None, read)
    check_report(settings, [PAGE], read, output)
    weights = registry.weights_fingerprint(settings.chosen_model)
    decided = (settings, info, output, device, dtype, draft)
    return InterpPlan(*decided, request, rate, weights, workers)


def _rate(settings: InterpSettings, info: MediaInfo) -> Multiply | Resample:
    fps = exact(settings.fps)
    if fps is not None:
        return Resample(fps)
    factor = exact(settings.factor or settings.slowmo or 1)
    if info.timing.rate is not None:
        # At a constant rate the output times are evenly spaced, even where the source lacks
        # frames.
        return Resample(info.timing.rate * exact(settings.factor or 1))
    if factor.denominator == 1 and settings.speed is None:
        return Multiply(int(factor))
    if info.timing.gap_rate is not None and settings.speed is None:
        return Resample(info.timing.gap_rate * exact(settings.factor or 1))
    raise SettingsError(
        f"variable-rate: {info.path} has a variable frame rate, which leaves the times of "
        "the output open: give a whole --factor or --slowmo, or a fixed rate with --fps."
    )


def _replaced(settings: InterpSettings, timing: Timing) -> FrameList:
    """Return the source frames to replace, with the clock of the source."""
    if settings.replace is None:
        return NO_FRAMES

    def meant(place: Place) -> Place:
        return place if isinstance(place, int) else timing.at(place) - timing.start

    spans = tuple((meant(a), meant(b)) for a, b in parse_frames(settings.replace))
    frames = FrameList(spans, timing.start, timing.gap_rate)
    if not timing.open_ended:
        frames.check(timing.frames, timing.end - timing.start)
    return frames


def _shows(settings: InterpSettings, timing: Timing) -> TimeMap:
    """Return the map from output time to source time that the settings choose."""
    if settings.speed is None:
        return TimeMap.even(1 / exact(settings.slowmo or 1))
    points = [(timing.at(t) - timing.start, v) for t, v in parse_speed(settings.speed)]
    length = timing.end - timing.start
    last, _ = points[-1]
    if last > length and not timing.open_ended:
        raise SettingsError(
            f"speed-after-end: --speed names {short(float(last))} s, and the input lasts "
            f"{short(float(length))} s: give earlier times."
        )
    return TimeMap.through(points)


def refuse_many(info: MediaInfo, request: Request, frames: int, length: Fraction) -> None:
    """Raise InputError if source frames that last so long make too many frames."""
    rate = request.rate
    if isinstance(rate, Multiply):
        return
    count = expected_frames(rate, frames, length, request.shows)
    own = info.timing.usual_rate
    usual = expected_frames(rate, frames, frames / max(own, _SLOWEST), request.shows)
    if count > max(_MANY_FRAMES, _MANY_TIMES * usual):
        usual_rate = "their usual rate" if own >= _SLOWEST else "one frame a minute"
        count_words = (
            f"{frames} frames last {float(length):.0f} s, which is {count:,} frames at "
            f"{rate_name(rate.rate)} fps, and only {usual:,} at {usual_rate}"
        )
        raise InputError(
            f"too-many-frames: {info.path} shows frames for very long: its "
            f"{'first ' * info.timing.open_ended}{count_words}. Give a whole --factor to "
            "divide each gap of a file, or --many-frames to make all frames."
        )


def _frames_for_each(request: Request, own: Fraction | None) -> Fraction | None:
    if isinstance(request.rate, Multiply):
        return Fraction(request.rate.factor)
    speed = request.shows.speed
    return None if own is None or speed is None else request.rate.rate / speed / own


def name_tag(settings: InterpSettings) -> str:
    """Return the end of the default name, without the suffix."""
    fps = exact(settings.fps)
    start = exact(settings.start)
    end = exact(settings.end)
    # NTSC rates have rounded names, such as 59.94.
    digits = ".2f" if fps is not None and fps.denominator == 1001 else "g"
    tags = [
        settings.factor and f"x{float(settings.factor):g}",
        settings.speed and "speed",
        settings.slowmo and f"slow{float(settings.slowmo):g}",
        fps and f"{float(fps):{digits}}fps",
        settings.loop and "loop",
        settings.refill and "refill",
        settings.replace is not None and "replaced",
        settings.shutter and f"shutter{settings.shutter:g}",
    ]
    span = f"_{float(start or 0):g}-{'end' if end is None else format(float(end), 'g')}"
    name = "_".join(str(tag) for tag in tags if tag)
    return name + ("" if start is None and end is None else span)


def is_joinable(output: Path) -> bool:
    """Return whether the output can be joined from segments."""
    return not is_stdout(output) and container_of(output).has_segments
