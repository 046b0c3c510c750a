"""Small scenes for dreams: clouds over a silhouette, a bouncing ball, noise."""

from collections.abc import Iterable
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import av
import cv2
import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.auto import choose
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Composed, Jump, Options, Origin
from cloudconv.dreaming.methods.modes import method
from cloudconv.dreaming.rehearsal import Rehearsal
from cloudconv.dreaming.vitals.features import FilmFeatures
from cloudconv.dreaming.vitals.vitals import WINDOW, Vitals, VitalsMeter
from cloudconv.images import Floats, picture_from, small_copy, tensor_of
from cloudconv.media.frames.frame import Frame

Picture = NDArray[np.uint8]


@cache
def _noise(seed: int, height: int, width: int, roughness: float) -> NDArray[np.float32]:
    """Return noise that wraps around: (height, width) float32, about -1 to 1."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(random.standard_normal((height, width)))
    # Frequencies in cycles per 100 pixels, the same in both directions.
    radius = 100 * np.hypot(np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None])
    spectrum *= np.where(radius > 1, np.maximum(radius, 1) ** -roughness, 0)
    noise = np.fft.irfft2(spectrum, (height, width))
    result: NDArray[np.float32] = (noise / noise.std() / 2).astype(np.float32)
    return result


def _moved(layer: NDArray[np.float32], by: float, width: int) -> NDArray[np.float32]:
    whole = int(by)
    rest = by - int(by)
    rolled = np.roll(layer, whole, 1)
    result: NDArray[np.float32] = (1 - rest) * rolled + rest * np.roll(rolled, 1, 1)
    return result[:, :width]


def _cloudiness(size: tuple[int, int], by: float) -> NDArray[np.float32]:
    """Return clouds moved by pixels, and their details moved further: they change shape."""
    width, height = size
    shape = _noise(1, height, 1024, 1.7)
    detail = _noise(2, height, 1024, 1.4)
    return _moved(shape, by, width) + 0.5 * _moved(detail, by * 1.3, width)


def clouds(
    count: int, size: tuple[int, int] = (128, 96), speed: float = 1.0
) -> list[Picture]:
    """Return pictures of clouds, (h, w, 3) RGB, that drift over hills and change shape."""
    width, height = size
    hills = height * 0.8 + 5 * _noise(3, 1, 1024, 1.5)[0, :width]
    land = np.clip(np.arange(height)[:, None] - hills + 0.5, 0, 1)[..., None].astype(
        np.float32
    )
    texture = 45 + 25 * _noise(4, height, 1024, 1.0)[:, :width, None]
    pictures = []
    for k in range(count):
        cover = 1 / (1 + np.exp(-6 * _cloudiness(size, k * speed)))[..., None]
        sky = (1 - cover) * np.float32([90, 130, 200]) + cover * np.float32([235, 230, 225])
        picture = sky * (1 - land) + texture * land * np.float32([0.9, 1, 0.8])
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


def trees(count: int, size: tuple[int, int] = (240, 180)) -> list[Picture]:
    """Return pictures, (h, w, 3), of trees that stir under clouds of changing light."""
    width, height = size
    tops = height * 0.75 - 12 * np.abs(_noise(5, 1, 1024, 1.0)[0, :width])
    leaves = 30 + 22 * _noise(6, height, 1024, 0.6)[:, :width]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    covered = np.clip(y - tops + 0.5, 0, 1).astype(np.float32)
    pictures = []
    for k, sky in enumerate(clouds(count, (width, 2 * height), speed=2.0)):
        # Each part of a tree sways by itself, by up to a pixel.
        sway = np.sin(0.3 * k + 6 * _noise(7, height, 1024, 2.0)[:, :width]).astype(
            np.float32
        )
        how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT}
        land, tree = (
            cv2.remap(np.float32(each), x + sway, y, **how) for each in (covered, leaves)
        )
        light = 1 + 0.25 * np.sin(0.05 * k)
        picture = light * (sky[:height] * (1 - land[..., None]) + (tree * land)[..., None])
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


def slow_clouds(count: int, speed: float) -> list[Picture]:
    """Return pictures, (h, w, 3), of clouds that hardly move above blue sky; no land."""
    height, width = 120, 160
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    blue = np.array([80, 130, 200]) + np.array([30, 30, 20]) * y[..., None]
    pictures = []
    for k in range(count):
        cover = 1 / (1 + np.exp(-10 * (_cloudiness((width, height), k * speed) - 0.2)))
        cover = (cover * np.clip(8.2 - 12 * y, 0, 1))[..., None]
        picture = blue * (1 - cover) + cover * np.array([240, 238, 235])
        pictures.append(np.rint(picture).astype(np.uint8))
    return pictures


def dusk(count: int, speed: float) -> list[Picture]:
    """Return pictures, (h, w, 3), of a sunset that darkens from the lower rim; no land."""
    height, width = 120, 160
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    sky = np.array([150, 90, 110]) + np.array([100, 60, -60]) * y[..., None]
    pictures = []
    for k in range(count):
        time = k / count
        light = (1 - 0.5 * time * y) * (1 - y**4 * (0.2 + 0.7 * time))
        cover = 0.5 / (
            1 + np.exp(-6 * _moved(_noise(1, height, 1024, 1.7), k * speed, width))
        )
        picture = sky * (1 - cover[..., None]) + cover[..., None] * np.array([90, 50, 60])
        pictures.append(np.rint(picture * light[..., None]).astype(np.uint8))
    return pictures


def lost_land(pictures: list[Picture], made: Iterable[Tensor]) -> float:
    """Return the share of always dark source pixels that are bright in the worst frame."""
    dark = cv2.erode((np.max(pictures, (0, 3)) < 75).astype(np.uint8), np.ones((3, 3))) > 0
    return max(float((255 * one.amax(0).numpy()[dark] > 105).mean()) for one in made)


def ball(count: int, size: tuple[int, int] = (96, 64), period: int = 24) -> list[Picture]:
    """Return pictures of a ball that bounces over a grid; (h, w, 3) RGB each."""
    width, height = size
    pictures = []
    for k in range(count):
        picture = np.full((height, width, 3), 60, np.uint8)
        picture[::8], picture[:, ::8] = 75, 75
        lift = abs(np.sin(np.pi * k / period)) * (height - 28)
        centre = round(16 * width / 2), round(16 * (height - 12 - lift))
        cv2.circle(picture, centre, 8 * 16, (230, 80, 60), -1, cv2.LINE_AA, 4)
        pictures.append(picture)
    return pictures


def frames(pictures: list[Picture], rate: int = 25, pix_fmt: str = "gbrp") -> list[Frame]:
    """Return the pictures as frames of a source at a constant rate."""
    step = Fraction(1, rate)
    images = [video(picture, pix_fmt) for picture in pictures]
    return [Frame(image, k * step, step) for k, image in enumerate(images)]


def video(picture: Picture, pix_fmt: str = "yuv420p") -> VideoFrame:
    return av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)


def material(pictures: list[Picture], **options: Any) -> Material:
    return Material(frames(pictures), step=Fraction(1, 25), **options)


def tensor(picture: Picture) -> Tensor:
    """Return the picture as a tensor: (3, H, W) in [0, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def tensors(pictures: Iterable[Floats]) -> list[Tensor]:
    """Return pictures of a dream as tensors: (3, H, W) each."""
    return [tensor_of(picture) for picture in pictures]


def ball_is_whole(picture: Tensor) -> bool:
    """Return whether the picture shows exactly one round ball."""
    red = (picture[0] - picture[1] > 0.3).numpy().astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(red)
    if count != 2:
        return False
    _, _, width, height, area = stats[1]
    return bool(14 <= width <= 19 and 14 <= height <= 19 and 160 <= area <= 240)


# The measurement of a film takes long.
_film_of = lru_cache(8)(FilmFeatures)


def meter_of(material: Material, frames: int = WINDOW) -> VitalsMeter:
    return VitalsMeter(_film_of(material), frames)


def vitals_of(
    material: Material, pictures: Iterable[Tensor], origin: Origin | None = None
) -> list[Vitals]:
    """Return the vitals of composed pictures after the material, by ``WINDOW`` frames."""
    frames = list(pictures)
    meter = meter_of(material, len(frames))
    for picture in frames:
        small = small_copy(picture_from(picture), material.small_size)
        meter.push(small, origin or Composed())
    return meter.rows


def pasted() -> Jump:
    """Return the origin of a picture of a jump whose middle was judged long before."""
    return Jump(0, None, 0.5, start=-1000, length=1)


def chosen(source, seed=0):
    """Return the choice for a material by rehearsals of 150 frames."""

    def rehearse(mode):
        return Rehearsal(method(mode), source, Options(150, seed)).made()

    return choose(source, rehearse)
