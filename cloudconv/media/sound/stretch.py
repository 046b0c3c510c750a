"""Slow sound down without a change of its pitch.

Every attack stays sharp: the sudden start of a sound, such as a drum beat.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudconv.media.sound.attacks import Attacks
from cloudconv.timemap import TimeMap

Samples = NDArray[Any]  # of floating-point numbers

_WINDOWS_PER_SECOND = 24  # windows of 1/24 s contain a full period of the lowest tones
_BLOCKS_PER_WINDOW = 32


class TimeStretch:
    """A stretcher that plays samples as slowly as a map says, at equal pitch.

    Method: waveform similarity overlap-add (Verhelst and Roelands 1993). Windows are taken
    from the source at a slower pace. Each window is shifted to the position that best
    continues the window before. An attack would be heard several times, once in each window
    that contains the attack. The windows around an attack therefore keep the source's own
    pace. The attack is heard once, at the time that shows it, and the sound between attacks
    is slowed more. The speed is at most 1: the method repeats sound, and leaves none out.

    ``rate`` is in samples per second. Samples are float32 ``(n, channels)``, about in [-1,
    1].
    """

    def __init__(self, rate: int, channels: int, shows: TimeMap) -> None:
        self._map = shows
        self._rate = rate
        window = 1 << (max(rate // _WINDOWS_PER_SECOND, 256) - 1).bit_length()
        self._half = window // 2
        self._search = window // 4
        self._hann = np.hanning(window + 1)[:-1, None].astype(np.float32)
        # Distances from an attack, in source samples. The sound from ``_lead`` before to
        # ``_trail`` after the attack keeps the source's pace. At ``_reach`` the pace is the
        # usual one again.
        self._lead = self._half
        self._trail = self._half + window // 8
        self._reach = window * 5 // 2
        # The source from sample number ``_at`` on; the first samples are silence.
        # ``_given`` is the number of added samples.
        self._source: Samples = np.zeros((2 * window, channels), np.float32)
        self._at = -len(self._source)
        self._given = 0
        self._attacks = Attacks(window // _BLOCKS_PER_WINDOW, apart=window * 3 // 2)
        # The middle of the last window, in the output and in the source, and the window's
        # second half.
        self._out: int | None = None
        self._middle = 0
        self._rest: Samples = np.zeros((self._half, channels), np.float32)

    def push(self, samples: Samples) -> Iterator[Samples]:
        """Add samples and yield the finished output samples."""
        if self._map.speed == 1:
            yield samples
            return
        self._given += len(samples)
        yield from self._made(samples)

    def finish(self) -> Iterator[Samples]:
        """Yield the remaining samples: the output has the exact length."""
        left = round(self._output(self._given)) - (self._out or 0)
        while left > 0:
            for samples in self._made(
                np.zeros((self._reach, self._source.shape[1]), np.float32)
            ):
                yield samples[: max(left, 0)]
                left -= len(samples)

    def _output(self, sample: int) -> Fraction:
        """Return where the output shows a sample of the source, in samples."""
        return self._map.output(Fraction(sample, self._rate)) * self._rate

    def _made(self, samples: Samples) -> Iterator[Samples]:
        self._source = np.concatenate([self._source, samples])
        self._attacks.find(self._source, self._at)
        # A later attack cannot move the windows before this source sample.
        ready = self._attacks.searched - 2 * self._reach - 2 * self._half
        while True:
            out = 0 if self._out is None else self._out + self._half
            if ready < 0 or out > self._output(ready):
                break
            middle = self._middle_of(out)
            begin = middle - self._half - self._at
            window = self._source[begin : begin + 2 * self._half] * self._hann
            joined = self._rest + window[: self._half]
            self._rest = window[self._half :]
            if self._out is not None:
                yield joined
            self._out = out
            self._middle = middle
        first = min(self._middle, self._attacks.searched) - 2 * self._reach
        if first > self._at:  # no later window can contain the samples before
            self._source = self._source[first - self._at :]
            self._at = first
        self._attacks.forget(first)

    def _middle_of(self, out: int) -> int:
        """Return a window's middle in the source; ``out`` is that in the output."""
        even = self._map.source(Fraction(out, self._rate)) * self._rate
        speed = float(self._map.speed_at(even / self._rate))
        attacks = self._attacks.times
        following = bisect_right(attacks, even)
        low = -self._half
        high = self._at + len(self._source)
        wanted = float(even)
        for number in range(max(following - 1, 0), min(following + 1, len(attacks))):
            attack = attacks[number]
            away = out - round(self._output(attack))
            if -self._lead <= away <= self._trail:
                return attack + away
            other = (
                attacks[number - 1 : number]
                if away < 0
                else attacks[number + 1 : number + 2]
            )
            reach = min([self._reach, *(abs(attack - near) // 2 for near in other)])
            near = self._trail if away > 0 else self._lead
            fade = 1 - (abs(away) - near) / (reach / speed - near or 1)
            wanted += (near if away > 0 else -near) * (1 - speed) * max(fade, 0)
            if away > 0:
                low = max(low, attack + self._trail)
            else:
                high = min(high, attack - self._lead)
        return self._best(round(min(max(wanted, low), high)), low, high)

    def _best(self, wanted: int, low: int, high: int) -> int:
        """Return the middle near ``wanted`` of the window that continues the last best."""
        half = self._half
        low = max(low, wanted - self._search)
        high = min(high, wanted + self._search)
        following = self._middle + half
        if self._out is None or low <= following <= high:
            return wanted if self._out is None else following
        begin = self._middle - self._at
        pattern = self._source[begin : begin + half]
        begin = low - half - self._at
        field = self._source[begin : begin + high - low + half]
        if not pattern.any() or not field.any():
            return wanted
        import cv2  # imported here, because every command loads this module

        return low + int(cv2.matchTemplate(field, pattern, cv2.TM_CCORR_NORMED).argmax())
