"""Things that move fast are found and placed as wholes, and nothing else changes."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.models import wholes
from cloudconv.models.base import MOTION, Made, more_channels
from cloudconv.models.ops import warp

SIZE = 120, 200


def ground(seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 216, (15, 25, 3)).astype(np.float32)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def disc(behind, x, y=60.0, radius=6.0, colour=(240, 50, 30), blur=0.0):
    """Return the ground with a disc, whose outline is soft by a pixel or more."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)
    if blur:
        inside = cv2.blur(inside, (int(blur), 1))
    return behind + inside[..., None] * (np.float32(colour) - behind)


def tensor(picture):
    levels = np.clip(np.rint(picture), 0, 255).astype(np.float32)
    return torch.from_numpy(levels / 255).permute(2, 0, 1)[None]


def mixed(x0, x1, timestep):
    """Return what a network without motion makes: both pictures, mixed."""
    left = (x0 - x1)[:, :3]
    zeros = torch.zeros_like(left[:, :1])
    apart = left.abs().mean(1, keepdim=True)
    parts = torch.lerp(x0, x1, timestep), left.mean(1, keepdim=True), apart
    return Made.of(torch.cat((*parts, zeros.expand(-1, 4, -1, -1)), 1))


def corrected(frames, timestep=0.5, reaches=(1.0, 1.0)):
    """Return the network's picture and the corrected one, of x0, x1, before and after."""
    made = mixed(*frames[:2], timestep)
    before = made.pictures.clone()
    searched(made, frames, timestep, reaches)
    return before, made.pictures


def searched(made, frames, timestep=0.5, reaches=(1.0, 1.0)):
    """Correct a network's picture in place."""
    cells = wholes.places(made)[0].numpy()
    area = wholes.area_of(cells, SIZE)
    if area is not None:
        times = -reaches[0], 1 + reaches[1]
        search = wholes.Search(made, area, cells, frames, times, timestep)
        search.finish([block.numpy() for block in search.blocks()])


def moving(step, x=80.0, **options):
    """Return x0, x1, before and after of a disc that moves by ``step`` columns."""
    places = (x, x + step, x - step, x + 2 * step)
    return [tensor(disc(ground(), place, **options)) for place in places]


def decibels(picture, truth):
    return float(-10 * torch.log10((picture - truth).square().mean() + 1e-9))


@pytest.mark.parametrize("radius", [4, 6, 9])
@pytest.mark.parametrize("step", [20, 32])
def test_a_lost_disc_is_whole_and_has_no_ghosts(radius, step):
    before, after = corrected(moving(step, radius=radius))
    truth = tensor(disc(ground(), 80 + step / 2, radius=radius))
    assert decibels(after, truth) > decibels(before, truth) + 10


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 0.7), st.integers(20, 38))
def test_the_place_follows_the_time(timestep, step):
    before, after = corrected(moving(step), timestep)
    truth = tensor(disc(ground(), 80 + step * timestep))
    assert decibels(after, truth) > decibels(before, truth) + 8


def test_a_blurred_outline_stays_blurred():
    calm = 128 + (ground() - 128) / 4
    frames = [tensor(disc(calm, x, blur=9)) for x in (80, 110, 50, 140)]
    before, after = corrected(frames)
    truth = tensor(disc(calm, 95, blur=9))
    assert decibels(after, truth) > decibels(before, truth) + 8


def test_a_thrown_thing_follows_its_curve():
    places = 80, 112, 48, 144
    heights = [(x - 80) ** 2 / 250 + 40 for x in places]
    frames = [tensor(disc(ground(), x, y)) for x, y in zip(places, heights, strict=True)]
    _, after = corrected(frames)
    truth, straight = (
        tensor(disc(ground(), 96, y)) for y in (256 / 250 + 40, sum(heights[:2]) / 2)
    )
    assert decibels(after, truth) > decibels(after, straight) + 2


def test_a_thing_that_leaves_the_picture_moves_on():
    frames = moving(30, x=150)
    before, after = corrected(frames)
    truth = tensor(disc(ground(), 165))
    assert decibels(after, truth) > decibels(before, truth) + 10


def unchanged(frames, **options):
    before, after = corrected(frames, **options)
    return torch.equal(before, after)


def test_without_a_frame_around_the_pair_nothing_moves():
    assert unchanged(moving(24), reaches=(0.0, -0.0))
    assert not unchanged(moving(24))


def test_two_things_that_take_turns_are_not_one():
    """One disc vanishes and another appears: no frame around shows a common path."""
    behind = ground()
    others = [tensor(disc(behind, x)) for x in (80, 110)]
    assert unchanged([*others, others[0], others[1]])


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_changing_textures_are_left_alone(seed):
    noise = np.random.default_rng(seed).normal(0, 12, (4, *SIZE, 3))
    assert unchanged([tensor(ground() + part) for part in noise])
    assert unchanged([tensor(ground(seed * 4 + k)) for k in range(4)])


def test_what_the_network_shows_is_left_alone():
    frames = moving(24)
    truth = tensor(disc(ground(), 92))
    made = mixed(*frames[:2], 0.5)
    made.pictures.copy_(truth)
    searched(made, frames)
    assert torch.equal(made.pictures, truth)


def test_opacity_moves_with_a_thing():
    frames = []
    for picture, x in zip(moving(24), (80, 104, 56, 128), strict=True):
        clear = tensor(disc(np.zeros((*SIZE, 3), np.float32), x, colour=(255,) * 3))
        frames.append(torch.cat((picture, clear[:, :1]), 1))
    _, after = corrected(frames)
    truth = tensor(disc(np.zeros((*SIZE, 3), np.float32), 92, colour=(255,) * 3))
    assert decibels(after[:, 3:], truth[:, :1]) > 25


def test_threads_change_no_bit():
    results = []
    for threads in (1, 4):
        own = cv2.getNumThreads(), torch.get_num_threads()
        cv2.setNumThreads(threads)
        torch.set_num_threads(threads)
        try:
            results.append(corrected(moving(24))[1])
        finally:
            cv2.setNumThreads(own[0])
            torch.set_num_threads(own[1])
    assert torch.equal(*results)


@pytest.mark.parametrize("step", [20, 30])
def test_the_camera_may_move(step):
    """The ground moves too, and the network knows this motion."""
    frames = [
        tensor(disc(np.roll(ground(), 4 * k, 1), 80 + step * k)) for k in (0, 1, -1, 2)
    ]
    flow = torch.tensor([-2.0, 0, 2, 0]).view(1, 4, 1, 1).expand(1, 4, *SIZE)
    moved = [warp(frames[k], flow[:, 2 * k : 2 * k + 2]) for k in (0, 1)]
    made = Made.of(
        torch.cat((torch.lerp(*moved, 0.5), more_channels(MOTION, moved, flow)), 1)
    )
    before = made.pictures.clone()
    searched(made, frames)
    truth = tensor(disc(np.roll(ground(), 2, 1), 80 + step / 2))
    inside = (..., slice(10, -10))
    assert decibels(made.pictures[inside], truth[inside]) > (
        decibels(before[inside], truth[inside]) + 10
    )


def test_a_still_picture_has_no_area():
    made = Made.of(torch.zeros(1, 3 + MOTION, *SIZE))
    assert wholes.area_of(wholes.places(made)[0].numpy(), SIZE) is None
