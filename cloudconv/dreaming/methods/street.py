"""Continue a street: things leave as wholes along their way, and come in as the clip shows them.

The dream consists of pieces of the clip. At the begin of a piece its background follows the old
one. Things that it shows at that moment are hidden until they have left; things that enter later
are shown. The things of the piece before stay in front, in their own later frames or moved on,
until they have left. Source: Schödl and Essa, Controlled Animation of Video Sprites, 2002.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.images import Floats
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Options
from cloudconv.forecasting.things import (
    FEWEST,
    LARGEST,
    PACED,
    Going,
    Stage,
    Track,
    Way,
    plate_of,
    shifted,
    spread,
)

_TAIL = 1.5  # time for which the clip goes on behind a jump, for things that have not left, seconds
_FADE = 0.4  # duration of the change of backgrounds, in seconds
_LOOKS = 21  # frames of the plate at full size
_PART = 1 / 3  # shortest piece, as a part of the clip
_APART = 0.5  # starts of pieces nearer than this are alike, in seconds
_LIGHT = 0.02  # cost of a level of difference of the light
_WAIT = 0.02  # cost of a second in which nothing enters
_MEETS = 0.1  # cost of things that enter too soon
_LARGE = 0.2  # area of a thing that counts, as a part of the largest
_FIRST = 5  # frames in which nothing can have entered
_KEPT = 4  # frames in memory
_STANDS = 0.3  # pixels per frame
_WAITS, _GOES = 2.0, 1.5  # seconds for which a thing that stands is seen, and until it has gone
_LONGEST = 12.0  # seconds for which a thing is moved on
_LIKELY, _FARTHEST = 0.6, 400  # largest difference of things on a lane; frames of a course
_SLOW, _BLOT = 0.1, 8  # pixels in a frame; side of a thing that cannot grow


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the dream, from the time ``begins`` on: time ``t`` shows frame ``t + offset``.

    Its things have entered after frame ``after``.
    """

    begins: int
    offset: int
    after: int


def goes_on(material: Material, options: Options) -> bool:
    """Return whether the things of a clip can go on as wholes, and others come in."""
    if options.loop or len(material) < FEWEST or material.path is not None:
        return False
    things = material.things
    return things.hold and any(track.since > _FIRST for track in things.tracks)


class Street:
    """The pictures of a clip whose things hold; see :class:`~cloudconv.forecasting.things.Things`.

    Args:
        material: the frames.
        seed: any integer; another seed gives other pieces.
    """

    def __init__(self, material: Material, seed: int) -> None:
        """Make the plate."""
        self._material, self._things = material, material.things
        self._random = np.random.default_rng(seed)
        self._count, self._step = len(material), float(material.step)
        self._picture = lru_cache(_KEPT)(self._shown)
        looks = [self._picture(k) for k in spread(self._count, _LOOKS)]
        levels = [np.rint(255 * look.clip(0, 1)).astype(np.uint8) for look in looks]
        self._stage = Stage(self._things, self._picture, plate_of(levels))
        self._tail = min(round(_TAIL / self._step), self._count // 4)
        self._fade = round(_FADE / self._step)
        lanes = lanes_of(self._things.tracks)
        self._going = [along(each, lanes) for each in self._things.going]
        seen = [track.seen for track in self._things.tracks]
        covered = np.zeros(self._count)
        for sight in chain(*seen):
            covered[sight.frame] += sight.area
        # Neither small things nor those that enter after the end of a piece count.
        large = _LARGE * max(sight.area for sight in chain(*seen))
        self._entries = [
            (sights[0].frame, next((s.frame for s in sights if s.clear), sights[-1].frame))
            for sights in seen
            if max(s.area for s in sights) > large
            and _FIRST < sights[0].frame < self._count - self._tail
        ]
        """The frames in which large things enter, and in which all of each is seen."""
        self._covered = covered / self._things.plate[..., 0].size
        self._levels = np.array([each.mean((0, 1)) for each in self._things.pictures])

    def _shown(self, k: int) -> Floats:
        """Return a frame as from the last view: (H, W, 3)."""
        picture = self._material.shown(k).cpu().permute(1, 2, 0).numpy()
        scale = picture.shape[1] / self._things.size[1]
        made: Floats = shifted(picture, scale * self._things.shifts[k])
        return made

    def pictures(self, frames: int) -> Iterator[Tensor]:
        """Yield the frames of the dream, (3, H, W)."""
        end, longest = self._count - 1, _LONGEST / self._step
        pieces = [_Piece(0, end, -1)]
        for time in range(1, frames + 1):
            if time + pieces[-1].offset > end - self._tail * (pieces[-1].after >= 0):
                pieces = [p for p in pieces if time + p.offset < self._count + longest] + [
                    self._next(time, pieces)
                ]
            made = self._made(time, pieces)
            yield torch.from_numpy(made).permute(2, 0, 1).to(self._material.device)

    def _next(self, time: int, pieces: Sequence[_Piece]) -> _Piece:
        """Return the piece that begins at a time, where few things are and others come soon."""
        shortest = max(self._tail + self._fade, round(_PART * self._count))
        starts = np.arange(max(1, self._count - shortest))
        costs = self._covered[starts] + 0.01 * self._random.random(len(starts))
        now = min(time - 1 + pieces[-1].offset, self._count - 1)
        costs += _LIGHT * np.abs(self._levels[starts] - self._levels[now]).max(1)
        soon = np.array([self._count] + [first for first, _ in self._entries])[:, None] - starts
        soon = np.where(soon > 0, soon, self._count).min(0)
        # A thing that enters before the last one is there would run into it.
        there = [
            whole - piece.offset
            for piece in pieces
            for first, whole in self._entries
            if first > piece.after and first - piece.offset < time
        ]
        costs += _WAIT * self._step * soon + _MEETS * (time + soon <= max(there, default=0))
        for piece in pieces[-3:]:
            away = np.abs(starts - piece.after) * self._step / _APART
            costs += 0.1 * np.exp(-np.square(away))
        start = int(costs.argmin())
        return _Piece(time, start - time, start)

    def _made(self, time: int, pieces: Sequence[_Piece]) -> Floats:
        now, before = pieces[-1], pieces[-2]
        frame = time + now.offset
        part = (time - now.begins + 1) / (self._fade + 1)
        fades = part < 1
        made = self._bare(frame, [t for t in self._things.tracks if fades or t.since <= now.after])
        if fades:
            old = min(time + before.offset, self._count - 1)
            bare = self._bare(old, self._things.tracks)
            made = bare + np.float32(part) * (made - bare)
            entered = [t for t in self._things.tracks if t.since > now.after]
            for track in entered:
                if (sight := track.sight(frame)) is not None:
                    self._stage.paint(made, frame, sight)
        for piece, later in pairwise(pieces):
            self._leave(made, frame, piece, later.begins, time)
        return made

    def _bare(self, frame: int, tracks: Sequence[Track]) -> Floats:
        made = self._picture(frame).copy()
        sights = [sight for track in tracks if (sight := track.sight(frame)) is not None]
        self._stage.clear(made, frame, sights)
        return made

    def _leave(self, made: Floats, light: int, piece: _Piece, ends: int, time: int) -> None:
        """Paint the things of a piece that have not left when it ends."""
        frame, last = time + piece.offset, ends - 1 + piece.offset
        tracks = [
            track
            for track in self._things.tracks
            if piece.after < track.since <= last and track.end >= last
        ]
        if frame < self._count:
            for track in tracks:
                if (sight := track.sight(frame)) is not None:
                    self._stage.paint(made, light, sight)
            return
        for going in self._going:
            if any(track in tracks for track in going.tracks):
                sight, way = going.after(frame)
                seconds, part = (frame - going.sights[-1].frame) * self._step, 1.0
                if np.hypot(*going.path.velocity) < _STANDS:
                    part = min(1 - (seconds - _WAITS) / _GOES, 1.0)
                seen = sight.area * way[0] ** 2 >= self._things.least_area
                if seconds < _LONGEST and part > 0 and seen:
                    self._stage.paint(made, light, sight, way, part)


def along(going: Going, lanes: Sequence[Floats]) -> Going:
    """Return a thing that goes on as earlier things did, if one of their :func:`lanes_of` fits."""
    sight, path = going.sights[-1], going.path
    size, place, velocity = 1.0, sight.centre, path.velocity
    course: list[Way] = []
    # A picture that is enlarged more is a blot.
    most = max(1.0, min(1 / LARGEST, sight.area**0.5 / _BLOT))
    while len(course) < _FARTHEST and np.hypot(*velocity) > _SLOW:
        side, least = size * sight.area**0.5, _LIKELY
        lane = np.empty((0, 3), np.float32)
        for each in lanes:
            away = np.hypot(*(each[:-PACED, :2] - place).T)
            at = int(away.argmin())
            motion = (each[at + PACED, :2] - each[at, :2]) / PACED
            unlike = np.hypot(*(motion - velocity)) / np.hypot(*velocity)
            unlike += away[at] / side + abs(np.log(each[at, 2] / side))
            if unlike < least:
                least, lane = unlike, each[at:]
        if not len(lane):
            break
        pace = np.hypot(*velocity) * PACED / np.hypot(*(lane[PACED, :2] - lane[0, :2]))
        steps = np.arange(pace, len(lane) - 1 + 1e-6, pace)
        rest = np.array([np.interp(steps, np.arange(len(lane)), each) for each in lane.T]).T
        ratio = rest[:, 2:] / lane[0, 2]
        places = rest[:, :2] + (place - lane[0, :2]) * ratio
        sizes = np.minimum(size * ratio[:, 0], most)
        course += zip(sizes.tolist(), places - sight.centre, strict=True)
        if len(places) < PACED:
            break
        size, place = size * float(ratio[-1, 0]), places[-1]
        velocity = (place - places[-PACED]) / (PACED - 1)
    return replace(going, path=replace(path, course=tuple(course)))


def lanes_of(tracks: Sequence[Track]) -> list[Floats]:
    """Return the smooth ways of tracks, (n, 3) each: x, y and side in each frame."""
    lanes = []
    for track in tracks:
        seen = [sight for sight in track.seen if sight.clear]
        if len(seen) > 2 * PACED:
            frames = [s.frame for s in seen]
            values = np.array([(*s.centre, s.area**0.5) for s in seen])
            every = np.arange(frames[0], frames[-1] + 1)
            lane = np.array([np.interp(every, frames, each) for each in values.T]).T
            lanes.append(cv2.blur(lane, (1, 2 * PACED + 1), borderType=cv2.BORDER_REPLICATE))
    return lanes
