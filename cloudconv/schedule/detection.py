"""Find what moves by more than its own size from frame to frame, in a stream of frames.

Where a frame shows a fast object, the frames before and after show the ground. The search
moves both neighbours onto the frame in three ways: along the optical flow, along its local
median, which is that of the ground, and not at all. A sample counts by what lies outside of
the range of all these pictures within a pixel. Connected samples are a *blob*, which gets a
matte, its colours, and the ground behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from heapq import nlargest
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.fastobjects import Matte
from cloudconv.images import (
    LEAST_SIDE,
    Area,
    Bytes,
    Floats,
    measured_flow,
    reduced,
    resized_flow,
    transformed,
    translation,
    warp,
)
from cloudconv.media.colour.color import to_channels, white
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import Frame

_LONGEST = 1280  # side of the picture that is searched
_THRESHOLD = 10  # levels of luma
_SMALLEST = 4  # pixels
FASTEST = 6  # steps across the width: a longer step, or a larger blob, does not count
_MOST = 24  # blobs of a frame, the strongest
_CORE = 0.6  # of the largest contrast: opaque
_MARGIN = 6  # pixels around a blob
_LEVELS = 255
_SQUARE = np.ones((3, 3), np.uint8)


class SearchedFrame:
    """The parts of a frame that the search reads.

    ``gap``: the time since the frame before, which may repeat an earlier one. ``luma``: 8
    bits, at most 1280 pixels on a side. ``half``: the luma at half the size. ``planes``:
    the luma, and the colours at half its size. ``scale``: pixels of the frame for each of
    the luma.
    """

    def __init__(self, frame: Frame, gap: float) -> None:
        self._frame = frame
        self.gap = gap
        levels = [
            cv2.convertScaleAbs(
                plane.cpu().numpy(), alpha=_LEVELS / white(layout(frame.pix_fmt))
            )
            for plane in frame.planes()[:3]
        ]
        self.luma: Bytes = reduced(levels[0], _LONGEST)
        self.half: Bytes = reduced(self.luma, max(self.luma.shape) // 2)
        colours = [reduced(each, max(self.half.shape)) for each in levels[1:] or levels]
        self.planes = [self.luma, cv2.merge(colours)]
        self.scale = frame.width / self.luma.shape[1]

    @cached_property
    def picture(self) -> Floats:
        """Return the frame in levels, (H, W, 3 or 4): RGB, and opacity if any."""
        channels = to_channels(self._frame.planes(), self._frame).cpu().mul_(_LEVELS)
        return cv2.merge([channel.numpy() for channel in channels])


@dataclass(frozen=True, eq=False, slots=True)
class Blob:
    """A part of a frame that both neighbours lack, in pixels of the searched picture.

    ``centre``: (x, y). ``openness``: the part of its outline that looks like itself, as
    that of a limb does. ``weight``: how strong it is.
    """

    matte: Matte
    centre: NDArray[np.float64]
    area: float
    openness: float
    weight: float


class _Ground(NamedTuple):
    """The planes of a neighbour that is moved along a flow, in pixels of the luma."""

    view: SearchedFrame
    flow: Floats
    planes: list[Bytes]


def find(before: SearchedFrame, view: SearchedFrame, after: SearchedFrame) -> list[Blob]:
    """Return the blobs of a frame, the strongest; its neighbours have the same size."""
    is_small = min(view.luma.shape) < LEAST_SIDE
    if is_small or _excess(view.planes, [before.planes, after.planes]).max() <= _THRESHOLD:
        return []
    sides = [_aligned(view, other) for other in (before, after)]
    grounds = [ground.planes for ground in chain(*sides)]
    blobs = (_blob(view, sides, *found) for found in _parts(_excess(view.planes, grounds)))
    return [blob for blob in blobs if blob is not None]


def _aligned(view: SearchedFrame, other: SearchedFrame) -> list[_Ground]:
    """Return a neighbour that is moved onto a frame in three ways."""
    size = view.luma.shape
    flow = measured_flow(view.half, other.half, quick=True)
    coarse = resized_flow(flow, [-(-side // 8) for side in size])
    behind = cv2.merge([cv2.medianBlur(channel, 5) for channel in cv2.split(coarse)])
    grounds = [_Ground(other, np.zeros((*size, 2), np.float32), other.planes)]
    for each in (resized_flow(each, size) for each in (flow, behind)):
        planes = [warp(plane, each, how=cv2.INTER_LINEAR) for plane in other.planes]
        grounds.append(_Ground(other, each, planes))
    return grounds


def _excess(planes: Sequence[Bytes], grounds: Sequence[Sequence[Bytes]]) -> Bytes:
    """Return by how many levels each sample is outside of all grounds around it."""
    channels: list[Bytes] = []
    for plane, *others in zip(planes, *grounds, strict=True):
        over = cv2.subtract(plane, cv2.dilate(reduce(cv2.max, others), _SQUARE))
        under = cv2.subtract(cv2.erode(reduce(cv2.min, others), _SQUARE), plane)
        channels += cv2.split(cv2.resize(cv2.max(over, under), planes[0].shape[::-1]))
    return reduce(cv2.max, channels)


def _parts(excess: Bytes) -> list[tuple[Bytes, Area]]:
    """Return a mask of each blob, the strongest first, and its area in the picture."""
    height, width = excess.shape
    mask = (excess > _THRESHOLD).astype(np.uint8)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _SQUARE)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(closed)
    found = []
    for number, (x, y, wide, tall, size) in enumerate(boxes[1:], 1):
        if max(wide, tall) * FASTEST <= width and size >= _SMALLEST:
            area = (
                slice(max(y - _MARGIN, 0), min(y + tall + _MARGIN, height)),
                slice(max(x - _MARGIN, 0), min(x + wide + _MARGIN, width)),
            )
            inside = (labels[area] == number).astype(np.uint8)
            found.append(((excess[area] * inside).max() * math.sqrt(size), inside, area))
    return [part[1:] for part in nlargest(_MOST, found, itemgetter(0))]


def _blob(
    view: SearchedFrame,
    sides: Sequence[Sequence[_Ground]],
    inside: Bytes,
    area: Area,
) -> Blob | None:
    """Return the blob in an area, by the grounds that fit around it; None if faint."""
    rows, columns = (
        slice(round(span.start * view.scale), round(span.stop * view.scale))
        for span in area
    )
    image = view.picture[rows, columns]
    near = cv2.dilate(inside, _SQUARE, iterations=3)
    outline = cv2.dilate(near, _SQUARE, iterations=2) - near
    grounds = []
    for side in sides:
        errors = [
            cv2.absdiff(ground.planes[0][area], view.luma[area])[outline > 0].mean()
            for ground in side
        ]
        chosen = side[int(np.argmin(errors))]
        # The flow behind an object is not known: that around it continues.
        shift = view.scale * np.median(chosen.flow[area][outline > 0], axis=0)
        picture = chosen.view.picture
        grounds.append(transformed(picture, translation(-shift), (rows, columns)))
    # A neighbour shows the object beside this place, where this frame shows the ground.
    ground = np.median([image, *grounds], axis=0)
    inside, near, outline = (
        cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        for mask in (inside, near, outline)
    )
    apart = np.sqrt(np.square(image - ground).mean(2))
    contrast = np.percentile(apart[inside > 0], 90)
    floor = 2 * np.median(apart[outline > 0]) + 1
    alpha = near * ((apart - floor) / max(_CORE * contrast - floor, 1)).clip(0, 1)
    core = alpha > _CORE
    size = float(alpha.sum() / view.scale**2)
    if size < _SMALLEST or not core.any():
        return None
    corner = columns.start, rows.start
    x, y = np.indices(alpha.shape)[::-1].reshape(2, -1) @ alpha.ravel() / alpha.sum()
    opacity = alpha[..., None].astype(np.float32)
    own, behind = (picture[core].mean(0) for picture in (image, ground))
    axis = own - behind
    like = (image[outline > 0] - behind) @ axis / (axis @ axis + 1)
    colours = (image - (1 - opacity) * ground) * (opacity > 0)
    centre = float(x + corner[0]), float(y + corner[1])
    pictures = (values / np.float32(_LEVELS) for values in (colours, ground))
    return Blob(
        Matte(corner, centre, opacity[..., 0], *pictures),
        centre=np.array(centre) / view.scale,
        area=size,
        openness=float(like.clip(0, 1).mean()),
        weight=float(contrast * math.sqrt(size)),
    )
