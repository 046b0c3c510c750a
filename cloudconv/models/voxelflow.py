"""Forecast by moving the pixels of real frames, with a network based on RIFE's weights.

Sources: the network is the IFNet of RIFE (Huang et al., ECCV 2022, arXiv 2011.06294,
version 4.6; see :mod:`cloudconv.models.rife`). Here the network makes frames after a pair,
not between the two. Pictures sampled along the flow of a network: Liu et al., Video Frame
Synthesis using Deep Voxel Flow, ICCV 2017 (arXiv 1702.02463). Coarse-to-fine flow for
prediction: Hu et al., DMVFN, CVPR 2023 (arXiv 2303.09875). Interpolation turned into
prediction: Wu et al., OPT, CVPR 2022 (arXiv 2206.13129). Two parts are cloudconv's own.
Each horizon is reached directly, so that a forecast samples real frames once and does not
blur with the number of steps. A gate holds still things.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS, Predictor
from cloudconv.models.baselines import displacements, mean_velocity
from cloudconv.models.blocks import Block
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import sample, sampling_grid, strip_rows, warp
from cloudconv.models.rife import WIDTHS, enlarged_motion, is_ungated
from cloudconv.transfer import upload

REACH = 15
"""The largest horizon that the network reads. For later forecasts the network reads this
value, and the estimated motion is extended to the true horizon."""

_FRAMES = 5  # frames of the context that are used, the latest ones
_OLDER = _FRAMES - 1
_SCALES = (8, 4, 2)  # by which each block reduces the pictures
_RIFE_FIRST = 7  # input channels of RIFE's first block
_RIFE_TIMESTEP = 0.5
_LATEST = 3.0  # logit of the moved latest frame
_SHUT = -4.0  # logit of a nearly closed gate
# The outputs of each block: the velocity relative to the older and to the latest frame (2 x
# 2); logits of the paired older frame (RIFE's mask), the latest frame unmoved (RIFE's
# unused channel), the four older frames moved, the mean of the frames unmoved, and the
# latest frame moved by the optical flow; a change of colour.
_FLOWS = 4
_LOGITS = 2 + _OLDER + 2
_OUTPUTS = _FLOWS + _LOGITS + COLOURS
_FIRST = _RIFE_FIRST + 3 * _OLDER + 2 + 5  # input channels of the first block
_LATER = _FIRST + 3 + _OUTPUTS  # input channels of the other blocks
_COLOUR_STEP = 0.1  # factor of the blocks' change of colour
_GRID = 20  # steps of a weight from 0 to 1 that are tried
_TRUSTED = 0.5  # fraction of the weights of a trial that is used
_STILL_AREA = 17  # side of the area in which nothing may change, in pixels
_STILL = 0.05 / 255  # mean change of a pixel in such an area, below which the area is still


@dataclass(frozen=True, slots=True)
class _Scene:
    """The data that a forecast starts from, the latest frame first.

    ``frames``: (B, 5, 3, H, W). ``small``: these frames for each scale, clamped for the
    convolutions, which were trained on [0, 1]. ``ages``: (B, 5), steps from each frame to
    the latest. ``velocity``: (B, 2, H/2, W/2) by optical flow, in pixels of that size per
    step.
    """

    frames: Tensor
    small: tuple[Tensor, ...]
    ages: Tensor
    velocity: Tensor


class _Moment(NamedTuple):
    """The time of a forecast, and the older frame that is paired with the latest one.

    ``horizon``: (B, 1, 1, 1), steps from the latest frame to the forecast. ``partner``:
    (B,), the number of the older frame. ``gap``: (B, 1, 1, 1), steps from the older frame
    to the latest. ``displacement``: (B, 2, H/2, W/2), from the forecast to the latest
    frame, by optical flow.
    """

    horizon: Tensor
    partner: Tensor
    gap: Tensor
    displacement: Tensor


class VoxelFlow(Predictor):
    """A forecaster of three blocks that refine a velocity and weights of candidates.

    The blocks run from coarse to fine. Copies of the oldest frame replace missing frames.
    For horizon h the latest frame is paired with the frame k = min(h, 4) steps before. The
    velocity is measured over these k steps, so that slow motion exceeds the noise. A point
    of the forecast is sampled from the latest frame at a distance of h/k times the
    velocity, and from the frame j steps before at (j + h)/k times the velocity. The result
    is a weighted mean of these samples, of the latest frame moved by the mean optical flow,
    of the latest frame unmoved, and of the unmoved mean of all frames, plus a smooth change
    of colour. The weights differ per pixel. Where nothing moved, the latest frame stays.

    With more frames than the context, trials forecast the last of these frames. The trials
    decide how much of the optical flow's forecast and of the last frame is mixed in.
    Footage that changes irregularly, or stops and starts, is forecast better without
    continued motion.
    """

    takes_horizon = True
    training_settings = (("loss", "psnr"), ("crop", 192), ("batch", 5), ("rollout", 8))

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.block0 = Block(_FIRST, WIDTHS[0], _OUTPUTS)
        self.block1 = Block(_LATER, WIDTHS[1], _OUTPUTS)
        self.block2 = Block(_LATER, WIDTHS[2], _OUTPUTS)

    def forward(self, context: Tensor, horizon: Tensor | None = None) -> Tensor:
        """See ``Predictor.forward``.

        ``horizon``, (B,), selects later frames than the next one.
        """
        scene = _scene(context)
        ahead = torch.ones(len(context)) if horizon is None else horizon.cpu()
        steps = list(displacements(scene.velocity, range(1, int(ahead.max()) + 1)))
        own = [steps[int(count) - 1][number] for number, count in enumerate(ahead)]
        return self._picture(scene, ahead, torch.stack(own))

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Model.start_from``: RIFE's tensors are converted, others are kept."""
        return from_rife(state) if is_ungated(state) else dict(state)

    def _steps(self, context: Tensor, steps: Sequence[int]) -> Iterator[Tensor]:
        weights = self._trial_weights(context)
        candidates = self._candidates(context[:, -self.spec.context :], steps)
        for step, (picture, flowed, last) in zip(steps, candidates, strict=True):
            if not weights:
                yield picture
                continue
            flow, hold = weights[min(step, len(weights)) - 1].view(2, -1, 1, 1, 1)
            yield picture + flow * (flowed - picture) + hold * (last - picture)

    def _trial_weights(self, context: Tensor) -> list[Tensor]:
        """Return the weights of the optical flow's forecast and of the last frame, (2, B).

        There is one pair for each horizon of which a frame is known. The best weights of a
        trial are only partly right for later frames, so half of them is used.
        """
        count = min(context.shape[1] - self.spec.context, self.spec.past)
        if count < 1:
            return []
        earlier = context[:, : context.shape[1] - count]
        true = context[:, -count:]
        steps = range(1, count + 1)
        candidates = self._candidates(earlier[:, -self.spec.context :], steps)
        return [
            _best_weights(*parts, true[:, number]) * _TRUSTED
            for number, parts in enumerate(candidates)
        ]

    def _candidates(
        self, context: Tensor, steps: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        scene = _scene(context)
        latest = scene.frames[:, 0]
        each = displacements(scene.velocity, steps)
        for step, displacement in zip(steps, each, strict=True):
            picture = self._picture(scene, torch.full((len(context),), step), displacement)
            yield picture, _warp_sharply(latest, _resized(displacement, 2)), latest

    def _picture(self, scene: _Scene, ahead: Tensor, displacement: Tensor) -> Tensor:
        """Return the frames ``ahead`` steps later; ``ahead`` is (B,) on the CPU."""
        (horizon,) = upload([ahead.float().view(-1, 1, 1, 1)], displacement.device)
        # Pair with the nearest frame that is old enough, or with the oldest.
        wanted = horizon.flatten(1).clamp(max=_OLDER)
        partner = (scene.ages < wanted).sum(1).clamp(max=_OLDER)
        gap = (
            scene.ages.gather(1, partner[:, None])
            .clamp(min=1)
            .to(displacement)
            .view(-1, 1, 1, 1)
        )
        moment = _Moment(horizon, partner, gap, displacement)
        motion: Tensor = self.block0(*_inputs(scene, 0, None, moment))
        for number, block in enumerate((self.block1, self.block2), 1):
            motion = enlarged_motion(motion, 2)
            motion = motion + block(*_inputs(scene, number, motion, moment))
        return _mixed(scene, enlarged_motion(motion, 2), moment)


def _best_weights(forecast: Tensor, flowed: Tensor, last: Tensor, true: Tensor) -> Tensor:
    """Return the weights of ``flowed`` and ``last`` of least squared error: (2, B)."""
    errors = torch.stack([forecast - true, flowed - true, last - true], 1).flatten(2)
    products = torch.einsum("bin,bjn->bij", errors, errors)
    steps = product(range(_GRID + 1), repeat=2)
    grid = [[_GRID - a - b, a, b] for a, b in steps if a + b <= _GRID]
    weights = torch.tensor(grid, device=forecast.device) / _GRID
    totals = torch.einsum("gi,bij,gj->bg", weights, products, weights)
    return weights[totals.argmin(1), 1:].t()


def from_rife(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert RIFE 4.6's tensors to a start for :class:`VoxelFlow`.

    The timestep stays halfway between two frames, where RIFE is most exact. The blocks see
    both frames moved to the time of the forecast, so the motion that RIFE finds between the
    two is the error of the velocity. Both velocities start as the difference of RIFE's two
    flows. New inputs start with weight zero. New gates start nearly closed, because a gate
    that starts open learns to keep everything in place. The gate of the optical flow starts
    with the weight of RIFE's own motion. Untrained, the result is about as good as optical
    flow. RIFE's last block is not used.
    """
    result: dict[str, Tensor] = {}
    for number in range(len(_SCALES)):
        prefix = f"block{number}."
        own = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
        result |= {name: tensor.float().clone() for name, tensor in own.items()}
        first = f"{prefix}conv0.0.0.weight"
        more = (_LATER if number else _FIRST) - result[first].shape[1]
        wide = F.pad(result[first], (0, 0, 0, 0, 0, more))
        if number:
            # The input of the flow so far: at timestep 0.5, RIFE's two flows are half of
            # the velocity and minus half of the velocity.
            wide[:, 8:10] *= 0.5
            wide[:, 10:12] *= -0.5
        result[first] = wide
        for name in (f"{prefix}lastconv.0.weight", f"{prefix}lastconv.0.bias"):
            # The pixel shuffle makes one channel of four neighbouring outputs.
            axis = 1 if name.endswith("weight") else 0
            velocity = result[name].narrow(axis, 0, 8) - result[name].narrow(axis, 8, 8)
            mask = result[name].narrow(axis, 16, 4)
            shut = _SHUT if number == 0 and axis == 0 else 0.0
            gates = [torch.full_like(mask, shut)] * (_LOGITS - 2)
            flowed = torch.full_like(mask, _LATEST if shut else 0.0)
            colours = [torch.zeros_like(mask)] * COLOURS
            result[name] = torch.cat(
                (velocity, velocity, mask, *gates, flowed, *colours), axis
            )
    return result


def _scene(context: Tensor) -> _Scene:
    frames = context[:, -_FRAMES:].flip(1)
    # Exact copies at the beginning replace missing frames, and have the age of the oldest
    # frame.
    copies = (
        (context[:, 1:] == context[:, :-1]).flatten(2).all(2).cumprod(1).sum(1).tolist()
    )
    # The numbers of different frames of the items.
    counts = [context.shape[1] - copied for copied in copies]
    ages = torch.stack([torch.arange(_FRAMES).clamp(max=count - 1) for count in counts])
    velocity = [
        mean_velocity(reversed(item[:count].unbind()))
        if count > 1
        else torch.zeros_like(item[0, :2])
        for item, count in zip(frames, counts, strict=True)
    ]
    seen = frames.clamp(0, 1).flatten(0, 1)
    small = (
        F.interpolate(seen, scale_factor=1 / scale, mode="bilinear", align_corners=False)
        for scale in _SCALES
    )
    return _Scene(
        frames=frames,
        small=tuple(level.view(*frames.shape[:3], *level.shape[2:]) for level in small),
        ages=upload([ages], context.device)[0],
        velocity=_resized(torch.stack(velocity), 0.5),
    )


def _inputs(
    scene: _Scene, number: int, motion: Tensor | None, moment: _Moment
) -> Iterator[Tensor]:
    """Yield the inputs of a block at its own scale, first those of RIFE, in its order."""
    small = scene.small[number]
    horizon = moment.horizon
    gap = moment.gap
    latest = small[:, 0]
    warped = small if motion is None else _warp(small, scene.ages, motion, moment)
    yield _paired(warped, moment.partner)
    yield warped[:, 0]
    yield torch.full_like(latest[:, :1], _RIFE_TIMESTEP)
    if motion is not None:
        yield motion[:, _FLOWS : _FLOWS + 1]
        yield motion[:, :_FLOWS]
    yield warped[:, 1:].flatten(1, 2)
    planes = torch.cat((horizon.clamp(max=REACH) / gap, 1 / gap), 1)
    yield planes.expand(-1, -1, *small.shape[3:])
    displacement = _resized(moment.displacement, 2 / _SCALES[number])
    yield warp(latest, displacement)
    yield displacement * (gap / horizon)
    if motion is not None:
        yield latest
        yield motion[:, _FLOWS + 1 :]


def _paired(frames: Tensor, partner: Tensor) -> Tensor:
    return frames[torch.arange(len(frames), device=frames.device), partner]


def _warp(
    frames: Tensor, ages: Tensor, motion: Tensor, moment: _Moment, top: int = 0
) -> Tensor:
    """Move all frames, (B, 5, 3, h, w), latest first, to the time of the forecast.

    ``motion`` may have some rows only, from ``top`` on.
    """
    batch, count = frames.shape[:2]
    age = ages.view(batch, -1, 1, 1, 1)
    factor = (age + moment.horizon[:, None]) / moment.gap[:, None]
    older = motion[:, None, 0:2].expand(-1, count - 1, -1, -1, -1)
    flow = torch.cat((motion[:, None, 2:4], older), 1) * factor
    grid = sampling_grid(flow.flatten(0, 1), *frames.shape[3:], top=top)
    moved = sample(frames.flatten(0, 1), grid)
    return moved.view(batch, count, -1, *motion.shape[2:])


def _mixed(scene: _Scene, motion: Tensor, moment: _Moment) -> Tensor:
    frames = scene.frames
    latest = frames[:, 0]
    flowed = _resized(moment.displacement, 2)
    # All rows at once would need as much memory as the blocks do.
    step = strip_rows(latest)
    rows = [slice(top, top + step) for top in range(0, latest.shape[2], step)]
    strips = [
        _mixed_rows(scene, motion[:, :, some], flowed[:, :, some], moment, some)
        for some in rows
    ]
    change = (frames[:, 1:] - frames[:, :1]).abs().amax((1, 2), keepdim=True)[:, 0]
    still = F.avg_pool2d(change, _STILL_AREA, 1, _STILL_AREA // 2) < _STILL
    return torch.where(still, latest, torch.cat(strips, 2))


def _mixed_rows(
    scene: _Scene, motion: Tensor, flowed: Tensor, moment: _Moment, rows: slice
) -> Tensor:
    frames = scene.frames
    latest = frames[:, 0]
    top = rows.start
    warped = _warp(frames, scene.ages, motion, moment, top)
    logits = motion[:, _FLOWS : _FLOWS + _LOGITS]
    weights = torch.cat((torch.full_like(logits[:, :1], _LATEST), logits), 1).softmax(1)
    flow = motion[:, 2:4] * (moment.horizon / moment.gap)
    return (
        weights[:, 0:1] * _warp_sharply(latest, flow, top)
        + weights[:, 1:2] * _paired(warped, moment.partner)
        + weights[:, 2:3] * latest[:, :, rows]
        + (weights[:, 3 : 3 + _OLDER, None] * warped[:, 1:]).sum(1)
        + weights[:, 3 + _OLDER : 4 + _OLDER] * frames[..., rows, :].mean(1)
        + weights[:, 4 + _OLDER :] * _warp_sharply(latest, flowed, top)
        + _COLOUR_STEP * motion[:, _FLOWS + _LOGITS :]
    )


def _warp_sharply(picture: Tensor, flow: Tensor, top: int = 0) -> Tensor:
    """Warp with cubic interpolation, which keeps more detail than ``warp``.

    ``flow`` may have some rows only, from ``top`` on.
    """
    return sample(picture, sampling_grid(flow, *picture.shape[2:], top=top), "bicubic")


def _resized(flow: Tensor, factor: float) -> Tensor:
    return factor * F.interpolate(
        flow, scale_factor=factor, mode="bilinear", antialias=factor < 1
    )
