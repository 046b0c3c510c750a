"""Tiles cover the picture, and their borders are invisible."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.models import registry
from cloudconv.render.memory import grid
from cloudconv.render.tiling import round_up, smallest_tile, spans, tiled


@st.composite
def axes(draw):
    """Draw (size, tile, overlap, multiple) that fit together."""
    multiple = draw(st.sampled_from([1, 2, 8, 32, 64]))
    overlap = draw(st.integers(0, 100))
    tile = smallest_tile(overlap, multiple) + multiple * draw(st.integers(0, 8))
    return draw(st.integers(1, 2000)), tile, overlap, multiple


@pytest.mark.full
@settings(deadline=None, max_examples=200)
@given(axes())
def test_spans_cover_an_axis_and_their_weights_sum_to_one(axis):
    size, tile, overlap, multiple = axis
    result = spans(size, tile, overlap, multiple)
    total = torch.zeros(size)
    for span, weights in result:
        assert span.start % multiple == 0
        assert 0 < span.stop - span.start <= tile
        assert weights.shape == (span.stop - span.start,)
        assert weights.min() >= -1e-6
        total[span] += weights
    torch.testing.assert_close(total, torch.ones(size))
    for (left, _), (right, _) in pairwise(result):
        assert left.stop - right.start >= min(overlap, size - right.start)
    assert result[-1][0].stop == size


def test_borders_between_tiles_are_not_used():
    (_, first), (_, second) = spans(288, 192, 96, 32)
    assert first[-20:].abs().max() == 0
    assert second[:20].abs().max() == 0
    assert first[:60].min() == 1
    for _, weights in spans(500, smallest_tile(96, 32), 96, 32)[1:]:
        assert weights[:20].abs().max() == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3))
def test_tiles_of_a_pointwise_method_give_the_whole_picture(height, width, batch):
    generator = torch.Generator().manual_seed(height * width)
    x0 = torch.rand(batch, 3, height, width, generator=generator)
    x1 = torch.rand(batch, 3, height, width, generator=generator)

    def mean(rows, columns):
        pair = [x[..., rows, columns] for x in (x0, x1)]
        assert max(pair[0].shape[-2:]) <= 96
        return (pair[0] + pair[1]) / 2

    result = tiled(mean, (height, width), x0.device, tile=96, overlap=24, multiple=8)
    torch.testing.assert_close(result, (x0 + x1) / 2)


def moving(width, height):
    """Return two pictures of cloudy texture, detailed at several scales, 6 pixels apart."""
    generator = torch.Generator().manual_seed(1)
    picture = torch.full((1, 3, height, width + 16), 0.5)
    for size in (4, 8, 16, 32, 64, 128):
        coarse = (
            torch.rand(1, 3, height // size + 2, width // size + 2, generator=generator)
            - 0.5
        )
        picture += size / 128 * F.interpolate(coarse, picture.shape[2:], mode="bicubic")
    return picture[..., 8:-8], picture[..., 2:-14]


@pytest.mark.full
def test_the_tiles_of_a_network_show_no_seam():
    x0, x1 = moving(512, 384)
    model = registry.load("rife-4.6")
    half = torch.tensor([0.5])
    multiple, overlap = grid(model)
    whole = model.interpolate(x0, x1, half)
    parts = tiled(
        lambda *area: model.interpolate(*(x[..., *area] for x in (x0, x1)), half),
        x0.shape[2:],
        x0.device,
        tile=round_up(max(256, smallest_tile(overlap, multiple)), multiple),
        overlap=overlap,
        multiple=multiple,
    )
    error = (parts - whole).square()
    assert -10 * torch.log10(error.mean()) >= 50
    # Also locally: the worst 32-pixel block is as good as a high-quality encode.
    worst = F.avg_pool2d(error.mean(1, keepdim=True), 32).max()
    assert -10 * torch.log10(worst) >= 40
