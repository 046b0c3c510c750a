"""Make the plate of a clip, which is the clip without its things, and find the things.

Where most pictures of a place look alike, they show the place without things. A thing
differs from that by more than the place itself varies.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.camera import (
    scaled,
    step_between,
    transform,
    travelled,
)
from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    Motion,
    grid_of,
    luma,
    sample,
    shift_between,
    smooth,
    spread,
    transformed,
    translate,
)

Mask = NDArray[np.uint8]
Vector = NDArray[np.float64]
"""A position or a motion, x and y, in pixels."""

DARK = 16
"""A level, of 255, that counts as dark."""
MOST_CHOSEN = 45
"""The largest number of frames from which the plate is made."""
RIM = 3
"""The width in pixels of the rim around a thing, which has its shadow and its blur."""
EVEN = 4.0
"""The sigma, in pixels, over which a surface has one colour or one motion."""
UNLIKE = 18
"""The difference, of 255, between a thing and what is not of it."""
_FARTHEST = 0.1  # longest way of a slow camera, in widths of the picture
AGREE = 0.4
"""The part of the pictures of a place, those most alike, whose mean is the plate."""
_NOISE = 4.0  # difference of a thing from the plate, in multiples of the usual one there
_FREE = 0.3  # part of the frames in which a place is free
_BAND = 64  # rows of a plate that are computed at once
_LIGHT_STEP = 8  # pixels between places where the light is measured


class Plate:
    """The clip without its things, as from the last view of a still or slow camera.

    ``count``: the number of frames. ``chosen``: the numbers of the frames from which the
    plate is made. ``steady(k)``: frame ``k`` as from the last view, (h, w, 3). ``picture``:
    the clip without its things.

    Args:
        pictures: (h, w, 3) RGB, oldest first, as from one view.
    """

    def __init__(self, pictures: Sequence[Bytes]) -> None:
        """Find what is behind the things; frames are steadied when they are needed."""
        self.size = pictures[0].shape[:2]
        self.count = len(pictures)
        self.chosen = spread(self.count, most=MOST_CHOSEN)
        self._camera = _SlowCamera(pictures, self.chosen)
        self.stands = self._camera.stands
        self.drifts = self._camera.drifts
        rows, columns = (np.arange(side) + 1 for side in self.size)
        inside = np.minimum.outer(
            *(np.minimum(k, k[::-1]).clip(0, RIM) for k in (rows, columns))
        )
        inside = (inside * (255 // RIM)).astype(np.uint8)
        self._shown_part = cache(lambda k: self.steadied(k, inside, cv2.BORDER_CONSTANT))
        steady = [self.steadied(k, pictures[k]) for k in self.chosen]
        self.picture = self.made_of(steady, self.chosen)
        self.steady = cache(
            lambda k: self.completed(k, self.steadied(k, pictures[k]), self.picture)
        )
        self._bare = _lab(self.picture)
        # Before a camera that trembles, a place is compared with its neighbours, too.
        moves = any((self._camera.motion(k) != np.eye(3)).any() for k in self.chosen)
        around = np.ones((3, 3) if moves else (1, 1), np.uint8)
        self._around = [
            cv2.subtract(extreme(self._bare, around), self._bare, dtype=cv2.CV_16S)
            for extreme in (cv2.erode, cv2.dilate)
        ]
        apart = [smooth(self._difference(k), 1) for k in self.chosen]
        noise = np.quantile(apart, _FREE, 0)
        self._least = cv2.GaussianBlur(UNLIKE + _NOISE * noise, (0, 0), 1.5)
        # For each frame: where things are, and which pixels differ.
        self._found = cache(self._masks)

    def shows(self, frame: int, area: Area) -> bool:
        """Return whether a frame shows all of an area."""
        return not self.drifts or bool(self._shown_part(frame)[area].min() == 255)

    def steadied(
        self, frame: int, picture: Any, outside: int = cv2.BORDER_REPLICATE
    ) -> Any:
        """Return a picture of a frame, of any size, as from the last view."""
        motion = self._camera.motion(frame)
        if (motion == np.eye(3)).all():
            return picture
        motion = scaled(motion, picture.shape[1] / self.size[1])
        return transformed(picture, motion, how=cv2.INTER_CUBIC, outside=outside)

    def completed(self, frame: int, picture: Any, ground: Any) -> Any:
        """Return a steady picture; ``ground`` fills what the frame does not show."""
        if not self.drifts:
            return picture
        shown = cv2.resize(self._shown_part(frame), picture.shape[1::-1]) / np.float32(255)
        change = picture.astype(np.float32) - ground
        whole: Any = ground + shown[..., None] * change
        return whole if picture.dtype == np.float32 else np.rint(whole).astype(np.uint8)

    def made_of(self, pictures: Sequence[Bytes], frames: Sequence[int]) -> Bytes:
        """Return the plate of steady pictures of frames, the last one included."""
        # Different frames fill what others do not show. The content of a single one would
        # be the most alike.
        first = [
            self.completed(frame, picture, pictures[-1])
            for frame, picture in zip(frames, pictures, strict=True)
        ]
        views = zip(frames, pictures, reversed(first), strict=True)
        return plate_of([self.completed(*view) for view in views])

    @property
    def masks(self) -> list[Mask]:
        """Return where things are in each frame, 0 or 1."""
        return [self.mask(frame) for frame in range(self.count)]

    @property
    def differs(self) -> list[Mask]:
        """Return which pixels of each frame differ from the plate; gaps are not closed."""
        return [self._found(frame)[1] for frame in range(self.count)]

    def mask(self, frame: int) -> Mask:
        """Return where things are in a frame, 0 or 1."""
        return self._found(frame)[0]

    def _difference(self, frame: int) -> Floats:
        """Return the difference to the plate in the light of a frame."""
        change = cv2.subtract(_lab(self.steady(frame)), self._bare, dtype=cv2.CV_16S)
        change -= np.median(change[::_LIGHT_STEP, ::_LIGHT_STEP], (0, 1)).astype(np.int16)
        total = cv2.transform(
            cv2.absdiff(change, np.clip(change, *self._around)), np.ones((1, 3))
        )
        return total.astype(np.float32)

    def _masks(self, frame: int) -> tuple[Mask, Mask]:
        difference = self._difference(frame)
        differs = (difference > self._least).astype(np.uint8)
        mask = (smooth(difference, 1) > self._least).astype(np.uint8)
        mask = cv2.morphologyEx(
            mask, cv2.MORPH_CLOSE, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
        )
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return opened.astype(np.uint8), differs

    def light(self, frame: int) -> Floats:
        """Return how much lighter a frame is than the plate: small, (h, w, 3), a ratio.

        The light behind things is that of their surroundings, the nearest first.
        """
        size = tuple(-(-side // _LIGHT_STEP) for side in reversed(self.size))
        free = 1 - cv2.dilate(self.mask(frame), np.ones((9, 9), np.uint8))[..., None]
        if self.drifts:
            free &= (self._shown_part(frame) == 255)[..., None]
        pairs = [
            cv2.resize(
                (values * free).astype(np.float32), size, interpolation=cv2.INTER_AREA
            )
            for values in (self.steady(frame), self.picture, np.ones_like(self.picture))
        ]
        lighter: Floats = np.ones_like(pairs[0])
        for sigma in (size[0], 8, 4, 2, 1):
            one, two, weight = (cv2.GaussianBlur(values, (0, 0), sigma) for values in pairs)
            share = (4 * weight).clip(0, 1)
            lighter += share * ((one + 1) / (two + 1) - lighter)
        return lighter


class _SlowCamera:
    """The motion of a still or slow camera, which is measured when it is needed.

    ``stands``: all frames show one view, as before a camera that trembles. ``drifts``: the
    camera moves slowly.
    """

    def __init__(self, pictures: Sequence[Bytes], chosen: Sequence[int]) -> None:
        """Measure the motion in some frames, the first and the last one included."""
        self._pictures = pictures
        rows, columns = (2 * (side // 4) for side in pictures[0].shape[:2])
        self._size = columns, rows
        greys = [self._grey(k) for k in chosen]
        details = [*map(_fine, greys)]
        self._usual = usual = np.median(details, 0)
        self._lines = np.abs(usual) >= np.quantile(np.abs(usual), 0.9)
        self._shift = cache(self._measured)
        shifted = zip(details, map(self._shift, chosen), strict=True)
        self.stands = _last([translate(*pair) for pair in shifted], usual)
        self.drifts = False
        self._drift: Motion | None = None
        if self.stands:
            return
        motions = _followed([grey.astype(np.uint8) for grey in greys])
        if motions is None:
            return
        grid = grid_of((rows, columns))
        steady = [
            sample(detail, transform(motion, grid), how=cv2.INTER_LINEAR)
            for detail, motion in zip(details, motions, strict=True)
        ]
        if _last(steady, np.median(steady, 0)):
            self.drifts = self.stands = True
            every = range(len(pictures))
            terms = motions.reshape(-1, 9).T
            motions = np.array([np.interp(every, chosen, term) for term in terms])
            self._drift = motions.T.reshape(-1, 3, 3)

    def motion(self, frame: int) -> Motion:
        """Return the motion from the last view to a frame."""
        if self._drift is None:
            motion = np.eye(3)
            motion[:2, 2] = self._shift(len(self._pictures) - 1) - self._shift(frame)
        else:
            motion = self._drift[frame]
        return scaled(motion, self._pictures[0].shape[1] / self._size[0])

    def _grey(self, frame: int) -> Floats:
        grey = luma(self._pictures[frame]).astype(np.float32)
        return cv2.resize(grey, self._size, interpolation=cv2.INTER_AREA)

    def _measured(self, frame: int) -> Vector:
        """Return the shift from the detail of a frame to the usual detail."""
        detail = _fine(self._grey(frame))
        usual = self._usual
        shift = shift_between(detail, usual)
        far, near = (
            cv2.absdiff(x, usual)[self._lines].mean()
            for x in (detail, translate(detail, shift))
        )
        # The motion of a large thing does not align the rest.
        return shift if near < far else np.zeros(2)


def _followed(greys: Sequence[Bytes]) -> NDArray[np.float64] | None:
    """Return the motion from the last of some frames to each, if the camera is slow."""
    size = greys[0].shape
    motions = []
    motion = np.eye(3)
    for grey in reversed(greys):
        motion = motion @ step_between(greys[-1], transformed(grey, motion))
        if travelled(motion, size) > _FARTHEST * size[1]:
            return None
        motions.append(motion)
    return np.array(motions[::-1])


def _last(pictures: Sequence[Floats], usual: Floats) -> bool:
    """Return whether the usual picture has most of the detail of the pictures."""
    detail = np.median([_detail(picture) for picture in pictures], 0)
    textured = detail > 0
    lasting = 2 * _detail(usual)[textured] > detail[textured]
    return bool(len(lasting) and np.average(lasting, weights=detail[textured]) > 0.5)


def _fine(grey: Floats) -> Floats:
    return grey - smooth(grey, 4)


def _detail(values: Floats) -> Floats:
    return cv2.blur(np.square(values), (15, 15))


def plate_of(pictures: Sequence[Bytes]) -> Bytes:
    """Return the usual picture of a clip, in the light of its last frame.

    A frame in another light counts in the light of the others, so that no place keeps the
    light of those frames in which a thing leaves the place free.
    """
    chosen = [pictures[k] for k in spread(len(pictures), most=MOST_CHOSEN)]
    grid = np.stack([picture[::_LIGHT_STEP, ::_LIGHT_STEP] for picture in chosen])
    usual = (np.median(grid, 0) + 1).astype(np.float32)
    gains = [np.median((small + np.float32(1)) / usual, (0, 1)) for small in grid]
    gains = [gains[-1] / gain for gain in gains]
    bands = []
    for start in range(0, len(chosen[0]), _BAND):
        band = [
            cv2.multiply(
                picture[start : start + _BAND], np.array([*gain, 1]), dtype=cv2.CV_8U
            ).astype(np.uint8)
            for picture, gain in zip(chosen, gains, strict=True)
        ]
        bands.append(_agreed(band))
    return np.vstack(bands)


def _agreed(pictures: Sequence[Bytes]) -> Bytes:
    """Return the mean of those pictures of each place that are most alike.

    Things that wait hide a place for longer than they leave it free, but no two of them
    look the same.

    Source: half-sample mode, Bickel and Frühwirth 2006, in one step.
    """
    greys = np.stack([cv2.GaussianBlur(luma(picture), (0, 0), 1) for picture in pictures])
    # Dark things have little contrast, so ratios are compared.
    keys = np.log(greys + np.float32(DARK))
    ranked = np.sort(keys, 0)
    agree = round(AGREE * len(pictures))
    first = (ranked[agree:] - ranked[: len(pictures) - agree]).argmin(0)[None]
    least, most = (np.take_along_axis(ranked, first + k, 0)[0] for k in (0, agree))
    total = np.zeros(pictures[0].shape, np.float32)
    inside = ((keys >= least) & (keys <= most)).astype(np.uint8)
    for picture, mask in zip(pictures, inside, strict=True):
        cv2.accumulate(picture, total, mask=mask)
    agreed: Bytes = np.rint(total / inside.sum(0)[..., None]).astype(np.uint8)
    return agreed


def _lab(picture: Bytes) -> Bytes:
    lab: Bytes = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    return lab
