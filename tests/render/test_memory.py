"""Free memory, plans of its use, errors for lack of it, and copies to or from devices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv import host
from cloudconv.models import registry
from cloudconv.render import memory
from cloudconv.render.memory import WantedSizes, is_out_of_memory, plan_memory
from cloudconv.render.tiling import round_up, smallest_tile
from cloudconv.transfer import Arriving, download, pack, unpack, upload

CPU = torch.device("cpu")
RIFE = registry.spec("rife-4.6")
GIB = 2**30


def test_small_frames_are_batched_and_4k_is_not_tiled_on_a_machine_with_24_gib():
    model = registry.load("tiny")
    assert plan_memory(model, 96, 64, device=CPU).sizes.batch > 1
    assert plan_memory(model, 1920, 1080, device=CPU).sizes.batch == 1
    plan = plan_memory(model, 3840, 2160, device=CPU, free_bytes=20 * GIB)
    assert (plan.sizes.tile, plan.sizes.batch) == (None, 1)
    assert 0 < plan.memory_bytes < 20 * GIB


@pytest.mark.full
@settings(deadline=None, max_examples=60)
@given(
    st.integers(16, 8000),
    st.integers(16, 8000),
    st.integers(2**20, 64 * GIB),
    st.sampled_from(["auto", 1, 5, 64]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_a_plan_fits_into_free_memory_or_is_the_smallest(width, height, free, batch, scale):
    model = RIFE.build()
    multiple, overlap = memory.grid(model, scale)
    options = {"device": CPU, "wanted": WantedSizes(batch), "scale": scale}
    plan = plan_memory(model, width, height, **options, free_bytes=free)
    smallest = smallest_tile(overlap, multiple)
    longest = round_up(max(width, height), multiple)
    assert plan.sizes.batch >= 1
    assert plan.sizes.tile is None or (
        plan.sizes.tile % multiple == 0 and smallest <= plan.sizes.tile < longest
    )
    is_smallest = plan.sizes.batch == 1 and (
        plan.sizes.tile == smallest or longest <= smallest
    )
    assert plan.memory_bytes <= free or is_smallest
    more = plan_memory(model, width, height, **options, free_bytes=2 * free)
    assert (more.sizes.tile or longest) >= (plan.sizes.tile or longest)


def test_strips_of_a_cpu_and_16_bits_need_less_memory():
    """So that 4K frames need no tiles on a small machine."""
    model = registry.spec("cloud-fast").build()
    on_cpu, on_mps = (
        plan_memory(model, 3840, 2160, device=torch.device(name), free_bytes=5 * GIB)
        for name in ("cpu", "mps")
    )
    assert on_cpu.sizes.tile is None
    assert on_mps.sizes.tile is not None
    full, half = (
        plan_memory(registry.load("tiny", dtype=dtype), 1920, 1080, device=CPU)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.memory_bytes < full.memory_bytes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("FIND was unable to find an engine to execute this computation"),
            True,
        ),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
            True,
        ),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_distinguished_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_missing_support_for_bfloat16_and_a_real_failed_allocation_are_recognised():
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert is_out_of_memory(error, torch.float16)
    assert not is_out_of_memory(error, torch.bfloat16)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)


def test_free_memory_is_within_the_limit_of_the_container(monkeypatch, tmp_path):
    texts = {"memory.max": "3000000", "memory.current": "1000000"}
    texts["memory.stat"] = "anon 5\ninactive_file 500000"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(host, "_CGROUP_FOLDER", tmp_path)
    monkeypatch.setattr(host, "_OWN_CGROUPS", tmp_path / "own")
    assert host.free_memory() == 2_500_000
    (tmp_path / "memory.max").write_text("max")
    assert host.free_memory() != 2_500_000


@pytest.mark.parametrize(
    ("line", "folder"),
    [("0::/outer/inner", "outer"), ("4:cpu,memory:/outer", "memory/outer")],
)
def test_the_limit_of_a_group_inside_another_one_counts(
    monkeypatch, tmp_path, line, folder
):
    inside = tmp_path / folder
    inside.mkdir(parents=True)
    version = {"memory.max": "7000", "memory.current": "1000"}
    if folder.startswith("memory"):
        version = {"memory.limit_in_bytes": "7000", "memory.usage_in_bytes": "1000"}
    for name, text in (version | {"memory.stat": "anon 5"}).items():
        (inside / name).write_text(text)
    (tmp_path / "own").write_text(f"7:pids:/other\n{line}\n")
    monkeypatch.setattr(host, "_CGROUP_FOLDER", tmp_path)
    monkeypatch.setattr(host, "_OWN_CGROUPS", tmp_path / "own")
    assert host.free_memory() == 6000


def test_upload_to_the_cpu_copies_nothing():
    plane = torch.arange(6).reshape(2, 3)
    assert upload([plane], "cpu")[0] is plane
    assert torch.equal(download([plane]).planes()[0], plane)


def test_planes_are_read_after_the_transfer_ends():
    plane = torch.zeros(2)

    class Slow:
        def synchronize(self):
            plane.fill_(1)

    assert Arriving([plane], Slow()).planes()[0].sum() == 2


def test_packed_planes_of_any_type_and_stride_are_unchanged():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (5, 16), dtype=torch.uint8, generator=generator)
    planes = [
        wide[:, :7],
        torch.rand(3, generator=generator),
        wide[:3, :4].to(torch.uint16),
    ]
    parts = unpack(pack(planes).clone(), planes)
    for unpacked, plane in zip(parts, planes, strict=True):
        assert unpacked.dtype == plane.dtype
        assert torch.equal(unpacked, plane)
        assert unpacked.storage_offset() * unpacked.element_size() % 16 == 0
