"""Source frames that new ones replace: which frames each output frame is made of."""

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import SettingsError
from cloudconv.media.frames.frame import Frame
from cloudconv.schedule.tasks import Counts, schedule
from cloudconv.settings.framelist import FrameList
from cloudconv.timeline import Multiply, Resample
from tests.helpers.factory import picture
from tests.schedule.test_tasks import frames, request, tasks

COUNT = 12


def lists(*numbers):
    return FrameList(tuple((number, number) for number in numbers))


@settings(deadline=None, max_examples=60)
@given(
    st.sets(st.integers(0, COUNT - 1), min_size=1, max_size=COUNT - 1),
    st.lists(st.integers(1, 4), min_size=COUNT, max_size=COUNT),
    st.sampled_from([Multiply(1), Multiply(3), Resample(F(40))]),
    st.sampled_from([2, 4]),
)
def test_no_frame_is_made_of_a_replaced_one_and_no_time_changes(out, gaps, rate, context):
    times = [F(sum(gaps[:k]), 50) for k in range(COUNT)]
    clip = frames(times)
    plain = tasks(clip, rate=rate, context=context)
    counts = Counts()
    options = {"rate": rate, "context": context, "replaced": lists(*out)}
    made = [
        task.of(lambda frame: frame.time)
        for task in schedule(clip, request(**options), counts)
    ]
    assert [(t.time, t.duration) for t in made] == [(t.time, t.duration) for t in plain]
    gone = {times[k] for k in out}
    kept = [time for time in times if time not in gone]
    assert not any(gone & set(task.sources) for task in made)
    assert counts.replaced == len(out)
    assert counts.source_frames == COUNT
    for task, before in zip(made, plain, strict=True):
        if kept[0] <= task.time <= kept[-1]:
            own = task.left + ((task.right or task.left) - task.left) * task.t
            assert own == task.time
        else:
            assert task.left == (kept[0] if task.time < kept[0] else kept[-1])
            assert task.right is None
        first = times.index(before.left)
        if not out & {first - 1, first, first + 1, first + 2}:
            assert task == before
    repeated = sum(time < kept[0] or time > kept[-1] for time in gone)
    texts = [warned.text for warned in counts.warnings]
    assert [text.partition(" ")[0] for text in texts] == [f"{repeated}"] * (repeated > 0)


@pytest.mark.parametrize("out", [(11,), (12,), (10, 11, 12, 13)])
def test_a_neighbour_is_repeated_beside_a_cut(out):
    clip = [Frame(picture(k, scene=k // 12), F(k, 24), F(1, 24)) for k in range(24)]
    counts = Counts()
    asked = request(rate=Multiply(1), scene_cut="auto", replaced=lists(*out))
    made = list(schedule(clip, asked, counts))
    assert not any(task.is_new for task in made)
    assert counts.held_frames == len(out)
    first = next(task for task in made if task.left.time >= F(12, 24))
    assert first.opens_scene
    assert "a cut" in counts.warnings[0].text


def test_a_damaged_frame_is_no_cut_and_no_flash():
    noise = np.random.default_rng(0).integers(16, 235, (96, 96), np.uint8)
    damaged = VideoFrame.from_ndarray(noise, "yuv420p")
    pictures = [damaged if k == 6 else picture(k) for k in range(COUNT)]
    clip = [Frame(content, F(k, 25), F(1, 25)) for k, content in enumerate(pictures)]
    made = tasks(clip, scene_cut="auto", rate=Multiply(1), replaced=lists(6))
    assert [task.time for task in made if task.is_new] == [F(6, 25)]


def test_a_replaced_frame_keeps_its_place_in_a_cadence():
    """Film in a 30 fps file: four pictures, and a repeat of the last one."""
    contents = [k - k // 5 - (k % 5 == 4) for k in range(60)]
    clip = frames([F(k, 30) for k in range(60)], contents)
    options = {"rate": Resample(F(24)), "duplicates": "refill"}
    plain = tasks(clip, **options)
    made = tasks(clip, **options, replaced=lists(6))
    assert [t.time for t in made] == [t.time for t in plain]
    changed = [(a, b) for a, b in zip(made, plain, strict=True) if a.left != b.left]
    assert len(changed) == 1
    ((task, before),) = changed
    assert before.left == F(6, 30)
    assert (task.left, task.right, task.t) == (F(5, 30), F(7, 30), F(1, 2))


@pytest.mark.parametrize("loop", [False, True])
def test_all_frames_but_one_can_be_replaced(loop):
    clip = frames([F(k, 25) for k in range(4)])
    made = tasks(clip, replaced=lists(0, 2, 3), loop=loop)
    assert {task.left for task in made} == {F(1, 25)}
    with pytest.raises(SettingsError, match=r"names all frames of it.*fewer"):
        tasks(clip, replaced=lists(0, 1, 2, 3), loop=loop)


def test_a_row_of_a_variable_rate_is_refused_when_it_is_found():
    times = [F(0), F(1), F(5, 2), F(7, 2), F(4)]
    clip = [Frame(picture(k), a, b - a) for k, (a, b) in enumerate(pairwise(times))]
    with pytest.raises(SettingsError, match=r"names 2\.50 s of frames"):
        tasks(clip, replaced=lists(1, 2))
