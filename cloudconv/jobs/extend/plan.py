"""Plan and write an output of extrapolate or dream: the source's frames, then the new ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from cloudconv.errors import DeviceError, InputError, OutputError
from cloudconv.events import Event, Measured, Progress, Warned
from cloudconv.jobs.outcome import Outcome
from cloudconv.jobs.output import (
    check_outputs,
    expected_encoding,
    origin,
    output_path,
    size_of,
    time_base,
)
from cloudconv.media.carry import Carry
from cloudconv.media.color import description_of, from_rgb
from cloudconv.media.containers import default_suffix
from cloudconv.media.frame import Frame
from cloudconv.media.info import MediaInfo
from cloudconv.media.output import check_output, check_rate, collect_refusals, written_by
from cloudconv.media.plan import plan_encoding
from cloudconv.media.probe import probe
from cloudconv.media.sink import Sink
from cloudconv.media.source import Source
from cloudconv.messages import short
from cloudconv.models import registry
from cloudconv.models.base import check_finite
from cloudconv.models.catalogue import ModelSpec
from cloudconv.pipeline import prefetch
from cloudconv.render.device import auto_warnings, choose_device, choose_precision, use_device
from cloudconv.render.memory import is_out_of_memory
from cloudconv.settings.extend import ExtendSettings
from cloudconv.settings.values import exact
from cloudconv.transfer import download

S = TypeVar("S", bound=ExtendSettings)


@dataclass(frozen=True, kw_only=True)
class ExtendOutcome(Outcome):
    """The fields that an estimate and a result share.

    ``source_frames`` counts the source's frames in the output. ``at`` is the start of the new
    frames, in seconds from the source's first frame. ``cadence`` describes regular repeats of the
    source's frames, or is None.
    """

    at: float
    cadence: str | None


@dataclass(frozen=True, slots=True)
class ExtendPlan(Generic[S]):
    """Everything that extrapolate or dream decides from the settings and a probe of the input.

    ``predictor`` is the model of extrapolate, and of the dream modes that take one. ``refusals``
    are the reasons for which a run refuses to write the output.
    """

    settings: S
    info: MediaInfo
    output: Path
    predictor: ModelSpec
    device: torch.device
    dtype: torch.dtype
    warnings: tuple[Warned, ...]
    refusals: tuple[OutputError, ...]


def decide(
    settings: S, model: str, tag: str, refusals: list[OutputError], reports: Sequence[Path] = ()
) -> ExtendPlan[S]:
    """Probe the input, and decide everything that does not need its frames.

    ``model`` is the name or file of the predictor, and ``tag`` a word for the default name of the
    output. ``refusals`` receives the reasons to refuse the output. The run also writes ``reports``.

    Raises:
        CloudconvError: the input, the model or the device cannot be used.
    """
    spec = registry.spec(model, "predict")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, spec)
    info = probe(settings.input, exact(settings.input_fps), deinterlace=settings.deinterlace)
    tag += "" if settings.at is None else f"_at{float(settings.at):g}"
    tag += "_new" if settings.only_new else ""
    rates = info.timing.gap_rate, info.timing.fastest_rate
    output = output_path(settings.output, info.path, tag, default_suffix(info, *rates))
    expected_encoding(output, info, settings, [])  # raises for its settings
    with collect_refusals(refusals):
        check_output(output, overwrite=settings.overwrite, inputs=[info.path])
    with collect_refusals(refusals):
        check_outputs(settings, [*written_by(output), *reports], [info.path])
    with collect_refusals(refusals):
        check_rate(output, info.timing.rate)
    length = info.timing.end - info.timing.start
    at = exact(settings.at)
    if at is not None and at > length:
        raise InputError(
            f"at-after-end: {info.path} lasts {short(float(length))} s, so it has no frame at "
            f"{short(float(at))} s: choose an earlier time."
        )
    warnings = (*info.warnings, *auto_warnings(settings.device))
    return ExtendPlan(settings, info, output, spec, device, dtype, warnings, tuple(refusals))


@dataclass(frozen=True, slots=True)
class Continuation(Generic[S]):
    """A plan, with the decisions that need the last source frames before the new ones.

    ``begins`` is the time of the first new frame on the source's clock. ``step`` is the duration of
    each new frame. ``warnings`` include those of the plan. ``facts`` are the fields of an outcome
    that only this command has.
    """

    plan: ExtendPlan[S]
    begins: Fraction
    step: Fraction
    warnings: tuple[Warned, ...]
    facts: dict[str, Any]

    @property
    def new_frames(self) -> int:
        """Return the number of new frames."""
        settings = self.plan.settings
        if settings.frames is not None:
            return int(settings.frames)
        return ceil((exact(settings.seconds) or 0) / self.step)

    @property
    def output_frames(self) -> int:
        """Return the approximate number of frames of the output."""
        if self.plan.settings.only_new:
            return self.new_frames
        timing = self.plan.info.timing
        used = (self.begins - timing.start) / (timing.end - timing.start)
        return round(timing.frames * min(used, Fraction(1))) + self.new_frames

    def outcome(self, source_frames: int, start: Fraction) -> dict[str, Any]:
        """Return the fields of an outcome; ``start`` is the source's time at which it begins."""
        rate = self.plan.info.timing.rate
        source_fps = None if rate is None else str(rate)
        return {
            **self.facts,
            "device": str(self.plan.device),
            "input": str(self.plan.settings.input),
            "output": str(self.plan.output),
            "at": float(self.begins - self.plan.info.timing.start),
            "source_fps": source_fps,
            # New frames alone are at even distances, even if those of the source are not.
            "output_fps": str(1 / self.step) if self.plan.settings.only_new else source_fps,
            "source_frames": source_frames,
            "output_frames": source_frames + self.new_frames,
            "new_frames": self.new_frames,
            "duration": float(self.begins + self.new_frames * self.step - start),
        }

    def estimate(self) -> dict[str, Any]:
        """Return the fields of an estimate; the job adds memory and time."""
        info, settings = self.plan.info, self.plan.settings
        refusals = list(self.plan.refusals)
        encoding, encoder_warnings = expected_encoding(self.plan.output, info, settings, refusals)
        start = self.begins if settings.only_new else info.timing.start
        return {
            **self.outcome(self.output_frames - self.new_frames, start),
            **encoding,
            "warnings": [*self.warnings, *encoder_warnings],
            "refusals": refusals,
        }

    def write(
        self,
        make: Callable[[Frame | None], Iterator[Frame]],
        began: float,
        measure: Callable[[], Iterable[Warned | Measured]] = tuple,
    ) -> Generator[Event, None, dict[str, Any]]:
        """Write the source's frames, then the new ones; return the fields of a result.

        The output appears only when it is complete. This method sets the times and durations of all
        frames.

        Args:
            make: a function that yields the new frames; their times are ignored. Its argument is
                the output's first frame if that is a source frame, otherwise None. Another thread
                makes the frames.
            began: the value of ``time.monotonic()`` when the job started.
            measure: a function that this method calls after each new frame; it returns events.
        """
        info, timing, settings = self.plan.info, self.plan.info.timing, self.plan.settings
        with ExitStack() as stack:
            end = exact(settings.at)
            source = stack.enter_context(Source(info, end=end, threads=settings.threads))
            passing = iter(()) if settings.only_new else source.frames()
            first = next(passing, None)
            shown = self.begins if first is None else first.time
            zero = shown if first is None else origin(info, shown)
            # The source's time ``zero`` becomes time 0 of the output.
            gap = 1 / (timing.gap_rate or Fraction(1))
            # Audio ends with the source. If ``at`` is given, audio ends at the new frames.
            audio_end = None if end is None else self.begins
            parts = timing.last_duration, gap, self.step, self.begins - timing.start
            encoding = plan_encoding(
                self.plan.output,
                info,
                rate=timing.rate,
                time_base=time_base(timing.rate, (timing.time_base, *parts), shown - zero),
                settings=settings,
                carry=Carry(info, zero, None, audio_end, audio=not settings.only_new),
            )
            sink = stack.enter_context(Sink(encoding, overwrite=settings.overwrite))
            yield from sink.warnings
            written = 0

            def frames() -> Iterator[Frame]:
                if first is not None:
                    yield first
                yield from passing
                for number, frame in enumerate(make(first)):
                    yield frame.at(self.begins + number * self.step, self.step)

            for frame in stack.enter_context(prefetch(frames(), 4)):
                lasts = frame.duration if timing.rate is None else self.step
                sink.write(frame.at(frame.time - zero, lasts))
                written += 1
                if frame.time >= self.begins:
                    yield from measure()
                yield Progress("rendering", written, self.output_frames)
        yield from (*source.warnings, *sink.warnings)
        wall = time.monotonic() - began
        fields = self.outcome(written - self.new_frames, shown)
        return {
            **fields,
            **size_of(self.plan.output, fields["duration"]),
            "encoder": sink.encoder,
            "wall_seconds": wall,
            "frames_per_second": written / wall,
        }


def new_frame(rgb: Tensor, like: Frame) -> Frame:
    """Return a picture as a frame of the same pixel format as ``like``, at time 0.

    Opacity is taken from ``like``, because models and dreams make colours only.

    Args:
        rgb: (3, H, W), nominally in [0, 1].
        like: a frame of the same size.

    Raises:
        ModelError: the picture has values that are not finite.
    """
    form, space = description_of(like)
    colours = 3 if form.family != "gray" else 1
    made = [*from_rgb(rgb, form, space), rgb.sum()]
    *planes, total = download(made).planes()
    check_finite(total)
    return like.like([*planes, *like.planes()[colours:]], Fraction(0), Fraction(0))


@contextmanager
def enough_memory(device: torch.device, info: MediaInfo) -> Iterator[None]:
    """Use a device in this thread, and raise a helpful error if the device lacks memory.

    Raises:
        DeviceError: the device has too little memory; the message says what to do.
    """
    use_device(device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"frame-fills-memory: {device} ran out of memory on a {info.width}x{info.height} "
            "frame: close other programs, or use another "
            "--device or a smaller copy of the video."
        ) from error
