"""Follow things through a clip: from the silhouettes of its frames to tracks.

The silhouette of a thing in one frame is a sight. Sights that follow each other are a
track.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from cloudconv.forecasting.camera import (
    SLOW,
)
from cloudconv.forecasting.plate import (
    RIM,
    Mask,
    Plate,
    Vector,
)
from cloudconv.images import (
    Area,
    Floats,
    bounds,
    connected,
    disc,
    solid,
    translate,
)

PATIENCE = 5
"""The most frames for which a thing may be hidden, and the fewest sights that count."""
PACED = 6
"""The number of frames in which a velocity shows."""
NEAR = 10
"""The largest distance, in pixels, between parts of one thing, or in a crowd of things."""
HALF = 0.5
"""The distance from a place, in sides of a thing, from which on a thing is elsewhere."""
SEARCH = 4
"""The pixels around the expected place of a thing where its picture is sought."""
_SMALLEST = 2e-4  # area of a thing, as a part of the picture
_OVERLAP = 0.3  # part of a thing that a mask covers at the expected place
_WORST = 2.2  # largest cost of a match


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing in a frame: its mask, 0 or 1, of the area ``box``, and its mean colour.

    ``clear``: the picture shows all of the thing; no edge and no other thing cuts it.
    """

    frame: int
    mask: Mask
    box: Area
    colour: Floats
    area: int
    centre: Vector
    clear: bool


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
    def visible(self) -> list[Sight]:
        """Return the sights of the frames in which the thing is seen."""
        return [sight for sight in self.sights if sight]

    def last(self) -> Sight:
        """Return the latest sight."""
        return next(sight for sight in reversed(self.sights) if sight)

    def clear(self, frame: int, frames: int) -> list[Sight]:
        """Return the latest sights up to a frame, whole ones if there are enough."""
        first = max(self.begin, frame - frames + 1)
        seen = [sight for k in range(first, frame + 1) if (sight := self.sight(k))]
        whole = [sight for sight in seen if sight.clear]
        return whole if len(whole) > 2 or len(whole) > len(seen) / 2 else seen

    def velocity(self, frame: int) -> Vector:
        """Return the motion in a frame after a frame, from the sights before."""
        seen = self.clear(frame, 2 * PACED)
        if len(seen) < 2:
            return np.zeros(2)
        frames, centres = (
            [sight.frame for sight in seen],
            np.array([s.centre for s in seen]),
        )
        velocity: Vector = np.polyfit(frames, centres, 1)[0]
        return velocity


class _Due:
    """A track with its expected place in a frame, and the sights found there."""

    def __init__(self, track: Track, frame: int) -> None:
        self.track, self.sight = track, track.last()
        self.frame = self.sight.frame
        self.velocity = track.velocity(self.frame)
        self.move = self.velocity * (frame - self.frame)
        self.sure = len(track.sights) >= PATIENCE
        self.found: list[Sight] = []


def tracks_of(plate: Plate) -> list[Track]:
    """Return the tracks of the things before a plate, of at least some sights."""
    tracks: list[Track] = []
    live: list[Track] = []
    for frame in range(plate.count):
        live, new = _continued(plate, frame, live, _blobs(plate, frame))
        live += new
        tracks += new
    return [track for track in tracks if len(track.visible) >= PATIENCE]


def _blobs(plate: Plate, frame: int) -> list[Sight]:
    parts = connected(plate.mask(frame), least_area(plate.size))
    boxes = [bounds(part) for part in parts]
    return [
        sight_of(plate, solid(part[box]), box, frame, whole=True)
        for part, box in zip(parts, boxes, strict=True)
    ]


def _continued(
    plate: Plate, frame: int, live: list[Track], blobs: list[Sight]
) -> tuple[list[Track], list[Track]]:
    """Give each blob of a frame to its tracks; return live tracks and new ones."""
    due = [_Due(track, frame) for track in live]
    left = []
    for blob, owners in zip(blobs, _owners(plate, due, blobs), strict=True):
        if not owners:
            left.append(blob)
        elif _stay_together(owners):
            first = max(owners, key=lambda owner: owner.sight.area)
            first.track.since = min(owner.track.since for owner in owners)
            first.found.append(blob)
        else:
            _divide(plate, blob, owners)
    new = []
    for blob in left:
        # A part of a thing at its expected place, or a new thing.
        home = next(
            (candidate for candidate in due if _within(plate, blob, candidate)), None
        )
        if home is not None:
            home.found.append(blob)
            continue
        beside = [e.track.since for e in due if near(e.sight, blob, RIM)]
        new.append(Track(frame, min([frame, *beside]), [blob]))
    for thing in due:
        thing.track.sights.append(
            joined_sight(plate, thing.found, frame) if thing.found else None
        )
    patient = (e.track for e in due if e.found or (e.sure and frame - e.frame < PATIENCE))
    return [*patient], new


def _owners(plate: Plate, due: Sequence[_Due], blobs: Sequence[Sight]) -> list[list[_Due]]:
    """Return the tracks of each blob: the most alike, and those expected there."""
    owners: list[list[_Due]] = [[] for _ in blobs]
    costs = [
        (cost, k, j)
        for k, thing in enumerate(due)
        for j, blob in enumerate(blobs)
        if (cost := _unlike(thing.sight, blob, thing.sight.centre + thing.move)) < _WORST
    ]
    assigned = set()
    for _, k, j in sorted(costs):
        if k not in assigned and not owners[j]:
            owners[j].append(due[k])
            assigned.add(k)
    for k, thing in enumerate(due):
        if k not in assigned and thing.sure and blobs:
            covered = [_overlap(plate, blob, thing, 0) for blob in blobs]
            if max(covered) >= _OVERLAP * thing.sight.area:
                owners[int(np.argmax(covered))].append(thing)
    return owners


def _within(plate: Plate, blob: Sight, due: _Due) -> bool:
    beside = any(near(other, blob, NEAR) for other in due.found)
    covered = _overlap(plate, blob, due, RIM) if beside else 0
    return blob.area < due.sight.area and covered > blob.area / 2


def _overlap(plate: Plate, blob: Sight, due: _Due, wider: int) -> int:
    """Return the pixels of a blob at the expected place of a thing, widened."""
    if not near(due.sight, blob, wider, due.move):
        return 0
    return int((_expected(plate, due, wider)[blob.box] & blob.mask).sum())


def _expected(plate: Plate, due: _Due, wider: int) -> Mask:
    """Return the mask of the whole picture with a thing at its expected place."""
    shape = alone(due.sight, plate.size, wider)
    return translate(shape, due.move.round(), cv2.BORDER_CONSTANT)


def _divide(plate: Plate, blob: Sight, owners: Sequence[_Due]) -> None:
    """Divide things that touch: each pixel goes to the thing expected nearest."""
    far = []
    for owner in owners:
        expected = 1 - _expected(plate, owner, 0)
        expected[0, 0] = 0  # no distance is infinite
        far.append(cv2.distanceTransform(expected, cv2.DIST_L2, 3)[blob.box])
    nearest = np.argmin(far, 0)
    for k, owner in enumerate(owners):
        mask = (blob.mask & (nearest == k)).astype(np.uint8)
        if mask.any():
            owner.found.append(sight_of(plate, mask, blob.box, blob.frame, whole=False))


def least_area(size: Sequence[int]) -> float:
    """Return the pixels of the smallest thing in a picture of a size, (h, w)."""
    return _SMALLEST * size[0] * size[1]


def sight_of(plate: Plate, mask: Mask, box: Area, frame: int, *, whole: bool) -> Sight:
    """Return the sight of a mask of an area; ``whole``: no other thing cuts it."""
    moments = cv2.moments(mask, True)
    area = max(moments["m00"], 1)
    rows, columns = box
    centre = np.array(
        [columns.start + moments["m10"] / area, rows.start + moments["m01"] / area]
    )
    colour = np.array(cv2.mean(plate.steady(frame)[box], mask)[:3], np.float32)
    sight = Sight(frame, mask, box, colour, int(area), centre, whole)
    return replace(sight, clear=False) if at_edge(plate, sight, 1) else sight


def joined_sight(plate: Plate, parts: Sequence[Sight], frame: int) -> Sight:
    """Return the sight of all parts of a thing in a frame."""
    if len(parts) == 1:
        return parts[0]
    mask = np.zeros(plate.size, np.uint8)
    for sight in parts:
        mask[sight.box] |= sight.mask
    box = bounds(mask)
    whole = all(sight.clear for sight in parts)
    return sight_of(plate, mask[box], box, frame, whole=whole)


def at_edge(plate: Plate, sight: Sight, margin: int = RIM) -> bool:
    """Return whether the edge of the picture may cut a sight."""
    if not plate.shows(sight.frame, sight.box):
        return True
    return any(
        side.start <= margin or side.stop >= end - margin
        for side, end in zip(sight.box, plate.size, strict=True)
    )


def alone(sight: Sight, size: tuple[int, ...], wider: int) -> Mask:
    """Return the mask of the whole picture with one thing, widened by some pixels."""
    mask = np.zeros(size, np.uint8)
    mask[sight.box] = sight.mask
    return cv2.dilate(mask, disc(wider)).astype(np.uint8) if wider else mask


def near(one: Sight, other: Sight, margin: int, move: Vector | None = None) -> bool:
    """Return whether the boxes are near each other, the first one after a motion."""
    moves = (0, 0) if move is None else move[::-1].round()
    return all(
        a.start + by - margin < b.stop and b.start - margin < a.stop + by
        for a, b, by in zip(one.box, other.box, moves, strict=True)
    )


def _unlike(one: Sight, other: Sight, place: Vector) -> float:
    """Return how little a blob is like a thing at a place; below 1 both are much alike."""
    away = np.hypot(*(other.centre - place)) / (NEAR + HALF * one.area**0.5)
    larger = abs(np.log(other.area / one.area)) / (1 if one.clear and other.clear else 2)
    return float(away + larger + np.abs(one.colour - other.colour).sum() / 90)


def _stay_together(owners: Sequence[_Due]) -> bool:
    """Return whether tracks are parts of one thing, or of things that stay together."""
    ways = np.array([owner.velocity for owner in owners])
    return bool(np.hypot(*(ways - ways.mean(0)).T).max() < SLOW)
