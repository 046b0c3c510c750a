"""Padding, warping, resizing, pyramids, and blocks that are fused for inference."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudconv.errors import ModelError
from cloudconv.models.blocks import Block
from cloudconv.models.convolutions import PYTORCH, usual_engine
from cloudconv.models.ops import (
    enlarged,
    joined,
    laplacian_pyramid,
    pad_to_multiple,
    resize,
    sampling_grid,
    shuffled,
    strips,
    warp,
)

ENGINES = list(dict.fromkeys([PYTORCH, usual_engine()]))
sides = st.integers(1, 40)


def test_training_stops_at_a_motion_that_is_not_finite():
    """Its gradients would be written outside of the picture."""
    flow = torch.zeros(1, 2, 8, 8, requires_grad=True)
    with pytest.raises(ModelError, match="lower `learning_rate`"):
        warp(torch.rand(1, 3, 8, 8), flow * float("nan"))
    warp(torch.rand(1, 3, 8, 8), flow).sum().backward()


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, multiple=st.integers(1, 70))
def test_padding_repeats_the_edges_and_keeps_the_picture(height, width, multiple):
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple
    assert padded.shape[3] - width < multiple
    assert torch.equal(padded[..., :height, :width], image)
    assert torch.equal(padded[..., -1, -1], image[..., -1, -1])


@settings(deadline=None, max_examples=40)
@given(height=sides, width=sides, dx=st.integers(-9, 9), dy=st.integers(-9, 9))
def test_a_constant_flow_shifts_the_picture_and_repeats_the_edges(height, width, dx, dy):
    image = torch.rand(1, 3, height, width)
    flow = torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1)
    flow = flow.expand(-1, -1, height, width)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    expected = image[:, :, rows][..., columns]
    assert torch.allclose(warp(image, flow), expected, atol=1e-4)


def test_grids_stay_float32_for_half_precision_flows():
    """At 4,096 pixels a float16 grid would be wrong by whole pixels."""
    flow = torch.zeros(1, 2, 1, 4096, dtype=torch.float16)
    assert sampling_grid(flow, 1, 4096).dtype == torch.float32
    ramp = torch.arange(4096, dtype=torch.float32).view(1, 1, 1, -1)
    assert (warp(ramp, flow) - ramp).abs().max() < 0.01


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 30),
    width=sides,
    factor=st.sampled_from([0.5, 1, 2, 3, 4, 8]),
    rows=st.integers(1, 6).map(lambda count: 24 * count),
)
def test_joined_strips_are_the_resized_picture(height, width, factor, rows):
    image = torch.rand(2, 3, 2 * height, 2 * width)
    result = list(strips(image, factor, rows))
    assert [top for top, _ in result] == list(range(0, round(2 * height * factor), rows))
    whole = F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)
    assert torch.allclose(torch.cat([strip for _, strip in result], 2), whole, atol=1e-5)


def test_strips_can_be_differentiated():
    image = torch.rand(1, 2, 6, 5, requires_grad=True)
    total = torch.cat([strip for _, strip in strips(image, 4, 8)], 2).sum()
    (gradient,) = torch.autograd.grad(total, image)
    # Each pixel of the picture has an equal share of the enlarged picture.
    assert torch.allclose(gradient, torch.full_like(image, 16.0), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    cell=st.sampled_from([1, 2, 4, 8, 16]),
    times=st.integers(1, 5),
)
def test_shrinking_repeats_the_edges(height, width, cell, times):
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, cell * times)
    assert torch.equal(resize(image, 1 / cell, cell * times), resize(padded, 1 / cell))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [True, False])
def test_shuffled_and_joined_agree_with_pytorch(dtype, channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.rand(2, 24, 5, 7).to(dtype).contiguous(memory_format=form)
    parts = [torch.rand(2, n, 5, 7) for n in (3, 1, 4)]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            result = shuffled(features, 5)
            assert torch.equal(result, F.pixel_shuffle(features[:, :20].float(), 2))
            assert result.is_contiguous()
            together = joined(parts, dtype)
            assert torch.equal(together, torch.cat(parts, 1).to(dtype))
            assert together.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("size", "bands"), [((64, 48), 4), ((37, 21), 4), ((5, 3), 2), ((1, 9), 0)]
)
def test_a_laplacian_pyramid_adds_up_to_the_picture(size, bands):
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found, rest = laplacian_pyramid(picture, 4)
    assert len(found) == bands
    for band in reversed(found):
        rest = enlarged(rest, band.shape[2:]) + band
    assert torch.allclose(rest, picture, atol=1e-6)


def block():
    torch.manual_seed(0)
    result = Block(8, 32, 5, made=6)
    for name, tensor in result.named_parameters():
        if name.endswith("beta"):
            tensor.data.uniform_(-0.5, 1.5)
    return result.requires_grad_(False)


def inputs():
    torch.manual_seed(1)
    return [torch.rand(2, channels, 24, 40) for channels in (3, 3, 1, 1)]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_fused_block_gives_the_same_result(grad, engine):
    plain, fused = block(), block()
    fused.fuse(lambda *_: engine)
    with torch.set_grad_enabled(grad):
        expected = plain(*inputs())
        result = fused(*inputs())
    assert result.shape == (2, 5, 24, 40)
    assert torch.allclose(result, expected, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("width", [2, 4])
def test_a_narrow_picture_is_correct_in_bfloat16(width):
    """Some convolutions of such a picture have a result of one column."""
    fused = block()
    fused.fuse(lambda *_: PYTORCH)
    pictures = [torch.rand(1, channels, 160, width) for channels in (3, 3, 1, 1)]
    exact = fused(*pictures)
    coarse = fused.to(torch.bfloat16)
    for _ in range(4):
        used = [
            torch.full((1, 64, 200, 200), torch.nan, dtype=torch.bfloat16) for _ in range(2)
        ]
        del used  # the memory is free, and has values that are no numbers
        assert torch.allclose(coarse(*pictures), exact, atol=0.05)
