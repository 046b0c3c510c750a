"""Marks that stand still over a moving picture."""

from __future__ import annotations

import torch
from torch import Tensor

from cloudconv.models.overlay import marks


def moving(size: tuple[int, int] = (96, 128)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (0.4 * torch.rand(1, 3, *size, generator=generator) for _ in range(2))
    return first, second


def with_stripes(picture: Tensor) -> Tensor:
    """Return the picture with a mark of 10x12 pixels: white and black stripes, 3 pixels each."""
    stripes = (torch.arange(12) // 3 % 2).float()
    picture = picture.clone()
    picture[..., 40:50, 60:72] = stripes
    return picture


def test_a_mark_is_found_to_the_pixel() -> None:
    x0, x1 = (with_stripes(picture) for picture in moving())
    found = marks(x0, x1)
    assert found is not None
    assert (found[..., 40:50, 60:72] == 1).all()
    assert found.sum() == 120


def test_noise_of_a_codec_does_not_hide_a_mark() -> None:
    x0, x1 = (with_stripes(picture) for picture in moving())
    found = marks(x0, x1 + 0.9 / 255)
    assert found is not None
    assert (found[..., 40:50, 60:72] == 1).all()


def test_still_things_in_a_still_picture_are_no_marks() -> None:
    """Another thing may pass these places between the two pictures."""
    x0, _ = moving()
    x0 = with_stripes(x0)
    x1 = x0.clone()
    x1[..., 10:30, 10:40] = 0.9
    assert marks(x0, x1) is None


def test_flat_areas_are_no_marks() -> None:
    x0, x1 = moving()
    for picture in (x0, x1):
        picture[..., 40:60, 60:80] = 0.7
    found = marks(x0, x1)
    assert found is not None
    assert not found[..., 44:56, 64:76].any()
    assert marks(*moving()) is None
