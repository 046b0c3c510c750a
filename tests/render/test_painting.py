"""Objects are set on new frames where a network lost them, and nowhere else."""

import numpy as np
import pytest
import torch

from cloudconv.fastobjects import FastObject, Matte
from cloudconv.render.painting import area_of, paint, painted, without

SIZE = HEIGHT, WIDTH = 120, 200
GROUND = 0.4


def matte(x, y, radius=4, colour=(1.0, 0.8, 0.2), level=GROUND):
    """Return the matte of a disc before an even ground."""
    side = 2 * radius + 7
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    middle = side // 2
    apart = np.hypot(columns - middle, rows - middle)
    alpha = np.clip(radius + 0.5 - apart, 0, 1).astype(np.float32)
    colours = alpha[..., None] * np.array(colour, np.float32)
    ground = np.full((side, side, 3), level, np.float32)
    corner = x - middle, y - middle
    return Matte(corner, (float(x), float(y)), alpha, colours, ground)


def thing(bend=(0.0, 0.0)):
    return FastObject((matte(60, 60), matte(100, 60)), (None, None), bend)


def picture(level=GROUND):
    return torch.full((3, *SIZE), level)


def set_on(new, thing, t=0.5, ground=GROUND):
    area = area_of(thing, SIZE)
    apart = torch.ones(1, *SIZE)
    things = [painted(thing, t, area, torch.device("cpu"))]
    paint(new, apart, things, [picture(ground)[(..., *area)]])
    return apart[0]


@pytest.mark.parametrize("t", [0.25, 0.5, 0.8])
def test_an_object_is_whole_at_its_place(t):
    new = picture()
    apart = set_on(new, thing(bend=(0.0, 8.0)), t)
    x, y = round(60 + 40 * t), round(60 - 4 * t * (1 - t))
    assert new[:, y, x].tolist() == pytest.approx([1.0, 0.8, 0.2], abs=0.02)
    assert int((new[0] > 0.7).sum()) == pytest.approx(np.pi * 16, rel=0.25)
    assert apart[y, x] == pytest.approx(0, abs=0.01)  # what is painted is no guess
    assert apart[20, 20] == 1


def test_two_ghosts_become_one_object():
    new = picture()
    for one in thing().ends:
        whole = without(picture()[None], area_of(thing(), SIZE), [])[0]
        assert torch.equal(whole, picture()[(..., *area_of(thing(), SIZE))])
        left, top = one.corner
        side = len(one.alpha)
        part = new[:, top : top + side, left : left + side]
        shown = torch.from_numpy(one.colours - one.alpha[..., None] * GROUND)
        part += 0.5 * shown.permute(2, 0, 1)
    set_on(new, thing())
    assert new[0, 60, 80] > 0.95
    assert (new[:, 60, [60, 100]] - GROUND).abs().max() < 0.01


@pytest.mark.parametrize("opacity", [0.3, 0.7, 1.0])
def test_the_ground_shows_through_a_streak_as_in_both_frames(opacity):
    def end(x, level):
        colours = [opacity * c + (1 - opacity) * level for c in (1.0, 0.8, 0.2)]
        return matte(x, 60, colour=colours, level=level)

    streak = FastObject((end(60, 0.1), end(100, 0.9)), (None, None), (0.0, 0.0))
    new = picture()
    set_on(new, streak)
    expected = [opacity * c + (1 - opacity) * GROUND for c in (1.0, 0.8, 0.2)]
    assert new[:, 60, 80].tolist() == pytest.approx(expected, abs=0.02)


def test_an_object_that_the_network_shows_stays_as_it_is():
    new = picture()
    set_on(new, thing())
    before = new.clone()
    set_on(new, thing())
    assert torch.equal(new, before)


def test_objects_are_taken_off_a_source_frame():
    area = area_of(thing(), SIZE)
    frame = picture()[None]
    one = matte(60, 60)
    left, top = one.corner
    side = len(one.alpha)
    frame[..., top : top + side, left : left + side] = torch.from_numpy(
        one.colours + (1 - one.alpha[..., None]) * GROUND
    ).permute(2, 0, 1)
    clean = without(frame, area, [one, None])
    assert (clean - GROUND).abs().max() < 0.01
    assert frame[0, 0, 60, 60] > 0.9  # the source frame itself stays


def test_an_object_at_the_edge_of_a_frame_is_cut_there():
    at_edge = FastObject((matte(4, 4), matte(40, 4)), (None, None), (0.0, 0.0))
    area = area_of(at_edge, SIZE)
    assert (area[0].start, area[1].start) == (0, 0)
    new = picture()
    set_on(new, at_edge, t=0.1)
    assert new[0, 4, 8] > 0.9
