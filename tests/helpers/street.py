"""Draw a street: coloured rectangles that drive over a textured ground."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.forecasting.test_layers import textured

WIDTH, HEIGHT = 320, 180
COLOURS = ((220, 30, 30), (30, 60, 230))
CARS = ((-60, 100, 40, 24, 4, 0), (340, 40, 30, 20, -3, 0))
"""Left, top, width and height at frame 0, and the motion of each car in a frame."""


def places_of(
    frame: int, things: Sequence[tuple[int, ...]] = CARS
) -> list[tuple[int, int, int, int]]:
    """Return left, top, width and height of each thing in a frame."""
    return [(x + frame * dx, y + frame * dy, w, h) for x, y, w, h, dx, dy in things]


def street(
    frames: int,
    ground: Any = None,
    *,
    things: Sequence[tuple[int, ...]] = CARS,
    light: float = 0.0,
) -> list[NDArray[np.uint8]]:
    """Return frames of a street, (h, w, 3).

    ``ground`` is a picture in [0, 1], or all grounds.

    ``light``: the part by which each frame is lighter than the one before.
    """
    ground = textured(0, HEIGHT, WIDTH) if ground is None else ground
    random = np.random.default_rng(0)
    pictures = []
    for n in range(frames):
        base = ground[n] if isinstance(ground, list) else 255 * ground
        picture = base * (1 + light) ** n + random.normal(0, 1, base.shape)
        for (left, top, width, height), colour in zip(
            places_of(n, things), COLOURS, strict=True
        ):
            corner = (left + width - 1, top + height - 1)
            cv2.rectangle(picture, (left, top), corner, colour, -1)
        pictures.append(picture.round().clip(0, 255).astype(np.uint8))
    return pictures
