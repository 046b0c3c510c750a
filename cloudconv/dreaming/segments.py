"""Which part of the material comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from cloudconv.dreaming.compositing import blurred, resized
from cloudconv.dreaming.material import Material

_THUMB = 60  # longest side
_BLUR = 1.0
_USED = 1.0  # of the usual distance, for a start that was chosen last
_BESIDE = 0.3  # of all starts: within which another counts as chosen, too, the less the further
_FORGETS, _REMEMBERS = 0.8, 12  # how much of that is left at the next choice; choices
_NOISE = 0.4  # of the usual distance
_APART = 0.3  # of all starts: so far from what is seen now, or the same would be seen again soon


class Chooser:
    """Starts of segments, by how well they fit what is seen, and not the same again and again."""

    def __init__(self, material: Material, random: np.random.Generator) -> None:
        self._random = random
        height, width = material.small_size
        factor = min(1.0, _THUMB / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        smalls = [torch.from_numpy(material.small(k)) for k in range(len(material))]
        small = [resized(s.permute(2, 0, 1) / 255, size) for s in smalls]
        self._thumbs = torch.stack([blurred(s, _BLUR) for s in small])
        moving = 1 - resized(torch.from_numpy(material.static)[None], size)[0]
        self._weight = moving / moving.mean().clamp_min(1e-6)
        self._chosen: deque[int] = deque(maxlen=_REMEMBERS)

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
        used = np.zeros(len(starts))
        for age, start in enumerate(self._chosen):
            near = 1 - np.abs(starts - start) / (_BESIDE * len(starts))
            used += _FORGETS**age * near.clip(0)
        chance = self._random.random(len(starts))
        cost = distance + usual * (_USED * used + _NOISE * chance)
        far = np.min([np.abs(starts - frame) for frame in playing], 0)
        close = far < min(_APART * len(starts), far.max())
        start = int(np.argmin(np.where(close, np.inf, cost)))
        self._chosen.appendleft(start)
        return start
