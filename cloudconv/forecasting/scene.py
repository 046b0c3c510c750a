"""Forecast full-size pictures, in which things before a camera that stands go on as wholes.

The matte of a thing is its difference from the background, so its shadow goes with it.
Source of the layers: Wang and Adelson, Representing Moving Images with Layers, 1994.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import transform
from cloudconv.forecasting.things import (
    DIFFERS,
    RIM,
    Scene,
    Thing,
    background_of,
    differences,
    scene_of,
)
from cloudconv.images import (
    LONGEST_SIDE,
    Area,
    Bytes,
    Floats,
    Motion,
    bounds,
    reduced,
    smooth,
    transformed,
    translation,
    wider,
)

SIDE = 640
"""The longest side of the pictures of trials."""


@dataclass(frozen=True, slots=True)
class _Sprite:
    """A thing at full size: its picture, (h, w, 3), and matte, (h, w), at ``area``."""

    area: Area
    picture: Floats
    matte: Floats
    motion: Motion

    def onto(self, target: Floats, step: int) -> None:
        """Paint the thing as it is so many steps after the last frame."""
        rows, columns = self.area
        back = np.linalg.matrix_power(self.motion, step)
        x = columns.start, columns.stop
        y = rows.start, rows.stop
        corners = np.array(np.meshgrid(x, y), np.float32).reshape(2, -1).T
        places = transform(np.asarray(np.linalg.inv(back), float), corners)
        least = np.floor(places.min(0)).clip(0).astype(int)
        most = np.ceil(places.max(0)).clip(0, target.shape[1::-1]).astype(int)
        if (least >= most).any():
            return
        area = slice(least[1], most[1]), slice(least[0], most[0])
        motion = translation((columns.start, rows.start)) @ back
        picture = transformed(self.picture, motion, area, how=cv2.INTER_CUBIC)
        matte = transformed(self.matte, motion, area, outside=cv2.BORDER_CONSTANT)
        target[area] += (picture - target[area]) * matte[..., None]


def forecast(
    frames: Sequence[Callable[[], Tensor]], steps: Sequence[int]
) -> Iterator[Tensor] | None:
    """Return the pictures at some steps after the last frame, each (1, 3, H, W).

    The result is None if the camera or most of the picture moves.

    Args:
        frames: functions that each return a frame, (1, 3, H, W), oldest first.
        steps: numbers from 1 that increase.
    """
    levels = [partial(_levels, frame) for frame in frames]
    scene = scene_of([reduced(frame(), LONGEST_SIDE) for frame in levels])
    return None if scene is None else _pictures(scene, levels, frames[-1](), steps)


def _levels(frame: Callable[[], Tensor]) -> Bytes:
    planes = frame()[0].detach().mul(255).round_().clamp_(0, 255).byte().cpu()
    return np.ascontiguousarray(planes.permute(1, 2, 0).numpy())


def _pictures(
    scene: Scene, frames: Sequence[Callable[[], Bytes]], last: Tensor, steps: Sequence[int]
) -> Iterator[Tensor]:
    rows = last[0].float().mul(255).permute(1, 2, 0).cpu().numpy()
    ground, sprites = _divided(scene, frames, np.ascontiguousarray(rows))
    for step in steps:
        target = ground.copy()
        for sprite in sprites:
            sprite.onto(target, step)
        picture = torch.from_numpy(target).to(last.device)
        yield picture.permute(2, 0, 1)[None].div(255)


def _divided(
    scene: Scene, frames: Sequence[Callable[[], Bytes]], last: Floats
) -> tuple[Floats, list[_Sprite]]:
    """Return the background at full size, and the things before it."""
    views, things = scene
    size = views[-1].free.shape
    y, x = np.divide(size, last.shape[:2])
    small = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    areas = [_enlarged(thing, last, size) for thing in things]
    looks = [
        [view.look(picture, small, area) for area in areas]
        for view in views[: None if areas else 0]
        for picture in [frames[view.frame]()]
    ]
    ground = last.copy()
    sprites = []
    for number, (thing, area) in enumerate(zip(things, areas, strict=True)):
        behind = background_of([look[number] for look in looks], last[area])
        core, around, rim = (
            transformed(mask.astype(np.float32), small, area)
            for mask in (
                cv2.erode(thing.mask, np.ones((3, 3), np.uint8)),
                wider(thing.mask, RIM - 1),
                wider(thing.mask, RIM),
            )
        )
        apart = differences(last[area], behind) / DIFFERS
        matte = smooth(np.maximum((apart - 0.6).clip(0, 1) * around, core), 0.7)
        ground[area] += (behind - ground[area]) * smooth(rim, 1)[..., None]
        motion = np.linalg.inv(small) @ thing.motion @ small
        sprites.append(_Sprite(area, last[area], matte, motion))
    return ground, sprites


def _enlarged(thing: Thing, last: Floats, size: Sequence[int]) -> Area:
    """Return the area of a thing and what is around it at full size."""
    rows, columns = (
        slice(span.start * full // side, -(-span.stop * full // side))
        for span, side, full in zip(
            bounds(thing.mask, 2 * RIM), size, last.shape, strict=False
        )
    )
    return rows, columns
