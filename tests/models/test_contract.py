"""Rules for every model of the catalogue, also hidden ones, and code that all share."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cloudconv.errors import ModelError, WeightsError
from cloudconv.models import registry
from cloudconv.models.base import MAPS, Interpolator
from cloudconv.models.pair import Pair
from cloudconv.settings.values import SCALES

SPECS = registry.MODELS
TINY = registry.spec("tiny")
INTERPOLATORS = [spec for spec in SPECS if spec.task == "interpolate"]
PREDICTORS = [spec for spec in SPECS if spec.task == "predict"]
NETWORKS = [spec for spec in SPECS if spec.weights or spec is TINY]
SLOW = [spec for spec in INTERPOLATORS if spec.weights]


def each_of(specs, *, full=False):
    """Return the parameter ``spec`` for each of the specs.

    With ``full``, slow ones are marked.
    """
    names = [f"{spec.name}-{spec.task}" for spec in specs]
    marks = [[pytest.mark.full] if full and spec in SLOW else [] for spec in specs]
    each = [
        pytest.param(s, id=i, marks=m) for s, i, m in zip(specs, names, marks, strict=True)
    ]
    return pytest.mark.parametrize("spec", each)


@cache
def model(spec, dtype=torch.float32):
    """Return an interpolator as it ships.

    Others with random weights, which all have an effect.
    """
    if spec.task == "interpolate":
        return registry.load(spec.name, dtype=dtype)
    torch.manual_seed(1)
    built = spec.build().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return built.requires_grad_(False).to(dtype)


def waves(number, height=40, width=56):
    """Return a smooth texture, (3, H, W) in [0.1, 0.9], after steps of two pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    lines = [torch.sin((x - 2 * number) / (4 + k) + y / (6 - k) + k) for k in range(3)]
    return 0.5 + 0.4 * torch.stack(lines)


def pair(height=40, width=56, batch=1):
    """Return two pictures of moving waves, with other colours for each item."""
    pictures = [waves(number, height, width) for number in (0, 1)]
    return [torch.stack([one.roll(k, 0) for k in range(batch)]) for one in pictures]


def made_of(spec, pictures, dtype=torch.float32):
    """Return what a model makes of (B, context, 3, H, W): different times for the items."""
    chosen = model(spec, dtype)
    if spec.task == "predict":
        return chosen.predict(pictures)
    if spec.task == "reconstruct":
        return chosen.reconstruct(pictures[:, 0])
    return chosen.interpolate(
        pictures[:, 0], pictures[:, 1], pictures[:, 0, 0, 0, 0] / 2 + 0.2
    )


@each_of(SPECS, full=True)
@settings(deadline=None, max_examples=3)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 3))
def test_any_size_and_batch_is_accepted(spec, height, width, batch):
    result = made_of(spec, torch.rand(batch, max(spec.context, 2), 3, height, width))
    assert result.shape == (batch, 3, height, width)
    assert result.dtype == torch.float32
    assert result.isfinite().all()


@each_of(SPECS, full=True)
def test_items_are_independent_results_repeatable_and_inputs_unchanged(spec):
    pictures = torch.rand(2, max(spec.context, 2), 3, 37, 45)
    kept = pictures.clone()
    result = made_of(spec, pictures)
    for number in range(2):
        alone = made_of(spec, pictures[number : number + 1])
        assert torch.allclose(result[number], alone[0], atol=2e-4)
    again = made_of(spec, pictures)
    assert torch.equal(result, again)
    result.zero_()
    assert torch.equal(pictures, kept), "the result shares memory with an input"


@each_of(NETWORKS, full=True)
def test_bfloat16_weights_give_similar_float32_pictures(spec):
    frames = torch.stack([waves(k) for k in range(max(spec.context, 2))])[None]
    exact, rounded = (
        made_of(spec, frames, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean() < (
        1e-4 if spec.task == "interpolate" else 1e-3
    )


@pytest.mark.full
@each_of([spec for spec in NETWORKS if spec.task != "interpolate"])
def test_every_parameter_has_a_gradient(spec):
    learner = spec.build().train()
    learner.load_state_dict(model(spec).state_dict())
    pictures = torch.rand(2, spec.context, 3, 64, 64)
    result = learner(pictures if spec.task == "predict" else pictures[:, 0])
    (result - 0.3).square().mean().backward()
    parameters = dict(learner.named_parameters())
    assert sum(each.numel() for each in parameters.values()) == spec.parameters
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@each_of(NETWORKS)
def test_weights_without_a_tensor_are_refused(spec):
    fresh = spec.build()
    state = fresh.state_dict()
    registry.fill(fresh, state, spec.name)
    del state[next(iter(state))]
    with pytest.raises(WeightsError, match=spec.name):
        registry.fill(fresh, state, "w.safetensors")


@each_of(INTERPOLATORS)
def test_near_both_ends_and_between_equal_pictures_the_result_is_near_the_source(spec):
    x0, x1 = pair()
    early = model(spec).interpolate(x0, x1, torch.tensor([1e-3]))
    assert (early - x0).abs().mean() < 0.01
    if spec.name != "hold":
        late = model(spec).interpolate(x0, x1, torch.tensor([1 - 1e-3]))
        assert (late - x1).abs().mean() < 0.01
    between = model(spec).interpolate(x0, x0.clone(), torch.tensor([0.5]))
    assert (between - x0).abs().mean() < 0.02


@each_of(INTERPOLATORS)
def test_half_precision_and_strided_pictures_are_accepted(spec):
    x0, x1 = pair()
    timestep = torch.tensor([0.5], dtype=torch.float64)
    exact = model(spec).interpolate(x0.half().float(), x1.half().float(), timestep)
    last = [x.half().contiguous(memory_format=torch.channels_last) for x in (x0, x1)]
    result = model(spec).interpolate(*last, timestep)
    assert result.dtype == torch.float16
    # Rounded to the kind of the pictures.
    assert torch.allclose(result.float(), exact, atol=5e-4)


@pytest.mark.full
@each_of(INTERPOLATORS)
def test_every_supported_scale_gives_a_similar_picture(spec):
    x0, x1 = pair(37, 53)
    for scale in SCALES:
        if scale == 1 or spec.cls.scale_option:
            result = model(spec).interpolate(x0, x1, 0.5, scale=scale)
            assert result.shape == x0.shape
            assert (result - (x0 + x1) / 2).abs().mean() < 0.1
        else:
            with pytest.raises(ModelError, match="no scale option"):
                model(spec).interpolate(x0, x1, 0.5, scale=scale)


@each_of(PREDICTORS)
def test_predictors_check_their_context_and_predict_their_first_forecast(spec):
    chosen = model(spec)
    need = spec.context
    with pytest.raises(ValueError, match=r"T of at least|at least one picture"):
        chosen.predict(torch.rand(1, need - 1, 3, 16, 16))
    with pytest.raises(ValueError, match="is needed"):
        chosen.predict(torch.rand(1, need, 1, 16, 16))
    more = torch.rand(1, need + spec.past + 2, 3, 33, 40)
    assert torch.allclose(chosen.predict(more), chosen.predict(more[:, 2:]), atol=1e-6)
    frames = torch.stack([waves(k) for k in range(need)])[None]
    forecast = list(chosen.forecast(frames, 3))
    assert len(forecast) == 3
    assert torch.allclose(chosen.predict(frames), forecast[0], atol=1e-6)


def test_blend_and_hold_are_exact():
    x0, x1 = torch.rand(2, 2, 3, 5, 7) * 3 - 1
    timesteps = torch.tensor([0.25, 1.0])
    expected = torch.stack([0.75 * x0[0] + 0.25 * x1[0], x1[1]])
    assert torch.allclose(
        registry.load("blend").interpolate(x0, x1, timesteps), expected, atol=1e-6
    )
    assert torch.equal(registry.load("hold").interpolate(x0, x1, timesteps), x0)


class Midpoint(Interpolator):
    """A model that makes only the middle frame and counts its calls."""

    def __init__(self):
        super().__init__(replace(TINY, name="midpoint", arbitrary_timestep=False))
        self.items = 0

    def forward(self, pair):
        assert (pair.timestep == 0.5).all()
        self.items += len(pair.x0)
        return (pair.x0 + pair.x1) / 2


@settings(deadline=None, max_examples=30)
@given(eighths=st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_a_midpoint_model_makes_every_eighth_by_recursion(eighths):
    x0, x1 = torch.rand(2, len(eighths), 3, 5, 6)
    timesteps = torch.tensor(eighths) / 8
    midpoint = Midpoint()
    result = midpoint.interpolate(x0, x1, timesteps)
    assert torch.allclose(
        result, torch.lerp(x0, x1, timesteps.view(-1, 1, 1, 1)), atol=1e-6
    )
    halvings = {0: 0, 8: 0, 4: 1, 2: 2, 6: 2}
    assert midpoint.items == sum(halvings.get(k, 3) for k in eighths)


def test_halving_keeps_the_unexplained_difference_of_the_whole_pair():
    class WithLeftover(Midpoint):
        def forward(self, pair, maps=False):
            result = (pair.x0 + pair.x1) / 2
            left = (pair.x1 - pair.x0).abs()[:, :1]
            return torch.cat((result, left.expand(-1, MAPS * maps, -1, -1)), 1)

    x0 = torch.zeros(2, 3, 4, 4)
    x1 = torch.ones(2, 3, 4, 4)
    timesteps = [0.5, 0.75]
    result = WithLeftover().between(Pair.of([x0, x1], torch.tensor(timesteps)), maps=True)
    means = result.mean((2, 3)).tolist()
    assert means == [[0.5] * 3 + [1.0] * MAPS, [0.75] * 3 + [1.0] * MAPS]


def test_a_weights_file_names_its_model(tmp_path):
    state = {name: tensor + 0.01 for name, tensor in TINY.build().state_dict().items()}
    path = tmp_path / "mine.safetensors"
    save_file(state, path, metadata={"model": "tiny"})
    loaded = registry.load(path)
    assert loaded.spec is TINY
    assert torch.equal(loaded.state_dict()["first.bias"], state["first.bias"])

    save_file(state, path, metadata={"model": "rife-4.6"})
    with pytest.raises(WeightsError, match=r"do not fit the model rife-4\.6"):
        registry.load(path)
