"""Pictures in the planes of a format: sums of codes are those of RGB, in each format."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.dreaming.methods.collage import collage
from cloudconv.dreaming.planes import Planes
from cloudconv.images import as_picture, levels_of, picture_of, resized
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import ColorTags, Frame
from tests.helpers.dreams import clouds, video
from tests.helpers.tiers import first_full

FORMATS = [
    "yuv420p",
    "yuvj420p",
    "yuv422p10le",
    "yuv444p",
    "yuv410p",
    "yuva420p",
    "gray",
    "gray12le",
    "gbrp",
    "gbrap16le",
]


def frame_of(picture, pix_fmt, tags=ColorTags()):  # noqa: B008
    return Frame(video(picture, pix_fmt), Fraction(0), Fraction(1, 25), tags)


def samples_of(form, frame):
    return [form.look(frame).whole(group) for group in form.groups]


@pytest.mark.parametrize("size", [(64, 48), (61, 47)])
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_the_samples_of_a_frame_are_its_planes(pix_fmt, size):
    frame = frame_of(clouds(1, size)[0], pix_fmt, ColorTags(matrix=1))
    form = Planes(frame)
    samples = samples_of(form, frame)
    assert form.frame(samples).same_picture(frame)
    again = form.from_rgb(form.rgb(samples))
    assert all(np.array_equal(a, b) for a, b in zip(samples, again, strict=True))


@pytest.mark.parametrize("matrix", [1, 5, 8, 9])
@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_a_sum_of_codes_is_that_of_rgb(pix_fmt, matrix):
    """Weights whose sum is not 1 need the code of zero once."""
    if pix_fmt.startswith("g"):
        matrix = 2
    pictures = [as_picture(picture) for picture in clouds(2, (64, 48))]
    frame = frame_of(clouds(1, (64, 48))[0], pix_fmt, ColorTags(matrix=matrix))
    form = Planes(frame)
    if len(form.groups[0].numbers) == len(form.groups) == 1:
        pictures = [np.repeat(one[..., :1], 3, 2) for one in pictures]
    missing = np.full((48, 64), 0.3, np.float32)
    rgb = 0.4 * pictures[0] + np.float32(0.3) * pictures[1]
    for number, group in enumerate(form.groups):
        small = [resized(one, group.size) for one in pictures]
        codes = [group.codes(one) for one in small]
        rest = group.codes(np.zeros_like(small[0]), resized(missing, group.size))
        total = 0.4 * codes[0] + np.float32(0.3) * codes[1] + rest
        top = 2.0 ** (layout(frame.pix_fmt).depth - 8)
        assert np.abs(total - form.from_rgb(rgb)[number]).max() < 0.51 * max(top, 1)


def test_a_frame_in_other_colours_is_converted():
    picture = clouds(1, (64, 48))[0]
    film = frame_of(picture, "yuv420p", ColorTags(matrix=5, range=1))
    other = Frame(film.picture, film.time, film.duration, ColorTags(matrix=9, range=2))
    form = Planes(film)
    expected = form.rgb(samples_of(form, film))
    shown = form.rgb(samples_of(form, other))
    assert np.abs(shown - Planes(other).rgb(samples_of(Planes(other), other))).max() < 0.02
    assert np.abs(shown - expected).max() > 0.02


@pytest.mark.parametrize(
    "pix_fmt", first_full(["yuva420p", "yuv422p10le", "yuv420p", "yuv444p"])
)
def test_a_collage_is_the_same_in_each_format(pix_fmt):
    skies = [
        cv2.GaussianBlur(one, (0, 0), 3)
        for one in clouds(len(TIMES), (160, 120), speed=2.0)
    ]
    film = [frame_of(one, pix_fmt) for one in skies]
    colours = [video(levels_of(picture_of(one)), "gbrp") for one in film]

    def dreamt(frames):
        source = Material(frames, times=TIMES)
        with torch.inference_mode():
            made = list(collage(source, Options(20, 1)))
        return [one.show() for one in made], source.form.frame(made[-1].samples)

    usual, _ = dreamt([Frame(one, Fraction(0), Fraction(1, 25)) for one in colours])
    shown, last = dreamt(film)
    assert last.pix_fmt == pix_fmt
    apart = [255 * np.abs(a - b).mean() for a, b in zip(usual, shown, strict=True)]
    # Shifts are by whole cells of chroma.
    assert max(apart) < 2.5


TIMES = [Fraction(number, 25) for number in range(40)]
