"""Make the README's moving picture from clouds.mp4: slow motion beside its source, and a dream.

Usage: python make_showcase.py [OUT]

Left, the source at a quarter of its speed; in the middle, the same made smooth by ``--slowmo 4``;
right, what a dream goes on with where the clip ends. Needs cloudconv and Pillow only.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

import cloudconv

SOURCE = Path(__file__).with_name("clouds.mp4")
FRAMES, SLOWER = 84, 4
WIDTH, MARGIN = 272, 4
LABELS = ("source, at a quarter of its speed", "--slowmo 4", "dream: on from where the clip ends")


def pictures(path: Path) -> Iterator[Image.Image]:
    """The frames, small."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            picture = frame.to_image()
            height = round(picture.height * WIDTH / picture.width)
            yield picture.resize((WIDTH, height), Image.Resampling.LANCZOS)


def beside(panels: tuple[Image.Image, ...]) -> Image.Image:
    """The pictures side by side, each with its label."""
    width, height = panels[0].size
    made = Image.new("RGB", (len(panels) * (width + MARGIN) - MARGIN, height), "white")
    pen = ImageDraw.Draw(made)
    font = ImageFont.load_default(size=12)
    for place, (label, panel) in enumerate(zip(LABELS, panels, strict=True)):
        left = place * (width + MARGIN)
        made.paste(panel, (left, 0))
        at = (left + 6, 4)
        pen.text(at, label, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return made


def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        slow, dreamt = Path(scratch) / "slow.mp4", Path(scratch) / "dream.mp4"
        cloudconv.interpolate(SOURCE, slow, slowmo=SLOWER, end=1)
        cloudconv.dream(SOURCE, dreamt, frames=FRAMES, only_new=True)
        held = (picture for picture in pictures(SOURCE) for _ in range(SLOWER))
        panels = islice(zip(held, pictures(slow), pictures(dreamt), strict=False), FRAMES)
        first, *rest = map(beside, panels)
        first.save(
            target, save_all=True, append_images=rest, duration=42, loop=0, quality=60, method=5
        )


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("showcase.webp")
    make(path)
    print(path)
