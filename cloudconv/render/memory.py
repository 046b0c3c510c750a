"""Measure the free memory, and plan batches and tiles that fit into it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from cloudconv import host
from cloudconv.errors import SettingsError
from cloudconv.models.base import Interpolator
from cloudconv.render.tiling import round_up, smallest_tile

Result = TypeVar("Result")

_USABLE = {"cpu": 0.6, "mps": 0.6}
"""The part of the free memory that a plan uses. Encoder and decoder need more of the host's
memory after the plan is made. The system kills a process that uses too much."""
_USABLE_DEDICATED = 0.85
"""The same part for a device with memory of its own."""

_FRAME_BYTES = 96
"""Bytes per pixel beside the network: a pair as float32 RGB, the new frame, the
conversions."""

_EXPOSURE_BYTES = 240
"""More bytes per pixel where a frame is the mean of several: nine source frames as RGB, and
sums (measured on a simulated GPU)."""

_MAPS_BYTES = 90
"""More bytes per pixel for the maps of a network, see :class:`cloudconv.models.base.Made`
(measured on a simulated GPU), and for the shifts that a pair keeps."""

_LEAST_OFF_CPU = 270
"""The least memory of a network per pixel on other devices than a CPU, in any precision: a
CPU processes strips, others whole pictures (measured on a simulated GPU)."""

_OF_SIXTEEN_BITS = 0.9
"""The memory of a network in 16 bits, relative to float32. Images, flow and grids need most
of the memory and stay float32. RIFE 4.6 at 3840x2160 on a CPU: 1.94 GiB of 2.18."""

# The pixels of a batch from which on a larger batch does not make a frame faster.
_FULL_PIXELS_CPU = 2**17
_FULL_PIXELS_GPU = 2**23
MAX_BATCH = 16
"""The largest batch that is chosen automatically."""

_NO_ENGINE = "unable to find an engine"
"""The text of cuDNN's error if none of its algorithms fits into the free memory. The
error is the same if the GPU does not support bfloat16."""

_SIGNS = (
    "out of memory",
    "not enough memory",
    "DefaultCPUAllocator",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True, slots=True)
class WantedSizes:
    """The sizes that a user wants.

    ``batch``: new frames of a batch; ``auto`` depends on the size of a frame and the
    memory. ``tile``: the side of tiles in pixels; ``auto`` uses tiles only where a whole
    frame does not fit into memory, ``off`` never. ``cpu_streams``: the most batches at the
    same time on a CPU. ``exposes``: whether each frame is the mean of several.
    """

    batch: int | Literal["auto"] = "auto"
    tile: int | Literal["auto", "off"] = "auto"
    cpu_streams: int = 1
    exposes: bool = False


AUTOMATIC = WantedSizes()


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of frames and pixels that are computed at once, for frames of one size.

    ``batch``: the most new frames of a batch. ``tile``: the side of tiles in pixels; None
    for whole frames. ``cpu_streams``: batches at the same time.
    """

    batch: int = 1
    tile: int | None = None
    cpu_streams: int = 1


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes and their memory.

    ``memory_bytes``: the estimated peak on the device. ``free_bytes``: free bytes on the
    device; None if the system does not report them.
    """

    sizes: Sizes
    memory_bytes: int
    free_bytes: int | None


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can be allocated on ``device``.

    The result is None if the system reports none.
    """
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        module = torch.get_device_module(device)
        cached = module.memory_reserved(device) - module.memory_allocated(device)
        return int(module.mem_get_info(device)[0] + cached)
    return host.free_memory()


def least_free_memory(device: torch.device) -> int | None:
    """Return the fewest free bytes of any GPU of the device's kind."""
    count = torch.get_device_module(device).device_count()
    sizes = [free_memory(torch.device(device.type, number)) for number in range(count)]
    return min((free for free in sizes if free is not None), default=None)


def plan_memory(
    model: Interpolator,
    width: int,
    height: int,
    *,
    device: torch.device,
    wanted: WantedSizes = AUTOMATIC,
    scale: float = 1.0,
    free_bytes: int | None = None,
    renderers: int = 1,
) -> MemoryPlan:
    """Return batch, tiles and CPU streams for frames of ``width`` by ``height`` pixels.

    The batch is halved, and the number of CPU streams reduced, until the batches fit. The
    side of tiles is rounded up to the model's grid. The smallest tile is used even if the
    estimate says that it does not fit. ``free_bytes``: None for the number that the device
    reports. ``renderers``: renderers that use the device at the same time, each with an
    equal part. Raises SettingsError if ``tile`` is too small.
    """
    batch = wanted.batch
    tile = wanted.tile
    cpu_streams = wanted.cpu_streams
    multiple, overlap = grid(model, scale)
    smallest = smallest_tile(overlap, multiple)
    if not isinstance(tile, str) and tile < smallest:
        raise SettingsError(
            f"tile-too-small: Tiles of {tile} pixels were given, and the model "
            f"{model.spec.name} needs {smallest} or more: use such a size, or auto."
        )
    if free_bytes is None:
        free_bytes = free_memory(device)
    share = _USABLE.get(device.type, _USABLE_DEDICATED)
    if device.type == "cuda" and torch.cuda.get_device_properties(device).is_integrated:
        share = _USABLE["cpu"]  # the host's memory
    usable = math.inf if free_bytes is None else int(free_bytes * share) // renderers
    per_pixel = model.spec.bytes_per_pixel * max(1.0, scale) ** 2
    if model.dtype != torch.float32:
        per_pixel *= _OF_SIXTEEN_BITS
    if device.type != "cpu":
        per_pixel = max(per_pixel, _LEAST_OFF_CPU * max(1.0, scale) ** 2)
    beside = _FRAME_BYTES + _EXPOSURE_BYTES * wanted.exposes
    beside += _MAPS_BYTES * model.has_maps
    rows = round_up(height, multiple)
    columns = round_up(width, multiple)

    def need(side: int, items: int = 1) -> int:
        network = min(rows, side) * min(columns, side) * per_pixel
        return int(items * (network + beside * width * height))

    whole = max(rows, columns)
    side = whole if isinstance(tile, str) else round_up(tile, multiple)
    while tile == "auto" and side > smallest and need(side) > usable:
        side = max(smallest, side - multiple)
    if batch == "auto":
        batch = 1 if side < whole else _useful_batch(width * height, device)
    while batch > 1 and need(side, batch) > usable:
        batch //= 2
    while cpu_streams > 1 and need(side, cpu_streams * batch) > usable:
        cpu_streams -= 1
    sizes = Sizes(batch, side if side < whole else None, cpu_streams)
    return MemoryPlan(sizes, need(side, cpu_streams * batch), free_bytes)


def grid(model: Interpolator, scale: float = 1.0) -> tuple[int, int]:
    """Return the multiple of tile sides and the overlap of tiles, in pixels."""
    # At a smaller scale each of the network's pixels covers more of the picture.
    return model.multiple(scale), math.ceil(model.spec.overlap * max(1.0, 1.0 / scale))


def is_out_of_memory(error: BaseException, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether an error is a failed allocation, for a network in ``dtype``."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = _SIGNS if dtype == torch.bfloat16 else (*_SIGNS, _NO_ENGINE)
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def within_memory(work: Callable[[], Result], dtype: torch.dtype) -> Result | None:
    """Return the result of ``work``; None after a lack of memory.

    After a lack of memory all tensors of the call are released. The caller then uses less
    memory and tries again, outside of any ``except``. ``dtype``: see
    :func:`is_out_of_memory`.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error, dtype):
            raise
        # Tracebacks keep the stack frames of the failed call, and stack frames keep their
        # tensors.
        failed: BaseException | None = error
        while failed is not None:
            failed.__traceback__ = None
            failed = failed.__context__
    return None


def empty_cache(device: torch.device) -> None:
    """Give the memory that PyTorch has cached back to the device."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def _useful_batch(pixels: int, device: torch.device) -> int:
    """Return the largest batch that still makes a frame faster.

    RIFE 4.6 on one core of a CPU, milliseconds a frame, alone and in a batch of 8: 7.5 and
    4.0 at 96x64, 34 and 30 at 256x192, no difference from 480x270 on. cloud-best on an H200
    at 1920x1080, frames a second in batches of 1, 2, 4 and 8: 63, 119, 156 and 168.
    """
    full = _FULL_PIXELS_CPU if device.type == "cpu" else _FULL_PIXELS_GPU
    return max(1, min(MAX_BATCH, full // pixels))
