"""What moves by an exact shift is moved exactly, and nothing else changes."""

import numpy as np
import pytest
import torch

from cloudconv.models.base import Made
from cloudconv.models.pair import PairPicture
from cloudconv.models.shifts import move_exactly

SIZE = 144, 208


def ground():
    """Return a flat page with a few marks that stand still."""
    picture = np.full((*SIZE, 3), 235, np.float32)
    picture[8:20, 10:190] = 60
    picture[120:132, 20:80] = 140
    return picture


def letters(behind, row, column, seed=0):
    """Return the picture with a block of letters at a place."""
    shapes = np.random.default_rng(seed).integers(0, 2, (6, 10)).repeat(5, 0).repeat(5, 1)
    picture = behind.copy()
    part = picture[row : row + 30, column : column + 50]
    part[shapes[: part.shape[0], : part.shape[1]] > 0] = (30, 40, 160)
    return picture


def page(number):
    """Return lines of text that scroll by 3 pixels a frame."""
    lines = np.random.default_rng(3).integers(0, 2, (60, SIZE[1] // 4)).repeat(4, 1)
    rows = np.repeat(lines, 8, 0)
    rows[(np.arange(len(rows)) // 8) % 2 == 1] = 0
    shown = rows[round(200 + 3 * number) :][: SIZE[0]]
    return np.float32(250 - 220 * shown[..., None].repeat(3, 2))


def slowing(number):
    """Return lines of text that scroll by 34, 26 and 18 pixels between four frames."""
    return page((30 * number - 4 * number**2) / 3)


def pointer(number):
    """Return lines of text that scroll, and a pointer that goes another way."""
    picture = page(number)
    row = round(60 + 1.5 * number)
    column = round(30 + 2.5 * number)
    for width in range(1, 15):
        picture[row + width, column : column + (width + 1) // 2] = 0
    return picture


def disc(number):
    """Return a large disc of one colour that moves by 6 pixels a frame."""
    rows, columns = np.indices(SIZE)
    picture = np.full((*SIZE, 3), 120, np.float32)
    picture[(rows - 72) ** 2 + (columns - 80 - 6 * number) ** 2 < 45**2] = (250, 150, 0)
    return picture


def game(number, steps):
    """Return a world of busy tiles that scrolls, and a figure that goes another way."""
    random = np.random.default_rng(4)
    palette = random.random((12, 3)) * 255
    tiles = palette[random.integers(0, 12, (6, 16, 16))]
    rows = [np.concatenate(tiles[k], 1) for k in random.integers(0, 6, (9, 20))]
    world, own = (int(step * number) for step in steps)
    picture = np.concatenate(rows)[:, 40 + world : 40 + world + SIZE[1]].copy()
    figure = palette[random.integers(0, 12, (8, 6))].repeat(4, 0).repeat(4, 1)
    picture[60:92, 90 + own : 114 + own] = figure
    return np.float32(picture)


def noise(number):
    return np.random.default_rng(number + 9).uniform(0, 255, (*SIZE, 3)).astype(np.float32)


CLIPS = {
    "a label that slides": lambda k: letters(ground(), 60, 40 + int(6 * k)),
    "a page that scrolls": page,
    "a pointer over a page that scrolls": pointer,
    "a large disc": disc,
    "two labels": lambda k: letters(letters(ground(), 34, 40 + 5 * k), 86, 110 - 4 * k, 1),
}
UNEXPLAINED = {
    "noise": noise,
    "a label that changes": lambda k: letters(ground(), 60, 60, seed=k + 9),
    "a label among noise": lambda k: letters(noise(k), 60, 40 + 20 * k),
}


def made_of(show, timestep=0.5, reach=(1.0, 1.0)):
    """Return the picture of a network without motion, corrected, and the one before."""
    sides = []
    for number in (0, 1, -1, 2):
        picture = torch.from_numpy(show(number) / 255).permute(2, 0, 1)[None]
        sides.append((PairPicture(picture.contiguous()),))
    x0, x1 = (side[0].channels for side in sides[:2])
    left = (x0 - x1)[:, :3].mean(1, keepdim=True)
    made = Made(torch.lerp(x0, x1, timestep), left, left.abs())
    before = made.pictures.clone()
    move_exactly(made, sides, [timestep], [reach])
    return made, before


@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("timestep", [0.5, 0.25])
def test_what_moves_by_a_shift_is_at_its_place(kind, timestep):
    show = CLIPS[kind]
    made, before = made_of(lambda k: show(4 * k), timestep)
    truth = torch.from_numpy(show(round(4 * timestep)) / 255).permute(2, 0, 1)[None]
    errors = [float((x - truth).square().mean()) for x in (made.pictures, before)]
    assert errors[0] < errors[1] / 10
    assert float(made.apart.mean()) < float((made.residual.abs()).mean()) / 3


@pytest.mark.parametrize("steps", [(6, 4), (2, 4), (8, 2)])
def test_the_figure_of_a_game_is_there_once(steps):
    made, before = made_of(lambda k: game(k, steps))
    truth = torch.from_numpy(game(0.5, steps) / 255).permute(2, 0, 1)[None]
    around = ..., slice(50, 102), slice(70, 134)
    errors = [float((x - truth)[around].square().mean()) for x in (made.pictures, before)]
    assert errors[0] < errors[1] / 50


@pytest.mark.parametrize("reach", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_a_page_that_slows_down_is_at_its_place(reach):
    made, before = made_of(slowing, reach=reach)
    truth = torch.from_numpy(slowing(0.5) / 255).permute(2, 0, 1)[None]
    errors = [float((x - truth).square().mean()) for x in (made.pictures, before)]
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("kind", UNEXPLAINED)
def test_what_no_shift_explains_keeps_every_bit(kind):
    made, before = made_of(UNEXPLAINED[kind])
    assert torch.equal(made.pictures, before)


def test_opacity_moves_with_the_colours():
    def show(number):
        picture = CLIPS["a label that slides"](4 * number)
        return np.concatenate((picture, 255 - picture[..., :1]), 2)

    made, before = made_of(show)
    truth = torch.from_numpy(show(0.5) / 255).permute(2, 0, 1)[None]
    errors = [float((x - truth)[:, 3].square().mean()) for x in (made.pictures, before)]
    assert errors[0] < errors[1] / 10


def test_a_pair_without_other_frames_keeps_every_bit():
    made, before = made_of(CLIPS["a label that slides"], reach=(0.0, 0.0))
    assert torch.equal(made.pictures, before)


@pytest.mark.parametrize("reach", [(1.0, 0.0), (0.0, 1.0), (2.0, 1.0)])
def test_one_frame_beside_the_pair_is_enough(reach):
    show = CLIPS["a label that slides"]
    times = {-1: -4 * int(reach[0]), 0: 0, 1: 4, 2: 8}
    made, before = made_of(lambda k: show(times[k]), reach=reach)
    truth = torch.from_numpy(show(2) / 255).permute(2, 0, 1)[None]
    errors = [float((x - truth).square().mean()) for x in (made.pictures, before)]
    assert errors[0] < errors[1] / 10
