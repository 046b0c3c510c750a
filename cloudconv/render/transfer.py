"""Copy pictures from a device while the device computes others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cloudconv.media.upload import QUEUES


def download(planes: Sequence[Tensor], stay: Sequence[Tensor] = ()) -> Arriving:
    """Start the copy of planes from a device, which may still have to compute them.

    If main memory can be page-locked for the device, the copy is a step in the device's only queue
    of work, so that two queues never use the same memory. The CPU waits for the copy only when the
    planes are read. On other devices the copy is complete when the call returns.

    Args:
        planes: the planes to copy, all on one device.
        stay: planes that remain on the device; they come first in the result.
    """
    device = planes[0].device
    if device.type not in QUEUES:
        return Arriving([*stay, *(plane.cpu() for plane in planes)])
    here = [
        torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True).copy_(plane, non_blocking=True)
        for plane in planes
    ]
    arrived = _event(device)
    arrived.record()
    return Arriving([*stay, *here], arrived)


class Arriving:
    """Planes on their way to main memory."""

    def __init__(self, planes: list[Tensor], arrived: torch.Event | None = None) -> None:
        """Hold the planes; ``arrived`` is the mark after their copies, None if these are done."""
        self._planes, self._arrived = planes, arrived

    def planes(self) -> list[Tensor]:
        """Wait for the copies and return all planes."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._planes


def _event(device: torch.device) -> torch.Event:
    if device.type == "cuda":
        # A wait for another event, torch.Event included, keeps a core busy that the encoder needs.
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event: torch.Event = torch.get_device_module(device).Event()
    return event
