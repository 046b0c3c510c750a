"""Draw marks that stand still while the picture moves, like text, logos and displays."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LINES = (1, 4)  # the fewest and the most lines of text
_GLYPH = 5  # height of a letter, in cells
_CELL = (1, 5)  # the smallest and the largest side of a cell, in pixels
_LONGEST = 60  # lines are shorter than this, in cells
_INK = 0.55  # fraction of the cells that are filled


def overlaid(frames: Tensor, random: np.random.Generator) -> Tensor:
    """Return frames, (L, 3, H, W) uint8, with the same marks at the same place in all of them.

    The marks are lines of random cells in one colour and opacity. Half of the samples have a box
    of another colour behind the marks.
    """
    height, width = frames.shape[2:]
    ink, opacity = np.zeros((height, width), bool), float(random.uniform(0.5, 1.0))
    box = np.zeros((height, width), bool)
    colours = torch.from_numpy(random.integers(0, 256, (2, 3, 1, 1))).float()
    if random.random() < 0.5:  # text in videos is often white
        colours[0] = 255
    boxed = random.random() < 0.5
    cell = int(random.integers(_CELL[0], _CELL[1] + 1))
    top = int(random.integers(height))
    left = int(random.integers(-width // 4, width))
    for _ in range(int(random.integers(_LINES[0], _LINES[1] + 1))):
        cells = random.random((_GLYPH, int(random.integers(3, _LONGEST)))) < _INK
        # Empty columns separate the letters.
        cells[:, 3::4] = False
        line = cells.repeat(cell, 0).repeat(cell, 1)[:, max(0, -left) :]
        down, right = min(height, top + line.shape[0]), min(width, max(0, left) + line.shape[1])
        area = (slice(top, down), slice(max(0, left), right))
        box[area] |= boxed
        ink[area] |= line[: max(0, down - top), : max(0, right - max(0, left))]
        top = min(height, top + line.shape[0] + 2 * cell)
    result = frames.float()
    for mask, colour in ((box, colours[1]), (ink, colours[0])):
        weight = opacity * torch.from_numpy(mask).float()
        result = torch.lerp(result, colour, weight)
    return result.round_().to(torch.uint8)
