"""The material of a dream: even motion, the mask of still parts, only the last scene."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.jobs.extend.ending import MOST_FRAMES, Ending, gather_material
from cloudconv.media.reading.probe import probe
from cloudconv.schedule.tasks import AnalysedFrame
from tests.helpers.dreams import clouds, dusk, frames, material, slow_clouds, video
from tests.helpers.factory import write_clip

SIZE = (96, 64)


def psnr(a, b):
    return float(-10 * np.log10(np.square(a - b).mean() + 1e-10))


def test_frames_of_an_even_clip_are_unchanged():
    source = material(clouds(6, SIZE))
    assert len(source) == 6
    assert source.size == (64, 96)
    assert source.step == Fraction(1, 25)
    picture = clouds(6, SIZE)[2].astype(np.float32) / 255
    assert psnr(source.picture(2), picture) > 60
    assert np.array_equal(source.picture(-1), source.picture(5))
    assert source.glance(0).shape == (64, 96, 3)
    with pytest.raises(IndexError):
        source.picture(6)
    with pytest.raises(IndexError):
        source.flow(0)


def test_flow_points_to_the_earlier_position():
    sky = np.median(material(clouds(12, (192, 128), speed=2.0)).flow(-1)[:80], (0, 1))
    assert sky[0] == pytest.approx(-2.3, abs=0.5)
    assert sky[1] == pytest.approx(0, abs=0.2)


def test_each_point_in_time_shows_the_nearest_real_frame_which_is_not_changed():
    filmed = frames(clouds(25, (192, 128), speed=3.0))
    wanted = Material(filmed)
    times = [0, 1, 2, 5, 6, 7, 10, 11]
    result = Material([filmed[k] for k in times], step=wanted.step)
    assert len(result) == 12
    for k in range(12):
        nearest = min(abs(k - time) for time in times)
        near = [wanted.picture(t) for t in times if abs(k - t) == nearest]
        assert any(np.array_equal(result.picture(k), picture) for picture in near)


def test_repeated_frames_are_removed_and_the_others_spread_evenly(tmp_path):
    pictures = clouds(48, SIZE, speed=2.0)
    shown = [picture for k, picture in enumerate(pictures) for _ in range(1 + (k % 4 == 3))]
    clip = write_clip(tmp_path / "c.mkv", [video(p) for p in shown], rate=30)
    source = gather_material(probe(clip))
    assert source.cadence is not None
    assert "1 of every 5 frames" in source.cadence
    assert source.step == Fraction(1, 30)
    assert len(source.frames) == 48
    gaps = {b - a for a, b in zip(source.times, source.times[1:], strict=False)}
    assert gaps == {Fraction(1, 24)}
    assert source.source_of(-1) == 47


def test_the_mask_of_still_parts_is_exact():
    pictures = clouds(60, (192, 128), speed=2.0)
    source = material(pictures)
    still = source.matte
    assert still.shape == (128, 192)
    assert still[:70].max() < 0.2
    assert still[118:].mean() > 0.9
    assert source.static.shape == source.small_size
    assert still[118:].min() > 0.9
    assert still[:60].max() < 0.2


@pytest.mark.parametrize(
    ("make", "speed"),
    [*((slow_clouds, speed) for speed in (0.03, 0.05, 0.2)), (dusk, 0.1), (dusk, 0.5)],
)
def test_slow_clouds_and_a_sunset_that_darkens_from_below_have_no_land(make, speed):
    assert material(make(40, speed)).views.land.max() == 0


def test_everything_is_land_where_only_noise_changes():
    random = np.random.default_rng(1)
    still = clouds(1, (192, 128))[0]
    noisy = [
        np.clip(still + random.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
        for _ in range(12)
    ]
    assert material(noisy).views.land.min() == 1


def test_a_glow_on_a_ridge_whose_light_changes_is_no_land():
    y, x = np.mgrid[:160, :240]
    glow = 1.5 - np.minimum((120 - y) / 4, np.hypot((x - 110) / 20, (120 - y) / 10))
    glow = glow.clip(0, 1)[..., None]
    pictures = []
    for k, sky in enumerate(clouds(40, (240, 200), speed=2.0)):
        result = sky[:160] * (1 - glow) + glow * np.array([255, 190, 40]) * (
            1 - 0.9 * (k % 8) / 8
        )
        result[120:] = 3
        pictures.append(result.clip(0, 255).astype(np.uint8))
    land = material(pictures).views.land
    assert land[120:].min() == 1
    assert land[:120].mean() < 0.001


def test_only_the_last_scene_is_material(tmp_path):
    first = clouds(30, SIZE)
    second = [255 - p[::-1] for p in clouds(40, SIZE)]
    pictures = [video(np.ascontiguousarray(p)) for p in first + second]
    clip = write_clip(tmp_path / "c.mkv", pictures, rate=25)
    source = gather_material(probe(clip))
    assert source.cut == Fraction(30, 25)
    assert len(source) == 40
    assert len(gather_material(probe(clip), scene_cut="off")) == 70
    early = gather_material(probe(clip), at=Fraction(1))
    assert (len(early), early.cut) == (25, None)


@pytest.mark.parametrize("returns", [True, False])
def test_a_flash_whose_end_counts_as_a_cut_ends_no_scene(returns):
    """The picture of a dark sky comes back, or another scene begins."""
    dark, other = torch.rand(2, 36, 64, generator=torch.Generator().manual_seed(0))
    lumas = (
        [dark / 50] * 20 + [dark / 50 + 0.4] * 8 + [dark / 50 if returns else other] * 12
    )
    shown = frames(clouds(len(lumas), SIZE))
    scene = Ending(99, 9)
    for number, (frame, luma) in enumerate(zip(shown, lumas, strict=True)):
        lit = replace(frame, luma=luma)
        scene.push(AnalysedFrame(lit, number == 28, repeats=False, shows=frame.time))
    assert len(scene.items) == (40 if returns else 12)
    assert scene.cut == (None if returns else shown[28].time)


@pytest.mark.parametrize(("earlier", "seconds"), [(1, 30), (5, 30), (5, 10**6)])
def test_frames_before_a_very_long_gap_are_no_material(tmp_path, earlier, seconds):
    times = [Fraction(k, 25) + seconds * (k >= earlier) for k in range(15)]
    clip = write_clip(tmp_path / "gap.mkv", 15, times=times, size=SIZE)
    source = gather_material(probe(clip))
    assert source.cut == times[earlier]
    assert len(source) == 15 - earlier


@pytest.mark.full
def test_only_the_end_of_a_long_clip_is_kept(tmp_path):
    pictures = [video(p) for p in clouds(MOST_FRAMES + 40, (32, 32))]
    clip = write_clip(tmp_path / "c.mkv", pictures, rate=25)
    source = gather_material(probe(clip))
    assert len(source) == MOST_FRAMES
    assert source.last.time == Fraction(MOST_FRAMES + 39, 25)


def test_gray_and_ten_bit_pictures_become_three_channels():
    for pix_fmt in ("gray", "yuv420p10le", "yuva420p"):
        source = Material(frames(clouds(3, (33, 21)), pix_fmt=pix_fmt))
        assert source.picture(1).shape == (21, 33, 3)
        assert 0.2 < float(source.picture(1).mean()) < 0.9
