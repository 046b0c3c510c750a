"""Rules for every predictor and research model, trained or not, and what each of them does."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cloudconv import weights
from cloudconv.models import registry
from cloudconv.models.base import Interpolator, Model, Predictor, Reconstructor
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.voxelflow import VoxelFlow, from_rife

SPECS = {(spec.name, spec.task): spec for spec in registry.specs() if spec.task != "interpolate"}
PREDICTORS = [key for key in SPECS if key[1] == "predict"]
NETWORKS = [key for key, spec in SPECS.items() if spec.parameters]
Key = tuple[str, str]


def named(keys: list[Key]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("key", keys, ids=["-".join(key) for key in keys])


@cache
def model(key: Key) -> Model:
    """Return the model with random weights that are not zero: every parameter has an effect."""
    torch.manual_seed(1)
    built = SPECS[key].build().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return built.requires_grad_(False)


def untrained(name: str) -> Predictor:
    built = SPECS[name, "predict"].build().eval()
    assert isinstance(built, Predictor)
    return built


def run(key: Key, height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Apply a model to random pictures; return the pictures and the result."""
    chosen, spec = model(key), SPECS[key]
    pictures = torch.rand(batch, spec.context, 3, height, width)
    return pictures, apply(chosen, pictures)


def apply(chosen: Model, pictures: Tensor) -> Tensor:
    if isinstance(chosen, Predictor):
        return chosen.predict(pictures)
    if isinstance(chosen, Interpolator):
        middle = torch.full((len(pictures),), 0.5)
        return chosen.interpolate(pictures[:, 0], pictures[:, 1], middle)
    assert isinstance(chosen, Reconstructor)
    return chosen.reconstruct(pictures[:, 0])


def moving(count: int, height: int = 64, width: int = 96, step: float = 2.0) -> Tensor:
    """Return (1, count, 3, H, W): a texture that moves ``step`` pixels to the right each frame."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")

    def at(number: int) -> Tensor:
        u = x - number * step
        waves = [torch.sin(u / (3 + k) + y / (5 + k) + k) * torch.cos(y / 4 - k) for k in range(3)]
        return 0.5 + 0.4 * torch.stack(waves)

    return torch.stack([at(number) for number in range(count)])[None]


def error(made: Tensor, truth: Tensor) -> float:
    """Return the mean squared error without the borders where new content enters."""
    return float((made - truth)[..., 8:-8, 24:-8].square().mean())


@named(list(SPECS))
def test_the_spec_is_correct(key: Key) -> None:
    spec = SPECS[key]
    assert model(key).spec is spec
    assert spec.licence
    assert spec.origin
    assert (spec.weights is None) == (spec.parameters == 0)
    assert spec.bytes_per_pixel >= 3 * 4


@named(list(SPECS))
@settings(deadline=None, max_examples=3)
@given(height=st.integers(1, 50), width=st.integers(1, 50), batch=st.integers(1, 2))
def test_any_size_and_batch_is_accepted(key: Key, height: int, width: int, batch: int) -> None:
    pictures, made = run(key, height, width, batch)
    assert made.shape == pictures[:, 0].shape
    assert made.dtype == torch.float32
    assert made.isfinite().all()


@named(list(SPECS))
def test_items_of_a_batch_are_independent_and_inputs_unchanged(key: Key) -> None:
    pictures, made = run(key, 37, 45, 2)
    kept = pictures.clone()
    for number in range(2):
        alone = apply(model(key), pictures[number : number + 1])
        assert torch.allclose(made[number], alone[0], atol=2e-4)
    assert torch.equal(pictures, kept)
    made.zero_()
    assert torch.equal(pictures, kept), "the result shares memory with the input"


@named(NETWORKS)
def test_bfloat16_weights_give_similar_float32_pictures(key: Key) -> None:
    frames = moving(SPECS[key].context, 32, 64)
    exact = apply(model(key), frames)
    rounded_model = SPECS[key].build().eval()
    rounded_model.load_state_dict(model(key).state_dict())
    rounded = apply(rounded_model.to(torch.bfloat16), frames)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean() < 1e-3


@pytest.mark.full
@named(NETWORKS)
def test_every_parameter_has_a_gradient(key: Key) -> None:
    learner = SPECS[key].build().train()
    learner.load_state_dict(model(key).state_dict())
    spec = SPECS[key]
    pictures = torch.rand(2, spec.context, 3, 64, 64)
    made: Tensor
    if isinstance(learner, Predictor):
        made = learner(pictures)
    elif isinstance(learner, Interpolator):
        made = learner(pictures[:, 0], pictures[:, 1], torch.full((2, 1, 1, 1), 0.5))
    else:
        made = learner(pictures[:, 0])
    (made - 0.3).square().mean().backward()
    parameters = dict(learner.named_parameters())
    assert sum(each.numel() for each in parameters.values()) == spec.parameters
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@named(list(SPECS))
def test_weights_are_complete_and_loaded_strictly(key: Key) -> None:
    state = model(key).state_dict()
    other = SPECS[key].build()
    other.load_state_dict(state, strict=True)
    if state:
        state.pop(next(iter(state)))
        with pytest.raises(RuntimeError):
            other.load_state_dict(state, strict=True)


def test_the_weights_fit_into_the_package() -> None:
    def size(spec: ModelSpec) -> int:
        return 2 * sum(tensor.numel() for tensor in spec.build().state_dict().values())

    sizes = {key: size(SPECS[key]) for key in NETWORKS}
    assert sizes.pop(("voxelflow", "predict")) <= 12e6
    assert sum(sizes.values()) <= 25e6


@named(PREDICTORS)
def test_predictors_state_and_check_their_context(key: Key) -> None:
    chosen = model(key)
    assert isinstance(chosen, Predictor)
    need = chosen.spec.context
    with pytest.raises(ValueError, match=r"T of at least|at least one picture"):
        chosen.predict(torch.rand(1, need - 1, 3, 16, 16))
    with pytest.raises(ValueError, match="is needed"):
        chosen.predict(torch.rand(1, need, 1, 16, 16))
    more = torch.rand(1, need + chosen.spec.past + 2, 3, 33, 40)
    assert torch.allclose(chosen.predict(more), chosen.predict(more[:, 2:]), atol=1e-6)


@named(PREDICTORS)
def test_a_prediction_is_the_first_forecast(key: Key) -> None:
    chosen = model(key)
    assert isinstance(chosen, Predictor)
    frames = moving(chosen.spec.context)
    forecast = list(chosen.forecast(frames, 3))
    assert len(forecast) == 3
    assert torch.allclose(chosen.predict(frames), forecast[0], atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        *("conv-channel", "conv", "conv-modes", "conv-deep", "conv-recurrent"),
        *("conv-pyramid", "conv-pyramid-2", "unet5", "convlstm", "multiscale-gan"),
        *("skip-autoencoder", "skip-autoencoder-plain", "skip-autoencoder-none"),
    ],
)
def test_untrained_predictors_return_nearly_the_last_frame(name: str) -> None:
    frames = moving(5)
    made = untrained(name).predict(frames)
    assert (made - frames[:, -1]).abs().max() < 0.1
    assert (made - frames[:, -1]).abs().mean() < 0.02


def test_an_untrained_middle_model_returns_the_mean() -> None:
    middle = registry.spec("unet-middle").build()
    assert isinstance(middle, Interpolator)
    x0, x1 = moving(2).unbind(1)
    made = middle.interpolate(x0, x1, torch.tensor([0.5]))
    assert torch.allclose(made, (x0 + x1) / 2, atol=1e-5)


@pytest.mark.parametrize("step", [0.7, 2.0])
def test_flow_continues_motion(step: float) -> None:
    frames = moving(11, step=step)
    made = list(untrained("flow").forecast(frames[:, :5], 6))
    for ahead in (1, 3, 6):
        truth, last = frames[:, 4 + ahead], frames[:, 4]
        assert error(made[ahead - 1], truth) < 0.2 * error(last, truth)


def test_flow_keeps_stills() -> None:
    still = moving(1).expand(-1, 5, -1, -1, -1)
    assert torch.allclose(list(untrained("flow").forecast(still, 3))[-1], still[:, 0], atol=1e-3)


@cache
def converted() -> VoxelFlow:
    made = registry.spec("voxelflow").build().eval()
    assert isinstance(made, VoxelFlow)
    made.load_state_dict(from_rife(weights.load_state("rife-4.6")), strict=True)
    return made.requires_grad_(False)


def test_voxelflow_forecasts_with_the_weights_of_rife() -> None:
    frames = moving(14, 128, 160, step=1.5)
    made = list(converted().forecast(frames[:, :6], 8))
    for ahead in (1, 2, 5, 8):
        truth, last = frames[:, 5 + ahead], frames[:, 5]
        assert error(made[ahead - 1], truth) < 0.3 * error(last, truth)


def test_voxelflow_keeps_stills() -> None:
    still = moving(1).expand(-1, 6, -1, -1, -1)
    assert (list(converted().forecast(still, 12))[-1] - still[:, 0]).abs().max() == 0


def test_voxelflow_reduces_motion_that_did_not_continue_before() -> None:
    places = [0, 4, 1, 5, 2, 4, 0, 5, 1, 4, 2, 5, 0, 4, 1, 5]  # a camera that shakes
    frames = moving(7, 128, 160, step=1.0)[:, places]
    plain, tried = (list(converted().forecast(frames[:, first:11], 5)) for first in (5, 0))
    before, after = (
        sum(error(made[k], frames[:, 11 + k]) for k in range(5)) for made in (plain, tried)
    )
    assert after < 0.7 * before


def test_voxelflow_keeps_motion_that_continued_before() -> None:
    frames = moving(16, 128, 160, step=1.5)
    made = list(converted().forecast(frames[:, :11], 5))
    for ahead in (1, 5):
        truth, last = frames[:, 10 + ahead], frames[:, 10]
        assert error(made[ahead - 1], truth) < 0.3 * error(last, truth)


def test_a_first_frame_given_twice_is_no_rhythm() -> None:
    frames = moving(7, 128, 160, step=1.5)
    made = converted().predict(frames[:, [1, 1, 2, 3, 4, 5]])
    assert error(made, frames[:, 6]) < 0.3 * error(frames[:, 5], frames[:, 6])


def test_still_parts_beside_motion_stay_exactly() -> None:
    frames = moving(6, 96, 160)
    frames[..., 64:, :] = frames[:, :1, :, 64:, :]
    made = list(converted().forecast(frames, 9))[-1]
    assert torch.equal(made[..., 80:, :], frames[:, 5, :, 80:, :])
    assert not torch.equal(made[..., :48, :], frames[:, 5, :, :48, :])


def test_each_item_has_its_own_horizon() -> None:
    frames = torch.cat([moving(6, step=step) for step in (1.0, 2.0, 3.0)])
    together = converted()(frames, torch.tensor([1.0, 4.0, 9.0]))
    for number, steps in enumerate((1, 4, 9)):
        alone = list(converted().forecast(frames[number : number + 1], steps))[-1]
        assert torch.allclose(together[number], alone[0], atol=1e-3)


@pytest.mark.full
def test_far_horizons_stay_finite_and_in_range() -> None:
    frames = moving(6)
    far = list(converted().forecast(frames, 60))[-1]
    assert far.isfinite().all()
    assert far.min() >= -0.01
    assert far.max() <= 1.01


def test_voxelflow_does_not_clamp_values_out_of_range() -> None:
    frames = moving(6)
    brighter = converted().predict(frames + 1)
    assert brighter.mean() > 1.4


def test_a_model_can_start_from_weights_of_another() -> None:
    state = weights.load_state("rife-4.6")
    voxelflow = registry.spec("voxelflow").build()
    assert voxelflow.start_from(state).keys() == voxelflow.state_dict().keys()
    autoencoder = SPECS["autoencoder", "reconstruct"].build()
    predictor = untrained("skip-autoencoder")
    taken = predictor.start_from(autoencoder.state_dict())
    own = predictor.state_dict()
    assert len(taken) == 8
    assert all(own[name].shape == tensor.shape for name, tensor in taken.items())
    frames = moving(4)
    seen = autoencoder.ladder.encoder[0](frames[:, -1])  # type: ignore[index, operator, union-attr]
    predictor.load_state_dict(taken, strict=False)
    again = predictor.ladder.encoder[0](frames.flatten(1, 2))  # type: ignore[index, operator, union-attr]
    assert torch.allclose(seen, again, atol=1e-5)


def test_multiscale_returns_its_stages_and_has_discriminators() -> None:
    gan = model(("multiscale-gan", "predict"))
    frames = moving(4)
    assert isinstance(gan, Predictor)
    steps = gan.stages(frames)
    assert [tuple(made.shape[2:]) for made in steps] == [(4, 6), (16, 24), (32, 48), (64, 96)]
    assert torch.equal(steps[-1], gan(frames))
    assert gan.discriminators is not None
    critics = gan.discriminators()
    logits = critics(frames, steps[-1].requires_grad_())
    assert [tuple(x.shape) for x in logits] == [(1, 1)] * 4
    assert not set(critics.state_dict()) & set(gan.state_dict())


def test_noise_in_the_skips_is_for_training_only() -> None:
    noisy = SPECS["autoencoder-noisy", "reconstruct"].build()
    picture = moving(1)[:, 0]
    assert torch.equal(noisy.eval()(picture), noisy(picture))
    assert not torch.equal(noisy.train()(picture), noisy(picture))
    plain = SPECS["autoencoder-skips", "reconstruct"].build()
    assert torch.equal(plain.train()(picture), plain(picture))


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "rate"),
    [("conv", 2e-3), ("conv-modes", 2e-3), ("conv-pyramid", 2e-3), ("unet5", 3e-4)],
)
def test_a_moving_pattern_is_learned(name: str, rate: float) -> None:
    torch.manual_seed(0)
    learner = SPECS[name, "predict"].build().train()
    optimiser = torch.optim.Adam(learner.parameters(), rate)
    frames = moving(12, 48, 64)
    need = learner.spec.context
    for step in range(60):
        at = step % (8 - need)
        loss = F.mse_loss(learner(frames[:, at : at + need]), frames[:, at + need])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    truth, last = frames[:, 11], frames[:, 10]
    made = apply(learner.eval(), frames[:, 11 - need : 11])
    assert error(made, truth) < 0.5 * error(last, truth)
