"""The choice of footage for a collage, and the cut between two placements."""

import numpy as np
import pytest

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.wind import end_flows, mean_flow
from cloudconv.dreaming.methods.clip_selector import ClipSelector, Past
from cloudconv.dreaming.methods.pieces import Piece, Thumbs
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.symmetry import detail, repeats, symmetry
from cloudconv.images import luma, resized, spread
from tests.helpers.dreams import clouds, material


@pytest.fixture(scope="module")
def source():
    return material(clouds(60, (128, 96)))


def thumbs_of(source):
    wind = mean_flow(source, spread(len(source), 1))
    return Thumbs(source, Light(source), wind, end_flows(source, 20), 20)


@pytest.fixture(scope="module")
def thumbs(source):
    return thumbs_of(source)


def piece(thumbs, placement, life=1):
    return Piece((thumbs.footage, thumbs.footage), 0, placement, life=life)


def chosen(chooser, thumbs, seen, ages, life):
    return chooser.choose(piece(thumbs, Placement(0), life), seen, ages)


def selector(source, thumbs):
    return ClipSelector(source, thumbs, Past(thumbs), np.random.default_rng(0), (10, 10))


@pytest.mark.full
def test_two_placements_leave_no_side_empty_and_no_part_unknown(
    source, thumbs, monkeypatch
):
    monkeypatch.setattr("cloudconv.dreaming.methods.clip_selector._SINGLE", 0.0)
    chooser = selector(source, thumbs)
    seen = [thumbs.frames[59]] * 2
    for one in (chosen(chooser, thumbs, seen, [10, 30], 40) for _ in range(2)):
        assert one.cut is not None
        assert one.first.mirrored == one.second.mirrored
        first, second = (
            placement.known(thumbs.size[1]) for placement in (one.first, one.second)
        )
        assert float((first + second).min()) >= 1
        for age in range(one.life):
            weights = one.cut.weights(thumbs.points.back(age), age, thumbs.size)
            # No placement is shown where it is unknown: its straight edge would be visible.
            assert float(weights[:, second == 0].mean()) < 0.05
            assert float(weights[:, first == 0].mean()) > 0.95


@pytest.mark.full
def test_no_picture_of_the_clip_is_shown_whole_twice(source, thumbs, monkeypatch):
    monkeypatch.setattr("cloudconv.dreaming.methods.clip_selector._SINGLE", 0.97)
    chooser = selector(source, thumbs)
    frames_shown = set[int]()
    singles = 0
    for _ in range(5):
        one = chosen(chooser, thumbs, [thumbs.frames[59]] * 2, [3, 6], 8)
        if one.second is None:
            singles += 1
            frames = {one.first.frame(age) for age in range(8)}
            assert one.first.mirrored
            assert not frames & frames_shown
            frames_shown |= frames
    assert singles > 1


@pytest.mark.full
def test_new_footage_is_no_mirror_image_of_the_footage_that_it_replaces(source, thumbs):
    chooser = selector(source, thumbs)
    moving = np.ones(thumbs.size, np.float32)
    moving[round(0.75 * thumbs.size[0]) :] = 0

    def details(shown):
        pictures = np.stack(
            [shown.thumbnail(age, thumbs.points)[0] for age in (10, 16, 22)]
        )
        return detail(255 * luma(pictures), moving)

    before = piece(thumbs, Placement(20))
    mirrored = piece(thumbs, Placement(52, backwards=True, mirrored=True))
    assert float(symmetry(details(before), details(mirrored)).max()) > 0.89
    seen = [before.thumbnail(age, thumbs.points)[0] for age in (10, 16, 22)]
    for _ in range(3):
        after = chosen(chooser, thumbs, seen, [10, 16, 22], 40)
        assert float(symmetry(details(before), details(after)).max()) < 0.8
        assert float(symmetry(details(after), details(before)).max()) < 0.8


def unrelated_skies():
    """Return four skies without symmetry: (4, 20, 36)."""
    random = np.random.default_rng(0)
    coarse = random.random((4, 10, 18)).astype(np.float32)
    skies = np.stack([resized(100 * noise, (20, 36)) for noise in coarse])
    return detail(skies, np.ones((20, 36), np.float32))


@pytest.mark.parametrize("lower", range(-2, 3))
def test_a_mirror_image_is_found_at_another_height(lower):
    sky = unrelated_skies()
    assert float(symmetry(sky, np.roll(sky[..., ::-1], lower, 1)).min()) > 0.9
    assert float(symmetry(sky, np.roll(sky, 1, 0)).max()) < 0.6


@pytest.mark.full
def test_a_sky_that_runs_twice_as_fast_changes_in_half_of_the_time(source, thumbs):
    quick = thumbs_of(material(clouds(120, (128, 96))[::2]))
    assert 0.4 < quick.changes_in(12) / thumbs.changes_in(24) < 0.6


def test_the_same_clouds_beside_each_other_are_found():
    sky = unrelated_skies()
    twice = sky.copy()
    twice[..., 20:32] = sky[..., 2:14]
    assert float(repeats(sky, sky).max()) < 0.6
    assert float(repeats(twice, twice).min()) > 0.8
    assert float(repeats(twice, sky).min()) > 0.8
