"""Published networks from the user's files run as the shipped models do."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import cloudconv
from cloudconv import files
from cloudconv.errors import CloudconvError, ModelUsageError, OutputError
from cloudconv.models import registry
from cloudconv.models.added import add
from tests.helpers import calls
from tests.helpers.factory import picture, read_planes, read_times, write_clip
from tests.helpers.jobs import stop_after
from tests.helpers.own_networks import save, small_file, small_state
from tests.helpers.published import recorded
from tests.helpers.trainees import moving

SIZE = (96, 64)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Give the test a data folder of its own."""
    monkeypatch.setenv(files.DATA, str(tmp_path / "data"))


@pytest.fixture
def file(tmp_path):
    return small_file(tmp_path / "flownet.pkl")


@pytest.fixture
def clip(tmp_path):
    shown = [picture(k, *SIZE, step=3.0, scene=k // 5) for k in range(10)]
    return write_clip(tmp_path / "a.mkv", shown)


def interp(clip, output, **options):
    given = {"factor": 2, "encoder": "ffv1", "threads": 1, "device": "cpu"}
    return cloudconv.interpolate(clip, output, **{**given, **options})


def assert_near(found, expected):
    """Assert that two clips differ by at most one level, which rounding may change."""
    for one, other in zip(read_planes(found), read_planes(expected), strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1


def test_the_new_pictures_are_those_of_the_network(file):
    pictures = torch.rand(3, 3, 64, 96)
    made = [*cloudconv.interpolate_frames(pictures, 4, model=file, device="cpu", scene_cut="off")]
    network = registry.load(file)
    assert len(made) >= 8
    for number, new in enumerate(made[:8]):
        pair, quarter = pictures[number // 4 : number // 4 + 2], number % 4
        wanted = network.interpolate(*pair, quarter / 4) if quarter else pair[0]
        assert (new - wanted.clamp(0, 1)).abs().max() <= 1e-5


def test_a_video_keeps_its_frames_and_its_cuts(clip, file, tmp_path):
    result = interp(clip, tmp_path / "b.mkv", model=file, factor=4)
    assert (result.model, result.precision) == (str(file), "fp32")
    assert (result.output_frames, len(result.cuts)) == (40, 1)
    source, made = (list(read_planes(each)) for each in (clip, tmp_path / "b.mkv"))
    for number, planes in enumerate(source):
        assert all(map(np.array_equal, made[4 * number], planes))
    # Before the cut, the last frame of the scene is repeated.
    for repeated in made[17:20]:
        assert all(map(np.array_equal, repeated, source[4]))


@pytest.mark.parametrize(
    "way", [{"batch": 3}, pytest.param({"workers": "local:2"}, marks=pytest.mark.full)]
)
def test_batches_and_workers_make_the_same_frames(clip, file, tmp_path, way):
    add(file, "mine")
    interp(clip, tmp_path / "b.mkv", model="mine", batch=1)
    interp(clip, tmp_path / "c.mkv", model="mine", **way)
    assert_near(tmp_path / "b.mkv", tmp_path / "c.mkv")


def test_16_bits_are_used_only_on_request(clip, file, tmp_path, monkeypatch):
    monkeypatch.setattr("cloudconv.render.device.has_fast_bf16", lambda: True)
    spec = registry.spec(file)
    assert cloudconv.estimate(settings(clip, tmp_path, model=file)).precision == "fp32"
    if spec.half_precision:
        asked = settings(clip, tmp_path, model=file, precision="bf16")
        assert cloudconv.estimate(asked).precision == "bf16"
    assert spec.falls_back(None) is False
    assert spec.falls_back("blend") is spec.cls.fallback


def settings(clip, folder, **options):
    given = {"factor": 2, "encoder": "ffv1", "threads": 1, "device": "cpu", **options}
    return cloudconv.InterpSettings(clip, folder / "out.mkv", **given)


def test_a_network_for_the_middle_halves_the_interval(clip, file, tmp_path):
    add(file, "any")
    add(file, "middle", timesteps="middle")
    interp(clip, tmp_path / "a2.mkv", model="any")
    interp(clip, tmp_path / "b2.mkv", model="middle", factor=4)
    middles = [frame for k, frame in enumerate(read_planes(tmp_path / "b2.mkv")) if k % 2 == 0]
    usual = list(read_planes(tmp_path / "a2.mkv"))
    assert all(all(map(np.array_equal, *pair)) for pair in zip(middles, usual, strict=True))


REFUSED = [
    {"factor": 3},
    {"factor": 6},
    {"factor": None, "fps": 60},
    {"factor": None, "slowmo": 3},
    {"factor": Fraction(5, 2)},
]


@pytest.mark.parametrize("options", REFUSED)
def test_other_factors_of_such_a_network_are_refused(clip, file, tmp_path, options):
    add(file, "middle", timesteps="middle")
    with pytest.raises(ModelUsageError, match=r"only the middle.*cloud-best"):
        interp(clip, tmp_path / "b.mkv", model="middle", **options)
    assert not (tmp_path / "b.mkv").exists()


@pytest.mark.parametrize(
    "options", [{"factor": 8}, {"factor": None, "fps": 48}, {"factor": None, "slowmo": 2}]
)
def test_halves_of_the_interval_are_accepted(clip, file, tmp_path, options):
    add(file, "middle", timesteps="middle")
    given = {"model": "middle", "factor": 2, **options}
    assert cloudconv.estimate(settings(clip, tmp_path, **given)).new_frames > 0


def test_a_variable_rate_and_pictures_in_memory_follow_the_same_rule(file, tmp_path):
    times = [Fraction(k, 24) for k in (0, 1, 3, 4, 7, 8)]
    clip = write_clip(tmp_path / "vfr.mkv", 6, times=times, rate=24)
    add(file, "middle", timesteps="middle")
    given = {"model": "middle"}
    interp(clip, tmp_path / "b.mkv", factor=2, **given)
    assert len(read_times(tmp_path / "b.mkv")) == 12
    with pytest.raises(ModelUsageError, match="only the middle"):
        interp(clip, tmp_path / "c.mkv", factor=None, fps=60, **given)
    with pytest.raises(ModelUsageError, match="only the middle"):
        cloudconv.interpolate_frames(iter(()), 3, device="cpu", **given)
    with pytest.raises(ModelUsageError, match="only the middle"):
        cloudconv.compare(clip, model="middle", drop=3)


def test_a_resumed_run_needs_the_same_content(file, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [picture(k, 64, 64, scene=k // 30) for k in range(90)])
    add(file, "mine")
    given = {"factor": 2, "model": "mine", "encoder": "ffv1", "device": "cpu"}
    with pytest.raises(cloudconv.Interrupted):
        calls.interpolate(clip, tmp_path / "b.mkv", watch=stop_after(140), **given)
    other = tmp_path / "other.safetensors"
    save(other, small_state(gain=0.25))
    add(other, "mine", overwrite=True)
    with pytest.raises(OutputError, match="weights"):
        calls.interpolate(clip, tmp_path / "b.mkv", **given)
    add(file, "mine", overwrite=True)
    assert calls.interpolate(clip, tmp_path / "b.mkv", **given).resumed


def test_a_comparison_takes_names_and_files(file, tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 7, size=SIZE)
    add(file, "mine")
    file = file.rename(tmp_path / "my,net.pkl")
    result = cloudconv.compare(clip, model="mine", against=["tiny", str(file)], device="cpu")
    assert list(result.methods) == ["mine", "tiny", str(file), "blend"]
    assert result.methods["mine"]["psnr"] == result.methods[str(file)]["psnr"]


def test_a_copy_on_another_machine_is_the_same_network(clip, file, tmp_path, monkeypatch):
    """Workers get the file, because the name is unknown on their machines."""
    add(file, "mine", timesteps="middle")
    located = registry.located("mine")
    monkeypatch.setenv(files.DATA, str(tmp_path / "nothing"))
    with pytest.raises(CloudconvError, match='no model "mine"'):
        registry.spec("mine")
    moved = Path(located).rename(tmp_path / "moved.safetensors")
    assert registry.spec(moved) == replace(registry.spec(file, None).with_times("middle"),
        name="moved.safetensors")  # fmt: skip


FAMILIES = ["rife_4_0", "rife_4_25", "rife_eccv", "rife_eccv_m", "ifrnet_s", "ema_vfi_small"]
OPTIONS = {
    "usual": {},
    "alpha": {"pix_fmt": "yuva420p"},
    "fallback": {"fallback": "blend", "noise": 6.0},
    "scale": {"scale": 0.5},
    "tiles": {"tile": 512, "size": (576, 64)},
    "bf16": {"precision": "bf16"},
    "quarters": {"factor": 4},
}


@pytest.mark.full
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_with_every_option(tmp_path, name):
    save(tmp_path / "a.safetensors", recorded(name).state())
    for way, options in OPTIONS.items():
        given = dict(options)
        drawn = {key: given.pop(key) for key in ("pix_fmt", "noise", "size") if key in given}
        clip = write_clip(tmp_path / f"{way}.mkv", 4, **{"size": SIZE, **drawn})
        result = interp(
            clip, tmp_path / f"{way}-out.mkv", model=tmp_path / "a.safetensors", **given
        )
        assert result.new_frames == 3 * (given.get("factor", 2) - 1)
        assert result.precision == given.get("precision", "fp32")
    whole = interp(tmp_path / "tiles.mkv", tmp_path / "whole.mkv", model=tmp_path / "a.safetensors")
    tiled = read_planes(tmp_path / "tiles-out.mkv")
    assert len(tiled) == whole.output_frames
    for one, other in zip(tiled, read_planes(Path(whole.output)), strict=True):
        error = np.mean((one[0].astype(float) - other[0]) ** 2)
        assert error <= 255**2 / 10**4.5  # 45 dB


@pytest.mark.full
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_trained(tmp_path, name):
    save(tmp_path / "a.safetensors", recorded(name).state())
    clip = moving(tmp_path / "a.mkv", 20, size=SIZE)
    output = tmp_path / "trained.safetensors"
    given = {"steps": 1, "crop": 64, "batch": 1, "device": "cpu"}
    cloudconv.train(clip, output, init=tmp_path / "a.safetensors", **given)
    trained, before = (registry.spec(each) for each in (output, tmp_path / "a.safetensors"))
    assert trained.network == before.network
    assert trained.arbitrary_timestep == before.arbitrary_timestep


@pytest.mark.full
def test_a_published_network_can_be_trained_and_adapted(file, tmp_path):
    clip = moving(tmp_path / "a.mkv", 40, size=SIZE)
    add(file, "mine")
    options = {"crop": 32, "batch": 2, "device": "cpu"}
    for init in (file, "mine"):
        output = tmp_path / "trained.safetensors"
        cloudconv.train(clip, output, init=init, steps=3, overwrite=True, **options)
        trained = registry.spec(output)
        assert trained.published
        assert trained.parameters == registry.spec(file).parameters
        assert interp(clip, tmp_path / "b.mkv", model=output, overwrite=True).new_frames > 0
    adapted = interp(clip, tmp_path / "c.mkv", model="mine", adapt=0.05)
    assert adapted.adapted is not None
