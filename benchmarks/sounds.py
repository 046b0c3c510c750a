"""Dream on from films with sound, and draw what is heard and seen at jumps.

    python benchmarks/sounds.py FILM... --out FOLDER [--seconds 60] [--mode texture]

For each film the folder gets the dream and a picture: four frames around the first change
of the sound, and spectrograms of two seconds around up to eight changes. The table says by
how much the loudness near a change, in windows of 0.4 seconds, is outside the range of the
film's own sound.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

import cloudconv
from cloudconv.media.sound.edits import Edit, EditList

_MOST = 8  # changes that are drawn
_AROUND = 1.0  # seconds before and after a change
_SIZE = 512  # samples of a spectrum
_PANEL = (480, 200)  # width and height of a spectrogram
_WINDOW = 0.4  # seconds

Sound = NDArray[np.float64]
Picture = NDArray[np.uint8]


def note(edits: list[Edit]) -> None:
    """Collect the edits of the next dream."""
    add = EditList.add

    def noted(edit_list: EditList, edit: Edit) -> None:
        edits.append(edit)
        add(edit_list, edit)

    setattr(EditList, "add", noted)  # noqa: B010


def heard(path: Path) -> tuple[Sound, int]:
    """Return the first track in mono, and its rate."""
    with av.open(str(path)) as clip:
        stream = clip.streams.audio[0]
        mono = av.AudioResampler("dbl", "mono", stream.rate)
        parts = [
            made.to_ndarray()[0] for f in clip.decode(stream) for made in mono.resample(f)
        ]
        return np.concatenate(parts), stream.rate


def loudness(sound: Sound, rate: int) -> Sound:
    """Return the level of each window in dB; windows begin every 0.01 seconds."""
    size = int(_WINDOW * rate)
    step = rate // 100
    power = np.cumsum(np.concatenate([[0.0], sound**2]))
    starts = np.arange(0, len(sound) - size, step)
    result: Sound = 10 * np.log10((power[starts + size] - power[starts]) / size + 1e-10)
    return result


def spectrogram(sound: Sound, rate: int) -> Picture:
    """Return the levels by time and frequency, up to 10 kHz, with a line in the middle."""
    hop = max(1, len(sound) // _PANEL[0])
    starts = range(0, len(sound) - _SIZE, hop)
    windows = np.stack([sound[k : k + _SIZE] for k in starts]) * np.hanning(_SIZE)
    levels = 20 * np.log10(np.abs(np.fft.rfft(windows)).T + 1e-4)
    levels = levels[: int(10_000 / rate * _SIZE)][::-1]
    grey = ((levels + 60) / 90 * 255).clip(0, 255).astype(np.uint8)
    grey = cv2.resize(grey, _PANEL, interpolation=cv2.INTER_AREA)
    result: Picture = np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA))
    result[:12, _PANEL[0] // 2 - 1 : _PANEL[0] // 2 + 1] = 255
    return result


def frames_at(path: Path, times: list[float]) -> Iterator[Picture]:
    """Yield the frames of a file that are shown at these times."""
    with av.open(str(path)) as clip:
        last = None
        wanted = list(times)
        for frame in clip.decode(video=0):
            while (
                last is not None
                and wanted
                and frame.time is not None
                and frame.time > wanted[0]
            ):
                wanted.pop(0)
                yield cast("Picture", last.to_ndarray(format="bgr24"))
            if not wanted:
                return
            last = frame


def measure(film: Path, options: argparse.Namespace) -> str:
    """Dream on from a film, draw the changes, and return a row of the table."""
    out = options.out / f"{film.stem}.mkv"
    edits: list[Edit] = []
    note(edits)
    result = cloudconv.dream(
        film, out, mode=options.mode, seconds=options.seconds, overwrite=True, threads=1
    )
    assert isinstance(result, cloudconv.DreamResult)
    (before, rate), (after, _) = heard(film), heard(out)
    times = [float(edit.begins) for edit in edits]
    usual, made = loudness(before, rate), loudness(after, rate)
    low, high = float(usual.min()), float(usual.max())
    outside = [0.0]
    for time in times:
        near = made[max(int((time - 0.9) * 100), 0) : int((time + 0.5) * 100)]
        outside += np.maximum(near - high, low - near).tolist()
    panels = []
    for time in [t for t in times if t + _AROUND < len(after) / rate][:_MOST]:
        first = int((time - _AROUND) * rate)
        panels.append(spectrogram(after[first : first + int(2 * _AROUND * rate)], rate))
    rows = [np.concatenate(panels[k : k + 2], 1) for k in range(0, len(panels) - 1, 2)]
    if times:
        step = float(Fraction(result.output_fps or "25") ** -1)
        shown = list(
            frames_at(out, [times[0] + step * (k - 1.5) + step / 4 for k in range(4)])
        )
        width = 2 * _PANEL[0] // 4
        small = [cv2.resize(p, (width, width * p.shape[0] // p.shape[1])) for p in shown]
        rows.insert(0, np.concatenate([np.asarray(p) for p in small], 1))
    cv2.imwrite(str(options.out / f"{film.stem}.jpg"), np.concatenate(rows), [1, 85])
    spread = high - low
    return f"| {film.stem} | {len(times)} | {spread:.1f} | {max(outside):.2f} |"


def main() -> None:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--mode", default="texture")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| film | changes | range of the film, dB | outside of this range, dB |")
    print("| --- | --- | --- | --- |")
    for film in options.films:
        print(measure(film, options))


if __name__ == "__main__":
    main()
