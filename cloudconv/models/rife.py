"""Define RIFE 4.6, and the network of cloudconv's own models.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation,
ECCV 2022 (arXiv 2011.06294), version 4.6 of the authors' practical line. The blocks are the
published ones (``weights/make_rife46.py`` records the published network's results for the
tests). Less is computed between the blocks: pictures are reduced once for each block and
warped at the block's scale, and flow and mask stay at that scale. Only the last flow and
mask are enlarged to the picture's size. This halves the time and changes the score by some
hundredths of a decibel. cloudconv's own models (see :mod:`cloudconv.models.catalogue`) are
the same network with a gate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, repeat

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models import curve
from cloudconv.models.base import COLOURS, MAPS, Interpolator, maps_of
from cloudconv.models.blocks import Block
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import lerp_into, resize, sample, sampling_grid, strips, warp
from cloudconv.models.pair import Pair
from cloudconv.models.sharpening import restore_detail
from cloudconv.models.stillness import stillness

WIDTHS = (192, 128, 96, 64)
"""The channels of the blocks, coarse to fine."""

_MASK, _GATE = slice(4, 5), slice(5, 6)  # behind the two flows of two channels each
_SHUT = -3.0  # the logit of a gate that is nearly closed
_UNGATED = 12  # inputs of the later blocks without a gate
_EXITS = 2  # number, from 0, of the first block after which training scores an early result
_SHARED = 3  # blocks whose motion at the middle of a pair bends that of the pairs beside it
_SMALL = 4  # at scale 1, a motion is corrected at a quarter of the size
_OPEN = 1.5  # logit of a gate where moved and unmoved pictures fit equally well
_STRIP = 128  # rows
# Within 1/32 of the interval from a source frame, the result fades to that frame.
_NEAR = 32


Scaled = tuple[Tensor, float]
"""A motion or its correction, and the factor by which it is smaller than the picture."""


class IFNet(Interpolator):
    """A network whose blocks, coarse to fine, refine two backward flows and a mask.

    ``sizes`` are the factors by which the blocks' inputs are smaller than the picture; each
    is half of the one before. ``gated``: the channel that RIFE leaves unused is a gate: for
    each pixel the weight of the unmoved pictures' blend. An open gate (weight 1) keeps
    still things and noise in place, and avoids motion that cannot be estimated. The later
    blocks also read the gate so far and the difference of the unmoved pictures. The gate is
    always open close to a source frame, and where the network moves still things, see
    :mod:`cloudconv.models.stillness`. With the frames before and after a pair the ways of
    things bend, see :mod:`cloudconv.models.curve`.
    """

    any_size = staged = True
    scale_option = has_maps = carries_alpha = True
    unused = ("refine.",)

    def __init__(
        self,
        spec: ModelSpec,
        sizes: tuple[int, ...] = (8, 4, 2, 1),
        *,
        gated: bool = False,
    ) -> None:
        super().__init__(spec)
        self._sizes = sizes
        self._gated = gated
        for number, width in enumerate(WIDTHS[: len(sizes)]):
            inputs = 7
            if number > 0:
                inputs = 14 if gated else _UNGATED
            self.add_module(
                f"block{number}", Block(inputs, width, 6 if gated else 5, made=6)
            )

    def forward(self, pair: Pair, maps: bool = False) -> Tensor:
        """See ``Interpolator.forward``.

        Grids, flow, mask and warps are float32 in any dtype.
        """
        if torch.is_grad_enabled():  # a training sees pairs alone
            pair = replace(pair, sides=pair.sides[:2], reach=None)
        around = self._around(pair)
        first = self._shared(pair)
        *_, (motion, size) = first, *self._motions(pair, first)
        coarse = _SMALL / pair.scale
        straight = corrected = enlarged_motion(motion, size / coarse)
        if pair.reach is not None:
            corrected = curve.bent(straight, around, pair.timestep, pair.reach)
        if self._gated:
            corrected = self._weighed(pair, corrected)
        change = None if corrected is straight else (corrected - straight, coarse)
        return self._mixed(pair, (motion, size), change, maps=maps)

    def stages(self, pair: Pair) -> list[Tensor]:
        """Return the early result after three of four blocks, and then the final one.

        A network of fewer blocks has no early result.
        """
        early = list(self._motions(pair))[_EXITS:-1]
        return [*(self._mixed(pair, motion) for motion in early), self(pair)]

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Model.start_from``; new inputs have weight zero, a new gate is closed."""
        # A gate that starts open learns to blend everything, and stays open.
        own = self.state_dict()
        new_gate = self._gated and is_ungated(state)
        result = {}
        for tensor_name, tensor in state.items():
            if tensor_name not in own:
                continue
            wanted = own[tensor_name].shape
            if tensor.ndim == len(wanted) == 4 and tensor.shape[1] < wanted[1]:
                tensor = F.pad(tensor, (0, 0, 0, 0, 0, wanted[1] - tensor.shape[1]))
            if tensor.shape != wanted:
                continue  # of another network
            if new_gate and ".lastconv." in tensor_name:
                # The pixel shuffle makes one channel of four neighbouring outputs.
                axis = 1 if tensor_name.endswith("weight") else 0
                shut = tensor_name == "block0.lastconv.0.bias"
                tensor = tensor.clone()
                tensor.narrow(axis, 4 * _GATE.start, 4).fill_(_SHUT if shut else 0.0)
            result[tensor_name] = tensor
        return result

    def motion(self, pair: Pair) -> Tensor:
        """See ``Interpolator.motion``.

        Two blocks need an eighth of the time of a picture. On filmed clips their largest
        motion is that of all blocks, except for single pixels.
        """
        *_, (motion, factor) = islice(self._motions(pair), 2)
        return largest_motion(motion) * factor

    def _motions(self, pair: Pair, before: Scaled | None = None) -> Iterator[Scaled]:
        """Yield the motion after each block, at its scale, and the factor of the scale.

        The motion is (B, 5 or 6, h, w): two flows in pixels of that scale, and logits.
        ``before``: the motion after the first blocks, which are not computed again.
        """
        motion, done = before or (None, float("inf"))
        for number, size in enumerate(self._sizes):
            factor = size / pair.scale
            if factor >= done:
                continue
            small = self._at_scale(pair, factor)
            if motion is not None:
                motion = enlarged_motion(motion, 2)
            inputs = self._inputs(small, motion, pair.timestep)
            change = self.get_submodule(f"block{number}")(*inputs)
            motion = change if motion is None else change.add_(motion)
            yield motion, factor

    def _around(self, pair: Pair) -> list[Tensor]:
        """Return the velocities to the frames before and after, see ``curve.bent``.

        The frame after comes first, because no other thread computes its motion.
        """
        if pair.reach is None:
            return []
        none = torch.zeros_like(self._at_scale(pair, _SMALL / pair.scale)[0][:1])
        before, after = pair.couples_around()
        result: list[Tensor] = []
        for couples, place in ((after, 1), (before, 2)):
            known = [couple for couple in couples if couple]
            rows = iter(pair.of_couples("middle", self._middle, known))
            parts = [next(rows)[place] if couple else none for couple in couples]
            result.insert(0, torch.cat(parts))
        return result

    def _shared(self, pair: Pair) -> Scaled:
        """Return the motion after the blocks that the pairs beside this one use, too."""
        halves = pair.at_middle()
        if not halves:
            *_, motion = islice(self._motions(pair), _SHARED)
            return motion
        others = [number for number in range(len(pair.times)) if number not in halves]
        couples = [*zip(*pair.some(halves).sides, strict=True)]
        rows = pair.of_couples("middle", self._middle, couples)
        parts = {number: row[0] for number, row in zip(halves, rows, strict=True)}
        if others:
            *_, (motions, _) = islice(self._motions(pair.some(others)), _SHARED)
            parts.update(zip(others, torch.split(motions, 1), strict=True))
        size = self._sizes[_SHARED - 1] / pair.scale
        return torch.cat([part for _, part in sorted(parts.items())]), size

    def _middle(self, pair: Pair) -> list[Tensor]:
        """Return the shared motion of pairs at their middle, and the velocities of both."""
        *_, (motion, size) = islice(self._motions(pair), _SHARED)
        coarse = _SMALL / pair.scale
        flows = enlarged_motion(motion, size / coarse)
        return [motion, *curve.velocities(self._at_scale(pair, coarse), flows)]

    def _weighed(self, pair: Pair, motion: Tensor) -> Tensor:
        """Return a small motion whose gate is shut where moved pictures fit better.

        The odds that the unmoved pictures are right are those of the gate, times the ratio
        of both misfits.
        """
        with torch.no_grad():
            x0, x1 = self._at_scale(pair, _SMALL / pair.scale)
            moved = warp(x0, motion[:, :2]), warp(x1, motion[:, 2:4])
            odds = curve.misfit(*moved) / curve.misfit(x0, x1)
        gate = motion[:, _GATE] + odds.log() + _OPEN
        return torch.cat((motion[:, : _GATE.start], gate), 1)

    def _at_scale(self, pair: Pair, factor: float) -> list[Tensor]:
        def at_scale(x: Tensor) -> Tensor:
            return resize(x[:, :COLOURS], 1 / factor, self.multiple(pair.scale))

        if factor > 1:
            return pair.of_each(("reduced", factor), at_scale)
        # To keep a copy would cost more memory.
        return [at_scale(pair.joined(side)) for side in pair.sides[:2]]

    def _inputs(
        self, small: list[Tensor], motion: Tensor | None, timestep: Tensor
    ) -> Iterator[Tensor]:
        plane = timestep.expand(-1, 1, *small[0].shape[2:])
        # The convolutions were trained on [0, 1]; only the warps of the result keep other
        # values.
        if motion is None:
            yield from (x.clamp(0, 1) for x in small)
            yield plane
            return
        for x, grid in zip(small, _grids(motion, *small[0].shape[2:]), strict=True):
            yield sample(x, grid).clamp_(0, 1)
        yield plane
        yield motion[:, _MASK]
        yield motion[:, :4]
        if self._gated:
            yield motion[:, _GATE]
            yield (small[0] - small[1]).abs_().mean(1, keepdim=True)

    def _mixed(
        self,
        pair: Pair,
        scaled_motion: Scaled,
        changed: Scaled | None = None,
        *,
        maps: bool = False,
    ) -> Tensor:
        """Return the picture that a motion gives, perhaps with a correction of the motion.

        ``maps``: add those of ``Made``. With a gate, the detail of x0 and x1
        is restored, but not where the gate is open.
        """
        motion, size = scaled_motion
        change, coarse = changed or (None, 1.0)
        x0, x1 = pair.x0, pair.x1
        timestep = pair.timestep
        batch, channels, height, width = x0.shape
        result = x0.new_empty((batch, channels + MAPS * maps, height, width))
        still = near = strength = None
        if self._gated:
            # Close to a source frame use that frame, which is sharper than any mix of two
            # frames.
            near = (1 - torch.minimum(timestep, 1 - timestep) * _NEAR).clamp_min(0)
            strength = 1 - near
            still = stillness(pair)
            if still is not None:
                strength = x0.new_empty((batch, 1, height, width))
        # These steps are limited by memory access on a CPU; strips make nothing faster on a
        # GPU. The strips of a change must be as high as those of the motion.
        in_strips = x0.device.type == "cpu" and not torch.is_grad_enabled()
        rows = _STRIP if in_strips else -(-height // _STRIP) * _STRIP
        changes = repeat(None) if change is None else strips(change, coarse, rows)
        for (top, motion_rows), more in zip(
            strips(motion, size, rows), changes, strict=False
        ):
            count = min(rows, height - top)
            if count <= 0:  # the motion reaches beyond the picture's edges
                break
            straight = motion_rows[:, :, :count, :width]
            motion_rows = straight
            if more is not None:
                motion_rows = more[1][:, :, :count, :width].clone()
                motion_rows[:, :4] *= coarse / size
                motion_rows += straight
            grids = _grids(motion_rows, height, width, size, top)
            warped = [sample(x, grid) for x, grid in zip((x0, x1), grids, strict=True)]
            kept = near
            if still is not None and near is not None and strength is not None:
                kept = still.unmoved([grid.detach() for grid in grids], top, near)
                strength[:, :, top : top + count] = 1 - kept
            _fill(result, kept, pair, top, motion_rows[:, _MASK.start :], warped, grids)
        if strength is not None:
            if change is not None:
                motion = enlarged_motion(motion, size / coarse) + change
                size = coarse
            flows = motion[:, :4] * torch.sigmoid(-motion[:, _GATE])
            restore_detail(result, pair, flows, size, strength)
        return result


def is_ungated(state: Mapping[str, Tensor]) -> bool:
    """Return whether the tensors are those of RIFE's own network, without a gate."""
    later = state.get("block1.conv0.0.0.weight")
    return later is not None and later.shape[1] == _UNGATED


def enlarged_motion(motion: Tensor, factor: float) -> Tensor:
    """Return a motion at ``factor`` times the size, with flows in pixels of that size."""
    large = resize(motion, factor)
    large[:, :4] *= factor
    return large


def largest_motion(flows: Tensor) -> Tensor:
    """Return the largest motion from x0 to x1, (B,), of flows to x0 and x1, (B, 4, …)."""
    motion = flows[:, 2:4] - flows[:, :2]
    return torch.hypot(*motion.unbind(1)).amax((1, 2))


def _grids(
    motion: Tensor, height: int, width: int, gain: float = 1.0, top: int = 0
) -> list[Tensor]:
    flows = motion[:, :2], motion[:, 2:4]
    return [sampling_grid(flow, height, width, gain=gain, top=top) for flow in flows]


def _fill(
    result: Tensor,
    kept: Tensor | None,
    pair: Pair,
    top: int,
    logits: Tensor,
    warped: list[Tensor],
    grids: list[Tensor],
) -> None:
    """Write the rows of ``result`` from ``top`` on.

    ``kept``: the least weight of the unmoved pictures in these rows; None without a gate.
    ``logits``: those of mask and gate. ``grids``: those that moved the pictures.
    """
    warped0, warped1 = warped
    channels = pair.x0.shape[1]
    rows = logits.shape[2]
    gated: list[Tensor] = []
    target = result[:, :, top : top + rows]
    picture = target[:, :channels]
    mask = torch.sigmoid(logits[:, :1])
    if kept is None:
        lerp_into(picture, warped1, warped0, mask)
    else:
        gate = torch.sigmoid(logits[:, 1:2]).maximum(kept)
        x0, x1 = (x.narrow(2, top, rows) for x in (pair.x0, pair.x1))
        blend = torch.lerp(x0, x1, pair.timestep)
        mixed = torch.lerp(warped1, warped0, mask)
        lerp_into(picture, mixed, blend, gate)
        gated = [gate, x0, x1]
    if result.shape[1] > channels:
        target[:, channels:] = maps_of(warped, grids, *gated)
