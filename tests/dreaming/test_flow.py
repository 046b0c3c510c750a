"""The mode flow: motion fields from a clip, from a still, and in a loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cloudconv.dreaming.material.sky import sky_of
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.flow import flow
from cloudconv.images import luma, measured_flow, picture_from, small_copy, tensor_of
from tests.helpers.dreams import clouds, material, tensor, tensors

SIZE = (192, 128)


def change(a, b):
    return float((a - b).abs().mean())


def steps(made):
    return [change(a, b) for a, b in pairwise(made)]


def dreamt(count, pictures=1, wind=None, **options):
    source = material(clouds(pictures, SIZE, speed=2.0))
    with torch.inference_mode():
        return tensors(flow(source, Options(count, wind=wind, **options)))


def sky_flow(later, earlier):
    size = (SIZE[1], SIZE[0])
    later, earlier = (
        luma(small_copy(picture_from(each), size)) for each in (later, earlier)
    )
    flow = measured_flow(later, earlier)
    return np.median(flow[10:50, 40:-40], (0, 1))


@pytest.mark.parametrize("wind", [(2.0, 0.0), (-1.5, 0.5)])
def test_a_still_moves_in_the_direction_of_the_wind(wind):
    dreamt_frames = dreamt(4, wind=wind)
    flow = sky_flow(dreamt_frames[2], dreamt_frames[1])
    assert -flow[0] == pytest.approx(wind[0], abs=0.6)
    assert -flow[1] == pytest.approx(wind[1], abs=0.4)


def test_a_still_without_a_given_wind_gets_a_calm_one():
    assert 0 < change(dreamt(12)[0], tensor(clouds(1, SIZE)[0])) < 0.02


def test_a_clip_in_which_nothing_moves_moves_like_a_still():
    pictures = clouds(1, SIZE) * 20
    (made,) = tensors(flow(material(pictures), Options(1, 0)))
    (still,) = tensors(flow(material(pictures[:1]), Options(1, 0)))
    assert torch.equal(made, still)
    assert change(made, tensor(pictures[0])) > 0


def test_the_ground_of_a_still_stays_and_its_sky_moves():
    source = material(clouds(1, SIZE))
    last = tensor_of(source.picture(-1))
    assert source.matte[:80].mean() < 0.05
    assert source.matte[118:].mean() > 0.95
    dreamt_frames = dreamt(40, wind=(2.0, 0.0))
    assert max(change(p[:, 118:], last[:, 118:]) for p in dreamt_frames) < 0.01
    assert sky_of(clouds(1, SIZE)[0][:60]).all()  # a picture without ground


def test_the_sky_of_a_still_does_not_come_back_before_it_has_crossed():
    """The wind takes 96 frames to cross.

    A dissolve brought the sky back after 24 frames.
    """
    last = tensor(clouds(1, SIZE)[0])
    dreamt_frames = dreamt(60, wind=(2.0, 0.0))
    away = [change(p[:, :80], last[:, :80]) for p in dreamt_frames]
    assert min(away[10:]) > 0.8 * away[10]
    # A cloud is where the wind has carried it, which is 7 % slower in these rows than at
    # the top.
    assert change(dreamt_frames[29][:, :40, 100:160], last[:, :40, 44:104]) < away[29] / 2


def test_a_clip_keeps_its_motion():
    dreamt_frames = dreamt(4, pictures=20)
    last, *following = map(tensor, clouds(24, SIZE, speed=2.0)[19:])
    for picture, truth in zip(dreamt_frames, following, strict=True):
        assert change(picture, truth) < 0.7 * change(last, truth)


@pytest.mark.full
def test_a_flow_has_the_requested_length_and_no_jump():
    dreamt_frames = dreamt(130, pictures=20)
    steps = [change(a, b) for a, b in pairwise(dreamt_frames)]
    assert len(dreamt_frames) == 130
    assert max(steps) < 2.5 * float(np.median(steps))
    assert min(steps) > 0


@pytest.mark.parametrize("count", [3, 41, 97])
def test_a_loop_is_seamless(count):
    dreamt_frames = dreamt(count, wind=(2.0, 0.0), loop=True)
    assert len(dreamt_frames) == count
    assert change(dreamt_frames[-1], dreamt_frames[0]) <= 1.5 * max(steps(dreamt_frames))


def test_a_loop_after_a_source_leads_to_its_first_frame():
    first = tensor(clouds(1, SIZE)[0]).flip(2)
    dreamt_frames = dreamt(60, wind=(2.0, 0.0), loop=True, loop_to=picture_from(first))
    assert (
        0 < change(dreamt_frames[-1], first) < 2.5 * float(np.median(steps(dreamt_frames)))
    )
