"""Find where things went in a clip, and where a thing goes on from there.

A thing goes only where things of the clip have been, or over ground like theirs. On the
ground a thing looks the larger, the farther it is below the horizon; so the clip gives a
size for each place. A thing keeps its own pace on the ground, and turns as earlier things
did. Where the ground ends, it slows down and waits. Parts that hid things stay before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from cloudconv.forecasting.camera import LITTLE
from cloudconv.forecasting.plate import EVEN, UNLIKE, Mask, Plate, Vector
from cloudconv.forecasting.sights import (
    HALF,
    PACED,
    PATIENCE,
    Sight,
    Track,
    at_edge,
    least_area,
)
from cloudconv.images import (
    connected,
    solid,
    wider,
)

FRAGMENT = 0.2
"""The area of a piece of a thing, as a part of that of the largest thing."""
FIT = 2 * PACED
"""The frames whose motion goes on; in fewer frames no things are found."""
MOST = 0.9
"""The part of sights or places that says how all of them are."""
# The largest factor by which a picture is enlarged, and the pixels of its side that each
# time needs.
_LARGER = 4.0
_FEET = 0.25  # lower part of a thing that is on the ground
_COLOURS = 32  # levels of each colour that are told apart
_TURNS = 0.2  # part of a turn that a thing makes in a frame
WAITS, FADES = 2.0, 0.5
"""The seconds in which a thing waits, and those in which a thing stops or goes out."""
LONGEST = 12.0
"""The seconds for which a thing is moved on."""


Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heading:
    """A straight way on the ground: its first place, its motion there, and the growth.

    Things that come nearer at an even pace grow and become faster; things that go away slow
    down.
    """

    place: Vector
    velocity: Vector
    growth: float

    def at(self, steps: float) -> tuple[float, Vector]:
        """Return the size and the motion after some steps, relative to those now."""
        size = 1 / max(1 - self.growth * steps, LITTLE)
        return size, self.velocity * (steps * size)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Where a thing is in each frame after a sight, until it is not seen any more.

    ``sizes`` and ``moves``, (n,) and (n, 2), are relative to the sight; ``shown`` says how
    much of it is seen. ``leaves``: it goes on until it is outside of the picture.
    """

    sizes: NDArray[np.float64]
    moves: NDArray[np.float64]
    shown: NDArray[np.float64]
    leaves: bool

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.sizes)


class Ways:
    """The places of a clip where things have been.

    Args:
        plate: the clip without things.
        tracks: its things.
        step: the time between two frames, in seconds.
    """

    def __init__(self, plate: Plate, tracks: Sequence[Track], step: float) -> None:
        """Find the horizon, the ground, the directions of things, and what hides them."""
        self._plate, self._size = plate, plate.size
        self._step = step
        self._middle = plate.size[0] / 2
        self._slope = _slope(tracks, self._middle)
        self._least_area = least_area(plate.size)
        areas = [sight.area for track in tracks for sight in track.visible]
        self._largest = max(areas, default=0)
        self.ground = _ground(plate, tracks)
        self._tracks = tracks
        lanes = [np.zeros((PACED, 2)), *map(_lane, tracks)]
        ahead = [lane[PACED:] - lane[:-PACED] for lane in lanes]
        self._places = np.concatenate([lane[:-PACED] for lane in lanes])
        self._ahead = np.concatenate(ahead)
        self._owners = np.repeat(np.arange(-1, len(tracks)), [len(lane) for lane in ahead])
        self.hiding = _hiding(plate, self, tracks)

    def nearness(self, place: Vector) -> float:
        """Return how near a place on the ground is, relative to the picture's middle.

        The result is tiny above the horizon.
        """
        return max(1 + self._slope * float(place[1] - self._middle), LITTLE)

    def larger(self, place: Vector, start: Vector) -> float:
        """Return how much larger a thing is at a place than at its start.

        A thing that starts above the horizon is not on the ground and keeps its size.
        """
        first = self.nearness(start)
        return self.nearness(place) / first if first > LITTLE else 1.0

    def heading(self, seen: Sequence[Sight], frame: int) -> Heading:
        """Return the way of a thing around a frame, from its sights before or after."""
        if len(seen) < 2:
            return Heading(seen[0].centre, np.zeros(2), 0.0)
        steps = np.array([sight.frame - frame for sight in seen], float)
        centres = np.array([sight.centre for sight in seen])
        place, velocity, growth = centres[-1], np.zeros(2), 0.0
        for _ in range(3):
            velocity, place = np.polyfit(steps / (1 - growth * steps), centres, 1)
            growth = self.growth(place, velocity)
        return Heading(place, velocity, growth)

    def growth(self, place: Vector, velocity: Vector) -> float:
        """Return the growth in a frame of a thing at a place, as a part of its size."""
        growth = self.larger(place + velocity, place) - 1
        # No thing comes from infinity, or goes there, in the frames in which it is seen.
        return float(np.clip(growth, -1 / FIT, 1 / FIT))

    def onward(
        self, sight: Sight, heading: Heading, own: Sequence[Track] = ()
    ) -> Trajectory:
        """Return a thing's way after a sight, along a heading if no other thing turned."""
        others = ~np.isin(self._owners, [self._tracks.index(track) for track in own])
        places, ahead = self._places[others], self._ahead[others]
        lengths = np.hypot(*ahead.T) + 1e-6
        is_piece = sight.area < FRAGMENT * self._largest and self._is_cut(sight, heading)
        count = round((FADES if is_piece else LONGEST) / self._step)
        side, foot = sight.area**0.5, sight.box[0].stop - 2 - sight.centre[1]
        # The middle of what is seen is not that of a thing which the picture's edge cuts.
        start = place = sight.centre if sight.clear else heading.place
        velocity = heading.velocity
        spots, sizes = [start], [1.0]
        size = 1.0
        leaves, stays, goes = False, False, False
        firm = 1
        while len(spots) <= count and not (leaves or stays or goes):
            speed = np.hypot(*velocity)
            if speed < 0.02:
                stays = True
                break
            away = np.hypot(*(places - place).T) / (size * side)
            away[ahead @ velocity < 0] = np.inf
            if len(away) and away[at := int(away.argmin())] < 1:
                there = ahead[at] / lengths[at]
                turned = velocity / speed * (1 - _TURNS) + there * _TURNS
                velocity = turned / np.hypot(*turned) * speed
            growth = self.growth(place, velocity)
            ratio = 1 / (1 - growth)
            place, velocity = place + velocity * ratio, velocity * ratio**2
            size = self.larger(place, start)
            spots.append(place)
            sizes.append(size)
            if self._is_ground(place[0], place[1] + foot * size):
                firm = len(spots)
            leaves = self._is_outside(sight, size, place - start)
            # A picture that is enlarged more is a blot.
            is_blot = size > min(_LARGER, max(side / _LARGER, 1.0))
            goes = is_blot or size**2 * sight.area < self._least_area
            # A spot of another colour is no end of the ground.
            stays = np.hypot(*(place - spots[firm - 1])) > size * side and not leaves
        if stays:
            spots, sizes = spots[:firm], sizes[:firm]
        return _timed(np.array(sizes), np.array(spots) - start, self._step, stays, leaves)

    def hides(self, sight: Sight) -> bool:
        """Return whether something stands before a part of a thing."""
        return bool((self.hiding[sight.box] & sight.mask).any())

    def _is_ground(self, x: float, y: float) -> bool:
        column, row = round(float(x)), round(float(y))
        height, width = self._size
        if not (0 <= row < height and 0 <= column < width):
            return True
        return bool(self.ground[row, column])

    def _is_cut(self, sight: Sight, heading: Heading) -> bool:
        """Return whether a thing moves away from an edge of the picture that cuts it."""
        rows, columns = sight.box
        least = np.array([columns.start, rows.start]) < 2
        most = np.array([columns.stop, rows.stop]) > np.array(self._size[::-1]) - 2
        return bool((least & (heading.velocity > 0) | most & (heading.velocity < 0)).any())

    def _is_outside(self, sight: Sight, size: float, move: Vector) -> bool:
        rows, columns = sight.box
        corners = np.array([[columns.start, rows.start], [columns.stop, rows.stop]])
        least, most = sight.centre + size * (corners - sight.centre) + move
        return bool((most < 0).any() or (least > self._size[::-1]).any())


def _timed(
    sizes: Values, moves: Values, step: float, stays: bool, leaves: bool
) -> Trajectory:
    """Return a way in time: a thing that stays slows down, waits, and goes out."""
    last = len(sizes) - 1
    fade = max(round(FADES / step), 1)
    if stays:
        # The way of a braking thing is half as long as that of one that goes on.
        brakes = min(fade, last)
        slower = 1 - np.linspace(1, 0, 2 * brakes + 1)[1:] ** 2
        wait = round(WAITS / step) + fade
        free = np.arange(1, last - brakes + 1)
        times = np.concatenate([free, last - brakes + brakes * slower, np.full(wait, last)])
    else:
        times = np.arange(1, last + 1)
    steps = np.arange(last + 1)
    visible = np.ones(len(times))
    if not leaves:
        count = min(fade, len(visible))
        visible[len(visible) - count :] = np.linspace(1, 0, count + 2)[1:-1]
    return Trajectory(
        np.interp(times, steps, sizes),
        np.column_stack([np.interp(times, steps, values) for values in moves.T]),
        visible,
        leaves,
    )


def _slope(tracks: Sequence[Track], middle: float) -> float:
    """Return how much larger a thing is for each pixel that it is lower in the picture.

    The result is a part of the size in the middle. The horizon is level, and nothing is
    below the ground.
    """
    shares, lengths = [np.zeros(1)], [np.zeros(1)]
    for track in tracks:
        seen = [sight for sight in track.visible if sight.clear]
        rows = np.array([sight.centre[1] - middle for sight in seen])
        sides = np.array([sight.area**0.5 for sight in seen])
        one, two = np.triu_indices(len(seen), PACED)
        # Sights at one height say nothing.
        apart = np.abs(rows[one] - rows[two]) > HALF * np.minimum(sides[one], sides[two])
        one, two = one[apart], two[apart]
        if not len(one):
            continue
        # Two sizes and heights of a thing give the slope. The median of all pairs counts.
        weight = np.minimum(sides[one], sides[two]) / (sides[one] + sides[two]) / len(one)
        lengths.append(
            (sides[one] * rows[two] - sides[two] * rows[one]) * weight * len(seen)
        )
        shares.append((sides[two] - sides[one]) * weight * len(seen))
    length, share = np.concatenate(lengths), np.concatenate(shares)
    slopes = np.divide(share, length, out=np.zeros_like(share), where=length != 0)
    order = np.argsort(slopes)
    weights = np.abs(length)[order].cumsum()
    slope = slopes[order][np.searchsorted(weights, weights[-1] / 2)]
    return float(np.clip(slope, 0, None))


def _lane(track: Track) -> NDArray[np.float64]:
    """Return the smooth way of a track, (n, 2), a place a frame; zeros if it is short."""
    seen = [sight for sight in track.visible if sight.clear]
    if len(seen) <= 2 * PACED:
        return np.zeros((PACED, 2))
    frames = [sight.frame for sight in seen]
    every = np.arange(frames[0], frames[-1] + 1)
    centres = np.array([sight.centre for sight in seen])
    lane = np.column_stack([np.interp(every, frames, values) for values in centres.T])
    return cv2.blur(lane, (1, 2 * PACED + 1), borderType=cv2.BORDER_REPLICATE)


def _ground(plate: Plate, tracks: Sequence[Track]) -> Mask:
    """Return where things can go, 0 or 1: where they were, and what is like that nearby."""
    trodden = np.zeros(plate.size, np.uint8)
    for track in tracks:
        for sight in track.visible:
            feet = sight.mask.copy()
            feet[: int((1 - _FEET) * len(feet))] = 0
            trodden[sight.box] |= feet
    lab = cv2.cvtColor(cv2.GaussianBlur(plate.picture, (0, 0), EVEN), cv2.COLOR_RGB2LAB)
    colours = (lab.astype(int) * _COLOURS // 256) @ (_COLOURS**2, _COLOURS, 1)
    counts = np.bincount(colours[trodden > 0], minlength=_COLOURS**3)
    ranked = np.sort(counts)[::-1]
    least = ranked[np.searchsorted(ranked.cumsum(), MOST * ranked.sum())]
    usual = torch.from_numpy(np.float32(counts >= max(least, 1)))
    near = F.max_pool3d(usual.view(1, *(_COLOURS,) * 3), 3, 1, 1).numpy().ravel()
    like = near[colours].astype(np.uint8) | trodden
    like = cv2.morphologyEx(like, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    like = cv2.morphologyEx(like, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, labels = cv2.connectedComponents(like)
    reached = np.isin(labels, labels[(trodden > 0) & (labels > 0)])
    return solid(reached)


def _hiding(plate: Plate, ways: "Ways", tracks: Sequence[Track]) -> Mask:
    """Return what stays before things, 0 or 1: where they are expected, and never seen.

    A thing is expected at its place as it was seen half of its side before or after.
    """
    expected = np.zeros(plate.size, np.float32)
    missing = np.zeros(plate.size, np.float32)
    differs = plate.differs
    for track in tracks:
        whole = [sight for sight in track.visible if sight.clear]
        centres = np.array([sight.centre for sight in whole]).reshape(-1, 2)
        frames = np.array([sight.frame for sight in whole])
        for sight in track.visible:
            if at_edge(plate, sight):
                continue
            far = np.hypot(*(centres - sight.centre).T) >= HALF * sight.area**0.5
            before = np.flatnonzero(far & (frames < sight.frame))[-1:]
            after = np.flatnonzero(far & (frames > sight.frame))[:1]
            for number in (*before, *after):
                other = whole[number]
                shape = other.mask & differs[other.frame][other.box]
                size = ways.larger(sight.centre, other.centre)
                rows, columns = other.box
                corner = np.array([columns.start, rows.start]) - other.centre
                left, top = np.rint(sight.centre + size * corner).astype(int)
                extent = [max(1, round(side * size)) for side in shape.shape[::-1]]
                shape = cv2.resize(shape, extent, interpolation=cv2.INTER_NEAREST)
                shape = shape[max(-top, 0) :, max(-left, 0) :]
                top, left = max(top, 0), max(left, 0)
                shape = shape[: plate.size[0] - top, : plate.size[1] - left]
                area = (
                    slice(top, top + shape.shape[0]),
                    slice(left, left + shape.shape[1]),
                )
                expected[area] += shape
                missing[area] += shape * (1 - differs[sight.frame][area])
    often = (expected >= PATIENCE) & (missing > MOST * expected)
    lab = cv2.cvtColor(plate.picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    hiding: Mask = np.zeros(plate.size, np.uint8)
    for region in connected(often, least_area(plate.size)):
        around = wider(region, 4) - wider(region, 1)
        # A thing before ground of its own colour is not found, as if the ground hid it.
        if np.abs(lab[region > 0].mean(0) - lab[around > 0].mean(0)).sum() > UNLIKE:
            hiding |= region
    return hiding
