"""Stabilise a slow pan: dream in a world that stands still, then pan the view on.

The frames are laid out side by side where their views lie. The dream takes place in that larger
picture; then the camera's motion is put back. The camera continues as before, turns gently at the
end of what the material shows, and pans back and forth over that part.
"""

from __future__ import annotations

from functools import cached_property
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.camera import camera_path
from cloudconv.dreaming.material.film import Film
from cloudconv.dreaming.material.flow_stats import slow_parts
from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.pictures import blurred, filled, grey, moved, resized, weight_size

_Path = NDArray[np.float64]

# The choice of a mode needs the panorama first, then the mode itself; the search takes seconds.
_PANORAMAS: WeakKeyDictionary[Material, Panorama | None] = WeakKeyDictionary()

_WIDEST = 0.6  # of the picture's sides: the largest distance between views of the material
_TURNS = 24  # frames in which the camera turns round
_SMOOTH = 5  # frames over which the path is averaged: shakes of the hand are not put back
_SETTLES = 12  # frames in which the view moves from the last frame's own place to the smooth path
_SOFT = 0.04  # of the longer side: the edge of a frame within the world
_STANDS = 0.02  # of the picture that stands still: from that share on the camera stands still
SOFT = 0.48
"""Largest fineness of clouds; see :func:`fineness`."""

_LOOKS, _WIDE = 6, 320  # frames that are measured, and their longest side
_PAINTED = 12  # frames that the world behind all others is painted from


class WorldFilm(Film):
    """Real frames of a pan, each in its place in the world.

    Args:
        film: the real frames.
        size: height and width of the world.
        path: the views' upper left corners in the world, (x, y), one for each frame.
    """

    def __init__(self, film: Film, size: tuple[int, int], path: _Path) -> None:
        """Keep the frames and their places."""
        super().__init__(film.frames, film.device, size)
        self._film = film
        self._view = film.size
        self._path = path

    def picture(self, number: int) -> Tensor:
        """Return a real frame in its place in the world: (3, H, W)."""
        return self.placed(self._world, number)

    def placed(
        self, world: Tensor, number: int, picture: Tensor | None = None, *, whole: bool = False
    ) -> Tensor:
        """Return a world (3, H, W) with a picture at the place of a frame.

        ``picture``: (3, h, w); None for the frame itself. ``whole``: up to the very edges, which
        are soft otherwise.
        """
        x, y = self._path[number]
        left, top = int(np.floor(x)), int(np.floor(y))
        if picture is None:
            picture = self._film.picture(number)
        way = picture.new_tensor([left - x, top - y])[:, None, None].expand(2, *self._view)
        here = moved(picture, way)
        rows, columns = slice(top, top + self._view[0]), slice(left, left + self._view[1])
        share = self.covered(number)[rows, columns]
        if whole:
            share = torch.ones_like(share)
        result = world.clone()
        result[:, rows, columns] = torch.lerp(world[:, rows, columns], here, share)
        return result

    def covered(self, number: int) -> Tensor:
        """Return 1 inside a frame and 0 outside, with a soft edge inside: (H, W) float32."""
        x, y = self._path[number]
        edge = max(2.0, _SOFT * max(self._view))
        sides = []
        for start, length, whole in (
            (y, self._view[0], self.size[0]),
            (x, self._view[1], self.size[1]),
        ):
            place = torch.arange(whole, device=self.device, dtype=torch.float32)
            ramp = torch.minimum(place - float(start), float(start) + length - 1 - place)
            sides.append((ramp / edge).clamp(0, 1))
        return sides[0][:, None] * sides[1]

    @cached_property
    def _world(self) -> Tensor:
        """The world painted from the frames, later ones on top; empty margins are filled."""
        height, width = self.size
        world = torch.zeros(3, height, width, device=self.device)
        known = torch.zeros(height, width, device=self.device)
        count = len(self._path)
        for frame in np.unique(np.linspace(0, count - 1, min(count, _PAINTED)).round().astype(int)):
            inside = self.covered(int(frame)) > 0
            # Where no frame is painted yet, even the faintest edge of this one is taken whole.
            over = self.placed(world, int(frame))
            alone = self.placed(world, int(frame), whole=True)
            world = torch.where(inside, torch.where(known > 0, over, alone), world)
            known = torch.maximum(known, inside.float())
        small = (-(-height // 4), -(-width // 4))
        sure = (resized(known[None], small)[0] > 0.99).float()
        rest = resized(filled(resized(world * known, small), sure), self.size)
        return torch.lerp(rest, world, blurred((known > 0).float()[None], 1.0))


class Panorama(Material):
    """The material of a pan as a camera that stands still would see it.

    ``size`` is the size of the world. Outside a frame the nearest frame in time is shown;
    ``covers`` gives the part that a frame shows itself.
    """

    def __init__(self, source: Material, path: _Path) -> None:
        """Place the frames; ``path``: the views' places, (x, y) in pixels, one a real frame."""
        self.view = source.size
        reach = np.array(self.view[::-1]) * _WIDEST
        near = (np.abs(path - path[-1]) <= reach).all(1)
        first = len(path) - int(np.argmin(near[::-1])) if not near.all() else 0
        path = path[first:]
        speed = np.abs(np.diff(path, axis=0)).mean(0) if len(path) > 1 else np.zeros(2)
        margin = np.ceil(speed * _TURNS + 1).astype(int)
        low = np.floor(path.min(0)).astype(int) - margin
        high = np.ceil(path.max(0)).astype(int) + margin
        super().__init__(
            source.film.frames[first:],
            device=source.device,
            times=source.times[first:],
            step=source.step,
            last=source.last,
            cut=source.cut,
            cadence=source.cadence,
        )
        self.path = path - low
        width, height = (int(v) for v in high - low)
        size = (self.view[0] + height, self.view[1] + width)
        self._film = WorldFilm(source.film.since(first), size, self.path)
        self.film = self._film

    @property
    def last_seen(self) -> Tensor:
        """The world with the last frame in its place, up to the frame's very edges: (3, H, W)."""
        last = len(self.path) - 1
        share = (self._film.covered(last) > 0).float()
        here = self._film.placed(self.picture(-1), last, whole=True)
        return torch.lerp(self.picture(-1), here, share)

    def around(self, picture: Tensor) -> Tensor:
        """Return the world with a picture (3, h, w) at the place of the first frame."""
        return self._film.placed(self._film.picture(0), 0, picture)

    def covers(self, k: int) -> Tensor:
        """Return the part that the frame at ``k`` shows: (h, w) of ``weight_size``, soft edges."""
        frame, _ = self.source_of(k)
        return resized(self._film.covered(frame)[None], weight_size(*self.size))[0]

    @cached_property
    def fixed(self) -> Tensor:
        """The parts with slow mean flow, as no frame shows all of the world; see the base class."""
        chosen = {max(self.source_of(k)[0], 1): k for k in reversed(spread(len(self)))}
        pairs = sorted(chosen)
        found = slow_parts([self.flow(chosen[p]) for p in pairs], [self.seen(p) for p in pairs])
        return torch.from_numpy(found).to(self.device)

    def seen(self, frame: int, lag: int = 1) -> Tensor:
        """Return the parts that two frames show; see ``Material.seen``."""
        both = torch.minimum(self._film.covered(frame), self._film.covered(frame - lag))
        return resized(both[None], self.small_size)[0]


class Pan:
    """The camera's way during a dream.

    The camera follows the material's own path back and forth at the same speed, and turns gently.
    """

    def __init__(self, panorama: Panorama, frames: int, *, loop: bool, to_first: bool) -> None:
        """Plan the way; ``to_first``: a loop leads to the material's first frame, not its last."""
        count = len(panorama)
        real = np.array([sum(panorama.source_of(k)) for k in range(count)])
        index = np.arange(len(panorama.path))
        axes = [np.interp(real, index, axis) for axis in panorama.path.T]
        self._path = _smoothed(np.stack(axes, 1))
        self._offset = np.stack(axes, 1)[-1] - self._path[-1]
        self.along = _swing(count - 1, frames)
        if loop and to_first:
            # The material's first frame follows the dream's last.
            self._close(0, frames + 1, count - 1)
        elif loop:
            self._close(count - 1, frames, count - 1)
        self._size = panorama.size
        self._view = panorama.view

    def corner(self, number: int) -> NDArray[np.float64]:
        """Return the view's upper left corner, (x, y), at a frame of the dream, from 1."""
        along = self.along[number]
        last = len(self._path) - 1
        inside = float(np.clip(along, 0, last))
        axes = [np.interp(inside, np.arange(last + 1), axis) for axis in self._path.T]
        end = self._path[0] - self._path[1] if along < 0 else self._path[-1] - self._path[-2]
        place = np.array(axes) + abs(along - inside) * end
        place += self._offset * max(0.0, 1 - number / _SETTLES)
        most = np.array([self._size[1] - self._view[1], self._size[0] - self._view[0]])
        return np.asarray(np.clip(place, 0, most), np.float64)

    def view(self, world: Tensor, number: int) -> Tensor:
        """Return the view (3, h, w) of a world (3, H, W) at a frame of the dream."""
        x, y = self.corner(number)
        left, top = int(np.floor(x)), int(np.floor(y))
        height, width = self._view
        # One row and one column more, to interpolate between pixels.
        part = world[:, top : top + height + 1, left : left + width + 1].contiguous()
        way = part.new_tensor([x - left, y - top])[:, None, None].expand(2, *part.shape[-2:])
        return moved(part, way)[:, :height, :width]

    def _close(self, goal: int, count: int, last: int) -> None:
        """Lead the way to ``goal`` after ``count`` frames, forwards and at the usual speed."""
        # A way from the goal, in reverse, is a way to the goal.
        back = _swing(last, count, begin=goal, mirrored=True)[::-1]
        ahead = _swing(last, count)
        window = min(2 * _TURNS, count)
        middles = range(window // 2, count + 1 - window // 2)
        middle = min(middles, key=lambda k: abs(ahead[k] - back[k]))
        share = np.clip((np.arange(count + 1) - middle) / window + 0.5, 0, 1)
        self.along = ahead + share * share * (3 - 2 * share) * (back - ahead)


def _swing(last: int, frames: int, begin: int | None = None, mirrored: bool = False) -> _Path:
    """Return a way back and forth between 0 and ``last``: (frames + 1,) with its beginning.

    The way begins at ``last`` (or at ``begin``) with a speed of 1 forwards, and brakes at the ends.
    ``mirrored``: seen from the other side, so the way begins backwards.
    """
    place = float(last if begin is None else begin)
    if mirrored:
        place = last - place
    turns = min(float(_TURNS), max(2.0, last / 2))
    speed, heads, way = 1.0, 1.0, [place]
    for _ in range(frames):
        brake = turns / 4
        if heads > 0 and place > last - brake:
            heads = -1.0
        elif heads < 0 and place < brake:
            heads = 1.0
        speed += float(np.clip(heads - speed, -2 / turns, 2 / turns))
        place += speed
        way.append(place)
    path = np.array(way)
    return last - path if mirrored else path


def _smoothed(path: _Path) -> _Path:
    if len(path) < 2 * _SMOOTH:
        return path
    kernel = np.ones(2 * _SMOOTH + 1) / (2 * _SMOOTH + 1)
    # Beyond the ends the path continues in its direction.
    before = 2 * path[0] - path[_SMOOTH:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - _SMOOTH : -1]
    long = np.concatenate([before, path, after])
    return np.stack([np.convolve(axis, kernel, "valid") for axis in long.T], 1)


def panorama_of(material: Material) -> Panorama | None:
    """Return the world that the material pans over; None where there is no slow pan."""
    if material not in _PANORAMAS:
        _PANORAMAS[material] = _panorama(material)
    return _PANORAMAS[material]


def _panorama(material: Material) -> Panorama | None:
    film = material.film
    if len(film) < 2 or bool(material.fixed.mean() > _STANDS):
        return None
    if fineness(material) <= SOFT:
        # Nothing solid is in the picture: the wind moves, not the camera.
        return None
    path = camera_path(len(film), film.small, film.flow)
    if path is None:
        return None
    scale = np.array(material.size[::-1]) / np.array(material.small_size[::-1])
    return Panorama(material, path * scale)


def fineness(material: Material) -> float:
    """Return the share of the finest band in the slopes of what moves, at 320 pixels.

    Clouds are equally rough at any size; edges of things, foam, leaves and ripples are rougher in
    the finest band.
    """
    found = []
    for k in np.unique(np.linspace(0, len(material) - 1, _LOOKS).round().astype(int)):
        luma = grey(material.glance(int(k)))
        factor = min(1.0, _WIDE / max(luma.shape))
        size = max(1, round(luma.shape[1] * factor)), max(1, round(luma.shape[0] * factor))
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        slope = cv2.magnitude(*(cv2.Sobel(small, -1, *way) / 8 for way in ((1, 0), (0, 1))))
        fine = np.abs(small - cv2.GaussianBlur(small, (0, 0), max(max(size) / _WIDE, 0.3)))
        moves = cv2.resize(material.static, size, interpolation=cv2.INTER_AREA) < 0.5
        where = moves if moves.any() else np.ones_like(moves)
        found.append(float(fine[where].mean()) / max(float(slope[where].mean()), 0.1))
    return float(np.mean(found))
