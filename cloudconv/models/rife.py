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
from itertools import islice, repeat

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, MAPS, Interpolator, maps_of
from cloudconv.models.blocks import Block
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import lerp_into, resize, sample, sampling_grid, strips, warp
from cloudconv.models.pair import Pair
from cloudconv.models.sharpening import FLAT, restore_detail
from cloudconv.models.stillness import stillness

WIDTHS = (192, 128, 96, 64)
"""The channels of the blocks, coarse to fine."""

_MASK, _GATE = slice(4, 5), slice(5, 6)  # behind the two flows of two channels each
_MOTION = 6  # channels of the flows, the mask and the gate
_LOGITS = 2  # mask and gate
_SHUT = -3.0  # the logit of a gate that is nearly closed
_UNGATED = 12  # inputs of the later blocks without a gate
_EXITS = 2  # number, from 0, of the first block after which training scores an early result
_REFINED = 4  # at scale 1, a motion is refined at a quarter of the size
_STRIP = 128  # rows
# Within 1/32 of the interval from a source frame, the result fades to that frame.
_NEAR = 32
_AROUND = 4  # pixels to each side over which an energy is averaged: 9 by 9 in all
# Factor of the differences that the refinement reads, so that they are of order 1.
_GAIN = 4.0


Scaled = tuple[Tensor, float]
"""A motion or its correction, and the factor by which it is smaller than the picture."""


class Refinement(nn.Module):
    """A small block that reads four pictures, moved and unmoved, and corrects a motion.

    From two frames only even motion (constant velocity) can be estimated. Continued to the
    outer frames, those before and after the pair, such a motion leads to the same things
    only where the true motion is even. A small network reads the differences. The network
    bends the flows (as in Xu et al., Quadratic Video Interpolation, NeurIPS 2019, arXiv
    1911.00627, but learned), and changes the weights of the pair's pictures and of the
    unmoved pictures (the gate). The network also adds a part of the moved outer pictures,
    which corrects noise of the pair alone, and an uneven change of brightness.
    """

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(25, 48, _MOTION + 2, depth=4)
        for parameter in self.block.lastconv.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, pictures: list[Tensor], motion: Tensor, timestep: Tensor, reach: Tensor
    ) -> Tensor:
        """Return a motion's correction, (B, 9, h, w): six channels and three colours.

        The colours are those of the mix of the moved pictures. ``pictures``: x0, x1, the
        frame before and the frame after the pair, in [0, 1]. ``motion``: flows to x0 and x1
        in pixels, logits of mask and gate. ``reach``: see
        :class:`~cloudconv.models.base.OuterPictures`.
        """
        x0, x1, before, after = pictures
        back, ahead = torch.split(reach.view(-1, 2, 1, 1), 1, 1)
        flow0, flow1 = motion[:, :2], motion[:, 2:4]
        velocity = flow1 - flow0
        w0, w1, far0, far1 = (
            warp(picture, flow)
            for picture, flow in zip(
                pictures,
                (flow0, flow1, flow0 - back * velocity, flow1 + ahead * velocity),
                strict=True,
            )
        )
        bent0 = _bend(far0, w0, w1, back)
        bent1 = _bend(far1, w1, w0, ahead)
        still0 = _bend(before, x0, x1, back)
        still1 = _bend(after, x1, x0, ahead)
        # These are inputs of the network; no gradient passes, because a root's slope at 0
        # is infinite.
        with torch.no_grad():
            bent, still, common, warped, unmoved = _energies(
                bent0.square() + bent1.square(),
                still0.square() + still1.square(),
                bent0 * bent1,
                (w0 - w1).square(),
                (x0 - x1).square(),
            )
        change: Tensor = self.block(
            w0,
            w1,
            far0,
            far1,
            timestep.expand(-1, 1, *w0.shape[2:]),
            motion,
            (x0 - x1).abs().mean(1, keepdim=True),
            bent / (bent + still + FLAT),
            warped / (warped + unmoved + FLAT),
            common / (bent + FLAT),
            warped.sqrt() * _GAIN,
            bent.sqrt() * _GAIN,
        )
        weight0, weight1 = torch.split(change[:, _MOTION:], 1, 1)
        corrected = weight0 * (far0 - w0) + weight1 * (far1 - w1)
        return torch.cat((change[:, :_MOTION], corrected), 1)


class IFNet(Interpolator):
    """A network whose blocks, coarse to fine, refine two backward flows and a mask.

    ``sizes`` are the factors by which the blocks' inputs are smaller than the picture; each
    is half of the one before. ``gated``: the channel that RIFE leaves unused is a gate: for
    each pixel the weight of the unmoved pictures' blend. An open gate (weight 1) keeps
    still things and noise in place, and avoids motion that cannot be estimated. The later
    blocks also read the gate so far and the difference of the unmoved pictures. The gate is
    always open close to a source frame, and where the network moves still things, see
    :mod:`cloudconv.models.stillness`. ``refines``: correct the motion with the frames
    before and after the pair, if they are given.
    """

    any_size = staged = True
    scale_option = has_maps = carries_alpha = True

    def __init__(
        self,
        spec: ModelSpec,
        sizes: tuple[int, ...] = (8, 4, 2, 1),
        *,
        gated: bool = False,
        refines: bool = False,
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
        self.refine = Refinement() if refines else None

    def forward(self, pair: Pair, maps: bool = False) -> Tensor:
        """See ``Interpolator.forward``.

        Grids, flow, mask and warps are float32 in any dtype.
        """
        *_, motion = self._motions(pair)
        refines = self.refine is not None and pair.reach is not None
        change = self._change(pair, *motion) if refines else None
        return self._mixed(pair, motion, change, maps=maps)

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
        result = {key: tensor for key, tensor in own.items() if key.startswith("refine.")}
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

    def _motions(self, pair: Pair) -> Iterator[Scaled]:
        """Yield the motion after each block, at its scale, and the factor of the scale.

        The motion is (B, 5 or 6, h, w): two flows in pixels of that scale, and logits.
        """
        motion = None
        for number, size in enumerate(self._sizes):
            factor = size / pair.scale
            small = self._at_scale(pair, factor)
            if motion is not None:
                motion = enlarged_motion(motion, 2)
            inputs = self._inputs(small, motion, pair.timestep)
            change = self.get_submodule(f"block{number}")(*inputs)
            motion = change if motion is None else change.add_(motion)
            yield motion, factor

    def _at_scale(self, pair: Pair, factor: float, sides: int = 2) -> list[Tensor]:
        def at_scale(x: Tensor) -> Tensor:
            return resize(x[:, :COLOURS], 1 / factor, self.multiple(pair.scale))

        if factor > 1:
            return pair.of_each(("reduced", factor), at_scale, sides)
        # To keep a copy would cost more memory.
        return [at_scale(pair.joined(side)) for side in pair.sides[:sides]]

    def _change(self, pair: Pair, motion: Tensor, size: float) -> Scaled:
        assert self.refine is not None
        coarse = _REFINED / pair.scale
        pictures = [x.clamp(0, 1) for x in self._at_scale(pair, coarse, 4)]
        small = enlarged_motion(motion, size / coarse)
        change: Tensor = self.refine(pictures, small, pair.timestep, pair.reach)
        return change, coarse

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
            motion_rows = motion_rows[:, :, :count, :width]
            if more is not None:
                total = more[1][:, :, :count, :width].clone()
                total[:, :4] *= coarse / size
                total[:, : motion_rows.shape[1]] += motion_rows
                motion_rows = total
            grids = _grids(motion_rows, height, width, size, top)
            warped = [sample(x, grid) for x, grid in zip((x0, x1), grids, strict=True)]
            kept = near
            if still is not None and near is not None and strength is not None:
                kept = still.unmoved([grid.detach() for grid in grids], top, near)
                strength[:, :, top : top + count] = 1 - kept
            _fill(result, kept, pair, top, motion_rows[:, _MASK.start :], warped, grids)
        if strength is not None:
            if change is not None:
                smaller = enlarged_motion(motion, size / coarse)
                motion = smaller + change[:, :_MOTION]
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
    With four frames, three colours to add to the mix follow the ``logits`` of mask and
    gate. ``grids``: those that moved the pictures.
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
        if logits.shape[1] > _LOGITS:
            mixed[:, :COLOURS] += logits[:, _LOGITS:]
        lerp_into(picture, mixed, blend, gate)
        gated = [gate, x0, x1]
    if result.shape[1] > channels:
        target[:, channels:] = maps_of(warped, grids, *gated)


def _bend(outer: Tensor, near: Tensor, far: Tensor, reach: Tensor) -> Tensor:
    """Return ``near`` less the linear mix of ``outer`` and ``far`` at the time of ``near``.

    ``reach``: the time from ``outer`` to ``near``, as a multiple of that from ``near`` to
    ``far``.
    """
    return near - (outer + reach * far) / (1 + reach)


def _energies(*products: Tensor) -> tuple[Tensor, ...]:
    """Return means over colours and nearby pixels: (B, 1, h, w) each."""
    means = torch.cat([product.mean(1, keepdim=True) for product in products], 1)
    rows = F.avg_pool2d(
        F.pad(means, (_AROUND,) * 4, mode="replicate"), (2 * _AROUND + 1, 1), 1
    )
    return torch.split(F.avg_pool2d(rows, (1, 2 * _AROUND + 1), 1), 1, 1)
