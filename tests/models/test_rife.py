"""RIFE's frames are close to recorded results of the published network."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from cloudconv.models import registry
from cloudconv.models import rife as network
from cloudconv.models.base import MAPS
from cloudconv.models.pair import Pair

GOLDEN = Path(__file__).parents[1] / "golden" / "rife46.npz"


@cache
def rife(dtype=torch.float32):
    return registry.load("rife-4.6", dtype=dtype)


@cache
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def case(number):
    """Return x0, x1, timesteps, scale and the recorded outputs, one for each timestep."""
    recorded = golden()
    timesteps = torch.from_numpy(recorded[f"{number}_timesteps"])
    pictures = torch.from_numpy(recorded[f"{number}_input"]).permute(0, 3, 1, 2) / 255
    x0, x1 = (picture.expand(len(timesteps), -1, -1, -1) for picture in pictures)
    outputs = [
        recorded[f"{number}_output_{k}"].astype(np.float32) for k in range(len(timesteps))
    ]
    expected = torch.from_numpy(np.stack(outputs)).permute(0, 3, 1, 2) / 65535
    return x0, x1, timesteps, float(recorded[f"{number}_scale"]), expected


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize("number", range(5))
def test_frames_agree_with_the_original_network(number):
    """Warping at each block's scale changes the result far less than the model's error.

    On real clips the score differs by some hundredths of a decibel. A tensor that is wrong
    or in the wrong place costs ten decibels or more here.
    """
    x0, x1, timesteps, scale, expected = case(number)
    result = rife().interpolate(x0, x1, timesteps, scale=scale)
    # At scale 0.5 the coarsest block has 6 by 8 pixels here, so most pixels are at an edge.
    least = 37 if scale < 1 else 53
    for item, reference in zip(result, expected, strict=True):
        assert psnr(item, reference) >= least


def test_values_out_of_range_are_not_clamped():
    """The convolutions get clamped pictures, but the warps use the original values."""
    x0, x1, timesteps, _, _ = case(0)
    wide0, wide1 = (x * 1.6 - 0.3 for x in (x0, x1))
    assert wide0.max() > 1
    assert wide0.min() < 0
    result = rife().interpolate(wide0, wide1, timesteps)
    assert result.max() > 1
    assert result.min() < 0
    # A flat picture brighter than white stays brighter than white.
    bright = torch.full((1, 3, 32, 32), 1.25)
    assert torch.allclose(rife().interpolate(bright, bright, torch.tensor([0.5])), bright)


@pytest.mark.parametrize("maps", [False, True])
def test_opacity_moves_with_the_colours(maps):
    """A disc with its own texture and opacity crosses the picture."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")

    def frame(centre):
        inside = torch.sigmoid(20 - ((x - centre) ** 2 + (y - 48) ** 2).sqrt())
        texture = 0.5 + 0.4 * torch.sin((x - centre) / 3) * torch.cos(y / 4)
        ground = 0.5 + 0.1 * torch.sin(x / 9 + y / 7)
        rgb = (inside * texture + (1 - inside) * ground).expand(3, -1, -1)
        return torch.cat((rgb, inside[None]))[None]

    model = registry.load("rife-4.6")
    x0, truth, x1 = frame(56), frame(64), frame(72)
    result = model.between(Pair.of((x0, x1), 0.5), maps=maps)
    assert result.shape[1] == 4 + MAPS * maps
    mixed = (x0 + x1) / 2
    assert psnr(result[:, 3:4], truth[:, 3:4]) > psnr(mixed[:, 3:4], truth[:, 3:4]) + 6
    # The additional channels do not change what the network computes from the colours.
    alone = model.interpolate(x0[:, :3], x1[:, :3], torch.tensor([0.5]))
    assert torch.equal(alone[:, :3], result[:, :3])


def test_strips_do_not_change_a_picture(monkeypatch):
    pictures = torch.rand(2, 1, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    model = registry.load("cloud-best")
    whole = model.interpolate(*pictures, 0.3)
    monkeypatch.setattr(network, "_STRIP", 16)
    assert torch.allclose(whole, model.interpolate(*pictures, 0.3), atol=1e-5)
