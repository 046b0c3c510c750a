"""Even times for clips that repeat some of their frames."""

from fractions import Fraction as F
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.schedule.cadence import MAX_REPEATS, UNKNOWN, Cadence, Change


def content_times(pattern, cuts=(), times=None, changes=None):
    """Return the content's times of frames: ``"dddr"`` (d: new, r: repeat), 1 fps.

    ``changes`` are those of the frames, see :func:`steps`.
    """
    times = times or [F(k) for k in range(len(pattern))]
    cadence = Cadence()
    placed = []
    for k, (kind, time) in enumerate(zip(pattern, times, strict=True)):
        change = UNKNOWN if changes is None else changes[k]
        placed += cadence.push(time, kind == "r", k in cuts, change)
        assert k + 1 - len(placed) <= Cadence.lookahead
    placed += cadence.finish(times[-1] + 1 if times else F(0))
    assert len(placed) == len(times), "every frame must be returned once"
    return placed, cadence


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("ddddr" * 4, [k * F(5, 4) for k in range(16)]),  # film in a 30 fps file
        ("drdrr" * 6, [k * F(5, 2) for k in range(12)]),  # film in a 60 fps file
        ("drdrdr", [0, 2, 4]),
        ("drrdrr", [0, 3]),
    ],
)
def test_different_frames_of_a_cadence_get_even_times(pattern, shown):
    shows, _ = content_times(pattern)
    assert [s for s in shows if s is not None] == shown
    assert [s is None for s in shows] == [kind == "r" for kind in pattern]


def test_frames_without_a_cadence_keep_their_times():
    for pattern in (
        "d" * 40,
        "drrrdrrrrrdrrr",  # 3 and 5 repeats are no cadence
        "ddd" + "r" * (MAX_REPEATS + 1) + "ddd",
        "d" + "r" * 50,
        "d",
        "",
    ):
        shows, cadence = content_times(pattern)
        assert shows == list(range(len(pattern)))
        assert cadence.description is None


def test_a_cadence_after_a_still_is_found():
    shows, _ = content_times("d" + "r" * 20 + "ddddr" * 2)
    assert shows[:21] == list(range(21))
    assert [s for s in shows[21:] if s is not None] == [21 + k * F(5, 4) for k in range(8)]


def steps(pattern, after):
    """Return the changes of frames: 1 for a step, 1.7 for two, ``after`` a repeat."""
    return [
        Change(0.1, 1) if kind == "r" else Change(after if before == "r" else 1, 1.7)
        for before, kind in zip("d" + pattern, pattern, strict=False)
    ]


@pytest.mark.parametrize(
    "pattern",
    ["dddddrddddddddrdddrddddrddddrrdddd", "d" * 17 + "r" + "d" * 29 + "r" + "d" * 5],
)
def test_frames_keep_their_times_where_others_are_lost(pattern):
    shows, cadence = content_times(pattern, changes=steps(pattern, 1.6))
    assert shows == [None if kind == "r" else k for k, kind in enumerate(pattern)]
    assert ("lost" in cadence.advice) == (pattern.count("r") > 3)


def test_steps_that_stay_even_after_repeats_are_a_cadence():
    pattern = "ddddr" * 6
    shows, cadence = content_times(pattern, changes=steps(pattern, 1.1))
    assert [s for s in shows if s is not None] == [k * F(5, 4) for k in range(24)]
    assert "1 of every 5" in cadence.advice


def test_a_single_repeat_is_named_and_left_out():
    """It stands where two recordings were joined, and the other frames keep their times."""
    pattern = "d" * 17 + "r" + "d" * 9
    shows, cadence = content_times(pattern, changes=steps(pattern, 1.1))
    assert shows == [None if k == 17 else k for k in range(27)]
    assert cadence.advice.startswith("1 frame of the video repeats the one before, the")


def test_nothing_moves_across_a_cut():
    shows, _ = content_times("ddddrdd" + "ddddr" * 2, cuts=[7])
    # No two cycles are before the cut, so different frames keep their times.
    assert shows[:8] == [0, 1, 2, 3, None, 5, 6, 7]
    assert [s for s in shows[7:] if s is not None] == [7 + k * F(5, 4) for k in range(8)]


def test_uneven_times_are_spread_evenly_over_their_cycle():
    times = [F(0), F(1, 10), F(3, 10), F(4, 10), F(5, 10), F(6, 10)]
    shows, _ = content_times("ddrddr", times=times)
    assert shows[:3] == [F(0), F(1, 5), None]
    # Cycles of one frame each and of one length are not joined.
    assert content_times("drdr", times=times[:4])[0] == [F(0), None, F(3, 10), None]


@settings(max_examples=200, deadline=None)
@given(
    st.text("dr", max_size=120),
    st.sets(st.integers(0, 119), max_size=6),
    st.lists(st.floats(0.5, 2), min_size=120, max_size=120),
)
def test_content_stays_in_order_and_near_its_time(pattern, cuts, sizes):
    changes = [Change(size, 1.5) for size in sizes]
    shows, _ = content_times(pattern, sorted(cuts), changes=changes)
    content = [s for s in shows if s is not None]
    assert all(a < b for a, b in pairwise(content))
    for k, s in enumerate(shows):
        if s is not None:
            assert abs(s - k) <= MAX_REPEATS
        if k in cuts:
            assert s == k
        begun = max((c for c in cuts if c <= k), default=0)
        ends = min((c for c in cuts if c > k), default=len(pattern))
        assert s is None or begun <= s < ends


def test_a_regular_cadence_is_named():
    def named(pattern):
        return content_times(pattern)[1].description

    assert named("ddddr" * 10) == "1 of every 5 frames repeats the one before"
    assert named("ddddr" * 8 + "dddddr" + "ddddr" * 8 + "dddr") == named("ddddr" * 10)
    assert named("drdrr" * 6) == "3 of every 5 frames repeat the one before"
    assert named("dr" * 20) == "1 of every 2 frames repeats the one before"
    assert named("drr" * 20) == "2 of every 3 frames repeat the one before"
    assert named("dddddrr" * 9) == "2 of every 7 frames repeat the one before"
    assert named("ddddr" * 3) is None, "three cycles are too few for a cadence"
    assert named("ddr" + "ddddddr" + "dr" + "ddddddddr" + "dddrr" + "dr") is None
    assert named("ddddr" * 5 + "d" * 200) is None, (
        "the cadence covers only a small part of the clip"
    )
