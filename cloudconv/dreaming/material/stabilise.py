"""A slow pan: dreamt in a world that stands still, and looked at by a camera that pans on.

The frames are laid out side by side where their views lie. The dream takes place in that larger
picture; then the camera's motion is put back. It goes on as it was, turns gently where it has seen
no more, and goes back and forth over what the material has shown.
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
from cloudconv.dreaming.material.flow_stats import slow_parts
from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.pictures import (
    analysis_size,
    blurred,
    filled,
    grey,
    moved,
    resized,
    weight_size,
)

_Path = NDArray[np.float64]

# The choice of a mode asks, and then the mode itself; to look takes seconds.
_FOUND: WeakKeyDictionary[Material, Panorama | None] = WeakKeyDictionary()

_WIDEST = 0.6  # of the picture's sides: how far the views of the material lie apart at most
_TURNS = 24  # frames in which the camera turns round
_SMOOTH = 5  # frames over which the path is averaged: a hand that shakes is not put back
_SETTLES = 12  # frames in which the smooth path takes over from where the last frame really is
_SOFT = 0.04  # of the longer side: the edge of a frame within the world
_STANDS = 0.02  # of the picture that stands still: then so does the camera
SOFT = 0.48
"""Up to that fineness, what moves is cloud; see :func:`fineness`."""

_LOOKS, _WIDE = 6, 320  # frames that tell, and their longest side
_PAINTED = 12  # frames that the world behind all others is painted from


class Panorama(Material):
    """The material of a pan, as if the camera stood still and saw all of it at once.

    ``size`` is that of the world. Where a frame does not reach, the nearest in time that does is
    seen; ``covers`` says where a frame is its own.
    """

    def __init__(self, source: Material, path: _Path) -> None:
        """``path``: the views' places, (x, y) in pixels of the picture, one a real frame."""
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
            source.real_frames[first:],
            device=source.device,
            times=source.times[first:],
            step=source.step,
            last=source.last,
            cut=source.cut,
            cadence=source.cadence,
        )
        self.path = path - low
        width, height = (int(v) for v in high - low)
        self.size = (self.view[0] + height, self.view[1] + width)
        self.small_size = analysis_size(*self.size)
        self._world: Tensor | None = None

    def real(self, frame: int) -> Tensor:
        """A real frame in its place in the world: (3, H, W)."""
        if self._world is None:
            self._world = self._painted()
        return self._placed(self._world, frame)

    @property
    def last_seen(self) -> Tensor:
        """The world with the last frame whole in its place, up to its very edges: (3, H, W)."""
        share = (self._covered(len(self.path) - 1) > 0).float()
        here = self._placed(self.picture(-1), len(self.path) - 1, whole=True)
        return torch.lerp(self.picture(-1), here, share)

    def around(self, picture: Tensor) -> Tensor:
        """A picture seen where the first frame was, (3, h, w), in its place in the world."""
        return self._placed(self.real(0), 0, picture)

    def covers(self, k: int) -> Tensor:
        """Where the frame at ``k`` is its own: (h, w) float32 of ``weight_size``, soft edges."""
        frame, _ = self.place(k)
        return resized(self._covered(frame)[None], weight_size(*self.size))[0]

    @cached_property
    def fixed(self) -> Tensor:
        """See ``Material.fixed``; where the mean flow is slow: no frame shows all of the world."""
        pairs = sorted({max(self.place(k)[0], 1) for k in spread(len(self))})
        found = slow_parts([self._pair_flow(k) for k in pairs], [self.seen(k) for k in pairs])
        return torch.from_numpy(found).to(self.device)

    def seen(self, frame: int, lag: int = 1) -> Tensor:
        """See ``Material.seen``."""
        both = torch.minimum(self._covered(frame), self._covered(frame - lag))
        return resized(both[None], self.small_size)[0]

    def _placed(
        self, world: Tensor, frame: int, picture: Tensor | None = None, *, whole: bool = False
    ) -> Tensor:
        x, y = self.path[frame]
        left, top = int(np.floor(x)), int(np.floor(y))
        if picture is None:
            picture = super().real(frame)
        way = picture.new_tensor([left - x, top - y])[:, None, None].expand(2, *self.view)
        here = moved(picture, way)
        rows, columns = slice(top, top + self.view[0]), slice(left, left + self.view[1])
        share = self._covered(frame)[rows, columns]
        if whole:
            share = torch.ones_like(share)
        result = world.clone()
        result[:, rows, columns] = torch.lerp(world[:, rows, columns], here, share)
        return result

    def _covered(self, frame: int) -> Tensor:
        """(H, W) float32: 1 inside the frame, 0 outside, and soft between where it is inside."""
        x, y = self.path[frame]
        edge = max(2.0, _SOFT * max(self.view))
        sides = []
        for start, length, whole in (
            (y, self.view[0], self.size[0]),
            (x, self.view[1], self.size[1]),
        ):
            place = torch.arange(whole, device=self.device, dtype=torch.float32)
            ramp = torch.minimum(place - float(start), float(start) + length - 1 - place)
            sides.append((ramp / edge).clamp(0, 1))
        return sides[0][:, None] * sides[1]

    def _painted(self) -> Tensor:
        """The world as the frames show it, the later the more on top; empty margins are filled."""
        height, width = self.size
        world = torch.zeros(3, height, width, device=self.device)
        known = torch.zeros(height, width, device=self.device)
        count = len(self.path)
        for frame in np.unique(np.linspace(0, count - 1, min(count, _PAINTED)).round().astype(int)):
            inside = self._covered(int(frame)) > 0
            # Where nothing is known yet, even the faintest edge of a frame is all there is.
            over = self._placed(world, int(frame))
            alone = self._placed(world, int(frame), whole=True)
            world = torch.where(inside, torch.where(known > 0, over, alone), world)
            known = torch.maximum(known, inside.float())
        small = (-(-height // 4), -(-width // 4))
        sure = (resized(known[None], small)[0] > 0.99).float()
        rest = resized(filled(resized(world * known, small), sure), self.size)
        return torch.lerp(rest, world, blurred((known > 0).float()[None], 1.0))


class Pan:
    """Where the camera looks while it dreams.

    It goes along the material's own path, back and forth, as fast as that, and turns gently.
    """

    def __init__(self, panorama: Panorama, frames: int, *, loop: bool, to_first: bool) -> None:
        """``to_first``: a loop leads to the material's first frame, else to its last."""
        count = len(panorama)
        places = [panorama.place(k) for k in range(count)]
        real = np.array([frame + lead for frame, lead in places])
        index = np.arange(len(panorama.path))
        axes = [np.interp(real, index, axis) for axis in panorama.path.T]
        self._path = _smoothed(np.stack(axes, 1))
        self._offset = np.stack(axes, 1)[-1] - self._path[-1]
        self.along = _swing(count - 1, frames)
        if loop and to_first:
            # Its first frame is the one after the dream's last.
            self._close(0, frames + 1, count - 1)
        elif loop:
            self._close(count - 1, frames, count - 1)
        self._size = panorama.size
        self._view = panorama.view

    def place(self, number: int) -> NDArray[np.float64]:
        """The view's upper left corner at a frame of the dream, from 1: (x, y)."""
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
        """What the camera sees of the world, (3, H, W)."""
        x, y = self.place(number)
        left, top = int(np.floor(x)), int(np.floor(y))
        height, width = self._view
        # A row and a column more, for what lies between pixels.
        part = world[:, top : top + height + 1, left : left + width + 1].contiguous()
        way = part.new_tensor([x - left, y - top])[:, None, None].expand(2, *part.shape[-2:])
        return moved(part, way)[:, :height, :width]

    def _close(self, goal: int, count: int, last: int) -> None:
        """Let the way lead to ``goal`` after ``count`` frames, forwards and as fast as ever."""
        # The way from there, in reverse, is as good as the way there.
        back = _swing(last, count, begin=goal, mirrored=True)[::-1]
        ahead = _swing(last, count)
        window = min(2 * _TURNS, count)
        middles = range(window // 2, count + 1 - window // 2)
        middle = min(middles, key=lambda k: abs(ahead[k] - back[k]))
        share = np.clip((np.arange(count + 1) - middle) / window + 0.5, 0, 1)
        self.along = ahead + share * share * (3 - 2 * share) * (back - ahead)


def _swing(last: int, frames: int, begin: int | None = None, mirrored: bool = False) -> _Path:
    """A way back and forth between 0 and ``last``: (frames + 1,), the first one is the beginning.

    It begins at ``last`` (or at ``begin``) with a speed of 1 forwards, and brakes at the ends.
    ``mirrored``: as seen from the other side, so that it begins backwards.
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
    # Beyond the ends it goes on as it came.
    before = 2 * path[0] - path[_SMOOTH:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - _SMOOTH : -1]
    long = np.concatenate([before, path, after])
    return np.stack([np.convolve(axis, kernel, "valid") for axis in long.T], 1)


def panorama_of(material: Material) -> Panorama | None:
    """The world that the material pans over; None if its camera stands still.

    None, too, where the camera moves by more than a slow pan, or something else moves it.
    """
    if material not in _FOUND:
        _FOUND[material] = _panorama(material)
    return _FOUND[material]


def _panorama(material: Material) -> Panorama | None:
    frames = len(material.real_frames)
    if frames < 2 or bool(material.fixed.mean() > _STANDS):
        return None
    if fineness(material) <= SOFT:
        # Nothing solid is in the picture: it is the wind that moves, and not the camera.
        return None
    path = camera_path(frames, material.real_small, material.real_flow)
    if path is None:
        return None
    scale = np.array(material.size[::-1]) / np.array(material.small_size[::-1])
    return Panorama(material, path * scale)


def fineness(material: Material) -> float:
    """How much of the slopes of what moves lies in the finest band, at 320 pixels.

    Clouds are as rough at any size; edges of things, foam, leaves and ripples are rougher when
    looked at closely.
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
