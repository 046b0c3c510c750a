"""Measure what no motion explains between two pictures, as a texture's network sees it.

The network moves the earlier and the later picture to the middle. Their difference is the
*leftover*: what vanishes, pops up or dissolves between the two. Pairs of the film that are
as far apart have a leftover too: fire and rain change as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch

from cloudconv.dreaming.images import Bytes, as_picture, tensor_of
from cloudconv.dreaming.vitals.places import by_place, place_of
from cloudconv.models import registry
from cloudconv.models.pair import Pair

_MODEL = "cloud-best"  # the network that makes the pictures of a jump
_PAIRS = 8  # pairs of the film at a distance
# A viewer sees a leftover that exceeds the usual one of the film by so many levels: the
# mean of the picture, or that of an area as large as a thing.
_SEEN = 2.0
_SEEN_THING = 7.0


class Leftover(NamedTuple):
    """The leftover of two pictures, in levels.

    ``mean``: that of the whole picture. ``most``: the largest of an area as large as a
    thing, which is at ``place``.  ``is_spread``: no ninth of the picture has half of the
    leftover.
    """

    mean: float
    most: float
    place: str
    is_spread: bool

    def seen(self, usual: Leftover) -> tuple[float, float]:
        """Return how far a viewer sees the whole and the area beyond what is usual.

        1 is what a viewer just sees.
        """
        whole = (self.mean - usual.mean) / _SEEN
        return max(whole, 0.0), max((self.most - usual.most) / _SEEN_THING, 0.0)


class Leftovers:
    """The leftovers of pairs of small pictures, and the usual ones in their film.

    ``picture`` returns one of the film's ``count`` pictures.
    """

    def __init__(self, picture: Callable[[int], Bytes], count: int) -> None:
        self._network = registry.shared(_MODEL, dtype=torch.float32)
        self._picture = picture
        self._count = count
        # The means and the largest areas of pairs of the film, by their distance.
        self._own: dict[int, list[tuple[float, float]]] = {}

    def between(self, first: Bytes, last: Bytes) -> Leftover:
        """Return the leftover of two pictures."""
        pair = Pair.of(
            [tensor_of(as_picture(picture))[None] for picture in (first, last)], 0.5
        )
        with torch.inference_mode():
            levels = 255 * np.abs(self._network.between(pair, leftover=True)[0, -1].numpy())
        things = cv2.GaussianBlur(
            by_place(levels), (0, 0), 1, borderType=cv2.BORDER_CONSTANT
        )
        row, column = np.unravel_index(things.argmax(), things.shape)
        place = place_of(int(row), int(column), things.shape)
        ninths = cv2.resize(levels, (3, 3), interpolation=cv2.INTER_AREA)
        is_spread = bool(ninths.max() < ninths.sum() / 2)
        return Leftover(float(levels.mean()), float(things.max()), place, is_spread)

    def usual(self, frames: int, quantile: float) -> Leftover:
        """Return a quantile of pairs of the film that are so many frames apart."""
        frames = min(frames, self._count - 1)
        if frames not in self._own:
            starts = np.linspace(0, self._count - 1 - frames, _PAIRS).round().astype(int)
            leftovers = [
                self.between(self._picture(k), self._picture(k + frames))
                for k in np.unique(starts).tolist()
            ]
            self._own[frames] = [(leftover.mean, leftover.most) for leftover in leftovers]
        mean, most = np.quantile(self._own[frames], quantile, 0).tolist()
        return Leftover(mean, most, "", is_spread=True)
