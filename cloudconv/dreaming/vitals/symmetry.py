"""Find a piece of sky beside its own mirror image.

Two parts are compared: one to the left of an upright axis, and one to the right, mirrored. The
result is their correlation at the best axis. Only the detail of moving parts counts. The light over
the whole picture, and layers of clouds that lie level, are symmetric in real skies, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloudconv.dreaming.pictures import blurred, grey, reduced

Small = NDArray[np.uint8]

_LONGEST = 80  # longest side of the pictures that are searched
_WIDE, _TALL = 0.2, 2 / 3  # width and height of each part, relative to the picture's
_ROWS = 6  # heights at which the parts are compared
_COARSE = 1 / 16  # sigma of the blur that leaves only light, relative to the width
_NOISE = 16.0  # added to the squared contrast of each place, in squared levels
_FAINT = 0.1  # added to the contrast of both parts, so that a part without detail does not count
_LEAST = 0.45  # least symmetry that is expected of a clip
_USUAL = 0.98  # quantile of the symmetry of the clip's frames that sets the limit
_EVERY = 3  # of so many frames of the clip one is searched


class Symmetry:
    """A search for mirror images in the ``moving`` parts, (h, w) bool, of new pictures.

    ``limit``: the limit of the symmetry, halfway from the clip's own symmetry to 1.
    """

    def __init__(self, pictures: Sequence[Small], moving: NDArray[np.bool_]) -> None:
        """Measure the symmetry of the clip's pictures, (h, w, 3) each."""
        self._moving = torch.from_numpy(reduced(moving.astype(np.float32), _LONGEST) > 0.99)
        own = [self.measure(picture) for picture in pictures[::_EVERY]]
        self.limit = (1 + max(_LEAST, float(np.quantile(own, _USUAL)))) / 2

    def measure(self, picture: Small) -> float:
        """Return the symmetry at the best axis, from -1 to 1."""
        small = torch.from_numpy(reduced(grey(picture), _LONGEST))
        found = detail(small[None].float(), self._moving)
        return float(symmetry(found, found))


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
    axes = width - 2 * wide + 1
    sums = left.new_zeros(3, len(left), height, axes)
    for away in range(wide):
        one, two = left[..., wide - 1 - away :][..., :axes], right[..., wide + away :][..., :axes]
        for total, factors in zip(sums, ((one, two), (one, one), (two, two)), strict=True):
            total.addcmul_(*factors)
    step = max(1, (height - tall) // _ROWS)
    both, first, second = functional.avg_pool2d(sums / wide, (tall, 1), (step, 1))
    result: Tensor = (both / ((first * second).sqrt() + _FAINT)).amax((1, 2))
    return result
