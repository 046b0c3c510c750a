"""Show pieces of footage at any size: each replaces earlier ones along with the wind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cloudconv.dreaming.material.light import Light, lit
from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.wind import Drift, path_of, sky_drift
from cloudconv.dreaming.methods.placement import Placement
from cloudconv.dreaming.methods.transition import Front
from cloudconv.dreaming.planes import Look
from cloudconv.dreaming.vitals.features import QUANTILE
from cloudconv.images import (
    THUMB_SIDE,
    TINY,
    Floats,
    as_picture,
    fill_weights,
    filled,
    reduced,
    resized,
    resized_flow,
    warp_linearly,
)

_GONE = 0.5  # known part of a picture below which its mirror image fades from unknown parts


@dataclass(frozen=True, slots=True)
class PlacedPicture:
    """A picture of footage.

    ``look``: to look at it. ``small``: (h, w, 3), a copy at the size of the weights.
    ``relit``: the same copy, adapted to the light. ``covers``: (h, w), 1 where the picture
    is known.
    """

    look: Look
    small: Floats
    relit: Floats
    covers: Floats


class Footage:
    """The pictures of a clip. ``size``: height and width of the weights.

    ``drift``: the clip. ``follows``: whether the pictures follow the current light; they
    are in one light otherwise.
    """

    def __init__(self, drift: Drift, light: Light, *, follows: bool = True) -> None:
        """Store the clip."""
        self.size = size = drift.grain.size
        self._drift = drift
        self._light = light
        self._follows = follows
        self._gain = lru_cache(
            lambda placed: light.gains_at(placed.source(size[1]), size[0])
        )

    def frame(self, placement: Placement, age: int) -> int:
        """Return the number of the real frame of a placement at an age in frames."""
        return self._drift.frame(placement.frame(age))

    def at(self, placement: Placement, age: int) -> PlacedPicture:
        """Return the picture of a placement at an age in frames."""
        number = placement.frame(age)
        drift = self._drift
        light = self._light
        aligned = placement.aligned
        look = placement.look(drift.look(number, sky=not aligned))
        small = relit = look.whole(drift.grain)
        if not aligned:
            relit = lit(relit, self._gain(placement))
        if self._follows:
            gain = light.on(drift.frame(number), shift=placement.shift)
            if gain is not None:
                relit = lit(relit, resized(gain, self.size))
        return PlacedPicture(look, small, relit, self.covers(placement, age))

    def sight(self, placement: Placement, age: int) -> tuple[Floats, Floats]:
        """Return the small picture in the light of the footage, and its known part."""
        picture = self.at(placement, age)
        return picture.relit, picture.covers

    def covers(self, placement: Placement, age: int) -> Floats:
        """Return the known part of a placement at an age: (h, w), from 0 to 1."""
        covered = self._drift.covers(placement.frame(age), self.size)
        return placement.known(self.size[1]) * placement.placed(covered)


@dataclass(frozen=True, slots=True)
class Piece:
    """Footage that replaces earlier pieces: one placement, or two with a cut between.

    Points of the sky drift with the wind from the first placement to the second. ``cut``:
    the times at which they change to the second. ``life``: the number of frames for which
    the piece can be shown. ``front``: the times at which points change from older pieces to
    this one; None for a piece that covers everything from the beginning. ``start``: the
    number of the dream's frame that shows the first picture. ``footage``: at full size, and
    as thumbnails.
    """

    footage: tuple[Footage, Footage]
    start: int
    first: Placement
    second: Placement | None = None
    life: int = 1
    cut: Front | None = None
    front: Front | None = None

    def pictures(
        self, number: int, points: Points, *, small: bool
    ) -> list[tuple[PlacedPicture, Floats]]:
        """Return the pictures at a frame of the dream, and their weights, (h, w, 2) each.

        The weights are those of fine and of coarse detail.
        """
        footage = self.footage[small]
        age = number - self.start
        first = footage.at(self.first, age)
        if self.second is None:
            return [(first, np.ones((*footage.size, 2), np.float32))]
        assert self.cut is not None
        second = footage.at(self.second, age)
        back = points.back(min(age + 1, self.life))
        weight = self.cut.weights(back, age, footage.size)
        least = 1 - first.covers
        most = second.covers
        weight = np.minimum(np.maximum(weight, least[..., None]), most[..., None])
        if not weight.any():
            return [(first, 1 - weight)]
        return [(first, 1 - weight), (second, weight)]

    def thumbnail(self, number: int, points: Points) -> tuple[Floats, Floats]:
        """Return the piece's own thumbnail, (h, w, 3), and its known part, (h, w)."""
        pictures = self.pictures(number, points, small=True)
        thumb = np.sum(
            [picture.relit * weight[..., -1:] for picture, weight in pictures], 0
        )
        return thumb, np.max([picture.covers for picture, _ in pictures], 0)


class Points:
    """The sky's points, which move with the ``wind``, (h, w, 2) backward flow per frame."""

    def __init__(self, wind: Floats) -> None:
        """Begin without motion."""
        self.wind = wind
        self._back = [np.zeros_like(wind)]

    def back(self, age: int) -> Floats:
        """Return the displacement to each point's place ``age`` frames ago: (h, w, 2)."""
        while len(self._back) <= age:
            self._back.append(self.wind + warp_linearly(self._back[-1], self.wind))
        return self._back[age]


def visible(
    pieces: Sequence[Piece], number: int, points: Points
) -> tuple[list[PlacedPicture], list[Floats], int]:
    """Return the pictures at a frame of the dream.

    Returns:
        The pictures; their weights, (h, w, 2) each, for fine and for coarse detail; and the
        number of the first pieces that later pieces hide.
    """
    pictures: list[PlacedPicture] = []
    weights: list[Floats] = []
    hidden = 0
    covered = np.zeros((*pieces[0].footage[0].size, 1), np.float32)
    for index, piece in enumerate(pieces):
        own = piece.pictures(number, points, small=False)
        covers = np.max([picture.covers for picture, _ in own], 0)[..., None]
        opacity = np.ones_like(covers)
        if pictures and piece.front is not None:
            # A piece that stays visible in a corner does not make the list of displacements
            # grow.
            age = min(number - piece.start + 1, piece.life)
            opacity = piece.front.weights(points.back(age), age, piece.footage[0].size)
            # Where neither is known, the older picture goes on until most of it has left.
            left = max(_GONE - float(covered.mean()), 0.0) / _GONE
            opacity = opacity * (left + (1 - left) * np.maximum(covers, covered))
            # Where only one of two pictures is known, this picture is shown.
            newer = covers - covered
            opacity = np.minimum(
                np.maximum(opacity, newer.clip(0)), 1 + newer.clip(None, 0)
            )
            if (opacity == 1).all():
                hidden = index
                pictures = []
                weights = []
        covered = np.maximum(covered, covers)
        weights = [weight * (1 - opacity) for weight in weights]
        weights += [opacity * weight for _, weight in own]
        pictures += [picture for picture, _ in own]
    return pictures, weights, hidden


class Thumbs:
    """A clip's frames as thumbnails in one light, with sky in place of still parts.

    ``size``: their height and width. ``frames``: (n, h, w, 3). ``moving``: (h, w) bool, the
    parts that move. ``points``: the points of the sky. ``footage``: the thumbnails, as
    footage.
    """

    def __init__(
        self,
        material: Material,
        light: Light,
        wind: Floats,
        flows: Sequence[Floats],
        before: int,
    ) -> None:
        """Make the thumbnails of the clip, and ``before`` more before and after it.

        ``wind``: (h, w, 2) backward flow in pixels of the small picture. ``flows``: the
        motion at both ends of the clip.
        """
        height, width = reduced(material.glance(0), THUMB_SIDE).shape[:2]
        self.size = height, width
        self.points = Points(resized_flow(wind, self.size))
        self._light = light
        certain = (1 - 2 * resized(material.matte, self.size)).clip(0)
        self.moving = certain > 0
        if int(self.moving.sum()) < 2:  # one pixel has no contrast
            self.moving = np.ones_like(self.moving)
        thumbs = []
        weights = fill_weights(certain)
        for k in range(len(material)):
            small = resized(as_picture(material.glance(k)), self.size)
            thumb = filled(small, weights)
            gain = light.on(k)
            thumbs.append(thumb if gain is None else lit(thumb, resized(gain, self.size)))
        moving = sky_drift(thumbs, flows, path_of(material))
        self.footage = Footage(moving, light, follows=False)
        self._before = before
        self._all = np.stack(
            [
                moving.look(k).whole(moving.grain)
                for k in range(-before, len(thumbs) + before)
            ]
        )
        self.frames = self._all[before : before + len(thumbs)]

    def changes_in(self, lag: int) -> float:
        """Return in how many frames the clip changes wholly, by its speed over ``lag``.

        The wind is no change. Two frames that are half of the clip apart differ wholly.
        """
        way = np.float32(lag) * self.points.wind
        moved_on = np.stack([warp_linearly(frame, way) for frame in self.frames[:-lag]])
        apart = self.frames - np.roll(self.frames, len(self.frames) // 2, 0)
        soon, whole = (
            np.abs(change).mean(3)[:, self.moving].mean(1)
            for change in (moved_on - self.frames[lag:], apart)
        )
        return lag * float(whole.mean() / max(np.quantile(soon, QUANTILE), TINY))

    def composed(self, tried: Sequence[Piece], ages: Sequence[int]) -> Floats:
        """Return the thumbnails of pieces, with the border in the middle of the overlap.

        The result is (pieces, ages, h, w, 3).
        """
        height, width = self.size
        frames, sources = [], []
        for one in tried:
            both = one.first, one.second or one.first
            numbers = np.array([[*map(placed.frame, ages)] for placed in both]).T
            source, other = (placed.source(width) for placed in both)
            # A column shows the placement of which it is nearer to the middle.
            side = np.abs(2 * other - 1) < np.abs(2 * source - 1)
            frames.append(np.where(side, numbers[:, 1:], numbers[:, :1]))
            sources.append(np.where(side, other, source))
        columns = (np.stack(sources) * width).astype(int).clip(0, width - 1)
        # The indices are (pieces, ages, h, w); each chooses a colour of (frames, h, w, 3).
        numbers = (np.stack(frames) + self._before).clip(0, len(self._all) - 1)
        rows = np.arange(height)[:, None]
        thumbs = self._all[numbers[:, :, None], rows, columns[:, None, None]]
        gains = np.stack([self._light.gains_at(source, height) for source in sources])
        return lit(thumbs, gains[:, None])
