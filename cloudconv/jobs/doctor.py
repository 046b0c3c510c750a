"""Report the state of the installation and the choices of ``auto``, and test a device."""

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv import metrics, weights
from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import Finished, Job, Measured, watched
from cloudconv.host import processor_name, version_of
from cloudconv.jobs.interp import run as interp
from cloudconv.media.colour.color import rgb_of
from cloudconv.media.containers.containers import CONTAINERS
from cloudconv.media.containers.ffmpeg import has_filter, libraries
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.media.writing.encoders import present
from cloudconv.media.writing.encoding import encoder_state
from cloudconv.models import registry
from cloudconv.models.base import Interpolator
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.convolutions import PYTORCH, usual_engine
from cloudconv.models.engines import measured, set_engine
from cloudconv.render import device as devices
from cloudconv.render.memory import free_memory, plan_memory
from cloudconv.settings import DoctorSettings, InterpSettings
from cloudconv.settings.groups import DEFAULT_MODEL

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2160p": (3840, 2160)}
"""The frame sizes, (width, height), for which the diagnosis plans batch, tile and
memory."""

_PACKAGES = (
    *("torch", "av", "numpy", "opencv-python-headless", "safetensors"),
    *("typer", "rich", "Pillow", "ncnn"),
)
_ENCODERS = (
    *("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"),
    *("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "h264_vaapi"),
    *("h264_videotoolbox", "hevc_videotoolbox"),
)
_FILTERS = ("bwdif", "idet")
_EXTRAS = {"ray": "ray", "vmaf": "imageio_ffmpeg"}


@dataclass(frozen=True, slots=True)
class Check:
    """A test and its result; ``absent`` means that the test did not run."""

    name: str
    status: Literal["ok", "failed", "absent"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The state of the installation; the fields are the keys of the command's JSON.

    ``auto`` has the default choices: also the batch, the tile (None for complete frames)
    and the estimated bytes for each of :data:`SIZES`, if the default model can be loaded.
    ``engines`` has the layers that earlier runs have measured: the engine that is chosen,
    and the milliseconds of each. ``problems`` has one sentence for each problem.
    """

    cloudconv: str
    python: str
    system: str
    processor: str
    cores: int
    memory_free_bytes: int | None
    disk_free_bytes: int
    packages: dict[str, str]
    extras: dict[str, bool]
    ffmpeg: dict[str, str]
    encoders: dict[str, str]
    filters: dict[str, bool]
    devices: list[dict[str, Any]]
    weights: dict[str, int]
    auto: dict[str, Any]
    engines: dict[str, dict[str, Any]]
    problems: list[str]
    checks: list[Check] = field(default_factory=list)


def run(settings: DoctorSettings) -> Job:
    """Diagnose the installation, and with ``check`` or ``device`` test the device.

    Yields a measurement named ``check`` for each test, and at the end the
    :class:`Diagnosis`.
    """
    diagnosis = _diagnose()
    checks: list[Check] = []
    wanted = settings.check or settings.device is not None
    for check in check_device(settings.device or "auto") if wanted else ():
        checks.append(check)
        yield Measured("check", check)
    yield Finished(replace(diagnosis, checks=checks))


def _diagnose() -> Diagnosis:
    # A hardware encoder may be built in and still fail without its hardware.
    encoders = {name: encoder_state(name) for name in _ENCODERS}
    filters = {name: has_filter(name) for name in _FILTERS}
    shipped = (spec.weights for spec in registry.MODELS if spec.weights is not None)
    states: dict[str, str] = {name: weights.status(name) for name in shipped}
    problems = [
        f"The weights of {n} are {state}." for n, state in states.items() if state != "ok"
    ]
    if encoders["libx264"] != "works":
        problems.append("libx264, the default encoder, does not work here.")
    problems += [
        f"FFmpeg's filter {name} is missing." for name in filters if not filters[name]
    ]
    return Diagnosis(
        cloudconv=metadata.version("cloudconv"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        processor=processor_name(),
        cores=devices.cores(),
        memory_free_bytes=free_memory(torch.device("cpu")),
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        packages={name: version_of(name) for name in _PACKAGES},
        extras={name: find_spec(module) is not None for name, module in _EXTRAS.items()},
        ffmpeg=libraries(),
        encoders=dict(encoders),
        filters=filters,
        devices=_devices(),
        weights={
            state: list(states.values()).count(state)
            for state in ("ok", "missing", "damaged")
        },
        auto=_auto(problems),
        engines=measured(),
        problems=problems,
    )


def _devices() -> list[dict[str, Any]]:
    cpu = {"name": "cpu", "description": processor_name()}
    gpus = []
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_name(number)
        free = free_memory(torch.device("cuda", number))
        gpus.append({"name": f"cuda:{number}", "description": about, "free_bytes": free})
    apple = [
        {"name": "mps", "description": "Apple GPU"}
    ] * torch.backends.mps.is_available()
    fast = {
        "fast_bf16": devices.has_fast_bf16(),
        "float32": set_engine() or usual_engine(),
    }
    return [cpu | fast, *gpus, *apple]


def _auto(problems: list[str]) -> dict[str, Any]:
    spec = registry.spec(DEFAULT_MODEL)
    encoders = {
        suffix: present(container.encoders)[0]
        for suffix, container in CONTAINERS.items()
        if suffix == container.suffixes[0] and not container.has_one_encoder
    }
    chosen: dict[str, Any] = {
        "model": spec.name,
        "threads": torch.get_num_threads(),
        "encoders": encoders,
    }
    try:
        device = devices.choose_device()
        problems += [str(warned) for warned in devices.auto_warnings("auto")]
        dtype = devices.choose_precision("auto", device, spec)
        model = registry.load(spec.name, device, dtype)
        plans = {
            name: plan_memory(model, *size, device=device) for name, size in SIZES.items()
        }
    except CloudconvError as error:
        problems.append(str(error))
        return chosen
    sizes = {
        name: {"batch": p.sizes.batch, "tile": p.sizes.tile, "memory_bytes": p.memory_bytes}
        for name, p in plans.items()
    }
    return chosen | {
        "device": str(device),
        "precision": devices.precision_name(dtype),
        "convolutions": (
            set_engine() or usual_engine()
            if device.type == "cpu" and dtype == torch.float32
            else PYTORCH
        ),
        "sizes": sizes,
    }


SECONDS = 45  # the number of seconds after which no check starts

_LEAST_PSNR = 45.0  # dB
_SMALL, _SPEED = (128, 64), (640, 360)
_MOTION = 3  # pixels per frame


class _AbsentError(Exception):
    """The error of a check that cannot run here; the message is the reason."""


def check_device(device: str = "auto") -> Iterator[Check]:
    """Yield checks of a device: its frames, compared with the CPU's, and its speed."""
    began = time.monotonic()
    chosen = devices.choose_device(device)
    checks: dict[str, Callable[[], str]] = {
        "device": partial(_device, chosen, device),
        "speed": partial(_speed, chosen),
        "video": partial(_video, chosen),
    }
    for spec in registry.MODELS:
        expected = cache(partial(_quarters, spec.name, torch.device("cpu"), torch.float32))
        for precision in (
            devices.PRECISIONS if spec.task == "interpolate" and spec.weights else ()
        ):
            parity = partial(_parity, chosen, spec, precision, expected)
            checks[f"{spec.name} {precision}"] = parity
    for name, check in checks.items():
        if time.monotonic() - began > SECONDS:
            yield Check(name, "absent", "not tried: the time was used up")
        else:
            yield _tried(name, check)


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
        raise RuntimeError(warned)
    wrong = devices.fault_of(device, torch.float32)
    if wrong is not None:
        raise RuntimeError(wrong)
    if device.type == "cpu":
        return "cpu"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{device}: {name}, PyTorch {torch.__version__}"


def _parity(
    device: torch.device, spec: ModelSpec, precision: str, expected: Callable[[], Tensor]
) -> str:
    try:
        dtype = devices.choose_precision(precision, device, spec)
    except DeviceError as error:
        raise _AbsentError(f"this device does not compute in {precision}") from error
    result = _quarters(spec.name, device, dtype)
    if not result.isfinite().all():
        raise RuntimeError("its frames contain values that are not finite")
    if result.diff(dim=0).abs().amax(dim=(1, 2, 3)).min() < 1 / 255:
        raise RuntimeError("two new frames in a row are equal")
    return _near(float(metrics.psnr(result, expected()).min()))


def _quarters(
    name: str, device: torch.device, dtype: torch.dtype, size: tuple[int, int] = _SMALL
) -> Tensor:
    """Return new pictures at 1/4, 1/2 and 3/4 between two: (3, 3, H, W), not clamped."""
    x0, x1 = (picture.expand(3, -1, -1, -1).to(device) for picture in _pictures(2, *size))
    model: Interpolator = registry.load(name, device, dtype)
    with torch.inference_mode():
        return model.interpolate(x0, x1, torch.tensor([0.25, 0.5, 0.75])).cpu()


def _near(decibel: float) -> str:
    if not decibel >= _LEAST_PSNR:
        raise RuntimeError(
            f"{decibel:.1f} dB PSNR against the CPU; {_LEAST_PSNR:.0f} dB are needed"
        )
    return "equal" if decibel >= metrics.PERFECT else f"{decibel:.1f} dB"


def _speed(device: torch.device) -> str:
    both = dict.fromkeys([device, torch.device("cpu")])
    rates = [f"{size} {_rate(size):.1f}" for size in both]
    return f"{' and '.join(rates)} frames/s at {_SPEED[0]}x{_SPEED[1]} ({DEFAULT_MODEL})"


def _rate(device: torch.device) -> float:
    dtype = devices.choose_precision("auto", device, registry.spec(DEFAULT_MODEL))
    quarters = partial(_quarters, DEFAULT_MODEL, device, dtype, _SPEED)
    quarters()
    began = time.perf_counter()
    count = 0
    while count < 3 or (count < 200 and time.perf_counter() - began < 1):
        count += len(quarters())
    return count / (time.perf_counter() - began)


def _video(device: torch.device) -> str:
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
    options: dict[str, Any] = {"factor": Fraction(2), "encoder": "ffv1", **settings}
    watched(interp.run(InterpSettings(source, output, **options)))
    with Source(probe(output)) as interpolated:
        return torch.stack([rgb_of(frame) for frame in interpolated.frames()])


def _pictures(count: int, width: int, height: int) -> list[Tensor]:
    numbers = torch.Generator().manual_seed(1)
    sides = height // 8, (width + count * _MOTION) // 8 + 1
    coarse = torch.rand((1, 3, *sides), generator=numbers) * 0.8 + 0.1
    size = sides[0] * 8, sides[1] * 8
    ground = functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return [ground[..., :height, k * _MOTION :][..., :width] for k in range(count)]
