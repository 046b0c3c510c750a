"""Draw the clips of ``kinds.py``: screens, animation, overlays, noise, flicker, fades.

Every kind is a function of the time in frames, so the truth between two frames is known.
The functions draw at four times the size, and reduce the picture by means over areas.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]
Draw = Callable[[float, Size], Picture]

_FINER = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_WORDS = [
    "the",
    "cloud",
    "drifts",
    "over",
    "a",
    "quiet",
    "town",
    "and",
    "nobody",
    "looks",
    "up",
]


class Sheet:
    """A picture of a given size to draw on; all positions and sizes are in its pixels."""

    def __init__(self, size: Size, ground: Colour | Picture) -> None:
        """Create a sheet of (width, height) with one colour, or a picture behind."""
        self.width, self.height = size
        shape = (self.height * _FINER, self.width * _FINER, 3)
        if isinstance(ground, tuple):
            # The bytes of a colour, repeated, are several times as fast as ``np.full``.
            pixels = bytearray(bytes(ground) * (shape[0] * shape[1]))
            self._canvas = np.frombuffer(pixels, np.uint8).reshape(shape)
        else:
            self._canvas = ground.repeat(_FINER, 0).repeat(_FINER, 1)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill a polygon."""
        corners = np.array([_fine(point) for point in points], np.int32)
        cv2.fillPoly(self._canvas, [corners], colour)

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: Colour
    ) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        cv2.circle(self._canvas, _fine(centre), round(radius * _FINER), colour, -1)

    def line(self, points: Sequence[Point], thickness: float, colour: Colour) -> None:
        """Draw connected lines with round ends."""
        fine = np.array([_fine(point) for point in points], np.int32)
        width = max(1, round(thickness * _FINER))
        cv2.polylines(self._canvas, [fine], False, colour, width)

    def text(
        self, words: str, left: float, base: float, colour: Colour, scale: float = 0.5
    ) -> None:
        """Write a line of text; at ``scale`` 1 capitals are about 22 pixels high."""
        thickness = max(1, round(1.6 * scale * _FINER))
        place = _fine((left, base))
        cv2.putText(self._canvas, words, place, _FONT, scale * _FINER, colour, thickness)

    def picture(self) -> Picture:
        """Return the picture at its own size, (height, width, 3) uint8."""
        small = cv2.resize(
            self._canvas, (self.width, self.height), interpolation=cv2.INTER_AREA
        )
        return np.ascontiguousarray(small, np.uint8)


def _fine(point: Point) -> tuple[int, int]:
    return round(point[0] * _FINER), round(point[1] * _FINER)


def pointer(time: float, size: Size, speed: float) -> Picture:
    """Draw a pointer that moves ``speed`` pixels a frame over an empty window."""
    sheet = Sheet(size, (245, 245, 245))
    x, y = 40 + speed * time, 40 + speed / 3 * time
    _pointer(sheet, x, y)
    return sheet.picture()


def _pointer(sheet: Sheet, x: float, y: float) -> None:
    outline = [(0, 0), (0, 18), (4, 14), (8, 22), (11, 20), (7, 13), (13, 13)]
    sheet.polygon([(x + 1.2 * dx, y + 1.2 * dy) for dx, dy in outline], _BLACK)


def crossing(time: float, size: Size, speed: float) -> Picture:
    """Draw a pointer that moves ``speed`` pixels a frame over a page of text."""
    sheet = Sheet(size, scroll(0, size))
    _pointer(sheet, 40 + speed * time, 40 + speed / 3 * time)
    return sheet.picture()


def panel(time: float, size: Size, speed: float) -> Picture:
    """Draw a menu that slides in from the left."""
    sheet = Sheet(size, (250, 250, 250))
    x = 30 + speed * time
    sheet.box(x - 160, 20, x, size[1] - 20, (60, 90, 200))
    for row in range((size[1] - 60) // 24):
        sheet.text(f"menu entry {row}", x - 150, 46 + 24 * row, _WHITE)
    return sheet.picture()


def chart(time: float, size: Size) -> Picture:
    """Draw columns that grow and a curve that gets longer."""
    sheet = Sheet(size, (252, 252, 252))
    width, height = size
    for row in range(4):
        sheet.line(
            [(20, height * (row + 1) / 5), (width - 10, height * (row + 1) / 5)],
            1,
            (200,) * 3,
        )
    for k in range(8):
        top = height - 16 - min(height - 60, (2.5 + 0.7 * k) * time)
        left = 30 + k * (width - 60) / 8
        sheet.box(left, top, left + (width - 60) / 14, height - 16, (70, 130 + 12 * k, 180))
    end = 20 + 9 * time
    sheet.line(
        [(x, height / 2 + height / 5 * math.sin(x / 30)) for x in np.arange(20, end, 2)],
        2,
        (200, 60, 40),
    )
    return sheet.picture()


def scroll(time: float, size: Size) -> Picture:
    """Draw a page of text that moves up under a fixed title bar."""
    sheet = Sheet(size, (255, 255, 255))
    for row in range(-1, 60):
        base = 60 + 22 * row - 5 * time
        if -20 < base < size[1] + 20:
            line = " ".join(_WORDS[(row * 3 + k) % len(_WORDS)] for k in range(9))
            sheet.text(line, 16, base, (30, 30, 30), 0.4)
    sheet.box(0, 0, size[0], 28, (60, 60, 70))
    sheet.text("a page - reader", 10, 20, _WHITE, 0.45)
    return sheet.picture()


def line(time: float, size: Size) -> Picture:
    """Draw a thin line that sweeps to the right, and a thin hand that turns."""
    sheet = Sheet(size, (40, 44, 52))
    width, height = size
    x = 20 + 7 * time
    sheet.line([(x, 6), (x, height - 6)], 1, (240, 200, 60))
    centre = (width * 0.7, height / 2)
    angle = time / 14
    reach = height * 0.4
    tip = (centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle))
    sheet.line([centre, tip], 1.5, (120, 220, 160))
    return sheet.picture()


def cartoon(time: float, size: Size, speed: float) -> Picture:
    """Draw a ball with a hat that rolls over a meadow."""
    sheet = Sheet(size, (120, 190, 240))
    ground = size[1] * 0.72
    sheet.box(0, ground, size[0], size[1], (90, 170, 80))
    x = 60 + speed * time
    y = ground - 40 + 25 * math.sin(time / 4)
    sheet.disc((x, y), 33, (20, 20, 20))
    sheet.disc((x, y), 30, (230, 60, 50))
    sheet.box(x - 12, y - 68, x + 12, y - 34, (250, 220, 60))
    return sheet.picture()


def dots(time: float, size: Size) -> Picture:
    """Draw small dots with own directions and speeds."""
    random = np.random.default_rng(7)
    sheet = Sheet(size, (20, 24, 60))
    for _ in range(24):
        x, y = random.uniform(0, size[0]), random.uniform(0, size[1])
        dx, dy = random.uniform(-6, 6, 2)
        shade = int(random.integers(150, 255))
        sheet.disc((x + dx * time, y + dy * time), 2, (shade, shade, 220))
    return sheet.picture()


def titles(time: float, size: Size) -> Picture:
    """Draw two lines of a title that slide in from both sides."""
    sheet = Sheet(size, (30, 60, 50))
    width, height = size
    sheet.text("THE QUIET TOWN", -120 + 11 * time, height * 0.45, (240, 235, 220), 0.9)
    sheet.text(
        "a film about clouds", width - 40 - 8 * time, height * 0.65, (230, 190, 90), 0.6
    )
    return sheet.picture()


def character(time: float, size: Size) -> Picture:
    """Draw a person who walks past a house: head, trunk, arms and legs swing."""
    sheet = Sheet(size, (205, 225, 240))
    width, height = size
    floor = height * 0.9
    sheet.box(0, floor, width, height, (150, 140, 110))
    sheet.box(width * 0.55, height * 0.25, width * 0.85, floor, (200, 160, 130))
    x = 40 + 6 * time
    swing = math.sin(time / 3)
    unit = height / 100
    hip = (x, floor - 38 * unit)
    neck = (x + 2 * unit, floor - 66 * unit)
    for side, shade in ((-1, (30, 40, 90)), (1, (50, 70, 150))):
        knee = _limb(hip, 20 * unit, side * 0.6 * swing)
        foot = _limb(knee, 19 * unit, side * 0.6 * swing - 0.4 * max(0.0, side * swing))
        sheet.line([hip, knee, foot], 6 * unit, shade)
        elbow = _limb(neck, 15 * unit, -side * 0.7 * swing)
        hand = _limb(elbow, 14 * unit, -side * 0.7 * swing + 0.4)
        sheet.line([neck, elbow, hand], 4 * unit, (shade[2], 60, 60))
    sheet.line([hip, neck], 11 * unit, (200, 70, 60))
    sheet.disc((neck[0] + unit, neck[1] - 9 * unit), 8 * unit, (240, 205, 175))
    sheet.disc((neck[0] + 4 * unit, neck[1] - 10 * unit), 1.2 * unit, _BLACK)
    return sheet.picture()


def _limb(start: Point, length: float, angle: float) -> Point:
    return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)


def end_credits(time: float, size: Size) -> Picture:
    """Draw end credits that move up over black."""
    sheet = Sheet(size, _BLACK)
    for row in range(40):
        base = size[1] * 0.6 + 22 * row - 3.5 * time
        if -20 < base < size[1] + 20:
            sheet.text(_WORDS[row % 11].title(), size[0] * 0.2, base, (160, 160, 160), 0.5)
            sheet.text(
                f"{_WORDS[(row * 5) % 11]} {_WORDS[(row * 7 + 1) % 11]}",
                size[0] * 0.5,
                base,
                _WHITE,
                0.5,
            )
    return sheet.picture()


def subtitles(time: float, size: Size, speed: float) -> Picture:
    """Draw two outlined lines of text, still over a pan of ``speed`` pixels a frame."""
    sheet = Sheet(size, panned(speed * time, 0, size))
    for number, words in enumerate(("Nobody looks up,", "and the cloud drifts on.")):
        left = size[0] * 0.2
        base = size[1] - 40 + 24 * number
        for dx, dy in ((-1.5, 0), (1.5, 0), (0, -1.5), (0, 1.5)):
            sheet.text(words, left + dx, base + dy, _BLACK, 0.6)
        sheet.text(words, left, base, _WHITE, 0.6)
    return sheet.picture()


def game(time: float, size: Size) -> Picture:
    """Draw the fixed display of a game over a fast world with a sprite."""
    sheet = Sheet(size, panned(14 * time, 3 * math.sin(time / 5), size))
    width, height = size
    x = width * 0.5 + 30 * math.sin(time / 4)
    y = height * 0.6
    sheet.polygon([(x - 18, y + 14), (x, y - 20), (x + 18, y + 14)], (230, 80, 40))
    sheet.box(8, 8, 96, 20, _BLACK)
    sheet.box(10, 10, 74, 18, (60, 210, 70))
    sheet.text("SCORE 004200", width - 130, 22, (255, 240, 120), 0.5)
    sheet.disc((width - 34, height - 34), 26, (20, 30, 40))
    sheet.disc((width - 34, height - 34), 3, (90, 230, 250))
    return sheet.picture()


def captions(time: float, size: Size) -> Picture:
    """Draw a subtitle over a pan, which changes right after the fourth frame."""
    sheet = Sheet(size, panned(8 * time, 0, size))
    words = "the cloud drifts on." if time > 3 else "Nobody looks up,"
    for dx, dy in ((-1.5, 0), (1.5, 0), (0, -1.5), (0, 1.5)):
        sheet.text(words, size[0] * 0.2 + dx, size[1] - 24 + dy, _BLACK, 0.8)
    sheet.text(words, size[0] * 0.2, size[1] - 24, _WHITE, 0.8)
    return sheet.picture()


def counter(time: float, size: Size) -> Picture:
    """Draw the time left of a game over a pan, which changes right after frame 3."""
    sheet = Sheet(size, panned(8 * time, 0, size))
    sheet.box(20, 12, 150, 60, _BLACK)
    sheet.text("09:59" if time > 3 else "10:00", 28, 50, (255, 240, 120), 1.2)
    return sheet.picture()


def window(time: float, size: Size) -> Picture:
    """Draw a page with a video in a window, which cuts right after frame 3."""
    sheet = Sheet(size, (235, 235, 235))
    width, height = size
    for row in range(5):
        sheet.box(16, 30 + 44 * row, width * 0.3, 38 + 44 * row, (90, 90, 90))
    picture = sheet.picture()
    left, top = round(width * 0.4), round(height * 0.15)
    inner = width - left - 20, height - 2 * top
    scene = panned(700 + 5 * time, 60, inner) if time > 3 else panned(4 * time, 0, inner)
    picture[top : top + inner[1], left : left + inner[0]] = scene
    return picture


def snow(time: float, size: Size) -> Picture:
    """Draw a square that moves in front of white noise.

    The noise is another one in each frame.
    """
    return _square_over_noise(time, size, round(64 * time))


def grain(time: float, size: Size) -> Picture:
    """Draw a square that moves in front of white noise that stands still."""
    return _square_over_noise(time, size, 0)


def _square_over_noise(time: float, size: Size, seed: int) -> Picture:
    random = np.random.default_rng([3, seed])
    noise = np.clip(random.normal(128, 40, (size[1], size[0], 1)), 0, 255).astype(np.uint8)
    sheet = Sheet(size, noise.repeat(3, 2))
    x = 40 + 8 * time
    y = size[1] * 0.3
    sheet.box(x, y, x + 60, y + 60, (200, 40, 40))
    return sheet.picture()


def flicker(time: float, size: Size) -> Picture:
    """Draw a slow pan under a lamp whose brightness is another one in each frame."""
    light = 1 + 0.12 * np.random.default_rng([5, round(64 * time)]).uniform(-1, 1)
    picture: Picture = np.clip(panned(2 * time, time, size) * light, 0, 255).astype(
        np.uint8
    )
    return picture


def fade(time: float, size: Size) -> Picture:
    """Draw a pan that fades to black within 40 frames."""
    light = max(0.0, 1 - time / 40)
    return (panned(4 * time, 0, size) * light).astype(np.uint8)


def dissolve(time: float, size: Size) -> Picture:
    """Draw a pan that dissolves into another pan within 40 frames."""
    share = min(1.0, time / 40)
    first = panned(3 * time, 0, size)
    second = panned(500 - 4 * time, 60, size)
    return (first * (1 - share) + second * share).astype(np.uint8)


def panned(x: float, y: float, size: Size) -> Picture:
    """Return a part of a landscape of soft and fine detail, at (x, y)."""
    landscape = _landscape()
    centre = (x % 1500 + size[0] / 2, y % 100 + size[1] / 2)
    return np.ascontiguousarray(cv2.getRectSubPix(landscape, size, centre), np.uint8)


@cache
def _landscape() -> Picture:
    """Return a texture with detail of all sizes, 600x2200."""
    random = np.random.default_rng(11)
    height, width = 600, 2200
    total = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((160, 60), (60, 40), (20, 26), (8, 16), (3, 9)):
        coarse = random.uniform(-1, 1, (height // cell + 2, width // cell + 2, 3))
        total += weight * cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    for _ in range(160):  # things with edges
        x = int(random.uniform(0, width))
        y = int(random.uniform(0, height))
        w, h = (int(v) for v in random.uniform(8, 60, 2))
        total[y : y + h, x : x + w] += random.uniform(-50, 50, 3).astype(np.float32)
    return np.clip(total + 120, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Kind:
    """A generated kind of clip.

    ``group`` is its column in the table. ``twos`` marks animation in which each drawing is
    shown twice.
    """

    name: str
    group: str
    draw: Draw
    twos: bool = False


KINDS = (
    *(Kind(f"pointer-{2 * v}", "screen", partial(pointer, speed=v)) for v in (4, 10, 20)),
    *(Kind(f"panel-{2 * v}", "screen", partial(panel, speed=v)) for v in (6, 12)),
    Kind("crossing-20", "screen", partial(crossing, speed=10)),
    Kind("chart", "screen", chart),
    Kind("scroll", "screen", scroll),
    Kind("line", "screen", line),
    *(Kind(f"cartoon-{2 * v}", "drawn", partial(cartoon, speed=v)) for v in (4, 12, 24)),
    Kind("dots", "drawn", dots),
    Kind("titles", "drawn", titles),
    Kind("credits", "drawn", end_credits),
    Kind("character", "drawn", character),
    Kind("twos", "drawn", character, twos=True),
    Kind("subtitles", "overlay", partial(subtitles, speed=8)),
    Kind("subtitles-fast", "overlay", partial(subtitles, speed=16)),
    Kind("game", "overlay", game),
    Kind("captions", "in place", captions),
    Kind("counter", "in place", counter),
    Kind("window", "in place", window),
    Kind("snow", "noise", snow),
    Kind("grain", "noise", grain),
    Kind("flicker", "flicker", flicker),
    Kind("fade", "fades", fade),
    Kind("dissolve", "fades", dissolve),
)
