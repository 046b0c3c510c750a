"""Interpolation of pictures in memory: any iterable in, an iterator out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloudconv.errors import InputError
from cloudconv.media.color import make_picture
from cloudconv.media.frame import Frame
from cloudconv.media.pictures import Pictures
from cloudconv.models import registry
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import choose_device, choose_precision, set_threads
from cloudconv.render.renderer import Renderer
from cloudconv.schedule.frames import Request, schedule
from cloudconv.settings import FramesSettings, exact
from cloudconv.timeline import Resample

_NAME = "The sequence of pictures"
_DEEP = 65535


@dataclass(frozen=True, slots=True)
class _Given(Frame):
    """A frame that knows the picture that it was made from."""

    original: Any = None


def run(pictures: Iterable[Any], settings: FramesSettings) -> Iterator[Any]:
    """The given pictures and the new ones between them; see ``cloudconv.interpolate_frames``.

    Everything that can be refused before the first picture is refused at once.
    """
    device = choose_device(settings.device)
    spec = registry.spec(settings.chosen_model, "interpolate")
    dtype = choose_precision(settings.precision, device, spec)
    threads = set_threads(settings.threads)
    renderer = Renderer(
        registry.load(settings.chosen_model, device, dtype),
        device=device,
        dtype=dtype,
        batch=settings.batch,
        tile=settings.tile,
        scale=settings.scale,
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
    kind: _Kind | None = None

    def frames() -> Iterator[Frame]:
        nonlocal kind
        for number, picture in enumerate(pictures):
            kind = kind or _Kind.of(picture)
            yield kind.frame(picture, number)

    sources = Pictures()
    for frame in renderer.render(schedule(frames(), request, sources), sources):
        assert kind is not None
        for warned in renderer.warnings():
            warnings.warn(str(warned), stacklevel=3)
        yield frame.original if isinstance(frame, _Given) else kind.picture(frame)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the pictures are stored, and how they become frames and frames become pictures."""

    shape: tuple[int, ...]
    dtype: Any
    device: torch.device | None
    """None for NumPy arrays."""

    @classmethod
    def of(cls, picture: Any) -> _Kind:
        if not isinstance(picture, np.ndarray | Tensor):
            raise InputError(
                f"Pictures are NumPy arrays or PyTorch tensors, got {type(picture).__name__}."
            )
        kind = cls(tuple(picture.shape), picture.dtype, getattr(picture, "device", None))
        if isinstance(picture, np.ndarray):
            kind = cls(kind.shape, kind.dtype, None)
        channels = picture.shape[0 if kind.floating else -1] if picture.ndim == 3 else 0
        if channels != 3 or not (kind.floating or kind.most):
            raise InputError(
                "Pictures are (H, W, 3) uint8 or uint16, or (3, H, W) floating point, got "
                f"{kind.shape} {kind.dtype}."
            )
        return kind

    @property
    def floating(self) -> bool:
        if self.device is None:
            return bool(np.issubdtype(self.dtype, np.floating))
        return bool(self.dtype.is_floating_point)

    @property
    def most(self) -> int:
        """The code of white; 0 for a type that is not taken."""
        return {"uint8": 255, "uint16": _DEEP}.get(str(self.dtype).removeprefix("torch."), 0)

    def frame(self, picture: Any, number: int) -> Frame:
        same = isinstance(picture, np.ndarray | Tensor) and (
            tuple(picture.shape), picture.dtype
        ) == (self.shape, self.dtype)  # fmt: skip
        if not same:
            raise InputError(
                f"Picture {number} is not like the first: {self.shape} {self.dtype} is needed, got "
                f"{getattr(picture, 'shape', type(picture).__name__)} "
                f"{getattr(picture, 'dtype', '')}."
            )
        data: Tensor = torch.from_numpy(picture) if self.device is None else picture
        if self.floating:
            data = data.detach().to(torch.float64).clamp(0, 1).mul(_DEEP).round()
            data = data.to(torch.int32).to(torch.uint16).movedim(0, -1)
        deep = data.dtype == torch.uint16
        planes = [data[..., channel].contiguous() for channel in (1, 2, 0)]
        height, width = data.shape[:2]
        made = make_picture(planes, "gbrp16le" if deep else "gbrp", width, height)
        return _Given(made, Fraction(number), Fraction(1), original=picture)

    def picture(self, frame: Frame) -> Any:
        green, blue, red = frame.planes()
        data = torch.stack((red, green, blue), 0 if self.floating else -1)
        if self.device is None:
            made = data.numpy()
            return (made / _DEEP).astype(self.dtype) if self.floating else made
        if self.floating:
            data = data.to(torch.float64).div_(_DEEP).to(self.dtype)
        return data.to(self.device)
