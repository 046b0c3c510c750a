"""Find what moves too fast for a network's motion, and move it as a whole.

A network's motion estimate loses a small thing that moves by more than about its own size,
such as a ball, a bird or a pointer. The two moved pictures then show the thing at two
places, and their mix shows half of it twice, or nothing. These places are known, because
the moved pictures differ there.

The motion around such a place is that of the ground. If both source pictures follow this
motion, the ground is at the same place in both, even before a moving camera, and the thing
is not: the one picture shows the thing where the other shows the ground. A *blob* is such a
place. A blob of x0 that fits a blob of x1 is a *whole*, if the frames around the pair show
it on the same path, and the network's picture does not show it there. Then the ground
replaces both ghosts, and the thing is put at its place in between. Its opacity follows from
two grounds behind one thing (Smith and Blinn, Blue Screen Matting, 1996), so that blurred
outlines stay blurred.

The CPU decides, with sums of whole numbers, which do not depend on their order. So neither
threads nor batches change a decision. The pictures stay on the device: only the part around
the places comes down, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, hypot
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
Floats = NDArray[np.float32]
Move = tuple[int, int]
"""Rows and columns."""
Way = tuple[float, float]
"""Rows and columns, with parts of a pixel."""

Outer = tuple[float, Bytes]
"""A frame around a pair, after its time: 0 is that of x0, 1 that of x1."""

_LEFT = 12 / 255  # difference of both pictures of a mix, in a cell where a thing is lost
_CHANGED = 10  # levels by which a thing differs from the ground, at least
_LEVELS = [_CHANGED << k for k in (0, 2)]
_FITS = 0.15  # squared difference, relative to that of the thing and the ground
_BEND = 0.25  # change of the way from picture to picture, relative to the way
_REACH = 0.2  # the longest way between two pictures, relative to the picture's longer side
_MOST = 0.08  # part of the picture; where more is lost, the cause is no single thing
_CELL = 4  # pixels of a cell of the map of places
_AROUND = 2  # cells around a place, whose motion is not that of the ground
_PIXELS = 36  # a smaller blob fits anywhere
_BLOBS = 16
_SIDE = 48  # pixels; larger blobs are searched more coarsely
_LEAST = 0.01  # weight of a mean
_EDGE = 3  # pixels across an edge
_NEAR = 2  # pixels around a guess that are searched
_MARGIN = 6  # pixels around a blob whose opacity is computed


class CellArea(NamedTuple):
    """Rows and columns of a picture; the first ones are multiples of a cell's side."""

    rows: slice
    columns: slice

    def of(self, picture: Tensor) -> Tensor:
        """Return the colours of the area of a picture, (1, C, H, W), as levels."""
        part = picture[0, :COLOURS, self.rows, self.columns]
        return part.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)

    @property
    def cells(self) -> tuple[slice, slice]:
        """Return the rows and columns of the area's cells."""
        return slice(self.rows.start // _CELL, -(-self.rows.stop // _CELL)), slice(
            self.columns.start // _CELL, -(-self.columns.stop // _CELL)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Blob:
    """A place where one of two aligned pictures shows a thing, and the other the ground.

    ``part_of``: the blob that this one was cut from.
    """

    top: int
    left: int
    mask: Bytes
    part_of: _Blob | None = None

    @property
    def pixels(self) -> int:
        return int(self.mask.sum())

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

    def meets(self, other: _Blob) -> bool:
        """Return whether the boxes of both blobs overlap."""
        rows = self.top < other.ends[0] and other.top < self.ends[0]
        return rows and self.left < other.ends[1] and other.left < self.ends[1]

    def moved(self, move: Move) -> _Blob:
        return _Blob(self.top + move[0], self.left + move[1], self.mask, self.part_of)

    def of(self, picture: Bytes, move: Move = (0, 0)) -> Bytes | None:
        """Return a picture at the blob's place after a move; None outside of it."""
        top, left = self.top + move[0], self.left + move[1]
        bottom, right = self.ends[0] + move[0], self.ends[1] + move[1]
        is_inside = top >= 0 and left >= 0 and bottom <= len(picture)
        if not is_inside or right > picture.shape[1]:
            return None
        return picture[top:bottom, left:right]

    def apart(self, first: Bytes | None, second: Bytes | None) -> float:
        """Return the sum of the squared differences of two pictures at the blob."""
        import cv2  # imported here, because every command loads this module

        if first is None or second is None:
            return float("inf")
        return float(cv2.norm(first, second, cv2.NORM_L2SQR, self.mask))


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """A blob of the first picture, the blob of the second that it fits, and the move."""

    first: _Blob
    second: _Blob
    pictures: tuple[Bytes, Bytes]
    move: Move

    def meets(self, other: _Match) -> bool:
        """Return whether the thing is at a place of the other thing in a picture."""
        return self.first.meets(other.first) or self.second.meets(other.second)

    @property
    def energy(self) -> float:
        both = [self.first.of(picture) for picture in self.pictures]
        return max(self.first.apart(*both), 1.0)

    def misfit(self, picture: Bytes, move: Move) -> float:
        """Return how much a picture differs from the thing there; 1 is the ground."""
        own = self.first.of(self.pictures[0])
        return self.first.apart(own, self.first.of(picture, move)) / self.energy

    def nearest(self, picture: Bytes, guesses: Sequence[Move]) -> tuple[float, Move]:
        """Return the least misfit near the guesses, and its move."""
        energy, own = self.energy, self.first.of(self.pictures[0])
        known: dict[Move, float] = {}

        def misfit(move: Move) -> float:
            if move not in known:
                there = self.first.of(picture, move)
                known[move] = self.first.apart(own, there) / energy
            return known[move]

        steps = range(-_NEAR, _NEAR + 1, 2)
        moves = {(g[0] + y, g[1] + x) for g in guesses for y, x in product(steps, steps)}
        best = min((misfit(move), move) for move in moves)
        while True:
            row, column = best[1]
            near = product((row - 1, row, row + 1), (column - 1, column, column + 1))
            better = min((misfit(move), move) for move in near)
            if better[0] >= best[0]:
                return best
            best = better

    def finer(self, picture: Bytes, move: Move) -> Way:
        """Return a move to a part of a pixel, by a parabola through three misfits."""
        least = self.misfit(picture, move)
        result = []
        for whole, rows, columns in ((move[0], 1, 0), (move[1], 0, 1)):
            before = self.misfit(picture, (move[0] - rows, move[1] - columns))
            after = self.misfit(picture, (move[0] + rows, move[1] + columns))
            bend = before + after - 2 * least
            is_known = 0 < bend < float("inf")
            result.append(whole + ((before - after) / (2 * bend) if is_known else 0.0))
        return result[0], result[1]


class Whole(NamedTuple):
    """A thing of x0 and its way, in aligned pictures.

    ``misfit``: the largest one in the pictures that show the thing. ``step``, ``at``: the
    way from x0 to x1, and to the timestep.
    """

    match: _Match
    misfit: float
    step: Way
    at: Way


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A search in one picture, which is corrected in place.

    ``made``: that of the picture. ``cells``: its :func:`places`. ``sources``: x0, x1, and
    perhaps those before and after the pair, (1, C, H, W). ``outer``: the times of the
    latter, where x0 is at 0 and x1 at 1; a missing one has that of x0 or x1.
    """

    made: Made
    area: CellArea
    cells: Bytes
    sources: Sequence[Tensor]
    outer: tuple[float, float]
    timestep: float

    def blocks(self) -> list[Tensor]:
        """Return the areas that the CPU needs: new picture, sources, flows of the cells."""
        flows = F.avg_pool2d(
            self.made.flows, _CELL, ceil_mode=True, count_include_pad=False
        )
        pictures = (self.made.pictures, *self.sources)
        return [*map(self.area.of, pictures), flows[0, :, *self.area.cells].float()]

    def finish(self, blocks: Sequence[NDArray[np.generic]]) -> None:
        """Find things in these areas, and put them into the picture."""
        import cv2

        new, x0, x1, *around = (np.asarray(block, np.uint8) for block in blocks[:-1])
        times = [*zip(self.outer, around, strict=False)]
        outer = [(time, block) for time, block in times if time not in (0, 1)]
        if not outer:
            return
        lost = np.ascontiguousarray(self.cells[self.area.cells])
        size = new.shape[1], new.shape[0]
        side = 2 * _AROUND + 1
        hole = cv2.dilate(lost, np.ones((side, side), np.uint8))
        flows = np.asarray(blocks[-1], np.float32).transpose(1, 2, 0)
        ground = cv2.resize(filled(flows, hole), size)
        pair = _followed(x0, ground[..., :2]), _followed(x1, ground[..., 2:])
        found = wholes_of(
            pair,
            outer,
            new,
            _enlarged(cv2.dilate(lost, np.ones((3, 3), np.uint8)), size),
            _enlarged(hole, size),
            ground,
            self.timestep,
            _REACH * max(self.made.pictures.shape[2:]),
        )
        if found:
            paint(self.made.pictures, self.sources, self.area, ground, found, self.timestep)


def places(made: Made) -> Tensor:
    """Return the cells where things may be lost, (B, h, w) uint8, 1 where they may."""
    means = F.avg_pool2d(made.apart, _CELL, ceil_mode=True, count_include_pad=False)
    return means[:, 0].gt(_LEFT).to(torch.uint8)


def area_of(cells: Bytes, size: tuple[int, int]) -> CellArea | None:
    """Return the part of a picture in which lost things move; None for no place.

    ``cells``: the picture's :func:`places`. ``size``: its height and width. A thing is lost
    at both of its places, so that its way is not longer than the box around all places.
    """
    found = np.nonzero(cells)
    if not 0 < len(found[0]) <= cells.size * _MOST:
        return None
    longest = max(int(place.max() - place.min()) for place in found)
    reach = min(longest, ceil(_REACH * max(size) / _CELL))
    parts = [
        slice(
            _CELL * max(0, int(place.min()) - reach),
            min(side, _CELL * (int(place.max()) + 1 + reach)),
        )
        for place, side in zip(found, size, strict=True)
    ]
    return CellArea(*parts)


def filled(flows: Floats, hole: Bytes) -> Floats:
    """Return flows, (h, w, 4), with those in the hole from around it, coarse to fine.

    Source: Gortler et al., The Lumigraph, 1996 (pull and push).
    """
    import cv2

    weights = 1 - hole.astype(np.float32)
    levels = [(flows * weights[..., None], weights)]
    while min(levels[-1][1].shape) > 2 and not levels[-1][1].all():
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    result = levels[-1][0]
    for sums, weight in reversed(levels):
        means = sums / np.maximum(weight, _LEAST)[..., None]
        coarser = cv2.resize(result, weight.shape[::-1])
        result = np.where(weight[..., None] > _LEAST, means, coarser)
    return result


def wholes_of(
    pair: tuple[Bytes, Bytes],
    outer: Sequence[Outer],
    new: Bytes,
    lost: Bytes,
    hole: Bytes,
    ground: Floats,
    timestep: float,
    longest: float,
) -> list[Whole]:
    """Return the things that the network's picture ``new`` lacks, in an area.

    All pictures are (H, W, 3) levels. ``pair``: x0 and x1, aligned by the motion of the
    ``ground``, (H, W, 4). ``lost``: (H, W), 1 where things may be lost; ``hole``: the same
    with its surroundings. ``longest``: the longest way from x0 to x1, in pixels.
    """
    found = []
    for first, second, guesses in _candidates(pair, lost, hole, longest):
        match = _matched(first, second, pair, guesses, longest)
        whole = None if match is None else _whole(match, outer, ground, timestep)
        if whole is not None and not _is_shown(whole, new):
            found.append(whole)
    return _without_rivals(found)


def _enlarged(cells: Bytes, size: tuple[int, int]) -> Bytes:
    large = cells.repeat(_CELL, 0).repeat(_CELL, 1)
    return np.ascontiguousarray(large[: size[1], : size[0]])


def _followed(picture: Bytes, flow: Floats) -> Bytes:
    import cv2

    rows, columns = np.indices(flow.shape[:2], np.float32)
    places = columns + flow[..., 0], rows + flow[..., 1]
    mode = cv2.INTER_LINEAR
    return np.asarray(
        cv2.remap(picture, *places, mode, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _candidates(
    pair: tuple[Bytes, Bytes], lost: Bytes, hole: Bytes, longest: float
) -> Iterator[tuple[_Blob, _Blob, list[Move]]]:
    """Yield two blobs that may be one thing, and guesses of its move.

    One is an island of the first picture, and one of the second. The guesses are those of
    the centre, and of two corners, as a part may be hidden. The places of a thing may
    overlap: then one blob holds both, and is no island. Other changes may touch a blob: at
    a higher level of difference they are blobs of their own.
    """
    import cv2

    apart = cv2.absdiff(*pair).max(2)
    left = hole > 0
    earlier: list[_Blob] = []
    later: list[_Blob] = []
    for level in _LEVELS:
        for blob in _blobs((apart > level) & left, lost, longest):
            if _is_island(blob, pair):
                earlier.append(blob)
            elif _is_island(blob, pair[::-1]):
                later.append(blob)
            else:
                yield from _halves(blob, pair)
                continue
            rows, columns = np.nonzero(blob.mask)
            left[rows + blob.top, columns + blob.left] = False
    for first, second in product(earlier, later):
        if first.pixels <= 2 * second.pixels <= 4 * first.pixels:
            centres = first.centre, second.centre
            corners = (first.top, first.left), (second.top, second.left)
            ends = first.ends, second.ends
            guesses = [(b[0] - a[0], b[1] - a[1]) for a, b in (centres, corners, ends)]
            yield first, second, guesses


def _blobs(changed: NDArray[np.bool], lost: Bytes, longest: float) -> Iterator[_Blob]:
    """Yield the largest blobs in places where things may be lost."""
    import cv2

    mask = changed.astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(mask, outlines, -1, 1, cv2.FILLED)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    for number in order[:_BLOBS].tolist():
        left, top, width, height, pixels = stats[number].tolist()
        if pixels < _PIXELS:
            return
        place = slice(top, top + height), slice(left, left + width)
        own = (labels[place] == number).astype(np.uint8)
        if max(width, height) < 2 * longest and (own & lost[place]).any():
            yield _Blob(top, left, own)


def _halves(
    blob: _Blob, pair: tuple[Bytes, Bytes]
) -> Iterator[tuple[_Blob, _Blob, list[Move]]]:
    """Yield the two places of a thing in one blob, for the best move.

    A move of the thing in the blob leads from a part of the blob to a part of the blob, and
    the two parts explain the change in the blob. The sums over such parts, for all moves,
    are correlations.
    """
    import cv2

    step = ceil(max(blob.mask.shape) / _SIDE)
    first, second = (
        np.asarray(blob.of(picture), np.float32)[::step, ::step].transpose(2, 0, 1)
        for picture in pair
    )
    energies = [(x**2).sum(0) for x in (first, second, first - second)]
    layers = np.concatenate([np.ones_like(first[:1]), energies, first, second])
    shape = 2 * layers.shape[1], 2 * layers.shape[2]
    waves = np.fft.rfft2(layers * blob.mask[::step, ::step], shape)
    own, energy0, energy1, change = waves[:4]
    both = (waves[4 : 4 + COLOURS].conj() * waves[-COLOURS:]).sum(0)
    products = [
        energy0.conj() * own + own.conj() * energy1 - 2 * both,
        change.conj() * own + own.conj() * change,
    ]
    apart, explained = np.fft.irfft2(np.stack(products), shape)
    total = change[0, 0].real
    misfits = (apart + np.maximum(total - explained, 0)) / max(total, 1)
    misfits[0, 0] = np.inf
    row, column = np.unravel_index(int(np.argmin(misfits)), shape)
    if misfits[row, column] > 2 * _FITS:
        return
    move = (
        step * ((int(row) + shape[0] // 2) % shape[0] - shape[0] // 2),
        step * ((int(column) + shape[1] // 2) % shape[1] - shape[1] // 2),
    )
    # Where both places of a plain thing overlap, nothing changes.
    outline = cv2.convexHull(cv2.findNonZero(blob.mask))
    hull = cv2.fillConvexPoly(np.zeros_like(blob.mask), outline, 1)
    part = hull & _moved(hull, (-move[0], -move[1])).astype(np.uint8)
    part = cv2.morphologyEx(part, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes) or sizes.max() < _PIXELS:
        return
    largest = 1 + int(np.argmax(sizes))
    left, top, width, height = stats[largest, :4].tolist()
    cut = labels[top : top + height, left : left + width] == largest
    half = _Blob(blob.top + top, blob.left + left, cut.astype(np.uint8), blob)
    there = half.moved(move)
    if _is_island(half, pair) and _is_island(there, pair[::-1]):
        yield half, there, [move]


def _matched(
    first: _Blob,
    second: _Blob,
    pair: tuple[Bytes, Bytes],
    guesses: Sequence[Move],
    longest: float,
) -> _Match | None:
    """Return the match of two blobs; None if one does not lead to the other and back."""
    match = _Match(first, second, pair, (0, 0))
    misfit, move = match.nearest(pair[1], guesses)
    shortest = min(first.mask.shape) / 2
    if misfit > _FITS or not shortest < hypot(*move) < longest:
        return None
    other = _Match(second, first, pair[::-1], (0, 0))
    back = other.nearest(pair[0], [(-move[0], -move[1])])[1]
    if max(abs(back[0] + move[0]), abs(back[1] + move[1])) > _NEAR:
        return None
    return _Match(first, second, pair, move)


def _is_island(blob: _Blob, pair: tuple[Bytes, Bytes]) -> bool:
    """Return whether the first picture has an edge along the blob, and the second less.

    This must hold on all four sides. The second picture shows the ground, which goes on
    around the blob. Where two parts of the ground moved apart, each picture has an edge on
    one side. Around the blob both pictures show the ground: other parts of a thing differ.
    """
    energies = np.zeros(2)
    whole = blob.part_of or blob
    rows, columns = np.nonzero(blob.mask)
    inside = rows + blob.top, columns + blob.left
    for row, column in ((-_EDGE, 0), (_EDGE, 0), (0, -_EDGE), (0, _EDGE)):
        outside = inside[0] + row, inside[1] + column
        own = outside[0] - whole.top, outside[1] - whole.left
        known = _within(outside, pair[0].shape)
        covered = _within(own, whole.mask.shape)
        covered[covered] = whole.mask[own[0][covered], own[1][covered]] > 0
        used = known & ~covered
        here = inside[0][used], inside[1][used]
        there = outside[0][used], outside[1][used]
        (first, first_out), (second, second_out) = (
            [picture[places].astype(np.int32) for places in (here, there)]
            for picture in pair
        )
        if np.abs(first - first_out).sum() < np.abs(second - second_out).sum():
            return False
        energies += ((first - second) ** 2).sum(), ((first_out - second_out) ** 2).sum()
    return bool(energies[1] < _FITS * energies[0])


def _within(places: tuple[NDArray[np.int64], ...], size: Sequence[int]) -> NDArray[np.bool]:
    rows, columns = places
    return (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])


def _whole(
    match: _Match, outer: Sequence[Outer], ground: Floats, timestep: float
) -> Whole | None:
    """Return the thing of a match with its path; None if the path is in doubt.

    The frames around the pair that can show the thing must show it, on a path that bends
    evenly: with constant acceleration.
    """
    pair, move = match.pictures, match.move
    row, column = match.first.centre
    there = row + move[0], column + move[1]
    if not (0 <= there[0] < len(ground) and 0 <= there[1] < ground.shape[1]):
        return None
    step = match.finer(pair[1], move)
    start = ground[row, column, 1::-1]
    way = np.asarray(step) + ground[(*there, slice(3, 1, -1))] - start
    misfits = [match.misfit(pair[1], move)]
    bends: list[NDArray[np.float64]] = []
    for time, picture in outer:
        wanted = start + time * way
        guess = round(float(wanted[0])), round(float(wanted[1]))
        if match.first.of(picture, guess) is None:  # not in the picture yet, or any more
            continue
        misfit, found = match.nearest(picture, [guess])
        misfits.append(misfit)
        bend = time * (time - 1) / 2
        bends.append((np.asarray(match.finer(picture, found)) - wanted) / bend)
    if not bends or max(misfits) > _FITS:
        return None
    bends += [np.zeros(2)] * (len(bends) == 1)
    apart = np.subtract(*bends)
    largest = max(hypot(*bend) for bend in bends)
    if hypot(*apart) > _NEAR + min(match.first.mask.shape) / 2:
        return None
    if largest > _NEAR + _BEND * hypot(*way):
        return None
    bent = np.add(*bends) / (len(misfits) - 1) * timestep * (timestep - 1) / 2
    at = np.asarray(step) * timestep + bent
    return Whole(match, max(misfits), step, (float(at[0]), float(at[1])))


def _moved(values: NDArray[Any], by: Move, border: int = 0) -> Floats:
    """Return values, (H, W) or (H, W, C), moved by rows and columns."""
    import cv2

    matrix = np.array([[1, 0, by[1]], [0, 1, by[0]]], np.float32)
    size = values.shape[1], values.shape[0]
    moved = cv2.warpAffine(values.astype(np.float32), matrix, size, borderMode=border)
    return np.asarray(moved, np.float32)


def _is_shown(whole: Whole, new: Bytes) -> bool:
    """Return whether the network's picture has the thing at its place."""
    import cv2

    match = whole.match
    first = match.first.of(match.pictures[0])
    second = match.first.of(match.pictures[1], match.move)
    assert first is not None
    assert second is not None
    mean = np.asarray(cv2.addWeighted(first, 0.5, second, 0.5, 0), np.uint8)
    shown = match.first.of(new, (round(whole.at[0]), round(whole.at[1])))
    return match.first.apart(mean, shown) / match.energy < _FITS + whole.misfit


def _without_rivals(found: Sequence[Whole]) -> list[Whole]:
    """Return the things at whose places no other thing fits as well."""
    result: list[Whole] = []
    taken: list[Whole] = []
    for whole in sorted(found, key=lambda whole: whole.misfit):
        match = whole.match
        if any(match.meets(other.match) for other in taken):
            continue
        taken.append(whole)
        rivals = [
            other
            for other in found
            if match.meets(other.match)
            and other.misfit < 2 * whole.misfit + 0.02
            and hypot(*np.subtract(other.match.move, match.move))
            > min(match.first.mask.shape) / 2
        ]
        if not rivals:
            result.append(whole)
    return result


def paint(
    new: Tensor,
    sources: Sequence[Tensor],
    area: CellArea,
    ground: Floats,
    wholes: Sequence[Whole],
    timestep: float,
) -> None:
    """Put things into a new picture in place, and the ground where their ghosts were.

    ``new``, ``sources``: (1, C, H, W). ``ground``: the motion in the ``area``. ``wholes``:
    things in the area.
    """
    masks = [_mask_of(whole, ground.shape[:2]) for whole in wholes]
    covers = [np.max([pair[end] for pair in masks], 0) for end in (0, 1)]
    opacities = [
        _opacity(whole.match, mask[0], covers)
        for whole, mask in zip(wholes, masks, strict=True)
    ]
    parts = [ground.transpose(2, 0, 1), *map(_widened, covers), *opacities]
    tensors = [torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in parts]
    motion, *layers = upload(tensors, new.device)
    cover0, cover1, *alphas = (layer[None, None] for layer in layers)
    n0, n1 = (
        sample(
            x[:, :, area.rows, area.columns],
            sampling_grid(motion[None, first : first + 2], *motion.shape[1:]),
        )
        for x, first in zip(sources[:2], (0, 2), strict=True)
    )
    target = new[:, :, area.rows, area.columns]
    shown = torch.lerp(target, n1, cover0 * (1 - cover1))
    shown = torch.lerp(shown, n0, cover1 * (1 - cover0))
    layers0 = n0, torch.lerp(n0, n1, cover0)
    layers1 = n1, torch.lerp(n1, n0, cover1)
    for whole, alpha, opacity in zip(wholes, alphas, opacities, strict=True):
        part = _part_of(opacity, whole.at)
        if any((side.start or 0) >= side.stop for side in part):
            continue
        back = whole.at[0] - whole.step[0], whole.at[1] - whole.step[1]
        own, behind = (
            torch.lerp(_shifted(a, whole.at, part), _shifted(b, back, part), timestep)
            for a, b in zip(layers0, layers1, strict=True)
        )
        clear = 1 - _shifted(alpha, whole.at, part, "bilinear")
        before = shown[..., part[0], part[1]]
        before.copy_(torch.where(clear < 1, own + clear * (before - behind), before))
    target.copy_(shown)


def _part_of(opacity: Floats, by: Way) -> tuple[slice, slice]:
    """Return the rows and columns of an opacity that are not clear, after a move."""
    sides = []
    for axis, way in zip((1, 0), by, strict=True):
        shown = np.flatnonzero(opacity.any(axis))
        if not len(shown):
            return slice(0), slice(0)
        first, last = int(shown[0] + way), ceil(shown[-1] + way)
        sides.append(slice(max(0, first - 1), min(opacity.shape[1 - axis], last + 2)))
    return sides[0], sides[1]


def _mask_of(whole: Whole, size: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """Return the thing's place in x0 and in x1, (H, W): all that either blob shows."""
    first, second = whole.match.first, whole.match.second
    row, column = whole.match.move
    both = []
    for by in ((0, 0), (row, column)):
        mask = np.zeros((size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN), np.uint8)
        for blob, move in ((first, by), (second, (by[0] - row, by[1] - column))):
            top = max(0, blob.top + move[0] + _MARGIN)
            left = max(0, blob.left + move[1] + _MARGIN)
            part = mask[top : top + blob.mask.shape[0], left : left + blob.mask.shape[1]]
            part |= blob.mask[: part.shape[0], : part.shape[1]]
        both.append(mask[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    return both[0], both[1]


def _widened(mask: Bytes, by: int = 2) -> Floats:
    import cv2

    box = np.ones((2 * by + 1,) * 2, np.uint8)
    return np.asarray(cv2.blur(cv2.dilate(mask, box).astype(np.float32), (3, 3)))


def _opacity(match: _Match, mask: Bytes, covers: Sequence[Bytes]) -> Floats:
    """Return a thing's opacity in x0, (H, W).

    With opacity o, the colours of x0 and x1 differ by 1 - o times what their grounds differ
    by. Where the grounds are nearly equal, the thing is opaque.
    """
    import cv2

    n0, n1 = (picture.astype(np.float32) for picture in match.pictures)
    s0, s1 = (_widened(cover)[..., None] for cover in covers)

    def back(values: Floats) -> Floats:
        return _moved(values, (-match.move[0], -match.move[1]), cv2.BORDER_REPLICATE)

    colours = n0 - back(n1)
    grounds = n0 * (1 - s0) + n1 * s0 - back(n1 * (1 - s1) + n0 * s1)

    def summed(values: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(values.sum(2), -1, (3, 3), normalize=False))

    least = 27 * _CHANGED**2  # of nine pixels of three colours
    clear = summed(colours * grounds) / (summed(grounds * grounds) + least)
    return np.asarray(_widened(mask, 1) * (1 - clear.clip(0, 1)), np.float32)


def _shifted(
    layer: Tensor, by: Way, part: tuple[slice, slice], mode: str = "bicubic"
) -> Tensor:
    """Return a part of a layer, (1, C, H, W), that is moved by rows and columns."""
    y, x = (
        (torch.arange(inside.start, inside.stop, device=layer.device) - way)
        * (2 / max(side - 1, 1))
        - 1
        for inside, way, side in zip(part, by, layer.shape[2:], strict=True)
    )
    size = len(y), len(x)
    grid = torch.stack((x.expand(size), y[:, None].expand(size)), -1)
    return sample(layer, grid[None], mode)
