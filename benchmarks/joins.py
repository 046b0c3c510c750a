"""Measure and draw the joins in the sound of dreams.

    python benchmarks/joins.py --out FOLDER [--seed 0] [FILM...]

Ten sounds are made, and the sound of each film is added. Each sound goes on through the
jumps of a texture and as an ambience. For each join are measured: the level 0.2 seconds
after minus the level 0.2 seconds before, the level of the fade relative to the mean power
of both sounds, their correlation in the fade, and the largest step between two samples
relative to the largest one of the sound. *Outside* is the farthest that a window of 0.4
seconds near a join is outside the range of the sound's own windows. *Cut* is the number of
ends of fades within 0.04 seconds after a sudden start. The folder gets a picture of the
waveforms around the first joins.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.media.sound import mixing
from cloudconv.media.sound.attacks import Attacks
from cloudconv.media.sound.edits import Edit, EditList
from cloudconv.media.sound.fades import FilmSound, crossed
from cloudconv.media.sound.mixing import Mixer

RATE = 24_000
_SECONDS = 12  # of a made sound
_EVERY = Fraction(3, 2)  # seconds between two jumps of a texture
_LONG = 60  # seconds of new sound
_SIDE = 0.2  # seconds beside a fade whose level is measured
_WINDOW = 0.4  # seconds of a window of loudness
_FLOOR = 1e-9
_PANEL = (900, 90)  # width and height of a waveform

Sound = NDArray[np.float32]  # (n, 1)


def made(seed: int) -> Iterator[tuple[str, Sound]]:
    """Yield the names and samples of ten sounds."""
    random = np.random.default_rng(seed)
    count = _SECONDS * RATE
    times = np.arange(count) / RATE

    def noise(width: int) -> NDArray[np.float64]:
        white = random.normal(0, 0.1, count)
        return np.convolve(white, np.ones(width) / width**0.5, "same")

    def bursts(number: int, length: int, height: float) -> NDArray[np.float64]:
        result = np.zeros(count)
        for start in random.integers(0, count - length, number):
            fall = np.exp(-np.arange(length) / (length / 7))
            loud = height * random.uniform(0.3, 1)
            result[start : start + length] += random.normal(0, loud, length) * fall
        return result

    def swell(period: float) -> NDArray[np.float64]:
        phase = 2 * np.pi * (times / period + random.random())
        return np.exp(1.5 * np.sin(phase + 0.7 * np.sin(phase / 2.7))) / 4.5

    def harmonics(hertz: NDArray[np.float64], most: int) -> NDArray[np.float64]:
        phase = 2 * np.pi * np.cumsum(hertz) / RATE
        return sum((np.sin(k * phase) / k for k in range(1, most)), np.zeros(count))

    notes = (times * 2).astype(int)
    since = times * 2 - notes
    pitches = 220 * 2 ** (random.choice([0, 2, 4, 7, 9, 12], notes.max() + 1) / 12)
    syllables = (times * 4).astype(int)
    is_said = random.random(syllables.max() + 1) < 0.75
    vowel = np.sin(np.pi * (times * 4 % 1)) ** 2 * is_said[syllables]
    voice = 120 + 15 * np.sin(times * 5) + random.normal(0, 12, len(is_said))[syllables]
    sounds = {
        "fire": 0.4 * noise(12) + bursts(_SECONDS * 5, RATE // 12, 0.5),
        "rain": 0.6 * noise(2) + bursts(_SECONDS * 60, RATE // 100, 0.1),
        "surf": noise(5) * swell(5) + 0.2 * noise(30),
        "street": 0.5 * noise(40) + 0.7 * noise(12) * swell(3.3) ** 2,
        "music": 0.15 * harmonics(pitches[notes], 8) * np.exp(-3 * since),
        "speech": 0.2 * harmonics(voice, 25) * vowel + 0.02 * noise(4),
        "tone": 0.3 * np.sin(2 * np.pi * 437 * times),
        "silence": np.zeros(count),
        "crackle": 0.01 * noise(3) + bursts(_SECONDS * 3, RATE // 60, 0.5),
        "engine": 0.1 * harmonics(31 + 2 * np.sin(times), 40) + 0.1 * noise(8),
    }
    for name, samples in sounds.items():
        yield name, samples.clip(-1, 1)[:, None].astype(np.float32)


def filmed(path: Path) -> Sound:
    """Return the first track of a film in mono."""
    with av.open(str(path)) as clip:
        mono = av.AudioResampler("flt", "mono", RATE)
        parts = [
            part.to_ndarray()[0] for f in clip.decode(audio=0) for part in mono.resample(f)
        ]
        return np.concatenate(parts)[:, None]


def edits(length: int, seed: int) -> list[Edit]:
    """Return the jumps of a texture, each of which takes a tenth of a second."""
    random = np.random.default_rng(seed)
    end = Fraction(length, RATE)
    result = []
    last = max(float(end - _EVERY) - 0.1, 0.1)
    for number in range(int(_LONG / _EVERY)):
        begins = end + number * _EVERY
        target = Fraction(round(random.uniform(0, last) * 25), 25)
        result.append(Edit(begins, Fraction(1, 10), target - begins - Fraction(1, 10)))
    return result


class Joins(FilmSound):
    """The sound of a film, which notes the positions of both sounds of each fade."""

    def __init__(self, film: Sound) -> None:
        """Prepare the sound, whose first sample is at position 0."""
        super().__init__(film, RATE, 0)
        self.fades: list[tuple[int, int, int]] = []  # before, after, length
        self._asked = 0, 0

    def heard(self, begin: int, length: int) -> Sound:
        """Return the sound from a position on."""
        self._asked = self._asked[1], begin
        sound: Sound = super().heard(begin, length)
        return sound

    def note(self, length: int) -> None:
        """Note that the last two sounds that were asked for cross."""
        self.fades.append((*self._asked, length))


def joined(film: Sound, score: list[Edit], seed: int) -> tuple[Sound, Joins, list[int]]:
    """Return the film's sound with what follows, the joins, and where they begin."""
    end = Fraction(len(film), RATE)
    edit_list = EditList(end, end + _LONG, Fraction(0), seed=seed)
    edits = edit_list.follow()
    for edit in score:
        edit_list.add(edit)
    edit_list.reach(edit_list.ends)
    sound = Joins(film)

    def noted(old: Sound, new: Sound) -> Sound:
        sound.note(len(old))
        made: Sound = crossed(old, new)
        return made

    setattr(mixing, "crossed", noted)  # noqa: B010
    lead = film[:RATE]
    mixer = Mixer(edit_list, edits, sound, len(film), Fraction(0), lead)
    parts, places = [film], []
    try:
        count = 0
        for part in mixer.play():
            if len(sound.fades) > count:
                places.append(sum(map(len, parts)))
                count = len(sound.fades)
            parts.append(part)
    finally:
        setattr(mixing, "crossed", crossed)  # noqa: B010
    return np.concatenate(parts), sound, places


def level(sound: Sound) -> float:
    """Return the level in dB."""
    return float(10 * np.log10((sound.astype(np.float64) ** 2).mean() + _FLOOR))


def loudness(sound: Sound) -> NDArray[np.float64]:
    """Return the level of each window of 0.4 seconds in dB, one every 0.01 seconds."""
    size = int(_WINDOW * RATE)
    power = np.cumsum(np.pad((sound.astype(np.float64) ** 2).mean(1), (1, 0)))
    means: NDArray[np.float64] = (power[size:] - power[:-size]) / size
    return 10 * np.log10(means[:: RATE // 100] + _FLOOR)


def measure(film: Sound, sound: Sound, joins: Joins, places: list[int]) -> str:
    """Return the figures of the joins as cells of a table."""
    side = int(_SIDE * RATE)
    usual, whole = loudness(film), loudness(sound)
    largest = float(np.abs(np.diff(film, axis=0)).max()) + 1e-6
    attacks = Attacks(RATE // 750, RATE // 16)
    attacks.find(np.concatenate([np.zeros((RATE, 1)), film, film[:RATE] * 0]), -RATE)
    times = np.array(attacks.times)
    figures: list[list[float]] = []
    for place, (before, after, length) in zip(places, joins.fades, strict=True):
        end = place + length
        old, new = (joins.heard(at, length).astype(np.float64) for at in (before, after))
        product = float((old * new).sum())
        powers = [float((one**2).mean()) for one in (old, new)]
        near = whole[max((place - RATE) * 100 // RATE, 0) : (end + RATE // 2) * 100 // RATE]
        starts = [at + far for at in (before, after) for far in (0, length)]
        cut = [(times >= at - RATE // 25) & (times <= at) for at in starts]
        figures.append(
            [
                abs(level(sound[end : end + side]) - level(sound[place - side : place])),
                abs(level(sound[place:end]) - 10 * np.log10(sum(powers) / 2 + _FLOOR)),
                max(float(near.max() - usual.max()), float(usual.min() - near.min()), 0),
                product / (length * (powers[0] * powers[1]) ** 0.5 + 1e-12),
                float(np.abs(np.diff(sound[place - 1 : end + 1], axis=0)).max()) / largest,
                sum(bool(one.any()) for one in cut),
            ]
        )
    middle, most = np.median(figures, 0), np.max(figures, 0)
    cells = [f"{middle[k]:.1f} / {most[k]:.1f}" for k in range(3)]
    cells += [f"{middle[3]:.2f}", f"{most[4]:.2f}", f"{sum(row[5] for row in figures)}"]
    return " | ".join([str(len(places)), *cells])


def drawn(sound: Sound, places: list[int], joins: Joins) -> NDArray[np.uint8]:
    """Return the waveforms of a second around four joins; the fades are dark."""
    rows = []
    scale = _PANEL[1] / 2 / (float(np.abs(sound).max()) + 1e-6)
    for place, (_, _, length) in list(zip(places, joins.fades, strict=True))[:4]:
        row = np.full((_PANEL[1], _PANEL[0], 3), 255, np.uint8)
        first = place + length // 2 - RATE // 2
        part = sound[max(first, 0) : first + RATE, 0]
        width = len(part) // _PANEL[0]
        columns = part[: width * _PANEL[0]].reshape(_PANEL[0], width)
        lows, highs = (
            (_PANEL[1] / 2 - edge * scale).astype(int)
            for edge in (columns.max(1), columns.min(1))
        )
        left, right = ((at - first) // width for at in (place, place + length))
        row[:, left:right] = (200, 220, 255)
        for column in range(_PANEL[0]):
            row[max(lows[column], 0) : highs[column] + 1, column] = (120, 40, 0)
        row[-1] = 0
        rows.append(row)
    return np.concatenate(rows) if rows else np.zeros((1, _PANEL[0], 3), np.uint8)


def main() -> None:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(
        "| sound | kind | joins | level step, dB | level of the fade, dB "
        "| outside of the range, dB | correlation | sample step | cut |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    films = [(path.stem, filmed(path)) for path in options.films]
    for name, film in [*made(options.seed), *films]:
        sheet = []
        end = Fraction(len(film), RATE)
        kinds = {
            "texture": edits(len(film), options.seed),
            "ambience": [Edit(end, Fraction(0), None)],
        }
        for kind, score in kinds.items():
            sound, joins, places = joined(film, score, options.seed)
            print(
                f"| {name} | {kind} | {measure(film, sound, joins, places)} |", flush=True
            )
            sheet.append(drawn(sound, places, joins))
        cv2.imwrite(str(options.out / f"{name}.png"), np.concatenate(sheet))


if __name__ == "__main__":
    main()
