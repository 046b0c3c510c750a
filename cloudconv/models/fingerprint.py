"""Hash what decides a pixel beside the input: settings, machine and weights."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

import torch

from cloudconv import weights
from cloudconv.media import build
from cloudconv.models import registry


def machine_fingerprint(device: torch.device) -> dict[str, str]:
    """The kind of device, and the versions of everything that touches a pixel."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": f"{kind}, {platform.machine()}",
        "version of cloudconv": metadata.version("cloudconv"),
        "version of PyTorch": torch.__version__,
        "version of PyAV": f"{metadata.version('av')}, FFmpeg {build.version()}",
    }


def weights_fingerprint(model: str) -> str | None:
    """A hash of the model's weights; None for a method without."""
    path = Path(model)
    if path.suffix == ".safetensors":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    name = registry.spec(model).weights
    return None if name is None else weights.entry(name).sha256
