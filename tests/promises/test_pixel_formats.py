"""Every command keeps source frames bit for bit, in each pixel format and size."""

import av
import numpy as np
import pytest

import cloudconv
from tests.helpers.factory import read_planes, write_clip

FORMATS = [
    "gray", "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le",
    "gray10le", "yuva420p", "gbrp10le",
]  # fmt: skip
COUNT = 10


def format_of(path):
    with av.open(str(path)) as clip:
        return str(clip.streams.video[0].format.name)


@pytest.mark.full
@pytest.mark.parametrize("size", [(96, 64), (101, 51)])
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_source_frames_of_every_pixel_format_are_unchanged(tmp_path, pix_fmt, size):
    clip = write_clip(tmp_path / "a.mkv", COUNT, size=size, pix_fmt=pix_fmt)
    before = read_planes(clip)

    def check(out, expected):
        """Compare the source frames with those spread evenly over the output."""
        assert format_of(out) == format_of(clip)
        after = read_planes(out)
        for number, source in enumerate(expected):
            planes = after[number * len(after) // len(expected)]
            assert len(planes) == len(before[source])
            for a, b in zip(before[source], planes, strict=True):
                np.testing.assert_array_equal(a, b)

    out = tmp_path / "interp.mkv"
    result = cloudconv.interpolate(clip, out, factor=2, encoder="ffv1", model="tiny")
    assert result.output_frames == 2 * COUNT
    check(out, [*range(COUNT)])

    out = tmp_path / "extrapolate.mkv"
    forecast = cloudconv.extrapolate(clip, out, frames=2, encoder="ffv1", model="hold")
    assert forecast.output_frames == COUNT + 2
    check(out, [*range(COUNT), COUNT - 1, COUNT - 1])

    for mode in ("texture", "rollout"):
        out = tmp_path / f"{mode}.mkv"
        model = {"model": "linear"} if mode == "rollout" else {}
        dreamt = cloudconv.dream(clip, out, frames=4, mode=mode, encoder="ffv1", **model)
        assert dreamt.output_frames == COUNT + 4
        assert format_of(out) == format_of(clip)
        after = read_planes(out)
        for source, planes in zip(before, after, strict=False):
            for a, b in zip(source, planes, strict=True):
                np.testing.assert_array_equal(a, b)
        if pix_fmt == "yuva420p":
            assert all(np.array_equal(p[3], after[COUNT - 1][3]) for p in after[COUNT:])
        if pix_fmt.startswith("gray"):
            assert all(row["saturation"] is None for row in dreamt.vitals)
