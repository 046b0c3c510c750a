"""Report the state of the installation and the choices of ``auto``, and test a device."""

import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.benchmark import Timer

from cloudconv import metrics, weights
from cloudconv.errors import CloudconvError
from cloudconv.events import Finished, Job, Measured
from cloudconv.host import processor_name, version_of
from cloudconv.jobs.interp.frames import interpolated
from cloudconv.media.containers.containers import CONTAINERS
from cloudconv.media.containers.ffmpeg import has_filter, libraries
from cloudconv.media.writing.encoders import present
from cloudconv.media.writing.encoding import encoder_state
from cloudconv.models import registry
from cloudconv.models.convolutions import usual_engine
from cloudconv.models.engines import set_engine
from cloudconv.render import device as devices
from cloudconv.render.memory import free_memory, plan_memory
from cloudconv.settings import DoctorSettings, FramesSettings
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
_EXTRAS = ("ray", "imageio-ffmpeg")


@dataclass(frozen=True, slots=True)
class Check:
    """A test and its result; ``absent`` means that the test did not run."""

    name: str
    status: Literal["ok", "failed", "absent"]
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of the installation.

    ``facts`` has a value for each name of :data:`FACTS`; an empty dict where a problem
    prevents it. ``problems`` has one sentence for each problem.
    """

    facts: dict[str, Any]
    problems: list[str]
    checks: list[Check]

    def as_json(self) -> dict[str, Any]:
        """Return the object of the command's JSON, with the facts at its top."""
        own = asdict(self)
        return {**own.pop("facts"), **own}


def run(settings: DoctorSettings) -> Job:
    """Diagnose the installation, and with ``check`` or ``device`` test the device.

    Yields a measurement named ``check`` for each test, and at the end the
    :class:`Diagnosis`.
    """
    facts: dict[str, Any] = {name: {} for name in FACTS}
    problems: list[str] = []
    for name, fact in FACTS.items():
        try:
            facts[name] = fact()
        except CloudconvError as error:
            problems.append(str(error))
    problems += _problems(facts)
    if facts["weights"]:
        facts["weights"] = dict.fromkeys(("ok", "missing", "damaged"), 0) | Counter(
            facts["weights"].values()
        )
    diagnosis = Diagnosis(facts, problems, [])
    if settings.check or settings.device is not None:
        for check in check_device(settings.device or "auto"):
            diagnosis.checks.append(check)
            yield Measured("check", check)
    yield Finished(diagnosis)


def _problems(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, state in facts["weights"].items():
        if state != "ok":
            yield f"The weights of {name} are {state}."
    if facts["encoders"]["libx264"] != "works":
        yield "libx264, the default encoder, does not work here."
    for name, is_present in facts["filters"].items():
        if not is_present:
            yield f"FFmpeg's filter {name} is missing."
    yield from map(str, devices.auto_warnings("auto"))


def _of_each(fact: Callable[[str], Any], names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, map(fact, names), strict=True))


def _weights() -> dict[str, str]:
    names = [spec.weights for spec in registry.MODELS if spec.weights is not None]
    return _of_each(weights.status, names)


def _free_disk() -> int:
    return shutil.disk_usage(Path.cwd()).free


def _devices() -> list[dict[str, Any]]:
    cpu: dict[str, Any] = {
        "name": "cpu",
        "description": processor_name(),
        "fast_bf16": devices.has_fast_bf16(),
        "float32": set_engine() or usual_engine(),
    }
    gpus = [
        {
            "name": f"cuda:{number}",
            "description": torch.cuda.get_device_name(number),
            "free_bytes": free_memory(torch.device("cuda", number)),
        }
        for number in range(torch.cuda.device_count())
    ]
    found = [cpu, *gpus]
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "description": "Apple GPU"})
    return found


def _auto() -> dict[str, Any]:
    spec = registry.spec(DEFAULT_MODEL)
    device = devices.choose_device()
    dtype = devices.choose_precision("auto", device, spec)
    model = registry.load(spec.name, device, dtype)
    plans = {size: plan_memory(model, *SIZES[size], device=device) for size in SIZES}
    return {
        "model": spec.name,
        "threads": torch.get_num_threads(),
        "encoders": {
            suffix: present(container.encoders)[0]
            for suffix, container in CONTAINERS.items()
            if suffix == container.suffixes[0] and not container.has_one_encoder
        },
        "device": str(device),
        "precision": devices.precision_name(dtype),
        "sizes": {
            size: {
                "batch": plan.sizes.batch,
                "tile": plan.sizes.tile,
                "memory_bytes": plan.memory_bytes,
            }
            for size, plan in plans.items()
        },
    }


FACTS: dict[str, Callable[[], Any]] = {
    "cloudconv": partial(version_of, "cloudconv"),
    "python": platform.python_version,
    "system": platform.platform,
    "processor": processor_name,
    "cores": devices.cores,
    "memory_free_bytes": partial(free_memory, torch.device("cpu")),
    "disk_free_bytes": _free_disk,
    "packages": partial(_of_each, version_of, _PACKAGES),
    "extras": partial(_of_each, version_of, _EXTRAS),
    "ffmpeg": libraries,
    # A hardware encoder may be built in and still fail without its hardware.
    "encoders": partial(_of_each, encoder_state, _ENCODERS),
    "filters": partial(_of_each, has_filter, _FILTERS),
    "devices": _devices,
    "weights": _weights,
    "auto": _auto,
}
"""The facts by their keys in the command's JSON, in the order of its rows.

``auto`` has the default choices, with the batch, the tile (None for complete frames) and
the estimated bytes for each of :data:`SIZES`.
"""

SECONDS = 45  # the number of seconds after which no check starts

_LEAST_PSNR = 45.0  # dB
_SMALL, _SPEED = (128, 64), (640, 360)
_MOTION = 3  # pixels per frame, in the middle
_LACKS = ("fp16-on-cpu", "no-bf16")  # codes of errors: the device lacks the precision


def check_device(device: str = "auto") -> Iterator[Check]:
    """Yield checks of a device: its frames, compared with the CPU's, and its speed."""
    end = time.monotonic() + SECONDS
    chosen = devices.choose_device(device)
    yield _tried("speed", partial(_speed, chosen), end)
    for spec in registry.MODELS:
        if spec.task == "interpolate" and spec.weights:
            expected = cache(partial(_made, spec.name, torch.device("cpu"), "fp32"))
            for precision in devices.PRECISIONS:
                made = partial(_made, spec.name, chosen, precision)
                yield _tried(
                    f"{spec.name} {precision}", partial(_parity, made, expected), end
                )


def _tried(name: str, check: Callable[[], str], end: float) -> Check:
    """Return the result of a check, which does not start after the time ``end``."""
    if time.monotonic() > end:
        return Check(name, "absent", "not tried: the time was used up")
    try:
        return Check(name, "ok", check())
    except (CloudconvError, RuntimeError, ValueError, MemoryError, OSError) as error:
        reason = (getattr(error, "text", str(error)) or repr(error)).splitlines()[0]
        is_lack = getattr(error, "code", "") in _LACKS
        return Check(name, "absent" if is_lack else "failed", reason)


def _parity(made: Callable[[], Tensor], expected: Callable[[], Tensor]) -> str:
    decibel = float(metrics.psnr(made(), expected()).min())
    if not decibel >= _LEAST_PSNR:
        raise RuntimeError(
            f"{decibel:.1f} dB PSNR against the CPU; {_LEAST_PSNR:.0f} dB are needed"
        )
    return "equal" if decibel >= metrics.PERFECT else f"{decibel:.1f} dB"


def _speed(device: torch.device) -> str:
    rates = []
    for each in dict.fromkeys([device, torch.device("cpu")]):
        made = partial(_made, DEFAULT_MODEL, each, "auto", _SPEED)
        new = len(made()) // 2  # the others are given or repeated
        timer = Timer("made()", globals={"made": made}, num_threads=torch.get_num_threads())
        rates.append(f"{each} {new / timer.adaptive_autorange().median:.1f}")
    return f"{' and '.join(rates)} frames/s at {_SPEED[0]}x{_SPEED[1]} ({DEFAULT_MODEL})"


def _made(
    model: str, device: torch.device, precision: Any, size: tuple[int, int] = _SMALL
) -> Tensor:
    """Return three pictures with new ones at 1/4, 1/2 and 3/4 between: (12, 3, H, W)."""
    settings = FramesSettings(
        Fraction(4), model=model, device=str(device), precision=precision
    )
    return torch.stack([*interpolated(_pictures(*size), settings)])


def _pictures(width: int, height: int) -> Tensor:
    """Return three pictures of a soft texture that becomes wider: (3, 3, H, W)."""
    numbers = torch.Generator().manual_seed(1)
    coarse = torch.rand((1, 3, height // 8, width // 8), generator=numbers)
    widths = (width, width + 2 * _MOTION, width + 4 * _MOTION)
    wider = [functional.interpolate(coarse, (height, w), mode="bicubic") for w in widths]
    return torch.cat([picture[..., :width] for picture in wider]).clamp(0, 1)
