"""Test whether a device makes the correct frames: ``cloudconv doctor --check``."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cloudconv.errors import CloudconvError, DeviceError
from cloudconv.events import watched
from cloudconv.jobs.interp import run as interp
from cloudconv.jobs.interp.results import InterpResult
from cloudconv.media.color import alpha_from_float, color_space, from_rgb
from cloudconv.media.formats import layout
from cloudconv.media.frame import ColorTags, Frame, make_picture
from cloudconv.media.read.source import Source
from cloudconv.media.task import FrameTask, task_of
from cloudconv.models import registry
from cloudconv.models.base import FOUR, Interpolator
from cloudconv.render.cpu_streams import useful_cpu_streams
from cloudconv.render.device import (
    PRECISIONS,
    auto_warnings,
    choose_device,
    choose_precision,
    fault_of,
)
from cloudconv.render.memory import WantedSizes, grid, process_memory
from cloudconv.render.renderer import Renderer
from cloudconv.render.tiling import smallest_tile
from cloudconv.schedule.frames import Request, schedule
from cloudconv.settings import InterpSettings
from cloudconv.settings.extend import DEFAULT_PREDICTOR
from cloudconv.timeline import Multiply

SECONDS = 45
"""The number of seconds after which no check starts."""

_LEAST_PSNR = 45.0  # dB
_LOSS_TOLERANCE = 0.05  # largest relative difference of the losses on two devices
_SMALL, _WIDE, _TINY = (128, 64), (320, 64), (64, 64)
_SPEED = (640, 360)
_FORMATS = {"8 bit": "yuv420p", "10 bit": "yuv420p10le", "opacity": "yuva420p"}
_FAST = "cloud-turbo"
_FACTOR = 4
_MEMORY_FRAMES = 200
_GROWTH = 48 * 2**20
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
    """Test everything that cloudconv needs of a device, on a synthetic clip, in about a minute.

    Args:
        device: the name of a device; see :func:`~cloudconv.render.device.choose_device`.

    Yields:
        Each finished check.

    Raises:
        SettingsError: there is no device of that name.
        DeviceError: the device is not in this machine, or does not work with this PyTorch.
    """
    began = time.monotonic()
    try:
        for name, check in _checks(choose_device(device), device):
            if time.monotonic() - began > SECONDS:
                yield Check(name, "absent", "not tried: the time was used up")
            else:
                yield _tried(name, check)
    finally:
        _loaded.cache_clear()
        _expected.cache_clear()


def _checks(device: torch.device, device_name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "device", partial(_device, device, device_name)
    yield "lack of memory", partial(_step_back, device)
    yield "batches", partial(_like_cpu, device, _clip(4, *_SMALL), "fp32", batch=5)
    yield "tiles", partial(_tiles, device)
    for name, pix_fmt in _FORMATS.items():
        yield name, partial(_like_cpu, device, _clip(3, *_SMALL, pix_fmt))
    yield "outer frames", partial(_like_cpu, device, _clip(4, *_SMALL), batch=2)
    yield "trials and blends", partial(_blends, device)
    yield "forecast", partial(_forecast, device)
    yield "training step", partial(_training, device)
    yield from _parities(device, registry.DEFAULT)
    yield "memory", partial(_memory, device)
    yield "speed", partial(_speed, device)
    with tempfile.TemporaryDirectory(prefix="cloudconv-") as home:
        video = Path(home) / "video.mp4"
        yield "video", partial(_video, device, video)
        yield "nvdec", partial(_nvdec, device, video)
        yield "workers together", partial(_together, device, video)
    for spec in registry.specs():
        if spec.task == "interpolate" and spec.weights and spec.name != registry.DEFAULT:
            yield from _parities(device, spec.name)


def _parities(device: torch.device, name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    for precision in PRECISIONS:
        yield f"{name} {precision}", partial(_parity, device, name, precision)


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
    for warned in auto_warnings(device_name):
        raise _FailedError(warned)
    wrong = fault_of(device, torch.float32)
    if wrong is not None:
        raise _FailedError(wrong)
    if device.type == "cpu":
        return "cpu"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{device}: {name}, PyTorch {torch.__version__}"


def _parity(device: torch.device, name: str, precision: str) -> str:
    spec = registry.spec(name, "interpolate")
    try:
        dtype = choose_precision(precision, device, spec)
    except DeviceError as error:
        raise _AbsentError(str(f"this device does not compute in {precision}")) from error
    result = _quarters(name, device, dtype)
    if not result.isfinite().all():
        raise _FailedError("its frames contain values that are not finite")
    if result.diff(dim=0).abs().amax(dim=(1, 2, 3)).min() < 1 / 255:
        raise _FailedError("two new frames in a row are equal")
    return _near(_decibel(result, _expected(name)))


def _quarters(name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return new pictures at 1/4, 1/2 and 3/4 between two: (3, 3, H, W), not clamped."""
    x0, x1 = (picture.expand(3, -1, -1, -1).to(device) for picture in _pictures(2, *_SMALL))
    model = _loaded(name, device, dtype)
    with torch.inference_mode():
        return model.interpolate(x0, x1, torch.tensor([0.25, 0.5, 0.75])).cpu()


@lru_cache(maxsize=1)
def _expected(name: str) -> Tensor:
    return _quarters(name, torch.device("cpu"), torch.float32)


def _like_cpu(
    device: torch.device, frames: Sequence[Frame], precision: str = "auto", **options: Any
) -> str:
    """Compare new frames with those that the CPU makes one by one in float32."""
    here = _rendered(_renderer(device, precision, **options), frames)
    plain = {"batch": 1, "tile": "off", "fallback": options.get("fallback", False)}
    return _near(_apart(here, _rendered(_renderer(torch.device("cpu"), "fp32", **plain), frames)))


def _tiles(device: torch.device) -> str:
    multiple, overlap = grid(_loaded(registry.DEFAULT, device, torch.float32))
    return _like_cpu(device, _clip(3, *_WIDE), "fp32", tile=smallest_tile(overlap, multiple))


def _blends(device: torch.device) -> str:
    """Check that noise over a still picture, where motion estimation fails, gives blends."""
    numbers = torch.Generator().manual_seed(1)
    still = _pictures(1, *_SMALL)[0]
    noisy = [still + 0.03 * torch.randn(still.shape, generator=numbers) for _ in range(4)]
    frames = _framed(noisy, "yuv420p")
    here, plain = (
        _rendered(_renderer(device, batch=2, fallback=blends), frames) for blends in (True, False)
    )
    if _apart(here, plain) >= 60:
        raise _FailedError("the new frames are not blends where motion estimation fails")
    return _like_cpu(device, frames, batch=2, fallback=True)


def _forecast(device: torch.device) -> str:
    spec = registry.spec(DEFAULT_PREDICTOR, "predict")
    context = torch.stack(_pictures(spec.context, *_SMALL), 1)

    def forecast(on: torch.device) -> Tensor:
        model = registry.load_predictor(DEFAULT_PREDICTOR, on)
        return torch.cat([made.cpu() for made in model.forecast(context.to(on), 3)])

    return _near(_decibel(forecast(device), forecast(torch.device("cpu"))))


def _training(device: torch.device) -> str:
    pairs = list(zip(_losses(device), _losses(torch.device("cpu")), strict=True))
    (before, on_cpu), (after, after_on_cpu) = pairs
    change = f"the loss goes from {before:.5f} to {after:.5f}"
    if not all(math.isclose(*pair, rel_tol=_LOSS_TOLERANCE) for pair in pairs):
        raise _FailedError(f"{change}, on the CPU from {on_cpu:.5f} to {after_on_cpu:.5f}")
    return change


def _losses(device: torch.device) -> tuple[float, float]:
    """Return the loss before a training step and after it."""
    model = registry.build_model(_FAST, task="interpolate").to(device).train()
    x0, truth, x1 = (picture.to(device) for picture in _pictures(3, *_SMALL))
    half = torch.full((1, 1, 1, 1), 0.5, device=device)
    loss = (model(x0, x1, half) - truth).square().mean().sqrt()
    loss.backward()
    torch.optim.SGD(model.parameters(), 1e-4).step()
    with torch.no_grad():
        after = (model(x0, x1, half) - truth).square().mean().sqrt()
    return float(loss.detach()), float(after)


class _Greedy(Interpolator):
    """A model that blends, and runs out of memory with a batch of more than two new frames."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(registry.spec("blend", "interpolate"))
        self._device = device

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        if len(x0) > 2:
            torch.empty(2**50, dtype=torch.uint8, device=self._device)
        return x0.lerp(x1, timestep)


def _step_back(device: torch.device) -> str:
    work = partial(Renderer, _Greedy(device), device=device)
    frames = _clip(4, *_SMALL)
    greedy = work(wanted=WantedSizes(batch=4))
    rendered = _rendered(greedy, frames)
    warnings = greedy.new_warnings()
    if len(warnings) != 1:
        raise _FailedError(f"{len(warnings)} smaller batches after a lack of memory instead of 1")
    return _near(_apart(rendered, _rendered(work(wanted=WantedSizes(batch=1)), frames)))


def _memory(device: torch.device) -> str:
    work = _renderer(device, name=_FAST, batch=4)
    frames = _clip(2, *_TINY)
    used: list[int] = []

    def tasks() -> Iterator[FrameTask]:
        # Every seventh frame is a source frame, which waits for the new frames before it.
        for number in range(_MEMORY_FRAMES):
            if number in (_MEMORY_FRAMES // 3, _MEMORY_FRAMES - 1):
                used.append(_memory_used(device))
            half = Fraction(1, 2) if number % 7 else Fraction(0)
            yield task_of(frames[0], frames[1], half, Fraction(number), Fraction(1))

    for _ in work.render(tasks()):
        pass
    first, last = used
    if last - first > _GROWTH:
        raise _FailedError(f"{(last - first) >> 20} MiB more after {_MEMORY_FRAMES} frames")
    more = max(last - first, 0) >> 20
    return f"{more} MiB more after {_MEMORY_FRAMES} frames, {last >> 20} MiB in all"


def _speed(device: torch.device) -> str:
    devices = dict.fromkeys([device, torch.device("cpu")])
    size = "x".join(map(str, _SPEED))
    rates = [f"{each} {_rate(each):.1f}" for each in devices]
    return f"{' and '.join(rates)} frames/s at {size} ({registry.DEFAULT})"


def _rate(device: torch.device) -> float:
    work = _renderer(device)
    frames = _clip(2, *_SPEED)
    _rendered(work, frames)
    began, made = time.perf_counter(), 0
    while made < 3 or (made < 200 and time.perf_counter() - began < 1):
        _rendered(work, frames)
        made += _FACTOR - 1
    return made / (time.perf_counter() - began)


def _video(device: torch.device, video: Path) -> str:
    source = video.parent / "pictures"
    source.mkdir()
    for number, picture in enumerate(_pictures(24, *_SMALL)):
        pixels = picture[0].mul(255).round().to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(source / f"{number:03}.png")
    result = _interp(source, video, device=str(device))
    return f"{result.output_frames} frames, {result.frames_per_second:.1f} frames/s"


def _nvdec(device: torch.device, video: Path) -> str:
    if not torch.cuda.is_available():
        raise _AbsentError("there is no NVIDIA GPU here")
    with Source(video, nvdec=device.index or 0) as source:
        decoded = list(source.frames())
        if not source.by_gpu:
            raise _AbsentError(" ".join(map(str, source.warnings)))
    with Source(video) as source:
        expected = list(source.frames())
    if len(decoded) != len(expected) or not all(map(Frame.same_picture, decoded, expected)):
        raise _FailedError("its frames differ from those of the CPU")
    return f"{len(decoded)} frames, equal to those of the CPU"


def _together(device: torch.device, video: Path) -> str:
    """Interpolate a video losslessly in workers, and compare the result with that of the CPU."""
    made, expected = video.with_name("together.mkv"), video.with_name("expected.mkv")
    workers = {"device": "cuda:all"} if device.type == "cuda" else {"workers": "local:2"}
    _interp(video, expected, device="cpu", precision="fp32", encoder="ffv1")
    _interp(video, made, encoder="ffv1", **{"device": device.type, **workers})
    with Source(made) as one, Source(expected) as other:
        return _near(_apart(list(one.frames()), list(other.frames())))


def _interp(source: Path, output: Path, **settings: Any) -> InterpResult:
    given = {"input": source, "output": output, "factor": Fraction(2), "model": _FAST, **settings}
    result: InterpResult = watched(interp.run(InterpSettings(**given)))
    return result


def _renderer(
    device: torch.device,
    precision: str = "auto",
    name: str = registry.DEFAULT,
    *,
    fallback: bool = False,
    **sizes: Any,
) -> Renderer:
    spec = registry.spec(name, "interpolate")
    dtype = choose_precision(precision, device, spec)
    streams = useful_cpu_streams(device, torch.get_num_threads())
    wanted = WantedSizes(cpu_streams=streams, **sizes)
    network = _loaded(spec.name, device, dtype)
    return Renderer(network, device=device, wanted=wanted, fallback=fallback)


def _rendered(work: Renderer, frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames with new ones between them; the last frame is repeated."""
    request = Request(
        name="the clip of the test",
        rate=Multiply(_FACTOR),
        slowdown=Fraction(1),
        scene_cut="off",
        duplicates="keep",
        loop=False,
        context=FOUR,
    )
    return list(work.render(schedule(frames, request)))


def _pictures(count: int, width: int, height: int) -> list[Tensor]:
    """Return pictures of a moving texture: (1, 3, H, W) each, in [0, 1]."""
    numbers = torch.Generator().manual_seed(1)
    sides = height // 8, (width + count * _MOTION) // 8 + 1
    coarse = torch.rand((1, 3, *sides), generator=numbers) * 0.8 + 0.1
    size = sides[0] * 8, sides[1] * 8
    ground = functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return [ground[..., :height, k * _MOTION :][..., :width] for k in range(count)]


def _clip(count: int, width: int, height: int, pix_fmt: str = "yuv420p") -> list[Frame]:
    return _framed(_pictures(count, width, height), pix_fmt)


def _framed(pictures: Sequence[Tensor], pix_fmt: str) -> list[Frame]:
    form, tags = layout(pix_fmt), ColorTags(1, 1, 1, 1)
    height, width = pictures[0].shape[2:]
    space = color_space(tags, form, width, height)
    frames = []
    for number, picture in enumerate(pictures):
        planes = list(from_rgb(picture[0], form, space))
        if form.alpha:
            planes.append(alpha_from_float(picture[0, :1], form))
        made = make_picture(planes, pix_fmt, width, height)
        frames.append(Frame(made, Fraction(number), Fraction(1), tags))
    return frames


def _apart(frames: Sequence[Frame], expected: Sequence[Frame]) -> float:
    """Return the PSNR of the worst frame over all planes, in dB."""
    if len(frames) != len(expected):
        raise _FailedError(f"{len(frames)} frames instead of {len(expected)}")
    return min(
        _decibel(*(_values(frame) for frame in pair)) for pair in zip(frames, expected, strict=True)
    )


def _values(frame: Frame) -> Tensor:
    largest: int = 2 ** layout(frame.pix_fmt).depth - 1
    values: Tensor = torch.cat([plane.flatten().double() for plane in frame.planes()])
    return values / largest


def _decibel(values: Tensor, expected: Tensor) -> float:
    error = float((values.double() - expected.double()).square().mean())
    return 100.0 if error <= 1e-10 else -10 * math.log10(error)


def _near(decibel: float) -> str:
    if not decibel >= _LEAST_PSNR:
        raise _FailedError(
            f"{decibel:.1f} dB PSNR against the CPU; {_LEAST_PSNR:.0f} dB are needed"
        )
    return "equal" if decibel >= 100 else f"{decibel:.1f} dB"


def _memory_used(device: torch.device) -> int:
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    if device.type != "cpu":
        used: int = torch.get_device_module(device).memory_reserved(device)
        return used
    taken = process_memory()
    if taken is None:
        raise _AbsentError("this system does not report the memory of a process")
    return taken
