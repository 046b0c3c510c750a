"""Find the attacks in a sound: the sudden starts, such as a drum beat or a crackle."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

# An attack has at least this many times the energy of the loudest of the blocks before it,
# and at least -66 dB of full scale.
_RISE = 4.0
_FLOOR = 2.5e-7
_BEFORE = 20  # blocks
_BEGINS = 0.3  # part of the greatest level, which the first sample of an attack reaches
# Part of the previous sample to subtract, which emphasises high frequencies.
_EMPHASIS = 0.95


class Attacks:
    """The ``times`` of attacks in a sound, in samples, ``apart`` or more from each other.

    ``block`` is the length that is measured at once. The part up to ``searched`` has been
    searched.
    """

    def __init__(self, block: int, apart: int) -> None:
        self.searched = 0
        self.times: list[int] = []
        self._block = block
        self._apart = apart
        self._loud = np.zeros(_BEFORE, np.float32)
        self._height = 0.0  # of the last attack

    def find(self, source: NDArray[Any], at: int) -> None:
        """Find blocks that are much louder than the blocks before.

        Of two blocks that are near each other, the louder one counts. ``source`` begins
        with sample number ``at``.
        """
        block = self._block
        ahead = 4
        count = (at + len(source) - self.searched) // block - ahead
        if count <= 0:
            return
        begin = self.searched - at
        samples = source[begin - block - 1 : begin + (count + ahead) * block].astype(
            np.float64
        )
        power = ((samples[1:] - _EMPHASIS * samples[:-1]) ** 2).sum(1)
        loud = power[block : (count + 1) * block].reshape(count, block).mean(1)
        loudness = np.concatenate([self._loud, loud])
        before = sliding_window_view(loudness, _BEFORE)[:-1].max(1)
        for number in np.flatnonzero(loud > np.maximum(before * _RISE, _FLOOR)):
            here = np.sqrt(power[number * block : (number + ahead) * block])
            start = int(np.argmax(here >= _BEGINS * here.max())) + int(number - 1) * block
            attack = self.searched + start
            height = float(loud[number])
            if self.times and attack - self.times[-1] < self._apart:
                if height <= self._height:
                    continue
                self.times.pop()
            self.times.append(attack)
            self._height = height
        self._loud = loudness[-_BEFORE:]
        self.searched += count * block

    def forget(self, first: int) -> None:
        """Drop the attacks that are too far before sample number ``first``."""
        while len(self.times) > 1 and self.times[1] < first:
            del self.times[0]
