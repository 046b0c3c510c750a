"""Identify the machine and the weights, both of which can change the pixels of a result."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from cloudconv import checkpoints, weights
from cloudconv.media import build
from cloudconv.models import registry


def machine_fingerprint(device: torch.device, *, each_gpu: bool = False) -> dict[str, str]:
    """Return the kind of device, and the versions of all libraries that can change a pixel.

    Args:
        device: the device that computes.
        each_gpu: whether all GPUs of this machine compute; then the result names all their kinds.
    """
    kind = device.type
    if kind == "cuda":
        gpus = range(torch.cuda.device_count()) if each_gpu else [device]
        kind = " and ".join(sorted({torch.cuda.get_device_name(gpu) for gpu in gpus}))
    return {
        "device": f"{kind}, {platform.machine()}",
        "version of cloudconv": metadata.version("cloudconv"),
        "version of PyTorch": torch.__version__,
        "version of PyAV": f"{metadata.version('av')}, FFmpeg {build.version()}",
    }


def weights_fingerprint(model: str) -> str | None:
    """Return a hash of the model's weights; None for a method without weights."""
    path = registry.file_of(model)
    if path is not None:
        return checkpoints.digest(path)
    name = registry.spec(model).weights
    return None if name is None else weights.entry(name).sha256
