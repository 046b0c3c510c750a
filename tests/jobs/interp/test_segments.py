"""Segments of any plan contain all of its frames, once and in order."""

import itertools
import pickle
from dataclasses import replace
from fractions import Fraction as F
from itertools import groupby
from operator import attrgetter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.jobs.interp.segments import (
    MAX_FRAMES,
    MAX_SOURCE_FRAMES,
    SegmentPlan,
    divide,
)
from cloudconv.timeline import Task


@st.composite
def plans(draw):
    """Draw a plan: source frames, output frames of each, and cuts at some of them."""
    plan = []
    base = draw(st.sampled_from([F(1, 24), F(1001, 24000), F(1, 1000)]))
    runs = st.tuples(st.integers(1, 9), st.booleans())
    sources = draw(st.lists(runs, min_size=1, max_size=150))
    if draw(st.booleans()):
        sources[draw(st.integers(0, len(sources) - 1))] = (1500, False)
    for left, (count, cut) in enumerate(sources):
        for part in range(count):
            share = F(part, count)
            right = (left + 1) * base if part else None
            opens = cut and part == 0 and left > 0
            times = share, (left + share) * base, base / count
            plan.append(Task(left * base, right, *times, opens_scene=opens))
    return plan


def segments_of(plan, width=100, height=100):
    def frame(time):
        return SimpleNamespace(time=time, width=width, height=height)

    tasks = (task.of(frame) for task in plan)
    grouped = groupby(divide(tasks), attrgetter("segment"))
    return [SegmentPlan.of(*segment) for segment in grouped]


@pytest.mark.full
@given(plans())
@settings(max_examples=25)
def test_no_frame_is_lost_doubled_or_moved(plan):
    segments = segments_of(plan)
    joined = [frame for segment in segments for frame in segment.frames]
    assert joined == plan
    ends = [0, *itertools.accumulate(len(segment.frames) for segment in segments)]
    assert [segment.number for segment in segments] == ends[:-1]
    for segment in segments:
        assert 1 <= len(segment.frames) <= MAX_FRAMES
        needed = {frame.left for frame in segment.frames}
        assert len(needed) <= MAX_SOURCE_FRAMES
        assert needed <= set(segment.sources)
        assert sorted(set(segment.sources)) == segment.sources
        assert pickle.loads(pickle.dumps(segment)).digest == segment.digest


@pytest.mark.full
@given(plans())
@settings(max_examples=25)
def test_a_segment_ends_at_a_cut_unless_the_segment_is_very_short(plan):
    segments = segments_of(plan)
    assert segments
    begins = {segment.frames[0].left for segment in segments}
    for before, after in itertools.pairwise(segments):
        assert before.frames[-1].time < after.frames[0].time
    position = 0  # of the source frame in its segment
    for frame in plan:
        if frame.right is None:
            position = 0 if frame.left in begins else position + 1
            assert not (frame.opens_scene and position >= 8)


@pytest.mark.full
@given(plans(), st.data())
@settings(max_examples=40)
def test_different_plans_have_different_digests(plan, data):
    segment = data.draw(st.sampled_from(segments_of(plan)))
    frames = list(segment.frames)
    index = data.draw(st.integers(0, len(frames) - 1))
    frames[index] = replace(frames[index], time=frames[index].time + 1)
    assert SegmentPlan(segment.number, tuple(frames)).digest != segment.digest
    assert SegmentPlan(segment.number + 1, segment.frames).digest != segment.digest


def test_the_first_segments_are_short():
    frames = [Task(F(k), None, F(0), F(k), F(1)) for k in range(300)]
    lengths = [len(segment.frames) for segment in segments_of(frames)]
    assert lengths == [8, 16, 32, 64, 64, 64, 52]


def test_a_segment_of_large_pictures_ends_after_200_megapixels_of_new_frames():
    frames = [
        Task(F(k), F(k + 1) if part else None, F(part, 4), k + F(part, 4), F(1, 4))
        for k in range(40)
        for part in range(4)
    ]
    new = [
        sum(frame.right is not None for frame in segment.frames)
        for segment in segments_of(frames, 4000, 2500)
    ]
    assert new == [20, 20, 20, 20, 20, 20]
