"""The sound that belongs to the frames of a dream, by their origins."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.dreaming.heard import Listener
from cloudconv.dreaming.methods.base import Composed, Filmed, Jump
from cloudconv.media.sound.edits import Edit, EditList

STEP = F(1, 25)
TIMES = [number * STEP for number in range(100)]
BEGINS = F(4)  # the film's end


def heard(origins, times=TIMES, step=STEP):
    """Return the edits for a dream of these origins, and the edit list."""
    edit_list = EditList(BEGINS, BEGINS + len(origins) * step, F(0))
    edits = edit_list.follow()
    listener = Listener(edit_list, times, step)
    for number, origin in enumerate(origins):
        assert not edit_list.is_complete
        listener.push(origin)
        assert edit_list.known <= BEGINS + (number + 1) * step
    assert edit_list.is_complete
    return list(edits)


def filmed(first, count):
    return [Filmed(first + number) for number in range(count)]


def jump(before, after, start, length):
    parts = ((number + 1) / (length + 1) for number in range(length))
    return [
        Jump(before + n, after + n, part, start, length) for n, part in enumerate(parts)
    ]


def test_frames_in_the_order_of_the_film_are_one_shot():
    assert heard(filmed(20, 30)) == [Edit(BEGINS, F(0), 20 * STEP - BEGINS)]


def test_a_shot_after_a_jump_begins_with_the_pictures_of_the_jump():
    edits = heard([*filmed(20, 10), *jump(30, 50, 10, 3), *filmed(53, 5)])
    begins = BEGINS + 10 * STEP
    assert edits[1:] == [Edit(begins, 3 * STEP, 50 * STEP - begins)]


def test_a_film_without_sound_order_is_an_ambience():
    assert heard([Composed(), Composed(), Composed()]) == [Edit(BEGINS, F(0), None)]


def test_the_second_frame_of_an_entry_that_stands_does_not_move_the_sound():
    entry = [Jump(99, 40, (number + 1) / 4, 0, 3) for number in range(3)]
    edits = heard([*entry, *filmed(41, 4)])
    assert edits == [Edit(BEGINS, 3 * STEP, 38 * STEP - BEGINS)]


def test_a_loop_that_ends_in_a_jump_to_the_start_of_the_source_adds_no_shot():
    home = [Jump(30 + number, None, (number + 1) / 4, 10, 3) for number in range(3)]
    assert len(heard([*filmed(20, 10), *home])) == 1


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 19)), min_size=1, max_size=12))
def test_each_filmed_frame_has_the_sound_of_its_own_time(runs):
    origins = [origin for first, count in runs for origin in filmed(first, count)]
    edits = heard(origins)
    offset = F(0)
    for number, origin in enumerate(origins):
        time = BEGINS + number * STEP
        offset = next((s.offset for s in reversed(edits) if s.begins <= time), offset)
        assert time + offset == TIMES[origin.number]


@pytest.mark.full
@given(
    st.lists(
        st.fractions(F(1, 60), F(1, 12), max_denominator=600), min_size=30, max_size=30
    )
)
def test_uneven_frames_of_a_film_stay_one_shot_and_less_than_a_gap_from_their_sound(gaps):
    times = [sum(gaps[:number], F(0)) for number in range(len(gaps))]
    grid = [
        times[3] + number * STEP for number in range(int((times[-1] - times[3]) / STEP))
    ]
    nearest = [min(range(30), key=lambda n: abs(times[n] - time)) for time in grid]
    edits = heard([Filmed(number) for number in nearest], times)
    assert len(edits) == 1
    assert abs(edits[0].offset - (times[nearest[0]] - BEGINS)) <= max(gaps)
