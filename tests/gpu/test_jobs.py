"""Other commands on a GPU follow the rules of CUDA and make what the CPU makes."""

import copy
import importlib
import math

import pytest
import torch

import cloudconv
from cloudconv.events import Progress
from cloudconv.models import registry
from cloudconv.render.device import choose_device, choose_precision, exact_arithmetic
from cloudconv.settings import TrainSettings
from tests.gpu import simulation
from tests.gpu.simulation import in_loop
from tests.gpu.test_interp import NEAREST, decibels
from tests.helpers.dreams import clouds, video
from tests.helpers.factory import read_planes, write_clip
from tests.helpers.trainees import moving

ANALYSIS = (
    "metrics.py",
    "models/baselines.py",
    "models/voxelflow.py",
    "forecasting/scene.py",
)
"""Modules that look at the frames before a forecast; there the CPU computes, too."""
FORECASTERS = [spec.name for spec in registry.MODELS if spec.task == "predict"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "a.mkv"
    return moving(path, 16, size=(96, 64))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "sky.mkv"
    return write_clip(path, [video(p, "yuv444p") for p in clouds(24, (96, 64))], rate=25)


def between_frames(monkeypatch, module, name):
    """Return a list that gets a copy of the record before each new frame of a job.

    ``name``: the function of the module that makes a frame.
    """
    seen = []
    new_frame = getattr(importlib.import_module(module), name)

    def noted(picture, like):
        seen.append(copy.deepcopy(simulation.RECORD))
        return new_frame(picture, like)

    monkeypatch.setattr(f"{module}.{name}", noted)
    return seen


@pytest.mark.parametrize("precision", NEAREST)
@pytest.mark.parametrize("name", FORECASTERS)
def test_predictors_forecast_as_on_the_cpu(gpu, name, precision):
    spec = registry.spec(name, "predict")
    numbers = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, 9, 20), generator=numbers)
    wide = torch.nn.functional.interpolate(coarse, size=(64, 160), mode="bicubic").clamp(
        0, 1
    )
    frames = torch.stack([wide[..., 2 * k : 2 * k + 96] for k in range(spec.context)], 1)
    expected = registry.load_predictor(name).forecast(frames, 2)
    with gpu() as record, exact_arithmetic():
        dtype = choose_precision(precision, choose_device("cuda"), spec)
        forecasts = registry.load_predictor(name, "cuda", dtype).forecast(
            frames.to("cuda"), 2
        )
        result = [next(forecasts).cpu()]
        before = copy.deepcopy(record)
        result.append(next(forecasts))
        after = copy.deepcopy(record)
        result[1] = result[1].cpu()
    for one, other in zip(result, expected, strict=True):
        error = float((one.clamp(0, 1) - other.clamp(0, 1)).square().mean())
        least = NEAREST["fp32" if dtype == torch.float32 else precision]
        assert error == 0 or -10 * math.log10(error) >= least
    if before is not None and after is not None:
        assert not after.faults
        used = after - before
        assert not used.waits
        assert not used.unordered


STORED = {
    "float": lambda p: p,
    "half": lambda p: p.half(),
    "8 bit": lambda p: (p * 255).round().to(torch.uint8),
    "16 bit": lambda p: (p * 65535).round().to(torch.int32).to(torch.uint16),
    "opacity": lambda p: torch.cat((p, 1 - p[:1])),
    "gray": lambda p: p[0],
    "channels last": lambda p: p.movedim(0, -1),
}


@pytest.mark.parametrize("kind", STORED)
def test_pictures_on_the_device_stay_there(gpu, kind):
    """Few numbers are copied to the host, and each picture in which something may fly."""
    numbers = torch.Generator().manual_seed(0)
    pictures = [
        STORED[kind](each) for each in torch.rand((5, 3, 64, 96), generator=numbers)
    ]
    same = {"model": "tiny", "precision": "fp32"}
    model = cloudconv.load_model("tiny", device="cpu", precision="fp32")
    expected = [*cloudconv.interpolate_frames(pictures, 2, device="cpu", **same)]
    expected.append(model.interpolate(*pictures[:2], 0.25))
    with gpu() as record:
        model = cloudconv.load_model("tiny", device="cuda", precision="fp32")
        on_device = [picture.to("cuda") for picture in pictures]
        if record is not None:
            record.clear()
        result = [*cloudconv.interpolate_frames(on_device, 2, device="cuda", **same)]
        result.append(model.interpolate(*on_device[:2], 0.25))
        assert {str(picture.device) for picture in result} == {"cuda:0"}
        assert result[0] is on_device[0]
        used = ("up", "down", "faults", "waits")
        here = record and tuple(getattr(record, name).copy() for name in used)
        result = [picture.cpu() for picture in result]
    for one, other in zip(result, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        step = 1e-6 if one.is_floating_point() else 1
        assert float((one.double() - other.double()).abs().max()) <= step
    if here is not None:
        up, down, faults, waits = here
        # For each picture two measurements, of cuts and repeats, and the comparison of a
        # pair; in noise, all of which seems to fly, the picture.
        assert in_loop(waits).total() <= 4 * len(pictures)
        assert not faults
        thumbnails = 5 * 4 * 36 * 64
        shown = 5 * 4 * 4 * 64 * 96
        places = 3 * 24 * 21 * 48 * 32
        assert down.total() <= thumbnails + 5 * 4 * 64 + shown + places
        weights = 4 * registry.spec("tiny").parameters
        assert up.total() <= weights + 5 * 4 * 64


@pytest.mark.parametrize("number", [0, 2, 4])
def test_pictures_on_the_device_that_are_not_finite_are_refused(gpu, number):
    pictures = torch.rand((5, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    pictures[number, 1, 5, 7] = math.nan
    options = {"model": "tiny", "precision": "fp32", "scene_cut": "off"}
    with gpu():
        on_device = [picture.to("cuda") for picture in pictures]
        with pytest.raises(cloudconv.InputError, match="not finite"):
            list(cloudconv.interpolate_frames(on_device, 2, device="cuda", **options))
        model = cloudconv.load_model("tiny", device="cuda", precision="fp32")
        with pytest.raises(cloudconv.InputError, match="not finite"):
            model.interpolate(on_device[number], on_device[1], 0.5)


def test_extrapolate_is_as_on_the_cpu(gpu, clip, tmp_path, monkeypatch):
    same = {"frames": 3, "encoder": "ffv1", "model": "voxelflow", "precision": "fp32"}
    with gpu() as record, monkeypatch.context() as patch:
        seen = between_frames(patch, "cloudconv.jobs.extend.plan", "new_frame")
        cloudconv.extrapolate(clip, tmp_path / "gpu.mkv", device="cuda", **same)
    cloudconv.extrapolate(clip, tmp_path / "cpu.mkv", device="cpu", **same)
    assert decibels(tmp_path / "gpu.mkv", tmp_path / "cpu.mkv") >= NEAREST["fp32"]
    if record is None:
        return
    assert not record.faults
    assert not in_loop(record.unordered)
    used = seen[-1] - seen[0]
    size = sum(plane.nbytes for plane in read_planes(clip)[0])
    assert not used.waits
    assert used.events == 2
    assert used.up.total() <= 0.02 * size
    assert used.down.total() <= 1.1 * size * 2


DREAMS = {
    # For each new frame: bytes to the device and back, relative to a frame, and waits in
    # all. Only networks use the device. A rollout begins each forecast anew, with optical
    # flow from the CPU.
    "rollout": (2.7, 4, 5),
    "texture": (5, 4, 3),
    "flow": (0, 0, 0),
    "collage": (0, 0, 0),
}


@pytest.mark.parametrize("mode", DREAMS)
def test_dream_is_as_on_the_cpu(gpu, sky, tmp_path, mode, monkeypatch):
    same = {"frames": 6, "encoder": "ffv1", "mode": mode, "precision": "fp32"}
    with gpu() as record, monkeypatch.context() as patch:
        seen = between_frames(patch, "cloudconv.jobs.extend.dream", "_frame")
        cloudconv.dream(sky, tmp_path / "gpu.mkv", device="cuda", **same)
    cloudconv.dream(sky, tmp_path / "cpu.mkv", device="cpu", **same)
    assert decibels(tmp_path / "gpu.mkv", tmp_path / "cpu.mkv") >= NEAREST["fp32"]
    if record is None:
        return
    assert not record.faults
    used = seen[-1] - seen[0]
    size = sum(plane.nbytes for plane in read_planes(sky)[0])
    sent, received, waits = DREAMS[mode]
    up, down = (in_loop(counter, *ANALYSIS).total() for counter in (used.up, used.down))
    assert used.waits.total() <= 5 * waits
    assert up <= 1.1 * size * 5 * sent
    assert down <= 1.1 * size * 5 * received


COMPARED = {
    "interpolators": {"model": "rife-4.6", "against": "blend"},
    "predictors": {"model": "voxelflow", "against": "hold", "horizon": 2},
}


@pytest.mark.parametrize("kind", COMPARED)
def test_compare_is_as_on_the_cpu(gpu, clip, kind):
    same = {**COMPARED[kind], "precision": "fp32", "metrics": "psnr"}
    with gpu() as record:
        here = cloudconv.compare(clip, device="cuda", **same)
    there = cloudconv.compare(clip, device="cpu", **same)
    for row, expected in zip(here.per_frame, there.per_frame, strict=True):
        for name in here.methods:
            assert row[name]["psnr"] == pytest.approx(expected[name]["psnr"], abs=0.02)
    if record is None:
        return
    assert not record.faults
    assert not in_loop(record.unordered)
    assert not in_loop(record.waits, *ANALYSIS)
    assert not any("jobs/compare/methods.py" in line for line in record.waits)
    result = 2 * len(here.per_frame)
    up, down = (in_loop(counter, *ANALYSIS).total() for counter in (record.up, record.down))
    if "horizon" in same:
        # float32 RGB; two forecasts from eleven frames
        size = 12 * 96 * 64
        sent = 11 / 2
    else:
        # four source frames for rife-4.6, two for blend
        size = 96 * 64
        sent = 3
    assert record.events <= 1.5 * result
    assert up <= 1.1 * size * sent * result
    assert down <= 1.1 * size * result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_runs_on_the_gpu(gpu, tmp_path, precision):
    clip = moving(tmp_path / "a.mkv", 40, size=(96, 64))  # its end is for validation
    output = tmp_path / "a.safetensors"
    options = {"model": "tiny", "steps": 4, "crop": 32, "batch": 2, "output": output}
    options["precision"] = precision
    seen = []
    with gpu() as record:
        settings = TrainSettings(clips=(str(clip),), device="cuda", **options)
        for event in cloudconv.run(settings):
            if (
                isinstance(event, Progress)
                and event.stage == "training"
                and record is not None
            ):
                seen.append(copy.deepcopy(record))
    assert output.exists()
    assert event.result.steps == 4
    if record is None:
        return
    assert not record.faults
    used = seen[-1] - seen[0]
    assert used.waits.total() <= 3
    samples = 3 * (2 * 5 * 3 * 32 * 32 + 2 * 5 * 8)
    assert used.up.total() <= 1.1 * samples
    assert used.down.total() <= 3 * 64
