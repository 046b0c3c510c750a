"""cloud-max is the mean of four runs of cloud-best."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv import metrics
from cloudconv.models import registry
from cloudconv.models.base import Interpolator


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return registry.load("cloud-max")


def film(height: int, width: int, *, step: float = 3.0) -> list[Tensor]:
    """Return five frames of a smooth texture that moves, (1, 3, H, W); the third is the truth."""
    texture = torch.rand(1, 3, height // 6, width // 4, generator=torch.Generator().manual_seed(1))
    wide = F.interpolate(texture, (height, 2 * width), mode="bicubic").clamp(0, 1)
    places = [0.0, 2 * step, 3 * step, 4 * step, 6 * step]
    return [wide[..., int(place) : int(place) + width].contiguous() for place in places]


def test_mirrored_and_reversed_pictures_give_the_same_frame(model: Interpolator) -> None:
    before, x0, _, x1, after = film(64, 96)
    reach = torch.tensor([[1.0, 0.5]])
    made = model.between((x0, x1, before, after), 0.25, reach=reach, leftover=True)
    turned = [each.flip(3) for each in (x1, x0, after, before)]
    again = model.between(turned, 0.75, reach=reach.flip(1), leftover=True)
    assert made.shape == (1, 4, 64, 96)
    assert torch.allclose(made, again.flip(3), atol=1e-4)


@pytest.mark.parametrize(("height", "width", "scale"), [(67, 101, 1.0), (50, 90, 2.0)])
def test_frames_of_any_size_are_better_than_a_blend(
    model: Interpolator, height: int, width: int, scale: float
) -> None:
    _, x0, true, x1, _ = film(height, width)
    made = model.interpolate(x0, x1, 0.5, scale=scale)
    assert made.shape == x0.shape
    assert float(metrics.psnr(made, true)) > float(metrics.psnr((x0 + x1) / 2, true)) + 5


def test_the_weights_are_those_of_cloud_best() -> None:
    best, most = (registry.spec(name) for name in ("cloud-best", "cloud-max"))
    assert (best.weights, best.parameters) == (most.weights, most.parameters)
