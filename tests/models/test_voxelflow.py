"""``voxelflow`` continues motion, also where copies of the oldest frame replace missing frames."""

from __future__ import annotations

import torch
from torch import Tensor

from cloudconv import metrics
from cloudconv.models import registry

CONTEXT = registry.spec("voxelflow").context


def texture(step: int) -> Tensor:
    """Return a smooth texture that moves right by three pixels a step, (3, 64, 96)."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0) - 3 * step, indexing="ij")
    wave = torch.sin(x / 7) * torch.cos(y / 9) + 0.6 * torch.sin((x + y) / 11)
    return (0.5 + 0.2 * wave).expand(3, -1, -1)


def forecasts(context: list[Tensor], count: int) -> list[Tensor]:
    model = registry.load_predictor("voxelflow")
    return [made[0] for made in model.forecast(torch.stack(context)[None], count)]


def inner_psnr(made: Tensor, truth: Tensor) -> float:
    """Return the PSNR without the edges, where new texture enters the picture."""
    return float(metrics.psnr(*(each[..., 8:-8, 16:-16] for each in (made, truth))))


def test_two_frames_are_continued_like_six() -> None:
    known = [texture(k) for k in range(CONTEXT)]
    padded = [known[-2]] * (CONTEXT - 1) + [known[-1]]
    for context in (known, padded):
        made = forecasts(context, 3)
        assert len(made) == 3
        for step, picture in enumerate(made):
            truth = texture(CONTEXT + step)
            assert inner_psnr(picture, truth) > inner_psnr(known[-1], truth) + 10


def test_each_item_of_a_batch_has_its_own_number_of_frames() -> None:
    known = [texture(k) for k in range(CONTEXT)]
    contexts = [known, [known[-2]] * (CONTEXT - 1) + [known[-1]], [known[-1]] * CONTEXT]
    model = registry.load_predictor("voxelflow")
    (together,) = model.forecast(torch.stack([torch.stack(each) for each in contexts]), 1)
    assert len(together) == len(contexts)
    for made, context in zip(together, contexts, strict=True):
        assert torch.allclose(made, forecasts(context, 1)[0], atol=1e-4)
