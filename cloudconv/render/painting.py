"""Paint fast moving objects on new frames: the ground that a network makes, and the object.

A network that sees an object at two places far apart shows it at neither, or as two ghosts.
It sees the ground well where the object is taken off both frames. The object of both frames
is then set on its trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.fastobjects import FastObject, Matte, Point
from cloudconv.images import Area, Floats, Motion
from cloudconv.transfer import upload

_MARGIN = 48  # pixels around an object that the network sees
_SHOWN = 0.75  # of an object in the new frame: more is left as it is
_SOFT = 7  # pixels: the edge of what is painted
_EVEN = 0.1  # between two grounds: less does not show what is seen through an object


class Painted(NamedTuple):
    """An object on its trajectory, in an area of a new frame; all on a device.

    ``swept``: (h, w), 1 where the ground replaces the new frame, else 0. ``alpha``: (h, w).
    ``colours``: (C, h, w), times alpha.
    """

    area: Area
    swept: Tensor
    alpha: Tensor
    colours: Tensor


def area_of(thing: FastObject, size: Sequence[int]) -> Area:
    """Return the area around both mattes in a frame of ``size``, (H, W)."""
    first = np.min([matte.corner for matte in thing.ends], 0) - _MARGIN
    ends = [np.add(matte.corner, matte.alpha.shape[::-1]) for matte in thing.ends]
    left, top = np.maximum(first, 0).tolist()
    right, bottom = np.minimum(np.max(ends, 0) + _MARGIN, size[::-1]).tolist()
    return slice(top, bottom), slice(left, right)


def _placed(values: Floats, corner: Motion | Point, area: Area) -> Floats:
    """Return values, (h, w) or (h, w, C), with a corner at a place, in an area; else 0."""
    rows, columns = area
    size = columns.stop - columns.start, rows.stop - rows.start
    shift = np.subtract(corner, (columns.start, rows.start))
    return cv2.warpAffine(values, np.column_stack((np.eye(2), shift)), size)


def _looks(ends: Sequence[Matte]) -> list[Floats]:
    """Return both mattes, (h, w, 1 + C): opacity, and colours times opacity.

    What changes with the ground from one end to the other shows through the object.
    """
    grounds = [matte.alpha[..., None] * matte.ground for matte in ends]
    sizes = [matte.alpha.sum() for matte in ends]
    colour, other = (m.colours.sum((0, 1)) / n for m, n in zip(ends, sizes, strict=True))
    behind, beyond = (g.sum((0, 1)) / n for g, n in zip(grounds, sizes, strict=True))
    change = behind - beyond
    clear = ((colour - other) @ change / (change @ change + _EVEN**2)).clip(0, 1)
    return [
        np.dstack(((1 - clear) * matte.alpha, matte.colours - clear * ground))
        for matte, ground in zip(ends, grounds, strict=True)
    ]


def painted(thing: FastObject, t: float, area: Area, device: torch.device) -> Painted:
    """Return an object at a time between its frames, from 0 to 1."""
    first, second = thing.ends
    place = thing.at(t)
    one, other = (
        _placed(look, np.add(matte.corner, place) - matte.centre, area)
        for matte, look in zip(thing.ends, _looks(thing.ends), strict=True)
    )
    alpha, *colours = cv2.split(one + t * (other - one))
    swept = np.zeros_like(alpha)
    points = np.subtract(
        [first.centre, place, second.centre], [area[1].start, area[0].start]
    )
    cv2.polylines(swept, [points.round().astype(np.int32)], isClosed=False, color=1)
    wide = max(*first.alpha.shape, *second.alpha.shape) + 1
    swept = cv2.dilate(swept, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide)))
    soft = cv2.blur(swept, (_SOFT, _SOFT))
    sent = upload([*map(torch.from_numpy, (soft, alpha, np.array(colours)))], device)
    return Painted(area, *sent)


def without(picture: Tensor, area: Area, mattes: Sequence[Matte | None]) -> Tensor:
    """Return an area of a picture, (1, C, H, W), where the ground replaces objects."""
    part = picture[(..., *area)].clone()
    for matte in mattes:
        if matte is not None:
            # Where the object covers a little, too.
            cover = (2 * cv2.dilate(matte.alpha, np.ones((3, 3), np.uint8))).clip(0, 1)
            values = [_placed(x, matte.corner, area) for x in (cover, matte.ground)]
            weight, ground = upload([*map(torch.from_numpy, values)], picture.device)
            part.lerp_(ground.permute(2, 0, 1), weight)
    return part


def paint(
    new: Tensor, apart: Tensor, things: Sequence[Painted], grounds: Sequence[Tensor]
) -> None:
    """Set objects on a new picture, (C, H, W), which changes; on its device.

    ``grounds``: what is behind each, (C, h, w). The picture stays as it is where it shows
    the object already. ``apart``: (1, H, W), see :class:`~cloudconv.models.base.Made`: what
    is painted is no guess.
    """
    shares = []
    for thing, ground in zip(things, grounds, strict=True):
        part = new[(..., *thing.area)]
        change = part - ground
        adds = thing.colours - thing.alpha * ground
        is_missing = (change * adds).sum() <= _SHOWN * adds.square().sum()
        shares.append(is_missing)
        weight = thing.swept * is_missing
        part.lerp_(ground, weight)
        apart[(..., *thing.area)] *= 1 - weight
    for thing, share in zip(things, shares, strict=True):
        part = new[(..., *thing.area)]
        part.mul_(1 - share * thing.alpha).add_(share * thing.colours)
