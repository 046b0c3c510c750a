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


def square_before(pan, growth=1.0):
    """Return a function that makes frames in which a square moves.

    ``pan``: the pixels by which the camera moves in a frame. ``growth``: the factor by
    which the square grows in a frame, for a camera that stands. The function returns the
    frames, and the square's top, left and side in each.
    """

    def made(frames):
        ground = textured(0, HEIGHT + 20, WIDTH + 80)
        square = 1 - textured(1, 48, 48) * [1, 0.3, 0.3]
        if growth != 1:  # a road and a car, which are smooth
            square, ground = (
                cv2.GaussianBlur(each, (0, 0), 3) for each in (square, ground)
            )
        pictures, places = [], []
        for n in range(frames):
            picture = ground[10 : 10 + HEIGHT, pan * n : pan * n + WIDTH].copy()
            size = growth**n
            top, left, side = 40 + n, 30 + 5 * n, round(48 * size)
            turn = np.array([[size, 0, left], [0, size, top]], np.float32)
            cv2.warpAffine(
                square.astype(np.float32),
                turn,
                (WIDTH, HEIGHT),
                picture,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
            pictures.append(picture)
            places.append((top, left, side))
        return tensor(pictures), places

    return made


square_under_a_pan = square_before(2)
square_before_a_still_camera = square_before(0)


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
    frames, places = square_before_a_still_camera(KNOWN + AHEAD)
    return frames[KNOWN:], forecast(frames[:KNOWN]), places[KNOWN:]


def softer(made, true):
    """Return how much finer the forecast's detail is than the true frame's, in dB."""
    return float(texture(made, texture_energy(true)))


@pytest.mark.parametrize("ahead", [1, 8, 15])
def test_a_thing_before_a_still_camera_stays_whole_and_sharp(square, ahead):
    true, made, places = (each[ahead - 1] for each in square)
    top, left, _ = places
    inside = (slice(None), slice(top + 4, top + 44), slice(left + 4, left + 44))
    apart = (made[inside] - true[inside]).abs().mean()
    assert apart < 0.2 * (made[inside] - made[inside].roll(8, -1)).abs().mean() + 0.02
    assert softer(made[inside], true[inside]) > (-2 if ahead == 1 else -3)


@pytest.mark.parametrize("ahead", [8, 15])
def test_the_background_behind_a_thing_is_uncovered(square, ahead):
    true, result, places = (each[ahead - 1] for each in square)
    top, left, _ = places
    # The square has left this area since the last known frame.
    passed = min(5 * ahead, 48)
    behind = (slice(None), slice(top + 4, top + 44), slice(left - passed, left - 10))
    assert (result[behind] - true[behind]).abs().mean() < 0.03
    assert softer(result[behind], true[behind]) > -3


def test_a_thing_that_comes_nearer_grows():
    frames, _ = square_before(0, 1.02)(KNOWN + 8)
    pictures = frames[KNOWN - 1], forecast(frames[:KNOWN])[7], frames[-1]
    before, made, true = (
        float((picture[0] - picture[1] < -0.25).sum()) for picture in pictures
    )
    assert true > 1.2 * before
    assert made == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("made", [lambda n: square_under_a_pan(n)[0], zoom])
def test_before_a_camera_that_moves_the_forecast_is_that_of_the_flow(made):
    frames = made(KNOWN)
    assert torch.equal(forecast(frames), forecast(frames, "flow"))


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
