"""Find the things before a still or slow camera, and where they go when the clip ends.

The plate is the clip without things, tracks are what differs from it over time, and ways
are where things go on. Source of the idea: video sprites, Schödl and Essa 2002.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, takewhile

import cv2
import numpy as np

from cloudconv.forecasting.plate import AGREE, Plate, Vector
from cloudconv.forecasting.sights import (
    NEAR,
    PACED,
    PATIENCE,
    SEARCH,
    Sight,
    Track,
    alone,
    at_edge,
    joined_sight,
    near,
    tracks_of,
)
from cloudconv.forecasting.ways import FADES, FIT, MOST, Heading, Trajectory, Ways
from cloudconv.images import (
    Area,
    Bytes,
    Floats,
    luma,
)

_MOST_COVERED = 0.12  # part of the picture that things cover at most
_POPPED = 0.06  # part of things that hold, at most, which appears or vanishes in view
_FAR_WAY = 1.2  # mean distance of things that hold from where they begin, in their sides
_CROWDED = 0.4  # part of the things that have others so near
_CUT = 0.4  # part of a thing at the edge of the picture that is not compared
_LIKE = 0.6  # difference of pictures a period apart, as a part of the usual one


Appearance = tuple[Sight, float, Vector, float]
"""A sight, its size and its motion to where it is seen, and how much of it is seen."""


def in_place(sight: Sight) -> Appearance:
    """Return a sight as the film shows it."""
    return sight, 1.0, np.zeros(2), 1.0


@dataclass(frozen=True, slots=True)
class Going:
    """A thing that goes on after the clip: its tracks, last sights, and way from there.

    The sights are one period of its pictures, such as steps of a walker, or the last one
    alone. ``heading`` leads back to the earlier ones.
    """

    tracks: tuple[Track, ...]
    sights: tuple[Sight, ...]
    heading: Heading
    way: Trajectory

    def after(self, frame: int) -> Appearance | None:
        """Return what is seen in a frame after the clip: None if the thing has gone."""
        last = self.sights[-1].frame
        number = frame - last - 1
        if number >= len(self.way):
            return None
        sight = self.sights[number % len(self.sights)]
        old, start = self.heading.at(sight.frame - last)
        size, move = self.way.sizes[number], self.way.moves[number]
        return sight, size / old, move - start, self.way.shown[number]


class Things:
    """The things of a clip before a still or slow camera.

    Args:
        pictures: (h, w, 3) RGB, oldest first, as from one view.
        step: the time between two of them, in seconds.
    """

    def __init__(self, pictures: Sequence[Bytes], step: float = FADES / FIT) -> None:
        """Find the plate; tracks and ways are found when they are needed."""
        self.plate = Plate(pictures)
        self.size = self.plate.size
        self._step = step

    @cached_property
    def tracks(self) -> list[Track]:
        """Return the tracks of at least some sights."""
        return tracks_of(self.plate)

    @cached_property
    def ways(self) -> Ways:
        """Return where things went."""
        return Ways(self.plate, self.tracks, self._step)

    @cached_property
    def hold(self) -> bool:
        """Return whether things can go on as wholes: few, followed until they leave."""
        if not self.plate.stands:
            return False
        covered = np.mean([self.plate.mask(frame).mean() for frame in self.plate.chosen])
        if not 0 < covered < _MOST_COVERED:
            return False
        # Something that hides most of its way for long may be in the plate.
        usual = np.mean(self.plate.masks, 0)
        if (usual > AGREE).sum() > MOST * usual.sum():
            return False
        seen = [track.visible for track in self.tracks]
        followed = sum(sight.area for sight in chain(*seen))
        largest = sum(max(sight.area for sight in sights) for sights in seen)
        frames: list[list[Sight]] = [[] for _ in range(self.plate.count)]
        for sight in chain(*seen):
            frames[sight.frame].append(sight)
        crowded = sum(
            one.area
            for sights in frames
            for one in sights
            if any(one is not other and near(one, other, NEAR) for other in sights)
        )
        end = self.plate.count - 1
        popped = 0
        far = 0.0
        for track, sights in zip(self.tracks, seen, strict=True):
            if track.since == track.begin > PATIENCE and not at_edge(self.plate, sights[0]):
                popped += sights[0].area
            if sights[-1].frame < end - PATIENCE and not at_edge(self.plate, sights[-1]):
                popped += sights[-1].area
            way = max(np.hypot(*(sight.centre - sights[0].centre)) for sight in sights)
            far += way * max(sight.area for sight in sights) ** 0.5
        return (
            crowded < _CROWDED * followed
            and popped < _POPPED * largest
            and far > _FAR_WAY * largest
        )

    @cached_property
    def going(self) -> list[Going]:
        """Return the things that go on after the last frame, farthest first.

        Things that touch go on as one, because nobody knows where one ends.
        """
        end = self.plate.count - 1
        groups: list[list[Track]] = []
        for track in self.tracks:
            sight = track.last()
            if sight.frame < end - PATIENCE:
                continue
            apart = [
                g
                for g in groups
                if not any(self._touch(sight, other.last()) for other in g)
            ]
            together = [other for g in groups if g not in apart for other in g]
            groups = [*apart, [track, *together]]
        going = []
        for group in groups:
            first = max(group, key=lambda track: (track.last().frame, track.last().area))
            last = first.last().frame
            sight = joined_sight(self.plate, [track.last() for track in group], last)
            if len(group) == 1 and self.ways.hides(sight):
                # Something that hides a part of the thing does not go with the thing.
                whole = first.clear(last, FIT)
                free = [earlier for earlier in whole if not self.ways.hides(earlier)]
                sight = free[-1] if free else sight
            heading = self.ways.heading(first.clear(sight.frame, FIT), sight.frame)
            heading = replace(heading, velocity=self._traced(sight, heading))
            way = self.ways.onward(sight, heading, group)
            sights: tuple[Sight, ...] = (sight,)
            if len(group) == 1 and sight is first.last():
                sights = self._period(first)
            going.append(Going(tuple(group), sights, heading, way))
        return sorted(going, key=lambda thing: thing.sights[-1].box[0].stop)

    def _period(self, track: Track) -> tuple[Sight, ...]:
        """Return the last sights of a track that come again, oldest first, or the last."""
        frames = range(track.last().frame, track.begin - 1, -1)
        seen = (sight for k in frames if (sight := track.sight(k)))
        sights = [*takewhile(lambda sight: sight.clear, seen)]
        # A sight is missing where another thing hides this one.
        sights = sights[
            : next((k for k, s in enumerate(sights) if s.frame != frames[k]), None)
        ]
        extent = track.last().mask.shape[::-1]
        pictures = np.array([self._picture(sight, extent) for sight in sights])
        apart = [
            np.mean([np.abs(pictures[k] - pictures[k + lag]).mean() for k in range(3)])
            for lag in range(1, len(sights) // 2)
        ]
        lags = range(1, len(apart) + 1)
        again = [lag for lag in lags if apart[lag - 1] < _LIKE * max(apart[:lag])]
        best = min(again, key=lambda lag: apart[lag - 1], default=1)
        return tuple(sights[best - 1 :: -1]) or (track.last(),)

    def _picture(self, sight: Sight, extent: tuple[int, ...]) -> Floats:
        """Return a small picture of a thing without its ground."""
        grey = luma(self.plate.steady(sight.frame)[sight.box])
        picture = np.where(
            sight.mask > 0, grey.astype(np.float32) - grey[sight.mask > 0].mean(), 0
        )
        return cv2.resize(picture, extent, interpolation=cv2.INTER_AREA)

    def _touch(self, one: Sight, other: Sight) -> bool:
        if not near(one, other, 2):
            return False
        return bool((alone(one, self.size, 2)[other.box] & other.mask).any())

    def _traced(self, sight: Sight, heading: Heading) -> Vector:
        """Return the velocity of a thing, by its picture in the frames before."""
        frame = sight.frame
        way = [0.0]
        places = [np.zeros(2)]
        move = -heading.velocity
        # In the frames before, the edge of the picture cut off a larger or a smaller part.
        box = self._inner(sight)
        shape = alone(sight, self.size, 0)[box]
        corner = np.array([box[1].start, box[0].start])
        for steps in range(1, min(PACED, frame) + 1):
            size, _ = heading.at(-steps)
            extent = [max(1, round(side * size)) for side in shape.shape[::-1]]
            template = cv2.resize(
                self.plate.steady(frame)[box], extent, interpolation=cv2.INTER_AREA
            )
            mask = cv2.resize(shape, extent, interpolation=cv2.INTER_NEAREST)
            # The thing has this corner if its centre goes along the heading.
            still = sight.centre + size * (corner - sight.centre)
            reach = SEARCH + (0 if steps > 1 else int(np.abs(move).max() / 2))
            least = np.maximum(np.round(still + places[-1] + move).astype(int) - reach, 0)
            right, bottom = least + extent + 2 * reach
            window = self.plate.steady(frame - steps)[least[1] : bottom, least[0] : right]
            if window.shape[0] < extent[1] or window.shape[1] < extent[0] or not mask.any():
                break
            errors = cv2.matchTemplate(window, template, cv2.TM_SQDIFF, mask=mask)
            row, column = (
                int(index) for index in np.unravel_index(np.argmin(errors), errors.shape)
            )
            corner_found = [
                column + _vertex(errors[row], column),
                row + _vertex(errors[:, column], row),
            ]
            place = least + corner_found - still
            move = place - places[-1]
            places.append(place)
            way.append(-steps * size)
        if len(places) < 3:
            return heading.velocity
        velocity: Vector = np.polyfit(way, np.array(places), 1)[0]
        return (velocity + heading.velocity) / 2 if sight.clear else velocity

    def _inner(self, sight: Sight) -> Area:
        """Return the box of a sight, smaller at edges of the picture that it touches."""
        rows, columns = sight.box
        height, width = self.size
        return _within(rows, height), _within(columns, width)


def _within(span: slice, end: int) -> slice:
    less = int(_CUT * (span.stop - span.start))
    return slice(
        span.start + less * (span.start < 2), span.stop - less * (span.stop > end - 2)
    )


def _vertex(values: Floats, at: int) -> float:
    """Return the place of the minimum between values, relative to the least one."""
    if not 0 < at < len(values) - 1:
        return 0.0
    one, two, three = (float(value) for value in values[at - 1 : at + 2])
    bend = max(one - 2 * two + three, 1e-9)
    return 0.5 * (one - three) / bend
