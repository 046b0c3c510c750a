"""Lists of source frames: numbers, times, ranges, and the error for each wrong text."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.errors import SettingsError
from cloudconv.settings.framelist import FrameList, parse_frames

numbers = st.integers(0, 200)
spans = st.lists(st.tuples(numbers, st.integers(0, 9)), min_size=1, max_size=5)


def named(text, frames, rate, numbered=True):
    """Return the numbers that a text names among frames at a constant rate."""
    found = FrameList(parse_frames(text), F(7), rate if numbered else None)
    times = [F(7) + k / rate for k in range(frames + 1)]
    return [k for k in range(frames) if found.has(k, times[k], times[k + 1])]


@given(spans, st.sampled_from([F(24), F(30000, 1001)]), st.booleans())
def test_numbers_ranges_and_times_name_the_same_frames(spans, rate, numbered):
    expected = sorted({k for first, more in spans for k in range(first, first + more + 1)})
    by_number = ",".join(f"{first}-{first + more}" for first, more in spans)
    assert named(by_number, 250, rate, numbered) == expected
    # A time within a frame names the frame.
    within = [[(k + F(1, 3)) / rate for k in (a, a + more)] for a, more in spans]
    assert named([tuple(times) for times in within], 250, rate, numbered) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("100-104,0:12.48,300", [(100, 104), (F("12.48"), F("12.48")), (300, 300)]),
        ("12.48s", [(F("12.48"), F("12.48"))]),
        (" 3 - 1m30s ", [(3, F(90))]),
        ([1, (2, 5), "0:12-0:13"], [(1, 1), (2, 5), (F(12), F(13))]),
        (7, [(7, 7)]),
    ],
)
def test_lists_are_read_from_text_and_from_python(value, expected):
    read = parse_frames(value)
    assert read == tuple(expected)
    assert parse_frames(read) == read


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *(("12.48", "time with a colon or a unit"), (12.48, "no list of frames")),
        *(
            ("", "no frame"),
            ("1,,2", "no frame"),
            ("-1", "no frame"),
            ("1-2-3", "no frame"),
        ),
        *(("x", "no frame"), ("0:x", "not a time"), ([], "no list"), ([()], "no frame")),
        *(("4-2", "end before they begin"), ("0:03-1s", "end before they begin")),
    ],
)
def test_a_wrong_text_is_one_sentence(value, said):
    with pytest.raises(SettingsError, match=said):
        parse_frames(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("24", "frame 24, and the input has the frames 0 to 23 and lasts 1 s"),
        ("0:01", "the time 1, and the input"),
    ],
)
def test_frames_after_the_end_are_refused(text, said):
    with pytest.raises(SettingsError, match=said):
        FrameList(parse_frames(text), F(0), F(24)).check(24, F(1))


@pytest.mark.parametrize("text", ["0-48", "0-24,25-48", "0s-1s,25-48", "9-48,0-8"])
def test_more_than_two_seconds_in_a_row_are_refused(text):
    frames = FrameList(parse_frames(text), F(0), F(24))
    with pytest.raises(SettingsError, match=r"names 2\.04 s.*cut that part out"):
        frames.check(100, F(100, 24))
    FrameList(parse_frames("0-47,49-96"), F(0), F(24)).check(100, F(100, 24))
