"""Rates, factors and times are parsed exactly, in all accepted forms."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.errors import SettingsError
from cloudconv.messages import rate_name
from cloudconv.settings import ExtrapolateSettings
from cloudconv.settings.numbers import parse_factor, parse_rate, parse_time
from tests.test_timeline import RATES

F = Fraction
rates = st.sampled_from(RATES)


@given(st.sampled_from([24, 30, 48, 60, 120]), st.integers(2, 9))
def test_a_rounded_ntsc_rate_is_exact(rate, digits):
    exact = F(rate * 1000, 1001)
    assert parse_rate(f"{float(exact):.{digits}f}") == parse_rate(float(exact)) == exact


@given(st.fractions(F(1, 1000), 1000, max_denominator=1000))
def test_fractions_are_rates_and_factors(rate):
    assert parse_rate(rate) == parse_rate(f" {rate} ") == parse_factor(str(rate)) == rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("12.5", F(25, 2)),
        ("14.985", F(15000, 1001)),
        ("24.", F(24)),
        ("24.975", F(999, 40)),
        (1 / 86400, F(1, 86400)),
        (25 + 1 / 3, F(76, 3)),
        ("25.3333333333333333", F(76, 3)),
    ],
)
def test_rates_are_parsed_exactly(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "fast",
            "-5",
            "0",
            "0/5",
            "5/0",
            "5/00",
            "1e3",
            "nan",
            "1/2/3",
            "٣",
            "9" * 5000,
        ),
        *(math.nan, math.inf, -1 / 3, 1e300, 0.0),
    ],
)
def test_a_value_that_is_no_rate_is_refused(text):
    with pytest.raises(SettingsError, match="is not a frame rate: give"):
        parse_rate(text)
    with pytest.raises(SettingsError, match="is not a factor: give"):
        parse_factor(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", F(25, 2)),
        ("0", F(0)),
        (".25", F(1, 4)),
        ("90", F(90)),
        ("1001/24", F(1001, 24)),
        ("2:03.5", F(247, 2)),
        ("1:02:03.5", F(7447, 2)),
        ("90:00", F(5400)),
        (1.5, F(3, 2)),
        (0.1 + 0.2, F(3, 10)),
        ("1.990752808988764", F("1.990752808988764")),
        ("1m1.990752808988764s", F("61.990752808988764")),
        ("1:01.990752808988764", F("61.990752808988764")),
        ("90s", F(90)),
        ("1m30s", F(90)),
        ("2m", F(120)),
        ("1h2m3.5s", F(7447, 2)),
        ("1h 30m", F(5400)),
        ("1.5 s", F(3, 2)),
    ],
)
def test_times_are_parsed_exactly(text, seconds):
    assert parse_time(text) == seconds


@given(
    st.integers(0, 10**6), st.sampled_from([F(24), F(24000, 1001), F(120000, 1001), F(120)])
)
def test_the_computed_time_of_a_frame_is_its_exact_time(frame, rate):
    assert parse_time(frame / float(rate)) == frame / rate
    assert ExtrapolateSettings("a.mp4", seconds=7 / 24).seconds == F(7, 24)


@given(st.floats(0, 1e5))
def test_a_float_time_differs_from_its_value_by_less_than_a_nanosecond(seconds):
    assert abs(parse_time(seconds) - F(seconds)) < F(1, 10**9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1:60",
        "1:60:00",
        "1:2:3:4",
        "1:",
        "soon",
        "1 2",
        -0.5,
        "s",
        "30s1m",
        "1m30",
        "1d",
    ],
)
def test_text_that_is_no_time_is_refused(text):
    with pytest.raises(SettingsError, match="is not a time: give"):
        parse_time(text)


def test_a_very_low_rate_is_shown_as_a_fraction():
    assert [
        rate_name(Fraction(*each)) for each in ((1, 86400), (1, 1000), (24000, 1001))
    ] == [*("1/86400", "0.001", "23.976")]
