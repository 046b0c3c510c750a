"""Hold what changes in place: a new frame shows there one of the source frames.

A subtitle comes or goes, a number changes, a window shows another scene: no motion leads
from one picture to the next there, and a picture between them shows both. Such a place is
like the frame before the pair, and like the frame after it, apart from small motion, while
the pair differs, and no longer motion explains the difference: neither one that a search
finds, nor that of the network, nor an exact shift. Small digits are looked for once more,
closer, where the pair differs most, if the ground around stands still.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, maximum, minimum, stack

from cloudconv.images import Area, whole
from cloudconv.models.base import COLOURS, Made
from cloudconv.models.ops import enlarged
from cloudconv.models.pair import PairPicture, PairPictures
from cloudconv.transfer import upload

_BLOCK = 4  # pixels of a thumbnail
_NEAR = 2  # the same: motion that is usual
_FAR = 6  # … that a thing may make at once
_NOISE = 1 / 255  # of luma in [0, 1], a block's mean
_ABRUPT = 4.0  # times the changes before and after
_BESIDE = 17  # the side, in blocks, of a square around those that may change half as much
_FEWEST = 6  # blocks that change abruptly
_MOST = 0.5  # part of the picture; more is another scene, or its light
_DETAIL = 0.4  # part of the change beside that of local means, which light changes, too
_APART = 0.35  # part of the change by which the two moved pictures differ
_CLOSER = 10  # a second look reaches such a part of each side


Place = tuple[Area, Tensor]
"""An area of a picture, and its cells, (1, 1, h, w): 1 where it changes at once, else 0."""


def change_between(first: Tensor, other: Tensor, reach: int = _NEAR) -> Tensor:
    """Return by how much each block differs from its best match in the other picture.

    The result is (2, rows, columns), for thumbnails of luma, (h, w) in [0, 1]: first for
    blocks that move as a whole, then for blocks of which pixels may stand still, as those
    of a subtitle over a pan do.
    """
    return maximum(_unmatched(first, other, reach), _unmatched(other, first, reach))


def _unmatched(first: Tensor, other: Tensor, reach: int) -> Tensor:
    padded = F.pad(first[None, None], (reach,) * 4, mode="replicate")[0, 0]
    moved = (padded.unfold(0, len(other), 1).unfold(1, other.shape[1], 1) - other).abs_()
    ways = stack((moved, minimum(moved, moved[reach, reach]))).flatten(0, 2)
    left = F.avg_pool2d(ways[:, None], _BLOCK, _BLOCK // 2)
    return left.view(2, -1, *left.shape[-2:]).amin(1)


def changed_in_place(
    x0: Tensor,
    x1: Tensor,
    changes: Sequence[Tensor],
    size: tuple[int, int],
    looks: Sequence[Callable[[Area], Tensor]],
) -> Place | None:
    """Return where a pair of pictures of a ``size``, (H, W), changes at once.

    The digits of a clock may be too small for thumbnails. So a second look is at the part
    of the pictures that changes most, where all else must stand still.

    Args:
        x0: a thumbnail.
        x1: the next one.
        changes: those from the frame before to x0, to x1, and to the frame after.
        size: height and width of the pictures.
        looks: return an area of each of these four, of a thumbnail's size.
    """
    usual = maximum(changes[0], changes[2])[1]
    cells = _abrupt(x0, x1, usual, changes[1][0])
    if cells is not None:
        return whole(size), cells
    most = divmod(int((changes[1][0] / (usual + _NOISE)).argmax()), usual.shape[1])
    centres = [
        (number + 1) * side // (count + 1)
        for number, count, side in zip(most, usual.shape, size, strict=True)
    ]
    rows, columns = (
        slice(max(0, centre - side // _CLOSER), centre + side // _CLOSER + 1)
        for centre, side in zip(centres, size, strict=True)
    )
    before, x0, x1, after = (look((rows, columns)) for look in looks)
    moved = maximum(change_between(before, x0, 0), change_between(x1, after, 0))[0]
    cells = _abrupt(x0, x1, moved.amax().expand_as(moved), change_between(x0, x1)[0])
    if cells is None:
        return None
    return (rows, columns), cells


def _abrupt(x0: Tensor, x1: Tensor, usual: Tensor, change: Tensor) -> Tensor | None:
    """Return 1 in cells that change at once, and 0 in others, (1, 1, h, w), or None.

    ``change``, ``usual``: those of each block, and the larger one of those beside it.
    """
    usual = _ABRUPT * (usual + _NOISE)
    around = F.max_pool2d(usual[None], 3, 1, 1)[0]
    # Nearly all pairs end here, without the long search.
    if int((change > around).sum()) < _FEWEST:
        return None
    unmoved = change_between(x0, x1, _FAR)[0]
    blocks = (unmoved > around).float()[None, None]
    blocks = F.max_pool2d(blocks, _BESIDE, 1, _BESIDE // 2) * (unmoved > usual / 2)
    # Blocks at the edge of a place may change little. A block covers two by two cells.
    place = F.max_pool2d(blocks, 3, 1, 1) * (unmoved > usual / _ABRUPT)
    place = F.max_pool2d(F.pad(place, (1, 1, 1, 1)), 2, 1)
    apart = x0 - x1
    detail = (apart - F.avg_pool2d(apart[None], 9, 1, 4)[0]).abs()
    is_abrupt = (blocks * (unmoved - usual)).sum() > 0 and blocks.mean() <= _MOST
    is_light = (enlarged(place, x0.shape) * (detail - _DETAIL * apart.abs())).sum() <= 0
    return place if is_abrupt and not is_light else None


def hold(
    made: Made,
    sides: Sequence[PairPictures],
    nearer: Sequence[PairPicture],
    places: Sequence[Place | None],
) -> None:
    """Show in new pictures, in place, the nearer source frame where a pair changes at once.

    ``sides``: the pictures x0, x1, and others, in one light. ``nearer``, ``places``: those
    of each item; see :func:`changed_in_place`. A place that motion explains stays moved.
    """
    for number, place in enumerate(places):
        if place is None:
            continue
        area = ..., *place[0]
        new = made.pictures[number][area]
        apart = made.apart[number][area]
        x0, x1 = (side[number].channels[0][area] for side in sides[:2])
        (cells,) = upload([place[1]], new.device)
        weight = (2 * enlarged(cells, new.shape[1:])[0]).clamp_(max=1)
        change = (x0 - x1)[:COLOURS].abs().mean(0)
        weight *= (weight * (apart - _APART * change)).sum() > 0
        new.lerp_(nearer[number].channels[0][area], weight)
        apart.mul_(1 - weight)
