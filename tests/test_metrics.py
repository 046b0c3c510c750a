"""The metrics agree with scikit-image, torchmetrics, and values computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv import metrics

WANG = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
}


def pair(height=50, width=70, seed=0, noise=0.05):
    """Return a smooth 8-bit picture and a noisy copy, both RGB in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.rand(3, 1, 1, generator=random) * 6
    truth = 0.55 + 0.4 * torch.sin(x / 9 + phase) * torch.cos(y / 7 + phase)
    test = truth + noise * torch.randn(3, height, width, generator=random)
    return metrics.eight_bit(test), metrics.eight_bit(truth)


def reference_ssim(test, truth):
    # With scipy.stats, which takes a second.
    from skimage.metrics import structural_similarity

    x, y = (metrics.luma(rgb.double()).numpy() for rgb in (test, truth))
    return float(structural_similarity(x, y, **WANG))


@pytest.mark.full
@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(11, 130),
    width=st.integers(11, 130),
    seed=st.integers(0, 999),
    noise=st.sampled_from([0.002, 0.03, 0.3]),
)
def test_metrics_agree_with_scikit_image(height, width, seed, noise):
    from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

    test, truth = pair(height, width, seed, noise)
    a, b = (rgb.double().numpy() for rgb in (test, truth))
    error = mean_squared_error(b, a)
    assert float(metrics.l2(test, truth)) == pytest.approx(error, abs=1e-7)
    assert float(metrics.ssim(test, truth)) == pytest.approx(
        reference_ssim(test, truth), abs=1e-5
    )
    if error:
        expected = peak_signal_noise_ratio(b, a, data_range=1.0)
        assert float(metrics.psnr(test, truth)) == pytest.approx(expected, abs=1e-4)
    perfect = {
        name: float(metric(truth, truth)) for name, metric in metrics.PER_FRAME.items()
    }
    ssim = pytest.approx(1, abs=1e-5)
    assert perfect == {"psnr": 100, "sharpness": 100, "ssim": ssim, "l2": 0, "gdl": 0}


@pytest.mark.parametrize("level", [5, 128, 210, 240, 250, 255])
def test_ssim_is_precise_for_flat_pictures_of_any_brightness(level):
    truth = torch.full((3, 60, 80), level / 255)
    test = truth.clone()
    test[:, ::7, ::5] -= 1 / 255
    assert float(metrics.ssim(truth, truth)) == pytest.approx(1, abs=1e-5)
    assert float(metrics.ssim(test, truth)) == pytest.approx(
        reference_ssim(test, truth), abs=1e-5
    )


def test_pictures_of_a_batch_are_scored_independently():
    pairs = [pair(180, 185, seed) for seed in range(2)]
    tests, truths = (torch.stack(pictures) for pictures in zip(*pairs, strict=True))
    for name, metric in metrics.PER_FRAME.items():
        together = metric(tests, truths)
        assert together.shape == (2,), name
        assert together.dtype == torch.float64
        for one, (test, truth) in zip(together, pairs, strict=True):
            alone = metric(test, truth)
            assert alone.shape == (), name
            assert float(one) == pytest.approx(float(alone), rel=1e-6), name


def test_gdl_and_sharpness_agree_with_values_computed_by_hand():
    # An edge against a flat picture: steps of 0.2 and 0.1 across one row; 0.4, 0.2 and 0.3
    # down.
    truth = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.3, 0.2]]).expand(3, 2, 3)
    flat = torch.full((3, 2, 3), 0.5)
    assert float(metrics.gdl(flat, truth)) == pytest.approx(0.3 / 4 + 0.9 / 3, abs=1e-6)
    expected = -10 * math.log10((0.2 + 0.2 + 0.3 + 0.1) / 2)
    assert float(metrics.sharpness(flat, truth)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (10, 300), (11, 11), (175, 300)])
def test_undefined_scores_of_small_pictures_are_nan(size):
    test, truth = pair(*size)
    side = min(size)
    for name, needed in {"psnr": 1, "l2": 1, "gdl": 2, "sharpness": 2, "ssim": 11}.items():
        score = float(metrics.PER_FRAME[name](test, truth))
        assert math.isnan(score) == (side < needed), name


def test_brightness_is_the_difference_of_luma_and_eight_bit_rounds_and_clamps():
    truth = torch.full((3, 4, 4), 0.5)
    assert metrics.brightness(truth - 0.1, truth) == pytest.approx(-0.1)
    rgb = torch.tensor([-0.2, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.3]).expand(3, 1, 5)
    assert (metrics.eight_bit(rgb) * 255)[0, 0].tolist() == [0, 0, 1, 255, 255]


def test_the_error_map_is_bright_where_errors_are():
    truth = torch.full((3, 8, 8), 0.5)
    test = truth.clone()
    test[:, 2, 3] = 1.0
    test[:, 5, 5] = 0.6
    map_ = metrics.error_map(test, truth)
    assert map_.shape == (3, 8, 8)
    assert 0 <= float(map_.min()) <= float(map_.max()) <= 1
    brightness = metrics.luma(map_)
    assert float(brightness[0, 0]) < float(brightness[5, 5]) < float(brightness[2, 3])


def test_texture_is_zero_for_filmed_frames_and_negative_for_soft_ones():
    torch.manual_seed(1)
    noise = 0.5 + 0.1 * torch.randn(3, 64, 80)
    around = metrics.texture_energy(noise)
    assert metrics.texture(noise, around).item() == pytest.approx(0)
    half = metrics.texture(0.5 + (noise - 0.5) / 2, around)
    assert half.item() == pytest.approx(-20 * math.log10(2), abs=1e-3)
    mean = metrics.texture((noise + 0.5 + 0.1 * torch.randn(3, 64, 80)) / 2, around)
    assert float(mean) == pytest.approx(-3, abs=0.3)
    flat = torch.full((3, 16, 16), 0.3)
    assert metrics.texture(flat, metrics.texture_energy(flat)).item() == 0
    assert metrics.texture(torch.stack([noise, noise]), around).shape == (2,)
