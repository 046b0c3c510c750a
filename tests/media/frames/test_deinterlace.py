"""``deinterlace`` makes two whole frames of each interlaced picture, at their own times."""

from fractions import Fraction

import numpy as np
import pytest

from cloudconv.errors import InputError
from cloudconv.media.reading.probe import probe
from cloudconv.media.reading.source import Source
from cloudconv.schedule.tasks import analyse
from tests.helpers.factory import (
    FIELD_STEP,
    FIELDS,
    interlaced,
    picture,
    planes_of,
    write_clip,
)
from tests.media.reading.test_source import assert_same

COUNT = 12
MIXED = [interlaced(k) for k in range(COUNT)]
MIXED += [picture(2 * k, 96, 64, step=FIELD_STEP) for k in range(COUNT, 2 * COUNT)]
"""Pictures of two fields, and then as many that were filmed at once."""


def frames_of(path, *, deinterlace=False, **span):
    with Source(probe(path, deinterlace=deinterlace), **span) as source:
        return list(source.frames())


def luma(picture):
    return planes_of(picture)[0].astype(float)


def assert_filmed(frames):
    """Assert that frame j shows the clip's motion at field j."""
    for j, frame in enumerate(frames[4:-2], 4):
        filmed = luma(picture(j, 96, 64, step=FIELD_STEP))
        assert np.abs(luma(frame.picture) - filmed).mean() < 1


@pytest.fixture
def clip(tmp_path):
    fields = MIXED[:COUNT]
    return write_clip(
        tmp_path / "fields.mkv", fields, rate=25, codec="libx264", options=FIELDS
    )


def test_a_warning_names_interlacing_and_deinterlace_removes_it(clip):
    info = probe(clip)
    assert info.interlaced
    assert "interlaced" in [w.code for w in info.warnings]
    result = frames_of(clip, deinterlace=True)
    assert [f.time for f in result] == [Fraction(j, 50) for j in range(2 * COUNT)]
    assert {f.duration for f in result} == {Fraction(1, 50)}
    assert_filmed(result)
    info = probe(clip, deinterlace=True)
    assert (info.timing.rate, info.timing.frames) == (50, 2 * COUNT)
    with Source(info) as source:
        list(source.frames())
        assert not [*info.warnings, *source.warnings]


@pytest.mark.parametrize("first", [8, 9])
def test_a_part_has_the_same_frames_as_the_whole(clip, first):
    span = {"start": Fraction(first, 50), "end": Fraction(first + 5, 50)}
    part = frames_of(clip, deinterlace=True, **span)
    assert_same(part, frames_of(clip, deinterlace=True)[first : first + 5])


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_unmarked_fields_are_shown_in_the_order_of_their_motion(tmp_path, order):
    pictures = [interlaced(index, order) for index in range(COUNT)]
    clip = write_clip(tmp_path / "unmarked.mkv", pictures, rate=25)
    assert not probe(clip).interlaced
    result = frames_of(clip, deinterlace=True)
    assert len(result) == 2 * COUNT
    assert_filmed(result)  # in the wrong order, every second frame would go back


def test_progressive_pictures_in_an_interlaced_stream_repeat(tmp_path):
    """Pictures filmed at once give pairs of the same frame, which count as repeats."""
    clip = write_clip(tmp_path / "a.mkv", MIXED, rate=25, codec="libx264", options=FIELDS)
    assert all(frame.picture.interlaced_frame for frame in frames_of(clip))
    result = frames_of(clip, deinterlace=True)
    kept = frames_of(clip)
    assert_filmed(result[: 2 * COUNT])
    for number in range(2 * COUNT + 2, 4 * COUNT):
        assert result[number].same_picture(kept[number // 2])
    repeats = [item.repeats for item in analyse(result, "off")]
    assert repeats == [False] * 2 * COUNT + [False, True] * COUNT


def test_pictures_that_are_marked_as_progressive_repeat(tmp_path):
    path = tmp_path / "both.h264"
    data = b""
    for options, shown in (FIELDS, MIXED[:COUNT]), ({"crf": "8"}, MIXED[COUNT:]):
        part = write_clip(
            tmp_path / "a.h264", shown, rate=25, codec="libx264", options=options
        )
        data += part.read_bytes()
    path.write_bytes(data)
    result = frames_of(path, deinterlace=True)
    kept = frames_of(path)
    assert len(result) == 4 * COUNT
    for number in range(2 * COUNT, 4 * COUNT):
        assert result[number].same_picture(kept[number // 2])


def test_a_progressive_video_is_not_deinterlaced(tmp_path):
    clip = write_clip(tmp_path / "whole.mkv", COUNT, rate=25)
    info = probe(clip, deinterlace=True)
    assert [w.code for w in info.warnings] == ["not-interlaced"]
    assert info.timing.rate == 25
    assert_same(frames_of(clip, deinterlace=True), frames_of(clip))


def test_fields_at_a_variable_rate_have_their_own_times(tmp_path):
    """A field comes half a usual picture later, also before a gap, never too late."""
    ticks = [0, 40, 80, 120, 160, 1160, 1200, 1240, 1250, 1290]
    pictures = [interlaced(k) for k in range(len(ticks))]
    times = [Fraction(t, 1000) for t in ticks]
    form = {"times": times, "last_duration": Fraction(1, 25), "codec": "libx264"}
    clip = write_clip(tmp_path / "fields.mkv", pictures, options=FIELDS, **form)
    result = frames_of(clip, deinterlace=True)
    assert [f.time for f in result[::2]] == times
    seconds = [b.time - a.time for a, b in zip(result[::2], result[1::2], strict=True)]
    assert seconds[:4] == [Fraction(1, 50)] * 4
    assert Fraction(1, 50) <= seconds[4] < Fraction(1, 10)  # before the gap
    assert seconds[7] == Fraction(1, 200)  # before a picture that comes early
    assert result[-1].time + result[-1].duration == Fraction(1330, 1000)


def test_pictures_too_small_for_deinterlacing_are_an_error(tmp_path):
    clip = write_clip(tmp_path / "tiny.mkv", [picture(0, 2, 2)] * 4)
    with pytest.raises(InputError, match="2x2 cannot be deinterlaced"):
        frames_of(clip, deinterlace=True)
