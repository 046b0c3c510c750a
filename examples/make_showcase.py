"""Make the README's moving picture: filmed clips at half speed, beside interp's output.

Usage: python make_showcase.py STREET [OUT]

STREET is ``car-detection.mp4`` of https://github.com/intel-iot-devkit/sample-videos (CC BY
4.0); the other clip is ``stream.mp4`` beside this script. Needs cloudconv and Pillow only.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont
from record import note

import cloudconv

HERE = Path(__file__).parent
MODEL = "cloud-best"  # interp's default
SLOWER = 2
WIDTH, HEIGHT, GAP = 304, 171, 4
LENGTH = 4000  # milliseconds
LEAST = 12  # milliseconds between two pictures; browsers slow down shorter ones
QUALITY = 38


@dataclass(frozen=True)
class Row:
    """One clip: its command, and the texts on both panels."""

    command: str
    before: str
    after: str

    @property
    def words(self) -> dict[str, str]:
        """Return the command's options by name."""
        words = shlex.split(self.command)[3:]
        return dict(
            zip((word.lstrip("-") for word in words[::2]), words[1::2], strict=True)
        )


ROWS = (
    Row(
        "cloudconv interp street.mp4 --factor 4 --start 4.88 --end 7.04",
        "12.5 frames a second, at half speed",
        "--factor 4",
    ),
    Row(
        "cloudconv interp examples/stream.mp4 --factor 2",
        "29.97 frames a second, at half speed",
        "--factor 2",
    ),
)


def pictures(path: Path, start: Fraction, end: Fraction) -> list[tuple[int, Image.Image]]:
    """Return the frames of a part of a clip, small and cropped, with milliseconds."""
    result = []
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            time = frame.pts * frame.time_base
            if start <= time < end:
                picture = frame.to_image()
                height = round(picture.height * WIDTH / picture.width)
                picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
                top = (height - HEIGHT) // 2
                picture = picture.crop((0, top, WIDTH, top + HEIGHT))
                result.append((round((time - start) * 1000 * SLOWER), picture))
    return result


def labelled(picture: Image.Image, text: str) -> Image.Image:
    """Write the text onto the picture."""
    font = ImageFont.load_default(size=12)
    pen = ImageDraw.Draw(picture)
    pen.text((6, 4), text, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return picture


def shown(panel: Sequence[tuple[int, Image.Image]], time: int) -> Image.Image:
    """Return the picture of a panel that is visible at a time."""
    return [picture for begins, picture in panel if begins <= time][-1]


def make(street: Path, target: Path) -> None:
    """Write the moving picture and its record."""
    panels = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, row in enumerate(ROWS):
            source = HERE / "stream.mp4" if "stream" in row.command else street
            start, end = (
                Fraction(row.words.get(key, d)) for key, d in (("start", 0), ("end", 2))
            )
            result = Path(scratch) / f"{number}.mkv"
            factor = int(row.words["factor"])
            cloudconv.interpolate(
                source, result, factor=factor, start=start, end=end, crf=12
            )
            panels.append(
                [(t, labelled(p, row.before)) for t, p in pictures(source, start, end)]
            )
            after = pictures(result, Fraction(0), end - start)
            panels.append([(t, labelled(p, row.after)) for t, p in after])
    times = [0]
    for time in sorted({time for panel in panels for time, _ in panel if time < LENGTH}):
        if time - times[-1] >= LEAST:
            times.append(time)
    frames = []
    for time in times:
        sheet = Image.new(
            "RGB", (2 * WIDTH + GAP, len(ROWS) * (HEIGHT + GAP) - GAP), "white"
        )
        for number, panel in enumerate(panels):
            line, column = divmod(number, 2)
            # A picture may change a few milliseconds late, so that both clips change
            # together.
            at = (column * (WIDTH + GAP), line * (HEIGHT + GAP))
            sheet.paste(shown(panel, time + LEAST - 1), at)
        frames.append(sheet)
    lengths = [
        after - before for before, after in zip(times, [*times[1:], LENGTH], strict=True)
    ]
    frames[0].save(
        target,
        save_all=True,
        append_images=frames[1:],
        duration=lengths,
        loop=0,
        quality=QUALITY,
        method=6,
    )


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "showcase.webp"
    make(Path(sys.argv[1]), target)
    if target.parent.resolve() == HERE.resolve():
        note(target, (row.command for row in ROWS), [MODEL])
    print(target)
