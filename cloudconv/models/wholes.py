"""Find what moves too fast for a network's motion, and move it as a whole.

A network's motion estimate loses a small thing that moves by more than about its own size,
such as a ball, a bird or a pointer. The two moved pictures then show the thing at two
places, and their mix shows half of it twice, or nothing. These places are known, because
the moved pictures differ there.

The frames around the pair show the ground behind such a thing. A *blob* is a part of a
picture that differs from the ground. A blob of x0 that fits a blob of x1 is a *whole*, if a
frame around the pair shows it on the same path, and the network does not show it there.
Then the ground replaces its ghosts, and it is put at its place in between. Its opacity
follows from two grounds behind one thing (Smith and Blinn, Blue Screen Matting, 1996), so
that blurred outlines stay blurred.

The CPU decides, with sums of whole numbers, which do not depend on their order. So neither
threads nor batches change a decision. The pictures stay on the device: only the part around
the places comes down, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot, prod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.models.base import COLOURS, Made
from cloudconv.models.ops import sample, sampling_grid
from cloudconv.transfer import upload

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Move = tuple[int, int]
"""Rows and columns."""

Outer = tuple[float, Bytes]
"""A frame around a pair, after its time: 0 is that of x0, 1 that of x1."""

_CELL = 4  # pixels of a cell of the map of places
_LEFT = 12 / 255  # difference of both pictures of a mix, in a cell where a thing is lost
_CHANGED = 10  # levels by which a thing differs from the ground, at least
_NOISES = 4  # the same, relative to the median difference from the ground
# The parts are squared differences, relative to that of the thing and the ground.
_FITS = 0.15  # of a thing in two pictures
_LACKS = 0.25  # of a thing in the pair and in the network's picture, beyond the misfit
_CALM = 0.25  # the mean difference of the ground around a thing, relative to the thing's
_REACH = 0.2  # the longest way between two pictures, relative to the picture's longer side
_MOST = 0.06  # part of the picture; where more is lost, no single things are
_MOVES = 0.125  # part of an area that may differ from the ground
_PIXELS = 36  # a smaller blob fits anywhere
_BLOBS = 16
_NEAR = 2  # pixels around a guess that are searched
_MARGIN = 6  # pixels around a blob whose opacity is computed


class Whole(NamedTuple):
    """A thing of x0 and its way.

    ``top``, ``left``: the place of ``opacity`` and ``cover`` in x0. ``cover``: 1 where no
    ghost may stay. ``step``, ``at``: the way in rows and columns from x0 to x1, and to the
    timestep.
    """

    top: int
    left: int
    opacity: Floats
    cover: Floats
    step: tuple[float, float]
    at: tuple[float, float]


class Area(NamedTuple):
    """Rows and columns of a picture."""

    rows: slice
    columns: slice

    def of(self, picture: Tensor) -> Tensor:
        """Return the colours of the area of a picture, (1, C, H, W), as levels."""
        part = picture[0, :COLOURS, self.rows, self.columns]
        return part.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Blob:
    """A part of a picture that differs from the ground, and its difference."""

    top: int
    left: int
    mask: Bytes
    pixels: int
    energy: float

    @property
    def ends(self) -> Move:
        return self.top + self.mask.shape[0], self.left + self.mask.shape[1]

    @property
    def centre(self) -> Move:
        rows, columns = np.nonzero(self.mask)
        return (
            self.top + int(rows.sum()) // len(rows),
            self.left + int(columns.sum()) // len(rows),
        )

    def of(self, picture: Bytes, move: Move = (0, 0)) -> Bytes | None:
        """Return a picture at the blob's place after a move; None outside of it."""
        top, left = self.top + move[0], self.left + move[1]
        bottom, right = self.ends[0] + move[0], self.ends[1] + move[1]
        is_inside = top >= 0 and left >= 0 and bottom <= len(picture)
        if not is_inside or right > picture.shape[1]:
            return None
        return picture[top:bottom, left:right]

    def misfit(self, first: Bytes | None, second: Bytes | None) -> float:
        """Return the squared difference of two pictures at the blob, as a part."""
        import cv2  # imported here, because every command loads this module

        if first is None or second is None:
            return float("inf")
        return float(cv2.norm(first, second, cv2.NORM_L2SQR, self.mask)) / self.energy


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A search in one picture, which is corrected in place.

    ``made``: that of the picture. ``cells``: its :func:`places`. ``sources``: x0, x1, and
    perhaps those before and after the pair, (1, C, H, W). ``outer``: the times of the
    latter, where x0 is at 0 and x1 at 1; a missing one has that of x0 or x1.
    """

    made: Made
    area: Area
    cells: Bytes
    sources: Sequence[Tensor]
    outer: tuple[float, float]
    timestep: float

    def blocks(self) -> list[Tensor]:
        """Return the areas that the CPU needs: of the new picture, then of the sources."""
        return [self.area.of(x) for x in (self.made.pictures, *self.sources)]

    def finish(self, blocks: Sequence[Bytes]) -> None:
        """Find things in these areas, and put them into the picture."""
        import cv2

        new, x0, x1, *around = map(np.ascontiguousarray, blocks)
        times = [*zip(self.outer, around, strict=False)]
        outer = [(time, block) for time, block in times if time not in (0, 1)]
        cells = cv2.dilate(self.cells, np.ones((3, 3), np.uint8))
        height, width = self.made.pictures.shape[2:]
        places = cells.repeat(_CELL, 0).repeat(_CELL, 1)
        lost = np.zeros((height, width), np.uint8)
        lost[: len(places), : places.shape[1]] = places
        own = np.ascontiguousarray(lost[self.area.rows, self.area.columns])
        longest = _REACH * max(height, width)
        found = wholes_of((x0, x1), outer, new, own, self.timestep, longest)
        if found:
            pair = self.sources[0], self.sources[1]
            put(self.made, pair, found, self.timestep, self.area)


def places(made: Made) -> Tensor:
    """Return the cells where things may be lost, (B, h, w) uint8, 1 where they may."""
    return F.avg_pool2d(made.apart, _CELL)[:, 0].gt(_LEFT).to(torch.uint8)


def area_of(cells: Bytes, size: tuple[int, int]) -> Area | None:
    """Return the part of a picture in which lost things move; None for no place.

    ``cells``: the picture's :func:`places`. ``size``: its height and width.
    """
    found = np.nonzero(cells)
    if not 0 < len(found[0]) <= cells.size * _MOST:
        return None
    reach = int(_REACH * max(size)) + _MARGIN
    parts = [
        slice(
            max(0, int(place.min()) * _CELL - reach),
            min(side, (int(place.max()) + 1) * _CELL + reach),
        )
        for place, side in zip(found, size, strict=True)
    ]
    return Area(*parts)


def wholes_of(
    pair: tuple[Bytes, Bytes],
    outer: Sequence[Outer],
    new: Bytes,
    lost: Bytes,
    timestep: float,
    longest: float,
) -> list[Whole]:
    """Return the things that the network's picture ``new`` lacks, in an area.

    All pictures are (H, W, 3) levels. ``lost``: (H, W), 1 where things may be lost.
    ``longest``: the longest way from x0 to x1, in pixels.
    """
    if not outer:
        return []
    ground = _ground(*pair, *(picture for _, picture in outer))
    blobs = [_blobs(picture, ground, lost, longest) for picture in pair]
    matches: list[tuple[float, int, _Blob, _Blob, Move]] = []
    for one, other in product(*blobs):
        if not one.pixels <= 2 * other.pixels <= 4 * one.pixels:
            continue
        misfit, move = _nearest(one, pair[0], pair[1], _guesses(one, other), _NEAR)
        shortest = min(one.mask.shape) / 2
        if misfit < _FITS and shortest < hypot(*move) < longest:
            matches.append((misfit, len(matches), one, other, move))
    found: list[Whole] = []
    taken: set[_Blob] = set()
    for misfit, _, one, other, move in sorted(matches, key=lambda match: match[:2]):
        if one in taken or other in taken:
            continue
        path = _path(one, other, pair, outer, move)
        if path is None:
            continue
        at = _along(path, timestep)
        mean = _mean(one.of(pair[0]), one.of(pair[1], move))
        shown = one.of(new, (round(at[0]), round(at[1])))
        if shown is None or one.misfit(mean, shown) > _LACKS + misfit:
            taken |= {one, other}
            found.append(_whole(pair, ground, (one, other), move, path[1.0], at))
    return found


def _mean(first: Bytes | None, second: Bytes | None) -> Bytes:
    import cv2

    assert first is not None
    assert second is not None
    return np.asarray(cv2.addWeighted(first, 0.5, second, 0.5, 0), np.uint8)


def _ground(x0: Bytes, x1: Bytes, *outer: Bytes) -> Bytes:
    """Return what is behind the things: the median of three or four frames.

    If the two frames around the pair are equal, they show the ground, even if the thing
    covers the same place in x0 and x1.
    """
    import cv2

    lower, upper = np.minimum(x0, x1), np.maximum(x0, x1)
    if len(outer) == 1:
        return np.maximum(lower, np.minimum(upper, outer[0]))
    lower = np.maximum(lower, np.minimum(*outer))
    upper = np.minimum(upper, np.maximum(*outer))
    same = cv2.absdiff(*outer).max(2, keepdims=True) <= _CHANGED
    return np.where(same, _mean(*outer), _mean(lower, upper))


def _blobs(picture: Bytes, ground: Bytes, lost: Bytes, longest: float) -> list[_Blob]:
    """Return the largest blobs in places where things may be lost, on calm ground."""
    import cv2

    apart = cv2.absdiff(picture, ground).max(2)
    counts = np.bincount(apart.ravel(), minlength=256).cumsum()
    noise = _NOISES * int(np.searchsorted(counts, apart.size / 2))
    if noise > 2 * _CHANGED:  # the ground moves
        return []
    limit = max(_CHANGED, noise)
    mask = (apart > limit).astype(np.uint8)
    if cv2.countNonZero(mask) > _MOVES * mask.size:
        return []
    box = np.ones((3, 3), np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, box)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(mask, outlines, -1, 1, cv2.FILLED)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found: list[_Blob] = []
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    for number in order.tolist():
        left, top, width, height, pixels = stats[number].tolist()
        if pixels < _PIXELS or len(found) == _BLOBS:
            break
        place = slice(top, top + height), slice(left, left + width)
        own = (labels[place] == number).astype(np.uint8)
        if max(width, height) > 2 * longest or not (own & lost[place]).any():
            continue
        if not _is_calm(apart, top, left, own):
            continue
        energy = cv2.norm(picture[place], ground[place], cv2.NORM_L2SQR, own)
        if energy < COLOURS * (2 * limit) ** 2 * pixels:
            continue
        found.append(_Blob(top, left, own, pixels, energy))
    return found


def _is_calm(apart: Bytes, top: int, left: int, mask: Bytes) -> bool:
    import cv2

    side = 8
    first = max(0, top - side), max(0, left - side)
    around = apart[
        first[0] : top + mask.shape[0] + side, first[1] : left + mask.shape[1] + side
    ]
    own = np.zeros_like(around)
    row, column = top - first[0], left - first[1]
    own[row : row + mask.shape[0], column : column + mask.shape[1]] = mask
    near, far = (cv2.dilate(own, np.ones((n, n), np.uint8)) for n in (5, 2 * side + 1))
    outside, inside = cv2.mean(around, far - near)[0], cv2.mean(around, own)[0]
    return bool(outside < _CALM * inside)


def _guesses(one: _Blob, other: _Blob) -> Iterator[Move]:
    """Yield moves: of the centre, and of two corners, as a part may be hidden."""
    corners = (one.top, one.left), (other.top, other.left)
    for own, there in ((one.centre, other.centre), corners, (one.ends, other.ends)):
        yield there[0] - own[0], there[1] - own[1]


def _nearest(
    blob: _Blob, source: Bytes, target: Bytes, guesses: Iterator[Move], side: int
) -> tuple[float, Move]:
    """Return the least misfit near the guesses, and its move."""
    own = blob.of(source)
    known: dict[Move, float] = {}

    def misfit(move: Move) -> float:
        if move not in known:
            known[move] = blob.misfit(own, blob.of(target, move))
        return known[move]

    steps = range(-side, side + 1, 2)
    moves = {(g[0] + y, g[1] + x) for g in guesses for y, x in product(steps, steps)}
    best = min((misfit(move), move) for move in moves)
    while True:
        row, column = best[1]
        near = product((row - 1, row, row + 1), (column - 1, column, column + 1))
        better = min((misfit(move), move) for move in near)
        if better[0] >= best[0]:
            return best
        best = better


def _path(
    one: _Blob,
    other: _Blob,
    pair: tuple[Bytes, Bytes],
    outer: Sequence[Outer],
    move: Move,
) -> dict[float, tuple[float, float]] | None:
    """Return the moves of a thing by time, from x0 on; None if they are in doubt.

    The thing of x1 must lead back to that of x0. Each frame around the pair must show the
    thing near a straight path, if the path is in the picture, and one must show it well.
    """
    back = _nearest(other, pair[1], pair[0], iter([(-move[0], -move[1])]), _NEAR)[1]
    if max(abs(back[0] + move[0]), abs(back[1] + move[1])) > _NEAR:
        return None
    own = one.of(pair[0])
    misfits: list[float] = []
    path = {0.0: (0.0, 0.0), 1.0: _finer(one, own, pair[1], move)}
    for time, picture in outer:
        guess = round(move[0] * time), round(move[1] * time)
        away = min(abs(time), abs(time - 1))
        side = _NEAR + int(hypot(*move) * away / 4)
        if one.of(picture, guess) is None:  # not in the picture yet, or any more
            continue
        misfit, there = _nearest(one, pair[0], picture, iter([guess]), side)
        misfits.append(misfit)
        if misfit > 3 * _FITS or hypot(there[0] - guess[0], there[1] - guess[1]) > side:
            return None
        path[time] = _finer(one, own, picture, there)
    return path if misfits and min(misfits) < _FITS else None


def _finer(
    blob: _Blob, own: Bytes | None, target: Bytes, move: Move
) -> tuple[float, float]:
    """Return a move to a part of a pixel, by a parabola through three misfits."""

    def misfit(rows: int, columns: int) -> float:
        return blob.misfit(own, blob.of(target, (move[0] + rows, move[1] + columns)))

    least = misfit(0, 0)
    result = []
    for whole, rows, columns in ((move[0], 1, 0), (move[1], 0, 1)):
        before, after = misfit(-rows, -columns), misfit(rows, columns)
        bend = before + after - 2 * least
        is_known = 0 < bend < float("inf")
        result.append(whole + ((before - after) / (2 * bend) if is_known else 0.0))
    return result[0], result[1]


def _along(path: dict[float, tuple[float, float]], timestep: float) -> tuple[float, float]:
    """Return the place at a time, on the curve of least degree through the path."""
    weights = [
        prod((timestep - other) / (time - other) for other in path if other != time)
        for time in path
    ]
    rows, columns = (
        sum(w * place[axis] for w, place in zip(weights, path.values(), strict=True))
        for axis in (0, 1)
    )
    return rows, columns


def _whole(
    pair: tuple[Bytes, Bytes],
    ground: Bytes,
    blobs: tuple[_Blob, _Blob],
    move: Move,
    step: tuple[float, float],
    at: tuple[float, float],
) -> Whole:
    """Return a thing with its opacity.

    With opacity o, the colours of x0 and x1 differ by 1 - o times what their grounds differ
    by. Where the grounds are nearly equal, the thing is opaque.
    """
    import cv2

    moves = (0, 0), move
    placed = [
        (blob.top - by[0], blob.left - by[1], blob.mask)
        for blob, by in zip(blobs, moves, strict=True)
    ]
    top = min(row for row, *_ in placed) - _MARGIN
    left = min(column for _, column, _ in placed) - _MARGIN
    height = max(row + mask.shape[0] for row, _, mask in placed) + _MARGIN - top
    width = max(column + mask.shape[1] for _, column, mask in placed) + _MARGIN - left
    mask = np.zeros((height, width), np.uint8)
    for row, column, own in placed:
        rows = slice(row - top, row - top + own.shape[0])
        mask[rows, column - left : column - left + own.shape[1]] |= own

    def part(picture: Bytes, by: Move) -> Floats:
        rows = np.arange(top, top + height) + by[0]
        columns = np.arange(left, left + width) + by[1]
        rows = rows.clip(0, picture.shape[0] - 1)[:, None]
        columns = columns.clip(0, picture.shape[1] - 1)
        return np.asarray(picture[rows, columns], np.float64)

    def summed(values: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(values.sum(2), -1, (3, 3), normalize=False))

    colours, grounds = (
        part(first, (0, 0)) - part(second, move) for first, second in (pair, [ground] * 2)
    )
    least = 27 * _CHANGED**2  # of nine pixels of three colours
    clear = summed(colours * grounds) / (summed(grounds * grounds) + least)

    def widened(by: int) -> Floats:
        box = np.ones((2 * by + 1,) * 2, np.uint8)
        return np.asarray(cv2.blur(cv2.dilate(mask, box).astype(np.float64), (3, 3)))

    opacity = widened(1) * (1 - clear.clip(0, 1))
    return Whole(top, left, opacity, widened(2), step, at)


def put(
    made: Made,
    pair: tuple[Tensor, Tensor],
    wholes: Sequence[Whole],
    timestep: float,
    area: Area,
) -> None:
    """Put things into a new picture in place, and the ground where their ghosts were.

    ``made``: that of one picture. The pictures of ``pair``: (1, C, H, W). ``wholes``: found
    in the ``area``, in which the ghosts are.
    """
    new = made.pictures
    sent = upload(
        [torch.from_numpy(part).float() for w in wholes for part in (w.opacity, w.cover)],
        new.device,
    )
    opacities, covers = sent[::2], sent[1::2]
    corner = area.rows.start, area.columns.start
    both = []
    for end in (0, 1):
        covered = torch.zeros_like(new[:, :1])
        for whole, cover in zip(wholes, covers, strict=True):
            moved = [round(end * way) for way in whole.step]
            top = corner[0] + whole.top + moved[0]
            left = corner[1] + whole.left + moved[1]
            target, inside = _overlap(covered, cover, top, left)
            target.copy_(torch.maximum(target, inside))
        both.append(covered)
    rows = area.rows
    shown = []
    for end, (picture, covered) in enumerate(zip(pair, both, strict=True)):
        flow = made.flows[:, 2 * end : 2 * end + 2, rows]
        grid = sampling_grid(flow, *new.shape[2:], top=rows.start)
        gate = made.gate[:, :, rows]
        shown += [
            torch.lerp(sample(values, grid), values[:, :, rows], gate)
            for values in (picture, covered)
        ]
    first, ghost0, second, ghost1 = shown
    x0, x1 = pair
    cover0, cover1 = both
    strip = new[:, :, rows]
    behind = torch.lerp(x0[:, :, rows], x1[:, :, rows], cover0[:, :, rows])
    behind = torch.lerp(behind, strip, cover0[:, :, rows] * cover1[:, :, rows])
    cleaned = torch.lerp(
        torch.lerp(strip, second, ghost0), torch.lerp(first, behind, ghost0), ghost1
    )
    strip.copy_(cleaned)
    for whole, opacity in zip(wholes, opacities, strict=True):
        _put_one(new, pair, (cover0, cover1), whole, opacity, timestep, corner)


def _put_one(
    new: Tensor,
    pair: tuple[Tensor, Tensor],
    covers: tuple[Tensor, Tensor],
    whole: Whole,
    opacity: Tensor,
    timestep: float,
    corner: Move,
) -> None:
    """Put one thing into a new picture: its colours, less the ground behind them there."""
    height, width = new.shape[2:]
    way = whole.at
    top = corner[0] + whole.top + int(np.floor(way[0]))
    left = corner[1] + whole.left + int(np.floor(way[1]))
    rows = slice(max(0, top), min(height, top + len(opacity) + 1))
    columns = slice(max(0, left), min(width, left + opacity.shape[1] + 1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    area = Area(rows, columns)
    back = -way[0], -way[1]
    ahead = whole.step[0] - way[0], whole.step[1] - way[1]
    padded = F.pad(opacity[None, None], (1, 1, 1, 1))
    to_opacity = (
        back[0] - corner[0] - whole.top + 1,
        back[1] - corner[1] - whole.left + 1,
    )
    alpha = _moved(padded, area, to_opacity, "bilinear")
    colours, grounds = [], []
    for by, (own, other), cover in zip(
        (back, ahead), (pair, pair[::-1]), covers, strict=True
    ):
        own_part, other_part, covered = (
            _moved(values, area, by, mode)
            for values, mode in ((own, "bicubic"), (other, "bicubic"), (cover, "bilinear"))
        )
        colours.append(own_part)
        grounds.append(torch.lerp(own_part, other_part, covered))
    own, ground = (torch.lerp(a, b, timestep) for a, b in (colours, grounds))
    target = new[:, :, rows, columns]
    thing = own - (1 - alpha) * ground
    target.copy_(torch.where(alpha > 0, thing + (1 - alpha) * target, target))


def _moved(source: Tensor, area: Area, by: tuple[float, float], mode: str) -> Tensor:
    """Return the source at an area plus a move, (1, C, rows, columns)."""
    axes = []
    for part, way, side in zip(area, by, source.shape[2:], strict=True):
        places = torch.arange(part.start, part.stop, dtype=torch.float32)
        axes.append((places + way) * (2 / max(side - 1, 1)) - 1)
    y, x = upload(axes, source.device)
    shape = len(y), len(x)
    grid = torch.stack((x.expand(shape), y[:, None].expand(shape)), -1)[None]
    return sample(source, grid, mode)


def _overlap(target: Tensor, values: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
    """Return the part of the target that ``values`` at a place cover, and their part."""
    parts: list[Any] = []
    for start, side, count in zip((top, left), target.shape[2:], values.shape, strict=True):
        first, last = max(0, start), max(0, min(side, start + count))
        parts.append((slice(first, last), slice(first - start, max(last - start, 0))))
    (rows, own_rows), (columns, own_columns) = parts
    return target[:, :, rows, columns], values[own_rows, own_columns]
