"""Make clouds.mp4: cumulus that drifts and changes over still trees, with wind noise.

Usage: python make_clouds.py [OUT]

Everything is computed from fixed seeds; nothing is filmed. Needs numpy and av only.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH = 480
HEIGHT = 270
FRAMES = 72
RATE = 24
SAMPLE_RATE = 48000
TILE = 1024
Array = NDArray[np.float64]


class Noise:
    """Fractal noise on a torus that changes slowly: short waves change faster."""

    def __init__(self, seed: int, slope: float, longest: float) -> None:
        """Draw the waves and the speed at which each of them turns."""
        random = np.random.default_rng(seed)
        fy = np.fft.fftfreq(TILE)[:, None] * TILE
        fx = np.fft.rfftfreq(TILE)[None, :] * TILE
        waves = np.hypot(fy, fx)
        strength = np.maximum(waves, TILE / longest) ** -slope * (waves > 0)
        self._waves = strength * np.exp(2j * np.pi * random.random(waves.shape))
        self._turn = random.normal(0, 1, waves.shape) * np.sqrt(waves) * 0.09
        self._spread = float(np.fft.irfft2(self._waves).std())

    def at(self, seconds: float) -> Array:
        """Return the (TILE, TILE) field at a moment; mean 0, standard deviation about 1."""
        turned = self._waves * np.exp(1j * self._turn * seconds)
        field: Array = np.fft.irfft2(turned, s=(TILE, TILE)) / self._spread
        return field


def sample(field: Array, x: Array, y: Array) -> Array:
    """Return bilinear samples at (x, y) in pixels; the field wraps around."""
    left = np.floor(x).astype(int)
    top = np.floor(y).astype(int)
    fx, fy = x - left, y - top
    rows = (top % TILE, (top + 1) % TILE)
    columns = (left % TILE, (left + 1) % TILE)
    upper = field[rows[0], columns[0]] * (1 - fx) + field[rows[0], columns[1]] * fx
    lower = field[rows[1], columns[0]] * (1 - fx) + field[rows[1], columns[1]] * fx
    samples: Array = upper * (1 - fy) + lower * fy
    return samples


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Return a smooth step from 0 at ``low`` to 1 at ``high``."""
    t: Array = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def clouds(sky: Array, shape: Array, detail: Array, seconds: float) -> Array:
    """Add a layer of cumulus, seen from below at an angle, to a sky, (HEIGHT, WIDTH, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    # A flat layer overhead: parts closer to the horizon are farther away and smaller.
    distance = 1 / (1.12 - y / HEIGHT)
    u = (x - WIDTH / 2) * distance * 0.62 + 300 - 62 * seconds
    v = distance * 300 + 9 * seconds

    def density(du: float, dv: float) -> Array:
        puffs = np.abs(sample(detail, (u + du) * 1.7, (v + dv) * 1.7))
        return sample(shape, u + du, v + dv) - 0.55 * puffs + 0.42

    here = density(0, 0)
    cover = smoothstep(0.05, 0.75, here)[..., None]
    # Light comes from the upper left, so thick cloud in that direction gives shade.
    shade = smoothstep(-0.5, 2.7, density(-9, 14) * 0.7 + here * 0.3)[..., None]
    white = np.array([1.0, 0.985, 0.96])
    grey = np.array([0.56, 0.61, 0.70])
    colour = white * (1 - shade) + grey * shade
    haze = smoothstep(0.25, 0.85, y / HEIGHT)[..., None] * 0.45
    colour = colour * (1 - haze) + np.array([0.84, 0.88, 0.93]) * haze
    return sky * (1 - cover) + colour * cover


def backdrop() -> Array:
    """Return the clear sky, (HEIGHT, WIDTH, 3) in [0, 1]."""
    down = np.linspace(0, 1, HEIGHT)[:, None, None] ** 0.8
    sky = np.array([0.20, 0.42, 0.74]) * (1 - down) + np.array([0.72, 0.83, 0.93]) * down
    return np.broadcast_to(sky, (HEIGHT, WIDTH, 3))


@cache
def trees() -> Array:
    """Return the share of each pixel that trees hide, (HEIGHT, WIDTH, 1)."""
    random = np.random.default_rng(7)
    fine = 4
    x = np.arange(WIDTH * fine) / fine
    top = HEIGHT - 22 - 7 * np.sin(x / 71 + 1) - 4 * np.sin(x / 23)
    for _ in range(130):
        centre = random.uniform(-5, WIDTH + 5)
        height = random.uniform(9, 34)
        width = height * random.uniform(0.16, 0.30)
        ragged = 1 + 0.22 * np.sign(np.sin(x * random.uniform(2.0, 3.5)))
        crown = height * (1 - np.abs(x - centre) / (width * ragged))
        top = np.minimum(top, HEIGHT - 18 - np.maximum(crown, 0))
    y = (np.arange(HEIGHT * fine) / fine)[:, None]
    hidden = (y >= top).astype(np.float64)
    means: Array = hidden.reshape(HEIGHT, fine, WIDTH, fine).mean(axis=(1, 3))[..., None]
    return means


def to_yuv420p(rgb: Array) -> av.VideoFrame:
    """Convert RGB to BT.709 in limited range, with chroma averaged over 2 x 2."""
    red, green, blue = np.moveaxis(rgb, 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8556,
        128 + 224 * (red - luma) / 1.5748,
    ]
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for number, (plane, values) in enumerate(zip(frame.planes, planes, strict=True)):
        if number:
            values = values.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3))
        buffer = np.frombuffer(memoryview(plane), np.uint8).reshape(
            plane.height, plane.line_size
        )
        buffer[:, : plane.width] = np.rint(values)
    return frame


@cache
def scenery() -> tuple[Noise, Noise]:
    """Return the noise for the large shape of the clouds, and for their puffs."""
    return Noise(11, 1.85, 300), Noise(5, 1.75, 150)


def draw(index: int) -> av.VideoFrame:
    """Return frame ``index``."""
    seconds = index / RATE
    shape, detail = scenery()
    picture = clouds(backdrop(), shape.at(seconds), detail.at(seconds), seconds)
    hidden = trees()
    return to_yuv420p(picture * (1 - hidden) + np.array([0.055, 0.085, 0.07]) * hidden)


def wind() -> NDArray[np.float32]:
    """Return wind noise as long as the video: low noise that swells and falls."""
    count = FRAMES * SAMPLE_RATE // RATE
    random = np.random.default_rng(3)
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum = np.exp(2j * np.pi * random.random(hertz.size)) / (1 + (hertz / 250) ** 2)
    noise = np.fft.irfft(spectrum, count)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * np.arange(count) / count)
    sound: NDArray[np.float32] = (0.1 * swell * noise / noise.std()).astype(np.float32)
    return sound


def write(path: Path) -> None:
    """Write the video with its audio."""
    with av.open(str(path), "w", container_options={"movflags": "faststart"}) as out:
        video: Any = out.add_stream(
            "libx264",
            rate=RATE,
            # With mbtree or several threads, the output of x264 is not reproducible.
            options={"crf": "21", "preset": "slow", "x264-params": "mbtree=0:threads=1"},
        )
        video.width = WIDTH
        video.height = HEIGHT
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        context = video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = (
            context.color_range
        ) = 1
        context.time_base = Fraction(1, RATE)
        track: Any = out.add_stream("aac", rate=SAMPLE_RATE, options={"b": "48k"})
        track.layout = "mono"
        for index in range(FRAMES):
            frame = draw(index)
            frame.pts = index
            frame.time_base = Fraction(1, RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        samples = wind()
        for start in range(0, samples.size, 1024):
            part = samples[None, start : start + 1024]
            sound = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = SAMPLE_RATE, start
            sound.time_base = Fraction(1, SAMPLE_RATE)
            out.mux(track.encode(sound))
        out.mux(track.encode(None))


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("clouds.mp4")
    write(Path(target))
    print(target)
