"""Send the planes of a picture to a device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

QUEUES = ("cuda", "xpu")
"""Devices that copy from page-locked memory in the order of their work, while the CPU continues."""

_ALIGNMENT = 16  # bytes


def upload(planes: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Return planes on a device. All planes in main memory are sent in one copy."""
    device = torch.device(device)
    here = [plane for plane in planes if plane.device.type == "cpu"]
    if device.type == "cpu" or not here:
        return list(planes)
    starts = [0]
    for plane in here:
        starts.append(starts[-1] + plane.nbytes + -plane.nbytes % _ALIGNMENT)
    is_queued = device.type in QUEUES
    packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=is_queued)
    for plane, part in zip(here, _parts(packed, here, starts), strict=True):
        part.copy_(plane)
    sent = iter(_parts(packed.to(device, non_blocking=is_queued), here, starts))
    return [next(sent) if plane.device.type == "cpu" else plane for plane in planes]


def _parts(packed: Tensor, planes: Sequence[Tensor], starts: Sequence[int]) -> list[Tensor]:
    """Return each plane's part of ``packed`` as a view with the plane's type and shape."""
    return [
        packed[start : start + plane.nbytes].view(plane.dtype).view(plane.shape)
        for plane, (start, _) in zip(planes, pairwise(starts), strict=True)
    ]
