"""Which part of the material comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import blurred, resized

_THUMB = 60  # longest side
_BLUR = 1.0
_USED = 1.0  # of the usual distance, for a start that was chosen last …
_TOGETHER = 3.0  # … and for the same two starts, one over the other
_BESIDE = 0.3  # of all starts: within which another counts as chosen, too, the less the further
_FORGETS, _FORGETS_BOTH = 0.8, 0.98  # how much of that is left at the next choice
_REMEMBERS = 64  # choices
_NOISE = 0.4  # of the usual distance
_OTHER_PACE = 3.0  # of the usual distance, for e times as much motion as now
_AROUND = 16  # frames before and after over which motion is averaged
_APART = 0.3  # of all starts: so far from what is seen now, or the same would be seen again soon


class ClipSelector:
    """Starts of segments, by how well they fit what is seen, and not the same again and again."""

    def __init__(self, material: Material, random: np.random.Generator) -> None:
        self._random = random
        height, width = material.small_size
        factor = min(1.0, _THUMB / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        smalls = [torch.from_numpy(material.glance(k)) for k in range(len(material))]
        small = [resized(s.permute(2, 0, 1) / 255, size) for s in smalls]
        self._thumbs = torch.stack([blurred(s, _BLUR) for s in small])
        self._pace = _paces(self._thumbs)
        moving = 1 - resized(torch.from_numpy(material.static)[None], size)[0]
        self._weight = moving / moving.mean().clamp_min(1e-6)
        self._chosen: deque[tuple[int, int]] = deque(maxlen=_REMEMBERS)

    def choose(self, half: int, life: int, playing: Sequence[int]) -> int:
        """The first frame of the segment to come.

        Args:
            half: how many frames after its birth a segment is half seen.
            life: how many frames it must have.
            playing: frames of the material that are seen now, the uppermost last.
        """
        count = max(1, len(self._thumbs) - life + 1)
        target = self._thumbs[min(playing[-1] + half, len(self._thumbs) - 1)]
        fits = (self._thumbs[half : half + count] - target).abs().mean(1)
        distance = (fits * self._weight).mean((1, 2)).numpy().astype(np.float64)
        usual = max(float(np.median(distance)), 1e-6)
        starts = np.arange(len(distance))
        pace = self._pace[half : half + count]
        wanted = self._pace[playing[-1]]
        if self._chosen:
            # On from how it moves now, and back to how it usually does.
            wanted = np.sqrt(wanted * np.median(self._pace))
        distance += usual * _OTHER_PACE * np.abs(np.log(pace / wanted))
        used = np.zeros(len(starts))
        for age, (start, beneath) in enumerate(self._chosen):
            near = _nearness(starts - start, _BESIDE * len(starts))
            used += _USED * _FORGETS**age * near
            # The same two together again would be the same picture again.
            both = near * _nearness(playing[-1] - beneath, _BESIDE * len(starts))
            used += _TOGETHER * _FORGETS_BOTH**age * both
        chance = self._random.random(len(starts))
        cost = distance + usual * (used + _NOISE * chance)
        room = _APART * len(starts)
        far = np.abs(starts - playing[-1]) / room
        for frame in playing[:-1]:
            # What is further down is nearly gone.
            far = np.minimum(far, np.abs(starts - frame) / (room / 2))
        close = far < min(1, far.max())
        start = int(np.argmin(np.where(close, np.inf, cost)))
        self._chosen.appendleft((start, playing[-1]))
        return start


def _paces(thumbs: torch.Tensor) -> np.ndarray:
    """How much changes from frame to frame, smooth in time: (n,) float64, above 0."""
    if len(thumbs) < 2:
        return np.ones(len(thumbs))
    changes = (thumbs[1:] - thumbs[:-1]).abs().mean((1, 2, 3)).double().numpy()
    changes = np.concatenate([changes[:1], changes])
    reach = min(_AROUND, len(changes) - 1)
    padded = np.pad(changes, reach, mode="reflect")
    smooth = np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1)), "valid")
    paces: np.ndarray = smooth + 0.1 * smooth.mean() + 1e-9
    return paces


def _nearness(away: Any, reach: float) -> Any:
    return (1 - np.abs(away) / reach).clip(0)
