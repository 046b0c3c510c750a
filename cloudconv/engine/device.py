"""Which processor runs the networks, and at which precision."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from cloudconv.errors import DeviceError, SettingsError
from cloudconv.models.base import ModelSpec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` takes CUDA when it is there, then MPS, then the CPU.

    Raises:
        SettingsError: no such name.
        DeviceError: the device is not in this machine, or it does not work with this PyTorch.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise SettingsError(
            f"There is no device called {name!r}. Use auto, cpu, cuda, cuda:N or mps."
        )
    device = torch.device(name)
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not _has_mps():
        raise DeviceError(f"{name} was asked for, but this machine or this PyTorch has no MPS.")
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(f"{name} does not work with this PyTorch: {reason}") from error
    return device


def choose_precision(name: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """The type that the network's weights and activations have on ``device``.

    Args:
        name: ``auto``, ``fp32``, ``bf16`` or ``fp16``. ``auto`` takes 16 bits only where the
            hardware has them and ``spec`` says that the model's picture stays as good.

    Raises:
        SettingsError: no such name.
        DeviceError: the device cannot compute at that precision.
    """
    if name == "auto":
        if not spec.half_precision:
            return torch.float32
        if device.type == "cuda":
            return torch.float16
        if device.type == "cpu" and has_fast_bf16():
            return torch.bfloat16
        # MPS has 16-bit types, but nobody has measured the picture there yet.
        return torch.float32
    if name not in PRECISIONS:
        raise SettingsError(
            f"There is no precision called {name!r}. Use auto, {', '.join(PRECISIONS)}."
        )
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is for GPUs. On the CPU use --precision bf16 or fp32.")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError("This GPU has no bf16. Use --precision fp16 or fp32.")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """What ``choose_precision`` calls that type."""
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def has_fast_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware and PyTorch's oneDNN uses that."""
    probe = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if probe is None or not probe():
        return False
    # oneDNN also says yes to AVX-512 without these, where it emulates bf16, slower than float32.
    return not _cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def set_threads(count: int | None) -> int:
    """Use ``count`` threads inside network operations; None leaves PyTorch's default.

    Returns:
        The number in force.

    Raises:
        SettingsError: ``count`` is below 1.
    """
    if count is not None:
        if count < 1:
            raise SettingsError(f"{count} threads were asked for. Use 1 or more.")
        torch.set_num_threads(count)
    return torch.get_num_threads()


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """What the processor is called."""
    named = (x.partition(":")[2].strip() for x in _cpu_lines() if x.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _check_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise DeviceError(
            f"{device} was asked for, but there is no working CUDA GPU here, or this PyTorch was "
            "built without CUDA. Use --device cpu, or install a CUDA build of PyTorch."
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise DeviceError(
            f"{device} was asked for, but the GPUs here are numbered 0 to {count - 1}."
        )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _cpu_flags() -> set[str]:
    """The processor's features, by Linux's names. Empty where there is no way to ask."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return {str(name) for name, present in capabilities().items() if present is True}
    return {
        flag
        for line in _cpu_lines()
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }


def _cpu_lines() -> list[str]:
    """What Linux says of its processors; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
