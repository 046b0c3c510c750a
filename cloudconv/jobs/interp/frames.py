"""Interpolation of pictures in memory: any iterable in, an iterator out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cloudconv.media.color import make_picture
from cloudconv.media.frame import ColorTags, Frame
from cloudconv.media.pictures import Pictures
from cloudconv.models import registry
from cloudconv.models.pictures import PictureKind, each_of
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import choose_device, choose_precision, set_threads
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Request, schedule
from cloudconv.settings import FramesSettings, exact
from cloudconv.timeline import Resample

_NAME = "The sequence of pictures"
_FORMS = {1: ("gray", (0,)), 3: ("gbrp", (1, 2, 0)), 4: ("gbrap", (1, 2, 0, 3))}
"""The pixel format of so many channels, and the channel that each of its planes holds."""
_FULL = ColorTags(range=2)  # gray in full range; RGB is so anyway


@dataclass(frozen=True, slots=True)
class _Given(Frame):
    """A frame that knows the picture that it was made from."""

    original: Any = None


def run(pictures: Any, settings: FramesSettings) -> Iterator[Any]:
    """The given pictures and the new ones between them; see ``cloudconv.interpolate_frames``.

    Everything that can be refused before the first picture is refused at once.
    """
    pictures = each_of(pictures)
    on_gpu = isinstance(pictures, Tensor) and pictures.is_cuda and settings.device == "auto"
    device = choose_device(str(pictures.device) if on_gpu else settings.device)
    spec = registry.spec(settings.chosen_model, "interpolate")
    dtype = choose_precision(settings.precision, device, spec)
    threads = set_threads(settings.threads)
    renderer = Renderer(
        registry.load(settings.chosen_model, device, dtype),
        device=device,
        dtype=dtype,
        batch=settings.batch,
        tile=settings.tile,
        scale=settings.scale or 1.0,
        cpu_streams=useful_cpu_streams(device, threads),
        fallback=settings.fallback == "blend",
        exact=partial(registry.load, settings.chosen_model, device)
        if settings.precision == "auto"
        else None,
    )
    request = Request(
        name=_NAME,
        rate=Resample(exact(settings.factor)),
        stretch=Fraction(1),
        scene_cut=settings.scene_cut,
        duplicates=settings.duplicates,
        loop=settings.loop,
        context=spec.frames(fallback=settings.fallback == "blend"),
    )
    return _made(pictures, renderer, request)


def _made(pictures: Iterable[Any], renderer: Renderer, request: Request) -> Iterator[Any]:
    kind: PictureKind | None = None

    def frames() -> Iterator[Frame]:
        nonlocal kind
        for number, picture in enumerate(pictures):
            kind = kind or PictureKind.of(picture)
            kind.check(picture, number)
            yield _frame(kind, picture, number)

    sources = Pictures()
    for frame in renderer.render(schedule(frames(), request, sources), sources):
        assert kind is not None
        for warned in renderer.warnings():
            warnings.warn(str(warned), stacklevel=3)
        yield frame.original if isinstance(frame, _Given) else _picture(kind, frame)


def _frame(kind: PictureKind, picture: Any, number: int) -> Frame:
    codes = kind.codes(picture)
    height, width, channels = codes.shape
    form, order = _FORMS[channels]
    deep = "16le" if codes.dtype == torch.uint16 else ""
    planes = [codes[..., channel].contiguous() for channel in order]
    made = make_picture(planes, form + deep, width, height)
    return _Given(made, Fraction(number), Fraction(1), _FULL, original=picture)


def _picture(kind: PictureKind, frame: Frame) -> Any:
    planes = frame.planes()
    _, order = _FORMS[len(planes)]
    channels = [planes[order.index(channel)] for channel in range(len(planes))]
    return kind.from_codes(torch.stack(channels, -1))
