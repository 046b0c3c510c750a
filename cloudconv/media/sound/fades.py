"""Compare places of a sound, and cross from one to the other where this is heard least.

A fade lies where the spectra of both sounds are most alike, and begins and ends where
neither sound is louder than around. The law of a fade follows the correlation of both
sounds: equal power for unlike sounds, and equal gain for like ones. Positions and lengths
are in samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[Any]  # float32 or float64, (n, channels)
Positions = NDArray[np.int64]

_HOPS = 100  # spectra a second
_BANDS = 16  # of a spectrum
_QUIET = 1e-8  # power of full scale below which all sounds are alike
# Seconds by which a sound may shift so that it does not cancel the sound before, and the
# least likeness after the shift. A hum has this likeness at some shift, and noise does
# not.
_SHIFT = 0.008
_FITS = 0.5
# Correlation; the law of a fade for sounds that cancel each other even more.
_OPPOSED = -0.5


class FilmSound:
    """The sound of a film from the position ``first`` on, for playing any part of it.

    The sound goes on beyond its end for half a second, for fades. Silence is around.
    ``begin`` and ``end`` are the ends of the sound itself.
    """

    def __init__(self, sound: Sound, rate: int, first: int) -> None:
        self.rate = rate
        self.begin = first
        self.end = first + len(sound)
        self._hop = max(rate // _HOPS, 1)
        sound = np.concatenate([sound, extension(sound, -(-rate // 2))])
        spectra = _spectra(sound, self._hop)
        loudness = np.pad(spectra.mean(1), _HOPS // 2, mode="edge")
        around = np.convolve(loudness, np.ones(_HOPS + 1) / (_HOPS + 1), "valid")
        # The last row of each is silence, which is also before the first row.
        self._sound = np.pad(sound, ((0, 1), (0, 0)))
        self._spectra = np.pad(
            spectra, ((0, 1), (0, 0)), constant_values=10 * np.log10(_QUIET)
        )
        self._excess = np.append(spectra.mean(1) - around, 0)

    def heard(self, begin: int, length: int) -> Sound:
        """Return the sound from a position on; silence where there is none."""
        numbers = np.arange(begin, begin + length) - self.begin
        sound: Sound = self._sound[numbers.clip(-1, len(self._sound) - 1)]
        return sound

    def costs(
        self, before: Positions, after: Positions, length: int
    ) -> NDArray[np.float64]:
        """Return how much a listener hears of fades from positions to others, in dB.

        This is the difference of the spectra in the fade, and by how much its ends in both
        sounds are louder than the second around them.
        """
        hops = np.arange(max(length // self._hop, 1))
        old, new = (
            ((positions[:, None] - self.begin) // self._hop + hops).clip(
                -1, len(self._spectra) - 1
            )
            for positions in (before, after)
        )
        unlike = np.abs(self._spectra[old] - self._spectra[new]).mean((1, 2))
        ends = np.concatenate([old[:, [0, -1]], new[:, [0, -1]]], 1)
        result: NDArray[np.float64] = unlike + self._excess[ends].clip(0).sum(1)
        return result

    def fitting(self, before: int, after: int, length: int) -> int:
        """Return the position nearest to ``after`` that fits the waveform of ``before``.

        The position differs from ``after`` only for tones that would cancel each other.
        """
        most = round(_SHIFT * self.rate)
        around = self.heard(after - most, length + 2 * most)
        alike = _likeness(self.heard(before, length), around)
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
    """Return samples that continue a sound: those after the part that is most like its end.

    They are made as loud as the end. The last fifth of the samples falls to silence.
    """
    known = length // 10
    recent = sound[-10 * length :].astype(np.float64)
    end = recent[-known:]
    alike = _likeness(end, recent[: max(len(recent) - length, 0)])
    if not known or not len(alike):
        return np.zeros((length, sound.shape[1]), sound.dtype)
    place = int(alike.argmax()) + known
    powers = [float((part**2).mean()) for part in (end, recent[place - known : place])]
    gain = min(powers[0] / max(powers[1], _QUIET), 4) ** 0.5
    # The difference of the last samples fades fast, so that there is no step.
    fall = np.linspace(1, -99, length).clip(0)[:, None]
    samples = gain * recent[place : place + length]
    samples += (end[-1] - gain * recent[place - 1]) * fall
    samples *= np.linspace(5, 0, length).clip(0, 1)[:, None]
    result: Sound = samples.astype(sound.dtype)
    return result


def _likeness(sound: Sound, among: Sound) -> NDArray[np.float64]:
    """Return how like a sound is to each part of another one of its length.

    This is the correlation of two sounds that are equally loud, and less for others.
    """
    length = len(sound)
    count = max(len(among) - length + 1, 0)
    size = 1 << len(among).bit_length()
    wanted, found = (one.astype(np.float64) for one in (sound, among))
    product = np.fft.rfft(found, size, axis=0) * np.fft.rfft(wanted, size, axis=0).conj()
    power = np.concatenate([[0.0], np.cumsum((found**2).sum(1))])
    mean = ((power[length:] - power[:-length])[:count] + (wanted**2).sum()) / 2
    alike = np.fft.irfft(product.sum(1), size)[:count]
    result: NDArray[np.float64] = alike / np.maximum(mean, 1e-12)
    return result


def _spectra(sound: Sound, hop: int) -> NDArray[np.float32]:
    """Return the level in each band of two hops from each hop on, in dB: (hops, bands)."""
    size = 1 << (2 * hop - 1).bit_length()
    edges = np.geomspace(1, size // 2 + 1, _BANDS + 1)
    bands = np.unique(edges.astype(int))[:-1]
    window = np.hanning(2 * hop + 2)[1:-1, None]
    levels = np.zeros((max(len(sound) // hop - 1, 1), len(bands)), np.float32)
    for number in range(len(levels)):
        samples = sound[number * hop : (number + 2) * hop]
        spectrum = np.fft.rfft(samples * window[: len(samples)], size, axis=0)
        power = (np.abs(spectrum) ** 2).sum(1) / hop**2
        levels[number] = 10 * np.log10(np.add.reduceat(power, bands) + _QUIET)
    return levels
