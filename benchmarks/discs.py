"""Score moving discs: drawn on filmed grounds.

    python benchmarks/discs.py clouds.mp4 bear.mp4 --model cloud-best

Of each clip the first seven frames, at 512x320, are the ground; ``--still`` repeats the
first one. A flat and a textured disc of several radii moves from frame to frame. Every
second frame is the input. A row has the PSNR of the frame in the middle, in the box that
holds the disc in both frames and 10 pixels around: of rife-4.6 and of the model.
"""

from __future__ import annotations

import argparse
from itertools import islice, product
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

import cloudconv

Bytes = NDArray[np.uint8]

SIZE = 512, 320
_COLUMN, _ROW = 200, 150  # of the disc's centre in the earlier frame
_FINE = 4  # the discs are drawn at so many times the size
_FLAT = 230, 60, 40


def main() -> None:
    """Run the command that the docstring of the module shows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--model", default="cloud-best")
    parser.add_argument("--radii", default="4,7,10,14,20,28,40", help="in pixels")
    parser.add_argument("--steps", default="4,8,16,24,32,48,64,96", help="in pixels")
    parser.add_argument("--still", action="store_true", help="repeat the first frame")
    options = parser.parse_args()
    print(f"clip, disc, radius, step: rife-4.6, {options.model}", flush=True)
    for clip in options.clips:
        ground = filmed(clip)
        if options.still:
            ground = ground[:1] * len(ground)
        sides = [map(int, given.split(",")) for given in (options.radii, options.steps)]
        for kind, (radius, step) in product(("flat", "textured"), [*product(*sides)]):
            flat = kind == "flat"
            scores = scored(ground, radius, step, options.model, flat=flat)
            name = f"{clip.stem}, {kind}, {radius}, {step}"
            print(f"{name}: {', '.join(f'{score:.1f}' for score in scores)}", flush=True)


def filmed(path: Path) -> list[Bytes]:
    """Return the first seven frames of a clip."""
    with av.open(str(path)) as container:
        frames = islice(container.decode(video=0), 7)
        return [
            np.asarray(
                cv2.resize(f.to_ndarray(format="rgb24"), SIZE, interpolation=cv2.INTER_AREA)
            )
            for f in frames
        ]


def scored(
    ground: list[Bytes], radius: int, step: int, model: str, *, flat: bool
) -> list[float]:
    """Return the PSNR of rife-4.6 and of the model."""
    film = [
        with_disc(picture, _COLUMN + step * (k - 2) / 2, radius, flat=flat)
        for k, picture in enumerate(ground)
    ]
    rows = slice(_ROW - radius - 10, _ROW + radius + 10)
    columns = slice(_COLUMN - radius - 10, _COLUMN + step + radius + 10)
    scores = []
    for name in ("rife-4.6", model):
        made = cloudconv.interpolate_frames(
            film[::2], factor=2, model=name, scene_cut="off", device="cpu"
        )
        new = next(islice(made, 3, 4))
        apart = new[rows, columns].astype(np.float64) - film[3][rows, columns]
        scores.append(float(10 * np.log10(255**2 / max((apart**2).mean(), 0.01))))
    return scores


def with_disc(ground: Bytes, column: float, radius: int, *, flat: bool) -> Bytes:
    """Return the ground with a disc; its edge is soft by a pixel."""
    large = cv2.resize(ground, None, fx=_FINE, fy=_FINE, interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[: large.shape[0], : large.shape[1]]
    rows, columns = rows - _ROW * _FINE, columns - column * _FINE
    inside = rows**2 + columns**2 < (radius * _FINE) ** 2
    if flat:
        large[inside] = _FLAT
    else:
        texture = _texture()
        places = (np.floor(axis[inside]).astype(int) % 256 for axis in (rows, columns))
        large[inside] = texture[tuple(places)]
    small = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA)
    near = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9)))
    near = cv2.resize(near, SIZE, interpolation=cv2.INTER_NEAREST)[..., None]
    return np.asarray(np.where(near > 0, small, ground), np.uint8)


def _texture() -> Bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    spread = cv2.normalize(
        soft.astype(np.float32), soft.astype(np.float32), 0, 255, cv2.NORM_MINMAX
    )
    return np.asarray(cv2.resize(spread, (256, 256)), np.uint8)


if __name__ == "__main__":
    main()
