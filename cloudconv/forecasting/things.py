"""Find the things that move before a camera that stands, and how they move.

The background is the median of earlier frames. A thing is a connected place that moves and
differs from the background. It moves by a similarity a frame.

Sources: background subtraction by a temporal median, Cucchiara et al. 2003; enhanced
correlation coefficient (ECC), Evangelidis and Psarakis 2008, in OpenCV's version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.camera import cameras_of, changed, transform
from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    Mask,
    Motion,
    bounds,
    connected,
    fill_weights,
    filled,
    grid_of,
    luma,
    measured_flow,
    sample,
    spread,
    transformed,
    translation,
    whole,
    wider,
)

RIM = 4
"""The pixels around a thing that may show its blur and its shadow."""
DIFFERS = 10
"""The difference of a thing from the background, in levels of 255."""

_VIEWS = 24  # earlier frames that show the background
_MOST = 0.5  # part of the picture that things may cover
_LATEST = 4  # frames in which that is measured
_SPEED = 0.2  # of a thing, in pixels a frame
_CHANGED = 3.0  # levels by which a place near to a thing changes
_NEAR = 8  # pixels from there to all of the thing
_SMALLEST = 10  # pixels of a thing
_PAST = 12  # frames through which a thing is followed
_FOLLOWED = 4  # frames through which a thing is followed at least to measure its growth
_EVEN = 0.5  # pixels by which an even motion may be wrong, and half as many more a frame
_ALIKE = 0.9  # correlation of a thing that is followed
_HIDDEN = 999  # a level that stands for a hidden background


@dataclass(frozen=True, slots=True)
class View:
    """An earlier frame: its number, and where nothing hides its background, (h, w)."""

    frame: int
    free: Mask

    def look(self, picture: Bytes, small: Motion, area: Area) -> NDArray[np.int16]:
        """Return the background that this frame shows in an area.

        What is hidden has a level above 255. ``small``: the motion from positions of
        ``picture``, which may be larger, to those of ``free``.
        """
        shown = picture[area].astype(np.int16)
        shown[transformed(255 * self.free.astype(np.uint8), small, area) < 255] = _HIDDEN
        return shown


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing of the last frame: its ``mask``, (h, w), and its motion of one step back."""

    mask: Bytes
    motion: Motion


Scene = tuple[Sequence[View], Sequence[Thing]]
"""The things of the last frame, the farthest first, and views of what they hide, before
them. The last view is that of the last frame. All have one size."""


def scene_of(pictures: Sequence[Bytes]) -> Scene | None:
    """Return the things of the last picture, or None if most of it moves, or the camera.

    ``pictures``: (h, w, 3) RGB, oldest first, at least two.
    """
    greys = [luma(picture) for picture in pictures]
    flows = [measured_flow(later, before) for before, later in pairwise(greys)]
    moving = [*_moving(greys, flows)]
    if np.mean(moving[-_LATEST:]) > _MOST or cameras_of(greys, flows):
        return None
    views = [
        View(k, ~wider(moving[max(k - 1, 0)], RIM))
        for k in spread(len(pictures), most=_VIEWS)
    ]
    last = pictures[-1]
    all_of_it = whole(last.shape)
    looks = [view.look(pictures[view.frame], np.eye(3), all_of_it) for view in views]
    apart = differences(last, background_of(looks, last))
    moves = cv2.morphologyEx(
        moving[-1].astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    inner = cv2.erode(moves, np.ones((5, 5), np.uint8)) > 0
    found = (inner | (apart > DIFFERS)) & (wider(moves, 3) > 0)
    closed = cv2.morphologyEx(
        found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
    )
    ways = [*_traced(flows)]
    things = [
        Thing(mask, _motion(mask, moves, ways, greys))
        for mask in connected(closed, _SMALLEST)
    ]
    # The nearer a thing stands, the lower.
    things.sort(key=lambda thing: bounds(thing.mask)[0].stop)
    return views, things


def background_of(looks: Sequence[NDArray[np.int16]], last: Bytes | Floats) -> Floats:
    """Return the background of an area in the light of the last frame, (h, w, 3) in levels.

    Args:
        looks: the area in the views, see :meth:`View.look`; the last frame is the last one.
        last: the area in the last frame, in levels.
    """
    ranked = np.sort(np.stack(looks), 0)
    seen = (ranked < _HIDDEN).sum(0, keepdims=True)
    middle = np.take_along_axis(ranked, (seen - 1).clip(0) // 2, 0)[0].astype(np.float32)
    known = (seen[0, ..., 0] > 0).astype(np.float32)
    middle = filled(middle, fill_weights(known))
    free = (looks[-1][..., 0] < _HIDDEN).astype(np.float32)
    lit: Floats = middle + filled(last - middle, fill_weights(free))
    return lit


def differences(picture: Bytes | Floats, background: Floats) -> Floats:
    """Return how much a picture differs from the background, in levels: (h, w).

    A place is compared with the neighbours in the background too, because the camera may
    tremble.
    """
    around = np.ones((3, 3), np.uint8)
    least, most = (extreme(background, around) for extreme in (cv2.erode, cv2.dilate))
    apart: Floats = np.abs(picture - np.clip(picture, least, most)).mean(2)
    return apart


def _moving(greys: Sequence[Bytes], flows: Sequence[Floats]) -> Iterator[Mask]:
    """Yield where each frame but the first moves.

    In plain places the flow is a guess, so only places near to a change count.
    """
    for (before, grey), flow in zip(pairwise(greys), flows, strict=True):
        changes = changed(before, grey) > _CHANGED
        yield (np.linalg.norm(flow, axis=2) > _SPEED) & wider(changes, _NEAR)


def _traced(flows: Sequence[Floats]) -> Iterator[Floats]:
    """Yield where each pixel of the last frame was 1, 2, … frames before."""
    places = grid_of(flows[0].shape)
    for flow in flows[: -_PAST - 1 : -1]:
        places = places + sample(flow, places, how=cv2.INTER_LINEAR)
        yield places


def _motion(
    mask: Bytes, moves: Bytes, ways: Sequence[Floats], greys: Sequence[Bytes]
) -> Motion:
    """Return the similarity of one step back: a shift, if the thing cannot be followed.

    The shift is that of the longest past in which the flow is even, where a thing moves.
    """
    inner = (mask & moves) > 0
    inner |= ~inner.any() & (mask > 0)
    start = grid_of(mask.shape)[inner]
    shifts = [way[inner] - start for way in ways]
    first = np.median(shifts[0], 0)
    wrong = [
        np.median(np.linalg.norm(shift - n * first, axis=1)) - _EVEN * (1 + n / 2)
        for n, shift in enumerate(shifts, 1)
    ]
    past = max((n for n, error in enumerate(wrong, 1) if error < 0), default=1)
    step = translation(-np.median(shifts[past - 1], 0) / past)
    for rim in (1, 3):
        motion, count = _followed(wider(mask, rim), step, greys)
        if count >= _FOLLOWED:
            return _part(motion, count, start.mean(0))
    return step


def _followed(mask: Bytes, step: Motion, greys: Sequence[Bytes]) -> tuple[Motion, int]:
    """Follow a thing back by its picture, from a first guess of the motion of one step.

    Returns the affine motion to the earliest frame in which it is found, and the number of
    frames up to there.
    """
    side = int(np.ptp(np.argwhere(mask), 0).max()) + 1
    rows, columns = area = bounds(mask, side)
    inside = translation((-columns.start, -rows.start))
    last = greys[-1][area]
    stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3
    back = np.linalg.inv(inside) @ step @ inside
    onward = np.linalg.inv(back)[:2].astype(np.float32)
    motion = step
    count = 0
    for number, grey in enumerate(greys[-2 : -_PAST - 2 : -1], 1):
        if number > 1:
            onward[:, 2] *= number / (number - 1)
        try:
            alike, onward = cv2.findTransformECC(
                grey[area], last, onward, cv2.MOTION_AFFINE, stop, mask[area], 5
            )
        except cv2.error:  # the pictures are too different
            break
        if alike < _ALIKE:
            break
        back = np.linalg.inv(np.vstack([onward, [0, 0, 1]]))
        motion = inside @ back @ np.linalg.inv(inside)
        count = number
    return motion, count


def _part(motion: Motion, count: int, centre: Floats) -> Motion:
    """Return the similarity that, ``count`` times, is near an affine motion at a centre.

    A similarity is z → a·z + b of complex numbers.
    """
    turn = motion[0, 0] + motion[1, 1] + 1j * (motion[1, 0] - motion[0, 1])
    one = (turn / 2) ** (1 / count)
    start, end = (complex(*at) for at in (centre, transform(motion, centre)))
    shift = (end - one**count * start) / sum(one**power for power in range(count))
    return np.array(
        [[one.real, -one.imag, shift.real], [one.imag, one.real, shift.imag], [0, 0, 1]]
    )
