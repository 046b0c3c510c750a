"""Find a piece of sky beside its own mirror image, or beside itself.

Two parts are compared: one to the left of an upright axis, and one to the right, mirrored. The
result is their correlation at the best axis. Only the detail of moving parts counts. The light over
the whole picture, and layers of clouds that lie level, are symmetric in real skies, too.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.images import blurred

_ROWS = 2  # greatest distance by which a mirror image is lower or higher, in rows of a thumbnail
_WIDE, _TALL = 0.2, 2 / 3  # width and height of each part, relative to the picture's
_COARSE = 1 / 16  # sigma of the blur that leaves only light, relative to the width
_NOISE = 16.0  # added to the squared contrast of each place, in squared levels
_FAINT = 0.1  # added to the contrast of both parts, so that a part without detail does not count


def detail(luma: Tensor, moving: Tensor) -> Tensor:
    """Return the detail of the ``moving`` parts, (h, w), of luma (n, h, w) in levels.

    The contrast of the result is about 1 at each place.
    """
    sigma = _COARSE * luma.shape[-1]
    fine = luma - blurred(luma, sigma)
    fine = (fine - fine.mean(-1, keepdim=True)) * moving
    # With the same contrast everywhere, a single bright cloud does not decide.
    return fine / (blurred(fine.square(), sigma) + _NOISE).sqrt()


def symmetry(left: Tensor, right: Tensor) -> Tensor:
    """Return how much the left of one picture mirrors the right of another, at the best axis.

    ``left`` and ``right`` are :func:`detail`, (n, h, w). The result is a correlation, (n,).
    """
    height, width = left.shape[-2:]
    wide, tall = max(1, round(_WIDE * width)), max(1, round(_TALL * height))
    axes, offsets = width - 2 * wide + 1, range(2 * _ROWS + 1)
    right = functional.pad(right, (0, 0, _ROWS, _ROWS))
    first, second = (part.new_zeros(*part.shape[:-1], axes) for part in (left, right))
    both = left.new_zeros(len(offsets), *first.shape)
    for away in range(wide):
        one, two = left[..., wide - 1 - away :][..., :axes], right[..., wide + away :][..., :axes]
        first.addcmul_(one, one)
        second.addcmul_(two, two)
        for offset in offsets:
            both[offset].addcmul_(one, two[:, offset : offset + height])
    first, second = (_means(part, tall) for part in (first, second))
    size = [(first * second[:, k : k + first.shape[1]]).sqrt() + wide * _FAINT for k in offsets]
    alike = _means(both.flatten(0, 1), tall) / torch.cat(size)
    result: Tensor = alike.amax((1, 2)).view(len(offsets), -1).amax(0)
    return result


def repeats(left: Tensor, right: Tensor) -> Tensor:
    """Return how much a part of ``left`` resembles a part of ``right`` to the left of its place.

    Both are the results of ``detail``, (n, h, w). The result is the greatest correlation, (n,).
    """
    height, width = left.shape[-2:]
    tall, wide = max(1, round(_TALL * height)), max(1, round(_WIDE * width))
    energy = [_means(one.square(), tall, wide) for one in (left, right)]
    found = [left.new_zeros(len(left))]
    # A part that is nearer than half of its width is about the part itself.
    for shift in range((wide + 1) // 2, width - wide):
        both = _means(left[..., shift:] * right[..., :-shift], tall, wide)
        size = (energy[0][..., shift:] * energy[1][..., :-shift]).sqrt()
        found.append((both / (size + _FAINT)).amax((1, 2)))
    return torch.stack(found).amax(0)


def _means(pictures: Tensor, tall: int, wide: int = 1) -> Tensor:
    """Return the mean of every ``tall`` rows by ``wide`` columns; ``avg_pool2d`` is slow at it."""
    rows, columns = (
        pictures.new_ones(side, side).triu().tril(part - 1)[: side - part + 1] / part
        for side, part in zip(pictures.shape[-2:], (tall, wide), strict=True)
    )
    means = rows @ pictures
    return means @ columns.T if wide > 1 else means
