"""Every command keeps source frames bit for bit, in each pixel format and size."""

import av
import numpy as np
import pytest

import cloudconv
from tests.helpers.factory import read_planes, same, write_clip
from tests.helpers.tiers import first_full

pytestmark = pytest.mark.usefixtures("unmeasured")

FORMATS = [
    "gray", "yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le",
    "gray10le", "yuva420p", "gbrp10le",
]  # fmt: skip
COUNT = 10


def format_of(path):
    with av.open(str(path)) as clip:
        return str(clip.streams.video[0].format.name)


@pytest.mark.parametrize("size", first_full([((101, 51),), ((96, 64),)]))
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_source_frames_of_every_pixel_format_are_unchanged(tmp_path, pix_fmt, size):
    clip = write_clip(tmp_path / "a.mkv", COUNT, size=size, pix_fmt=pix_fmt)
    before = read_planes(clip)

    def planes_of(job, **settings):
        """Return the planes that a job makes, in the source's pixel format."""
        out = tmp_path / "out.mkv"
        result = job(clip, out, encoder="ffv1", overwrite=True, **settings)
        assert format_of(out) == format_of(clip)
        planes = read_planes(out)
        assert len(planes) == result.output_frames
        return result, planes

    _, made = planes_of(cloudconv.interpolate, factor=2, model="tiny")
    assert same(made[::2], before)
    _, made = planes_of(cloudconv.extrapolate, frames=2, model="hold")
    assert same(made, [*before, before[-1], before[-1]])
    for options in ({"mode": "texture"}, {"mode": "rollout", "model": "linear"}):
        _, made = planes_of(cloudconv.dream, frames=4, **options)
        assert len(made) == COUNT + 4
        assert same(made[:COUNT], before)
        if pix_fmt == "yuva420p":
            assert all(np.array_equal(p[3], made[COUNT - 1][3]) for p in made[COUNT:])
