"""Copy the planes of pictures to a device, and back while the device computes others."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

QUEUES = ("cuda", "xpu")
"""Devices that copy from page-locked memory in the order of their work, while the CPU
continues."""

PADDING = 64  # bytes behind each plane in page-locked memory; FFmpeg's codecs may read them
_ALIGNMENT = 16  # bytes


def start_gpu(name: str) -> None:
    """Start a CUDA GPU in another thread, which takes a second.

    The name is ``auto``, ``cuda``, ``cuda:N`` or ``cuda:all``; nothing starts for another
    one. The thread loads the libraries of convolutions, too. Errors are left to the first
    use of the GPU.
    """
    kind, _, number = name.partition(":")
    if kind in ("auto", "cuda") and torch.cuda.is_available():
        device = torch.device("cuda", int(number) if number.isdecimal() else 0)
        # Python waits for this thread at its end: CUDA must not end while it starts.
        threading.Thread(target=_convolve, args=(device,), name="cloudconv-gpu").start()


@torch.no_grad()
def _convolve(device: torch.device) -> None:
    with suppress(RuntimeError):
        for dtype in (torch.float32, torch.float16):
            picture = torch.zeros((1, 8, 32, 32), dtype=dtype, device=device)
            torch.nn.functional.conv2d(picture, picture[:, :, :3, :3])
        torch.cuda.synchronize(device)


def upload(planes: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Return planes on a device. All planes in main memory are sent in one copy."""
    device = torch.device(device)
    here = [plane for plane in planes if plane.device.type == "cpu"]
    if device.type == "cpu" or not here:
        return list(planes)
    is_queued = device.type in QUEUES
    packed = pack(here, pin_memory=is_queued).to(device, non_blocking=is_queued)
    sent = iter(unpack(packed, here))
    return [next(sent) if plane.device.type == "cpu" else plane for plane in planes]


def pack(planes: Sequence[Tensor], *, pin_memory: bool = False) -> Tensor:
    """Return the bytes of all planes in one tensor."""
    packed = torch.empty(_starts(planes)[-1], dtype=torch.uint8, pin_memory=pin_memory)
    for plane, copy in zip(planes, unpack(packed, planes), strict=True):
        np.copyto(copy.numpy(), plane.numpy())  # copy_ would wake every thread of PyTorch
    return packed


def unpack(packed: Tensor, planes: Sequence[Tensor]) -> list[Tensor]:
    """Return each plane's part of ``packed`` as a view with the plane's type and shape."""
    return [
        packed[start : start + plane.nbytes].view(plane.dtype).view(plane.shape)
        for plane, (start, _) in zip(planes, pairwise(_starts(planes)), strict=True)
    ]


def _starts(planes: Sequence[Tensor]) -> list[int]:
    sizes = (plane.nbytes + -plane.nbytes % _ALIGNMENT for plane in planes)
    return list(accumulate(sizes, initial=0))


@dataclass(frozen=True, slots=True, eq=False)
class Arriving:
    """Planes on their way to main memory; the event is None if they are there."""

    _planes: list[Tensor]
    _arrived: torch.Event | None = None

    def planes(self) -> list[Tensor]:
        """Wait for the copies and return all planes."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._planes


def download(planes: Sequence[Tensor], stay: Sequence[Tensor] = ()) -> Arriving:
    """Start the copy of planes from a device, which may still have to compute them.

    If main memory can be page-locked for the device, the copy is a step in the device's
    only queue of work, so that two queues never use the same memory. The CPU waits for the
    copy only when the planes are read. On other devices the copy is complete when the call
    returns. The planes that ``stay`` on the device come first in the result.
    """
    device = planes[0].device
    if device.type not in QUEUES:
        return Arriving([*stay, *(plane.cpu() for plane in planes)])
    here = [_page_locked(plane).copy_(plane, non_blocking=True) for plane in planes]
    if device.type == "cuda":
        # A wait for another event, torch.Event included, keeps a core busy that the encoder
        # needs.
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    else:
        arrived = torch.get_device_module(device).Event()
    # The copies run in the queue of the planes' device, which need not be the current one.
    arrived.record(torch.get_device_module(device).current_stream(device))
    return Arriving([*stay, *here], arrived)


def _page_locked(plane: Tensor) -> Tensor:
    memory = torch.empty(plane.nbytes + PADDING, dtype=torch.uint8, pin_memory=True)
    return memory[: plane.nbytes].view(plane.dtype).view(plane.shape)
