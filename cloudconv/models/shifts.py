"""Move by exact shifts what a network's motion loses, on screens and in drawings.

Networks estimate motion coarse to fine. They lose what moves by more than its own size, or
by about the distance of the next equal thing, such as lines of text. On screens and in
drawings such things move by few shifts of whole pixels, which phase correlation finds
(Kuglin and Hines, The Phase Correlation Image Alignment Method, 1975). All things with one
shift are found together, so that the letters of a page confirm each other.

The decision is taken in the source frames, because in a new frame the ground agrees with
the ground where a thing should be. A pixel that changed is explained by a shift if the
other frame shows its surroundings there, the frames around the pair show them further on
the same path, and the pixel did not stand still before. A thing is at one place: one shift
moves each part of x0, and one reaches each part of x1. Equal things in a row, such as the
pickets of a fence, fit several shifts: the one that leaves the least unexplained in both
frames moves them, and none where two leave as much. A path may bend, as that of a page that
stops: its next step is then another shift, which must fit better. In a wide region nearly
all that changed must be explained: film hardly ever is. Then the shift moves the things,
with the flat colours between their parts, and the ground behind them comes from the frame
that shows it. If a shift moves most of the picture, as the world of a game, and another one
a figure, it moves the ground behind the figure, too. All that holds where the network finds
a motion, too, because one that is off by a whole picket leaves its two pictures alike.

All steps are on the device of the pictures, and the CPU does not wait for it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.metrics import luma
from cloudconv.models.base import COLOURS, Made
from cloudconv.models.ops import box_mean, box_most, enlarged, sample, sampling_grid
from cloudconv.models.pair import PairPicture, PairPictures

_SHIFTS = 3  # of a pair
_LONGEST = 0.3  # part of a side
_CHANGED = 6 / 255
_LOST = 4 / 255  # difference of the pictures that a network mixes
_FITS = 0.5  # difference that a shift leaves, relative to that without it
_INSIDE = 12 / 255  # the same in levels
_AT_EDGE = 6 / 255
_RIM = 15  # pixels: a part goes on so far where less is certain
_CLOSED = 25  # pixels of a gap in a part
_WHOLE = 161  # … in what moves by the strongest shift
_CELLS = 128  # of the longer side of a picture, each of at least four pixels
_REGION = 25  # cells
_MISSED = 0.05  # part of a region's change that no shift explains
_SLACK = 0.001  # change of a region that is missed besides
_NEAR = 13  # cells
_LEFT = 0.5  # weight of a difference that a shift leaves, beside that of a missed change
_ROUNDED = 2  # pixels by which three whole places may turn
_TURNS = 0.5  # change of a path from frame to frame, as a part of a shift
_TIE = 0.1  # of what two shifts explain both: they leave as much unexplained
_BETTER = 0.25  # of the change: a worse shift fits so much better than a better one
_FREE = 3.0  # a shift of its own fits so much better
_EXACT = 0.12  # as _FITS, for a path that bends …
_LARGE = 0.05  # … in a part of the picture
_FAR = 10.0  # a value that fits nothing
_TINY = 1e-5
_HALF = (..., slice(None, None, 2), slice(None, None, 2))


class Shifts(NamedTuple):
    """The shifts of a pair, and what they move.

    ``moves``: (K, 2), rows and columns from x0 to x1. ``bends``: (K, 2), the accelerations
    of their paths. ``ground``: (1, 2), the shift that moves most of the picture, or 0.
    ``levels``: (K, H, W) uint8, 3 and 2 where x0 shows what a shift moves, for certain and
    around, 1 where that is flat. ``changed``: (1, H, W), 1 where x0 and x1 differ.
    ``begin``, ``end``: (1, H, W), where x0 and x1 show any of that before the ground.
    ``explained``: (1, H, W), 1 where the shifts explain nearly all that changes.
    """

    moves: Tensor
    bends: Tensor
    ground: Tensor
    levels: Tensor
    changed: Tensor
    begin: Tensor
    end: Tensor
    explained: Tensor


def move_exactly(
    made: Made,
    sides: Sequence[PairPictures],
    times: Sequence[float],
    reaches: Sequence[Sequence[float]],
) -> None:
    """Move in new pictures, in place, what exact shifts explain and the network loses.

    ``sides``: the whole pictures x0, x1, before and after. ``times``, ``reaches``: those of
    each item, see :class:`~cloudconv.models.pair.Pair`. A pair of a scene of two frames
    stays as the network makes it.
    """
    is_cpu = made.apart.device.type == "cpu"
    for number, (new, apart, reach) in enumerate(
        zip(made.pictures, made.apart, reaches, strict=True)
    ):
        lost = box_mean(apart, 9) > _LOST
        if not any(reach) or (is_cpu and not lost.any()):
            continue
        pictures = [side[number] for side in sides]
        x0, x1, *_ = pictures
        name = "shifts", x1
        if name not in x0.kept:  # another thread may do the same, with an equal result
            x0.kept[name] = _shifts_of(pictures, reach)
        found: Shifts | None = x0.kept[name]
        if found is None or (is_cpu and not found.explained.any()):
            continue
        weight = box_mean(found.explained * lost.any(), 9)
        new.lerp_(_moved(new, x0.channels, x1.channels, found, times[number]), weight)
        apart.mul_(1 - weight)


def _shifts_of(pictures: Sequence[PairPicture], reach: Sequence[float]) -> Shifts | None:
    """Return the shifts from x0 to x1; the frames before and after confirm them.

    Source frames are compared at half the size first, because there most films end.
    """
    x0, x1, *around = (picture.derived("level", _level).channels for picture in pictures)
    size = x0.shape[1:]
    cell = max(2, max(size) // _CELLS // 2)
    change = _change(x0, x1)
    moves = _candidates(x0, x1, change)
    half = change[_HALF]
    first = _misfit(x0, x1, moves)
    left = _unexplained(half, moves, first)
    moves, first, left = (x[left.argsort()] for x in (moves, first, left))
    # Only what fits as well as on a screen may have a path that bends.
    fits = box_most((first.amin(0, keepdim=True) < _EXACT * half).float() * (half > 0), 11)
    bent = _explained(half, half * (1 - fits), fits, cell).mean() > _LARGE
    certain, bends = _certain(half, moves, first, left, (x0, x1), around, reach, bent)
    ends = torch.cat((certain, _at(certain, -(moves // 2))))
    covered = box_most(ends.amax(0, keepdim=True), 11)
    likely = _explained(half, half * (1 - covered), covered, cell)
    if change.device.type == "cpu" and not likely.any():
        return None
    left = (x0 - _at(x1, moves, _FAR)).abs_()
    left *= left <= 1  # a part may leave the picture
    leaves = box_mean(left, 3)
    inside = (enlarged(certain[None], size)[0] > 0.5).float() * (leaves < _INSIDE)
    parts = inside.maximum(box_most(inside, _RIM) * (change > 0) * (leaves < _AT_EDGE))
    parts = _closed(parts.maximum(_closed(parts, _CLOSED) * (leaves < _AT_EDGE)), 5)
    # Flat colours inside of a thing move, too, but cover nothing that stays, and no part.
    flat = parts.maximum(_closed(parts, _WHOLE) * (leaves < _AT_EDGE))
    levels = _at_one_place(inside + parts + flat, moves)
    changed = (change > 0).float()
    shown = [
        box_most((x + changed > 1.5).float(), 3) for x in (levels, _at(levels, -moves))
    ]
    covered = torch.cat(shown).amax(0, keepdim=True)
    # What moves most of a picture, behind other things, is ground and covers nothing.
    is_ground = (levels[0] > 0).float().mean().round() * (levels[1:] > 2).any()
    begin, end = (
        torch.cat((x[:1] * (1 - is_ground), x[1:])).amax(0, keepdim=True) for x in shown
    )
    missed = change * (1 - covered) + _LEFT * (left * parts).amax(0, keepdim=True)
    explained = likely * _explained(change, missed, covered, 2 * cell)
    return Shifts(
        *(moves, bends, moves[:1] * is_ground.long(), levels.byte(), changed),
        *(box_mean(begin, 3), box_mean(end, 3), enlarged(explained[None], size)[0]),
    )


def _at_one_place(levels: Tensor, moves: Tensor) -> Tensor:
    """Return levels so that one shift moves each place of x0, and one reaches each of x1.

    What is certain wins, and else a shift that leaves less unexplained.
    """
    better = torch.linspace(0.5, 0, len(levels), device=levels.device)[:, None, None]
    for way in (0 * moves, moves):
        ranks = _at(levels + better, -way)
        levels = levels * _at((ranks >= ranks.amax(0)).float(), way)
    return levels


def _level(picture: Tensor) -> Tensor:
    return luma(picture[:, :COLOURS])


def _change(one: Tensor, other: Tensor) -> Tensor:
    """Return by how much a picture differs at each pixel where that counts, else 0."""
    change = box_mean((one - other).abs_(), 3)
    return change * (change > _CHANGED)


def _misfit(x0: Tensor, x: Tensor, ways: Tensor) -> Tensor:
    """Return how every second pixel of x0 differs from another picture further on."""
    return box_mean((x0[_HALF] - _at(x, ways, _FAR, 2)).abs_(), 3)


def _certain(
    change: Tensor,
    moves: Tensor,
    first: Tensor,
    left: Tensor,
    pair: Sequence[Tensor],
    around: Sequence[Tensor],
    reach: Sequence[float],
    bent: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return where each shift explains every second pixel of x0, (K, h, w), and bends.

    ``first``: the misfits with x1. ``left``: what each leaves unexplained. ``bent``:
    whether a path may bend.
    """
    shown = [first]
    others = []
    for k, (x, r) in enumerate(zip(around, reach, strict=True)):
        if r:
            way = 2 * k - 1
            steady = (moves * way * r).round().long()
            steps = steady[None]
            if bent.device.type != "cpu" or bent:
                own = _candidates(pair[k], x, _change(pair[k], x))[:, None]
                steps = torch.cat((steps, own.expand(-1, len(moves), -1)))
            turns = (steps - steady).abs().amax(2) > _TURNS * moves.abs().amax(1) + _ROUNDED
            errors = torch.stack([_misfit(pair[0], x, k * moves + step) for step in steps])
            errors[1:] = errors[1:] * _FREE + _FAR * (~bent | (errors[:1] > 1))
            errors += _FAR * turns[:, :, None, None]
            shown.append(errors.amin(0))
            others.append((way, r, steps, errors))
    each = torch.stack(shown)
    # What is outside one frame is confirmed by the others.
    each = torch.where(each > 1, each.amin(0), each)
    misfits = each[0] + each[1:].amax(0) / 2
    numbers = torch.arange(len(moves), device=moves.device)[:, None, None]
    both = []
    for found, near, outer, r in zip(
        (misfits, _at(misfits, -(moves // 2), _FAR)), pair, around, reach, strict=True
    ):
        number = box_mean(found + numbers * _BETTER * change, 5).argmin(0, keepdim=True)
        fits = ((change > 0) * (found < _FITS * box_mean(change, 3))).float()
        if r:
            fits = fits * (box_mean((near - outer)[_HALF].abs_(), 3) > _CHANGED)
        # Where two shifts explain a place and leave as much elsewhere, none acts.
        shared = torch.einsum("khw,lhw->kl", fits, _TIE * fits * change)
        ties = (left - left[:, None]).abs() < shared
        rivals = (ties.fill_diagonal_(False)[:, :, None, None] * fits).amax(1)
        both.append((number == numbers) * fits * (1 - rivals))
    certain = box_most(both[0], 3) * box_most(_at(both[1], moves // 2), 3)
    certain = box_most(_least(certain, 3), 3)
    bends = []
    for way, r, steps, errors in others:
        best = ((errors < _INSIDE) * certain).sum((2, 3)).argmax(0)[None, :, None]
        step = steps.gather(0, best.expand(-1, -1, 2))[0] * (way / r)
        bends.append(way * (step - moves) * (2 / (1 + r)))
    return certain, torch.stack(bends).mean(0)


def _unexplained(change: Tensor, moves: Tensor, misfits: Tensor) -> Tensor:
    """Return how much of the change in x0 and x1 each shift leaves unexplained, (K,).

    What leaves the picture, or comes into it, is explained.
    """
    sides = torch.cat((misfits, _at(misfits, -(moves // 2), 0.0)))
    misses = box_mean(sides * (sides <= 1), 5) >= _FITS * box_mean(change, 5)
    return (change * misses).view(2, len(moves), -1).sum((0, 2))


def _explained(change: Tensor, missed: Tensor, covered: Tensor, cell: int) -> Tensor:
    """Return the cells near what is covered that miss little in a region, (1, h, w)."""
    total, missed = (
        box_mean(F.avg_pool2d(x, cell, ceil_mode=True), _REGION) for x in (change, missed)
    )
    explained = (missed <= _MISSED * total + _SLACK).float()
    near = box_most(F.max_pool2d(covered, cell, ceil_mode=True), _NEAR)
    return near * _least(explained, _REGION)


def _candidates(x0: Tensor, x1: Tensor, change: Tensor) -> Tensor:
    """Return the strongest shifts of what changed, (K, 2)."""
    weight = box_mean(box_mean(box_most((change > 0).float(), 9), 9), 9)
    first, second = (torch.fft.rfft2((box_mean(x, 3) - x) * weight) for x in (x0, x1))
    both = first.conj_physical() * second
    size = both.abs()
    both /= size + 1e-3 * size.max().sqrt() + _TINY
    rows, columns = (int(side * _LONGEST) for side in x0.shape[1:])
    plane = torch.fft.irfft2(both, x0.shape[1:]).roll((rows, columns), (1, 2))
    plane = plane[:, : 2 * rows + 1, : 2 * columns + 1].contiguous()
    plane[:, rows, columns] = 0
    plane = torch.where(plane < F.max_pool2d(plane, 3, 1, 1), 0, plane).flatten()
    best = plane.topk(min(_SHIFTS, len(plane))).indices
    wide = 2 * columns + 1
    return torch.stack((best // wide - rows, best % wide - columns), 1)


def _moved(new: Tensor, x0: Tensor, x1: Tensor, found: Shifts, time: float) -> Tensor:
    """Return a new picture with all that moves by a shift, and the ground behind it."""
    back = -(found.ground * time).round().long()
    first, second = (
        _at(torch.cat((x[0], hidden)), way.expand(len(x[0]) + 1, -1))
        for x, hidden, way in (
            (x0, found.begin, back),
            (x1, found.end, found.ground + back),
        )
    )
    # What both frames show at a place stands still there, or moves as the ground.
    still = box_mean((first - second)[:-1].abs().amax(0, keepdim=True), 3) < 2 / 255
    new = torch.where(still, torch.lerp(first[:-1], second[:-1], time), new)
    new = torch.lerp(new, second[:-1], first[-1:] * (1 - second[-1:]))
    new = torch.lerp(new, first[:-1], second[-1:] * (1 - first[-1:]))
    ways = found.moves * time + found.bends * (time * (time - 1) / 2)
    levels = _at(found.levels.float(), -ways.round().long())
    count = len(levels) + 1
    # What is certain covers what is not; otherwise a weaker shift covers a stronger one.
    order = torch.arange(1, count, device=new.device)[:, None, None]
    ranks = (levels * count + order) * (levels + found.changed > 1.5)
    own = ranks.amax(0)
    weight = box_mean((own > 0).float()[None], 3)
    # What is beside a part is moved as the part.
    number = torch.where(own > 0, own, box_most(ranks, 3).amax(0)).long() % count
    colours = torch.zeros_like(new)
    total = torch.full_like(weight, _TINY)
    for x, away, share in ((x0, -ways, 1 - time), (x1, found.moves - ways, time)):
        # No shift has the number 0.
        flow = F.pad(away.flip(1), (0, 0, 1, 0))[number].permute(2, 0, 1)
        grid = sampling_grid(flow[None], *number.shape)
        shown = share * (grid.abs().amax(3) <= 1 + _TINY)
        colours += shown * sample(x, grid, "bicubic")[0]
        total += shown
    return torch.lerp(new, colours / total, weight * (total > 2 * _TINY))


def _at(x: Tensor, moves: Tensor, outside: float | None = None, step: int = 1) -> Tensor:
    """Return one picture, or one for each move, as it is that much further on, (K, H, W).

    By default the edges go on ``outside``. ``step``: between the pixels that are returned.
    """
    mode = "replicate" if outside is None else "constant"
    pictures = F.pad(x, (1, 1, 1, 1), mode, outside).expand(len(moves), -1, -1)
    rows, columns = (
        (way[:, None] + torch.arange(0, side, step, device=x.device)).clamp_(-1, side) + 1
        for way, side in zip(moves.unbind(1), x.shape[1:], strict=True)
    )
    numbers = torch.arange(len(moves), device=x.device)[:, None, None]
    return pictures[numbers, rows[:, :, None], columns[:, None]]


def _least(mask: Tensor, side: int) -> Tensor:
    return 1 - box_most(1 - mask, side)


def _closed(mask: Tensor, side: int) -> Tensor:
    return _least(box_most(mask, side), side)
