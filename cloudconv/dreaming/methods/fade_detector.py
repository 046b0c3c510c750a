"""When a forecast has had its time: it comes to rest, or clouds leave and no new ones form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import grey, small_copy

_PAIRS = 16  # of the material that tell what is usual
_MOTION = 0.4  # of the usual change; a forecast lacks what evolves, so it always has less
_DETAIL = 0.81  # of the usual detail: below .8 a dream counts as dead
_STILL = 0.1  # change in levels below which there is no motion to lose

_Floats = NDArray[np.float32]


class FadeDetector:
    """Says when pictures that go on from the material have lost its motion or its detail."""

    def __init__(self, material: Material) -> None:
        self._size = material.small_size
        self._moving = (material.static < 0.5).astype(np.float32)
        last = len(material) - 1
        ends = np.unique(np.linspace(min(1, last), last, _PAIRS).round().astype(int))
        changes, details = [], []
        for k in (int(end) for end in ends):
            before, after = (_luma(material.small(j)) for j in (max(k - 1, 0), k))
            changes.append(self._change(before, after))
            details.append(self._sharpness(after))
        self._usual_change = float(np.mean(changes))
        self._usual_detail = float(np.mean(details))
        self._before = _luma(material.small(-1))

    def over(self, picture: Tensor) -> bool:
        """Whether the forecast has faded; ``picture`` is its next one, (3, H, W)."""
        luma = _luma(small_copy(picture, self._size))
        change, self._before = self._change(self._before, luma), luma
        rests = self._usual_change > _STILL and change < _MOTION * self._usual_change
        return rests or self._sharpness(luma) < _DETAIL * self._usual_detail

    def _change(self, a: _Floats, b: _Floats) -> float:
        return float((np.abs(b - a) * self._moving).mean())

    def _sharpness(self, luma: _Floats) -> float:
        across = np.abs(luma[:-1, 1:] - luma[:-1, :-1])
        down = np.abs(luma[1:, :-1] - luma[:-1, :-1])
        return float(((across + down) * self._moving[:-1, :-1]).mean())


def _luma(small: NDArray[np.uint8]) -> _Floats:
    levels: _Floats = grey(small).astype(np.float32)
    return levels
