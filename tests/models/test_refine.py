"""Outer frames (before and after a pair) improve frames of uneven motion."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from cloudconv import weights
from cloudconv.models import registry
from cloudconv.models.base import OuterPictures
from cloudconv.models.rife import IFNet

HALF = torch.tensor([0.5])
NAME = registry.DEFAULT


@cache
def best():
    return registry.load(NAME)


def pan(shift):
    """Return a random texture of two scales, (1, 3, 160, 224), moved by ``shift`` pixels."""
    torch.manual_seed(7)
    coarse, fine = (torch.rand(1, 3, 200 // n, 320 // n) for n in (16, 5))
    texture = sum(F.interpolate(x, (200, 320), mode="bicubic") for x in (coarse, fine)) / 2
    begin = 32 + shift
    low = int(begin // 1)
    left, right = (texture[..., 20:180, k : k + 224] for k in (low, low + 1))
    return torch.lerp(left, right, begin - low).clamp(0, 1)


def psnr(a, b):
    inner = (..., slice(16, -16), slice(40, -40))
    return float(-10 * (a[inner] - b[inner]).square().mean().log10())


def test_an_untrained_refinement_changes_nothing():
    torch.manual_seed(0)
    network = registry.spec(NAME).build()
    assert isinstance(network, IFNet)
    network.eval()
    x0, x1, before, after = (pan(k) for k in (4, 8, 0, 12))
    outer = OuterPictures(before, after, torch.ones(1, 2))
    even = network.interpolate(x0, x1, HALF)
    refined = network.interpolate(x0, x1, HALF, outer=outer)
    assert (refined - even).abs().max() < 1 / 255


def test_gradients_are_finite_without_motion_and_without_outer_frames():
    network = registry.spec(NAME).build()
    network.load_state_dict({k: v.float() for k, v in weights.load_state(NAME).items()})
    flat = pan(0)[..., :64, :64].clone()
    flat[..., :40] = 1.0
    moved = flat.roll(3, 2)
    reach = torch.tensor([[0.0, 1.0]])
    for x0, x1 in ((flat, flat), (flat, moved)):
        network.zero_grad()
        made = network(x0, x1, HALF.view(1, 1, 1, 1), 1.0, OuterPictures(x0, x1, reach))
        made.square().mean().backward()
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert grads
        assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("sign", [1, -1])
def test_accelerated_motion_is_better_with_four_frames(sign):
    def at(moment):
        return pan(sign * (3 * moment + 1.5 * moment * moment))

    before, x0, x1, after = (at(k) for k in (0, 1, 2, 3))
    truth = at(1.5)
    outer = OuterPictures(before, after, torch.ones(1, 2))
    even = psnr(best().interpolate(x0, x1, HALF), truth)
    assert psnr(best().interpolate(x0, x1, HALF, outer=outer), truth) > even + 0.3


def test_missing_outer_frames_cost_little():
    before, x0, x1, after = (pan(k) for k in (0, 4, 8, 12))
    truth = pan(6)
    whole = OuterPictures(before, after, torch.ones(1, 2))
    scores = []
    for outer in (
        whole,
        OuterPictures(x0, after, torch.tensor([[0.0, 1.0]])),
        OuterPictures(before, x1, torch.tensor([[1.0, 0.0]])),
        OuterPictures(x0, x1, torch.zeros(1, 2)),
    ):
        scores.append(psnr(best().interpolate(x0, x1, HALF, outer=outer), truth))
    assert min(scores) > max(scores) - 1
    assert min(scores) > psnr((x0 + x1) / 2, truth) + 6
