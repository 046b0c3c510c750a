"""Find what moves by more than its own size from frame to frame, in a stream of frames.

Where a frame shows a fast object, the frames before and after show the ground. The search
takes both neighbours as they are, and moved onto the frame along a smooth optical flow,
which is that of the ground. A sample counts by what lies outside of the range of all these
pictures within a pixel. Connected samples are a *blob*, which gets a matte, its colours,
and the ground behind. The search runs on the device of a render, and only blobs leave it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from heapq import nlargest
from operator import itemgetter

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.fastobjects import Matte
from cloudconv.images import (
    LEAST_SIDE,
    Area,
    Bytes,
    Floats,
    transformed,
    translation,
)
from cloudconv.media.colour.color import to_channels, white
from cloudconv.media.frames.formats import layout
from cloudconv.media.frames.frame import Frame
from cloudconv.models.ops import box_mean, box_most, enlarged, warp
from cloudconv.transfer import Arriving, download, upload

_LONGEST = 1280  # side of the picture that is searched
_CELL = 8  # samples on a side of each place whose motion is measured
_WINDOW = 25  # places on a side that share a motion
_ROUNDS = 3  # for each size
_FLAT = 4  # squared levels: slopes that show no motion
THRESHOLD = 10  # levels of luma
_SMALLEST = 4  # pixels
FASTEST = 6  # steps across the width: a longer step, or a larger blob, does not count
_MOST = 24  # blobs of a frame, the strongest
_CORE = 0.6  # of the largest contrast: opaque
_MARGIN = 6  # pixels around a blob
_LEVELS = 255
_SQUARE = np.ones((3, 3), np.uint8)


class SearchedFrame:
    """The parts of a frame that the search reads, on a device.

    ``gap``: the time since the frame before, which may repeat an earlier one. ``planes``:
    the luma, (1, 1, h, w) uint8, at most 1280 pixels on a side, and the colours at half its
    size. ``cells``: the means of 8x8 samples of luma. ``scale``: pixels of the frame for
    each of the luma.
    """

    def __init__(self, frame: Frame, gap: float, device: torch.device) -> None:
        self._frame = frame
        self.gap = gap
        code = _LEVELS / white(layout(frame.pix_fmt))
        sent = upload(frame.planes()[:3], device)
        first, *others = (plane.to(device) for plane in sent)
        luma = _levels([first], code, _LONGEST)
        self.planes = [luma, _levels(others or [first], code, max(luma.shape) // 2)]
        self.cells = F.avg_pool2d(luma.float(), _CELL, ceil_mode=True)
        self.scale = frame.width / luma.shape[3]

    @cached_property
    def picture(self) -> Floats:
        """Return the frame in levels, (H, W, 3 or 4): RGB, and opacity if any."""
        channels = to_channels(self._frame.planes(), self._frame).cpu().mul_(_LEVELS)
        return cv2.merge([channel.numpy() for channel in channels])


def _levels(planes: Sequence[Tensor], code: float, longest: int) -> Tensor:
    """Return planes of a size in levels, (1, C, h, w) uint8, at most ``longest``."""
    values = torch.stack([plane.float() for plane in planes])[None]
    factor = longest / max(values.shape)
    if factor < 1:
        size = [max(1, round(side * factor)) for side in values.shape[2:]]
        values = F.interpolate(values, size, mode="area")
    return values.mul_(code).round_().clamp_(0, _LEVELS).to(torch.uint8)


@dataclass(frozen=True, eq=False, slots=True)
class Blob:
    """A part of a frame that both neighbours lack, in pixels of the searched picture.

    ``centre``: (x, y). ``spread``: how many times as large as the blob the part around it
    is that looks like it, and that one neighbour alone lacks. ``weight``: how strong it is.
    """

    matte: Matte
    centre: NDArray[np.float64]
    area: float
    spread: float
    weight: float


class Search:
    """The search of a frame between two others of the same size, on their device."""

    def __init__(
        self, before: SearchedFrame, view: SearchedFrame, after: SearchedFrame
    ) -> None:
        self._views = before, view, after
        self._excess: Arriving | None = None
        grounds = [before.planes, after.planes]
        # Only on a CPU the greatest excess is known at once.
        if min(view.cells.shape[2:]) > 1 and (
            view.cells.device.type != "cpu"
            or _excess(view.planes, grounds).max() > THRESHOLD
        ):
            earlier = torch.cat([before.cells, after.cells])
            flows = _flow(view.cells.expand_as(earlier), earlier)
            fields = [_fitted(flows, plane).chunk(2) for plane in view.planes]
            self._flows = torch.cat(fields[0])
            for side, *own in zip((before, after), *fields, strict=True):
                moved = map(warp, side.planes, own)
                grounds.append([plane.round_().to(torch.uint8) for plane in moved])
            self._lumas = [planes[0] for planes in (view.planes, *grounds)]
            self._excess = download([_excess(view.planes, grounds)])

    def blobs(self) -> list[Blob]:
        """Wait for the search, and return the blobs of the frame, the strongest."""
        if self._excess is None:
            return []
        parts = _parts(self._excess.planes()[0][0, 0].numpy())
        if not parts:
            return []
        searched = torch.cat(self._lumas)[:, 0], self._flows
        crops = []
        for _, area in parts:
            crops += [values[(..., *area)] for values in searched]
        near = iter(each.numpy() for each in download(crops).planes())
        blobs = [_blob(self._views, *part, next(near), next(near)) for part in parts]
        return [blob for blob in blobs if blob is not None]


def _excess(planes: Sequence[Tensor], grounds: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return by how many levels each sample is outside of all grounds around it."""
    channels = []
    for plane, *others in zip(planes, *grounds, strict=True):
        most = box_most(reduce(torch.maximum, others)[0].float(), 3)
        least = box_most(_LEVELS - reduce(torch.minimum, others)[0].float(), 3)
        beyond = torch.maximum(plane[0] - most, _LEVELS - plane[0] - least)
        widest = beyond.amax(0).clamp_min(0)[None, None]
        channels.append(enlarged(widest, planes[0].shape[2:]))
    return reduce(torch.maximum, channels).round_().to(torch.uint8)


def _fitted(flow: Tensor, plane: Tensor) -> Tensor:
    """Return a flow of cells at the size and in the samples of a plane."""
    return enlarged(flow * (plane.shape[3] / flow.shape[3]), plane.shape[2:])


def _flow(later: Tensor, earlier: Tensor) -> Tensor:
    """Return the smooth backward flow of cells, (B, 2, h, w): windows move as one.

    Source: Lucas and Kanade, An Iterative Image Registration Technique with an Application
    to Stereo Vision, 1981; from coarse to fine.
    """
    size = later.shape[2:]
    flow = torch.zeros_like(later).repeat(1, 2, 1, 1)
    if min(size) >= LEAST_SIDE:
        smaller = [F.avg_pool2d(cells, 2, ceil_mode=True) for cells in (later, earlier)]
        flow = enlarged(2 * _flow(*smaller), size)
    for _ in range(_ROUNDS):
        moved = warp(earlier, flow)
        y, x = torch.gradient((later + moved) / 2, dim=(2, 3))
        error = later - moved
        sums = torch.cat((x * x, x * y, y * y, x * error, y * error), 1)
        sums = box_mean(sums.flatten(0, 1), _WINDOW).view(-1, 5, *size)
        sums[:, :3:2] += _FLAT
        xx, xy, yy, xe, ye = sums.chunk(5, 1)
        step = torch.cat((yy * xe - xy * ye, xx * ye - xy * xe), 1) / (xx * yy - xy * xy)
        flow = flow + step.clamp(-1, 1)
    return flow


def _parts(excess: Bytes) -> list[tuple[Bytes, Area]]:
    """Return a mask of each blob, the strongest first, and its area in the picture."""
    height, width = excess.shape
    mask = (excess > THRESHOLD).astype(np.uint8)
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
    views: Sequence[SearchedFrame], inside: Bytes, area: Area, lumas: Bytes, flows: Floats
) -> Blob | None:
    """Return the blob in an area of the second of three frames; None if faint.

    ``lumas``: that of the area in this frame, in the other two, and in these moved along
    the ``flows``, (2, 2, h, w).
    """
    before, view, after = views
    rows, columns = (
        slice(round(span.start * view.scale), round(span.stop * view.scale))
        for span in area
    )
    image = view.picture[rows, columns]
    near = cv2.dilate(inside, _SQUARE, iterations=3)
    outline = cv2.dilate(near, _SQUARE, iterations=2) - near
    errors = [cv2.absdiff(each, lumas[0])[outline > 0].mean() for each in lumas[1:]]
    # The flow behind an object is not known: that around it continues.
    fits = np.less(errors[2:], errors[:2])
    shifts = np.median(flows[..., outline > 0], 2) * fits[:, None]
    grounds = [
        transformed(side.picture, translation(-view.scale * shift), (rows, columns))
        for side, shift in zip((before, after), shifts, strict=True)
    ]
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
    # A neighbour alone lacks more of what overlaps itself, and of a part of a larger thing.
    look = (image - ground)[core].mean(0)
    lacks = [(image - each) @ look > look @ look / 2 for each in grounds]
    shown = np.logical_or.reduce([core, *lacks])
    _, labels = cv2.connectedComponents(shown.astype(np.uint8))
    spread = np.isin(labels, labels[core]).sum() / (alpha > 1 / 2).sum()
    corner = columns.start, rows.start
    x, y = np.indices(alpha.shape)[::-1].reshape(2, -1) @ alpha.ravel() / alpha.sum()
    opacity = alpha[..., None].astype(np.float32)
    colours = (image - (1 - opacity) * ground) * (opacity > 0)
    centre = float(x + corner[0]), float(y + corner[1])
    pictures = (values / np.float32(_LEVELS) for values in (colours, ground))
    return Blob(
        Matte(corner, centre, opacity[..., 0], *pictures),
        centre=np.array(centre) / view.scale,
        area=size,
        spread=float(spread),
        weight=float(contrast * math.sqrt(size)),
    )
