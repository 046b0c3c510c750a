"""Still things that a network must not move."""

import pytest
import torch

from cloudconv.models.ops import sampling_grid
from cloudconv.models.pair import Pair
from cloudconv.models.stillness import stillness


def moving(size=(96, 128)):
    generator = torch.Generator().manual_seed(0)
    first, second = (0.4 * torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    return first, second


def with_stripes(picture, wide=3):
    """Return the picture with a mark of 10x12 pixels: white and black stripes."""
    stripes = (torch.arange(12) // wide % 2).float()
    picture = picture.clone()
    picture[..., 40:50, 60:72] = stripes
    return picture


def found_in(x0, x1):
    result = stillness(Pair.of([x0, x1], 0.5))
    assert result is not None
    return result


def marks_in(x0, x1):
    """Return the marks, which are the same in strips of rows."""
    result = found_in(x0, x1)
    squares = torch.nn.functional.max_pool2d(result.centres, 3, stride=1, padding=1)
    marks = result.marks(squares, 0)
    upper = result.marks(squares[:, :, :48], 0)
    lower = result.marks(squares[:, :, 48:], 48)
    if marks is None:
        assert upper is None
        assert lower is None
        return torch.zeros_like(squares)
    none = torch.zeros_like(squares[:, :, :48])
    parts = [none if mask is None else mask for mask in (upper, lower)]
    assert torch.allclose(torch.cat(parts, 2), marks, atol=1e-6)
    return marks


def kept_in(found, grids, top=0):
    return found.unmoved(grids, top, torch.zeros(1, 1, 1, 1))


def grids(across, size=(96, 128)):
    """Return sampling grids of a motion by ``across`` pixels to each side."""
    flow = torch.zeros(1, 2, *size)
    flow[:, 0] = across
    return [sampling_grid(side * flow, *size) for side in (1, -1)]


@pytest.mark.parametrize("wide", [1, 2, 3])
@pytest.mark.parametrize("noise", [0, 0.9 / 255], ids=["exact", "codec"])
def test_a_mark_is_found_to_the_pixel(wide, noise):
    x0, x1 = (with_stripes(picture, wide) for picture in moving())
    marks = marks_in(x0, x1 + noise)
    assert (marks[..., 40:50, 60:72] == 1).all()
    assert marks.sum() == 120


def test_strokes_of_three_pixels_are_marks_on_a_moving_ground():
    x0, x1 = moving()
    for picture in (x0, x1):
        picture[..., 40:43, 30:90] = 1
        picture[..., 43:46, 30:90] = 0
    assert (marks_in(x0, x1)[..., 40:46, 30:90] == 1).all()


def test_still_things_in_a_still_picture_are_no_marks():
    """Another thing may pass these places between the two pictures."""
    x0, _ = moving()
    x0 = with_stripes(x0)
    x1 = x0.clone()
    x1[..., 10:30, 10:40] = 0.9
    assert not marks_in(x0, x1).any()


def test_flat_areas_are_no_marks():
    x0, x1 = moving()
    for picture in (x0, x1):
        picture[..., 40:60, 60:80] = 0.7
    assert not marks_in(x0, x1)[..., 44:56, 64:76].any()
    assert stillness(Pair.of(moving(), 0.5)) is None


def test_still_things_are_not_moved_but_a_thing_may_pass_them():
    """A square jumps from column 10 to column 50, and passes column 30 between the two."""
    x0, _ = moving()
    x1 = x0.clone()
    x0[..., 40:50, 10:20] = 0.9
    x1[..., 40:50, 50:60] = 0.9
    result = found_in(x0, x1)
    unmoved = kept_in(result, grids(20))
    assert not unmoved[..., 40:50, 30:40].any()
    assert unmoved[..., 80:90, 30:100].min() > 0.99
    strip = kept_in(result, [grid[:, 80:90] for grid in grids(20)], 80)
    assert torch.equal(strip, unmoved[..., 80:90, :])


def test_pictures_of_a_batch_are_separate():
    still, _ = moving()
    x0, x1 = moving()
    both = found_in(torch.cat((x0, still)), torch.cat((x1, still)))
    assert not both.centres[0].any()
    assert both.centres[1].all()
