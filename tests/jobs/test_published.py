"""Published networks from the user's files run as the shipped models do."""

import os
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cloudconv
from cloudconv.errors import ModelUsageError, WeightsError
from cloudconv.jobs.interp import run
from cloudconv.jobs.interp.plan import decide
from cloudconv.models import registry
from tests.helpers.factory import picture, read_planes, read_times, write_clip
from tests.helpers.own_networks import save, small_file, small_state
from tests.helpers.published import recorded
from tests.helpers.trainees import moving

SIZE = (96, 64)


pytestmark = pytest.mark.usefixtures("data_folder")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return small_file(tmp_path_factory.mktemp("made") / "flownet.pkl")


@pytest.fixture(scope="module")
def clip(file):
    pictures = [picture(k, *SIZE, step=3.0, scene=k // 5) for k in range(10)]
    return write_clip(file.with_name("a.mkv"), pictures)


GIVEN = {"factor": 2, "encoder": "ffv1", "threads": 1, "device": "cpu"}


def interp(clip, output, **options):
    return cloudconv.interpolate(clip, output, **(GIVEN | options))


def plan(clip, folder, **options):
    return cloudconv.plan(
        cloudconv.InterpSettings(clip, folder / "o.mkv", **(GIVEN | options))
    )


def test_the_new_pictures_are_those_of_the_network(file):
    pictures = torch.rand(3, 3, 64, 96)
    result = [
        *cloudconv.interpolate_frames(
            pictures, 4, model=file, device="cpu", scene_cut="off"
        )
    ]
    network = registry.load(file)
    assert len(result) >= 8
    for number, new in enumerate(result[:8]):
        pair = pictures[number // 4 : number // 4 + 2]
        quarter = number % 4
        wanted = network.interpolate(*pair, quarter / 4) if quarter else pair[0]
        assert (new - wanted.clamp(0, 1)).abs().max() <= 1e-5


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    "way", [{"batch": 3}, pytest.param({"workers": "local:2"}, marks=pytest.mark.full)]
)
def test_batches_and_workers_make_the_same_frames(clip, file, tmp_path, way):
    interp(clip, tmp_path / "b.mkv", model=file, batch=1)
    interp(clip, tmp_path / "c.mkv", model=file, **way)
    for one, other in zip(*(read_planes(tmp_path / f"{k}.mkv") for k in "bc"), strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1  # rounding may change a level


def test_16_bits_are_used_only_on_request(clip, file, tmp_path, monkeypatch):
    monkeypatch.setattr("cloudconv.render.device.has_fast_bf16", lambda: True)
    assert plan(clip, tmp_path, model=file)["precision"] == "fp32"
    assert plan(clip, tmp_path, model=file, precision="bf16")["precision"] == "bf16"


FITTING = [{"factor": 8}, {"fps": 48}, {"slowmo": 2}]
OTHER = [
    {"factor": 3},
    {"factor": 6},
    {"factor": Fraction(5, 2)},
    {"fps": 60},
    {"slowmo": 3},
]


@pytest.mark.parametrize("options", [*FITTING, *OTHER])
def test_a_network_of_the_middle_makes_halves_of_the_interval_only(
    clip, file, tmp_path, options
):
    keywords = {"model": file, "timesteps": "middle", "factor": None, **options}
    if options in FITTING:
        assert plan(clip, tmp_path, **keywords)["output_frames"] > 0
        return
    with pytest.raises(ModelUsageError, match=r"only the middle.*cloud-best"):
        interp(clip, tmp_path / "b.mkv", **keywords)
    assert not (tmp_path / "b.mkv").exists()


def test_a_variable_rate_and_pictures_in_memory_follow_the_same_rule(file, tmp_path):
    times = [Fraction(k, 24) for k in (0, 1, 3, 4, 7, 8)]
    clip = write_clip(tmp_path / "vfr.mkv", 6, times=times, rate=24)
    options = {"model": file, "timesteps": "middle"}
    interp(clip, tmp_path / "b.mkv", factor=2, **options)
    assert len(read_times(tmp_path / "b.mkv")) == 12
    for refused in (
        lambda: cloudconv.interpolate_frames(iter(()), 3, device="cpu", **options),
        lambda: cloudconv.compare(clip, drop=3, **options),
    ):
        with pytest.raises(ModelUsageError, match="only the middle"):
            refused()


def test_a_key_of_the_file_says_that_it_makes_the_middle_only(file, tmp_path):
    state = load_file(file)
    path = tmp_path / "middle.safetensors"
    save_file(state, path, {"timesteps": "middle"})
    assert not registry.spec(path).arbitrary_timestep
    assert registry.spec(path, timesteps="any").arbitrary_timestep
    assert registry.spec(file).arbitrary_timestep


def test_a_comparison_takes_names_and_files(file, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 7, size=SIZE)
    file = shutil.copy(file, tmp_path / "my,net.pkl")
    result = cloudconv.compare(clip, model=str(file), against=["tiny"], device="cpu")
    assert list(result.methods) == [str(file), "tiny", "blend"]


def test_weights_that_are_replaced_during_a_run_are_not_used(clip, tmp_path):
    file = small_file(tmp_path / "flownet.pkl")
    other = tmp_path / "other.safetensors"
    save(other, small_state(gain=0.25))
    settings = cloudconv.InterpSettings(clip, tmp_path / "b.mkv", model=file, **GIVEN)
    decided = decide(settings)
    status = file.stat()
    other.replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = "not those with which the run began"
    with run.start(decided.workers) as workers, pytest.raises(WeightsError, match=said):
        list(run.interpolate(decided, workers))
    with pytest.raises(WeightsError, match=said):
        registry.load("rife-4.6", sha256=decided.weights)
    assert not (tmp_path / "b.mkv").exists()


FAMILIES = [
    *(pytest.param(name, marks=pytest.mark.full) for name in ("rife_4_25", "ifrnet_s")),
    # The same module as rife_4_25 runs the first three.
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("rife_4_0", "rife_eccv", "rife_eccv_m", "ema_vfi_small")
    ),
]
OPTIONS = {
    "usual": ({}, {}),
    "alpha": ({"pix_fmt": "yuva420p"}, {}),
    "scale": ({}, {"scale": 0.5}),
    "tiles": ({"size": (576, 64)}, {"tile": 512}),
    "bf16": ({}, {"precision": "bf16"}),
    "quarters": ({}, {"factor": 4}),
}
"""Ways to run a network: options of the clip, and options of the command."""


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_with_every_option_and_can_be_trained(tmp_path, name):
    model = tmp_path / "a.safetensors"
    output = tmp_path / "trained.safetensors"
    save(model, recorded(name).state())
    for way, (drawn, given) in OPTIONS.items():
        clip = write_clip(tmp_path / f"{way}.mkv", 4, **({"size": SIZE} | drawn))
        result = interp(clip, tmp_path / f"{way}-out.mkv", model=model, **given)
        assert result.new_frames == 3 * (given.get("factor", 2) - 1)
        assert result.precision == given.get("precision", "fp32")
    whole = interp(tmp_path / "tiles.mkv", tmp_path / "whole.mkv", model=model)
    tiled, untiled = (
        read_planes(each) for each in (tmp_path / "tiles-out.mkv", whole.output)
    )
    for one, other in zip(tiled, untiled, strict=True):
        error = np.mean((one[0].astype(float) - other[0]) ** 2)
        assert error <= 255**2 / 10**4.5  # 45 dB
    given = {"steps": 1, "crop": 64, "batch": 1, "device": "cpu"}
    cloudconv.train(moving(tmp_path / "a.mkv", 20, size=SIZE), output, init=model, **given)
    trained, before = registry.spec(output), registry.spec(model)
    assert trained.network == before.network
    assert trained.arbitrary_timestep == before.arbitrary_timestep


@pytest.mark.full
def test_a_published_network_can_be_trained(file, tmp_path):
    clip = moving(tmp_path / "a.mkv", 40, size=SIZE)
    output = tmp_path / "trained.safetensors"
    cloudconv.train(clip, output, init=file, crop=32, batch=2, device="cpu", steps=3)
    trained = registry.spec(output)
    assert trained.published
    assert trained.parameters == registry.spec(file).parameters
    assert interp(clip, tmp_path / "b.mkv", model=output).new_frames > 0
