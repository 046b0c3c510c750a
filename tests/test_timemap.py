"""Maps from output time to source time: exact lengths, rising times, ramps."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import SettingsError
from cloudconv.settings.numbers import parse_speed
from cloudconv.timeline import Resample, Timeline, expected_frames
from cloudconv.timemap import TimeMap
from tests.test_timeline import gaps_between

F = Fraction
speeds = st.fractions(F(1, 100), 100, max_denominator=100)


@st.composite
def points(draw):
    """Draw points of a map, some of them two at one time."""
    gaps = draw(st.lists(st.fractions(0, 3, max_denominator=30), min_size=1, max_size=5))
    time = F(0)
    result = []
    for gap in gaps:
        time += gap
        result.append((time, draw(speeds)))
    return result


@settings(deadline=None, max_examples=80)
@given(points(), st.lists(st.fractions(0, 12, max_denominator=50), min_size=2, max_size=8))
def test_any_map_rises_strictly_and_has_an_inverse(points, times):
    shows = TimeMap.through(points)
    times = sorted(set(times))
    shown = [shows.source(time) for time in times]
    assert all(a < b for a, b in pairwise(shown))
    for time, source in zip(times, shown, strict=True):
        assert abs(shows.output(source) - time) < F(1, 10**6)


@settings(deadline=None, max_examples=60)
@given(points())
def test_the_length_of_each_part_is_exact(points):
    shows = TimeMap.through(points)
    total = points[0][0] / points[0][1]
    for (begins, first), (ends, last) in pairwise(points):
        total += 2 * (ends - begins) / (first + last)
    assert shows.output(points[-1][0]) == total
    assert shows.source(total) == points[-1][0]
    assert shows.output(points[-1][0] + 7) == total + 7 / points[-1][1]


@given(speeds, speeds, st.fractions(F(1, 10), 5, max_denominator=30))
def test_a_ramp_there_and_back_is_symmetric(first, last, length):
    shows = TimeMap.through([(F(0), first), (length, last), (2 * length, first)])
    half = 2 * length / (first + last)
    assert shows.output(2 * length) == 2 * half
    for part in (F(1, 7), F(1, 2), F(5, 6)):
        there, back = shows.source(part * half), shows.source((2 - part) * half)
        assert there + back == 2 * length


@settings(deadline=None, max_examples=40)
@given(points(), st.sampled_from([F(24), F(30000, 1001), F(60)]), st.integers(2, 9))
def test_every_task_shows_the_source_time_of_the_map(points, rate, count):
    shows = TimeMap.through(points)
    times = [F(k, 5) for k in range(count)]
    end = F(count, 5)
    timeline = Timeline(Resample(rate), shows)
    for time in times:
        timeline.push(time)
    timeline.add(gaps_between(times, end))
    timeline.finish(end)
    tasks = [*timeline.decided()]
    assert len(tasks) == expected_frames(Resample(rate), count, end, shows)
    assert [task.time for task in tasks] == [k / rate for k in range(len(tasks))]
    assert shows.source(tasks[-1].time) < end <= shows.source(len(tasks) / rate)
    assert all(a.left <= b.left for a, b in pairwise(tasks))
    for task in tasks:
        shown = shows.source(task.time)
        assert not (task.is_new and shows.speed_at(shown) > 1)
        own = times[task.left] + task.t / 5
        if task.is_new:
            assert own == shown
        elif shows.speed_at(shown) > 1 and shown <= times[-1]:
            assert abs(own - shown) <= F(1, 10)  # the nearest frame
        else:
            assert own == shown or shown > times[-1]


@given(points(), st.fractions(0, 8, max_denominator=30))
def test_a_map_from_a_later_time_on_goes_on_alike(points, begins):
    shows = TimeMap.through(points)
    later = shows.after(begins)
    zero = shows.output(begins)
    for time in (F(0), F(1, 3), F(2), F(9)):
        shown = shows.source(zero + time) - begins
        assert abs(later.source(time) - shown) < F(1, 10**5)


@pytest.mark.parametrize("value", ["0=1,4=1/4,6=2", [(0, 1), ("0:04", 0.25), (6, "2")]])
def test_points_are_read_from_a_text_or_from_pairs(value):
    assert parse_speed(value) == ((0, 1), (4, F(1, 4)), (6, 2))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0:1", "no list of speeds"),
        ("0=1,4", "no list of speeds"),
        ("0=1=2", "no list of speeds"),
        ("", "no list of speeds"),
        ([], "No speed is given"),
        (3, "no list of speeds"),
        ("0=1,5=2,4=1", "must not fall, got 4 s after 5 s"),
        ("0=0", "not a speed"),
        ("0=-1", "not a speed"),
        ("x=1", "not a time"),
        ("0=1,1=101", "from 1/100 to 100"),
        ("0=1/101", "from 1/100 to 100"),
    ],
)
def test_a_wrong_text_of_points_is_one_sentence(value, said):
    with pytest.raises(SettingsError, match=said):
        parse_speed(value)
