"""What flies over film is found on the stream, and linked where chance hardly does it."""

from fractions import Fraction as F

import numpy as np
import pytest
import torch
from av import VideoFrame

from cloudconv.fastobjects import FastObject
from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.tasks import Request, schedule
from cloudconv.schedule.tracker import AHEAD, FastTracker
from cloudconv.settings.framelist import FrameList
from cloudconv.timeline import Multiply, Resample
from tests.helpers.balls import BALL, STEP, bounced, film, frames, place

CPU = torch.device("cpu")
TIMES = [*range(10)]


TWICE = Multiply(2)


def new_tasks(source, rate=TWICE, **options):
    defaults = {"scene_cut": "off", "duplicates": "keep", "loop": False, "tracks": True}
    request = Request(name="it", rate=rate, context=2, **defaults | options)
    return [task for task in schedule(source, request) if task.is_new]


def found(tasks):
    return [len(task.objects) for task in tasks]


def apart(task, time, t=0.5, path=place):
    """Return how far the only object of a task is from the ball's place, in pixels."""
    (thing,) = task.objects
    return np.hypot(*np.subtract(thing.at(t), path(time)))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "gbrp", "gray16le"])
def test_a_ball_is_found_in_each_pair_between_frames_with_neighbours(pix_fmt):
    tasks = new_tasks(frames(TIMES, pix_fmt))
    assert found(tasks) == [0, *[1] * 7, 0]
    assert max(apart(task, k + 1.5) for k, task in enumerate(tasks[1:8])) < 0.5


def test_the_trajectory_between_two_frames_is_that_of_the_ball_at_any_time():
    tasks = new_tasks(frames(TIMES), rate=Multiply(5))
    several = [task for task in tasks if task.objects]
    assert len(several) == 4 * 7
    assert max(apart(s, float(s.left.time * 25 + s.t), float(s.t)) for s in several) < 0.5


def test_a_ball_that_has_the_brightness_of_the_ground_is_found_by_its_colour():
    tasks = new_tasks(frames(TIMES, "yuv420p", ball=np.array([200, 50, 120])))
    assert found(tasks) == [0, *[1] * 7, 0]
    assert max(apart(task, k + 1.5) for k, task in enumerate(tasks[1:8])) < 1


def test_a_ball_that_bounces_is_found_up_to_the_wall_and_from_there_on():
    tasks = new_tasks(frames(TIMES, path=bounced))
    assert found(tasks) == [0, *[1] * 7, 0]
    steps = [apart(task, k + 1.5, path=bounced) for k, task in enumerate(tasks[1:8])]
    assert max(steps) < 2


@pytest.mark.parametrize("options", [{"flies": False}, {"flies": False, "pan": 9.0}])
def test_film_without_a_ball_has_no_object(options):
    assert not any(found(new_tasks(frames(TIMES, **options))))


def with_bar(time):
    """Return a picture of a thin bar that moves along itself, by less than its length."""
    picture = film(time, flies=False)
    end = 36 + round(STEP * time)
    picture[100:104, end - round(1.4 * STEP) : end] = 30
    return VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p")


def test_the_middle_of_a_thing_that_overlaps_itself_is_no_object():
    pictures = [with_bar(time) for time in TIMES]
    source = [Frame(p, F(k, 25), F(1, 25)) for k, p in enumerate(pictures)]
    assert sum(found(new_tasks(source))) == 0


def touching(time):
    """Return a picture of the ball beside what touches the ball in frames 5 and 6 alone."""
    picture = film(time)
    if time in (5, 6):
        picture[63:80, 114:148] = BALL
    return VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p")


def test_a_ball_that_touches_something_in_one_of_two_frames_is_found():
    pictures = [touching(time) for time in TIMES]
    source = [Frame(p, F(k, 25), F(1, 25)) for k, p in enumerate(pictures)]
    assert found(new_tasks(source)) == [0, 1, 1, 1, 1, 0, 1, 1, 0]


def test_a_ball_that_jumps_at_random_is_no_object():
    random = np.random.default_rng(5).permutation(10).tolist()
    jumps = [frames([time])[0].at(F(k, 25), F(1, 25)) for k, time in enumerate(random)]
    for frame, still in zip(jumps, frames([0] * 10), strict=True):
        assert frame.time == still.time
    assert sum(found(new_tasks(jumps))) == 0


def test_no_trajectory_leads_into_another_scene():
    one, two = frames(range(7)), frames(range(3, 10), seed=8)
    tracker = FastTracker(CPU)
    for number, frame in enumerate(one + two):
        tracker.push(frame, begins=number == 7, repeats=False)
    tracker.finish()
    of_scene = [0, 0, 1, 1, 1, 1, 0]
    assert [len(tracker.objects(number)) for number in range(14)] == of_scene * 2


def test_repeated_frames_show_no_new_place():
    times = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert sum(found(new_tasks(frames(times)))) == 5
    refilled = new_tasks(frames(times), duplicates="refill")
    assert {task.t for task in refilled if task.objects} > {F(1, 4), F(1, 2)}


def test_a_stream_waits_for_few_frames_and_for_few_repeats():
    tracker = FastTracker(CPU)
    source = frames(TIMES)
    for frame in source[:6]:
        tracker.push(frame, begins=False, repeats=False)
    assert tracker.knows(5 - AHEAD)
    assert not tracker.knows(6 - AHEAD)
    for _ in range(2 * AHEAD):
        tracker.push(source[5], begins=False, repeats=True)
    assert tracker.knows(11 - 2 * AHEAD)


@pytest.mark.parametrize("out", [4, 5, 7])
def test_a_trajectory_leads_over_a_frame_that_is_left_out(out):
    replaced = FrameList(((out, out),))
    tasks = [t for t in new_tasks(frames(range(11)), replaced=replaced) if t.objects]
    times = [
        float(25 * (task.left.time + task.t * (task.right.time - task.left.time)))
        for task in tasks
    ]
    assert {out - 0.5, out, out + 0.5} <= set(times)
    for task, time in zip(tasks, times, strict=True):
        assert apart(task, time, float(task.t)) < 0.5


def test_a_long_hold_moves_no_object_to_another_pair():
    tracker = FastTracker(CPU)
    source = frames(range(12))
    pushed = [*range(6), *[5] * (2 * AHEAD + 2), *range(6, 12)]
    for number, time in enumerate(pushed):
        is_held = number > 0 and pushed[number - 1] == time
        tracker.push(source[time], begins=False, repeats=is_held)
    tracker.finish()
    objects = {k: tracker.objects(k) for k in range(len(pushed))}
    assert sum(map(len, objects.values())) == 4
    for number, things in objects.items():
        for thing in things:
            apart = np.subtract(thing.ends[1].centre, place(pushed[number]))
            assert np.hypot(*apart) < 0.5


def test_objects_do_not_depend_on_the_times_that_are_asked_for():
    def centres(tasks):
        return {
            (task.left.time, thing.ends[0].centre, thing.bend)
            for task in tasks
            for thing in task.objects
        }

    source = frames(TIMES)
    expected = centres(new_tasks(source))
    assert expected == centres(new_tasks(source, rate=Multiply(4)))
    assert expected == centres(new_tasks(source, rate=Resample(F(50))))


def test_tasks_of_times_keep_their_objects_and_equal_plans():
    task = next(task for task in new_tasks(frames(TIMES)) if task.objects)
    times = task.of(lambda frame: frame.time)
    assert times.objects == task.objects
    assert isinstance(times.objects[0], FastObject)
    assert "objects" not in repr(times)  # of which a segment's digest is made


def test_the_matte_has_the_colour_of_the_ball_and_the_ground_behind():
    task = new_tasks(frames(TIMES))[4]
    (thing,) = task.objects
    for matte, time in zip(thing.ends, (4, 5), strict=True):
        left, top = matte.corner
        height, width = matte.alpha.shape
        area = slice(top, top + height), slice(left, left + width)
        behind, shown = (film(time, flies=flies)[area] / 255 for flies in (False, True))
        made = matte.colours + (1 - matte.alpha[..., None]) * matte.ground
        assert np.abs(made - shown).mean() < 0.02
        assert np.abs(matte.ground - behind).mean() < 0.03
    assert max(matte.alpha.shape) / 2 < STEP
