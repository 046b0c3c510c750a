"""Continue a street: things leave as wholes, and come in as the clip shows them.

The dream consists of sections of the clip. Where a section begins, its background follows
the old one. Things that it shows at that moment are hidden until they have left; things
that enter later are shown. The things of the section before stay in front, in their own
later frames or moved on, until they have left. Source: Schödl and Essa, Controlled
Animation of Video Sprites, 2002.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise

import numpy as np

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import Composed, DreamFrame, Options
from cloudconv.forecasting.painter import Painter, nearest_last
from cloudconv.forecasting.plate import MOST_CHOSEN
from cloudconv.forecasting.sights import PATIENCE, Track
from cloudconv.forecasting.things import in_place
from cloudconv.forecasting.ways import FADES, FIT, FRAGMENT, LONGEST, WAITS, Trajectory
from cloudconv.images import (
    Floats,
    lerp,
    levels_of,
    resized,
    spread,
)

# The unit of costs is a second in which nothing enters. A level of light costs as much.
_COVERED = 50.0  # cost of a picture full of things
_AVOIDED = 5.0  # cost of a start like an earlier one, and of things that enter too soon
_KEPT = 4  # frames in memory
_SAME = 2 / 255  # greatest difference of a pixel that is as filmed


@dataclass(frozen=True, slots=True)
class _Section:
    """A part of the dream from ``begins`` on: time ``t`` shows frame ``t + offset``.

    Its things have entered after frame ``after``, or are those that come in before it
    begins.
    """

    begins: int
    offset: int
    after: int
    coming: Mapping[Track, Trajectory]

    def has(self, track: Track) -> bool:
        """Return whether a thing of the clip is a thing of the section."""
        return track.since > self.after or track in self.coming


def goes_on(material: Material, options: Options) -> bool:
    """Return whether the things of a clip can go on as wholes, and others come in."""
    if options.loop or len(material) < FIT or material.views.path is not None:
        return False
    things = material.things
    return things.hold and any(track.since > PATIENCE for track in things.tracks)


class Street:
    """The pictures of a clip whose things hold.

    See :class:`~cloudconv.forecasting.things.Things`.

    Args:
        material: the frames.
        seed: any integer; another seed gives other sections.
    """

    def __init__(self, material: Material, seed: int) -> None:
        """Make the plate."""
        self._material = material
        self._things = material.things
        self._random = np.random.default_rng(seed)
        self._count = len(material)
        self._step = float(material.step)
        self._picture = lru_cache(_KEPT)(self._shown)
        chosen = spread(self._count, most=MOST_CHOSEN)
        levels = [levels_of(self._steady(k)) for k in chosen]
        plate = self._things.plate.made_of(levels, chosen)
        self._painter = Painter(self._things, self._picture, plate)
        # The clip goes on behind a jump, for things that have not left.
        self._tail = min(round(WAITS / self._step), self._count // 4)
        self._fade, self._lead = round(FADES / self._step), round(WAITS / self._step)
        self._last_start = max(1, self._count - self._tail - self._fade)
        seen = [track.visible for track in self._things.tracks]
        covered = np.zeros(self._count)
        for sight in chain(*seen):
            covered[sight.frame] += sight.area
        # Neither small things nor those that enter after the end of a section count.
        self._large = FRAGMENT * max(sight.area for sight in chain(*seen))
        self._entries = [
            (sights[0].frame, next((s.frame for s in sights if s.clear), sights[-1].frame))
            for sights in seen
            if max(s.area for s in sights) > self._large
            and PATIENCE < sights[0].frame < self._count - self._tail
        ]
        """The frames in which large things enter, and in which all of each is seen."""
        self._size = self._things.plate.picture[..., 0].size
        self._covered = covered / self._size
        self._left = {track: track.end for track in self._things.tracks}
        """The frames in which things are seen last."""
        for going in self._things.going:
            left = going.sights[-1].frame + len(going.way)
            self._left |= dict.fromkeys(going.tracks, left)
        self._coming: dict[int, list[tuple[Track, Trajectory]]] = {}
        """The things at a frame that come in before a section begins there, and their ways
        back."""
        # Things that enter in the clip are enough.
        for start in range(0, 0 if self._entries else self._last_start, PATIENCE):
            ways = [(track, self._back(track, start)) for track in self._things.tracks]
            self._coming[start] = [(track, way) for track, way in ways if way]
        self._levels = np.array(
            [self._things.plate.steady(k).mean((0, 1)) for k in range(self._count)]
        )

    def _steady(self, k: int) -> Floats:
        """Return a frame as from the last view: (H, W, 3)."""
        steady: Floats = self._things.plate.steadied(k, self._material.shown(k))
        return steady

    def _shown(self, k: int) -> Floats:
        """Return that frame, and the plate in its light where the frame shows nothing."""
        steady = self._steady(k)
        if not self._things.plate.drifts:
            return steady
        completed: Floats = self._things.plate.completed(k, steady, self._painter.ground(k))
        return completed

    def frames(self, count: int) -> Iterator[DreamFrame]:
        """Yield the frames of the dream."""
        end = self._count - 1
        longest = LONGEST / self._step
        sections = [_Section(0, end, -1, {})]
        later = None
        for time in range(1, count + 1):
            now = sections[-1]
            begins = end - now.offset - self._tail * (now.after >= 0) + 1
            if later is None and time >= begins - self._lead:
                later = self._next(begins, sections, begins - time)
            if later is not None and time == begins:
                sections = [
                    p for p in sections if time + p.offset < self._count + longest
                ] + [later]
                now = later
                later = None
            picture = self._made(time, sections)
            if later is not None:
                for track, way in later.coming.items():
                    before = begins - time - 1
                    if (sight := track.sight(later.after)) and before < len(way):
                        seen = sight, way.sizes[before], way.moves[before], 1.0
                        self._painter.paint(picture, time + now.offset, seen)
            yield DreamFrame.made(picture, self._origin(picture, time + now.offset))

    def _origin(self, picture: Floats, frame: int) -> Composed:
        """Return where a picture is not the frame of the film, which may be steadied."""
        number, _ = self._material.source_of(frame)
        filmed = self._steady(frame) if self._things.plate.drifts else self._picture(frame)
        apart = np.abs(picture - filmed).max(2)
        mask = resized(apart, self._material.small_size) > _SAME
        return Composed(number, mask)

    def _next(self, time: int, sections: Sequence[_Section], lead: int) -> _Section:
        """Return the section that begins at a time with few things, where others come soon.

        The things of the first frame can come in if their way from outside is at most
        ``lead``.
        """
        starts = np.arange(self._last_start)
        costs = _COVERED * self._covered[starts] + FADES * self._random.random(len(starts))
        now = min(time - 1 + sections[-1].offset, self._count - 1)
        costs += np.abs(self._levels[starts] - self._levels[now]).max(1)
        if self._entries:
            firsts = [self._count] + [first for first, _ in self._entries]
            soon = np.array(firsts)[:, None] - starts
            soon = np.where(soon > 0, soon, self._count).min(0)
            # A thing that enters before the last one is there would run into it.
            there = [
                whole - section.offset
                for section in sections
                for first, whole in self._entries
                if first > section.after and first - section.offset < time
            ]
            meets = time + soon <= max(there, default=0)
            costs += self._step * soon + _AVOIDED * meets
        # The same thing is not seen twice at a time.
        visible = {
            t
            for p in sections
            for t, left in self._left.items()
            if p.has(t) and left >= time + p.offset
        }
        coming = {
            k: {t: way for t, way in ways if len(way) <= lead and t not in visible}
            for k, ways in self._coming.items()
        }
        for k in coming:
            area = sum(sight.area for track in coming[k] if (sight := track.sight(k)))
            costs[k] -= _COVERED * area / self._size
        for section in sections[-3:]:
            away = np.abs(starts - section.after) * self._step / FADES
            costs += _AVOIDED * np.exp(-np.square(away))
        start = int(costs.argmin())
        return _Section(time, start - time, start, coming.get(start, {}))

    def _back(self, track: Track, start: int) -> Trajectory | None:
        """Return the way of a thing from a frame back, until it is outside.

        The result is None if it stays.
        """
        if (sight := track.sight(start)) is None or not sight.clear:
            return None
        seen = [track.sight(k) for k in range(start, start + FIT)]
        later = [at for at in seen if at is not None]
        heading = self._things.ways.heading(later, start)
        back = replace(heading, velocity=-heading.velocity, growth=-heading.growth)
        way = self._things.ways.onward(sight, back, [track])
        return way if way.leaves and len(way) <= self._lead else None

    def _made(self, time: int, sections: Sequence[_Section]) -> Floats:
        now, before = sections[-1], sections[-2]
        frame = time + now.offset
        progress = (time - now.begins + 1) / (self._fade + 1)
        fades = progress < 1
        picture = self._bare(
            frame, [t for t in self._things.tracks if fades or not now.has(t)]
        )
        if fades:
            old = min(time + before.offset, self._count - 1)
            bare = self._bare(old, self._things.tracks)
            picture = lerp(bare, picture, progress)
            entered = [track for track in self._things.tracks if now.has(track)]
            for track in entered:
                if (sight := track.sight(frame)) is not None:
                    self._painter.paint(picture, frame, in_place(sight))
        for section, later in pairwise(sections):
            self._leave(picture, frame, section, later.begins, time)
        return picture

    def _bare(self, frame: int, tracks: Sequence[Track]) -> Floats:
        picture = self._picture(frame).copy()
        sights = [sight for track in tracks if (sight := track.sight(frame)) is not None]
        self._painter.clear(picture, frame, sights)
        return picture

    def _leave(
        self, picture: Floats, light: int, section: _Section, ends: int, time: int
    ) -> None:
        """Paint the things of a section that have not left when it ends."""
        frame, last = time + section.offset, ends - 1 + section.offset
        tracks = [
            track
            for track in self._things.tracks
            if section.has(track) and track.since <= last and track.end >= last
        ]
        if frame < self._count:
            for track in tracks:
                if (sight := track.sight(frame)) is not None:
                    self._painter.paint(picture, light, in_place(sight))
            return
        left = [
            thing.after(frame)
            for thing in self._things.going
            if any(track in tracks for track in thing.tracks)
        ]
        for seen in nearest_last(left):
            self._painter.paint(picture, light, seen)
