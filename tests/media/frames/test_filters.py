"""FFmpeg's minterpolate, with exact times."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import ModelError
from cloudconv.media.frames.frame import Frame
from cloudconv.media.writing.meters import minterpolate
from tests.helpers.factory import picture, planes_of

NTSC = Fraction(24000, 1001)


def frames(count, rate=24, start=0, size=(96, 64)):
    step = 1 / Fraction(rate)
    return [Frame(picture(i, *size), start + i * step, step) for i in range(count)]


def distance(a, b):
    return np.abs(planes_of(a)[0].astype(float) - planes_of(b)[0]).mean()


@settings(deadline=None, max_examples=8)
@given(
    rate=st.sampled_from([Fraction(24), NTSC, Fraction(25), Fraction(60000, 1001)]),
    factor=st.integers(2, 4),
    start=st.sampled_from([Fraction(0), Fraction(1001, 24000), Fraction(10, 3)]),
    count=st.integers(2, 5),
)
def test_new_frames_have_exact_times_and_reach_the_last_input(rate, factor, start, count):
    kept = frames(count, rate / factor, start, size=(64, 48))
    result = list(minterpolate(kept, rate))
    assert [f.time for f in result] == [
        start + k / rate for k in range((count - 1) * factor + 1)
    ]
    assert {f.duration for f in result} == {1 / rate}
    for one, same in zip(kept, result[::factor], strict=True):
        assert one.same_picture(same)


def test_uneven_input_times_are_kept():
    kept = [frames(6)[k] for k in (0, 1, 4, 5)]
    result = list(minterpolate(kept, Fraction(24)))
    assert [f.time for f in result] == [Fraction(k, 24) for k in range(6)]
    for one, same in zip(kept, (result[k] for k in (0, 1, 4, 5)), strict=True):
        assert one.same_picture(same)
    middle = result[2].picture
    assert distance(middle, picture(2)) < distance(picture(1), picture(2))


FORMATS = [
    *("gray", "yuv444p", "yuv410p", "yuva420p", "yuv420p10le"),
    *("gray16le", "gbrp", "gbrap", "gbrp12le"),
]


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_pictures_keep_their_pixel_format_and_levels(pix_fmt):
    still = [
        Frame(picture(0, pix_fmt=pix_fmt), Fraction(k, 12), Fraction(1, 12))
        for k in range(3)
    ]
    result = list(minterpolate(still, Fraction(24)))
    assert len(result) == 5
    step = 2 ** (still[0].picture.format.components[0].bits - 8)
    for frame in result:
        assert frame.pix_fmt == pix_fmt
        for a, b in zip(planes_of(frame.picture), planes_of(still[0].picture), strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 3 * step


def test_minterpolate_reads_few_frames_ahead():
    left = iter(frames(30))
    result = minterpolate(left, Fraction(48))
    for _ in range(4):
        next(result)
    assert len(list(left)) >= 24


def test_pictures_too_small_for_minterpolate_are_an_error():
    with pytest.raises(ModelError, match="at least 32 pixels"):
        next(minterpolate(frames(3, size=(64, 30)), Fraction(48)))
