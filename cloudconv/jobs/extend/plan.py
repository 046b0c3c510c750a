"""What the jobs that go on where a video ends share: how long, from where, and onto which file.

The source's frames pass through untouched, and what is made follows them, at the same rate.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudconv.errors import DeviceError, InputError, OutputError
from cloudconv.events import Event, Progress, Warnings
from cloudconv.jobs.outcome import Outcome
from cloudconv.jobs.output import origin, output_path, time_base
from cloudconv.media.carry.carry import Carry
from cloudconv.media.color import color_space, from_rgb
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.input.info import MediaInfo
from cloudconv.media.read.probe import probe
from cloudconv.media.read.source import Source
from cloudconv.media.write.sink import Sink
from cloudconv.media.write.target import check_output, check_rate, noted, written_by
from cloudconv.models.base import check_finite
from cloudconv.models.reads import check_outputs
from cloudconv.render.device import use_device
from cloudconv.render.memory import is_out_of_memory
from cloudconv.render.pipeline import prefetch
from cloudconv.settings.extend import ExtendSettings
from cloudconv.settings.values import exact
from cloudconv.timeline import format_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueOutcome(Outcome):
    """What a plan and a result both say; ``source_frames`` are those in the output.

    ``at``: where the new frames begin, in seconds from the source's first frame. ``cadence``: how
    the source's frames repeat, if they do so regularly.
    """

    at: float
    cadence: str | None


@dataclass(frozen=True, slots=True)
class ExtendPlan:
    """Where new frames follow a source's, and where all of them go.

    ``begins`` is the new frames' first time on the source's clock, ``step`` their distance.
    ``sound_goes_on``: the sound begins again where the source ends.
    """

    settings: ExtendSettings
    info: MediaInfo
    output: Path
    begins: Fraction
    step: Fraction
    sound_goes_on: bool = False

    @property
    def new_frames(self) -> int:
        s = self.settings
        return s.frames if s.frames is not None else ceil((exact(s.seconds) or 0) / self.step)

    @property
    def output_frames(self) -> int:
        """About how many frames the output will have."""
        if self.settings.only_new:
            return self.new_frames
        timing = self.info.timing
        share = (self.begins - timing.start) / (timing.end - timing.start)
        return round(timing.frames * min(share, Fraction(1))) + self.new_frames

    def source(self) -> Source:
        """The source's frames up to where the new ones begin."""
        return Source(self.info, end=exact(self.settings.at), threads=self.settings.threads)

    def sink(self, zero: Fraction, first: Frame | None) -> Sink:
        """Where all goes; ``zero`` is the source's time that becomes the output's 0."""
        settings, timing = self.settings, self.info.timing
        # Sound ends where the source does; with at, where the part of it that is used does.
        end = None if settings.at is None else self.begins
        until = self.begins + self.new_frames * self.step if self.sound_goes_on else None
        audio = self.sound_goes_on or not settings.only_new
        carry = Carry(self.info, zero, None, end, audio=audio, loop_until=until)
        offset = Fraction(0) if first is None else first.time - zero
        spans = (
            timing.time_base,
            timing.last_duration,
            1 / (timing.pace or Fraction(1)),
            self.step,
        )
        return Sink(
            self.output,
            self.info,
            rate=timing.rate,
            time_base=time_base(timing.rate, spans, offset),
            settings=settings.encode,
            carry=carry,
            overwrite=settings.overwrite,
        )

    def planned(self) -> dict[str, Any]:
        """The fields of an outcome that a plan can tell; ``duration`` and the counts expected."""
        start = self.begins if self.settings.only_new else self.info.timing.start
        return {
            **self._known(),
            "source_frames": self.output_frames - self.new_frames,
            "output_frames": self.output_frames,
            "new_frames": self.new_frames,
            "duration": float(self.begins + self.new_frames * self.step - start),
        }

    def _known(self) -> dict[str, Any]:
        rate = self.info.timing.rate
        named = None if rate is None else format_rate(rate)
        return {
            "input": str(self.settings.input),
            "output": str(self.output),
            "at": float(self.begins - self.info.timing.start),
            "source_fps": named,
            "output_fps": named,
        }

    def told(self, done: Written) -> dict[str, Any]:
        """The fields of an outcome after a run."""
        end = self.begins + done.new_frames * self.step
        return {
            **self._known(),
            "source_frames": done.source_frames,
            "output_frames": done.source_frames + done.new_frames,
            "new_frames": done.new_frames,
            "duration": float(end - done.start),
            "encoder": done.encoder,
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; ``start`` is the first frame's time on the source's clock."""

    source_frames: int
    new_frames: int
    start: Fraction
    encoder: str


def begun(
    settings: ExtendSettings,
    tag: str,
    refusals: list[OutputError] | None = None,
    also: Sequence[Path] = (),
) -> tuple[MediaInfo, Path]:
    """The source and the output's path, both checked before any work.

    ``refusals``: where to note why the output could not be written, instead of raising it.
    ``also``: what else is written.
    """
    info = probe(settings.input, exact(settings.input_fps))
    tag += "" if settings.at is None else f"_at{float(settings.at):g}"
    tag += "_new" if settings.only_new else ""
    output = output_path(settings.output, settings.input, info, tag, info.timing.pace)
    with noted(refusals):
        check_output(output, overwrite=settings.overwrite, inputs=[info.path])
    with noted(refusals):
        check_outputs(settings, [*written_by(output), *also], [info.path])
    with noted(refusals):
        check_rate(output, info.timing.rate)
    length = info.timing.end - info.timing.start
    at = exact(settings.at)
    if at is not None and at > length:
        raise InputError(
            f"{info.path} lasts {float(length):g} s, so nothing is known at "
            f"{float(at):g} s: choose an earlier time."
        )
    return info, output


def write(
    job: ExtendPlan, make: Callable[[Frame | None], Iterator[Frame]], warnings: Warnings
) -> Generator[Event, None, Written]:
    """Write the source's frames, then those that ``make`` yields, into the output.

    The target appears only when it is whole.

    Args:
        job: where all goes.
        make: gets the output's first frame if that is the source's; its frames are on the
            source's clock. It runs in a thread of its own.
        warnings: of the job.
    """
    with ExitStack() as stack:
        source = stack.enter_context(job.source())
        passing = iter(()) if job.settings.only_new else source.frames()
        first = next(passing, None)
        zero = job.begins if first is None else origin(job.info, first.time)
        sink = stack.enter_context(job.sink(zero, first))
        yield from warnings.new(sink.warnings)
        before = () if first is None else (first,)
        pictures = stack.enter_context(prefetch(_joined(before, passing, make(first)), 4))
        written = new = 0
        for frame in pictures:
            lasts = frame.duration if job.info.timing.rate is None else job.step
            sink.write(frame.at(frame.time - zero, lasts))
            written += 1
            new += frame.time >= job.begins
            yield Progress("rendering", written, job.output_frames)
    yield from warnings.new([*source.warnings, *sink.warnings])
    start = job.begins if first is None else first.time
    return Written(written - new, new, start, sink.encoder)


def _joined(*parts: Iterable[Frame]) -> Iterator[Frame]:
    for part in parts:
        yield from part


def new_frame(rgb: Tensor, like: Frame) -> Frame:
    """A picture (3, H, W), nominally in [0, 1], as a frame of the same kind as another.

    Opacity is the other's: what makes pictures knows nothing of it. The time is yet to be set.
    """
    check_finite(rgb.sum())
    form = layout(like.pix_fmt)
    colours = 3 if form.family != "gray" else 1
    space = color_space(like.tags, form, like.width, like.height)
    planes = [plane.cpu() for plane in from_rgb(rgb, form, space)]
    planes += [plane.clone() for plane in like.planes()[colours:]]
    return like.like(planes, Fraction(0), Fraction(0))


@contextmanager
def enough_memory(device: torch.device, info: MediaInfo) -> Iterator[None]:
    """Work on a device in this thread; a lack of memory is a DeviceError that says what to do."""
    use_device(device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"{device} ran out of memory on a {info.width}x{info.height} frame: close other "
            "programs, use another device, or a smaller copy of the video."
        ) from error
