"""A camera that pans slowly over a ridge, in front of filmed clouds."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.material.pan import view_of
from cloudconv.dreaming.material.wind import mean_flow
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.collage import collage
from cloudconv.images import picture_of, small_copy, tensor_of
from cloudconv.jobs.extend.ending import gather_material
from cloudconv.media.reading.probe import probe
from tests.helpers.dreams import chosen, clouds, lost_land, material, tensor, tensors
from tests.helpers.tiers import first_full

CLIP = Path(__file__).parents[2] / "examples" / "clouds.mp4"
SUNSET = (
    Path(__file__).resolve().parents[3] / "shared" / "clips" / "hard" / "sunset-ridge.mp4"
)
SIZE = 240, 150


@cache
def filmed():
    source = gather_material(probe(CLIP))
    return [source.views.small(k)[:200] for k in range(len(source.frames))]


@cache
def panned(speed, rise=0.0):
    """Return a dark ridge before filmed clouds; the camera moves right and up."""
    width, height = SIZE
    wide = width + round(speed * len(filmed())) + 2
    below = round(rise * len(filmed()))
    x = np.arange(wide)
    tops = 0.8 * height - 8 * np.sin(x / 23) - 5 * np.sin(x / 9 + 1)
    covered = np.clip(np.arange(height + below)[:, None] - tops + 0.5, 0, 1)[..., None]
    leaves = 8 + 25 * np.random.default_rng(3).random((height + below, wide, 1))
    frames = []
    for k, picture in enumerate(filmed()):
        sky = cv2.resize(picture, (wide, height + below), interpolation=cv2.INTER_AREA)
        image = (sky * (1 - covered) + leaves * covered).astype(np.float32)
        move = np.array([[1, 0, -speed * k], [0, 1, rise * k - below]])
        view = cv2.warpAffine(image, move, SIZE, borderMode=cv2.BORDER_REPLICATE)
        frames.append(view.clip(0, 255).astype(np.uint8))
    return frames


@pytest.mark.full
def test_the_wind_of_a_pan_is_one_where_the_first_frames_are_unknown():
    source = material(panned(0.5))
    wind = mean_flow(source, range(1, len(source)))[: SIZE[1] // 2, :, 0].mean(0)
    assert float(wind[-20:].mean()) == pytest.approx(float(wind[20:-40].mean()), rel=0.3)


@pytest.mark.full
@pytest.mark.parametrize("speed", [0.1, 0.5])
def test_a_slow_pan_over_land_is_removed(speed):
    pictures = panned(speed)
    source = material(pictures)
    last = len(pictures) - 1
    assert source.views.path is not None
    assert source.views.path[0, 0] == pytest.approx(-speed * last, abs=1)
    assert torch.equal(tensor_of(source.picture(-1)), tensor(pictures[-1]))
    # The ridge of the first frame is where the last frame shows it.
    land = source.views.land > 0
    bright = [float((source.picture(k).max(2)[land] > 0.3).mean()) for k in (0, last)]
    assert bright[0] < bright[1] + 0.01


@pytest.mark.full
@pytest.mark.parametrize("size", [(320, 240), (240, 160)])
def test_the_path_of_a_pan_is_right_at_the_sizes_of_a_fourier_transform(size):
    pictures = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in panned(0.5)]
    path = view_of(pictures)[1]
    across = 0.5 * size[0] / SIZE[0]
    assert path is not None
    assert np.abs(path[:, 0] - across * np.arange(1 - len(pictures), 1)).max() < 1


def test_a_hill_that_enters_with_a_pan_is_land_and_the_sky_above_is_not():
    pictures = [picture.copy() for picture in panned(0.5)]
    width, height = SIZE
    entered = round(0.5 * (len(pictures) - 1))
    away = np.arange(width) - width + 5
    tops = (0.8 * height - 45 * np.exp(-np.square(away / 12))).round().astype(int)
    for n, picture in enumerate(pictures):
        shift = round(0.5 * (len(pictures) - 1 - n))
        for column in range(width - entered, width - shift):
            picture[tops[column] :, column + shift] = 15
    land, _ = view_of(pictures)
    hill = np.arange(height)[:, None] >= tops
    assert (land == hill)[:, -entered:].mean() > 0.98


@pytest.mark.parametrize("speed", first_full([0.2, 0.0]))
def test_a_camera_that_rises_over_land_leads_to_no_collage(speed):
    source = material(panned(speed, rise=0.2))
    assert source.views.path is None
    assert chosen(source).mode == "texture"


@pytest.mark.parametrize("count", [1, 30])
def test_a_camera_that_stands_still_does_not_pan(count):
    source = material(clouds(count, (160, 128)))
    assert source.views.path is None


def test_a_sky_that_drifts_is_no_pan():
    still = material(filmed()[:48])
    assert still.views.path is None
    wide = np.ascontiguousarray(clouds(1, (700, 96))[0][:60])
    drifting = [np.ascontiguousarray(wide[:, 2 * k : 2 * k + 200]) for k in range(60)]
    still = material(drifting)
    assert still.views.path is None
    still = material([np.ascontiguousarray(one.swapaxes(0, 1)) for one in drifting])
    assert still.views.path is None


def check_ridge(pictures):
    """Assert that a collage keeps the land and casts no shadow in the sky."""
    source = material(pictures)
    assert source.views.path is not None
    with torch.inference_mode():
        dreamt_frames = tensors(one.show() for one in collage(source, Options(50, 0)))
    assert lost_land(pictures, dreamt_frames) < 0.01
    never_dark = np.min(np.max(pictures, 3), 0) > 60
    for one in dreamt_frames:
        dark = 255 * one.amax(0).numpy() < 40
        assert (dark & never_dark).mean() < 0.003


@pytest.mark.parametrize("speed", first_full([0.2, 0.1, 0.5]))
def test_a_ridge_stays_whole_after_a_pan_and_casts_no_shadow_in_the_sky(speed):
    check_ridge(panned(speed))


@pytest.mark.slow
@pytest.mark.skipif(not SUNSET.exists(), reason="the clip is not in the repository")
def test_a_filmed_ridge_stays_whole_after_a_pan():
    source = gather_material(probe(SUNSET))
    check_ridge(
        [small_copy(picture_of(frame), source.small_size) for frame in source.frames]
    )


@pytest.mark.full
def test_land_and_camera_are_the_same_in_files_of_other_sizes():
    """The camera travels by less than two pixels of 320, and by more than two of 480."""
    slow = panned(1.15 / len(filmed()))
    views = []
    for size in ((320, 200), (480, 300)):
        views.append(material([cv2.resize(one, size) for one in slow]).views)
    assert [each.path is None for each in views] == [False, False]
    small, large = (cv2.resize(each.land, (320, 200)) for each in views)
    assert np.abs(small - large).mean() < 0.02
