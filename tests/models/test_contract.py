"""Rules for every registered interpolator, also hidden ones, and code that all share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from cloudconv import weights
from cloudconv.errors import ModelError, SettingsError, WeightsError
from cloudconv.models import registry
from cloudconv.models.base import SCALES, Interpolator
from cloudconv.models.catalogue import TINY

NAMES = [spec.name for spec in registry.specs() if spec.task == "interpolate"]
every_model = pytest.mark.parametrize("name", NAMES)


@cache
def model(name: str) -> Interpolator:
    return registry.load(name)


def pair(height: int = 40, width: int = 56, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Return a smooth texture and the same two pixels further right, in [0.1, 0.9]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")

    def at(shift: float) -> Tensor:
        waves = [torch.sin((x - shift) / (4 + k) + y / (6 - k) + k) for k in range(3)]
        one = 0.5 + 0.4 * torch.stack(waves)
        return torch.stack([one.roll(k, 1) for k in range(batch)])

    return at(0), at(2)


@every_model
def test_the_spec_is_correct(name: str) -> None:
    spec = registry.spec(name, "interpolate")
    assert spec.bytes_per_pixel >= 3 * 4 * 3, "two pictures in and one out are the minimum"
    assert spec.multiple >= 1
    assert spec.overlap >= 0
    assert spec.licence
    assert spec.origin
    if spec.weights is not None:
        assert weights.entry(spec.weights).parameters == spec.parameters
        assert weights.entry(spec.weights).licence == spec.licence


@pytest.mark.full
@every_model
@settings(deadline=None, max_examples=5)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 3))
def test_any_size_and_batch_is_accepted(name: str, height: int, width: int, batch: int) -> None:
    x0, x1 = torch.rand(2, batch, 3, height, width)
    result = model(name).interpolate(x0, x1, torch.linspace(0.2, 0.7, batch))
    assert result.shape == x0.shape
    assert result.dtype == torch.float32
    assert result.isfinite().all()


@pytest.mark.full
@every_model
def test_items_of_a_batch_are_independent(name: str) -> None:
    x0, x1 = pair(batch=3)
    timesteps = torch.tensor([0.25, 0.5, 0.9])
    together = model(name).interpolate(x0, x1, timesteps)
    for k in range(3):
        one = slice(k, k + 1)
        alone = model(name).interpolate(x0[one], x1[one], timesteps[one])
        assert torch.allclose(together[one], alone, atol=2e-4)


@every_model
def test_near_both_ends_the_result_is_near_the_source_frames(name: str) -> None:
    x0, x1 = pair()
    early = model(name).interpolate(x0, x1, torch.tensor([1e-3]))
    assert (early - x0).abs().mean() < 0.01
    if name != "hold":
        late = model(name).interpolate(x0, x1, torch.tensor([1 - 1e-3]))
        assert (late - x1).abs().mean() < 0.01


@every_model
def test_two_equal_pictures_give_that_picture(name: str) -> None:
    x0, _ = pair()
    between = model(name).interpolate(x0, x0.clone(), torch.tensor([0.5]))
    assert (between - x0).abs().mean() < 0.02


@every_model
def test_the_result_is_reproducible_and_inputs_are_unchanged(name: str) -> None:
    x0, x1 = pair(32, 64)
    timestep = torch.tensor([0.3])
    before = x0.clone(), x1.clone(), timestep.clone()
    first = model(name).interpolate(x0, x1, timestep)
    first_copy = first.clone()
    second = model(name).interpolate(x0, x1, timestep)
    assert torch.equal(first, second)
    assert torch.equal(first, first_copy)
    for tensor, kept in zip((x0, x1, timestep), before, strict=True):
        assert torch.equal(tensor, kept)
    first.zero_()
    assert torch.equal(x0, before[0]), "the result shares memory with an input"


@pytest.mark.full
@every_model
def test_bfloat16_weights_give_similar_float32_pictures(name: str) -> None:
    x0, x1 = pair()
    timestep = torch.tensor([0.5])
    exact = model(name).interpolate(x0, x1, timestep)
    rounded = registry.load(name, dtype=torch.bfloat16).interpolate(x0, x1, timestep)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean() < 1e-4


@every_model
def test_half_precision_and_strided_pictures_are_accepted(name: str) -> None:
    x0, x1 = pair()
    timestep = torch.tensor([0.5], dtype=torch.float64)
    exact = model(name).interpolate(x0.half().float(), x1.half().float(), timestep)
    last = [x.half().contiguous(memory_format=torch.channels_last) for x in (x0, x1)]
    assert torch.allclose(model(name).interpolate(*last, timestep), exact, atol=1e-5)


@pytest.mark.full
@every_model
def test_every_supported_scale_gives_a_similar_picture(name: str) -> None:
    x0, x1 = pair(37, 53)
    timestep = torch.tensor([0.5])
    for scale in SCALES:
        if scale == 1 or registry.spec(name, "interpolate").cls.scale_option:
            result = model(name).interpolate(x0, x1, timestep, scale=scale)
            assert result.shape == x0.shape
            assert (result - (x0 + x1) / 2).abs().mean() < 0.1
        else:
            with pytest.raises(ModelError, match="no scale option"):
                model(name).interpolate(x0, x1, timestep, scale=scale)


@pytest.mark.parametrize("name", [name for name in NAMES if registry.spec(name).parameters])
def test_weights_without_a_tensor_are_refused(name: str) -> None:
    fresh = registry.spec(name, "interpolate").build()
    state = fresh.state_dict()
    registry.fill(fresh, state, name)
    del state[next(iter(state))]
    with pytest.raises(WeightsError, match=fresh.spec.name):
        registry.fill(fresh, state, "w.safetensors")


def test_inputs_of_different_shapes_are_refused() -> None:
    x0, x1 = pair()
    with pytest.raises(ValueError, match="one shape"):
        model("blend").interpolate(x0, x1[..., 1:], torch.tensor([0.5]))
    with pytest.raises(ValueError, match="one timestep"):
        model("blend").interpolate(x0, x1, torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("timestep", [-0.5, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["unet-middle", "blend"])
def test_timesteps_outside_the_interval_are_refused(name: str, timestep: float) -> None:
    x0, x1 = pair(batch=2)
    for given_as in (timestep, torch.tensor([0.5, timestep])):
        with pytest.raises(SettingsError, match="A timestep must be from 0 to 1, got"):
            model(name).interpolate(x0, x1, given_as)


def test_blend_and_hold_are_exact() -> None:
    x0, x1 = torch.rand(2, 2, 3, 5, 7) * 3 - 1
    timesteps = torch.tensor([0.25, 1.0])
    expected = torch.stack([0.75 * x0[0] + 0.25 * x1[0], x1[1]])
    assert torch.allclose(model("blend").interpolate(x0, x1, timesteps), expected, atol=1e-6)
    assert torch.equal(model("hold").interpolate(x0, x1, timesteps), x0)


def test_names_are_unique_and_include_the_default() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert registry.DEFAULT == "cloud-best" == registry.specs()[0].name


def test_an_unknown_model_is_an_error_that_lists_the_models() -> None:
    with pytest.raises(ModelError, match=r"did you mean rife-4\.6\?.*blend, hold") as caught:
        registry.load("rife-4.7")
    assert "tiny" not in str(caught.value)


class Midpoint(Interpolator):
    """A model that makes only the middle frame and counts its calls."""

    def __init__(self) -> None:
        super().__init__(replace(TINY, name="midpoint", arbitrary_timestep=False))
        self.items = 0

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        assert (timestep == 0.5).all()
        self.items += len(x0)
        return (x0 + x1) / 2


@settings(deadline=None, max_examples=30)
@given(eighths=st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_a_midpoint_model_makes_every_eighth_by_recursion(eighths: list[int]) -> None:
    x0, x1 = torch.rand(2, len(eighths), 3, 5, 6)
    timesteps = torch.tensor(eighths) / 8
    midpoint = Midpoint()
    result = midpoint.interpolate(x0, x1, timesteps)
    assert torch.allclose(result, torch.lerp(x0, x1, timesteps.view(-1, 1, 1, 1)), atol=1e-6)
    halvings = {0: 0, 8: 0, 4: 1, 2: 2, 6: 2}
    assert midpoint.items == sum(halvings.get(k, 3) for k in eighths)


@settings(deadline=None, max_examples=30)
@given(timestep=st.floats(0, 1))
def test_a_midpoint_model_approximates_other_timesteps(timestep: float) -> None:
    x0, x1 = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    result = Midpoint().interpolate(x0, x1, torch.tensor([timestep]))
    assert abs(result.mean().item() - timestep) <= 1 / 64


def test_halving_keeps_the_unexplained_difference_of_the_last_step() -> None:
    class WithLeftover(Midpoint):
        def forward(self, x0: Tensor, x1: Tensor, *_: object, leftover: bool = False) -> Tensor:
            made = (x0 + x1) / 2
            return torch.cat((made, (x1 - x0).abs()[:, :1]), 1) if leftover else made

    x0, x1 = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    timesteps = [0.5, 0.75]
    made = WithLeftover().between(
        [x0, x1], torch.tensor(timesteps), leftover=True, numbers=timesteps
    )
    assert made.mean((2, 3)).tolist() == [[0.5, 0.5, 0.5, 1.0], [0.75, 0.75, 0.75, 0.5]]


def test_a_weights_file_names_its_model(tmp_path: Path) -> None:
    state = {name: tensor + 0.01 for name, tensor in TINY.build().state_dict().items()}
    path = tmp_path / "mine.safetensors"
    save_file(state, path, metadata={"model": "tiny"})
    loaded = registry.load(path)
    assert loaded.spec is TINY
    assert torch.equal(loaded.state_dict()["first.bias"], state["first.bias"])

    save_file(state, path)
    with pytest.raises(WeightsError, match="holds no network"):
        registry.load(path)
    save_file(state, path, metadata={"model": "rife-4.6"})
    with pytest.raises(WeightsError, match=r"do not fit the model rife-4\.6"):
        registry.load(path)
