"""Process large pictures in overlapping tiles, and join these without a visible seam."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from cloudconv.transfer import upload

TileSpan = tuple[slice, Tensor]
"""The pixels of a tile along one axis, and their weights, float32 in [0, 1]. The weights of
all spans sum to 1 at each pixel."""


def round_up(size: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


def smallest_tile(overlap: int, multiple: int) -> int:
    """Return the smallest tile side in pixels: at least 64, and twice the overlap."""
    return max(2 * round_up(overlap, multiple), round_up(64, multiple))


def spans(size: int, tile: int, overlap: int, multiple: int) -> list[TileSpan]:
    """Cut ``size`` pixels into tiles of at most ``tile`` pixels that overlap.

    Tiles start at multiples of ``multiple``, so that a network which shrinks its input gets
    the same grid as on the whole picture. Two tiles overlap by at least ``overlap`` pixels
    and are cross-faded in the middle half of the overlap. The rest of the overlap is only
    input, because networks are least exact near the edges of their input. ``tile`` is a
    multiple of ``multiple`` and at least :func:`smallest_tile`.
    """
    units, tile_units = -(-size // multiple), tile // multiple
    shared = -(-overlap // multiple)
    if units <= tile_units:
        return [(slice(0, size), torch.ones(size))]
    count = -(-(units - shared) // (tile_units - shared))
    # Use the smallest tiles of which this number covers the picture, so that they overlap
    # less.
    tile_units = -(-(units + (count - 1) * shared) // count)
    starts = [k * (units - tile_units) // (count - 1) * multiple for k in range(count)]
    # Ramp k goes from 0 to 1 across the seam of tile k - 1 and tile k; the first is 1 and
    # the last is 0 everywhere. So the differences of neighbouring ramps, the weights, sum
    # to 1.
    position = torch.arange(size, dtype=torch.float32) + 0.5
    half = max(overlap / 4, 0.5)
    ramps = [torch.ones(size)]
    stops = [min(start + tile_units * multiple, size) for start in starts]
    for right, stop in zip(starts[1:], stops, strict=False):
        middle = (right + stop) / 2
        x = ((position - middle) / half).clamp(-1, 1)
        ramps.append(0.5 + 0.5 * torch.sin(x * (torch.pi / 2)))
    ramps.append(torch.zeros(size))
    weights = [rise - fall for rise, fall in pairwise(ramps)]
    parts = [slice(*ends) for ends in zip(starts, stops, strict=True)]
    return [(span, weight[span]) for span, weight in zip(parts, weights, strict=True)]


def tiled(
    run: Callable[[slice, slice], Tensor],
    size: Sequence[int],
    device: torch.device,
    *,
    tile: int,
    overlap: int,
    multiple: int,
) -> Tensor:
    """Call ``run`` for tiles of a picture and join the results with a cross-fade.

    ``size``: H and W of the picture. ``run`` takes the rows and the columns of a tile, at
    most ``tile`` of each, and returns (B, C, h, w) on ``device``. The memory for the result
    is one picture, whatever the number of tiles.
    """
    height, width = size
    rows = spans(height, tile, overlap, multiple)
    columns = spans(width, tile, overlap, multiple)
    # Copy the weights before the first tile: later copies would make the CPU wait for a
    # GPU.
    weights = upload([weights for _, weights in (*rows, *columns)], device)
    down, across = weights[: len(rows)], weights[len(rows) :]
    joined: Tensor | None = None
    for (row, _), falling in zip(rows, down, strict=True):
        for (column, _), rising in zip(columns, across, strict=True):
            result = run(row, column)
            if joined is None:
                joined = result.new_zeros((*result.shape[:-2], height, width))
            joined[..., row, column] += result * falling[:, None] * rising
    assert joined is not None
    return joined
