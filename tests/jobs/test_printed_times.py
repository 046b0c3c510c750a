"""Times that tables and players print name the frames, in each option that takes a time."""

from fractions import Fraction as F
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.errors import InputError
from cloudconv.jobs.interp.plan import decide
from cloudconv.media.frames.timing import Stamps, timing_of
from cloudconv.settings import InterpSettings
from tests.helpers import calls
from tests.helpers.factory import read_planes, read_times, same, write_clip

UNEVEN = [F(k, 3) for k in (0, 1, 2, 4, 5, 6, 8, 11)]


def timing(times):
    ticks = np.array([round(time * 90000) for time in times])
    last = int(ticks[-1] - ticks[-2])
    return timing_of(
        Stamps(
            tick=F(1, 90000),
            times=ticks,
            packets=len(ticks),
            shown=len(ticks),
            durations=frozenset({last}),
            last_duration=last,
            is_rate_guessed=False,
        ),
        None,
    )


@given(
    st.integers(0, 200),
    st.sampled_from([F(24), F(30000, 1001), F(240), F(1000)]),
    st.booleans(),
)
def test_a_printed_time_of_a_frame_names_the_frame(number, rate, even):
    """Players and ffprobe round times, or cut digits off."""
    known = timing([7 + k / rate for k in range(201) if even or k != 100 or number == 100])
    exact = number / rate
    for digits in (3, 6):
        cut = F(floor(exact * 10**digits), 10**digits)
        for time in (round(exact, digits), cut, exact):
            if rate < 1000:
                assert abs(known.at(time) - 7 - exact) < known.time_base


@pytest.mark.parametrize("times", [[F(k, 24) for k in range(24)], UNEVEN])
def test_other_times_stay(times):
    known = timing(times)
    for time in (F(1, 5), F(1, 3) + F(1, 1000), F(2, 3) - F(1, 1000), F(3, 7)):
        assert known.at(time) == time


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("times", [[F(k, 24) for k in range(48)], UNEVEN])
def test_a_part_by_printed_times_is_that_by_exact_times(tmp_path, times, suffix):
    """0.667 is after the frame at 2/3, and 1.667 after that at 5/3."""
    codec = "ffv1" if suffix == ".mkv" else "libx264"
    clip = write_clip(tmp_path / f"a{suffix}", len(times), times=times, codec=codec)
    for name, part in {
        "printed": {"start": "0.667", "end": 1.667},
        "exact": {"start": "2/3", "end": F(5, 3)},
    }.items():
        result = calls.interpolate(
            clip, tmp_path / f"{name}.mkv", factor=1, model="blend", refill=True,
            encoder="ffv1", **part,
        )  # fmt: skip
        assert result.source_frames == sum(F(2, 3) <= time < F(5, 3) for time in times)
    outputs = tmp_path / "printed.mkv", tmp_path / "exact.mkv"
    assert read_times(outputs[0]) == read_times(outputs[1])
    assert same(*map(read_planes, outputs))


@pytest.mark.parametrize("times", [[F(k, 24) for k in range(48)], UNEVEN])
def test_a_speed_from_a_printed_time_on_begins_at_the_frame(tmp_path, times):
    """Between 1.667 and 5/3 no frame of the source would be shown as it is."""
    clip = write_clip(tmp_path / "a.mp4", len(times), times=times, codec="libx264")
    printed, exact = (
        decide(InterpSettings(clip, tmp_path / "b.mp4", speed=text, fps=24)).request.shows
        for text in ("0=1,1.667=1,1.667=0.25", "0=1,5/3=1,5/3=0.25")
    )
    assert printed == exact


def test_the_printed_length_of_a_film_is_its_end(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 40)
    result = calls.extrapolate(clip, tmp_path / "b.mkv", at="1.667", frames=1)
    assert result.output_frames == 41
    with pytest.raises(InputError, match=r"lasts 1.66667 s, .* no frame at 1.67 s"):
        calls.extrapolate(clip, tmp_path / "c.mkv", at="1.67", frames=1)


def test_compare_takes_the_same_part(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", 48)
    options = {"model": "blend", "against": "hold", "drop": 2}
    printed = calls.compare(clip, start="0.667", end="1.667", **options)
    exact = calls.compare(clip, start="2/3", end="5/3", **options)
    assert printed.per_frame == exact.per_frame
