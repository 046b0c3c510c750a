"""How much memory is free, and what fits into it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cloudconv.engine.tiling import round_up, smallest_tile
from cloudconv.errors import SettingsError
from cloudconv.models.base import Interpolator

_USABLE = {"cpu": 0.6, "mps": 0.6, "cuda": 0.85}
"""How much of the free memory a plan counts on. On the host, encoder and decoder still grow after
the plan is made, and going over it ends in a kill that nobody can catch."""

_FRAME_BYTES = 96
"""Per pixel beside the network: a pair's RGB at float32, the new frame, the conversions."""

_HALF_SHARE = 0.9
"""What 16-bit activations need of a float32 network's memory: images, flow and grids, which are the
most of it, stay float32. RIFE 4.6 at 3840x2160 on a CPU: 1.94 GiB of 2.18."""

_FULL_PIXELS_CPU = 2**17
_FULL_PIXELS_GPU = 2**22
_MAX_BATCH = 16

_SIGNS = (
    "out of memory",
    "not enough memory",
    "DefaultCPUAllocator",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)

_CGROUPS = tuple(
    (f"/sys/fs/cgroup/{limit}", f"/sys/fs/cgroup/{used}", f"/sys/fs/cgroup/{stat}")
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How frames of one size are worked on.

    ``lanes`` batches at once; ``tile`` is a tile's side in pixels, None for whole frames;
    ``memory_bytes`` the estimated peak on the device, ``free_bytes`` what was free there (None
    where the system does not tell).
    """

    batch: int
    tile: int | None
    memory_bytes: int
    free_bytes: int | None
    lanes: int = 1


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on ``device``; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = [n for n in (_free_host(), _free_in_container()) if n is not None]
    return min(found, default=None)


def plan_memory(
    model: Interpolator,
    width: int,
    height: int,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    batch: int | Literal["auto"] = "auto",
    tile: int | Literal["auto", "off"] = "auto",
    scale: float = 1.0,
    free_bytes: int | None = None,
    share: int = 1,
    lanes: int = 1,
) -> MemoryPlan:
    """Decide batch, tiles and lanes for frames of ``width`` by ``height``, before the first one.

    What ``auto`` gives follows from the memory that is free (``free_bytes``, by default asked of
    the device), or from a part of it where ``share`` processes need as much each. A tile that was
    asked for is rounded up to what the model's grid needs; a batch that was asked for is halved
    until it fits, and then there are no more lanes than fit. Where even the smallest tile is
    estimated not to fit, it is tried all the same.

    Raises:
        ModelError: the model does not take that scale.
        SettingsError: ``batch`` or ``tile`` is too small.
    """
    multiple, overlap = grid(model, scale)
    smallest = smallest_tile(overlap, multiple)
    if batch != "auto" and batch < 1:
        raise SettingsError(f"A batch of {batch} was asked for. Use auto, or 1 or more.")
    if not isinstance(tile, str) and tile < smallest:
        raise SettingsError(
            f"Tiles of {tile} pixels were asked for. The model {model.spec.name} needs {smallest} "
            "or more; with auto the free memory decides."
        )
    if free_bytes is None:
        free_bytes = free_memory(device)
    usable = None if free_bytes is None else int(free_bytes * _USABLE[device.type]) // share
    per_pixel = model.spec.bytes_per_pixel * max(1.0, scale) ** 2
    if dtype != torch.float32:
        per_pixel *= _HALF_SHARE
    rows, columns = round_up(height, multiple), round_up(width, multiple)

    def need(side: int, items: int = 1) -> int:
        network = min(rows, side) * min(columns, side) * per_pixel
        return int(items * (network + _FRAME_BYTES * width * height))

    whole = max(rows, columns)
    side = whole if isinstance(tile, str) else round_up(tile, multiple)
    if tile == "auto" and usable is not None:
        while side > smallest and need(side) > usable:
            side = max(smallest, side - multiple)
    if batch == "auto":
        batch = 1 if side < whole else _useful_batch(width * height, device)
    while batch > 1 and usable is not None and need(side, batch) > usable:
        batch //= 2
    while lanes > 1 and usable is not None and need(side, lanes * batch) > usable:
        lanes -= 1
    tile_side = side if side < whole else None
    return MemoryPlan(batch, tile_side, need(side, lanes * batch), free_bytes, lanes)


def grid(model: Interpolator, scale: float = 1.0) -> tuple[int, int]:
    """What tile sides are a multiple of, and what neighbours share, in pixels."""
    # At a smaller scale each of the network's pixels covers more of the picture.
    return model.multiple(scale), math.ceil(model.spec.overlap * max(1.0, 1.0 / scale))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def gibibytes(count: int) -> str:
    """For messages: ``12.3 GiB``."""
    return f"{count / 2**30:.1f} GiB"


def _useful_batch(pixels: int, device: torch.device) -> int:
    """Beyond this a larger batch fills the device no better.

    RIFE 4.6 on one core of a CPU, milliseconds a frame, alone and in a batch of 8: 7.5 and 4.0 at
    96x64, 34 and 30 at 256x192, no difference from 480x270 on.
    """
    full = _FULL_PIXELS_CPU if device.type == "cpu" else _FULL_PIXELS_GPU
    return max(1, min(_MAX_BATCH, full // pixels))


def _free_host() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _half_of_host()
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")), None)


def _half_of_host() -> int | None:
    """A guess for systems that tell how much memory they have, but not how much is free."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_container() -> int | None:
    """What a container's limit leaves; None without one."""
    for limit, used, cache in _CGROUPS:
        try:
            most, now = int(Path(limit).read_text()), int(Path(used).read_text())
            stat = dict(x.split() for x in Path(cache).read_text().splitlines())
        except (OSError, ValueError):  # "max" is no number: no limit
            continue
        reclaimable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
        return max(0, most - now + reclaimable)
    return None
