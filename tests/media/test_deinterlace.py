"""``deinterlace`` makes whole frames of interlaced video: the same number and times, no combs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from cloudconv.errors import InputError
from cloudconv.media.frame import Frame
from cloudconv.media.read.probe import probe
from cloudconv.media.read.source import Source
from tests.helpers.factory import picture, planes_of, write_clip

COUNT = 12
STEP = 5.0
FIELDS = {"flags": "+ilme+ildct", "x264-params": "bff=1", "crf": "8"}


def interlaced_frame(index: int) -> VideoFrame:
    """Return a frame whose even lines are half a frame later than its odd lines."""
    upper = picture(2 * index + 1, 96, 64, step=STEP / 2)
    lower = picture(2 * index, 96, 64, step=STEP / 2)
    for target, source in zip(upper.planes, lower.planes, strict=True):
        width = target.line_size
        rows = np.frombuffer(target, np.uint8).reshape(-1, width)
        rows[1::2] = np.frombuffer(source, np.uint8).reshape(-1, width)[1::2]
    return upper


def comb_strength(frame: Frame) -> float:
    """Return the mean difference between each line and the mean of its neighbours."""
    luma = planes_of(frame.picture)[0].astype(float)
    return float(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean())


def frames_of(path: Path, **options: bool) -> list[Frame]:
    with Source(path, **options) as source:  # type: ignore[arg-type]
        return list(source.frames())


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    pictures = [interlaced_frame(index) for index in range(COUNT)]
    return write_clip(tmp_path / "fields.mkv", pictures, rate=25, codec="libx264", options=FIELDS)


def test_a_warning_names_interlacing_and_deinterlace_removes_it(clip: Path) -> None:
    info = probe(clip)
    assert info.interlaced
    assert "interlaced" in [w.code for w in info.warnings]
    kept, made = frames_of(clip), frames_of(clip, deinterlace=True)
    assert [f.time for f in made] == [f.time for f in kept]
    assert len(made) == COUNT
    truth = [picture(2 * k, 96, 64, step=STEP / 2) for k in range(COUNT)]
    for before, after, true in zip(kept[2:-1], made[2:-1], truth[2:-1], strict=True):
        assert comb_strength(after) < 0.5 * comb_strength(before)
        error = planes_of(after.picture)[0].astype(float) - planes_of(true)[0]
        assert np.abs(error).mean() < 1
    with Source(clip, deinterlace=True) as source:
        list(source.frames())
        assert "interlaced" not in [w.code for w in source.warnings]


def test_a_part_has_the_same_frames_as_the_whole(clip: Path) -> None:
    whole = frames_of(clip, deinterlace=True)
    with Source(clip, start=Fraction(4, 25), end=Fraction(8, 25), deinterlace=True) as source:
        part = list(source.frames())
    assert [f.time for f in part] == [f.time for f in whole[4:8]]
    for one, other in zip(part, whole[4:8], strict=True):
        assert np.array_equal(planes_of(one.picture)[0], planes_of(other.picture)[0])


def test_deinterlace_works_on_fields_without_a_flag(tmp_path: Path) -> None:
    pictures = [interlaced_frame(index) for index in range(COUNT)]
    clip = write_clip(tmp_path / "unmarked.mkv", pictures, rate=25)
    assert not probe(clip).interlaced
    kept, made = frames_of(clip), frames_of(clip, deinterlace=True)
    assert len(made) == COUNT
    assert all(
        comb_strength(b) < 0.5 * comb_strength(a)
        for a, b in zip(kept[2:-1], made[2:-1], strict=True)
    )


def test_pictures_too_small_for_deinterlacing_are_an_error(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "tiny.mkv", 4, size=(2, 2))
    with pytest.raises(InputError, match="2x2 cannot be deinterlaced"):
        frames_of(clip, deinterlace=True)
