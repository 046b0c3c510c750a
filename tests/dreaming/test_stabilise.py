"""Slow pans: found, removed for the dream, and added again."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from cloudconv.dreaming.material.camera import camera_path
from cloudconv.dreaming.material.stabilise import Pan, _swing, panorama_of
from cloudconv.dreaming.methods.collage import Collage
from tests.helpers.dreams import clouds, material, tensor

VIEW = 160
SPEED = 1.0


@pytest.fixture(autouse=True)
def _the_ground_is_solid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat soft ground as solid, because generated land is as soft as clouds."""
    monkeypatch.setattr("cloudconv.dreaming.material.stabilise.SOFT", -1.0)


@cache
def panned(count: int = 48) -> list[np.ndarray]:
    """Return pictures of a camera that pans right by a pixel a frame over land below clouds."""
    world = clouds(count, (VIEW + count, 128), speed=0.5)
    return [
        np.ascontiguousarray(picture[:, round(k * SPEED) : round(k * SPEED) + VIEW])
        for k, picture in enumerate(world)
    ]


def test_the_path_of_a_pan_is_found() -> None:
    source = material(panned())
    path = camera_path(len(source), source.small, source.flow)
    assert path is not None
    assert path[-1] == pytest.approx([0, 0])
    assert path[0] == pytest.approx([-47, 0], abs=1.5)


def test_a_camera_that_stands_still_has_no_path() -> None:
    assert panorama_of(material(clouds(30, (VIEW, 128)))) is None
    assert panorama_of(material(clouds(1, (VIEW, 128)))) is None


@pytest.mark.full
def test_the_panorama_stands_still_and_is_as_wide_as_the_pan() -> None:
    world = panorama_of(material(panned()))
    assert world is not None
    assert world.size[1] >= VIEW + 46
    left = int(world.path[-1][0]) + 5
    hills = (slice(None), slice(-16, -6), slice(left, left + 90))
    first, last = world.picture(10), world.picture(-1)
    assert float((first[hills] - last[hills]).abs().mean()) < 0.02


@pytest.mark.full
def test_the_camera_turns_gently_within_the_panorama() -> None:
    world = panorama_of(material(panned()))
    assert world is not None
    pan = Pan(world, 200, loop=False, to_first=False)
    places = np.array([pan.corner(k)[0] for k in range(201)])
    steps = np.diff(places)
    assert steps[0] == pytest.approx(SPEED, abs=0.3)
    assert np.abs(np.diff(steps)).max() < 0.35
    assert places.min() >= 0
    assert places.max() <= world.size[1] - VIEW
    assert steps.min() < -0.5


@pytest.mark.full
def test_a_pan_continues_without_a_jump() -> None:
    source = material(panned())
    with torch.inference_mode():
        made = list(Collage().dream(source, frames=30, seed=0))
    assert made[0].shape == (3, 128, VIEW)
    before = float((tensor(panned()[-1]) - tensor(panned()[-2])).abs().mean())
    shown = [tensor(panned()[-1]), *made]
    assert max(float((a - b).abs().mean()) for a, b in pairwise(shown)) < 2.5 * before


@pytest.mark.full
@pytest.mark.parametrize(("to_first", "goal"), [(False, 47), (True, 0)])
def test_the_camera_of_a_loop_returns(to_first: bool, goal: int) -> None:
    world = panorama_of(material(panned()))
    assert world is not None
    pan = Pan(world, 180, loop=True, to_first=to_first)
    # The camera moves forwards to the start of the output, or to one frame before the first frame.
    assert pan.along[180] == pytest.approx(goal - to_first, abs=0.2)
    assert pan.along[180] - pan.along[179] == pytest.approx(1, abs=0.2)
    assert np.abs(np.diff(pan.along)).max() < 2.5


def test_a_swing_starts_in_the_direction_of_the_pan() -> None:
    way = _swing(100, 400)
    assert way[0] == 100
    assert way[1] > 100
    assert way.min() > -8
    assert way.max() < 115
