"""The outer frames: those before and after each pair, for a model that uses four frames."""

import tracemalloc
from fractions import Fraction as F
from itertools import islice
from operator import attrgetter

import numpy as np
import pytest
from av import VideoFrame

from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.tasks import Counts, Request, schedule
from cloudconv.timeline import Multiply, Resample
from cloudconv.timemap import TimeMap
from tests.helpers.factory import picture


def frames(times, pictures=None):
    contents = pictures or list(range(len(times)))
    return [
        Frame(picture(k), time, F(1, 25)) for k, time in zip(contents, times, strict=True)
    ]


def request(**options):
    defaults = {
        "rate": Multiply(2),
        "scene_cut": "off",
        "duplicates": "keep",
        "loop": False,
    }
    return Request(name="it", **({"context": 4} | defaults | options))


def tasks(source_frames, **options):
    return [
        task.of(attrgetter("time")) for task in schedule(source_frames, request(**options))
    ]


def new(source_frames, **options):
    """Return the tasks of new frames by the time of their left frame."""
    return {task.left: task for task in tasks(source_frames, **options) if task.is_new}


def time_of(outer):
    return None if outer is None else outer[0]


EVEN = [F(k, 25) for k in range(12)]


@pytest.mark.parametrize("rate", [Multiply(3), Resample(F(60)), Resample(F(24000, 1001))])
@pytest.mark.parametrize("loop", [False, True])
def test_a_larger_context_changes_no_times(rate, loop):
    clip = frames(EVEN)
    two, four = (tasks(clip, context=n, rate=rate, loop=loop) for n in (2, 4))
    with_two, with_four = (
        [(t.left, t.right, t.t, t.time, t.duration) for t in each] for each in (two, four)
    )
    assert with_two == with_four
    assert all(task.before is task.after is None for task in two)


@pytest.mark.parametrize("context", [2, 4])
def test_a_gap_of_an_hour_takes_no_memory(context):
    clip = frames([F(0), F(1, 25), F(3600), F(3600) + F(1, 25)])
    result = schedule(clip, request(rate=Resample(F(60)), context=context))
    tracemalloc.start()
    count = sum(1 for _ in islice(result, 2000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 3 * 10**6


def test_a_pair_gets_its_outer_frames():
    result = new(frames(EVEN)).values()
    assert len(result) == len(EVEN) - 1
    gap = F(1, 25)
    for task in result:
        before = task.left - gap
        after = task.right + gap
        assert time_of(task.before) == (before if before >= 0 else None)
        assert time_of(task.after) == (after if after <= EVEN[-1] else None)
        assert all(outer is None or outer[1] == 1 for outer in (task.before, task.after))


def test_an_outer_frame_across_a_cut_is_left_out():
    clip = [Frame(picture(k, scene=k // 12), F(k, 24), F(1, 24)) for k in range(24)]
    by_left = new(clip, scene_cut="auto")
    assert F(11, 24) not in by_left
    assert time_of(by_left[F(10, 24)].before) == F(9, 24)
    assert by_left[F(10, 24)].after is None
    assert by_left[F(12, 24)].before is None
    assert time_of(by_left[F(12, 24)].after) == F(14, 24)


@pytest.mark.parametrize("rate", [Multiply(4), Resample(F(60))])
def test_no_frame_before_a_flash_shows_a_part_of_it(rate):
    light = VideoFrame.from_ndarray(np.full((96, 96), 235, np.uint8), "yuv420p")
    pictures = [light if k in (6, 7) else picture(k) for k in range(len(EVEN))]
    clip = [
        Frame(content, time, F(1, 25)) for content, time in zip(pictures, EVEN, strict=True)
    ]
    result = tasks(clip, scene_cut="auto", rate=rate)
    held = [task for task in result if task.left == EVEN[5]]
    assert held
    assert not any(task.is_new for task in held)
    assert all(task.is_new for task in result if task.left == EVEN[7] and task.t > 0)
    assert any(task.right == EVEN[6] for task in tasks(clip, scene_cut="off", rate=rate))


def test_a_repeat_is_no_outer_frame():
    by_left = new(frames(EVEN, [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]))
    assert F(3, 25) not in by_left  # a repeat has no new frame
    assert time_of(by_left[F(2, 25)].before) == F(1, 25)
    assert by_left[F(2, 25)].after is None
    assert by_left[F(4, 25)].before is None
    assert time_of(by_left[F(4, 25)].after) == F(6, 25)


@pytest.mark.parametrize(("scenes", "new_at_seam"), [((0, 0), True), ((0, 1), False)])
def test_a_loop_mixes_no_two_scenes_at_its_seam(scenes, new_at_seam):
    pictures = [picture(k if k < 12 else 24 - k, scene=scenes[k // 12]) for k in range(24)]
    times = [F(k, 24) for k in range(24)]
    clip = [Frame(p, time, F(1, 24)) for p, time in zip(pictures, times, strict=True)]
    for loop in (True, False):
        made = tasks(clip, scene_cut="auto", loop=loop)
        assert made[-1].is_new == (new_at_seam and loop)
        assert made[-1].left == F(23, 24)
    made = tasks(clip, scene_cut="off", loop=True)
    assert (made[-1].left, made[-1].right) == (F(23, 24), F(0))


@pytest.mark.parametrize("last", [0, 11])
def test_a_loop_whose_last_frame_equals_the_first_is_named(last):
    clip = frames([F(k, 30) for k in range(12)], [*range(11), last])
    counts = Counts()
    made = list(schedule(clip, request(loop=True), counts))
    assert made[-1].is_new == (last != 0)
    assert (not counts.warnings) == (last != 0)
    assert last or "equals the first" in counts.warnings[0].text


@pytest.mark.parametrize("speed", [F(5, 3), F(17, 10), F(3)])
def test_a_fast_loop_shows_its_first_frame_after_the_last(speed):
    clip = frames([F(k, 24) for k in range(14)])
    made = tasks(clip, rate=Resample(F(30)), shows=TimeMap.even(speed), loop=True)
    assert not any(task.is_new for task in made)
    for task in made:
        apart = (task.time * speed - task.left) % F(14, 24)
        assert min(apart, F(14, 24) - apart) <= F(1, 48)


def test_refill_makes_only_the_lost_frames_anew():
    lost = [8, 15, 29, 38]
    contents = [k - (k in lost) for k in range(48)]
    counts = Counts()
    clip = frames([F(k, 25) for k in range(48)], contents)
    options = {"rate": Resample(F(25)), "scene_cut": "auto"}
    asked = request(**options, duplicates="refill")
    made = [task.of(attrgetter("time")) for task in schedule(clip, asked)]
    assert [task.time * 25 for task in made if task.is_new] == lost
    assert all(task.left == task.time for task in made if not task.is_new)
    assert {(task.t, task.right - task.left) for task in made if task.is_new} == {
        (F(1, 2), F(2, 25))
    }
    list(schedule(clip, request(**options), counts))
    assert "where another one was lost: --refill" in counts.warnings[0].text


@pytest.mark.parametrize("contents", [range(24), [k - (k > 11) for k in range(24)]])
def test_a_refill_that_finds_no_repeat_says_so(contents):
    clip = frames([F(k, 25) for k in range(24)], [*contents])
    counts = Counts()
    list(schedule(clip, request(duplicates="refill", scene_cut="auto"), counts))
    codes = [warned.code for warned in counts.warnings]
    assert codes == ["refill-none"] * (max(contents) == 23)


def test_outer_frames_have_their_distance_and_far_ones_are_left_out():
    by_left = new(frames([F(k, 100) for k in (0, 4, 8, 14, 18, 40, 44, 48)]))
    pair = by_left[F(8, 100)]
    assert (pair.before[1], pair.after[1]) == (F(2, 3), F(2, 3))
    assert by_left[F(14, 100)].after is None  # that gap is five times the gap of the pair
    assert by_left[F(18, 100)].before is None
    assert by_left[F(18, 100)].after is None  # that gap is a fifth of the gap of the pair


def test_a_loop_whose_seam_is_a_cut_is_named():
    pictures = [picture(k, scene=k // 12) for k in range(24)]
    times = [F(k, 24) for k in range(24)]
    clip = [Frame(p, time, F(1, 24)) for p, time in zip(pictures, times, strict=True)]
    for scene_cut, codes in (("auto", ["loop-at-cut"]), ("off", [])):
        counts = Counts()
        list(schedule(clip, request(loop=True, scene_cut=scene_cut), counts))
        assert [warned.code for warned in counts.warnings] == codes
