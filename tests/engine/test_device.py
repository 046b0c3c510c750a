"""Devices, precisions and memory: what is chosen, and what is said when it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.engine import device as device_module
from cloudconv.engine import memory
from cloudconv.engine.device import (
    auto_remarks,
    choose_device,
    choose_precision,
    precision_name,
    probe,
    set_threads,
)
from cloudconv.engine.memory import free_memory, is_out_of_memory, plan_memory
from cloudconv.engine.tiling import round_up, smallest_tile
from cloudconv.errors import DeviceError, ModelError, SettingsError
from cloudconv.models import registry

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
RIFE = registry.spec("rife-4.6")
GIB = 2**30


def test_auto_finds_a_device_that_works() -> None:
    found = choose_device()
    assert torch.ones(2, device=found).sum() == 2
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert found == CPU


def test_the_cpu_can_be_asked_for() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_cpu_passes_the_probe(dtype: torch.dtype) -> None:
    assert probe(CPU, dtype) is None


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """A machine with an accelerator that computes as its CPU does; the devices put in use."""
    used: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(device_module, "use_device", used.append)
    device_module._auto.cache_clear()
    yield used
    device_module._auto.cache_clear()


def test_auto_takes_an_accelerator_that_passes_the_probe(
    pretended: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = device_module._exercise
    monkeypatch.setattr(device_module, "_exercise", lambda _, dtype: real(CPU, dtype))
    assert choose_device() == CUDA
    assert auto_remarks("auto") == []
    assert set(pretended) == {CUDA}


@pytest.mark.parametrize("fault", ["grid_sample", "nan", "wrong"])
def test_auto_says_why_it_leaves_an_accelerator_out(
    pretended: list[torch.device], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    real = device_module._exercise

    def broken(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        made = real(CPU, dtype)
        if device == CPU:
            return made
        if fault == "grid_sample":
            raise NotImplementedError("grid_sampler_2d_border is not for this device.\nSee ...")
        return made * torch.nan if fault == "nan" else made + 0.01

    monkeypatch.setattr(device_module, "_exercise", broken)
    assert choose_device() == CPU
    (said,) = auto_remarks("auto")
    assert said.startswith("The CPU works, not cuda, which failed a trial: ")
    assert said.count("\n") == 0
    assert auto_remarks("cpu") == []


def test_float32_has_all_its_bits_and_the_device_is_the_threads_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", current.append)
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        device_module.use_device(torch.device("cuda", 1))
        assert [switch.allow_tf32 for switch in switches] == [False, False]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
    assert current == [1]


def test_emulated_bfloat16_does_not_count_on_a_gpu_and_the_right_one_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "device", lambda which: asked.append(which) or nullcontext())
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    with pytest.raises(DeviceError, match="no bf16"):
        choose_precision("bf16", torch.device("cuda", 1), RIFE)
    assert asked == [torch.device("cuda", 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(DeviceError, match=f"{name} was asked for.*--device cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["potato", "cuda:", "cuda:all", "CPU", ""])
def test_an_unknown_device_is_a_usage_error_that_names_the_known(name: str) -> None:
    with pytest.raises(SettingsError, match="auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_auto_precision_is_16_bit_only_where_hardware_and_model_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    safe, unsafe = replace(RIFE, half_precision=True), replace(RIFE, half_precision=False)
    monkeypatch.setattr(device_module, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(device_module, "probe", lambda device, dtype: None)
    assert choose_precision("auto", CPU, safe) == torch.bfloat16
    assert choose_precision("auto", CUDA, safe) == torch.float16
    assert choose_precision("auto", CPU, unsafe) == torch.float32
    assert choose_precision("auto", CUDA, unsafe) == torch.float32
    monkeypatch.setattr(device_module, "has_fast_bf16", lambda: False)
    assert choose_precision("auto", CPU, safe) == torch.float32
    monkeypatch.setattr(device_module, "probe", lambda device, dtype: "wrong")
    assert choose_precision("auto", CUDA, safe) == torch.float32


def test_explicit_precisions_are_honoured_or_refused() -> None:
    unsafe = replace(RIFE, half_precision=False)
    assert choose_precision("fp32", CUDA, RIFE) == torch.float32
    assert choose_precision("bf16", CPU, unsafe) == torch.bfloat16
    assert choose_precision("fp16", CUDA, unsafe) == torch.float16
    with pytest.raises(DeviceError, match="bf16 or fp32"):
        choose_precision("fp16", CPU, RIFE)
    with pytest.raises(SettingsError, match="auto, fp32, bf16, fp16"):
        choose_precision("fp8", CPU, RIFE)


def test_precisions_have_names() -> None:
    for name in ("fp32", "bf16"):
        assert precision_name(choose_precision(name, CPU, RIFE)) == name


def test_emulated_bf16_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_cpu_flags", lambda: {"avx2", "avx512f", "avx512_vnni"})
    assert not device_module.has_fast_bf16()


def test_the_processor_is_recognised_without_pytorchs_help(monkeypatch: pytest.MonkeyPatch) -> None:
    known = device_module.has_fast_bf16()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device_module.has_fast_bf16() == known or not device_module._cpu_flags()


def test_threads_hold_in_other_threads_too() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    try:
        assert set_threads(1) == 1
        worker = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        worker.start()
        worker.join()
        assert seen == [1]
        assert set_threads(None) == 1
    finally:
        torch.set_num_threads(before)


def test_no_threads_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 or more"):
        set_threads(0)


def test_free_memory_is_plausible() -> None:
    free = free_memory(CPU)
    assert free is None or 2**20 < free < 2**50


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("memory.max", "memory.current", "memory.stat")]
    for file, text in zip(
        files, ["3000000", "1000000", "anon 5\ninactive_file 500000"], strict=True
    ):
        file.write_text(text)
    monkeypatch.setattr(memory, "_CGROUPS", ((str(files[0]), str(files[1]), str(files[2])),))
    assert free_memory(CPU) == 2_500_000
    files[0].write_text("max")
    assert free_memory(CPU) != 2_500_000


def test_4k_is_not_tiled_on_a_machine_with_24_gib() -> None:
    plan = plan_memory(registry.load("tiny"), 3840, 2160, device=CPU, free_bytes=20 * GIB)
    assert plan.tile is None
    assert plan.batch == 1
    assert 0 < plan.memory_bytes < 20 * GIB


@settings(deadline=None, max_examples=60)
@given(
    st.integers(16, 8000),
    st.integers(16, 8000),
    st.integers(2**20, 64 * GIB),
    st.sampled_from(["auto", 1, 5, 64]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_a_plan_fits_into_what_is_free(
    width: int, height: int, free: int, batch: int, scale: float
) -> None:
    model = RIFE.build()
    multiple, overlap = memory.grid(model, scale)
    plan = plan_memory(model, width, height, device=CPU, batch=batch, scale=scale, free_bytes=free)
    smallest = smallest_tile(overlap, multiple)
    longest = round_up(max(width, height), multiple)
    assert plan.batch >= 1
    assert plan.tile is None or (plan.tile % multiple == 0 and smallest <= plan.tile < longest)
    tried_hardest = plan.batch == 1 and (plan.tile == smallest or longest <= smallest)
    assert plan.memory_bytes <= free or tried_hardest
    more = plan_memory(
        model, width, height, device=CPU, batch=batch, scale=scale, free_bytes=2 * free
    )
    assert (more.tile or longest) >= (plan.tile or longest)


def test_small_frames_share_a_batch_and_large_ones_do_not() -> None:
    model = registry.load("tiny")
    assert plan_memory(model, 96, 64, device=CPU).batch > 1
    assert plan_memory(model, 1920, 1080, device=CPU).batch == 1


@pytest.mark.parametrize(
    ("option", "said"),
    [({"batch": 0}, "batch of 0"), ({"tile": 8}, "Tiles of 8 pixels"), ({"tile": -1}, "Tiles of")],
)
def test_settings_out_of_range_are_refused(option: dict[str, int], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plan_memory(registry.load("tiny"), 96, 64, device=CPU, **option)  # type: ignore[arg-type]


def test_a_scale_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(ModelError, match="scale"):
        plan_memory(registry.load("tiny"), 96, 64, device=CPU, scale=0.5)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_no_engine_for_bfloat16_is_no_lack_of_memory() -> None:
    error = RuntimeError("GET was unable to find an engine to execute this computation")
    assert is_out_of_memory(error, torch.float16)
    assert not is_out_of_memory(error, torch.bfloat16)


def test_a_real_failed_allocation_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
