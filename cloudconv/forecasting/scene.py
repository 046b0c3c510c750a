"""Divide the last frames into layers, and draw the layers at a later time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import Bytes, Floats, Motion, after, camera_of
from cloudconv.forecasting.plate import plate_of
from cloudconv.forecasting.regions import FRAMES, MOST_COVERED, Thing, things_of
from cloudconv.forecasting.splat import Layer, cut_out
from cloudconv.transfer import upload

SIDE = 640
"""The longest side of the pictures in which motion is measured."""
_SOFT = 0.8  # sigma of the outlines, in pixels of these pictures


@dataclass(frozen=True, slots=True)
class Scene:
    """The layers of the last frame, farthest first, each with its velocity one step back."""

    layers: tuple[tuple[Layer, Motion], ...]
    size: tuple[int, int]

    def after(self, steps: int) -> Tensor:
        """Return the picture some steps after the last frame, (1, 3, H, W)."""
        background = self.layers[0][0].picture
        target = torch.empty_like(background)
        for layer, velocity in self.layers:
            layer.onto(target, after(velocity, steps, self.size))
        return target


def scene_of(
    pictures: Sequence[Bytes], last: Tensor, flow: Callable[[Bytes, Bytes], Floats]
) -> Scene:
    """Return the layers of the last frame.

    Args:
        pictures: (H, W, 3) RGB, the last frame first, at most some 20.
        last: the last frame, (1, 3, H, W) float32, on the device that draws.
        flow: returns the optical flow from a grey picture to an earlier one.
    """
    height, width = pictures[0].shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = [_resized(picture, round(width * scale), round(height * scale)) for picture in pictures]
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8) for picture in small]
    camera = camera_of(greys)
    flows = [flow(later, earlier) for later, earlier in pairwise(greys[: FRAMES + 1])]
    things = things_of(small, camera, flows)
    if sum(int(thing.mask.sum()) for thing in things) > MOST_COVERED * greys[0].size:
        things = []
    large = np.diag([width / small[0].shape[1], height / small[0].shape[0], 1.0])
    camera = replace(camera, back=_enlarged(camera.back, large))
    mattes = [_soft(thing, (width, height)) for thing in things]
    whole = [
        replace(thing, mask=(matte > 0.5).astype(np.uint8), back=_enlarged(thing.back, large))
        for thing, matte in zip(things, mattes, strict=True)
    ]
    plate = plate_of(pictures, camera, whole)
    layers = [(Layer(_background(plate, last, whole), None, 0, 0), camera.velocity)]
    for thing, matte in zip(things, mattes, strict=True):
        if matte.max() > 0:
            layers.append((cut_out(last, torch.from_numpy(matte)[None, None]), thing.velocity))
    return Scene(tuple(layers), (height, width))


def _enlarged(motions: Sequence[Motion], large: Motion) -> tuple[Motion, ...]:
    """Return the motions at the full size; ``large`` maps positions to that size."""
    return tuple(large @ motion @ np.linalg.inv(large) for motion in motions)


def _background(plate: Bytes, last: Tensor, things: Sequence[Thing]) -> Tensor:
    if not things:
        return last
    (sent,) = upload([torch.from_numpy(plate)], last.device)
    return sent.permute(2, 0, 1)[None].float().div(255)


def _soft(thing: Thing, size: tuple[int, int]) -> Floats:
    """Return the matte of a thing at the full ``size``, (w, h): (h, w) in [0, 1]."""
    soft = cv2.GaussianBlur(thing.mask.astype(np.float32), (0, 0), _SOFT)
    soft[soft < 0.02] = 0
    matte: Floats = cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR)
    return matte


def _resized(picture: Bytes, width: int, height: int) -> Bytes:
    small: Bytes = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return small
