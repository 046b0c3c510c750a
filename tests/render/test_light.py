"""A change of light is neither motion nor a fade: motion goes on in even light."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

import cloudconv

HEIGHT, WIDTH = 64, 96


def view(place):
    """Return a part of a wide texture at a horizontal place in pixels: (H, W, 3)."""
    random = np.random.default_rng(4)
    wide = random.normal(size=(HEIGHT, 3 * WIDTH, 3))
    texture = sum(gaussian_filter(wide, (size, size, 0)) * size for size in (1.5, 4, 10))
    texture = 0.45 + 0.3 * texture / np.abs(texture).max()
    rows, columns, colours = np.mgrid[:HEIGHT, :WIDTH, :3].astype(float)
    moved = map_coordinates(texture, [rows, columns + place, colours], order=1)
    return moved.astype(np.float32)


def interpolated(gains, **options):
    """Return a pan of 3 pixels a frame with two new frames between each two."""
    pictures = [view(3 * k) * gain for k, gain in enumerate(gains)]
    return list(cloudconv.interpolate_frames(pictures, 3, **options))


FLICKER = [0.9, 1.1, 0.9]
STEP = [0.8, 0.8, 1.3]
FADE = [0.6, 0.4, 0.2]


@pytest.mark.parametrize(
    ("gains", "model"),
    [
        (STEP, "cloud-turbo"),
        pytest.param(FLICKER, "cloud-best", marks=pytest.mark.full),
        pytest.param(FLICKER, "rife-4.6", marks=pytest.mark.full),
        pytest.param(FADE, "cloud-turbo", marks=pytest.mark.full),
    ],
)
def test_motion_goes_on_while_the_light_changes(monkeypatch, gains, model):
    # Exact shifts make the even pan better than the other one.
    monkeypatch.setattr("cloudconv.render.inference.move_exactly", lambda *_: None)
    frames = interpolated(gains, model=model)
    even = interpolated([1.0] * len(gains), model=model)
    lights = np.interp(np.arange(7) / 3, np.arange(3), gains)
    for found, moved, light in zip(frames[:7], even, lights, strict=False):
        error = np.sqrt(np.square(found - moved * light).mean())
        assert error < 0.6 / 255


def test_the_mean_of_two_pictures_is_the_mean_in_any_light():
    frames = interpolated(STEP, model="blend")
    for k in (1, 2, 4, 5):
        share = k % 3 / 3
        mean = frames[k // 3 * 3] * (1 - share) + frames[k // 3 * 3 + 3] * share
        np.testing.assert_allclose(frames[k], mean, atol=1e-6)
