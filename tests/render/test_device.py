"""The choice of device, precision and threads, and messages for impossible choices."""

import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from cloudconv import transfer
from cloudconv.errors import DeviceError, SettingsError
from cloudconv.models import registry
from cloudconv.render import device as device_module
from cloudconv.render.device import (
    auto_warnings,
    choose_device,
    choose_precision,
    exact_arithmetic,
    machine_fingerprint,
    set_threads,
)

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
RIFE = registry.spec("rife-4.6")


@pytest.fixture
def simulated(monkeypatch):
    """Simulate an accelerator that computes as the CPU does.

    Return the devices put in use.
    """
    used = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda: torch.device("cuda")
    )
    monkeypatch.setattr(device_module, "use_device", used.append)
    device_module._auto.cache_clear()
    yield used
    device_module._auto.cache_clear()


def test_auto_uses_an_accelerator_that_passes_the_probe(simulated, monkeypatch):
    real = device_module._exercise
    monkeypatch.setattr(device_module, "_exercise", lambda _, dtype: real(CPU, dtype))
    assert choose_device() == CUDA
    assert auto_warnings("auto") == []
    assert set(simulated) == {CUDA}


@pytest.mark.parametrize("fault", ["grid_sample", "nan", "wrong"])
def test_auto_says_why_an_accelerator_is_not_used(simulated, monkeypatch, fault):
    real = device_module._exercise

    def broken(device, dtype):
        result = real(CPU, dtype)
        if device == CPU:
            return result
        if fault == "grid_sample":
            raise NotImplementedError(
                "grid_sampler_2d_border is not for this device.\nSee ..."
            )
        return result * torch.nan if fault == "nan" else result + 0.01

    monkeypatch.setattr(device_module, "_exercise", broken)
    assert choose_device() == CPU
    (said,) = map(str, auto_warnings("auto"))
    assert said.startswith("The CPU is used, because cuda failed a trial: ")
    assert said.count("\n") == 0
    assert auto_warnings("cpu") == []


def test_float32_is_exact_and_repeatable_until_the_last_block_ends():
    exact = device_module._EXACT

    def settings():
        return [getattr(of, name) for of, name, _ in exact]

    before = settings()
    first = exact_arithmetic()
    second = exact_arithmetic()
    try:
        for (of, name, _), value in zip(exact, ("tf32", "tf32", False), strict=True):
            setattr(of, name, value)
        for block in (first, second):
            block.__enter__()
        first.__exit__(None, None, None)
        assert settings() == ["ieee", "ieee", True]
        second.__exit__(None, None, None)
        assert settings() == ["tf32", "tf32", False]
    finally:
        for (of, name, _), value in zip(exact, before, strict=True):
            setattr(of, name, value)


def test_each_thread_sets_its_device(monkeypatch):
    current = []
    monkeypatch.setattr(torch.accelerator, "set_device_index", current.append)
    device_module.use_device(torch.device("cuda", 1))
    assert current == [1]


def test_bfloat16_support_is_that_of_the_chosen_gpu_without_emulation(monkeypatch):
    used = []
    monkeypatch.setattr(
        torch.cuda, "device", lambda which: used.append(which) or nullcontext()
    )
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation,
    )
    with pytest.raises(DeviceError, match="no bf16"):
        choose_precision("bf16", torch.device("cuda", 1), RIFE)
    assert used == [torch.device("cuda", 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_an_error():
    with pytest.raises(DeviceError, match=r"cuda:7 was given.*`device=.cpu.`"):
        choose_device("cuda:7")


@pytest.mark.parametrize("name", ["potato", "cuda:", "CPU", ""])
def test_an_unknown_device_is_a_usage_error_that_lists_the_devices(name):
    with pytest.raises(SettingsError, match="auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_auto_precision_is_16_bit_only_where_hardware_and_model_allow(monkeypatch):
    def chosen(
        device, model=True, bf16=True, name="Tesla T4", capability=(7, 5), fault=None
    ):
        monkeypatch.setattr(device_module, "has_fast_bf16", lambda: bf16)
        monkeypatch.setattr(device_module, "fault_of", lambda device, dtype: fault)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        return choose_precision("auto", device, replace(RIFE, half_precision=model))

    assert chosen(CPU) == torch.bfloat16
    assert chosen(CUDA) == torch.float16
    assert {
        chosen(CPU, model=False),
        chosen(CUDA, model=False),
        chosen(CPU, bf16=False),
        chosen(CUDA, fault="wrong"),
        chosen(CUDA, capability=(6, 1)),  # fp16 is slower on this GPU
        chosen(CUDA, name="NVIDIA GeForce GTX 1660"),  # gives NaN in fp16
    } == {torch.float32}


def test_a_chosen_precision_is_used_or_refused():
    assert choose_precision("fp32", CUDA, RIFE) == torch.float32
    assert choose_precision("bf16", CPU, RIFE) == torch.bfloat16
    assert choose_precision("fp16", CUDA, RIFE) == torch.float16
    unsafe = replace(RIFE, half_precision=False)
    assert choose_precision("fp16", CUDA, unsafe) == torch.float32
    with pytest.raises(DeviceError, match=r"precision=.bf16.` or fp32"):
        choose_precision("fp16", CPU, RIFE)


def test_the_number_of_threads_applies_in_other_threads():
    before = torch.get_num_threads()
    seen = []
    try:
        set_threads(1)
        worker = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        worker.start()
        worker.join()
        assert seen == [1]
        set_threads(None)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_fingerprint_names_all_gpus_of_a_run(monkeypatch):
    gpus = ["B", "A", "B"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(
        torch.cuda, "get_device_name", lambda gpu: gpus[getattr(gpu, "index", gpu) or 0]
    )
    device = torch.device("cuda", 0)
    alone = machine_fingerprint(device)["device"]
    every = machine_fingerprint(device, each_gpu=True)["device"]
    assert (alone.split(",")[0], every.split(",")[0]) == ("B", "A and B")
    gpus[1] = "B"
    assert machine_fingerprint(device, each_gpu=True)["device"] == alone


def test_fast_bf16_is_found_by_the_flags_of_the_cpu(monkeypatch):
    is_fast = device_module.has_fast_bf16()
    with monkeypatch.context() as patch:
        patch.delattr(torch.cpu, "get_capabilities", raising=False)
        assert device_module.has_fast_bf16() == is_fast or not device_module._cpu_flags()
    emulated = {"avx2", "avx512f", "avx512_vnni"}
    monkeypatch.setattr(device_module, "_cpu_flags", lambda: emulated)
    assert not device_module.has_fast_bf16()


@pytest.mark.parametrize(
    ("name", "started"),
    [
        ("auto", 0),
        ("cuda", 0),
        ("cuda:3", 3),
        ("cuda:all", 0),
        ("cpu", None),
        ("mps", None),
    ],
)
def test_the_gpu_that_was_given_starts_early(monkeypatch, name, started):
    devices = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *_, device, **__: refuse(devices, device))
    transfer.start_gpu(name)
    for thread in threading.enumerate():
        if thread.name.endswith("(_convolve)"):
            thread.join()
    assert devices == ([] if started is None else [torch.device("cuda", started)])


def refuse(devices, device):
    """Note the device, and fail as a GPU that is in use does: the first use says so."""
    devices.append(device)
    raise RuntimeError("all CUDA-capable devices are busy or unavailable")
