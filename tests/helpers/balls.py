"""A clip of a ball that flies over film, by more than its own size in a frame."""

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from scipy.ndimage import gaussian_filter

from cloudconv.media.frames.frame import Frame

SIZE = HEIGHT, WIDTH = 160, 256
RADIUS = 5
STEP = 18.0
BALL = np.array([250, 240, 120])


def place(time):
    """Return the centre of the ball, (x, y), at a time in frames: a parabola."""
    return 30 + STEP * time, 100 - 14 * time + 1.2 * time * time


def bounced(time, turn=6.0):
    """Return the centre at a time of a ball that bounces on a wall, at ``turn``."""
    x, y = place(min(time, turn))
    return x - STEP * max(time - turn, 0), y - 9 * max(time - turn, 0)


def ground(time, pan=1.5, seed=3):
    """Return a texture in grey levels, (H, W, 3), that moves to the left."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH + 64))
    wide = sum(gaussian_filter(noise, size) * size for size in (2, 5, 12))
    wide = 110 + 60 * wide / np.abs(wide).max()
    x = np.arange(WIDTH) + pan * time
    rows = [np.interp(x, np.arange(wide.shape[1]), row) for row in wide]
    return np.repeat(np.array(rows)[..., None], 3, 2)


def film(time, *, flies=True, ball=BALL, path=place, **options):
    """Return the picture at a time in frames, uint8 RGB.

    ``flies``: it shows a ball of a colour, whose ``path`` gives its centre at a time.
    """
    picture = ground(time, **options)
    if flies:
        x, y = path(time)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        cover = np.clip(RADIUS + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
        picture = picture * (1 - cover) + ball * cover
    return picture.round().clip(0, 255).astype(np.uint8)


def frames(times, pix_fmt="yuv444p", **options):
    """Return source frames of 25 a second, numbered by their order."""
    pictures = [VideoFrame.from_ndarray(film(time, **options), "rgb24") for time in times]
    return [
        Frame(shown.reformat(format=pix_fmt), Fraction(number, 25), Fraction(1, 25))
        for number, shown in enumerate(pictures)
    ]


def around(time, reach=9):
    """Return the area around the ball at a time."""
    x, y = (round(value) for value in place(time))
    return slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)
