"""Find a piece of sky beside its own mirror image, or beside itself.

Two parts are compared: one to the left of an upright axis, and one to the right, mirrored.
The result is their correlation at the best axis. Only the detail of moving parts counts.
The light over the whole picture, and layers of clouds that lie level, are symmetric in real
skies, too.
"""

import numpy as np

from cloudconv.images import Floats, Mask, blurred

# Greatest distance by which a mirror image is lower or higher, in rows of a thumbnail.
_ROWS = 2
# Width and height of each part, relative to the picture's.
_WIDE = 0.2
_TALL = 2 / 3
_LIGHT_SIGMA = 1 / 16  # sigma of the blur that leaves only light, relative to the width
_NOISE = 16.0  # added to the squared contrast of each place, in squared levels
# Added to the contrast of both parts, so that a part without detail does not count.
_FAINT = 0.1


def detail(luma: Floats, moving: Mask) -> Floats:
    """Return the detail of the ``moving`` parts, (h, w), of luma (n, h, w) in levels.

    The contrast of the result is about 1 at each place.
    """
    sigma = _LIGHT_SIGMA * luma.shape[-1]
    fine = luma - _blurred(luma, sigma)
    fine = (fine - fine.mean(-1, keepdims=True)) * moving
    # With the same contrast everywhere, a single bright cloud does not decide.
    clear: Floats = fine / np.sqrt(_blurred(np.square(fine), sigma) + np.float32(_NOISE))
    return clear


def _blurred(pictures: Floats, sigma: float) -> Floats:
    return np.stack([blurred(picture, sigma) for picture in pictures])


def symmetry(left: Floats, right: Floats) -> Floats:
    """Return how much the left of one mirrors the right of another at the best axis.

    ``left`` and ``right`` are :func:`detail`, (n, h, w). The result is a correlation, (n,).
    """
    height, width = left.shape[-2:]
    wide = max(1, round(_WIDE * width))
    tall = max(1, round(_TALL * height))
    axes = width - 2 * wide + 1
    offsets = range(2 * _ROWS + 1)
    right = np.pad(right, ((0, 0), (_ROWS, _ROWS), (0, 0)))
    first, second = (
        np.zeros((*details.shape[:-1], axes), np.float32) for details in (left, right)
    )
    both = np.zeros((len(offsets), *first.shape), np.float32)
    for away in range(wide):
        one = left[..., wide - 1 - away :][..., :axes]
        two = right[..., wide + away :][..., :axes]
        first += one * one
        second += two * two
        for offset in offsets:
            both[offset] += one * two[:, offset : offset + height]
    first, second = (_means(details, tall) for details in (first, second))
    size = [
        np.sqrt(first * second[:, k : k + first.shape[1]]) + wide * _FAINT for k in offsets
    ]
    most: Floats = (_means(both, tall) / np.stack(size)).max((0, 2, 3))
    return most


def repeats(left: Floats, right: Floats) -> Floats:
    """Return how much a part of ``left`` resembles one of ``right`` to the left of it.

    Both are the results of ``detail``, (n, h, w). The result is the greatest correlation,
    (n,).
    """
    height, width = left.shape[-2:]
    tall = max(1, round(_TALL * height))
    wide = max(1, round(_WIDE * width))
    energy = [_means(np.square(one), tall, wide) for one in (left, right)]
    likeness = np.zeros(len(left), np.float32)
    # A part that is nearer than half of its width is about the part itself.
    for shift in range((wide + 1) // 2, width - wide):
        both = _means(left[..., shift:] * right[..., :-shift], tall, wide)
        size = np.sqrt(energy[0][..., shift:] * energy[1][..., :-shift])
        likeness = np.maximum(likeness, (both / (size + np.float32(_FAINT))).max((1, 2)))
    return likeness


def _means(pictures: Floats, tall: int, wide: int = 1) -> Floats:
    """Return means of every ``tall`` rows by ``wide`` columns of pictures, (…, h, w)."""
    rows, columns = (
        np.tril(np.triu(np.ones((side, side), np.float32)), length - 1)[: side - length + 1]
        / length
        for side, length in zip(pictures.shape[-2:], (tall, wide), strict=True)
    )
    means: Floats = rows.astype(np.float32) @ pictures
    return means @ columns.T.astype(np.float32) if wide > 1 else means
