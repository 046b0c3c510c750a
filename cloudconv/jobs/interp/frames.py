"""Interpolate a sequence of pictures in memory, without a file."""

import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from cloudconv.errors import PictureError
from cloudconv.events import Warned
from cloudconv.media.frames.frame import ColorTags, Frame
from cloudconv.models import registry
from cloudconv.models.arrays import (
    CHANNELS,
    PictureKind,
    SampleCheck,
    each_of,
    opened,
    place_of,
)
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import choose_device, choose_precision, restored, set_threads
from cloudconv.render.memory import WantedSizes
from cloudconv.render.renderer import Renderer, renderer_for
from cloudconv.schedule.tasks import Request, schedule
from cloudconv.settings import FramesSettings, exact
from cloudconv.timeline import Resample

_FORMS = dict(zip(CHANNELS, ("gray", "gbrp", "gbrap"), strict=True))
"""The pixel format for each number of channels."""
_DEPTHS = {torch.uint8: "", torch.int32: "16le", torch.float32: "f32le"}
"""The end of the pixel format's name for each data type of the planes."""
_FULL = ColorTags(range=2)  # only gray needs the tag: untagged RGB counts as full range
_OVERSHOOT = 0.25
"""The most by which floating point may exceed 0 to 1, as after a resize with ringing."""


@dataclass(frozen=True, slots=True)
class _MemoryFrame(Frame):
    """A frame whose planes are a tensor, (C, H, W) on any device.

    ``original`` is the caller's picture, None for a new one.
    """

    picture: Any  # Tensor
    kind: Any = None  # PictureKind
    original: Any = None

    @property
    def width(self) -> int:
        return int(self.picture.shape[2])

    @property
    def height(self) -> int:
        return int(self.picture.shape[1])

    @property
    def pix_fmt(self) -> str:
        return _FORMS[len(self.picture)] + _DEPTHS[self.picture.dtype]

    def planes(self) -> tuple[Tensor, ...]:
        return tuple(self.picture)

    def like(self, planes: Sequence[Tensor], time: Fraction, duration: Fraction) -> Frame:
        picture = torch.stack([*planes])
        return replace(self, picture=picture, original=None, time=time, duration=duration)


def interpolated(pictures: Any, settings: FramesSettings) -> Iterator[Any]:
    """Yield the given pictures and new ones between them.

    See ``cloudconv.interpolate_frames``.
    """
    with restored():
        frames = _interpolated(each_of(pictures), settings)
    return _steps(frames, settings.threads)


def _steps(frames: Generator[Any, None, None], threads: int | None) -> Iterator[Any]:
    """Yield the frames; between two of them the process is as the caller left it."""

    @restored()
    def step() -> list[Any]:
        set_threads(threads)
        return [*islice(frames, 1)]

    with closing(frames):
        for following in iter(step, []):
            yield following.pop()  # keeps no picture that the caller has


def _interpolated(pictures: Any, settings: FramesSettings) -> Generator[Any, None, None]:
    on_gpu = isinstance(pictures, Tensor) and pictures.is_cuda and settings.device == "auto"
    device = choose_device(str(pictures.device) if on_gpu else settings.device)
    spec = registry.spec(settings.chosen_model, "interpolate", settings.timesteps)
    registry.check_timesteps(settings.timesteps, [spec])
    registry.check_times(spec, exact(settings.factor))
    dtype = choose_precision(settings.precision, device, spec)
    streams = useful_cpu_streams(device, torch.get_num_threads())
    wanted = WantedSizes(settings.batch, settings.tile, streams)
    renderer = renderer_for(settings.chosen_model, settings, device, dtype, wanted)
    request = Request(
        name="The sequence of pictures",
        rate=Resample(exact(settings.factor)),
        scene_cut=settings.scene_cut,
        duplicates="refill" if settings.refill else "keep",
        loop=settings.loop,
        context=spec.frames,
        tracks=spec.cls.follows_motion,
        device=device,
    )
    return _made(pictures, renderer, request, device)


def _made(
    pictures: Iterable[Any], renderer: Renderer, request: Request, device: torch.device
) -> Generator[Any, None, None]:
    # The planes of the caller's pictures by their place in memory.
    waiting: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
    checks: list[SampleCheck] = []
    given = _given(pictures, device, waiting, checks)
    for frame in renderer.warnings.amid(renderer.frames(schedule(given, request))):
        if isinstance(frame, Warned):
            warnings.warn(str(frame), stacklevel=3)
            continue
        _finish(checks)
        assert isinstance(frame, _MemoryFrame)
        if frame.original is None:
            gbr = frame.picture
            yield frame.kind.stored(torch.cat((gbr[2:3], gbr[:2], gbr[3:])))
        else:
            waiting.pop(place_of(frame.original), None)
            yield frame.original


def _given(
    pictures: Iterable[Any],
    device: torch.device,
    waiting: WeakValueDictionary[int, Tensor],
    checks: list[SampleCheck],
) -> Iterator[Frame]:
    """Yield the caller's pictures as frames; start the checks of their samples."""
    first: PictureKind | None = None
    for number, picture in enumerate(pictures):
        # A GPU has checked the picture before while the CPU used the picture.
        _finish(checks)
        kind, samples = opened(picture)
        first = first or kind
        first.check(kind, number)
        if samples.is_floating_point():
            checks.append(SampleCheck(samples, _OVERSHOOT))
            samples = samples.clamp(0, 1)
        # A copy, in the order of gbrp; gray has the first channel only.
        planes = torch.cat((samples[1:3], samples[:1], samples[3:]))
        if planes.device.type != "cpu":
            planes = planes.to(device)
        earlier = waiting.get(place_of(picture))
        if earlier is not None and not torch.equal(earlier, planes):
            raise PictureError(
                f"picture-reused: Picture {number} is in the memory of an earlier "
                "picture, which has not been returned yet: give a copy of each picture."
            )
        waiting[place_of(picture)] = planes
        yield _MemoryFrame(
            planes, Fraction(number), Fraction(1), _FULL, kind=kind, original=picture
        )
    _finish(checks)


def _finish(checks: list[SampleCheck]) -> None:
    while checks:
        checks.pop(0).finish()
