"""Choose the processor that runs the networks, and the precision; identify the machine."""

import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from cloudconv.errors import DeviceError
from cloudconv.events import Warned
from cloudconv.host import cpu_lines
from cloudconv.media.containers.ffmpeg import FFMPEG
from cloudconv.models.blocks import Block
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import resize, warp
from cloudconv.settings import values

_FAST_FP16 = (7, 0)
"""The first compute capability with fast fp16; most earlier GPUs are slower in fp16."""

_cudnn: Any = torch.backends.cudnn
_matmul: Any = torch.backends.cuda.matmul
_TF32: tuple[tuple[Any, str, Any], ...] = (
    ((_cudnn.conv, "fp32_precision", "ieee"), (_matmul, "fp32_precision", "ieee"))
    if hasattr(_matmul, "fp32_precision")
    # Before PyTorch 2.9.
    else ((_cudnn, "allow_tf32", False), (_matmul, "allow_tf32", False))
)
_EXACT = (*_TF32, (_cudnn, "deterministic", True))
# A garbage collection may close a block in the same thread.
_settings_lock = threading.RLock()
_settings_before: list[tuple[Any, str, Any]] = []
_open_blocks: list[None] = []

_OPENCV_THREADS = 2

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name`` and make it the current one of this thread.

    The name is ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``xpu``. ``auto`` is the
    accelerator that PyTorch finds if it passes a small trial, else the CPU. Raises
    SettingsError for an unknown name, and DeviceError if the device is missing or does not
    work.
    """
    if name == "auto":
        device = _auto()[0]
    else:
        device = torch.device(values.device(name))
        _check_there(device)
        try:
            torch.zeros(1, device=device)
        except RuntimeError as error:
            raise DeviceError(
                f"device-fails: {name} does not work with this PyTorch ({_line(error)}): "
                "use --device=cpu."
            ) from error
    use_device(device)
    return device


def auto_warnings(name: str) -> list[Warned]:
    """Return a warning if ``name`` is ``auto`` and the accelerator failed its trial."""
    return [*_auto()[1]] if name == "auto" else []


def use_device(device: torch.device) -> None:
    """Make a device the current one of this thread.

    Every thread that uses the device calls this function. Tensors determine the device of
    PyTorch's operations, but page-locked memory and events belong to the current device.
    """
    if device.index is not None and device.type != "cpu":
        torch.accelerator.set_device_index(device.index)


@contextmanager
def restored() -> Iterator[None]:
    """Restore the numbers of threads and the thread's current GPU after a block."""
    threads = torch.get_num_threads()
    opencv = _opencv()
    opencv_threads = 0 if opencv is None else opencv.getNumThreads()
    # To ask for the current GPU would start CUDA, in which the first GPU is the current
    # one.
    cuda: Any = torch.cuda
    gpu = cuda.current_device() if cuda.is_initialized() else 0
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if opencv is not None:
            opencv.setNumThreads(opencv_threads)
        if cuda.is_initialized():
            cuda.set_device(gpu)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute exactly in all threads of this process during a block.

    float32 is exact (the mantissa of NVIDIA's TF32 has 10 bits). Convolutions are
    deterministic, so that one GPU makes the same frames in every run. The last of several
    blocks that are open at once restores the settings of the program around them.
    """
    with _settings_lock:
        if not _open_blocks:
            _settings_before[:] = [(*at, getattr(*at)) for *at, _ in _EXACT]
            for of, name, value in _EXACT:
                setattr(of, name, value)
        _open_blocks.append(None)
    try:
        yield
    finally:
        with _settings_lock:
            _open_blocks.pop()
            for of, name, value in () if _open_blocks else _settings_before:
                setattr(of, name, value)


def fault_of(device: torch.device, dtype: torch.dtype) -> str | None:
    """Compare a device in ``dtype`` with the CPU in float32.

    Return the fault in words, or None.
    """
    try:
        with exact_arithmetic():
            result = _exercise(device, dtype).cpu()
    except (RuntimeError, ValueError) as error:
        return _line(error)
    off = (result - _exercise(torch.device("cpu"), torch.float32)).abs().max()
    most = 1e-3 if dtype == torch.float32 else 0.1
    # A difference that is not a number counts as large.
    return (
        None
        if off <= most
        else f"its results differ from those of the CPU by {float(off):.2g}"
    )


def machine_fingerprint(device: torch.device, *, each_gpu: bool = False) -> dict[str, str]:
    """Return the kind of device, and the versions of all libraries that can change a pixel.

    With ``each_gpu`` all GPUs of this machine compute, and the result names all their
    kinds.
    """
    kind = device.type
    if kind == "cuda":
        gpus = range(torch.cuda.device_count()) if each_gpu else [device]
        kind = " and ".join(sorted({torch.cuda.get_device_name(gpu) for gpu in gpus}))
    return {
        "device": f"{kind}, {platform.machine()}",
        "version of cloudconv": metadata.version("cloudconv"),
        "version of PyTorch": torch.__version__,
        "version of PyAV": f"{metadata.version('av')}, FFmpeg {FFMPEG}",
    }


def choose_precision(
    name: str, device: torch.device, spec: ModelSpec | None
) -> torch.dtype:
    """Return the type of the network's weights and activations on ``device``.

    The name is ``auto``, ``fp32``, ``bf16`` or ``fp16``. ``auto`` chooses fp16 on a CUDA
    GPU and bf16 on a CPU where the hardware is fast with them, else fp32, which ncnn may
    make faster, see :mod:`cloudconv.models.engines`. For a published network ``auto`` is
    fp32. A model whose ``spec`` excludes 16 bits runs in float32 whatever the name, as what
    has no network does. Raises SettingsError for an unknown name, DeviceError if the device
    cannot compute at that precision.
    """
    if spec is None:
        return torch.float32
    if name == "auto":
        if not spec.half_precision or spec.published:
            return torch.float32
        if device.type == "cuda":
            fast = torch.cuda.get_device_capability(device) >= _FAST_FP16
            # GPUs of this generation give NaN for some convolutions in fp16.
            fast = fast and "GTX 16" not in torch.cuda.get_device_name(device)
            sound = fast and fault_of(device, torch.float16) is None
            return torch.float16 if sound else torch.float32
        if device.type == "cpu" and has_fast_bf16():
            return torch.bfloat16
        # MPS has 16-bit types, but nobody has measured the picture there yet.
        return torch.float32
    if name == "fp16" and device.type == "cpu":
        raise DeviceError(
            "fp16-on-cpu: fp16 is for GPUs: on the CPU use --precision=bf16 or fp32."
        )
    if name == "bf16" and not has_bf16(device):
        raise DeviceError("no-bf16: This GPU has no bf16: use --precision=auto.")
    return PRECISIONS[name] if spec.half_precision else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """Return the name of a type, as :func:`choose_precision` takes it."""
    return next(name for name, precision in PRECISIONS.items() if precision == dtype)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device itself computes in bfloat16."""
    if device.type != "cuda":
        return device.type == "cpu" or fault_of(device, torch.bfloat16) is None
    # PyTorch answers for the current device. Convolutions in bfloat16 are never emulated.
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def has_fast_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware, and oneDNN uses that."""
    probe = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if probe is None or not probe():
        return False
    # oneDNN also reports bf16 for AVX-512 without these flags, where bf16 is emulated and
    # slow.
    return not _cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def set_threads(count: int | None) -> None:
    """Use ``count`` threads inside network operations, None for no change.

    OpenCV uses few of them in any case: its pictures are small, and each call wakes all of
    its threads.
    """
    if count is not None:
        torch.set_num_threads(count)
    if (opencv := _opencv()) is not None:
        opencv.setNumThreads(min(count or cores(), _OPENCV_THREADS))


def _opencv() -> Any:
    """Return OpenCV's module, None for a command that does not use OpenCV."""
    return sys.modules.get("cv2")


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _auto() -> tuple[torch.device, list[Warned]]:
    cpu = torch.device("cpu")
    if not torch.accelerator.is_available():
        return cpu, []
    device = torch.accelerator.current_accelerator()
    assert device is not None
    use_device(device)
    wrong = fault_of(device, torch.float32)
    if wrong is None:
        return device, []
    text = f"The CPU is used, because {device.type} failed a trial: {wrong}."
    return cpu, [Warned(f"accelerator-failed: {text}")]


@torch.no_grad()
def _exercise(device: torch.device, dtype: torch.dtype) -> Tensor:
    numbers = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 3, 32, 32), generator=numbers).to(device)
    # The usual random weights would change the caller's random numbers.
    with torch.device("meta"):
        block = Block(3, 16, 2, depth=1)
    for weight in block.to_empty(device="cpu").parameters():
        weight.copy_(torch.rand(weight.shape, generator=numbers) - 0.5)
    warped = warp(picture, block.to(device, dtype)(picture))
    return resize(resize(warped, 0.5), 2)


def _check_there(device: torch.device) -> None:
    if device.type == "cpu":
        return
    there = torch.get_device_module(device)
    count = there.device_count() if there.is_available() else 0
    if (device.index or 0) >= count:
        raise DeviceError(
            f"no-device: {device} was given, but this machine has {count or 'no'} working "
            f"{('CUDA GPU' if device.type == 'cuda' else f'{device.type} device')}"
            f"{'s' * (count > 1)}, numbered from 0, or this PyTorch was built without it: "
            "use --device=cpu, or install a build of PyTorch that has it."
        )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _cpu_flags() -> set[str]:
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return {str(name) for name, present in capabilities().items() if present is True}
    flags: set[str] = set()
    for line in cpu_lines():
        if line.startswith(("flags", "Features")):
            flags.update(line.partition(":")[2].split())
    return flags
