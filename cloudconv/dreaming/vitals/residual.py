"""Measure what is wrong between two pictures, beyond what is usual in the film.

The network of a texture moves the earlier and the later picture to the middle. Their
difference is the *residual*: what no motion explains. Pairs of the film that are as far
apart have a residual too: fire and rain change as much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch

from cloudconv.doubts import by_place
from cloudconv.images import Bytes, Floats, as_picture, tensor_of
from cloudconv.models import registry
from cloudconv.models.base import Made
from cloudconv.models.pair import Pair

NETWORK = "cloud-best"
"""The network that makes the pictures of a jump."""

_PAIRS = 8  # pairs of the film at a distance


class Residuals:
    """Residuals between pairs of small pictures, and the largest of pairs of their film.

    ``picture`` returns one of the film's ``count`` pictures. ``usual`` returns the most
    between pairs of the film that are so many frames apart.
    """

    def __init__(self, picture: Callable[[int], Bytes], count: int) -> None:
        self._network = registry.shared(NETWORK, "cpu", torch.float32)
        self._picture = picture
        self._count = count
        self.usual = cache(self._usual)

    def between(self, first: Bytes, last: Bytes) -> Floats:
        """Return the levels of areas as large as a thing that no motion explains, (h, w).

        They are by place, see :func:`cloudconv.doubts.by_place`.
        """
        pair = Pair.of(
            [tensor_of(as_picture(picture))[None] for picture in (first, last)], 0.5
        )
        with torch.inference_mode():
            middle = Made.of(self._network.between(pair, maps=True))
        left = 255 * by_place(np.abs(middle.residual[0, 0].numpy()))
        return cv2.GaussianBlur(left, (0, 0), 1, borderType=cv2.BORDER_CONSTANT)

    def _usual(self, frames: int) -> Floats:
        frames = min(frames, self._count - 1)
        starts = np.linspace(0, self._count - 1 - frames, _PAIRS).round().astype(int)
        own = [
            self.between(self._picture(k), self._picture(k + frames))
            for k in np.unique(starts).tolist()
        ]
        usual: Floats = np.max(own, 0)
        return usual
