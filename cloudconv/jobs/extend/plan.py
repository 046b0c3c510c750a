"""Plan and write the output of extrapolate or dream: source frames, then new ones."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from cloudconv import interrupts
from cloudconv.dreaming.heard import Listener
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options, Origin
from cloudconv.dreaming.methods.modes import MethodSpec
from cloudconv.dreaming.rehearsal import Rehearsal, earlier_exit
from cloudconv.errors import DeviceError, InputError
from cloudconv.events import Event, Measured, Progress, Warned, Warnings
from cloudconv.images import LEAST_SIDE
from cloudconv.jobs import video
from cloudconv.media.carried.carry import Carry
from cloudconv.media.colour.color import description_of, from_rgb
from cloudconv.media.containers.containers import default_suffix
from cloudconv.media.frames.frame import Frame, MediaInfo
from cloudconv.media.reading.source import Source
from cloudconv.media.sound.edits import EditList
from cloudconv.media.writing.encoding import EncodingPlan, draft_encoding
from cloudconv.media.writing.sink import Sink
from cloudconv.models import registry
from cloudconv.models.base import check_finite
from cloudconv.models.catalogue import ModelSpec
from cloudconv.pipeline import prefetch
from cloudconv.render.device import (
    auto_warnings,
    choose_device,
    choose_precision,
    use_device,
)
from cloudconv.render.memory import is_out_of_memory
from cloudconv.settings.extend import MOST_HELD, DreamSettings, ExtendSettings
from cloudconv.settings.values import exact
from cloudconv.transfer import download

S = TypeVar("S", bound=ExtendSettings)


@dataclass(frozen=True, kw_only=True)
class ExtendResult(video.VideoResult):
    """The result of a run.

    ``source_frames`` counts the source's frames in the output. ``at`` is the start of the
    new frames, in seconds from the source's first frame. ``cadence`` describes regular
    repeats of the source's frames, or is None.
    """

    at: float
    cadence: str | None


class NewFrame(NamedTuple):
    """A new frame, whose time is ignored.

    ``origin``: of a frame of a dream, for its sound. ``event``: one that comes after it.
    """

    frame: Frame
    origin: Origin | None = None
    event: Measured | None = None


@dataclass(frozen=True)
class ExtendPlan(video.VideoPlan, Generic[S]):
    """Everything that extrapolate or dream decides before it writes.

    ``predictor`` is the model of extrapolate, and of the dream modes that take one.
    ``begins`` is the time of the first new frame on the source's clock, and ``step`` the
    duration of each new frame: both are approximate until :meth:`after`. ``own`` are the
    fields of the result that only this command has. ``ends`` is where the source's frames
    end, in seconds from the first one; None for the end of the source.
    """

    settings: S
    predictor: ModelSpec
    begins: Fraction
    step: Fraction
    warnings: tuple[Warned, ...]
    own: dict[str, Any]
    ends: Fraction | None

    def after(self, last: Frame, step: Fraction, own: dict[str, Any], *new: Warned) -> Self:
        """Return the plan that goes on after the frame ``last``, with new warnings."""
        begins = last.time + last.duration
        warnings = (*self.warnings, *new)
        return replace(self, begins=begins, step=step, warnings=warnings, own=own)

    @property
    def new_frames(self) -> int:
        """Return the number of new frames, by default the most that may hold."""
        settings = self.settings
        if settings.length is None:
            return settings.frames or MOST_HELD
        return ceil(settings.length / self.step)

    @property
    def output_frames(self) -> int:
        """Return the approximate number of frames of the output."""
        if self.settings.only_new:
            return self.new_frames
        timing = self.info.timing
        used = (self.begins - timing.start) / (timing.end - timing.start)
        return round(timing.frames * min(used, Fraction(1))) + self.new_frames

    @property
    def facts(self) -> dict[str, Any]:
        """Return the fields of the result that are decided.

        Numbers of frames are approximate.
        """
        source = 0 if self.settings.only_new else self.output_frames - self.new_frames
        start = self.begins if self.settings.only_new else self.info.timing.start
        fields = self.counted(source, start)
        if self.settings.frames is None and self.settings.length is None:
            for name in ("new_frames", "output_frames", "duration"):
                del fields[name]
        return fields

    def counted(self, source_frames: int, start: Fraction) -> dict[str, Any]:
        """Return the decided fields.

        ``start`` is the source's time at which the output begins.
        """
        common = self.common
        only_new = self.settings.only_new
        return {
            **common,
            **self.own,
            "at": float(self.begins - self.info.timing.start),
            # New frames alone are at even distances, even if those of the source are not.
            "output_fps": str(1 / self.step) if only_new else common["source_fps"],
            "source_frames": source_frames,
            "output_frames": source_frames + self.new_frames,
            "new_frames": self.new_frames,
            "duration": float(self.begins + self.new_frames * self.step - start),
        }

    @property
    def probable_start(self) -> Fraction:
        """Return the time of the output's first frame by the probe, in source time."""
        return self.begins if self.settings.only_new else self.info.timing.start

    @property
    def begins_with_frame(self) -> bool:
        """Return whether the output has no frame of the source."""
        return self.settings.only_new

    def encoding(self, first: Fraction) -> EncodingPlan:
        """Return the encoding for the time of the first frame on the source's clock.

        If the sound goes on, the edit list is empty.
        """
        info = self.info
        timing = self.info.timing
        settings = self.settings
        zero = self.zero(first)
        gap = 1 / (timing.gap_rate or Fraction(1))
        parts = timing.last_duration, gap, self.step, self.begins - timing.start
        # Audio ends with the source, or before at the new frames.
        audio_end = None if self.ends is None else self.begins
        edit_list = None
        if sound_goes_on(settings, info):
            edit_list = EditList(self.begins, self.begins, self.begins)
        carry = Carry(
            info,
            zero,
            zero if settings.only_new else None,
            audio_end,
            audio=not settings.only_new,
            copies_only=settings.sound == "copy",
            edit_list=edit_list,
            is_mute=settings.sound == "drop",
        )
        return self.draft.at((timing.time_base, *parts), first - zero, carry)

    def write(
        self,
        make: Callable[[Frame | None], Iterator[NewFrame]],
        began: float,
        warnings: Warnings,
        listener: Listener | None = None,
    ) -> Generator[Event, None, dict[str, Any]]:
        """Write the source's frames, then the new ones; return the fields of a result.

        The output appears only when it is complete. ``make`` yields the new frames in
        another thread. Its argument is the output's first frame if that is a source frame,
        otherwise None. ``began`` was ``time.monotonic()`` when the run started.
        The sound goes on by the edit list of ``listener``;
        without a listener the sound ends with the film.
        """
        info = self.info
        timing = self.info.timing
        settings = self.settings
        with ExitStack() as stack:
            source = stack.enter_context(
                Source(info, end=self.ends, threads=settings.threads, warnings=warnings)
            )
            passing = iter(()) if settings.only_new else source.frames()
            first = next(passing, None)
            begins = self.begins if first is None else first.time
            encoding = self.encoding(begins)
            if listener is not None and encoding.carry is not None:
                carry = replace(encoding.carry, edit_list=listener.edit_list)
                encoding = replace(encoding, carry=carry)
            zero = self.zero(begins)
            sink = stack.enter_context(
                Sink(encoding, overwrite=settings.overwrite, warnings=warnings)
            )
            written = 0

            def frames() -> Iterator[NewFrame]:
                begins = self.begins
                for frame in chain([] if first is None else [first], passing):
                    # A damaged file may show a later frame than its sought ending.
                    if frame.time >= begins:
                        begins = frame.time + frame.duration
                    yield NewFrame(frame)
                for number, new in enumerate(make(first)):
                    yield new._replace(
                        frame=new.frame.at(begins + number * self.step, self.step)
                    )

            for frame, origin, event in stack.enter_context(prefetch(frames(), 4, "dream")):
                lasts = frame.duration if timing.rate is None else self.step
                sink.write(frame.at(frame.time - zero, lasts))
                written += 1
                if listener is not None and origin is not None:
                    listener.push(origin)
                if event is not None:
                    yield event
                yield Progress("rendering", written, self.output_frames)
                interrupts.check()
        wall = time.monotonic() - began
        fields = self.counted(written - self.new_frames, begins)
        return {
            **fields,
            "wall_seconds": wall,
            "frames_per_second": written / wall,
            **video.size_of(self.output, fields["duration"]),
        }


def decide(
    settings: S,
    model: str,
    tag: str,
    own: dict[str, Any],
    network: ModelSpec | None,
) -> ExtendPlan[S]:
    """Probe the input, and decide everything that does not need its frames.

    ``model`` is the name or file of the predictor, and ``tag`` a word for the default name
    of the output. ``own`` are decided fields of the result. ``network`` is computed in the
    precision of the settings; without one the precision is float32.
    """
    spec = registry.spec(model, "predict")
    device = choose_device(settings.device)
    dtype = choose_precision(settings.precision, device, network)
    at = exact(settings.at)
    info = video.probed(settings)
    timing = info.timing
    tag += "" if settings.at is None else f"_at{float(settings.at):g}"
    tag += "_new" if settings.only_new else ""
    suffix = default_suffix(info, timing.gap_rate, timing.fastest_rate)
    output = video.output_path(settings.output, info.path, tag, suffix)
    draft = draft_encoding(output, info, rate=timing.rate, settings=settings, carries=True)
    video.check_target(settings, output, timing.rate, None, [info.path])
    video.check_begin(info, at)
    _, begins = timing.span(end=at)
    return ExtendPlan(
        settings=settings,
        info=info,
        output=output,
        device=device,
        dtype=dtype,
        draft=draft,
        predictor=spec,
        begins=begins,
        step=1 / timing.usual_rate,
        warnings=(*info.warnings, *auto_warnings(settings.device), *draft.warnings),
        own=own,
        ends=at,
    )


def network_of(spec: MethodSpec, settings: DreamSettings) -> ModelSpec | None:
    """Return the network that makes pictures in a mode, or None."""
    if "model" in spec.options:
        return registry.spec(settings.predictor, "predict")
    return registry.spec(spec.network, "interpolate") if spec.network else None


def rehearsal_of(
    settings: DreamSettings,
    spec: MethodSpec,
    device: torch.device,
    material: Material,
    options: Options,
) -> Rehearsal:
    """Return the rehearsal of a dream in a mode, which leaves its film as settings say.

    ``options``: the length, and where a loop leads.
    """
    options = replace(
        options,
        seed=settings.seed,
        wind=settings.direction,
        model=settings.predictor,
        device=device,
        dtype=choose_precision(settings.precision, device, network_of(spec, settings)),
    )
    if settings.leaves_early:
        options = earlier_exit(spec, material, options) or options
    return Rehearsal(spec, material, options)


def sound_goes_on(settings: ExtendSettings, info: MediaInfo) -> bool:
    """Return whether the film has sound, which goes on with the new frames."""
    return settings.sound == "continue" and any(kind == "audio" for kind, _ in info.streams)


def check_sides(info: MediaInfo) -> None:
    """Raise InputError if pictures are too small for a dream."""
    if min(info.width, info.height) < LEAST_SIDE:
        raise InputError(
            f"too-small-to-dream: {info.path} has {info.width}x{info.height} pixels, and a "
            f"dream needs at least {LEAST_SIDE} on each side: enlarge the clip "
            "first."
        )


def new_frame(rgb: Tensor, like: Frame) -> Frame:
    """Return a picture, (3, H, W) in [0, 1], as a frame at time 0 in that format.

    Opacity is taken from ``like``, because models and dreams make colours only. Raises
    ModelError if the picture has values that are not finite.
    """
    form, space = description_of(like)
    colours = 3 if form.family != "gray" else 1
    samples = [*from_rgb(rgb, form, space), rgb.sum()]
    *planes, total = download(samples).planes()
    check_finite(total)
    return like.like([*planes, *like.planes()[colours:]], Fraction(0), Fraction(0))


@contextmanager
def enough_memory(device: torch.device, info: MediaInfo) -> Iterator[None]:
    """Use a device in this thread; raise DeviceError if it lacks memory for a frame."""
    use_device(device)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"frame-fills-memory: {device} ran out of memory on a "
            f"{info.width}x{info.height} frame: close other programs, or use another "
            "--device or a smaller copy of the video."
        ) from error
