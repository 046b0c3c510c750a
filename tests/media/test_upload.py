"""All planes of a picture are copied to a device in one transfer."""

from __future__ import annotations

import torch

from cloudconv.media.upload import _parts


def test_planes_of_any_type_are_copied_in_one_transfer() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (5, 16), dtype=torch.uint8, generator=generator)
    planes = [wide[:, :7], torch.rand(3, generator=generator), wide[:3, :4].to(torch.uint16)]
    starts = [0, 48, 64, 96]
    packed = torch.zeros(starts[-1], dtype=torch.uint8)
    for plane, part in zip(planes, _parts(packed, planes, starts), strict=True):
        part.copy_(plane)
    for plane, part in zip(planes, _parts(packed.clone(), planes, starts), strict=True):
        assert part.dtype == plane.dtype
        assert torch.equal(part, plane)
