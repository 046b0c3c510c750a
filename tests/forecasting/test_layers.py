"""Layers keep things whole, show the background behind them, and follow the camera."""

import weakref
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from cloudconv.forecasting.choice import HELD, fault, stands
from cloudconv.metrics import texture, texture_energy
from cloudconv.models import registry

KNOWN, AHEAD = 20, 15
HEIGHT, WIDTH = 180, 320


def textured(seed, height, width):
    """Return a picture with detail of several sizes, (h, w, 3) in [0, 1]."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for sigma in (1, 3, 8):
        noise = random.normal(size=(height, width, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
        total += smooth / smooth.std()
    return (0.5 + 0.08 * total).clip(0, 1)


def tensor(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def square_under_a_pan(frames):
    """Return frames of a pan by 2 pixels a frame, and the place of a square before it."""
    ground = textured(0, HEIGHT + 20, WIDTH + 80)
    square = 1 - textured(1, 48, 48) * [1, 0.3, 0.3]
    pictures, places = [], []
    for n in range(frames):
        picture = ground[10 : 10 + HEIGHT, 2 * n : 2 * n + WIDTH].copy()
        top, left = 40 + n, 30 + 5 * n
        picture[top : top + 48, left : left + 48] = square
        pictures.append(picture)
        places.append((top, left))
    return tensor(pictures), places


def zoom(frames):
    """Return frames that each show 1 % less of the picture."""
    ground = textured(2, HEIGHT, WIDTH)
    pictures = []
    for n in range(frames):
        turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, 1.01**n)
        pictures.append(
            cv2.warpAffine(ground, turn, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        )
    return tensor(pictures).clamp(0, 1)


def forecast(frames, model="layers"):
    return torch.cat(list(registry.load_predictor(model).forecast(frames[None], AHEAD)))


@pytest.fixture(scope="module")
def square():
    """Return the true frames after the known ones, a forecast, and the square's places."""
    frames, places = square_under_a_pan(KNOWN + AHEAD)
    return frames[KNOWN:], forecast(frames[:KNOWN]), places[KNOWN:]


def softer(made, true):
    """Return how much finer the forecast's detail is than the true frame's, in dB."""
    return float(texture(made, texture_energy(true)))


@pytest.mark.parametrize("ahead", [1, 8, 15])
def test_a_thing_before_a_pan_stays_whole_and_sharp(square, ahead):
    true, made, places = (each[ahead - 1] for each in square)
    top, left = places
    inside = (slice(None), slice(top + 4, top + 44), slice(left + 4, left + 44))
    apart = (made[inside] - true[inside]).abs().mean()
    assert apart < 0.2 * (made[inside] - made[inside].roll(8, -1)).abs().mean() + 0.02
    assert softer(made[inside], true[inside]) > (-2 if ahead == 1 else -3)


@pytest.mark.parametrize("ahead", [8, 15])
def test_the_background_behind_a_thing_is_uncovered(square, ahead):
    true = square[0][ahead - 1]
    result = square[1][ahead - 1]
    top, left = square[2][ahead - 1]
    # The square has left this area since the last known frame.
    passed = min(5 * ahead, 48)
    behind = (slice(None), slice(top + 4, top + 44), slice(left - passed, left - 10))
    assert (result[behind] - true[behind]).abs().mean() < 0.03
    assert softer(result[behind], true[behind]) > -3


def test_a_pan_is_continued_beyond_the_edge_without_streaks(square):
    true = square[0][AHEAD - 1]
    result = square[1][AHEAD - 1]
    entered = 2 * AHEAD
    assert softer(result[..., -entered:], true[..., -entered:]) > -2
    # Streaks along the motion have no detail across.
    steps = [each[..., -entered:].diff(dim=-1).abs().mean() for each in (result, true)]
    assert steps[0] > 0.6 * steps[1]


def test_a_zoom_continues_and_stays_sharp():
    frames = zoom(KNOWN + AHEAD)
    forecasts = forecast(frames[:KNOWN])
    true = frames[KNOWN:]
    for ahead in (1, 8, 15):
        one = forecasts[ahead - 1]
        other = true[ahead - 1]
        middle = (slice(None), slice(20, -20), slice(20, -20))
        assert (one[middle] - other[middle]).abs().mean() < 0.02
        assert softer(one[middle], other[middle]) > -2


@pytest.mark.full
def test_a_part_that_moves_within_a_thing_goes_on_for_two_frames():
    frames, places = square_under_a_pan(KNOWN + 2)
    patch = textured(5, 24, 60)
    for n, (top, left) in enumerate(places):
        frames[n, :, top + 12 : top + 36, left + 8 : left + 40] = torch.from_numpy(
            patch[:, 28 - n : 60 - n]
        ).permute(2, 0, 1)
    forecasts = forecast(frames[:KNOWN])
    last = frames[KNOWN - 1]
    for ahead in (1, 2):
        apart = []
        for picture, number in (
            (forecasts[ahead - 1], KNOWN - 1 + ahead),
            (last, KNOWN - 1),
        ):
            top, left = places[number]
            inside = picture[:, top + 16 : top + 32, left + 14 : left + 34]
            top, left = places[KNOWN - 1 + ahead]
            true = frames[KNOWN - 1 + ahead, :, top + 16 : top + 32, left + 14 : left + 34]
            apart.append(float((inside - true).abs().mean()))
        assert apart[0] < 0.85 * apart[1]


def test_a_still_scene_stays_as_it_is():
    frames = tensor([textured(3, HEIGHT, WIDTH)] * KNOWN)
    assert (forecast(frames)[-1] - frames[-1]).abs().max() < 1e-4


def test_a_blur_or_a_small_thing_that_is_torn_is_a_larger_fault_than_a_small_shift_of_all():
    """PSNR says the opposite: the blur's is higher."""
    last, true, shifted = (
        tensor([textured(0, HEIGHT, WIDTH + 40)[:, at : at + WIDTH]])[0]
        for at in (0, 20, 18)
    )
    kernel = [cv2.GaussianBlur(each.numpy(), (0, 0), 2) for each in true]
    blurred = torch.from_numpy(np.stack(kernel))
    assert (blurred - true).square().mean() < (shifted - true).square().mean()
    assert fault(shifted, true, last) < HELD < fault(blurred, true, last)
    assert fault(true, true, last) < 0.02
    torn = true.clone()
    torn[:, 20:40, 30:50] = true[:, 20:40, 30:50].mean()
    assert 2 * fault(shifted, true, last) < fault(torn, true, last)


def test_a_transparent_thing_is_a_larger_fault_than_a_misplaced_one():
    frames, _ = square_under_a_pan(12)
    last, true, near = frames[0], frames[8], frames[9]
    double = (frames[5] + frames[11]) / 2
    assert fault(near, true, last) < fault(double, true, last)


def test_a_forecast_stands_where_motion_does_not_go_on():
    pan = [
        tensor([textured(0, HEIGHT, WIDTH + 40)[:, at : at + WIDTH]])[0] for at in (0, 4, 8)
    ]
    half = pan[2].clone()
    half[..., : WIDTH // 2] = pan[1][..., : WIDTH // 2]
    lost = [stands(made, pan[1], pan[0]) for made in (pan[1], half, pan[2])]
    assert lost[0] == 1
    assert 0.3 < lost[1] < 0.7
    assert lost[2] < 0.02
    assert stands(pan[1], pan[0], pan[0]) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (33, 64), (90, 2000), (2, 4096)])
def test_pictures_of_any_size_are_forecast(size):
    wide = textured(4, size[0], size[1] + 40)
    frames = tensor([wide[:, 2 * n : 2 * n + size[1]] for n in range(8)])
    forecasts = forecast(frames)
    assert forecasts.shape == (AHEAD, 3, *size)
    assert forecasts.isfinite().all()
    assert fault(forecasts[0], frames[-1], frames[-2]) >= 0


@pytest.mark.parametrize("model", ["layers", "flow"])
def test_a_forecast_holds_few_pictures_of_its_past(model):
    frames = torch.rand(30, 1, 3, 48, 64)
    held = weakref.WeakSet()
    most = 0

    def made(frame):
        nonlocal most
        picture = frame.clone()
        held.add(picture)
        most = max(most, len(held))
        return picture

    pictures = [partial(made, frame) for frame in frames]
    next(registry.load_predictor(model).forecast_from(pictures, [1]))
    assert 0 < most <= 3
