"""Predictors and research models: what each of them does, trained or not."""

from functools import cache

import pytest
import torch

from cloudconv import weights
from cloudconv.models import catalogue, registry
from cloudconv.models.base import Predictor
from cloudconv.models.voxelflow import VoxelFlow, from_rife


def untrained(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = registry.spec(name, "predict").build().eval()
    assert isinstance(built, Predictor)
    return built


def reconstructor(name):
    return registry.spec(name, "reconstruct").build()


def moving(count, height=64, width=96, step=2.0):
    """Return (1, count, 3, H, W): a texture that moves right by ``step`` pixels a frame."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")

    def at(number):
        u = x - number * step
        waves = [
            torch.sin(u / (3 + k) + y / (5 + k) + k) * torch.cos(y / 4 - k)
            for k in range(3)
        ]
        return 0.5 + 0.4 * torch.stack(waves)

    return torch.stack([at(number) for number in range(count)])[None]


def error(picture, truth):
    """Return the mean squared error without the borders where new content enters."""
    return float((picture - truth)[..., 8:-8, 24:-8].square().mean())


RESEARCH = [spec for spec in catalogue.RESEARCH if spec.task == "predict"]


@pytest.mark.parametrize("name", [spec.name for spec in RESEARCH])
def test_untrained_predictors_return_nearly_the_last_frame(name):
    frames = moving(5)
    result = untrained(name).predict(frames)
    assert (result - frames[:, -1]).abs().max() < 0.1
    assert (result - frames[:, -1]).abs().mean() < 0.02


@pytest.mark.parametrize("step", [0.7, 2.0])
def test_flow_continues_motion(step):
    frames = moving(11, step=step)
    forecasts = list(untrained("flow").forecast(frames[:, :5], 6))
    for ahead in (1, 3, 6):
        truth, last = frames[:, 4 + ahead], frames[:, 4]
        assert error(forecasts[ahead - 1], truth) < 0.2 * error(last, truth)


@cache
def converted():
    result = registry.spec("voxelflow").build().eval()
    assert isinstance(result, VoxelFlow)
    result.load_state_dict(from_rife(weights.load_state("rife-4.6")), strict=True)
    return result.requires_grad_(False)


def test_voxelflow_forecasts_with_the_weights_of_rife():
    frames = moving(14, 128, 160, step=1.5)
    forecasts = list(converted().forecast(frames[:, :6], 8))
    for ahead in (1, 2, 5, 8):
        truth, last = frames[:, 5 + ahead], frames[:, 5]
        assert error(forecasts[ahead - 1], truth) < 0.3 * error(last, truth)


@pytest.mark.full
def test_voxelflow_reduces_motion_that_did_not_continue_before():
    places = [0, 4, 1, 5, 2, 4, 0, 5, 1, 4, 2, 5, 0, 4, 1, 5]  # a camera that shakes
    frames = moving(7, 128, 160, step=1.0)[:, places]
    plain, tried = (list(converted().forecast(frames[:, first:11], 5)) for first in (5, 0))
    before, after = (
        sum(error(made[k], frames[:, 11 + k]) for k in range(5)) for made in (plain, tried)
    )
    assert after < 0.7 * before


def test_a_first_frame_given_twice_is_no_rhythm():
    frames = moving(7, 128, 160, step=1.5)
    result = converted().predict(frames[:, [1, 1, 2, 3, 4, 5]])
    assert error(result, frames[:, 6]) < 0.3 * error(frames[:, 5], frames[:, 6])


@pytest.mark.full
def test_stills_and_still_parts_beside_motion_stay_exactly():
    still = moving(1).expand(-1, 6, -1, -1, -1)
    assert (list(converted().forecast(still, 12))[-1] - still[:, 0]).abs().max() == 0
    frames = moving(6, 96, 160)
    frames[..., 64:, :] = frames[:, :1, :, 64:, :]
    forecasts = list(converted().forecast(frames, 9))[-1]
    assert torch.equal(forecasts[..., 80:, :], frames[:, 5, :, 80:, :])
    assert not torch.equal(forecasts[..., :48, :], frames[:, 5, :, :48, :])


def test_a_model_can_start_from_weights_of_another():
    state = weights.load_state("rife-4.6")
    voxelflow = registry.spec("voxelflow").build()
    assert voxelflow.start_from(state).keys() == voxelflow.state_dict().keys()
    autoencoder = reconstructor("autoencoder")
    predictor = untrained("skip-autoencoder")
    taken = predictor.start_from(autoencoder.state_dict())
    own = predictor.state_dict()
    assert len(taken) == 8
    assert all(own[name].shape == tensor.shape for name, tensor in taken.items())
    frames = moving(4)
    seen = autoencoder.ladder.encoder[0](frames[:, -1])
    predictor.load_state_dict(taken, strict=False)
    again = predictor.ladder.encoder[0](frames.flatten(1, 2))
    assert torch.allclose(seen, again, atol=1e-5)


def test_multiscale_returns_its_stages_and_has_discriminators():
    gan = untrained("multiscale-gan").requires_grad_(False)
    frames = moving(4)
    steps = gan.stages(frames)
    assert [tuple(stage.shape[2:]) for stage in steps] == [
        (4, 6),
        (16, 24),
        (32, 48),
        (64, 96),
    ]
    assert torch.equal(steps[-1], gan(frames))
    assert gan.discriminators is not None
    critics = gan.discriminators(gan.spec)
    logits = critics(frames, steps[-1].requires_grad_())
    assert [tuple(x.shape) for x in logits] == [(1, 1)] * 4
    assert not set(critics.state_dict()) & set(gan.state_dict())


def test_noise_in_the_skips_is_for_training_only():
    noisy = reconstructor("autoencoder-noisy")
    picture = moving(1)[:, 0]
    assert torch.equal(noisy.eval()(picture), noisy(picture))
    assert not torch.equal(noisy.train()(picture), noisy(picture))
    plain = reconstructor("autoencoder-skips")
    assert torch.equal(plain.train()(picture), plain(picture))


CONTEXT = registry.spec("voxelflow").context


PAIR = [CONTEXT - 2] * (CONTEXT - 1) + [CONTEXT - 1]
"""Two frames as a context: the first is given again and again."""


@pytest.mark.parametrize("known", [[*range(CONTEXT)], PAIR], ids=["six", "two"])
def test_two_frames_are_continued_like_six(known):
    frames = moving(CONTEXT + 3)
    forecasts = list(registry.load_predictor("voxelflow").forecast(frames[:, known], 3))
    assert len(forecasts) == 3
    for step, picture in enumerate(forecasts):
        truth = frames[:, CONTEXT + step]
        last = frames[:, CONTEXT - 1]
        assert error(picture, truth) < 0.1 * error(last, truth)


def test_each_item_of_a_batch_has_its_own_horizon_and_number_of_frames():
    frames = moving(CONTEXT)
    known = [*range(CONTEXT)], PAIR, [CONTEXT - 1] * CONTEXT
    contexts = torch.cat([frames[:, numbers] for numbers in known])
    model = registry.load_predictor("voxelflow")
    horizons = (1, 4, 9)
    together = model(contexts, torch.tensor(horizons).float())
    for forecast_frame, context, steps in zip(together, contexts, horizons, strict=True):
        alone = list(model.forecast(context[None], steps))[-1]
        assert torch.allclose(forecast_frame, alone[0], atol=1e-3)
