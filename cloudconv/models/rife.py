"""RIFE 4.6: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation,
ECCV 2022 (arXiv 2011.06294), in the version 4.6 of the authors' practical line.

The picture is that of the published network (``weights/make_rife46.py`` records it), the way
there is shorter: reduced pictures are warped only at the pixels that the reduction reads, both
pictures of all items go through each warp together, and what is constant or unused is not made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import Interpolator, ModelSpec
from cloudconv.models.ops import sample, sampling_grid

_SLOPE = 0.2


class Rife46(Interpolator):
    """IFNet: four blocks, coarse to fine, refine two backward flows and a mask."""

    def __init__(self) -> None:
        super().__init__(RIFE_46)
        self.block0 = _Block(7, 192)
        self.block1 = _Block(12, 128)
        self.block2 = _Block(12, 96)
        self.block3 = _Block(12, 64)

    def forward(self, x0: Tensor, x1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        """See ``Interpolator.forward``. Grids, flow, mask and warps are float32 in any dtype."""
        images = torch.cat((x0, x1))
        # The convolutions were trained on [0, 1]; the final warps carry what lies outside along.
        seen = images.clamp(0, 1)
        motion: Tensor | None = None
        for block, size in zip(
            (self.block0, self.block1, self.block2, self.block3), (8, 4, 2, 1), strict=True
        ):
            change = block(*_inputs(seen, motion, timestep, size / scale))
            change = _resize(change, size / scale)
            change[:, :4] *= size / scale
            motion = change if motion is None else motion.add_(change)
        assert motion is not None
        warped0, warped1 = sample(images, _grids(motion, images)).chunk(2)
        made = torch.lerp(warped1, warped0, torch.sigmoid(motion[:, 4:5]))
        if not self.tells_leftover:
            return made
        return torch.cat((made, (warped0 - warped1).abs().mean(1, keepdim=True)), 1)


def _inputs(seen: Tensor, motion: Tensor | None, timestep: Tensor, scale: float) -> list[Tensor]:
    """What a block looks at, at its own scale, as float32 channels to be joined."""
    reduced = _reduced(seen, motion, scale)
    plane = timestep.expand(-1, 1, *reduced.shape[2:])
    inputs = [*reduced.chunk(2), plane]
    if motion is not None:
        small = _resize(motion, 1 / scale)
        inputs += [small[:, 4:5], small[:, :4] / scale]
    return inputs


def _grids(motion: Tensor, images: Tensor) -> Tensor:
    """The sampling grids of x0 for all items, then those of x1."""
    return sampling_grid(torch.cat((motion[:, 0:2], motion[:, 2:4])), *images.shape[2:])


def _reduced(images: Tensor, motion: Tensor | None, scale: float) -> Tensor:
    """The pictures warped by the motion so far, then shrunk by ``scale``."""
    if motion is None:
        return _resize(images, 1 / scale)
    grids = _grids(motion, images)
    if scale < 4:
        return _resize(sample(images, grids), 1 / scale)
    # Bilinear shrinking by an even factor takes the mean of the four pixels in the middle of
    # each cell: the others need not be warped at all.
    step = int(scale)
    batch, height, width, _ = grids.shape
    cells = grids.view(batch, height // step, step, width // step, step, 2)
    middle = slice(step // 2 - 1, step // 2 + 1)
    read = cells[:, :, middle, :, middle].reshape(batch, 2 * height // step, 2 * width // step, 2)
    return F.avg_pool2d(sample(images, read), 2)


def _resize(images: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Estimates a change of the flow (4 channels) and of the mask (1) at its own scale."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, width // 2, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
            nn.Sequential(nn.Conv2d(width // 2, width, 3, 2, 1), nn.LeakyReLU(_SLOPE, True)),
        )
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(8)))
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 24, 4, 2, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, C, h, w) float32 inputs of one size → (B, 5, h, w) float32."""
        dtype = next(self.parameters()).dtype
        joined = torch.cat([part.to(dtype) for part in inputs], 1)
        joined = joined.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.lastconv(self.convblock(self.conv0(joined)))
        # The shuffle makes six channels of 24, and the sixth was never trained to mean anything.
        return F.pixel_shuffle(features[:, :20].float(), 2).contiguous()


class _Residual(nn.Module):
    """A convolution that adds to its input, weighed for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(torch.addcmul(x, self.conv(x), self.beta), _SLOPE)


RIFE_46 = ModelSpec(
    name="rife-4.6",
    task="interpolate",
    context=2,
    arbitrary_timestep=True,
    multiple=32,
    build=Rife46,
    weights="rife-4.6",
    parameters=5_306_256,
    licence="MIT",
    origin="Huang et al., ECCV 2022 (arXiv 2011.06294), version 4.6",
    domain="any live footage; strong on camera and object motion",
    scale_option=True,
    bytes_per_pixel=400,
    overlap=128,
    half_precision=True,
    fallback_option=True,
)
