"""Report the state of the installation, and the choices of ``auto`` on this machine."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from cloudconv import weights
from cloudconv.errors import CloudconvError
from cloudconv.events import Finished, Job, Measured
from cloudconv.jobs import self_test
from cloudconv.jobs.self_test import Check
from cloudconv.media.containers import CONTAINERS
from cloudconv.media.encoders import present
from cloudconv.media.filters import has_filter, libraries
from cloudconv.media.plan import encoder_state
from cloudconv.models import registry
from cloudconv.render.device import (
    auto_warnings,
    choose_device,
    choose_precision,
    cores,
    has_fast_bf16,
    precision_name,
    processor_name,
)
from cloudconv.render.memory import free_memory, plan_memory
from cloudconv.settings import DoctorSettings

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2160p": (3840, 2160)}
"""The frame sizes, (width, height), for which the diagnosis plans batch, tile and memory."""

_PACKAGES = (
    *("torch", "av", "numpy", "opencv-python-headless", "safetensors"),
    *("typer", "rich", "Pillow"),
)
_ENCODERS = (
    *("libx264", "libx264rgb", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"),
    *("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "h264_vaapi"),
    *("h264_videotoolbox", "hevc_videotoolbox"),
)
_FILTERS = ("minterpolate", "xpsnr", "bwdif", "idet")
_EXTRAS = {"ray": "ray", "vmaf": "imageio_ffmpeg"}
_STATES = ("ok", "missing", "damaged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The state of the installation; the fields are the keys of the command's JSON.

    ``devices`` has the name and the description of each device, for NVIDIA GPUs also the free
    bytes, and for the CPU whether bfloat16 is fast. ``weights`` counts the files that are ``ok``,
    ``missing`` and ``damaged``. ``auto`` has the default choices. If the default model can be
    loaded, ``auto`` also has the batch, the tile (None for complete frames) and the estimated bytes
    for each of :data:`SIZES`. ``problems`` has one sentence for each problem.
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
    problems: list[str]
    checks: list[Check] = field(default_factory=list)


def run(settings: DoctorSettings) -> Job:
    """Diagnose the installation, and with ``check`` test the device.

    A default model or device that does not work is listed in ``problems``.

    Yields:
        A measurement named ``check`` for each finished test, and at the end the
        :class:`Diagnosis`.
    """
    diagnosis = _diagnose()
    checks: list[Check] = []
    for check in self_test.check_device(settings.device or "auto") if settings.check else ():
        checks.append(check)
        yield Measured("check", check)
    yield Finished(replace(diagnosis, checks=checks))


def _version(package: str) -> str:
    """Return the version of a package; ``missing`` if, for example, another build is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _diagnose() -> Diagnosis:
    problems: list[str] = []
    # A hardware encoder may be built in and still fail without its hardware.
    encoders = {name: encoder_state(name) for name in _ENCODERS}
    filters = {name: has_filter(name) for name in _FILTERS}
    shipped = (spec.weights for spec in registry.specs() if spec.weights is not None)
    states: dict[str, str] = {name: weights.status(name) for name in shipped}
    problems += [
        f"The weights of {name} are {state}." for name, state in states.items() if state != "ok"
    ]
    if encoders["libx264"] != "works":
        problems.append("libx264, the default encoder, does not work here.")
    problems += [
        f"FFmpeg's filter {name} is missing." for name, here in filters.items() if not here
    ]
    return Diagnosis(
        cloudconv=metadata.version("cloudconv"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        processor=processor_name(),
        cores=cores(),
        memory_free_bytes=free_memory(torch.device("cpu")),
        disk_free_bytes=shutil.disk_usage(Path.cwd()).free,
        packages={name: _version(name) for name in _PACKAGES},
        extras={name: find_spec(module) is not None for name, module in _EXTRAS.items()},
        ffmpeg=libraries(),
        encoders=dict(encoders),
        filters=filters,
        devices=_devices(),
        weights={state: list(states.values()).count(state) for state in _STATES},
        auto=_auto(problems),
        problems=problems,
    )


def _devices() -> list[dict[str, Any]]:
    devices = [{"name": "cpu", "description": processor_name(), "fast_bf16": has_fast_bf16()}]
    for number in range(torch.cuda.device_count()):
        devices.append(
            {
                "name": f"cuda:{number}",
                "description": torch.cuda.get_device_name(number),
                "free_bytes": free_memory(torch.device("cuda", number)),
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "description": "Apple GPU"})
    return devices


def _auto(problems: list[str]) -> dict[str, Any]:
    spec = registry.spec(registry.DEFAULT)
    chosen: dict[str, Any] = {
        "model": spec.name,
        "threads": torch.get_num_threads(),
        "encoders": {
            suffix: present(CONTAINERS[suffix].encoders)[0]
            for suffix in (".mp4", ".mkv", ".mov", ".webm")
        },
    }
    try:
        device = choose_device()
        problems += [str(warned) for warned in auto_warnings("auto")]
        dtype = choose_precision("auto", device, spec)
        model = registry.load(spec.name, device, dtype)
        sizes = {}
        for name, (width, height) in SIZES.items():
            plan = plan_memory(model, width, height, device=device)
            sizes[name] = {
                "batch": plan.sizes.batch,
                "tile": plan.sizes.tile,
                "memory_bytes": plan.memory_bytes,
            }
    except CloudconvError as error:
        problems.append(str(error))
        return chosen
    return chosen | {"device": str(device), "precision": precision_name(dtype), "sizes": sizes}
