"""Make the plate of a clip, which is the clip without its things, and find the things.

Most pictures of a place that look alike show what is behind things. A thing is what differs
from that by more than the place itself does.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.camera import (
    Area,
    Bytes,
    Floats,
    grid_of,
    sample,
    scaled,
    step_between,
    transform,
    travelled,
    warp,
)

Mask = NDArray[np.uint8]
Vector = NDArray[np.float64]
"""A position or a motion, x and y, in pixels."""

DARK = 16
"""A level, of 255, that counts as dark."""
LOOKS = 45
"""The largest number of frames in which all is measured that stands."""
RIM = 3
"""The pixels around a thing in which its shadow and its blur are."""
EVEN = 4.0
"""The sigma, in pixels, over which a surface has one colour or one motion."""
UNLIKE = 18
"""The difference, of 255, between a thing and what is not of it."""
_FARTHEST = 0.1  # way of a slow camera, in widths
AGREE = 0.4
"""The part of the looks of a place that are alike."""
_NOISE = 4.0  # difference of a thing to the plate, in usual ones of its place
_FREE = 0.3  # part of the frames in which a place is free
_BAND = 64  # rows of a plate that are computed at once
_LIGHT_STEP = 8  # pixels between places where the light is measured


class Plate:
    """The clip without its things, as from the last view of a still or slow camera.

    Args:
        pictures: (h, w, 3) RGB, oldest first, as from one view.
    """

    def __init__(self, pictures: Sequence[Bytes]) -> None:
        """Steady the pictures, and find what is behind the things."""
        self.size = pictures[0].shape[:2]
        self._finds: dict[int, tuple[Mask, Mask]] = {}
        self._views, self.stands, drifts = _views(pictures)
        rows, columns = (np.arange(side) + 1 for side in self.size)
        inside = np.minimum.outer(
            *(np.minimum(k, k[::-1]).clip(0, RIM) for k in (rows, columns))
        )
        inside = (inside * (255 // RIM)).astype(np.uint8)
        count = len(pictures) * drifts
        self._seen = [self.steadied(k, inside, cv2.BORDER_CONSTANT) for k in range(count)]
        steady = [self.steadied(k, picture) for k, picture in enumerate(pictures)]
        self.picture = self.made_of(steady, range(len(steady)))
        self.pictures = [
            self.completed(k, picture, self.picture) for k, picture in enumerate(steady)
        ]
        self._bare = _lab(self.picture)
        # Before a camera that trembles, a place is compared with its neighbours, too.
        moves = (self._views != np.eye(3)).any()
        around = np.ones((3, 3) if moves else (1, 1), np.uint8)
        self._around = [
            cv2.subtract(extreme(self._bare, around), self._bare, dtype=cv2.CV_16S)
            for extreme in (cv2.erode, cv2.dilate)
        ]
        looks = [self.pictures[k] for k in spread(len(pictures), LOOKS)]
        noise = np.quantile([_smooth(self._difference(look)) for look in looks], _FREE, 0)
        self._least = cv2.GaussianBlur(UNLIKE + _NOISE * noise, (0, 0), 1.5)

    @property
    def drifts(self) -> bool:
        """Return whether the camera moves slowly."""
        return bool(self._seen)

    def shows(self, frame: int, area: Area) -> bool:
        """Return whether a frame shows all of an area."""
        return not self.drifts or bool(self._seen[frame][area].min() == 255)

    def steadied(
        self, frame: int, picture: Any, outside: int = cv2.BORDER_REPLICATE
    ) -> Any:
        """Return a picture of a frame, of any size, as from the last view."""
        motion = self._views[frame]
        size = picture.shape[1::-1]
        if (motion == np.eye(3)).all():
            return picture
        move = scaled(motion, size[0] / self.size[1])[:2]
        how = {"flags": cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, "borderMode": outside}
        return cv2.warpAffine(picture, move, size, **how)

    def completed(self, frame: int, picture: Any, ground: Any) -> Any:
        """Return a steady picture; ``ground`` fills what the frame does not show."""
        if not self.drifts:
            return picture
        seen = cv2.resize(self._seen[frame], picture.shape[1::-1]) / np.float32(255)
        change = picture.astype(np.float32) - ground
        whole: Any = ground + seen[..., None] * change
        return whole if picture.dtype == np.float32 else np.rint(whole).astype(np.uint8)

    def made_of(self, pictures: Sequence[Bytes], frames: Sequence[int]) -> Bytes:
        """Return the plate of steady pictures of frames, the last one included."""
        # Different frames show what others do not: if one did, it would be most alike.
        first = [
            self.completed(frame, picture, pictures[-1])
            for frame, picture in zip(frames, pictures, strict=True)
        ]
        views = zip(frames, pictures, reversed(first), strict=True)
        return plate_of([self.completed(*view) for view in views])

    @property
    def masks(self) -> list[Mask]:
        """Return where things are in each frame, 0 or 1."""
        return [self.mask(frame) for frame in range(len(self.pictures))]

    @property
    def differs(self) -> list[Mask]:
        """Return which pixels of each frame differ from the plate, without gaps closed."""
        return [self._found(frame)[1] for frame in range(len(self.pictures))]

    def mask(self, frame: int) -> Mask:
        """Return where things are in a frame, 0 or 1."""
        return self._found(frame)[0]

    def _found(self, frame: int) -> tuple[Mask, Mask]:
        if frame not in self._finds:
            difference = self._difference(self.pictures[frame])
            differs = (difference > self._least).astype(np.uint8)
            self._finds[frame] = self._mask(difference), differs
        return self._finds[frame]

    def _difference(self, picture: Bytes) -> Floats:
        """Return the difference to the plate in the light of the picture."""
        change = cv2.subtract(_lab(picture), self._bare, dtype=cv2.CV_16S)
        change -= np.median(change[::_LIGHT_STEP, ::_LIGHT_STEP], (0, 1)).astype(np.int16)
        total = cv2.transform(
            cv2.absdiff(change, np.clip(change, *self._around)), np.ones((1, 3))
        )
        difference: Floats = total.astype(np.float32)
        return difference

    def _mask(self, difference: Floats) -> Mask:
        mask = (_smooth(difference) > self._least).astype(np.uint8)
        mask = cv2.morphologyEx(
            mask, cv2.MORPH_CLOSE, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
        )
        opened: Mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return opened

    def light(self, frame: int) -> Floats:
        """Return how much lighter a frame is than the plate: small, (h, w, 3), a ratio.

        The light behind things is that of their surroundings, the nearest first.
        """
        size = tuple(-(-side // _LIGHT_STEP) for side in reversed(self.size))
        free = 1 - cv2.dilate(self.mask(frame), np.ones((9, 9), np.uint8))[..., None]
        if self.drifts:
            free &= (self._seen[frame] == 255)[..., None]
        pairs = [
            cv2.resize(
                (values * free).astype(np.float32), size, interpolation=cv2.INTER_AREA
            )
            for values in (self.pictures[frame], self.picture, np.ones_like(self.picture))
        ]
        lighter: Floats = np.ones_like(pairs[0])
        for sigma in (size[0], 8, 4, 2, 1):
            one, two, weight = (cv2.GaussianBlur(values, (0, 0), sigma) for values in pairs)
            share = (4 * weight).clip(0, 1)
            lighter += share * ((one + 1) / (two + 1) - lighter)
        return lighter


def spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` frames, evenly spread."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, most))})


def translate(picture: Any, shift: Vector, outside: int = cv2.BORDER_REPLICATE) -> Any:
    """Return a picture moved by (dx, dy) pixels."""
    if not shift.any():
        return picture
    motion = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    how = {"flags": cv2.INTER_CUBIC, "borderMode": outside}
    return cv2.warpAffine(picture, motion, picture.shape[1::-1], **how)


def _views(pictures: Sequence[Bytes]) -> tuple[NDArray[np.float64], bool, bool]:
    """Return the motion from the last view to each frame, (n, 3, 3), and the camera's kind.

    That is whether all frames show one view, as before a camera that trembles, and whether
    the camera moves slowly.

    Source: phase correlation, Kuglin and Hines 1975, in OpenCV's version.
    """
    # OpenCV's phase correlation is wrong by half a pixel along odd sides
    # (opencv/opencv#9144).
    rows, columns = (2 * (side // 4) for side in pictures[0].shape[:2])
    small, greys = [], []
    for picture in pictures:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
        greys.append(grey.astype(np.uint8))
        small.append(grey - cv2.GaussianBlur(grey, (0, 0), 4))
    window = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    usual = np.median([small[k] for k in spread(len(small), LOOKS)], 0)
    lines = np.abs(usual) >= np.quantile(np.abs(usual), 0.9)
    shifts = np.zeros((len(small), 2))
    for place, picture in zip(shifts, small, strict=True):
        # OpenCV writes into the pictures that it gets.
        shift = np.array(cv2.phaseCorrelate(picture.copy(), usual.copy(), window)[0])
        far, near = (
            cv2.absdiff(x, usual)[lines].mean()
            for x in (picture, translate(picture, shift))
        )
        # A large thing has a motion of its own, which brings the rest no nearer.
        if near < far:
            place[:] = shift
    few = spread(len(small), LOOKS)
    stands = _last([translate(small[k], shifts[k]) for k in few], usual)
    drifts = False
    views = np.tile(np.eye(3), (len(small), 1, 1))
    views[:, :2, 2] = shifts[-1] - shifts
    if not stands and (motions := _followed(greys)) is not None:
        looks = [
            sample(small[k], transform(motions[k], grid_of((rows, columns)))) for k in few
        ]
        drifts = stands = _last(looks, np.median(looks, 0))
        views = motions if drifts else views
    scale = pictures[0].shape[1] / columns
    return np.array([scaled(view, scale) for view in views]), stands, drifts


def _followed(greys: Sequence[Bytes]) -> NDArray[np.float64] | None:
    """Return the motion from the last view to each frame, if the camera moves slowly."""
    count = len(greys)
    size = greys[0].shape
    frames = spread(count, LOOKS)[::-1]
    motions = []
    motion = np.eye(3)
    for k in frames:
        motion = motion @ step_between(greys[-1], warp(greys[k], motion))
        if travelled(motion, size) > _FARTHEST * size[1]:
            return None
        motions.append(motion.ravel())
    terms = np.array(motions[::-1]).T
    every = [np.interp(range(count), frames[::-1], term) for term in terms]
    return np.array(every).T.reshape(-1, 3, 3)


def _last(looks: Sequence[Floats], usual: Floats) -> bool:
    """Return whether the usual look has most of the detail of the looks."""
    detail = np.median([_detail(look) for look in looks], 0)
    textured = detail > 0
    lasting = 2 * _detail(usual)[textured] > detail[textured]
    return bool(len(lasting) and np.average(lasting, weights=detail[textured]) > 0.5)


def _detail(values: Floats) -> Floats:
    energy: Floats = cv2.blur(np.square(values), (15, 15))
    return energy


def plate_of(pictures: Sequence[Bytes]) -> Bytes:
    """Return the usual picture of a clip, in the light of its last frame.

    A frame in another light counts in the light of the others, so that no place keeps the
    light of those frames in which a thing leaves the place free.
    """
    chosen = [pictures[k] for k in spread(len(pictures), LOOKS)]
    grid = np.stack([picture[::_LIGHT_STEP, ::_LIGHT_STEP] for picture in chosen])
    usual = (np.median(grid, 0) + 1).astype(np.float32)
    gains = [np.median((look + np.float32(1)) / usual, (0, 1)) for look in grid]
    gains = [gains[-1] / gain for gain in gains]
    bands = []
    for start in range(0, len(chosen[0]), _BAND):
        looks = [
            cv2.multiply(
                picture[start : start + _BAND], np.array([*gain, 1]), dtype=cv2.CV_8U
            ).astype(np.uint8)
            for picture, gain in zip(chosen, gains, strict=True)
        ]
        bands.append(_agreed(looks))
    return np.vstack(bands)


def _agreed(looks: Sequence[Bytes]) -> Bytes:
    """Return the mean of those looks of each place that are most alike.

    Things that wait hide a place for longer than they leave it free, but no two look the
    same.

    Source: half-sample mode, Bickel and Frühwirth 2006, in one step.
    """
    greys = [cv2.cvtColor(look, cv2.COLOR_RGB2GRAY) for look in looks]
    # Dark things have little contrast, so ratios are compared.
    keys = np.log(
        np.stack([cv2.GaussianBlur(grey, (0, 0), 1) for grey in greys]) + np.float32(DARK)
    )
    ranked = np.sort(keys, 0)
    agree = round(AGREE * len(looks))
    first = (ranked[agree:] - ranked[: len(looks) - agree]).argmin(0)[None]
    least, most = (np.take_along_axis(ranked, first + k, 0)[0] for k in (0, agree))
    total = np.zeros(looks[0].shape, np.float32)
    inside = ((keys >= least) & (keys <= most)).astype(np.uint8)
    for look, mask in zip(looks, inside, strict=True):
        cv2.accumulate(look, total, mask=mask)
    agreed: Bytes = np.rint(total / inside.sum(0)[..., None]).astype(np.uint8)
    return agreed


def _smooth(values: Floats) -> Floats:
    smooth: Floats = cv2.GaussianBlur(values, (0, 0), 1)
    return smooth


def _lab(picture: Bytes) -> Bytes:
    lab: Bytes = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    return lab
