"""A block that is fused for inference gives the same result as the block for training."""

import pytest
import torch

from cloudconv.models.blocks import Block


def block():
    torch.manual_seed(0)
    made = Block(8, 32, 5, made=6)
    for name, tensor in made.named_parameters():
        if name.endswith("beta"):
            tensor.data.uniform_(-0.5, 1.5)
    return made.requires_grad_(False)


def inputs():
    torch.manual_seed(1)
    return [torch.rand(2, channels, 24, 40) for channels in (3, 3, 1, 1)]


@pytest.mark.parametrize("grad", [True, False])
def test_a_fused_block_gives_the_same_result(grad):
    plain, fused = block(), block()
    fused.fuse()
    with torch.set_grad_enabled(grad):
        expected, found = plain(*inputs()), fused(*inputs())
    assert found.shape == (2, 5, 24, 40)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("width", [2, 4])
def test_a_narrow_picture_is_correct_in_bfloat16(width):
    """Some convolutions of such a picture have a result of one column."""
    fused = block()
    fused.fuse()
    pictures = [torch.rand(1, channels, 160, width) for channels in (3, 3, 1, 1)]
    exact = fused(*pictures)
    coarse = fused.to(torch.bfloat16)
    for _ in range(4):
        used = [torch.full((1, 64, 200, 200), torch.nan, dtype=torch.bfloat16) for _ in range(2)]
        del used  # the memory is free, and has values that are no numbers
        assert torch.allclose(coarse(*pictures), exact, atol=0.05)
