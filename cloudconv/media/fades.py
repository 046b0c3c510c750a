"""Compare places of a sound, and cross from one to the other where this is heard least.

A fade lies where both sounds are most alike, outside of attacks such as a crackle, and
where the loudness stays within the range of the film. The law of a fade follows the
correlation of both sounds: equal power for unlike sounds, and equal gain for like ones.
Neither end of a fade lies in an attack, unless every place has one.
Positions and lengths are in samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudconv.media.attacks import Attacks

Sound = NDArray[Any]  # float32 or float64, (n, channels)
Positions = NDArray[np.int64]

_HOPS = 100  # spectra a second
_BANDS = 16  # of a spectrum
_LOWEST = 60.0  # Hz
_HIGHEST = 16_000.0
_QUIET = 1e-8  # power of full scale below which all sounds are alike
# Costs of a fade, in dB of the difference between two spectra: of a fade within an attack
# in each sound, and of an attack at any place of the fade.
_WITHIN, _ANY = 12.0, 6.0
# Cost for each dB by which the loudness near a fade leaves the range of the film: 1.5 dB
# cost as much as an attack in a fade.
_OUTSIDE = 7.0
_CUTS = 1000.0  # of an end of a fade in an attack: more than all other costs together
# Seconds around the start of an attack that belong to the attack.
_BEFORE = 0.015
_AFTER = 0.1
# seconds that are measured at once, and between two attacks
_BLOCK = 1 / 750
_APART = 0.06
# Seconds of a window of short-time loudness (EBU Tech 3341: momentary loudness).
_WINDOW = 0.4

# Seconds by which a sound may shift so that it does not cancel the sound before, and the
# least correlation after the shift. A hum has this correlation at some shift, and noise
# does not.
_SHIFT = 0.008
_FITS = 0.5
# Correlation; the law of a fade for sounds that cancel each other even more.
_OPPOSED = -0.5

# Seconds by which a sound goes on beyond its ends: a fade, and the fall to silence.
_EXTENSION = 0.4
_KNOWN = 3  # times the length of an extension, from which the extension follows
_ORDER = 64  # samples from which the next sample is predicted
_NOTHING = 1e-20  # power of silence


class FilmSound:
    """The sound of a film from the position ``first`` on, for playing any part of it.

    The sound goes on beyond both of its ends for less than half a second, for fades.
    Silence follows. ``begin`` and ``end`` are the ends of the sound itself.
    """

    def __init__(self, sound: Sound, rate: int, first: int) -> None:
        self.rate = rate
        self.begin = first
        self.end = first + len(sound)
        self._reach = round(_EXTENSION * rate) if len(sound) else 0
        head = extension(sound[::-1], self._reach)[::-1]
        self._sound = np.concatenate([head, sound, extension(sound, self._reach)])
        self._first = first - self._reach
        self._hop = max(rate // _HOPS, 1)
        self._spectra = _spectra(self._sound, rate, self._hop)
        self._busy = _busy(self._sound, rate, self._hop)
        self._powers = _powers(self._sound, self._hop)
        inside = _levels(_powers(sound, self._hop))
        # The softest and the loudest window of the film, in dB.
        self._range = (inside.min(), inside.max()) if len(inside) else (-np.inf, np.inf)

    def heard(self, begin: int, length: int) -> Sound:
        """Return the sound from a position on; silence where there is none."""
        start = begin - self._first
        inside = self._sound[max(start, 0) : max(start + length, 0)]
        if len(inside) == length:
            return inside
        whole = np.zeros((length, self._sound.shape[1]), self._sound.dtype)
        skipped = min(max(-start, 0), length)
        whole[skipped : skipped + len(inside)] = inside
        return whole

    def is_free(self, positions: Positions, length: int) -> NDArray[np.bool_]:
        """Return whether fades from positions on begin and end outside of attacks."""
        last = len(self._busy) - 1
        begin, end = (
            self._busy[((at - self._first) // self._hop).clip(0, last)]
            for at in (positions, positions + length)
        )
        free: NDArray[np.bool_] = ~(begin | end)
        return free

    def costs(
        self, before: Positions, after: Positions, length: int
    ) -> NDArray[np.float64]:
        """Return how much a listener hears of fades from positions to others, in dB.

        The cost is infinite where one of the two has no sound for the whole length.
        """
        spans = max(round(length / self._hop), 1)
        costs = np.full(len(before), np.inf)
        low = self._first
        high = self._first + len(self._sound) - length
        has_both = (before >= low) & (before <= high) & (after >= low) & (after <= high)
        numbers = [(one[has_both] - self._first) // self._hop for one in (before, after)]
        middles = numbers[0] + spans // 2, numbers[1] + spans // 2
        most = len(self._spectra) - spans
        if most < 0 or not has_both.any():
            return costs
        inside = [np.minimum(one, most)[:, None] + np.arange(spans) for one in numbers]
        old, new = (self._spectra[one] for one in inside)
        busy = np.stack([self._busy[one] for one in inside])
        heard = _WITHIN * busy.mean(2) + _ANY * busy.any(2)
        costs[has_both] = np.abs(old - new).mean((1, 2)) + heard.sum(0)
        costs[has_both] += _OUTSIDE * self._outside(*middles)
        for positions in (before, after):
            costs[~self.is_free(positions, length)] += _CUTS
        return costs

    def _outside(self, before: Positions, after: Positions) -> NDArray[np.float64]:
        """Return how far the loudness near fades leaves the range of the film, in dB.

        Two gaps between attacks, for example, join to one that is longer than any of the
        film. The hops ``before`` and ``after`` are in the middles of fades.
        """
        window = round(_WINDOW * _HOPS)
        extended = round(_EXTENSION * _HOPS)  # before the middle of a fade, at most
        last = len(self._powers) - 1
        old = before[:, None] + np.arange(-extended - window, 0)
        new = after[:, None] + np.arange(window)
        around = self._powers[np.concatenate([old, new], 1).clip(0, last)]
        levels = _levels(around)
        softest, loudest = self._range
        farthest = np.maximum(softest - levels.min(1), levels.max(1) - loudest)
        result: NDArray[np.float64] = farthest.clip(0)
        return result

    def fitting(self, before: int, after: int, length: int) -> int:
        """Return the position nearest to ``after`` that fits the waveform of ``before``.

        The position differs from ``after`` only for tones that would cancel each other.
        """
        most = round(_SHIFT * self.rate)
        old = self.heard(before, length).astype(np.float64)
        new = self.heard(after - most, length + 2 * most).astype(np.float64)
        size = 1 << (len(new) - 1).bit_length()
        product = np.fft.rfft(new, size, axis=0) * np.fft.rfft(old, size, axis=0).conj()
        alike = np.fft.irfft(product.sum(1), size)[: 2 * most + 1]
        power = np.concatenate([[0.0], np.cumsum((new**2).sum(1))])
        energy = (power[length:] - power[:-length])[: 2 * most + 1] * (old**2).sum()
        alike /= np.sqrt(np.maximum(energy, 1e-12))
        near = np.flatnonzero(alike >= _FITS)
        if alike[most] >= 0 or not len(near):
            return after
        return after - most + int(near[np.abs(near - most).argmin()])


def crossed(old: Sound, new: Sound) -> Sound:
    """Return the fade from one sound to another of the same length."""
    place = ((np.arange(len(old)) + 0.5) / len(old))[:, None]
    both = place * (1 - place)
    product = float((both * old * new).sum())
    power = float((both * old**2).sum()) * float((both * new**2).sum())
    alike = max(product / power**0.5, _OPPOSED) if power > 0 else 0.0
    scale = 1 / np.sqrt(1 - 2 * both * (1 - alike))
    sound: Sound = (((1 - place) * old + place * new) * scale).astype(old.dtype)
    return sound


def extension(sound: Sound, length: int) -> Sound:
    """Return samples that continue a sound: its tones, and noise of the same spectrum.

    Method: linear prediction (Burg 1975), which is always stable. The errors of the
    prediction at the end, in reverse order, excite the predictor. The last fifth of the
    samples falls to silence.
    """
    end = sound[-_KNOWN * length :].astype(np.float64)
    channels = sound.shape[1]
    if len(end) < 8 * _ORDER:
        return np.zeros((length, channels), sound.dtype)
    weights = np.ones((1, channels))
    ahead = end
    behind = end
    for _ in range(_ORDER):
        ahead = ahead[1:]
        behind = behind[:-1]
        power = (ahead**2 + behind**2).sum(0)
        reflection = -2 * (ahead * behind).sum(0) / np.maximum(power, _NOTHING)
        longer = np.pad(weights, ((0, 1), (0, 0)))
        weights = longer + reflection * longer[::-1]
        ahead, behind = ahead + reflection * behind, behind + reflection * ahead
    errors = np.resize(ahead[::-1], (length, channels))
    samples = np.concatenate([end[-_ORDER:], np.zeros((length, channels))])
    for number in range(length):
        recent = samples[number : number + _ORDER]
        samples[number + _ORDER] = errors[number] - (recent * weights[:0:-1]).sum(0)
    samples = samples[_ORDER:]
    fall = np.clip(np.linspace(5, 0, length), 0, 1)[:, None]
    return (samples * fall).astype(sound.dtype)


def _spectra(sound: Sound, rate: int, hop: int) -> NDArray[np.float32]:
    """Return the level in each band of two hops from each hop on, in dB: (hops, bands)."""
    size = 1 << (2 * hop - 1).bit_length()
    low, high = min(_LOWEST, rate / 4), min(_HIGHEST, rate / 2)
    edges = np.geomspace(low, high, _BANDS + 1) * size / rate
    bins = np.unique(edges.astype(int).clip(0, size // 2))[:-1]
    window = np.hanning(2 * hop)[:, None]
    levels = np.zeros((max(len(sound) // hop - 1, 0), len(bins)), np.float32)
    for number in range(len(levels)):
        samples = sound[number * hop : (number + 2) * hop] * window
        power = (np.abs(np.fft.rfft(samples, size, axis=0)) ** 2).sum(1) / hop**2
        levels[number] = 10 * np.log10(np.add.reduceat(power, bins) + _QUIET)
    return levels


def _powers(sound: Sound, hop: int) -> NDArray[np.float64]:
    """Return the mean power of each hop."""
    hops = len(sound) // hop
    blocks = sound[: hops * hop].astype(np.float64).reshape(hops, hop * sound.shape[1])
    powers: NDArray[np.float64] = (blocks**2).mean(1)
    return powers


def _levels(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the loudness of each window along the last axis, in dB."""
    window = round(_WINDOW * _HOPS)
    sums = np.pad(powers.cumsum(-1), [(0, 0)] * (powers.ndim - 1) + [(1, 0)])
    means = (sums[..., window:] - sums[..., :-window]) / window
    levels: NDArray[np.float64] = 10 * np.log10(means + _QUIET)
    return levels


def _busy(sound: Sound, rate: int, hop: int) -> NDArray[np.bool_]:
    """Return whether each hop belongs to an attack."""
    block = max(round(_BLOCK * rate), 1)
    attacks = Attacks(block, round(_APART * rate))
    silence = max(rate // 10, block + 1)
    attacks.find(np.concatenate([np.zeros((silence, sound.shape[1])), sound]), -silence)
    busy = np.zeros(len(sound) // hop + 1, np.bool_)
    for time in attacks.times:
        first, last = ((time + away * rate) / hop for away in (-_BEFORE, _AFTER))
        busy[max(int(first), 0) : max(int(last) + 1, 0)] = True
    return busy
