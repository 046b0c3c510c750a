"""Pictures to a device and back, while it works on others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Transfers:
    """Copies planes between main memory and one device.

    On CUDA, copies each way have a stream of their own and go through page-locked memory, so that
    they take no time from the kernels for other pictures. Elsewhere a copy is done when it returns.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            self._streams = _stream(device), _stream(device)

    def up(self, planes: Sequence[Tensor]) -> list[Tensor]:
        """The planes on the device, for kernels on its current stream. No copies on the CPU."""
        if self._streams is None:
            if self._device.type == "cpu":
                return list(planes)
            return [plane.contiguous().to(self._device) for plane in planes]
        working, (upward, _) = torch.cuda.current_stream(self._device), self._streams
        with torch.cuda.stream(upward):
            there = [
                plane.contiguous().pin_memory().to(self._device, non_blocking=True)
                for plane in planes
            ]
        working.wait_stream(upward)
        for plane in there:
            # Its memory must not be given away while a kernel may still read it.
            plane.record_stream(working)
        return there

    def down(self, planes: Sequence[Tensor]) -> Arriving:
        """Begin to copy what the kernels so far on the current stream have made."""
        if self._streams is None:
            return Arriving([plane.cpu() for plane in planes])
        _, downward = self._streams
        downward.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(downward):
            here = [
                torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True).copy_(
                    plane, non_blocking=True
                )
                for plane in planes
            ]
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(downward)
        for plane in planes:
            plane.record_stream(downward)
        return Arriving(here, arrived)


class Arriving:
    """Planes on their way to main memory."""

    def __init__(self, planes: list[Tensor], arrived: torch.cuda.Event | None = None) -> None:
        self._planes, self._arrived = planes, arrived

    def planes(self) -> list[Tensor]:
        """All of them, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._planes


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
