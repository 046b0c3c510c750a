"""Make the contact sheets of the README's gallery: dreams of clouds.mp4 in each mode.

Usage: python make_gallery.py [FOLDER [NAME...]]

Each sheet shows the last source frame, then the new frames whose numbers are in SHOWN. Needs
cloudconv and Pillow only.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont
from record import note

import cloudconv

SOURCE = Path(__file__).with_name("clouds.mp4")
GALLERY = Path(__file__).with_name("gallery")
SHOWN = (1, 24, 72, 144, 216, 300)
WIDTH = 240
SHEETS: dict[str, dict[str, Any]] = {
    "collage": {"mode": "collage"},
    "texture": {"mode": "texture"},
    "flow": {"mode": "flow"},
    "rollout": {"model": "conv"},
}


def command(name: str) -> str:
    """Return the command line that makes the dream of a sheet."""
    options = " ".join(
        f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}")
        for key, value in SHEETS[name].items()
    )
    return f"cloudconv dream examples/clouds.mp4 --frames {max(SHOWN)} --only-new {options}"


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
    made = Image.new("RGB", (across * width, 2 * height))
    pen = ImageDraw.Draw(made)
    for place, (label, picture) in enumerate(pictures):
        corner = (place % across * width, place // across * height)
        made.paste(picture, corner)
        at = (corner[0] + 6, corner[1] + 4)
        font = ImageFont.load_default(size=13)
        pen.text(at, label, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return made


def make(folder: Path, names: Sequence[str] = tuple(SHEETS)) -> None:
    """Make the dreams and write their sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(SOURCE)) as clip:
        count = clip.streams.video[0].frames
    last = frames(SOURCE, {count})[count]
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            video = Path(scratch) / f"{name}.mp4"
            result = cloudconv.dream(
                SOURCE, video, frames=max(SHOWN), only_new=True, **SHEETS[name]
            )
            made = frames(video, set(SHOWN))
            shown = [("last real frame", last), *((f"frame {k}", made[k]) for k in SHOWN)]
            # The sheet has seven pictures and one free place, for the verdict.
            alive = sum(row["alive"] for row in result.vitals)
            verdict = Image.new("RGB", last.size, "black")
            text = f"{name}\nalive in {alive} of {len(result.vitals)}\nwindows of 100 frames"
            font = ImageFont.load_default(size=16)
            ImageDraw.Draw(verdict).text((16, 30), text, fill="white", font=font)
            picture = folder / f"{name}.jpg"
            sheet([*shown, ("", verdict)]).save(picture, quality=75)
            if folder.resolve() == GALLERY.resolve():
                note(picture, [command(name)], [m for m in [SHEETS[name].get("model")] if m])
            print(f"{name}: {result.frames_per_second:.1f} frames/s")
            for row in result.vitals:
                print("   ", {key: value for key, value in row.items() if value is not None})


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else GALLERY
    make(target, sys.argv[2:] or tuple(SHEETS))
