"""Dissolves are found at their end, and light, fog, motion and fades to black are none."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.schedule.dissolves import dissolved
from tests.schedule.test_cuts import scene

RATE = 25


def mixed(before, after, weights):
    """Return the pictures of one scene that dissolve into those of another."""
    return torch.lerp(before, after, torch.as_tensor(weights).float()[:, None, None])


def even(count):
    """Return the weights of the pictures of a dissolve, without 0 and 1."""
    return np.linspace(0, 1, count + 2)[1:-1]


@pytest.mark.full
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    seconds=st.floats(0.3, 2.0),
    begins=st.integers(12, 80),
    goes_on=st.integers(40, 120),
    speed=st.sampled_from([0.0, 0.1]),
    is_smooth=st.booleans(),
)
def test_a_dissolve_is_found_at_its_end(seed, seconds, begins, goes_on, speed, is_smooth):
    count = round(seconds * RATE) - 1
    weights = even(count)
    if is_smooth:
        weights = weights * weights * (3 - 2 * weights)
    whole = np.concatenate([np.zeros(begins), weights, np.ones(goes_on)])
    one, two = (scene(2 * seed + k, len(whole), speed=speed) for k in (0, 1))
    end = dissolved([*mixed(one, two, whole)], RATE)
    assert end is not None
    assert whole[end] > 0.9
    assert end <= begins + count + max(5, 0.4 * count)


def test_the_last_of_two_dissolves_counts_and_a_repeated_picture_is_no_scene():
    scenes = [scene(k, 140, speed=0.1) for k in range(3)]
    weights = np.concatenate([np.zeros(20), even(14), np.ones(106)])
    later = np.concatenate([np.zeros(70), even(14), np.ones(56)])
    sound = mixed(mixed(scenes[0], scenes[1], weights), scenes[2], later)
    assert 84 <= dissolved([*sound], RATE) <= 88
    assert dissolved([scenes[0][0]] * 60, RATE) is None
    assert dissolved([*scenes[0][:3]], RATE) is None


def test_a_fade_from_black_is_a_dissolve_and_a_fade_to_black_is_none():
    pictures = scene(3, 80, speed=0.1)
    ramp = torch.as_tensor(np.concatenate([np.zeros(10), even(24), np.ones(46)])).float()
    faded = ramp[:, None, None] * pictures
    assert 34 <= dissolved([*faded], RATE) <= 41
    assert dissolved([*faded.flip(0)], RATE) is None


def changed(kind):
    """Return pictures of one scene whose light, weather or view changes."""
    count = 100
    time = torch.linspace(0, 1, count)[:, None, None]
    step = ((time - 0.4) * 4).clamp(0, 1)
    still, moving = scene(5, count, speed=0.0), scene(5, count, speed=0.4)
    shade = torch.linspace(0, 1, 64)
    return {
        "still": still,
        "motion": moving,
        "fast motion": scene(5, count, speed=3.0),
        "dusk": moving * (1 - 0.85 * time),
        "lamp": still * (0.15 + 0.85 * step),
        "fog": torch.lerp(moving, torch.full_like(moving, 0.7), 0.9 * step),
        "shadow of a cloud": still * (1 - 0.6 * (step * 2 - shade).clamp(0, 1)),
        "flash": still * 0.5 + 0.5 * (step * (1 - step) * 4),
        "mixed pictures": torch.stack(
            [
                torch.lerp(one, two, part)
                for one, two in pairwise(scene(5, 7, speed=3.0))
                for part in np.linspace(0, 1, 16)
            ]
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "still",
        "motion",
        "fast motion",
        "dusk",
        "lamp",
        "fog",
        "shadow of a cloud",
        "flash",
        "mixed pictures",
    ],
)
def test_other_changes_are_no_dissolves(kind):
    assert dissolved([*changed(kind)], RATE) is None


def test_a_hard_cut_is_no_dissolve():
    assert dissolved([*scene(1, 40), *scene(2, 40)], RATE) is None
