"""How the light of a clip changes: slowly, and by region."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material

_Fields = NDArray[np.float64]

_REGIONS = 2  # along the longer side
_BRIGHT = 0.9  # quantile
_POWERS = 2  # of time, that the light of a region follows
_SAMPLES = 60  # frames that tell
_DARK = 8.0  # levels: darker regions keep their light, or noise would be made bright
_MOST = 1.6  # times brighter or darker


class Light:
    """The light of each frame of a material, as far as it follows time and not what passes by.

    In each region colours are fitted by a parabola in time; only the share of their changes that
    this explains counts, so that clouds that come and go are not taken for light.
    """

    def __init__(self, material: Material) -> None:
        count = len(material)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).round().astype(int))
        fields = np.stack([_field(material.glance(int(k))) for k in chosen])
        times = (chosen - chosen.mean()) / max(count, 2)
        terms = np.vander(times, min(_POWERS + 1, len(chosen)))
        flat = fields.reshape(len(chosen), -1)
        fit, *_ = np.linalg.lstsq(terms, flat, rcond=None)
        varies = np.square(flat - flat.mean(0)).sum(0)
        left = np.square(flat - terms @ fit).sum(0)
        sure = np.clip(1 - left / np.maximum(varies, 1e-6), 0, 1)
        every = np.vander((np.arange(count) - chosen.mean()) / max(count, 2), terms.shape[1])
        trend = flat.mean(0) + sure * (every @ fit - flat.mean(0))
        self._log: _Fields = np.log(np.maximum(trend, _DARK)).reshape(count, *fields.shape[1:])
        steps = np.abs(np.diff(self._log, axis=0)).mean((1, 2, 3)) if count > 1 else np.zeros(1)
        self._fastest = float(steps.max())
        self._now = self._log[-1].copy()

    def follow(self, frame: int) -> None:
        """Go on towards the light of a frame, no faster than the clip's light ever changed."""
        apart = self._log[frame] - self._now
        most = float(np.abs(apart).mean())
        if most > 0:
            self._now += apart * min(1.0, self._fastest / most)

    def on(self, frame: int) -> Tensor | None:
        """What brings a frame to the light of now: gains, (3, h, w); None where it is there."""
        apart = np.clip(self._now - self._log[frame], -np.log(_MOST), np.log(_MOST))
        if float(np.abs(apart).max()) < 0.004:
            return None
        return torch.from_numpy(np.exp(apart).astype(np.float32)).permute(2, 0, 1).contiguous()


def _field(picture: NDArray[np.uint8]) -> _Fields:
    """The bright end of each colour in large regions, (rows, columns, 3), in levels.

    What is bright, cloud or sky, tells the light; how much of it there is tells the weather.
    """
    height, width = picture.shape[:2]
    rows, columns = (
        max(1, round(_REGIONS * side / max(height, width))) for side in (height, width)
    )
    found = [
        [
            np.quantile(part.reshape(-1, 3), _BRIGHT, axis=0)
            for part in np.array_split(row, columns, 1)
        ]
        for row in np.array_split(picture[::2, ::2], rows, 0)
    ]
    made: _Fields = np.array(found)
    return made
