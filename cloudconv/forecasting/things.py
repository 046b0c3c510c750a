"""Follow things before a still or slow camera: cut them out of a clip, and move them on as wholes.

A thing is what differs from the plate, the clip without things. Its parts in one frame are
a sight; sights that follow each other are a track. A track knows where its thing goes when
the clip ends. Source of the idea: video sprites, Schödl and Essa 2002.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain, takewhile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.forecasting.camera import (
    Area,
    Bytes,
    Floats,
    area_of,
    carried,
    grid_of,
    sampled,
    sampled_at,
    scaled,
    step_between,
    travelled,
)

Mask = NDArray[np.uint8]
Place = NDArray[np.float64]
"""A position or a motion, x and y, in pixels."""

Way = tuple[float, Place]
"""A size and a motion, relative to those of a sight."""
SIDE = 480
"""The longest side of the pictures in which things are found."""
FEWEST = 12
"""The smallest number of frames in which things are found."""
LOOKS = 45
"""The largest number of frames from which a plate is made."""
_TREMBLES = 0.25  # motion of a camera, in pixels, that is removed
_AWAY, _NEARER = 0.03, 0.9  # largest shift, in widths; ratio of the differences after it
_EACH, _FARTHEST = 3, 0.1  # frames between measured views; way of a slow camera, in widths
_RAMP = 5  # pixels at the edge of a frame in which the plate begins, before a slow camera
# Part of the detail that the median of the frames keeps, if the camera stands.
_STANDS = 0.7
# Detail that counts; frames in which detail and noise are measured.
_TEXTURED, _FEW = 9.0, 24
_LEAST, _NOISE = 18, 4.0  # difference to the plate, of 255 and in its usual differences
_FREE = 0.3  # part of the frames in which a place is free
_MOST_COVERED, _FOLLOWED, _POPPED = 0.12, 0.9, 0.06  # of things that hold
_FAR_WAY = 1.2  # mean distance of things that hold from where they begin, in their sides
_OFTEN, _HIDDEN = 0.35, 0.9  # part of the frames; part of what things hide in a frame
# Pixels between things; part of the things that have others so near.
_NEAR, _CROWDED = 10, 0.4
_SMALLEST = 1.7e-4  # area of a thing, as a part of the picture
_GAPS = 7  # side of the square that closes gaps of a mask
# Part of the looks of a place that is alike; a level that counts as dark.
_AGREE, _DARK = 0.4, 16
_BAND = 64  # rows of a plate that are computed at once
_COARSE, _EVEN = 4, 0.03  # steps between compared pixels; least change of the light
_DIM = 8  # ratio of the picture's width to that of its light
_OVERLAP = 0.3  # part of a thing that a mask covers at the expected place
_FAR = 0.35  # distance to the expected place that counts as 1, in sides of the thing
_REACH = 10.0  # the same for a thing without a side, in pixels
_SAME = 0.3, 0.2  # difference of velocities of one thing, in pixels, and as a part
_WORST = 2.2  # largest cost of a match
_PATIENCE = 5  # frames for which a thing may be hidden
_SOFT = 1.0  # sigma of the outlines
_RIM = 4  # pixels around a thing in which its shadow goes with it
_CLOSE = 5  # pixels between a thing and its parts
_SHORTEST = 4  # sights of a track
_FEW_PIXELS = 12
_FIT = 15  # latest sights whose motion continues
# Frames in which a thing is found by its picture, and pixels around.
_TRACED, _SEARCH = 6, 4
# Growth in a frame; no thing comes from infinity in the frames of a fit.
_GROWS = -0.06, 0.04
# Way on which growth shows, in sides of a thing, and its least area.
_TRAVEL, _SEEN = 0.5, 300
_CUT = 0.4  # part of a thing at the edge of the picture that is not compared
LARGEST = 0.4
"""The inverse of the size to which a thing may grow."""
PACED = 6
"""The number of frames in which a velocity shows."""
_HERE: Way = 1.0, np.zeros(2)
_LOOK = 16, 24  # width and height of pictures that are compared
_PERIODS = (4, 40)  # lengths of a period of pictures, in frames
_LIKE = 0.6  # difference of pictures a period apart, as a part of the usual one


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing in a frame: its mask, 0 or 1, at ``left`` and ``top``, and its mean colour.

    ``clear`` states that the picture shows all of it: no edge and no other thing cuts it.
    """

    frame: int
    mask: Mask
    left: int
    top: int
    colour: Floats
    area: int
    centre: Place
    clear: bool

    @property
    def box(self) -> Area:
        """Return the rows and columns of the mask."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, slots=True)
class Path:
    """The way of a thing after a sight: it begins with ``velocity``, and grows by ``growth``.

    Things that come nearer at an even speed grow and become faster; things that go away
    slow down. ``course``: the size and the place after each of the first steps, if they are
    known better.
    """

    velocity: Place
    growth: float
    course: tuple[Way, ...] = ()

    def at(self, steps: float) -> Way:
        """Return the size and the place after some steps, relative to those now."""
        if steps > 0 and self.course:
            known = min(max(round(steps), 1), len(self.course))
            (size, place), velocity = self.course[known - 1], self.velocity
            if known >= PACED:
                velocity = (place - self.course[known - PACED][1]) / (PACED - 1)
            return size, place + (steps - known) * velocity
        size = 1 / max(1 - self.growth * steps, LARGEST)
        return size, self.velocity * (steps * size)


@dataclass(slots=True, eq=False)
class Track:
    """A thing from frame ``begin`` on: its sight in each frame, None where it is hidden.

    ``since`` is the frame in which it entered, or the thing from which it has split.
    """

    begin: int
    since: int
    sights: list[Sight | None] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Return the frame of the last sight."""
        return self.begin + len(self.sights) - 1

    def sight(self, frame: int) -> Sight | None:
        """Return the sight in a frame, or None."""
        inside = self.begin <= frame <= self.end
        return self.sights[frame - self.begin] if inside else None

    @property
    def seen(self) -> list[Sight]:
        """Return the sights of the frames in which the thing is seen."""
        return [sight for sight in self.sights if sight]

    def last(self) -> Sight:
        """Return the latest sight."""
        return next(sight for sight in reversed(self.sights) if sight)

    def path(self, frame: int) -> Path:
        """Return the way of the thing after its sight in a frame, from the sights before."""
        first = max(self.begin, frame - _FIT + 1)
        seen = [(k - frame, s) for k in range(first, frame + 1) if (s := self.sight(k))]
        whole = [each for each in seen if each[1].clear]
        if len(whole) > 2 or len(whole) > len(seen) / 2:
            seen = whole
        if len(seen) < 2:
            return Path(np.zeros(2), 0.0)
        steps = np.array([step for step, _ in seen], float)
        growth = 0.0
        last = seen[-1][1]
        travelled = np.hypot(*(last.centre - seen[0][1].centre)) / last.area**0.5
        if seen is whole and len(seen) > 5 and travelled > _TRAVEL:
            # The distance of a thing changes evenly, and its size is the inverse.
            far = np.array([s.area**-0.5 for _, s in seen]) * last.area**0.5
            one, two = np.triu_indices(len(seen), 4)
            slopes = (far[two] - far[one]) / (steps[two] - steps[one])
            if abs(np.sign(slopes).sum()) == len(slopes):
                growth = float(np.clip(-np.median(slopes), *_GROWS))
                # The pixels of a small thing are too few to show that it comes nearer.
                growth = growth if last.area > _SEEN else min(growth, 0.0)
        way = steps / (1 - growth * steps)
        velocity = np.polyfit(way, np.array([s.centre for _, s in seen]), 1)[0]
        return Path(velocity, growth)


@dataclass(frozen=True, slots=True)
class Going:
    """A thing that goes on after the clip: its tracks, its last sights, and the way from there.

    The sights are one period of its pictures, such as steps of a walker, or the last one
    alone.
    """

    tracks: tuple[Track, ...]
    sights: tuple[Sight, ...]
    path: Path

    def after(self, frame: int) -> tuple[Sight, Way]:
        """Return the sight that is shown in a frame after the clip, and its way to there."""
        last = self.sights[-1].frame
        sight = self.sights[(frame - last - 1) % len(self.sights)]
        (size, place), (old, start) = (self.path.at(f - last) for f in (frame, sight.frame))
        return sight, (size / old, place - start)


class _Due:
    """Hold the expected place of a track in a frame, and the sights found there."""

    def __init__(self, track: Track, frame: int) -> None:
        self.track = track
        self.sight = track.last()
        self.frame = self.sight.frame
        self.path = track.path(self.frame)
        self.move = self.path.at(frame - self.frame)[1]
        self.sure = len(track.sights) >= _SHORTEST
        self.found: list[Sight] = []


class Things:
    """The things of a clip before a still or slow camera.

    Args:
        pictures: (h, w, 3) RGB, oldest first, as from one view.
    """

    def __init__(self, pictures: Sequence[Bytes]) -> None:
        """Find the plate, the things in each frame, and their tracks."""
        self.size = pictures[0].shape[:2]
        self._views, self.stands, drifts = _views(pictures)
        rows, columns = (np.arange(side) + 1 for side in self.size)
        inside = np.minimum.outer(
            *(np.minimum(k, k[::-1]).clip(0, _RAMP) for k in (rows, columns))
        )
        inside = (inside * (255 // _RAMP)).astype(np.uint8)
        count = len(pictures) * drifts
        self._seen = [self.steadied(k, inside, cv2.BORDER_CONSTANT) for k in range(count)]
        steady = [self.steadied(*each) for each in enumerate(pictures)]
        self.plate = self.plate_of(steady, range(len(steady)))
        self.pictures = [
            self.completed(k, each, self.plate) for k, each in enumerate(steady)
        ]
        self._bare = _lab(self.plate)
        # Before a camera that trembles, a place is compared with its neighbours, too.
        moves = (self._views != np.eye(3)).any()
        around = np.ones((3, 3) if moves else (1, 1), np.uint8)
        self._around = [
            cv2.subtract(found(self._bare, around), self._bare, dtype=cv2.CV_16S)
            for found in (cv2.erode, cv2.dilate)
        ]
        looks = [self.pictures[k] for k in spread(len(pictures), _FEW)]
        noise = np.quantile([self._difference(look) for look in looks], _FREE, 0)
        self._least = cv2.GaussianBlur(_LEAST + _NOISE * noise, (0, 0), 1.5)

    @property
    def drifts(self) -> bool:
        """Return whether the camera moves slowly."""
        return bool(self._seen)

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
        """Return a steady picture in which ``ground`` fills what the frame does not show."""
        if not self.drifts:
            return picture
        part = cv2.resize(self._seen[frame], picture.shape[1::-1])[..., None] / np.float32(
            255
        )
        made: Any = ground + part * (picture.astype(np.float32) - ground)
        return made if picture.dtype == np.float32 else np.rint(made).astype(np.uint8)

    def plate_of(self, pictures: Sequence[Bytes], frames: Sequence[int]) -> Bytes:
        """Return the plate of steady pictures of frames, the last one included."""
        # Different frames show what others do not: if one did, it would be most alike.
        made = [
            self.completed(*each, pictures[-1])
            for each in zip(frames, pictures, strict=True)
        ]
        each = zip(frames, pictures, reversed(made), strict=True)
        return plate_of([self.completed(*one) for one in each])

    @cached_property
    def masks(self) -> list[Mask]:
        """Where things are in each frame, 0 or 1."""
        return [self._mask(picture) for picture in self.pictures]

    @property
    def least_area(self) -> float:
        """Return the pixels of the smallest thing."""
        return float(max(_FEW_PIXELS, _SMALLEST * self.size[0] * self.size[1]))

    @cached_property
    def hold(self) -> bool:
        """Return whether the things can go on as wholes: few, and followed until they leave."""
        if not self.stands:
            return False
        masks = float(sum(mask.sum() for mask in self.masks))
        if not 0 < masks < _MOST_COVERED * len(self.masks) * self.masks[0].size:
            return False
        # What hides most of its way for long may be in the plate.
        usual = np.mean(self.masks, 0)
        if (usual > _OFTEN).sum() > _HIDDEN * usual.sum():
            return False
        seen = [track.seen for track in self.tracks]
        followed = sum(sight.area for sights in seen for sight in sights)
        largest = sum(max(sight.area for sight in sights) for sights in seen)
        frames: list[list[Sight]] = [[] for _ in self.masks]
        for sight in chain(*seen):
            frames[sight.frame].append(sight)
        crowded = sum(
            one.area
            for sights in frames
            for one in sights
            if any(one is not other and _near(one, other, _NEAR) for other in sights)
        )
        end = len(self.masks) - 1
        popped = 0
        far = 0.0
        for track, sights in zip(self.tracks, seen, strict=True):
            if track.since == track.begin > _PATIENCE and not self._at_edge(sights[0]):
                popped += sights[0].area
            if sights[-1].frame < end - _PATIENCE and not self._at_edge(sights[-1]):
                popped += sights[-1].area
            way = max(np.hypot(*(sight.centre - sights[0].centre)) for sight in sights)
            far += way * max(sight.area for sight in sights) ** 0.5
        return (
            followed > _FOLLOWED * masks
            and crowded < _CROWDED * followed
            and popped < _POPPED * largest
            and far > _FAR_WAY * largest
        )

    def _at_edge(self, sight: Sight, margin: int = 3) -> bool:
        if self.drifts and self._seen[sight.frame][sight.box].min() < 255:
            return True
        return any(
            each.start <= margin or each.stop >= side - margin
            for each, side in zip(sight.box, self.size, strict=True)
        )

    def _difference(self, picture: Bytes) -> Floats:
        """Return the difference to the plate in the light of the picture."""
        change = cv2.subtract(_lab(picture), self._bare, dtype=cv2.CV_16S)
        change -= np.median(change[::_COARSE, ::_COARSE], (0, 1)).astype(np.int16)
        total = cv2.transform(
            cv2.absdiff(change, np.clip(change, *self._around)), np.ones((1, 3))
        )
        found: Floats = cv2.GaussianBlur(total.astype(np.float32), (0, 0), 1)
        return found

    def _mask(self, picture: Bytes) -> Mask:
        mask = (self._difference(picture) > self._least).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((_GAPS, _GAPS), np.uint8))
        found: Mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return found

    def light(self, frame: int) -> Floats:
        """Return how much lighter a frame is than the plate: small, (h, w, 3), a ratio.

        The light behind things is that of their surroundings, the nearest first.
        """
        size = tuple(-(-side // _DIM) for side in reversed(self.size))
        free = 1 - cv2.dilate(self.masks[frame], np.ones((9, 9), np.uint8))[..., None]
        if self.drifts:
            free &= (self._seen[frame] == 255)[..., None]
        pairs = [
            cv2.resize((each * free).astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for each in (self.pictures[frame], self.plate, np.ones_like(self.plate))
        ]
        lighter: Floats = np.ones_like(pairs[0])
        for sigma in (size[0], 8, 4, 2, 1):
            one, two, known = (cv2.GaussianBlur(each, (0, 0), sigma) for each in pairs)
            part = (4 * known).clip(0, 1)
            lighter += part * ((one + 1) / (two + 1) - lighter)
        return lighter

    @cached_property
    def tracks(self) -> list[Track]:
        """The tracks of at least some sights."""
        tracks: list[Track] = []
        live: list[Track] = []
        for frame in range(len(self.masks)):
            live, new = self._continued(frame, live, self._blobs(frame))
            live += new
            tracks += new
        return [track for track in tracks if len(track.seen) >= _SHORTEST]

    def _blobs(self, frame: int) -> list[Sight]:
        mask = self.masks[frame]
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        blobs = []
        for number, (left, top, width, height, area) in enumerate(stats[1:], 1):
            if area >= self.least_area:
                box = slice(top, top + height), slice(left, left + width)
                shape = _filled((labels[box] == number).astype(np.uint8))
                blobs.append(self._sight(shape, int(left), int(top), frame, whole=True))
        return blobs

    def _sight(self, mask: Mask, left: int, top: int, frame: int, *, whole: bool) -> Sight:
        height, width = mask.shape
        moments = cv2.moments(mask, True)
        area = max(moments["m00"], 1)
        centre = np.array([left + moments["m10"] / area, top + moments["m01"] / area])
        shown = self.pictures[frame][top : top + height, left : left + width]
        colour = np.array(cv2.mean(shown, mask)[:3], np.float32)
        found = Sight(frame, mask, left, top, colour, int(area), centre, whole)
        return replace(found, clear=False) if self._at_edge(found, 1) else found

    def _continued(
        self, frame: int, live: list[Track], blobs: list[Sight]
    ) -> tuple[list[Track], list[Track]]:
        """Give each blob of a frame to its tracks.

        Return those that go on, and new ones.
        """
        due = [_Due(track, frame) for track in live]
        left = []
        for blob, owners in zip(blobs, self._owners(due, blobs), strict=True):
            if not owners:
                left.append(blob)
            elif _stay_together(owners):
                first = max(owners, key=lambda each: each.sight.area)
                first.track.since = min(each.track.since for each in owners)
                first.found.append(blob)
            else:
                self._divide(blob, owners)
        new = []
        for blob in left:
            # A part of a thing at its expected place, or a new thing.
            home = next((each for each in due if self._within(blob, each)), None)
            if home is not None:
                home.found.append(blob)
                continue
            near = [e.track.since for e in due if _near(e.sight, blob, _CLOSE)]
            new.append(Track(frame, min([frame, *near]), [blob]))
        for each in due:
            each.track.sights.append(
                self._joined(each.found, frame) if each.found else None
            )
        patient = (
            e.track for e in due if e.found or (e.sure and frame - e.frame < _PATIENCE)
        )
        return [*patient], new

    def _owners(self, due: Sequence[_Due], blobs: Sequence[Sight]) -> list[list[_Due]]:
        """Return the tracks of each blob: the most alike, and those expected in its place."""
        owners: list[list[_Due]] = [[] for _ in blobs]
        costs = [
            (cost, k, j)
            for k, each in enumerate(due)
            for j, blob in enumerate(blobs)
            if (cost := _unlike(each.sight, blob, each.sight.centre + each.move)) < _WORST
        ]
        given = set()
        for _, k, j in sorted(costs):
            if k not in given and not owners[j]:
                owners[j].append(due[k])
                given.add(k)
        for k, each in enumerate(due):
            if k not in given and each.sure and blobs:
                covered = [self._overlap(blob, each, 0) for blob in blobs]
                if max(covered) >= _OVERLAP * each.sight.area:
                    owners[int(np.argmax(covered))].append(each)
        return owners

    def _within(self, blob: Sight, due: _Due) -> bool:
        near = any(_near(other, blob, _NEAR) for other in due.found)
        covered = self._overlap(blob, due, _CLOSE) if near else 0
        return blob.area < due.sight.area and covered > blob.area / 2

    def _overlap(self, blob: Sight, due: _Due, wider: int) -> int:
        """Return the pixels of a blob at the expected place of a thing, widened by some pixels."""
        if not _near(due.sight, blob, wider, due.move):
            return 0
        return int((self._expected(due, wider)[blob.box] & blob.mask).sum())

    def _expected(self, due: _Due, wider: int = 0) -> Mask:
        """Return the mask of the whole picture with a thing at its expected place."""
        moved: Mask = shifted(
            self.alone(due.sight, wider), due.move.round(), cv2.BORDER_CONSTANT
        )
        return moved

    def alone(self, sight: Sight, wider: int = 0) -> Mask:
        """Return the mask of the whole picture with one thing, widened by some pixels."""
        mask = np.zeros(self.size, np.uint8)
        mask[sight.box] = sight.mask
        return cv2.dilate(mask, _disc(wider)).astype(np.uint8) if wider else mask

    def _divide(self, blob: Sight, owners: Sequence[_Due]) -> None:
        """Divide things that touch: each pixel goes to the thing that is expected nearest."""
        far = []
        for each in owners:
            expected = 1 - self._expected(each)
            expected[0, 0] = 0  # no distance is infinite
            far.append(cv2.distanceTransform(expected, cv2.DIST_L2, 3)[blob.box])
        nearest = np.argmin(far, 0)
        for k, each in enumerate(owners):
            mask = (blob.mask & (nearest == k)).astype(np.uint8)
            if mask.any():
                each.found.append(
                    self._sight(mask, blob.left, blob.top, blob.frame, whole=False)
                )

    @cached_property
    def going(self) -> list[Going]:
        """The things that go on after the last frame, farthest first.

        Things that touch go on as one, because nobody knows where one ends.
        """
        end = len(self.pictures) - 1
        groups: list[list[Track]] = []
        for track in self.tracks:
            sight = track.last()
            if sight.frame < end - _PATIENCE:
                continue
            apart = [
                g
                for g in groups
                if not any(self._touch(sight, other.last()) for other in g)
            ]
            joined = [other for g in groups if g not in apart for other in g]
            groups = [*apart, [track, *joined]]
        going = []
        for group in groups:
            first = max(group, key=lambda each: (each.last().frame, each.last().area))
            sight = self._joined([each.last() for each in group], first.last().frame)
            path = first.path(sight.frame)
            path = replace(path, velocity=self._traced(sight, path))
            sights = self._period(first) if len(group) == 1 else (sight,)
            going.append(Going(tuple(group), sights, path))
        return sorted(going, key=lambda each: each.sights[-1].box[0].stop)

    def _period(self, track: Track) -> tuple[Sight, ...]:
        """Return the last sights of a track that come again, oldest first.

        Or the last alone.
        """
        shortest, longest = _PERIODS
        frames = range(
            track.last().frame, max(track.begin, track.end - 2 * longest) - 1, -1
        )
        seen = (sight for k in frames if (sight := track.sight(k)))
        sights = [*takewhile(lambda sight: sight.clear, seen)]
        # A sight is missing where another thing hides this one.
        sights = sights[
            : next((k for k, s in enumerate(sights) if s.frame != frames[k]), None)
        ]
        looks = np.array([self._look(sight) for sight in sights])
        apart = [
            np.mean([np.abs(looks[k] - looks[k + lag]).mean() for k in range(3)])
            for lag in range(1, len(sights) // 2)
        ]
        lags = range(shortest, len(apart) + 1)
        again = [lag for lag in lags if apart[lag - 1] < _LIKE * max(apart[:lag])]
        best = min(again, key=lambda lag: apart[lag - 1], default=1)
        return tuple(sights[best - 1 :: -1]) or (track.last(),)

    def _look(self, sight: Sight) -> Floats:
        """Return a small picture of a thing without its ground."""
        grey = cv2.cvtColor(self.pictures[sight.frame][sight.box], cv2.COLOR_RGB2GRAY)
        look = np.where(
            sight.mask > 0, grey.astype(np.float32) - grey[sight.mask > 0].mean(), 0
        )
        made: Floats = cv2.resize(look, _LOOK, interpolation=cv2.INTER_AREA)
        return made

    def _touch(self, one: Sight, other: Sight) -> bool:
        return _near(one, other, 2) and bool(
            (self.alone(one, 2)[other.box] & other.mask).any()
        )

    def _traced(self, sight: Sight, path: Path) -> Place:
        """Return the velocity of a thing, by its picture in the frames before."""
        frame = sight.frame
        way = [0.0]
        places = [np.zeros(2)]
        move = -path.velocity
        # What the edge of the picture cuts off was more or less in the frames before.
        box = self._inner(sight)
        shape = self.alone(sight)[box]
        corner = np.array([box[1].start, box[0].start])
        for steps in range(1, min(_TRACED, frame) + 1):
            size, _ = path.at(-steps)
            extent = [max(1, round(side * size)) for side in shape.shape[::-1]]
            shown = cv2.resize(
                self.pictures[frame][box], extent, interpolation=cv2.INTER_AREA
            )
            mask = cv2.resize(shape, extent, interpolation=cv2.INTER_NEAREST)
            # The thing has this corner if its centre goes along the path.
            still = sight.centre + size * (corner - sight.centre)
            reach = _SEARCH + (0 if steps > 1 else int(np.abs(move).max() / 2))
            least = np.maximum(np.round(still + places[-1] + move).astype(int) - reach, 0)
            right, bottom = least + extent + 2 * reach
            window = self.pictures[frame - steps][least[1] : bottom, least[0] : right]
            if window.shape[0] < extent[1] or window.shape[1] < extent[0] or not mask.any():
                break
            errors = cv2.matchTemplate(window, shown, cv2.TM_SQDIFF, mask=mask)
            row, column = (
                int(each) for each in np.unravel_index(np.argmin(errors), errors.shape)
            )
            found = [
                column + _vertex(errors[row], column),
                row + _vertex(errors[:, column], row),
            ]
            place = least + found - still
            move = place - places[-1]
            places.append(place)
            way.append(-steps * size)
        if len(places) < 3:
            return path.velocity
        velocity: Place = np.polyfit(way, np.array(places), 1)[0]
        return (velocity + path.velocity) / 2 if sight.clear else velocity

    def _inner(self, sight: Sight) -> Area:
        """Return the box of a sight, less at each edge of the picture that it touches."""
        rows, columns = (
            slice(
                each.start + less * (each.start < 2),
                each.stop - less * (each.stop > end - 2),
            )
            for each, end in zip(sight.box, self.size, strict=True)
            for less in [int(_CUT * (each.stop - each.start))]
        )
        return rows, columns

    def _joined(self, parts: Sequence[Sight], frame: int) -> Sight:
        if len(parts) == 1:
            return parts[0]
        mask = np.zeros(self.size, np.uint8)
        for part in parts:
            mask[part.box] |= part.mask
        box = area_of(mask)
        whole = all(part.clear for part in parts)
        return self._sight(mask[box], box[1].start, box[0].start, frame, whole=whole)


class Stage:
    """Full-size pictures with things added and removed; values in [0, 1].

    Args:
        things: the things, in smaller pictures or in these.
        picture: returns a frame, (H, W, 3) RGB, as from the view of the last.
        plate: the plate at full size.
    """

    def __init__(
        self, things: Things, picture: Callable[[int], Floats], plate: Bytes
    ) -> None:
        self._things, self._picture = things, picture
        self._plate = plate.astype(np.float32) / 255
        self._scale = np.array(plate.shape[1::-1]) / things.size[::-1]  # of x and y
        self._light = cache(things.light)

    def clear(self, target: Floats, frame: int, sights: Sequence[Sight]) -> None:
        """Replace things of a frame by the plate in the light of the frame."""
        for sight in sights:
            at, soft = self._mattes(sight, _RIM)
            target[at] += (self._plate[at] * self._lit(frame, at) - target[at]) * soft

    def paint(
        self, target: Floats, light: int, sight: Sight, to: Way = _HERE, part: float = 1
    ) -> None:
        """Paint the thing of a sight, in a frame, over a target that has the light of a frame.

        ``to`` is its size and its motion since the sight, in pixels of the small pictures;
        ``part`` is how much of it is seen. Where the thing ends and its shadow begins, what
        the frame adds to the plate is added instead.
        """
        at, mattes = self._mattes(sight, 1, _RIM)
        shown = self._picture(sight.frame)[at] / self._lit(sight.frame, at)
        parts = [shown, shown - self._plate[at], mattes]
        size, move = to
        rows, columns = at
        place = at
        if size != 1 or move.any():
            # From positions in the picture to positions in the picture.
            centre = (sight.centre + 0.5) * self._scale - 0.5
            motion = np.column_stack(
                [size * np.eye(2), (1 - size) * centre + move * self._scale]
            )
            corners = np.array([[columns.start, rows.start], [columns.stop, rows.stop]])
            least, most = corners * size + motion[:, 2]
            left, top = np.maximum(np.floor(least), 0).astype(int)
            right, bottom = np.minimum(np.ceil(most), target.shape[1::-1]).astype(int)
            if left >= right or top >= bottom:
                return
            place = slice(top, bottom), slice(left, right)
            motion[:, 2] += motion[:, :2] @ corners[0] - (left, top)
            extent = (int(right - left), int(bottom - top))
            parts = [
                cv2.warpAffine(p, motion, extent, flags=cv2.INTER_CUBIC) for p in parts
            ]
        shown, rest, mattes = parts
        matte, rim = (part * mattes.clip(0, 1)[..., k : k + 1] for k in (0, 1))
        below = target[place]
        lit = self._lit(light, place)
        target[place] = (
            below + matte * (shown * lit - below) + (1 - matte) * rim * rest * lit
        )

    def ground(self, frame: int) -> Floats:
        """Return the plate in the light of a frame."""
        rows, columns = (slice(0, side) for side in self._plate.shape[:2])
        return np.multiply(self._plate, self._lit(frame, (rows, columns)), dtype=np.float32)

    def _lit(self, frame: int, at: Area) -> Floats:
        """Return the light of a frame in an area, relative to the plate."""
        light = self._light(frame)
        return self._sampled(
            light, np.array(light.shape[1::-1]) / self._plate.shape[1::-1], at
        )

    def _sampled(
        self, values: Floats, scale: Place, at: Area, left: int = 0, top: int = 0
    ) -> Floats:
        """Return smaller values, which begin at ``left`` and ``top``, in a full-size area."""
        rows, columns = at
        start = (np.array([columns.start, rows.start]) + 0.5) * scale - 0.5 - (left, top)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        motion = np.diag(scale)
        how = {
            "flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            "borderMode": cv2.BORDER_REPLICATE,
        }
        made: Floats = cv2.warpAffine(values, np.column_stack([motion, start]), size, **how)
        return made

    def _mattes(self, sight: Sight, *reaches: int) -> tuple[Area, Floats]:
        """Return the full-size area of a sight, and its soft mask, widened by pixels each."""
        rows, columns = (
            slice(max(each.start - 2 * _RIM, 0), min(each.stop + 2 * _RIM, side))
            for each, side in zip(sight.box, self._things.size, strict=True)
        )
        edges = (self._things.alone(sight, reach)[rows, columns] for reach in reaches)
        soft = [cv2.GaussianBlur(edge.astype(np.float32), (0, 0), _SOFT) for edge in edges]
        width, height = self._scale
        at = (
            slice(int(rows.start * height), int(np.ceil(rows.stop * height))),
            slice(int(columns.start * width), int(np.ceil(columns.stop * width))),
        )
        mattes = self._sampled(
            np.dstack(soft), 1 / self._scale, at, columns.start, rows.start
        )
        return at, mattes.reshape(*mattes.shape[:2], -1)


def things_in(pictures: Sequence[Bytes]) -> Things:
    """Return the things in pictures of any size."""
    scale = min(1.0, SIDE / max(pictures[0].shape))
    size = [max(1, round(side * scale)) for side in pictures[0].shape[1::-1]]
    return Things(
        [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures]
    )


def stage_of(things: Things, pictures: Sequence[Bytes]) -> Stage:
    """Return the stage of full-size pictures, (H, W, 3) RGB, whose small ones have the things."""
    steady = [things.steadied(*each) for each in enumerate(pictures)]
    plate = things.plate_of(steady, range(len(steady)))
    return Stage(things, lambda frame: steady[frame].astype(np.float32) / 255, plate)


def _disc(reach: int) -> Mask:
    side = 2 * reach + 1
    disc: Mask = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)
    return disc


def spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` frames, evenly spread."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(count, most))})


def shifted(picture: Any, shift: Place, outside: int = cv2.BORDER_REPLICATE) -> Any:
    """Return a picture moved by (dx, dy) pixels."""
    if not shift.any():
        return picture
    motion = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    how = {"flags": cv2.INTER_CUBIC, "borderMode": outside}
    return cv2.warpAffine(picture, motion, picture.shape[1::-1], **how)


def _views(pictures: Sequence[Bytes]) -> tuple[NDArray[np.float64], bool, bool]:
    """Return the motion from the last view to each frame, (n, 3, 3), and what the camera does.

    That is whether all frames show one view, as before a camera that trembles, and whether
    the camera moves slowly.

    Source: phase correlation, Kuglin and Hines 1975, in OpenCV's version.
    """
    # OpenCV's phase correlation is wrong by half a pixel along odd sides.
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
    found = np.zeros((len(small), 2))
    for place, each in zip(found, small, strict=True):
        # OpenCV writes into the pictures that it gets.
        shift = np.array(cv2.phaseCorrelate(each.copy(), usual.copy(), window)[0])
        far, near = (
            cv2.absdiff(x, usual)[lines].mean() for x in (each, shifted(each, shift))
        )
        # A large thing has a motion of its own, which brings the rest no nearer.
        if np.abs(shift).max() < _AWAY * columns and near < _NEARER * far:
            place[:] = shift
    few = spread(len(small), _FEW)
    stands = _last([shifted(small[k], found[k]) for k in few], usual)
    drifts = False
    views = np.tile(np.eye(3), (len(small), 1, 1))
    if np.quantile(np.abs(found), 0.9) * pictures[0].shape[1] >= _TREMBLES * columns:
        views[:, :2, 2] = found[-1] - found
    if not stands and (motions := _followed(greys)) is not None:
        looks = [
            sampled_at(small[k], carried(motions[k], grid_of((rows, columns)))) for k in few
        ]
        drifts = stands = _last(looks, np.median(looks, 0))
        views = motions if drifts else views
    scale = pictures[0].shape[1] / columns
    return np.array([scaled(view, scale) for view in views]), stands, drifts


def _followed(greys: Sequence[Bytes]) -> NDArray[np.float64] | None:
    """Return the motion from the last view to each frame, if the camera moves slowly."""
    count = len(greys)
    size = greys[0].shape
    known = [*range(count - 1, 0, -_EACH), 0]
    motions = []
    motion = np.eye(3)
    for k in known:
        motion = motion @ step_between(greys[-1], sampled(greys[k], motion))
        if travelled(motion, size) > _FARTHEST * size[1]:
            return None
        motions.append(motion.ravel())
    terms = np.array(motions[::-1]).T
    every = [np.interp(range(count), known[::-1], term) for term in terms]
    return np.array(every).T.reshape(-1, 3, 3)


def _last(looks: Sequence[Floats], usual: Floats) -> bool:
    """Return whether the usual look has most of the detail of the looks."""
    detail = np.median([_detail(each) for each in looks], 0)
    textured = detail > _TEXTURED
    lasting = _detail(usual)[textured] > _STANDS * detail[textured]
    return bool(len(lasting) and np.average(lasting, weights=detail[textured]) > 0.5)


def _detail(values: Floats) -> Floats:
    found: Floats = cv2.blur(np.square(values), (15, 15))
    return found


def plate_of(pictures: Sequence[Bytes]) -> Bytes:
    """Return the usual picture of a clip, in the light of its last frame.

    A frame in another light counts in the light of the others, so that no place keeps the
    light of those frames in which a thing leaves the place free.
    """
    chosen = [pictures[k] for k in spread(len(pictures), LOOKS)]
    grid = [picture[::_COARSE, ::_COARSE] + np.float32(1) for picture in chosen]
    usual = np.median(grid, 0)
    gains = [np.median(each / usual, (0, 1)) for each in grid]
    gains = [gains[-1] / gain for gain in gains]
    if np.ptp(gains) > _EVEN:
        chosen = [
            cv2.multiply(picture, np.array([*gain, 1]), dtype=cv2.CV_8U)
            for picture, gain in zip(chosen, gains, strict=True)
        ]
    bands = range(0, len(chosen[0]), _BAND)
    return np.vstack([_agreed([look[k : k + _BAND] for look in chosen]) for k in bands])


def _agreed(looks: Sequence[Bytes]) -> Bytes:
    """Return the mean of those looks of each place that are most alike.

    Things that wait hide a place for longer than they leave it free, but no two look the
    same.

    Source: half-sample mode, Bickel and Frühwirth 2006, in one step.
    """
    greys = [cv2.cvtColor(look, cv2.COLOR_RGB2GRAY) for look in looks]
    # Dark things have little contrast, so ratios are compared.
    keys = np.log(
        np.stack([cv2.GaussianBlur(grey, (0, 0), 1) for grey in greys]) + np.float32(_DARK)
    )
    ranked = np.sort(keys, 0)
    agree = round(_AGREE * len(looks))
    first = (ranked[agree:] - ranked[: len(looks) - agree]).argmin(0)[None]
    least, most = (np.take_along_axis(ranked, first + k, 0)[0] for k in (0, agree))
    total = np.zeros(looks[0].shape, np.float32)
    inside = ((keys >= least) & (keys <= most)).astype(np.uint8)
    for look, part in zip(looks, inside, strict=True):
        cv2.accumulate(look, total, mask=part)
    agreed: Bytes = np.rint(total / inside.sum(0)[..., None]).astype(np.uint8)
    return agreed


def _filled(mask: Mask) -> Mask:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: Mask = np.zeros_like(mask)
    cv2.drawContours(filled, outlines, -1, 1, -1)
    return filled


def _lab(picture: Bytes) -> Bytes:
    lab: Bytes = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    return lab


def _unlike(one: Sight, other: Sight, place: Place) -> float:
    """Return how little a blob is like a thing at a place; below 1 both are much alike."""
    away = np.hypot(*(other.centre - place)) / (_REACH + _FAR * one.area**0.5)
    larger = abs(np.log(other.area / one.area)) / (1 if one.clear and other.clear else 2)
    return float(away + larger + np.abs(one.colour - other.colour).sum() / 90)


def _vertex(values: Floats, at: int) -> float:
    """Return the place of the minimum between values, relative to the least one."""
    if not 0 < at < len(values) - 1:
        return 0.0
    one, two, three = (float(value) for value in values[at - 1 : at + 2])
    bend = max(one - 2 * two + three, 1e-9)
    return 0.5 * (one - three) / bend


def _stay_together(owners: Sequence[_Due]) -> bool:
    """Return whether tracks are parts of one thing, or of things that stay together."""
    ways = np.array([each.path.velocity for each in owners])
    apart, fastest = (np.hypot(*each.T).max() for each in (ways - ways.mean(0), ways))
    return bool(apart < _SAME[0] + _SAME[1] * fastest)


def _near(one: Sight, other: Sight, margin: int, move: Place = _HERE[1]) -> bool:
    """Return whether the boxes are near each other, the first one after a motion."""
    return all(
        a.start + by - margin < b.stop and b.start - margin < a.stop + by
        for a, b, by in zip(one.box, other.box, move[::-1].round(), strict=True)
    )
