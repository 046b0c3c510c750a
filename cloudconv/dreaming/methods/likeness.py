"""Find a piece of sky that is visible twice in one picture, or in two.

The result is the correlation of two parts at the best distance. Only the detail of moving
parts counts: the light over the whole picture is alike in all its parts.
"""

import numpy as np

from cloudconv.images import Floats, Mask, blurred

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
