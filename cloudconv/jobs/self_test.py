"""Test whether a device makes the correct frames: ``cloudconv doctor --check``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv import metrics
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import watched
from cloudconv.jobs.interp import run as interp
from cloudconv.media.color import rgb_of
from cloudconv.media.probe import probe
from cloudconv.media.source import Source
from cloudconv.models import registry
from cloudconv.models.base import Interpolator
from cloudconv.render import device as devices
from cloudconv.settings import InterpSettings

SECONDS = 45
"""The number of seconds after which no check starts."""

_LEAST_PSNR = 45.0  # dB
_SMALL, _SPEED = (128, 64), (640, 360)
_MOTION = 3  # pixels per frame

Status = Literal["ok", "failed", "absent"]


@dataclass(frozen=True, slots=True)
class Check:
    """A test and its result.

    ``absent`` means that the test did not run, because the machine lacks the feature or because the
    time was used up. ``detail`` is a measurement, or the reason for another status than ``ok``.
    """

    name: str
    status: Status
    detail: str


class _FailedError(RuntimeError):
    """The error of a check that finds a fault; the message describes the fault."""


class _AbsentError(Exception):
    """The error of a check that cannot run here; the message is the reason."""


def check_device(device: str = "auto") -> Iterator[Check]:
    """Compare frames that a device makes with those of the CPU, and measure its speed.

    Yields:
        Each finished check.
    """
    began = time.monotonic()
    try:
        for name, check in _checks(devices.choose_device(device), device):
            if time.monotonic() - began > SECONDS:
                yield Check(name, "absent", "not tried: the time was used up")
            else:
                yield _tried(name, check)
    finally:
        _loaded.cache_clear()
        _expected.cache_clear()


def _checks(device: torch.device, device_name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "device", partial(_device, device, device_name)
    yield "speed", partial(_speed, device)
    yield "video", partial(_video, device)
    for spec in registry.specs():
        for precision in devices.PRECISIONS if spec.task == "interpolate" and spec.weights else ():
            yield f"{spec.name} {precision}", partial(_parity, device, spec.name, precision)


@lru_cache(maxsize=3)
def _loaded(name: str, device: torch.device, dtype: torch.dtype) -> Interpolator:
    return registry.load(name, device, dtype)


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except _AbsentError as error:
        return Check(name, "absent", str(error))
    except (CloudconvError, RuntimeError, ValueError, MemoryError, OSError) as error:
        lines = str(error).splitlines()
        return Check(name, "failed", lines[0] if lines else type(error).__name__)


def _device(device: torch.device, device_name: str) -> str:
    for warned in devices.auto_warnings(device_name):
        raise _FailedError(warned)
    wrong = devices.fault_of(device, torch.float32)
    if wrong is not None:
        raise _FailedError(wrong)
    if device.type == "cpu":
        return "cpu"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{device}: {name}, PyTorch {torch.__version__}"


def _parity(device: torch.device, name: str, precision: str) -> str:
    spec = registry.spec(name, "interpolate")
    try:
        dtype = devices.choose_precision(precision, device, spec)
    except DeviceError as error:
        raise _AbsentError(f"this device does not compute in {precision}") from error
    result = _quarters(name, device, dtype)
    if not result.isfinite().all():
        raise _FailedError("its frames contain values that are not finite")
    if result.diff(dim=0).abs().amax(dim=(1, 2, 3)).min() < 1 / 255:
        raise _FailedError("two new frames in a row are equal")
    return _near(float(metrics.psnr(result, _expected(name)).min()))


def _quarters(
    name: str, device: torch.device, dtype: torch.dtype, size: tuple[int, int] = _SMALL
) -> Tensor:
    """Return new pictures at 1/4, 1/2 and 3/4 between two: (3, 3, H, W), not clamped."""
    x0, x1 = (picture.expand(3, -1, -1, -1).to(device) for picture in _pictures(2, *size))
    model = _loaded(name, device, dtype)
    with torch.inference_mode():
        return model.interpolate(x0, x1, torch.tensor([0.25, 0.5, 0.75])).cpu()


@lru_cache(maxsize=1)
def _expected(name: str) -> Tensor:
    return _quarters(name, torch.device("cpu"), torch.float32)


def _near(decibel: float) -> str:
    if not decibel >= _LEAST_PSNR:
        raise _FailedError(
            f"{decibel:.1f} dB PSNR against the CPU; {_LEAST_PSNR:.0f} dB are needed"
        )
    return "equal" if decibel >= metrics.PERFECT else f"{decibel:.1f} dB"


def _speed(device: torch.device) -> str:
    devices = dict.fromkeys([device, torch.device("cpu")])
    size = "x".join(map(str, _SPEED))
    rates = [f"{each} {_rate(each):.1f}" for each in devices]
    return f"{' and '.join(rates)} frames/s at {size} ({registry.DEFAULT})"


def _rate(device: torch.device) -> float:
    dtype = devices.choose_precision("auto", device, registry.spec(registry.DEFAULT))
    made = partial(_quarters, registry.DEFAULT, device, dtype, _SPEED)
    made()
    began, count = time.perf_counter(), 0
    while count < 3 or (count < 200 and time.perf_counter() - began < 1):
        count += len(made())
    return count / (time.perf_counter() - began)


def _video(device: torch.device) -> str:
    """Interpolate pictures, and compare the video with that of the CPU in float32."""
    with tempfile.TemporaryDirectory(prefix="cloudconv-") as home:
        source = Path(home) / "pictures"
        source.mkdir()
        for number, picture in enumerate(_pictures(12, *_SMALL)):
            pixels = picture[0].mul(255).round().to(torch.uint8).permute(1, 2, 0)
            Image.fromarray(pixels.numpy()).save(source / f"{number:03}.png")
        here = _interp(source, Path(home, "here.mkv"), device=str(device))
        cpu = _interp(source, Path(home, "cpu.mkv"), device="cpu", precision="fp32")
    return f"{len(here)} frames, {_near(float(metrics.psnr(here, cpu).min()))}"


def _interp(source: Path, output: Path, **settings: Any) -> Tensor:
    given: dict[str, Any] = {"factor": Fraction(2), "encoder": "ffv1", **settings}
    watched(interp.run(InterpSettings(source, output, **given)))
    with Source(probe(output)) as made:
        return torch.stack([rgb_of(frame) for frame in made.frames()])


def _pictures(count: int, width: int, height: int) -> list[Tensor]:
    """Return pictures of a moving texture: (1, 3, H, W) each, in [0, 1]."""
    numbers = torch.Generator().manual_seed(1)
    sides = height // 8, (width + count * _MOTION) // 8 + 1
    coarse = torch.rand((1, 3, *sides), generator=numbers) * 0.8 + 0.1
    size = sides[0] * 8, sides[1] * 8
    ground = functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return [ground[..., :height, k * _MOTION :][..., :width] for k in range(count)]
