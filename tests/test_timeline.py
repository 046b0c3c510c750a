"""Times of output frames, their source pairs and timesteps."""

from fractions import Fraction
from itertools import accumulate, islice, pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.timeline import Multiply, Resample, Slot, Timeline, expected_frames
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


def run(request, times, end, *, slowdown=1, loop=False, shows=None):
    timeline = Timeline(request, TimeMap.even(1 / F(slowdown)), loop=loop)
    slots = []
    for time, content in zip(times, times if shows is None else shows, strict=True):
        slots += timeline.push(time, content)
    return [*slots, *timeline.finish(end)]


def check(slots, contents, *, loop_to):
    """Check that every slot shows the content of its time.

    All times are on the output clock.
    """
    knots = [*contents] if loop_to is None else [*contents, loop_to]
    for before, slot in pairwise(slots):
        assert before.time + before.duration == slot.time
        assert before.left <= slot.left
    for slot in slots:
        assert 0 <= slot.left < len(contents)
        assert 0 <= slot.timestep < 1
        assert slot.duration > 0
        if slot.held:
            assert slot.timestep == 0
            outside = (slot.left == 0 and slot.time < knots[0]) or slot.time > knots[-1]
            assert outside
            assert slot.left in (0, len(contents) - 1)
        elif slot.timestep:
            left, right = knots[slot.left], knots[slot.left + 1]
            assert left + slot.timestep * (right - left) == slot.time
        else:
            assert knots[slot.left] == slot.time


@settings(deadline=None, max_examples=80)
@given(source=sources(), request=requests, slowdown=slowdowns, loop=st.booleans())
def test_every_slot_shows_the_content_of_its_time(source, request, slowdown, loop):
    times, end = source
    slots = run(request, times, end, slowdown=slowdown, loop=loop)
    on_output = [slowdown * (t - times[0]) for t in times]
    total = slowdown * (end - times[0])
    check(slots, on_output, loop_to=total if loop else None)
    assert slots[0] == Slot(0, F(0), F(0), slots[0].duration, False)
    assert len(slots) == expected_frames(
        request, len(times), end - times[0], TimeMap.even(1 / slowdown)
    )
    length = sum((s.duration for s in slots), F(0))
    if isinstance(request, Multiply):
        assert length == total
        shown = {s.left: s.time for s in slots if s.timestep == 0 and not s.held}
        assert shown == dict(enumerate(on_output))
    else:
        assert len(slots) == ceil(total * request.rate)
        assert [s.time for s in slots] == [k / request.rate for k in range(len(slots))]
        assert total <= length < total + 1 / request.rate
    assert any(s.held for s in slots) == (not loop and slots[-1].time > on_output[-1])


@settings(deadline=None, max_examples=40)
@given(source=sources(), factor=st.integers(2, 6))
def test_uneven_gaps_are_divided_each(source, factor):
    times, end = source
    slots = run(Multiply(factor), times, end)
    for number, (a, b) in enumerate(pairwise([*times, end])):
        part = slots[number * factor : (number + 1) * factor]
        assert {s.duration for s in part} == {(b - a) / factor}
        assert {s.left for s in part} == {number}
        if b != end:
            assert [s.timestep for s in part] == [F(i, factor) for i in range(factor)]


@pytest.mark.full
@settings(deadline=None, max_examples=80)
@given(source=sources(), request=requests, loop=st.booleans(), data=st.data())
def test_refilled_repeats_keep_the_grid_of_the_source(source, request, loop, data):
    """Slots keep the times of the source, and their content has its own times."""
    times, end = source
    repeats = [False, *(data.draw(st.booleans()) for _ in times[1:])]
    own = [t for t, again in zip(times, repeats, strict=True) if not again]
    moves = [data.draw(st.fractions(0, F(9, 10), max_denominator=10)) for _ in own]
    moved = [
        a + m * (b - a) for (a, b), m in zip(pairwise([*own, end]), moves, strict=True)
    ]
    queue = iter(moved)
    shows = [None if again else next(queue) for again in repeats]
    slots = run(request, times, end, loop=loop, shows=shows)
    again = end - times[0] + moved[0] - times[0]
    check(slots, [t - times[0] for t in moved], loop_to=again if loop else None)
    plain = run(request, times, end, loop=loop)
    assert [(s.time, s.duration) for s in slots] == [(s.time, s.duration) for s in plain]


@settings(deadline=None, max_examples=60)
@given(source=sources(), request=requests, taken=st.lists(st.integers(0, 3), max_size=20))
def test_slots_that_are_not_taken_come_later(source, request, taken):
    times, end = source
    whole, halting = Timeline(request), Timeline(request)
    expected, found = [], []
    for number, time in enumerate(times):
        expected += whole.push(time, time)
        found += islice(
            halting.push(time, time), taken[number] if number < len(taken) else None
        )
    assert [*found, *halting.finish(end)] == [*expected, *whole.finish(end)]


@settings(deadline=None, max_examples=60)
@given(source=sources(), request=requests, slowdown=slowdowns)
def test_released_frames_are_never_used_again(source, request, slowdown):
    times, end = source
    timeline = Timeline(request, TimeMap.even(1 / slowdown))
    forgotten = result = 0
    for number, time in enumerate(times):
        for slot in timeline.push(time, time):
            result += 1
            assert forgotten <= slot.left
            assert slot.timestep == 0 or slot.left + 1 <= number
        assert forgotten <= timeline.oldest <= number
        forgotten = timeline.oldest
        assert number - forgotten <= 1
    rest = list(timeline.finish(end))
    assert all(slot.left >= forgotten for slot in rest)
    assert result + len(rest) == expected_frames(
        request, len(times), end - times[0], TimeMap.even(1 / slowdown)
    )
