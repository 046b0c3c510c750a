"""The mean of what a shutter sees: its weights, in linear light, for each pixel format."""

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
import torch
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.colour.color import from_channels, to_channels
from cloudconv.media.frames.frame import ColorTags, Frame
from cloudconv.render.exposure import Exposure, moments, pictures_of
from cloudconv.timeline import Task
from tests.helpers.factory import picture

CPU = torch.device("cpu")
FORMATS = ["yuv420p", "gbrp", "gray", "yuva420p", "yuv422p10le", "gbrp12le", "gbrap16le"]


def random_frame(pix_fmt, transfer, seed):
    like = picture(0, 32, 16, pix_fmt)
    random = np.random.default_rng(seed)
    depth = max(component.bits for component in like.format.components)
    for plane in like.planes:
        kind = np.uint16 if depth > 8 else np.uint8
        values = np.frombuffer(plane, kind)
        values[:] = random.integers(0, 1 << depth, values.shape)
    return Frame(like, F(0), F(1), ColorTags(transfer=transfer))


def exposed(frames, weights):
    exposure = Exposure(frames[0], CPU)
    for frame, weight in zip(frames, weights, strict=True):
        exposure.add(to_channels(frame.planes(), frame), weight)
    return from_channels(exposure.mean(), frames[0])


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from([1, 2, 8, 13, 16, 18]),
    st.lists(st.floats(0.001, 4), min_size=1, max_size=9),
    st.integers(0, 9),
)
def test_what_stands_still_keeps_every_bit(pix_fmt, transfer, weights, seed):
    frame = random_frame(pix_fmt, transfer, seed)
    made = exposed([frame] * len(weights), weights)
    planes = zip(made, frame.planes(), strict=True)
    assert all(torch.equal(plane, own) for plane, own in planes)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from([1, 13, 16, 18]),
    st.integers(0, 9),
    st.floats(0.1, 0.9),
)
def test_only_pixels_that_change_are_mixed(pix_fmt, transfer, seed, weight):
    """The left half stands still, and the right one is mixed between both pictures."""
    frame = random_frame(pix_fmt, transfer, seed)
    planes = [plane.clone() for plane in frame.planes()]
    for plane in planes:
        plane.numpy()[:, plane.shape[1] // 2 :] //= 2
    other = frame.like(planes, F(0), F(1))
    made = exposed([frame, other], [weight, 1 - weight])
    for plane, own in zip(made, frame.planes(), strict=True):
        half = plane.shape[1] // 2 - 2  # the chroma of the cells beside is spread
        assert torch.equal(plane[:, :half], own[:, :half])


def flat(values, pix_fmt="gbrp", transfer=13):
    frame = VideoFrame(16, 16, pix_fmt)
    for plane, value in zip(frame.planes, values, strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    return Frame(frame, F(0), F(1), ColorTags(transfer=transfer))


@pytest.mark.parametrize(("transfer", "level"), [(13, 188), (1, 180), (8, 128)])
def test_black_and_white_are_mixed_as_light(transfer, level):
    pictures = [flat([value] * 3, transfer=transfer) for value in (0, 255)]
    made = exposed(pictures, [1, 1])
    assert {int(plane[3, 5]) for plane in made} == {level}


def test_colours_count_by_their_opacity():
    """Green, blue, red and opacity: what is transparent has no colour to give."""
    opaque, clear = flat([0, 0, 200, 255], "gbrap"), flat([255, 0, 0, 0], "gbrap")
    for pictures in ([opaque, clear], [clear, opaque]):
        assert [int(plane[0, 0]) for plane in exposed(pictures, [1, 1])] == [0, 0, 200, 128]


@given(
    st.integers(4, 16), st.fractions(0, 1, max_denominator=40),
    st.fractions(F(1, 40), 1, max_denominator=40), st.fractions(F(1, 100), 2),
)  # fmt: skip
def test_the_moments_of_a_part_are_even_and_weigh_what_it_lasts(count, t, length, lasts):
    until = min(t + length, F(1))
    if t == until:
        return
    part = Task(F(0), F(1), t, F(0), lasts, until=until)
    found = list(moments(part, count))
    times, weights = zip(*found, strict=True)
    assert (times[0], times[-1]) == (t, until)
    assert len({b - a for a, b in pairwise(times)}) == 1
    assert times[1] - times[0] <= F(1, count)
    assert sum(weights) == pytest.approx(float(lasts))
    centre = sum(float(time) * weight for time, weight in found) / sum(weights)
    assert centre == pytest.approx(float(t + until) / 2)


@pytest.mark.parametrize(
    ("motion", "count"), [(0, 4), (8, 4), (8.1, 5), (20, 10), (99, 16)]
)
def test_one_picture_stands_for_two_pixels(motion, count):
    assert pictures_of(motion) == count
