"""Make the gallery's sheets: dreams of clouds.mp4 and of a street, a preview, a loop.

Usage: python make_gallery.py STREET [FOLDER [NAME...]]

STREET is ``car-detection.mp4`` of https://github.com/intel-iot-devkit/sample-videos (CC BY
4.0). Each sheet shows the last source frame, then the new frames whose numbers are in
SHOWN, or in STREET for the street; ``preview`` is the preview of the modes, reduced.
``loop`` shows the middle column of each frame from left to right, SEAM frames on both sides
of the moment where a clip begins again: above of stream.mp4, below of its loop. Needs
cloudconv, NumPy and Pillow only.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from record import note

import cloudconv

SOURCE = Path(__file__).with_name("clouds.mp4")
STREAM = SOURCE.with_name("stream.mp4")
GALLERY = Path(__file__).with_name("gallery")
SHOWN = (1, 24, 72, 120, 168, 228, 300)
STREET = (4, 8, 12, 24, 36, 46, 56)
WIDTH = 240
PREVIEW_WIDTH = 1280
SEAM = 60
COLUMN = 8  # pixels
SHEETS: dict[str, dict[str, Any]] = {
    "collage": {"mode": "collage"},
    "texture": {"mode": "texture"},
    "flow": {"mode": "flow"},
    "rollout": {"model": "conv"},
    "street": {"mode": "texture"},
    "preview": {"preview": "modes.jpg"},
    "loop": {"loop": True, "seconds": 3},
}


def command(name: str) -> str:
    """Return the command line that makes the dream of a sheet."""
    options = " ".join(
        f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}")
        for key, value in SHEETS[name].items()
    )
    clips = {"street": "street.mp4", "loop": "examples/stream.mp4"}
    clip = clips.get(name, "examples/clouds.mp4")
    is_sheet = name not in ("preview", "loop")
    length = f"--frames {max(shown(name))} --only-new " if is_sheet else ""
    return f"cloudconv dream {clip} {length}{options}"


def shown(name: str) -> tuple[int, ...]:
    """Return the numbers of the frames of a sheet."""
    return STREET if name == "street" else SHOWN


def frames(path: Path, wanted: set[int]) -> dict[int, Image.Image]:
    """Return the frames with those numbers, counted from 1, reduced."""
    found = {}
    with av.open(str(path)) as clip:
        for number, frame in enumerate(clip.decode(video=0), 1):
            if number in wanted:
                picture = frame.to_image()
                height = round(picture.height * WIDTH / picture.width)
                found[number] = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    return found


def sheet(pictures: list[tuple[str, Image.Image]]) -> Image.Image:
    """Return the pictures in two rows, each with its label."""
    width, height = pictures[0][1].size
    across = -(-len(pictures) // 2)
    result = Image.new("RGB", (across * width, 2 * height))
    pen = ImageDraw.Draw(result)
    for place, (label, picture) in enumerate(pictures):
        corner = (place % across * width, place // across * height)
        result.paste(picture, corner)
        at = (corner[0] + 6, corner[1] + 4)
        font = ImageFont.load_default(size=13)
        pen.text(at, label, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return result


def preview(scratch: Path) -> Image.Image:
    """Return the preview of the modes, reduced."""
    path = scratch / SHEETS["preview"]["preview"]
    result = cloudconv.dream(SOURCE, preview=path)
    print(f"preview: {result.wall_seconds:.0f} s", *result.warnings, sep="\n    ")
    whole = Image.open(path)
    height = round(whole.height * PREVIEW_WIDTH / whole.width)
    return whole.resize((PREVIEW_WIDTH, height), Image.Resampling.LANCZOS)


def columns(path: Path) -> NDArray[np.uint8]:
    """Return the middle columns of the frames around the moment of a new begin."""
    with av.open(str(path)) as clip:
        pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    around = [*pictures[-SEAM:], *pictures[:SEAM]]
    middle: NDArray[np.uint8] = np.stack(
        [picture[:, picture.shape[1] // 2] for picture in around], 1, dtype=np.uint8
    )
    return middle.repeat(COLUMN, 1)


def loop(scratch: Path) -> Image.Image:
    """Return the columns of the clip above those of the loop."""
    path = scratch / "loop.mp4"
    result = cloudconv.dream(STREAM, path, **SHEETS["loop"])
    print(f"loop: {result.wall_seconds:.0f} s", *result.warnings, sep="\n    ")
    clip, closed = map(columns, (STREAM, path))
    gap = np.full((COLUMN, *clip.shape[1:]), 255, np.uint8)
    return Image.fromarray(np.vstack([clip, gap, closed]))


def dreamt(name: str, source: Path, scratch: Path) -> Image.Image:
    """Return the sheet of a dream in one mode."""
    with av.open(str(source)) as clip:
        count = sum(1 for _ in clip.decode(video=0))
    numbers = shown(name)
    video = scratch / f"{name}.mp4"
    result = cloudconv.dream(
        source, video, frames=max(numbers), only_new=True, **SHEETS[name]
    )
    assert isinstance(result, cloudconv.DreamResult)
    rate = f"{name}: {result.frames_per_second:.1f} frames/s"
    print(rate, *result.warnings, sep="\n    ")
    new = frames(video, set(numbers))
    pictures = [("last real frame", frames(source, {count})[count])]
    return sheet([*pictures, *((f"frame {k}", new[k]) for k in numbers)])


def make(street: Path, folder: Path, names: Sequence[str] = tuple(SHEETS)) -> None:
    """Make the dreams and write their sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            source = street if name == "street" else SOURCE
            picture = folder / f"{name}.jpg"
            others = {"preview": preview, "loop": loop}
            made = others.get(name, partial(dreamt, name, source))
            drawn = made(Path(scratch))
            drawn.save(picture, quality=75)
            if folder.resolve() == GALLERY.resolve():
                model = SHEETS[name].get("model")
                note(picture, [command(name)], [model] if model else [])


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else GALLERY
    make(Path(sys.argv[1]), target, sys.argv[3:] or tuple(SHEETS))
