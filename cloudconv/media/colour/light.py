"""Find a change of light between two pictures: of exposure, of a lamp, or by a fade.

A change of light is a gain and an offset for the whole picture. Both follow from robust
means: the median of the luma, and the mean distance from the median. What moves has little
effect on them. Pictures that are brought into one light differ by motion only.
"""

from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, stack

_REACH = 3  # search distance of a block, in pixels of the thumbnail, in each direction
_BLOCK, _BLOCK_STEP = 8, 4
_LEAST = 0.5 / 255  # of the mean luma in [0, 1]; smaller changes are left as they are
_EXPLAINED = 0.4  # of the difference, and of the contrast, that light must leave at most
_TINY = 1e-6  # least divisor


class Light(NamedTuple):
    """A change of light: samples in [0, 1] times a gain, plus an offset."""

    gain: float
    offset: float

    def of(self, samples: Tensor) -> Tensor:
        """Return the samples in the other light."""
        return samples * self.gain + self.offset

    def back(self, share: float) -> "Light":
        """Return a share of the way back, from 0 (no change) to 1 (the inverse)."""
        return Light(1 + share * (1 / self.gain - 1), -share * self.offset / self.gain)


def in_light_of(first: Tensor, other: Tensor) -> Tensor:
    """Return the luma ``first`` in the light of the luma ``other``, on its device."""
    gain = _spread(other) / _spread(first).clamp_min(_TINY)
    return (first - first.median()) * gain + other.median()


def change_of_light(first: Tensor, other: Tensor) -> Light | None:
    """Return the light that brings ``first`` to ``other``, or None.

    The result is None unless light explains most of the difference. Pictures without
    contrast show no light. ``first``, ``other``: thumbnails of luma, (h, w) in [0, 1].
    """
    if abs(float(other.mean() - first.mean())) < _LEAST:
        return None
    lit = in_light_of(first, other).clamp(0, 1)
    before, after = unmatched([first, lit], other).mean((1, 2)).tolist()
    if after >= _EXPLAINED * min(before, float(_spread(other))):
        return None
    gain = float(_spread(other) / _spread(first).clamp_min(_TINY))
    return Light(gain, float(other.median() - gain * first.median()))


def _spread(luma: Tensor) -> Tensor:
    return (luma - luma.median()).abs().mean()


def unmatched(candidates: list[Tensor], target: Tensor) -> Tensor:
    """Return each block's mean difference from its best match in a candidate.

    ``candidates``, ``target``: thumbnails of one size, (h, w). The result is (n, rows,
    columns) for n candidates.
    """
    height, width = target.shape
    padded = F.pad(stack(candidates)[:, None], (_REACH,) * 4, mode="replicate")[:, 0]
    # (n, shifts, shifts, h, w).
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    left = F.avg_pool2d(
        (windows - target).abs_().flatten(0, 2)[:, None], _BLOCK, _BLOCK_STEP
    )
    return left.view(len(candidates), -1, *left.shape[-2:]).amin(1)
