"""Divide the last frames into layers, and draw the layers at a later time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.camera import (
    Bytes,
    Floats,
    Motion,
    after,
    camera_of,
    grid_of,
    moved,
    sampled_at,
)
from cloudconv.forecasting.plate import plate_of
from cloudconv.forecasting.regions import FRAMES, MOST_COVERED, Mask, Thing, things_of
from cloudconv.forecasting.splat import Layer, cut_out
from cloudconv.transfer import upload

SIDE = 640
"""The longest side of the pictures in which motion is measured."""
_SOFT = 0.8  # sigma of the outlines, in pixels of these pictures
_BENT = 2  # steps for which the remaining motion, such as that of legs, continues
_NO_GAIN, _WHOLE_GAIN = 0.5, 2.5  # of the remaining motion, in luma of 255
_EVEN = 4.0  # sigma of the remaining motion, in pixels of these pictures
_RIM, _INSIDE = 9, 5  # sides of the squares that widen and narrow outlines
_LITTLE = 1e-3


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
            layer.onto(target, after(velocity, steps, self.size), min(steps, _BENT))
        return target


def scene_of(
    pictures: Sequence[Bytes], last: Tensor, flow_of: Callable[[Bytes, Bytes], Floats]
) -> Scene:
    """Return the layers of the last frame.

    Args:
        pictures: (H, W, 3) RGB, the last frame first, at most some 20.
        last: the last frame, (1, 3, H, W) float32, on the device that draws.
        flow_of: returns the optical flow from a grey picture to an earlier one.
    """
    height, width = pictures[0].shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = [_resized(picture, round(width * scale), round(height * scale)) for picture in pictures]
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8) for picture in small]
    camera = camera_of(greys)
    flows = [flow_of(later, earlier) for later, earlier in pairwise(greys[: FRAMES + 1])]
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
    velocities = [camera.velocity, *(thing.velocity for thing in things)]
    flow = np.mean(flows, 0)
    rests = [
        _enlarged_rest(_rest(greys, flow, velocity, inside), (width, height))
        for velocity, inside in zip(velocities, _insides(things, flow.shape[:2]), strict=True)
    ]
    (sent,) = upload(rests[:1], last.device)
    layers = [(Layer(_background(plate, last, whole), None, 0, 0, sent), camera.velocity)]
    for matte, rest, velocity in zip(mattes, rests[1:], velocities[1:], strict=True):
        if matte.max() > 0:
            layers.append((cut_out(last, torch.from_numpy(matte)[None, None], rest), velocity))
    return Scene(tuple(layers), (height, width))


def _insides(things: Sequence[Thing], size: Sequence[int]) -> list[Mask]:
    """Return where only the background is, and for each thing where only that thing is."""
    masks = [thing.mask for thing in things]
    covered = np.bitwise_or.reduce([np.zeros(size, np.uint8), *masks])
    narrow = [cv2.erode(mask, np.ones((_INSIDE, _INSIDE), np.uint8)) for mask in masks]
    return [1 - cv2.dilate(covered, np.ones((_RIM, _RIM), np.uint8)), *narrow]


def _rest(greys: Sequence[Bytes], flow: Floats, velocity: Motion, inside: Mask) -> Floats:
    """Return the part of the flow that a layer's own motion leaves, one step back: (h, w, 2).

    It counts where the flow explains the last frame better than the own motion.
    """
    grid = grid_of(inside.shape)
    own = moved(after(velocity, 1, inside.shape), grid) - grid
    last, before = (grey.astype(np.float32) for grey in greys[:2])
    wrong, less = (cv2.absdiff(last, sampled_at(before, each)) for each in (own, flow))
    gain = cv2.GaussianBlur(wrong - less, (0, 0), _EVEN)
    part = ((gain - _NO_GAIN) / (_WHOLE_GAIN - _NO_GAIN)).clip(0, 1) * inside
    even = cv2.GaussianBlur((flow - own) * part[..., None], (0, 0), _EVEN)
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), _EVEN)
    rest: Floats = (even / (weight + _LITTLE)[..., None]).astype(np.float32)
    return rest


def _enlarged(motions: Sequence[Motion], large: Motion) -> tuple[Motion, ...]:
    """Return the motions at the full size; ``large`` maps positions to that size."""
    return tuple(large @ motion @ np.linalg.inv(large) for motion in motions)


def _enlarged_rest(rest: Floats, size: tuple[int, int]) -> Tensor:
    """Return a motion in pixels at the full ``size``, (w, h): (1, 2, h, w)."""
    large = cv2.resize(rest, size, interpolation=cv2.INTER_LINEAR) * (size[0] / rest.shape[1])
    return torch.from_numpy(large.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


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
