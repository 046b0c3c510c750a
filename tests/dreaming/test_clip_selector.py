"""The choice of footage for a collage, and the cut between two placements."""

import numpy as np
import pytest

from cloudconv.dreaming.material.light import Light
from cloudconv.dreaming.material.wind import end_flows, mean_flow
from cloudconv.dreaming.methods.clip_selector import ClipSelector, Past
from cloudconv.dreaming.methods.likeness import detail, repeats
from cloudconv.dreaming.methods.pieces import Piece, Thumbs
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.images import resized, spread
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
def test_two_placements_leave_no_side_empty_and_no_part_unknown(source, thumbs):
    chooser = selector(source, thumbs)
    seen = [thumbs.frames[59]] * 2
    for one in (chosen(chooser, thumbs, seen, [10, 30], 40) for _ in range(2)):
        assert one.cut is not None
        first, second = (
            placement.known(thumbs.size[1]) for placement in (one.first, one.second)
        )
        assert float((first + second).min()) >= 1
        for age in range(one.life):
            weights = one.cut.weights(thumbs.points.back(age), age, thumbs.size)
            # No placement is shown where it is unknown: its straight edge would be visible.
            assert float(weights[:, second == 0].mean()) < 0.05
            assert float(weights[:, first == 0].mean()) > 0.95


def unrelated_skies():
    """Return four skies: (4, 20, 36)."""
    random = np.random.default_rng(0)
    coarse = random.random((4, 10, 18)).astype(np.float32)
    skies = np.stack([resized(100 * noise, (20, 36)) for noise in coarse])
    return detail(skies, np.ones((20, 36), np.float32))


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
