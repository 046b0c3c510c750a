"""A job that nothing can undo: finished segments outlast every end but a good one."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cloudconv import __version__, weights
from cloudconv.errors import (
    InputError,
)
from cloudconv.media import build
from cloudconv.media.read import images
from cloudconv.models import registry

_EDGE = 1 << 20
# What is done with the result, or how the work is shared out, changes no pixel.
_NO_SETTINGS = frozenset(
    (
        *("input", "output", "out_dir", "overwrite", "preview", "resume", "encode"),
        *("workers", "device", "hwaccel", "save_model"),
    )
)


def settings_fingerprint(settings: Any) -> dict[str, str]:
    """The settings that can change a pixel, by name, in words."""
    chosen = [f.name for f in fields(settings) if f.name not in _NO_SETTINGS]
    return {name: str(getattr(settings, name)) for name in chosen} | {
        f.name if f.name != "options" else "encoder option": str(getattr(settings.encode, f.name))
        for f in fields(settings.encode)
    }


def machine_fingerprint(device: torch.device) -> dict[str, str]:
    """The kind of device, and the versions of everything that touches a pixel."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": f"{kind}, {platform.machine()}",
        "version of cloudconv": __version__,
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


def input_fingerprint(path: Path, *, lasting: bool = True, ends: bool = True) -> str:
    """What tells a file, or pictures, from any other: sizes, dates, and a hash of both ends.

    Args:
        path: as probed.
        lasting: False for a copy of standard input, whose date says nothing.
        ends: False to read nothing of it.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    known = hashlib.sha256()
    for file in images.files_of(path):
        try:
            about = file.stat()
            known.update(f"{about.st_size} {about.st_mtime_ns if lasting else ''};".encode())
            if ends and path.is_file():
                known.update(both_ends(file))
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    return known.hexdigest()


def both_ends(file: Path) -> bytes:
    """The first and the last MiB of a file, which tell it from most others."""
    with file.open("rb") as opened:
        head = opened.read(_EDGE)
        opened.seek(max(file.stat().st_size - _EDGE, 0))
        return head + opened.read(_EDGE)
