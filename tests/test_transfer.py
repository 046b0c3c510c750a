"""Copies between host and device: none on the CPU, and waits that leave the core to others."""

import torch

from cloudconv.transfer import Arriving, download, pack, unpack, upload


def test_upload_to_the_cpu_copies_nothing():
    plane = torch.arange(6).reshape(2, 3)
    assert upload([plane], "cpu")[0] is plane
    assert torch.equal(download([plane]).planes()[0], plane)


def test_planes_are_read_after_the_transfer_ends():
    plane = torch.zeros(2)

    class Slow:
        def record(self):
            raise AssertionError

        def synchronize(self):
            plane.fill_(1)

    assert Arriving([plane], Slow()).planes()[0].sum() == 2


def test_packed_planes_of_any_type_and_stride_are_unchanged():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (5, 16), dtype=torch.uint8, generator=generator)
    planes = [wide[:, :7], torch.rand(3, generator=generator), wide[:3, :4].to(torch.uint16)]
    parts = unpack(pack(planes).clone(), planes)
    assert [part.dtype for part in parts] == [torch.uint8, torch.float32, torch.uint16]
    assert all(torch.equal(part, plane) for part, plane in zip(parts, planes, strict=True))
    assert all(part.storage_offset() * part.element_size() % 16 == 0 for part in parts)
