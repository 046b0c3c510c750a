"""Times of output frames, their source pairs and timesteps."""

from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, islice, pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.timeline import Gap, Multiply, Resample, Timeline, alone, expected_frames
from cloudconv.timemap import TimeMap

F = Fraction
RATES = [
    F(24000, 1001),
    F(24),
    F(25),
    F(30000, 1001),
    F(30),
    F(48),
    F(60000, 1001),
    F(60),
    F(12),
]
rates = st.sampled_from(RATES)
starts = st.sampled_from([F(0), F(10), F(-1, 3), F(1001, 24000), F(7, 90000)])
slowdowns = st.sampled_from([F(1), F(2), F(5, 2), F(100)])
requests = st.one_of(st.builds(Multiply, st.integers(1, 8)), st.builds(Resample, rates))


@st.composite
def sources(draw):
    """Draw increasing source times with uneven gaps, and the end of the last frame."""
    gaps = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=12))
    tick = draw(st.sampled_from([F(1, 1000), F(1, 90000), F(1001, 240000)]))
    start = draw(starts)
    *times, end = (start + tick * g for g in accumulate(gaps, initial=0))
    return times, end


def gaps_between(contents, end, *, loop_to=None):
    """Return the gaps between content frames, whose names are their numbers."""
    last = end if loop_to is None else loop_to
    following = [*range(1, len(contents)), None if loop_to is None else 0]
    return [
        Gap(replace(alone(number), right=right), begins, ends, right)
        for (number, right), (begins, ends) in zip(
            enumerate(following), pairwise([*contents, last]), strict=True
        )
    ]


def run(request, times, end, *, slowdown=1, loop=False, shows=None):
    timeline = Timeline(request, TimeMap.even(1 / F(slowdown)))
    contents = times if shows is None else [time for time in shows if time is not None]
    again = end + contents[0] - times[0] if loop else None
    gaps = gaps_between(contents, end, loop_to=again)
    tasks = []
    for time in times:
        timeline.push(time)
        # A gap is known when the content frame at its end is.
        timeline.add([gap for gap in gaps if gap.ends <= time])
        gaps = [gap for gap in gaps if gap.ends > time]
        tasks += timeline.decided()
    timeline.add(gaps)
    timeline.finish(end)
    return [*tasks, *timeline.decided()], timeline.held


def check(tasks, contents, *, loop_to):
    """Check that every task shows the content of its time.

    All times are on the output clock.
    """
    knots = [*contents] if loop_to is None else [*contents, loop_to]
    for before, task in pairwise(tasks):
        assert before.time + before.duration == task.time
        assert before.left <= task.left
    held = 0
    for task in tasks:
        assert task.duration > 0
        if task.right is not None:
            left, right = knots[task.left], knots[task.left + 1]
            assert task.right == (task.left + 1) % len(contents)
            assert 0 < task.t < 1
            assert left + task.t * (right - left) == task.time
        elif knots[task.left] != task.time:
            held += 1
            outside = (task.left == 0 and task.time < knots[0]) or task.time > knots[-1]
            assert outside
            assert task.left in (0, len(contents) - 1)
    return held


@settings(deadline=None, max_examples=80)
@given(source=sources(), request=requests, slowdown=slowdowns, loop=st.booleans())
def test_every_task_shows_the_content_of_its_time(source, request, slowdown, loop):
    times, end = source
    tasks, held = run(request, times, end, slowdown=slowdown, loop=loop)
    on_output = [slowdown * (t - times[0]) for t in times]
    total = slowdown * (end - times[0])
    assert check(tasks, on_output, loop_to=total if loop else None) == held
    assert tasks[0] == replace(alone(0), duration=tasks[0].duration)
    assert len(tasks) == expected_frames(
        request, len(times), end - times[0], TimeMap.even(1 / slowdown)
    )
    length = sum((s.duration for s in tasks), F(0))
    if isinstance(request, Multiply):
        assert length == total
        shown = {s.left: s.time for s in reversed(tasks) if s.right is None}
        assert shown == dict(enumerate(on_output))
    else:
        assert len(tasks) == ceil(total * request.rate)
        assert [s.time for s in tasks] == [k / request.rate for k in range(len(tasks))]
        assert total <= length < total + 1 / request.rate
    assert bool(held) == (not loop and tasks[-1].time > on_output[-1])


@settings(deadline=None, max_examples=40)
@given(source=sources(), factor=st.integers(2, 6))
def test_uneven_gaps_are_divided_each(source, factor):
    times, end = source
    tasks, _ = run(Multiply(factor), times, end)
    for number, (a, b) in enumerate(pairwise([*times, end])):
        part = tasks[number * factor : (number + 1) * factor]
        assert {s.duration for s in part} == {(b - a) / factor}
        assert {s.left for s in part} == {number}
        if b != end:
            assert [s.t for s in part] == [F(i, factor) for i in range(factor)]


@pytest.mark.full
@settings(deadline=None, max_examples=80)
@given(source=sources(), request=requests, loop=st.booleans(), data=st.data())
def test_refilled_repeats_keep_the_grid_of_the_source(source, request, loop, data):
    """Tasks keep the times of the source, and their content has its own times."""
    times, end = source
    repeats = [False, *(data.draw(st.booleans()) for _ in times[1:])]
    own = [t for t, again in zip(times, repeats, strict=True) if not again]
    moves = [data.draw(st.fractions(0, F(9, 10), max_denominator=10)) for _ in own]
    moved = [
        a + m * (b - a) for (a, b), m in zip(pairwise([*own, end]), moves, strict=True)
    ]
    queue = iter(moved)
    shows = [None if again else next(queue) for again in repeats]
    tasks, held = run(request, times, end, loop=loop, shows=shows)
    again = end - times[0] + moved[0] - times[0]
    contents = [t - times[0] for t in moved]
    assert check(tasks, contents, loop_to=again if loop else None) == held
    plain, _ = run(request, times, end, loop=loop)
    assert [(s.time, s.duration) for s in tasks] == [(s.time, s.duration) for s in plain]


@settings(deadline=None, max_examples=60)
@given(source=sources(), request=requests, taken=st.lists(st.integers(0, 3), max_size=20))
def test_tasks_that_are_not_taken_come_later(source, request, taken):
    times, end = source
    whole, _ = run(request, times, end)
    halting = Timeline(request)
    found = []
    gaps = gaps_between(times, end)
    for number, time in enumerate(times):
        halting.push(time)
        halting.add(gaps[number - 1 : number] if number else [])
        found += islice(halting.decided(), taken[number] if number < len(taken) else None)
    halting.add(gaps[-1:])
    halting.finish(end)
    assert [*found, *halting.decided()] == whole


@settings(deadline=None, max_examples=60)
@given(source=sources(), request=requests, slowdown=slowdowns)
def test_tasks_are_decided_as_soon_as_their_gap_is_known(source, request, slowdown):
    times, end = source
    timeline = Timeline(request, TimeMap.even(1 / slowdown))
    gaps = gaps_between(times, end)
    made = 0
    for number, time in enumerate(times):
        timeline.push(time)
        timeline.add(gaps[number - 1 : number] if number else [])
        tasks = list(timeline.decided())
        made += len(tasks)
        assert {task.left for task in tasks} <= {number - 1}
        assert made == expected_frames(
            request, number, time - times[0], TimeMap.even(1 / slowdown)
        )
