"""Sharpen a new picture until its fine detail is as strong as in the filmed pictures.

Motion by a fraction of a pixel softens a picture, because bilinear sampling is a low-pass
filter. A mix of two pictures is soft too, because their noise and small misfits average
out. Between sharp source frames the change of sharpness is visible as a pulse. The luma is
therefore sharpened in each patch until its finest band (luma minus a blur of sigma 1) has
the energy of the same place in the moved source picture with more detail.

Sharpened edges would ring, as those of the pickets of a fence. So no pixel becomes lighter
or darker than all that the moved source pictures show around it.

Detail of noise cannot be restored. Sharpening fades where less than half of the contrast
around is common to both moved pictures, as in a picture that is only noise.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.metrics import LUMA
from cloudconv.models.base import COLOURS
from cloudconv.models.ops import resize, sample, sampling_grid, strip_rows, strips
from cloudconv.models.pair import Pair

_CELL = 8  # pixels; energies are means over three by three cells
# The measured lines of a cell; all lines would be slower and no better.
_LINES = slice(3, 4)
_MOST = 1.25  # the largest gain of a detail
_LEAST_ENERGY = 1e-7
_AROUND = 13  # cells, along each side, over which the two pictures are compared
FLAT = 1e-6  # of squares of luma: a thousandth of the range, so flat pictures are equal
_REACH = 2  # pixels on each side that the blur reads


def restore_detail(
    target: Tensor, pair: Pair, flows: Tensor, size: float, strength: Tensor
) -> None:
    """Sharpen the luma of new pictures of pairs, (B, 3 or more, H, W), in place.

    ``flows``, (B, 4, h, w), lead to both source pictures, in pixels of their own grid,
    which is smaller by ``size``. ``strength``, (B, 1, H, W) or (B, 1, 1, 1), is the part of
    the missing detail to restore.
    """
    height, width = target.shape[2:]
    step = strip_rows(target)
    lumas, details, energies = [], [], []
    for luma in _lumas(target):
        lumas.append(_inner(luma, 2, 2))
        details.append(lumas[-1] - _inner(_blurred(luma, 2), 2, 1))
        with torch.no_grad():
            energies.append(_means(luma))
    with torch.no_grad():
        missing = _missing(_smooth(torch.cat(energies, 2)), pair, flows, size)
    for (top, cells), luma, detail in zip(
        strips(missing, _CELL, step), lumas, details, strict=True
    ):
        rows = slice(top, min(top + step, height))
        count = rows.stop - top
        more, darkest, lightest = torch.split(cells[:, :, :count, :width], 1, 1)
        shown = luma[:, :, :count]
        change = (detail[:, :, :count] * more).clamp(
            (darkest - shown).clamp_max_(0), (lightest - shown).clamp_min_(0)
        )
        own = strength if strength.shape[2] == 1 else strength[:, :, rows]
        target[:, :COLOURS, rows] += change * own


def _missing(own: Tensor, pair: Pair, flows: Tensor, size: float) -> Tensor:
    """Return the gain of the details, and the limits of the luma: (B, 3, h, w).

    ``own`` are the smoothed energies of the new picture, see :func:`_means`.
    """
    flows_of_cells = resize(flows, size / _CELL)[..., : own.shape[2], : own.shape[3]] * (
        size / _CELL
    )
    sources = pair.of_each("energy", _of_source)
    samples = [
        sample(source, sampling_grid(flow, *own.shape[2:]))
        for source, flow in zip(sources, torch.split(flows_of_cells, 2, 1), strict=True)
    ]
    wanted, dark, lightest, _ = torch.split(torch.maximum(*samples), 1, 1)
    band, product, details = torch.split(own, 1, 1)
    # With the gain ``more``, the energy of band + more * details equals ``wanted``.
    lack = (wanted - band).clamp_min(0)
    more = ((product.square() + details * lack).sqrt() - product) / (
        details + _LEAST_ENERGY
    )
    more.clamp_(0, _MOST)
    more *= _common(*(means[:, 3:] for means in samples))
    return torch.cat((more, -dark, lightest), 1)


def _of_source(picture: Tensor) -> Tensor:
    """Return band², the darkest luma, negative, the lightest, and luma, (B, 4, h, w)."""
    lumas = [*_lumas(picture)]
    means = torch.cat([_means(luma, of_source=True) for luma in lumas], 2)
    both = [_inner(torch.cat((-luma, luma), 1), 2, _REACH) for luma in lumas]
    limits = torch.cat([F.max_pool2d(x, _CELL, ceil_mode=True) for x in both], 2)
    return torch.cat((_smooth(means[:, :1]), limits, means[:, 1:]), 1)


def _common(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 where half of the contrast around is in both or more, 0 up to a quarter."""
    means = _around(
        torch.cat((first, second, first * first, second * second, first * second), 1)
    )
    mean0, mean1, square0, square1, product = torch.split(means, 1, 1)
    variance0 = (square0 - mean0 * mean0).clamp_min(0) + FLAT
    variance1 = (square1 - mean1 * mean1).clamp_min(0) + FLAT
    correlation = (product - mean0 * mean1 + FLAT) / (variance0 * variance1).sqrt()
    return (4 * correlation - 1).clamp(0, 1)


def _around(images: Tensor) -> Tensor:
    """Return the means over boxes of 13 by 13 cells, of the cells within the picture."""
    side = _AROUND // 2
    rows = F.avg_pool2d(images, (_AROUND, 1), 1, (side, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, _AROUND), 1, (0, side), count_include_pad=False)


def _lumas(picture: Tensor) -> Iterator[Tensor]:
    """Yield the luma in strips of whole cells, with ``_REACH`` more pixels on each side.

    Outside the picture the nearest pixel is repeated.
    """
    height = picture.shape[2]
    step = strip_rows(picture)
    for top in range(0, height, step):
        count = min(step, height - top)
        first = max(0, top - _REACH)
        last = min(height, top + count + _REACH)
        red, green, blue = torch.split(picture[:, :COLOURS, first:last], 1, 1)
        luma = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
        above = first - top + _REACH
        below = count + -count % _CELL + 2 * _REACH - above - (last - first)
        yield F.pad(luma, (_REACH, _REACH, above, below), mode="replicate")


def _means(luma: Tensor, *, of_source: bool = False) -> Tensor:
    """Return means over each cell: (B, 3, h, w) of band², band x details and details².

    The band is luma minus a binomial blur of variance 1. The details are luma minus a
    binomial blur of variance 1/2. ``of_source``: return (B, 2, h, w) of band² and luma
    instead.
    """
    count = _LINES.stop - _LINES.start + 2 * _REACH
    lines = luma[:, :, _LINES.start :].unfold(2, count, _CELL)
    once = _blurred(lines, 4)
    middle = _inner(lines, 4, 2)
    band = middle - _blurred(once, 4)
    details = middle - _inner(once, 4, 1)
    others = [middle] if of_source else [band * details, details.square()]
    means = torch.cat([values.mean(-1) for values in (band.square(), *others)], 1)
    return F.avg_pool2d(means, (1, _CELL), ceil_mode=True, count_include_pad=False)


def _blurred(luma: Tensor, rows: int) -> Tensor:
    """Blur by a 3x3 binomial, which takes a pixel from each side of axes ``rows`` and 3."""
    for axis in (rows, 3):
        count = luma.shape[axis] - 2
        outer = luma.narrow(axis, 0, count) + luma.narrow(axis, 2, count)
        luma = outer.add_(luma.narrow(axis, 1, count), alpha=2).mul_(0.25)
    return luma


def _inner(luma: Tensor, rows: int, edge: int) -> Tensor:
    """Return ``luma`` without ``edge`` pixels on each side of the axes ``rows`` and 3."""
    for axis in (rows, 3):
        luma = luma.narrow(axis, edge, luma.shape[axis] - 2 * edge)
    return luma


def _smooth(energy: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(energy, (1, 1, 1, 1), mode="replicate"), 3, 1)
