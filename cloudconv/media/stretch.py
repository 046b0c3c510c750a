"""Stretch sound in time without a change of pitch; keep every attack sharp and in time.

An attack is the sudden start of a sound, such as a drum beat.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_WINDOWS_PER_SECOND = 24  # windows of 1/24 s contain a full period of the lowest tones
_BLOCKS_PER_WINDOW = 32
# An attack has at least this many times the energy of the loudest of the blocks before it, and at
# least -66 dB of full scale.
_RISE = 4.0
_FLOOR = 2.5e-7
_BEFORE = 20  # blocks
_BEGINS = 0.3  # of the greatest level; an attack begins at the first such sample
_EMPHASIS = 0.95  # part of the previous sample to subtract, which emphasises high frequencies


class TimeStretch:
    """A stretcher that returns ``factor`` (at least 1) times as many samples, at the same pitch.

    Method: waveform similarity overlap-add (Verhelst and Roelands 1993). Windows are taken from the
    source at a slower pace. Each window is shifted to the position that best continues the window
    before. An attack would be heard several times, once in each window that contains the attack.
    The windows around an attack therefore keep the source's own pace. The attack is heard once, at
    ``factor`` times its time, and the sound between attacks is slowed more.

    ``rate`` is in samples per second. Samples are float32 ``(n, channels)``, about in [-1, 1].
    """

    def __init__(self, rate: int, channels: int, factor: Fraction) -> None:
        self._factor = factor
        window = 1 << (max(rate // _WINDOWS_PER_SECOND, 256) - 1).bit_length()
        self._half = window // 2
        self._search = window // 4
        self._hann = np.hanning(window + 1)[:-1, None].astype(np.float32)
        # Distances from an attack, in source samples. The sound from ``_lead`` before to ``_trail``
        # after the attack keeps the source's pace. At ``_reach`` the pace is the usual one again.
        self._lead, self._trail = self._half, self._half + window // 8
        self._reach = window * 5 // 2
        # The source from sample number ``_at`` on; the first samples are silence. ``_given`` is the
        # number of added samples.
        self._source: Samples = np.zeros((2 * window, channels), np.float32)
        self._at = -len(self._source)
        self._given = 0
        self._attacks = _Attacks(window // _BLOCKS_PER_WINDOW, apart=window * 3 // 2)
        # The middle of the last window, in the output and in the source, and the window's second
        # half.
        self._out: int | None = None
        self._middle = 0
        self._rest: Samples = np.zeros((self._half, channels), np.float32)

    def push(self, samples: Samples) -> Iterator[Samples]:
        """Add samples and yield the finished output samples."""
        if self._factor == 1:
            yield samples
            return
        self._given += len(samples)
        yield from self._made(samples)

    def finish(self) -> Iterator[Samples]:
        """Yield the remaining samples, so that the output is exactly ``factor`` times as long."""
        left = round(self._given * self._factor) - (self._out or 0)
        while left > 0:
            for made in self._made(np.zeros((self._reach, self._source.shape[1]), np.float32)):
                yield made[: max(left, 0)]
                left -= len(made)

    def _made(self, samples: Samples) -> Iterator[Samples]:
        self._source = np.concatenate([self._source, samples])
        self._attacks.find(self._source, self._at)
        # A later attack cannot move the windows before this source sample.
        ready = self._attacks.seen - 2 * self._reach - 2 * self._half
        while True:
            out = 0 if self._out is None else self._out + self._half
            if out > ready * self._factor:
                break
            middle = self._middle_of(out)
            begin = middle - self._half - self._at
            window = self._source[begin : begin + 2 * self._half] * self._hann
            made = self._rest + window[: self._half]
            self._rest = window[self._half :]
            if self._out is not None:
                yield made
            self._out, self._middle = out, middle
        first = min(self._middle, self._attacks.seen) - 2 * self._reach
        if first > self._at:  # no later window can contain the samples before
            self._source = self._source[first - self._at :]
            self._at = first
        self._attacks.forget(first)

    def _middle_of(self, out: int) -> int:
        """Return the middle in the source of the window whose middle in the output is ``out``."""
        factor, attacks = self._factor, self._attacks.times
        following = bisect_right(attacks, out / factor)
        low, high = -self._half, self._at + len(self._source)
        even = out * factor.denominator / factor.numerator
        wanted = even
        for number in range(max(following - 1, 0), min(following + 1, len(attacks))):
            attack = attacks[number]
            away = out - round(attack * factor)
            if -self._lead <= away <= self._trail:
                return attack + away
            other = attacks[number - 1 : number] if away < 0 else attacks[number + 1 : number + 2]
            reach = min([self._reach, *(abs(attack - near) // 2 for near in other)])
            near = self._trail if away > 0 else self._lead
            fade = 1 - (abs(away) - near) / (reach * float(factor) - near or 1)
            slower = 1 - 1 / float(factor)
            wanted += (near if away > 0 else -near) * slower * max(fade, 0)
            if away > 0:
                low = max(low, attack + self._trail)
            else:
                high = min(high, attack - self._lead)
        return self._best(round(min(max(wanted, low), high)), low, high)

    def _best(self, wanted: int, low: int, high: int) -> int:
        """Return the middle near ``wanted`` of the window that best continues the last window."""
        half = self._half
        low, high = max(low, wanted - self._search), min(high, wanted + self._search)
        following = self._middle + half
        if self._out is None or low <= following <= high:
            return wanted if self._out is None else following
        begin = self._middle - self._at
        pattern = self._source[begin : begin + half]
        begin = low - half - self._at
        field = self._source[begin : begin + high - low + half]
        size = 1 << (len(field) - 1).bit_length()
        product = np.fft.rfft(field, size, axis=0) * np.fft.rfft(pattern, size, axis=0).conj()
        alike = np.fft.irfft(product.sum(1), size)[: high - low + 1]
        power = np.concatenate([[0.0], np.cumsum((field.astype(np.float64) ** 2).sum(1))])
        energy = power[half:] - power[:-half]
        if not pattern.any() or not field.any():
            return wanted
        return low + int(np.argmax(alike / np.sqrt(energy + 1e-9)))


class _Attacks:
    """The attacks in a sound, at least ``apart`` samples from each other; ``times`` in samples.

    ``block`` is the length that is measured at once. ``seen`` is the end of the searched part.
    """

    def __init__(self, block: int, apart: int) -> None:
        self.seen = 0
        self.times: list[int] = []
        self._block, self._apart = block, apart
        self._loud = np.zeros(_BEFORE, np.float32)
        self._height = 0.0  # of the last attack

    def find(self, source: Samples, at: int) -> None:
        """Find blocks that are much louder than the blocks before; of two near ones, the louder.

        ``source`` begins with sample number ``at``.
        """
        block, ahead = self._block, 4
        count = (at + len(source) - self.seen) // block - ahead
        if count <= 0:
            return
        begin = self.seen - at
        part = source[begin - block - 1 : begin + (count + ahead) * block].astype(np.float64)
        power = ((part[1:] - _EMPHASIS * part[:-1]) ** 2).sum(1)
        loud = power[block : (count + 1) * block].reshape(count, block).mean(1)
        known = np.concatenate([self._loud, loud])
        before = sliding_window_view(known, _BEFORE)[:-1].max(1)
        for number in np.flatnonzero(loud > np.maximum(before * _RISE, _FLOOR)):
            here = np.sqrt(power[number * block : (number + ahead) * block])
            start = int(np.argmax(here >= _BEGINS * here.max())) + int(number - 1) * block
            attack, height = self.seen + start, float(loud[number])
            if self.times and attack - self.times[-1] < self._apart:
                if height <= self._height:
                    continue
                self.times.pop()
            self.times.append(attack)
            self._height = height
        self._loud = known[-_BEFORE:]
        self.seen += count * block

    def forget(self, first: int) -> None:
        """Drop the attacks that are too far before sample number ``first``."""
        while len(self.times) > 1 and self.times[1] < first:
            del self.times[0]
