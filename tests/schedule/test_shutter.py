"""What an open shutter sees: parts of the time between source frames, for each frame."""

from fractions import Fraction as F
from itertools import pairwise
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.tasks import Counts, schedule
from cloudconv.timeline import Multiply, Resample
from cloudconv.timemap import TimeMap
from tests.helpers.factory import picture
from tests.schedule.test_replaced import lists
from tests.schedule.test_tasks import frames, request

COUNT = 12
shutters = st.fractions(F(1, 36), 1, max_denominator=72)


def tasks(clip, counts=None, **options):
    asked = request(**options)
    return [task.of(attrgetter("time")) for task in schedule(clip, asked, counts)]


def seen(task):
    """Return the source times at which each part of a moving frame begins and ends."""
    return [
        tuple(part.left + (part.right - part.left) * t for t in (part.t, part.until))
        for part in task.seen
        if part.right is not None
    ]


@settings(deadline=None, max_examples=60)
@given(
    shutters,
    st.lists(st.integers(1, 4), min_size=COUNT, max_size=COUNT),
    st.sampled_from([Multiply(1), Multiply(3), Resample(F(10)), Resample(F(60))]),
    st.sampled_from([F(1), F(1, 2), F(3)]),
    st.sets(st.integers(1, COUNT - 2), max_size=3),
)
def test_a_shutter_sees_its_part_of_each_frame_once(shutter, gaps, rate, speed, out):
    times = [F(sum(gaps[:k]), 50) for k in range(COUNT)]
    clip = [
        Frame(picture(k), time, F(gap, 50))
        for k, (time, gap) in enumerate(zip(times, gaps, strict=True))
    ]
    shows = TimeMap.even(speed)
    options = {"rate": rate, "shows": shows, "replaced": lists(*out)}
    plain = tasks(clip, **options)
    counts = Counts()
    made = tasks(clip, counts, **options, shutter=shutter)
    assert [(t.time, t.duration) for t in made] == [(t.time, t.duration) for t in plain]
    gone = {times[k] for k in out}
    assert not any(gone & set(task.sources) for task in made)
    last = times[-1]
    end = last + F(gaps[-1], 50)
    for task in made:
        opens = shows.source(task.time)
        closes = min(shows.source(task.time + task.duration * shutter), end)
        if opens >= last:
            assert (task.left, task.right, task.seen) == (last, None, ())
            continue
        assert sum(part.duration for part in task.seen) == closes - opens
        parts = seen(task)
        assert (parts[0][0], parts[-1][1]) == (opens, min(closes, last))
        assert all(a[1] == b[0] for a, b in pairwise(parts))
        assert all(end - begin > 0 for begin, end in parts)
    assert counts.new_frames == sum(bool(task.seen) for task in made)


@given(shutters)
@settings(deadline=None, max_examples=20)
def test_a_still_clip_shows_its_own_frames(shutter):
    clip = frames([F(k, 50) for k in range(10)], [0] * 10)
    for rate in (Resample(F(20)), Resample(F(60)), Multiply(2)):
        assert not any(t.is_new for t in tasks(clip, rate=rate, shutter=shutter))


@given(shutters, st.sampled_from([F(6), F(8), F(24), F(50)]))
@settings(deadline=None, max_examples=30)
def test_no_exposure_mixes_two_scenes(shutter, rate):
    clip = [Frame(picture(k, scene=k // 12), F(k, 24), F(1, 24)) for k in range(24)]
    made = tasks(clip, scene_cut="auto", rate=Resample(rate), shutter=shutter)
    cut = F(12, 24)
    for task in made:
        sides = {time >= cut for time in task.sources}
        assert sides == {task.time >= cut}
    assert [task.time >= cut for task in made if task.opens_scene] == [True]


def test_repeats_are_one_part_of_an_exposure():
    clip = frames([F(k, 24) for k in range(12)], [k // 3 for k in range(12)])
    first, *_ = tasks(clip, rate=Resample(F(6)), shutter=F(1))
    shapes = [(part.left, part.right, part.duration) for part in first.seen]
    assert shapes == [(F(0), None, F(2, 24)), (F(2, 24), F(3, 24), F(1, 24)),
                      (F(3, 24), None, F(1, 24))]  # fmt: skip


def test_a_loop_sees_the_first_frame_after_the_last():
    clip = frames([F(k, 25) for k in range(5)])
    made = tasks(clip, rate=Resample(F(5)), shutter=F(1), loop=True)
    assert [(part.left, part.right) for part in made[0].seen][-1] == (F(4, 25), F(0))


def test_above_speed_one_no_nearest_frame_is_shown():
    clip = frames([F(k, 25) for k in range(20)])
    options = {"rate": Resample(F(25)), "shows": TimeMap.even(F(5, 2))}
    assert not any(task.is_new for task in tasks(clip, **options))
    second = tasks(clip, **options, shutter=F(1, 2))[1]
    assert seen(second) == [(F(5, 50), F(6, 50)), (F(6, 50), F(15, 100))]


@pytest.mark.parametrize("context", [2, 4])
def test_each_part_has_the_frames_beside_its_pair(context):
    clip = frames([F(k, 25) for k in range(9)])
    task = tasks(clip, rate=Resample(F(25, 3)), shutter=F(1), context=context)[1]
    for part in task.seen:
        beside = [part.before, part.after]
        times = [None if outer is None else outer[0] for outer in beside]
        near = [part.left - F(1, 25), part.right + F(1, 25)]
        assert times == (near if context == 4 else [None, None])
