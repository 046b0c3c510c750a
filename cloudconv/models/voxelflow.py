"""voxelflow: forecasts by moving the pixels of real frames, started from RIFE's weights.

Sources: the network is the IFNet of RIFE (Huang et al., ECCV 2022, arXiv 2011.06294, version 4.6;
see :mod:`cloudconv.models.rife`) with its target moved from between two frames to after them.
Pictures made by sampling along a flow that a network makes: Liu et al., Video Frame Synthesis
using Deep Voxel Flow, ICCV 2017 (arXiv 1702.02463). Coarse-to-fine flow for prediction: Hu et al.,
DMVFN, CVPR 2023 (arXiv 2303.09875); interpolation turned into prediction: Wu et al., OPT, CVPR
2022 (arXiv 2206.13129). Reaching each horizon directly, so that a forecast samples real frames
once and does not blur with the number of steps, and the gate that holds what stands still, are
cloudconv's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.ops import sample, sampling_grid
from cloudconv.models.rife import RIFE_46, _Block

CONTEXT = 5
REACH = 32
"""The furthest horizon that the network is told of; beyond it, motion goes on as it was there."""

_OLDER = CONTEXT - 1
_SCALES = (8, 4, 2)
_WIDTHS = (192, 128, 96)
_RIFE_FIRST = 7
_RIFE_TIMESTEP = 0.5
_LATEST, _SHUT = 3.0, -4.0
# What each block says: the velocity seen from the older and from the latest frame (2 x 2), then
# logits: the paired older frame (RIFE's mask), the latest frame unmoved (RIFE's spare channel),
# the four older frames moved, and the mean of the context unmoved.
_FLOWS, _LOGITS = 4, 2 + _OLDER + 1
_FIRST = _RIFE_FIRST + 3 * _OLDER + 2
_LATER = _FIRST + 3 + _FLOWS + _LOGITS


class VoxelFlow(Predictor):
    """Three blocks, coarse to fine, refine a velocity and the weights of what it leads to.

    For horizon h the latest frame is paired with the one k = min(h, 4) before it, and the velocity
    is measured over these k frames, so that slow motion is not lost among noise. A point of the
    forecast lies h/k of it away in the latest frame, and (j + h)/k in the frame j earlier. The
    result is a mean of what is found there, of the latest frame unmoved, and of the unmoved mean
    of the context, with weights of its own for each pixel.
    """

    def __init__(self) -> None:
        super().__init__(VOXELFLOW)
        self.block0 = _Velocity(_FIRST, _WIDTHS[0])
        self.block1 = _Velocity(_LATER, _WIDTHS[1])
        self.block2 = _Velocity(_LATER, _WIDTHS[2])

    def forward(self, context: Tensor, horizon: Tensor | None = None) -> Tensor:
        """See ``Predictor.forward``; with ``horizon`` any of the frames that follow.

        Args:
            context: (B, 5, 3, H, W) float32, H and W multiples of 32.
            horizon: (B,) frames ahead, at least 1, each item its own; None for the next frame.

        Returns:
            (B, 3, H, W) float32: weighed means of samples of the context. Differentiable.
        """
        if horizon is None:
            horizon = torch.ones(len(context), device=context.device)
        horizon = horizon.to(context.device, torch.float32).view(-1, 1, 1, 1)
        gap = horizon.clamp(1, _OLDER).floor()
        # (B, 5, 3, H, W) of the latest frame, then of those 1 … 4 before it; clamped for the
        # convolutions, which were trained on [0, 1].
        frames = context.flip(1)
        seen = frames.clamp(0, 1)
        motion: Tensor | None = None
        for block, scale in zip((self.block0, self.block1, self.block2), _SCALES, strict=True):
            small = _shrunk(seen, scale)
            if motion is not None:
                motion = _doubled(motion)
            change = block(*_inputs(small, motion, horizon, gap))
            motion = change if motion is None else motion + change
        assert motion is not None
        return _mixed(frames, _doubled(motion), horizon, gap)

    def adopt(self, name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another model's tensors as a start: RIFE's are converted, others come as they are."""
        return from_rife(state) if name == RIFE_46.name else dict(state)

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """Each from the real frames, none from another."""
        for step in range(1, steps + 1):
            yield self(context, torch.full((len(context),), float(step)))


def from_rife(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """RIFE 4.6's tensors as a start for :class:`VoxelFlow`.

    RIFE is surest of its motion halfway between two frames, so its timestep stays there: what it
    then says of two frames brought to the same moment is the error of the velocity that brought
    them, whichever moment that is. Both velocities start as the difference of its two flows. What
    RIFE has no input for starts at weight zero; the gates that it does not have start nearly shut
    (one that starts open learns to hold everything, and stays there). Untrained, this already is
    about as good as the optical flow baseline.

    Args:
        state: the tensors of ``rife-4.6``, any floating dtype; those of its last block are not
            used.

    Returns:
        A whole float32 state of ``VoxelFlow``.
    """
    result: dict[str, Tensor] = {}
    for number in range(len(_SCALES)):
        prefix = f"block{number}."
        for name, tensor in state.items():
            if name.startswith(prefix):
                result[name] = tensor.float().clone()
        first = f"{prefix}conv0.0.0.weight"
        taken = result[first]
        wide = taken.new_zeros(len(taken), _FIRST if number == 0 else _LATER, 3, 3)
        wide[:, : taken.shape[1]] = taken
        if number:
            # The flow so far. Halfway, RIFE's flows are half of the velocity, there and back.
            wide[:, 8:10] *= 0.5
            wide[:, 10:12] *= -0.5
        result[first] = wide
        for name in (f"{prefix}lastconv.0.weight", f"{prefix}lastconv.0.bias"):
            # The pixel shuffle makes one channel of four neighbouring outputs.
            axis = 1 if name.endswith("weight") else 0
            velocity = result[name].narrow(axis, 0, 8) - result[name].narrow(axis, 8, 8)
            mask = result[name].narrow(axis, 16, 4)
            shut = _SHUT if number == 0 and axis == 0 else 0.0
            gates = [torch.full_like(mask, shut)] * (_LOGITS - 1)
            result[name] = torch.cat((velocity, velocity, mask, *gates), axis)
    return result


def _inputs(
    small: Tensor, motion: Tensor | None, horizon: Tensor, gap: Tensor
) -> tuple[Tensor, ...]:
    """What a block looks at, at its own scale; RIFE's inputs first, in RIFE's order."""
    size = small.shape[3:]
    latest = small[:, 0]
    planes = torch.cat((horizon.clamp(max=REACH) / gap, 1 / gap), 1)
    if motion is None:
        moved = small
        so_far: tuple[Tensor, ...] = ()
        extra: tuple[Tensor, ...] = ()
    else:
        moved = _moved(small, motion, horizon, gap)
        so_far = (motion[:, _FLOWS : _FLOWS + 1], motion[:, :_FLOWS])
        extra = (latest, motion[:, _FLOWS + 1 :])
    return (
        _paired(moved, gap),
        moved[:, 0],
        torch.full_like(latest[:, :1], _RIFE_TIMESTEP),
        *so_far,
        moved[:, 1:].flatten(1, 2),
        planes.expand(-1, -1, *size),
        *extra,
    )


def _paired(frames: Tensor, gap: Tensor) -> Tensor:
    """Of each item the frame that is ``gap`` before the latest: (B, 3, H, W)."""
    return frames[torch.arange(len(frames), device=frames.device), gap.flatten().long()]


def _moved(frames: Tensor, motion: Tensor, horizon: Tensor, gap: Tensor) -> Tensor:
    """All frames (B, 5, 3, h, w), latest first, sampled where their points lie at the horizon."""
    batch, count = frames.shape[:2]
    age = torch.arange(count, device=frames.device).view(1, -1, 1, 1, 1)
    factor = (age + horizon[:, None]) / gap[:, None]
    older = motion[:, None, 0:2].expand(-1, count - 1, -1, -1, -1)
    flow = torch.cat((motion[:, None, 2:4], older), 1) * factor
    grid = sampling_grid(flow.flatten(0, 1), *frames.shape[3:])
    return sample(frames.flatten(0, 1), grid).view(batch, count, -1, *frames.shape[3:])


def _mixed(frames: Tensor, motion: Tensor, horizon: Tensor, gap: Tensor) -> Tensor:
    moved = _moved(frames, motion, horizon, gap)
    logits = motion[:, _FLOWS:]
    weights = torch.cat((torch.full_like(logits[:, :1], _LATEST), logits), 1).softmax(1)
    result = weights[:, 0:1] * moved[:, 0] + weights[:, 1:2] * _paired(moved, gap)
    result = result + weights[:, 2:3] * frames[:, 0]
    result = result + (weights[:, 3 : 3 + _OLDER, None] * moved[:, 1:]).sum(1)
    return result + weights[:, 3 + _OLDER :] * frames.mean(1)


def _shrunk(frames: Tensor, scale: int) -> Tensor:
    flat = frames.flatten(0, 1)
    small = F.interpolate(flat, scale_factor=1 / scale, mode="bilinear", align_corners=False)
    return small.view(*frames.shape[:3], *small.shape[2:])


def _doubled(motion: Tensor) -> Tensor:
    """The motion at twice the size: velocities twice as long, logits as they are."""
    large = F.interpolate(motion, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat((large[:, :_FLOWS] * 2, large[:, _FLOWS:]), 1)


class _Velocity(_Block):
    """RIFE's block with more inputs, and more to say."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width)
        outputs = 4 * (_FLOWS + _LOGITS)
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, outputs, 4, 2, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, C, h, w) float32 inputs of one size → (B, 11, h, w) float32."""
        dtype = next(self.parameters()).dtype
        joined = torch.cat([part.to(dtype) for part in inputs], 1)
        joined = joined.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.lastconv(self.convblock(self.conv0(joined)))
        return F.pixel_shuffle(features.float(), 2).contiguous()


VOXELFLOW = ModelSpec(
    name="voxelflow",
    task="predict",
    context=CONTEXT,
    arbitrary_timestep=False,
    multiple=32,
    build=VoxelFlow,
    weights="voxelflow",
    parameters=5_132_196,
    licence="MIT",
    origin="cloudconv, started from RIFE 4.6 (Huang et al., ECCV 2022, arXiv 2011.06294)",
    domain="live footage; clouds, water, traffic, people",
    scale_option=False,
    bytes_per_pixel=520,
    overlap=128,
    half_precision=True,
)
