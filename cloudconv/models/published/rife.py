"""Define RIFE 4.0 to 4.26, and the networks of RIFE's paper: RIFE and RIFEm.

The paper's RIFE makes only the middle of two pictures.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation,
ECCV 2022 (arXiv 2011.06294; hzwer/ECCV2022-RIFE, MIT), and the authors' practical line
(hzwer/Practical-RIFE, MIT). Blocks, coarse to fine, estimate two backward flows and a mask.
Each block reads the pictures moved by the flows so far, at the block's scale. In the
paper's networks a further network corrects the mixed picture.

The published networks move whole pictures, and then reduce the result. Their reduction
reads only the four pixels in the middle of each cell. So :class:`Estimates` moves only
these pixels. The results are equal up to rounding.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.blocks import fold
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.convolutions import SLOPE, EngineOf, HiddenLayer, HiddenLayers
from cloudconv.models.ops import joined, pad_to_multiple, resize, sample, shuffled, warp
from cloudconv.models.pair import Pair
from cloudconv.models.published import (
    FLOWS,
    LEVELS,
    MASK,
    Published,
    StateDict,
    colours_of,
    has,
    row,
    shapes,
    warp_all,
)
from cloudconv.models.rife import WIDTHS

_CELL = 4  # pixels; in smaller cells all pixels are in the middle
_DEPTH = 8  # hidden layers of a block
_BYTES = 26  # of peak memory for each padded pixel and input channel of a block
_DECISIVE = 1  # number, from 0, of the block after which 4.0 and 4.1 test for far motion
_FAR = 32  # pixels
_WIDEST_OVERLAP = 256  # pixels

_SCALES = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}
"""For each number of blocks, the factor by which each block's input is smaller than the
picture."""
_LITE = 24
_LITE_SCALES = (32, 16, 8, 4, 1)
"""The width of the fifth block of 4.25.lite, which alone has other scales."""

_PAIR, _LIST, _NAMED = "encode.1", "encode.6", "encode.cnn3"
_ENCODERS = {
    _PAIR: ("encode.0",),
    _LIST: ("encode.0", "encode.2", "encode.4"),
    _NAMED: ("encode.cnn0", "encode.cnn1", "encode.cnn2"),
}
"""The last layer of each kind of encoder, and the others."""

_SMALL = (128, 96, 64, 48)
_FIVE = (*WIDTHS, 32)
_VERSIONS: dict[tuple[object, ...], str] = {
    (WIDTHS, "PReLU"): "4.0 or 4.1",
    (WIDTHS, "leaky"): "4.2 to 4.4",
    (WIDTHS, 20): "4.5",
    (WIDTHS, 24): "4.6",
    (WIDTHS, 24, _PAIR, 16, 4): "4.7 to 4.9",
    (WIDTHS, 24, _LIST, 32, 8): "4.10 to 4.12",
    (_SMALL, 24, _LIST, 32, 4): "4.12.lite or 4.13.lite",
    (WIDTHS, 24, _NAMED, 32, 8): "4.13 to 4.15, 4.17 to 4.19, or 4.24",
    (WIDTHS, 24, _NAMED, 32, 8, "groups"): "4.14.lite",
    (_SMALL, 24, _NAMED, 16, 4): "4.15.lite to 4.17.lite",
    ((384, 192, 96, 48), 24, _NAMED, 32, 8): "4.20",
    ((256, 192, 96, 48), 52, _NAMED, 32, 8): "4.21 to 4.23",
    ((192, 128, 64, 32), 52, _NAMED, 16, 4): "4.22.lite",
    (_FIVE, 52, _NAMED, 16, 4): "4.25 or 4.26",
    ((*WIDTHS, _LITE), 52, _NAMED, 16, 4): "4.25.lite",
    ((384, 256, 192, 128, 64), 52, _NAMED, 16, 4): "4.25.heavy",
    (_FIVE, 52, _NAMED, 16, 16): "4.26.heavy",
}
"""The versions by the widths of the blocks, the outputs of a block (before 4.5, the
rectifier), and the encoder: its last layer, the hidden channels, and those of the
result."""

_PAPER_SCALES = (4, 2, 1)
_FIRST = "block0.conv0.0.0.weight"

FAMILY = "RIFE"
_SOURCE = "Huang et al., ECCV 2022"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the RIFE network that tensors show; None for other networks."""
    widths = _widths(shapes(state))
    if len(widths) not in _SCALES:
        return _detect_paper(state)
    version: list[object] = [widths]
    if has(state, "block0.lastconv.weight", None, FLOWS + MASK, 4, 4):
        version.append("PReLU" if "block0.conv0.0.1.weight" in state else "leaky")
    elif has(state, "block1.lastconv.0.weight", None, None, 4, 4):
        version.append(state["block1.lastconv.0.weight"].shape[1])
    else:
        return None
    if last := _last_of_encoder(shapes(state)):
        version += [last, *state[f"{last}.weight"].shape[:2]]
    hidden = "block1.convblock.0.conv.weight"
    if (
        has(state, hidden, None, None, 3, 3)
        and state[hidden].shape[0] > state[hidden].shape[1]
    ):
        version.append("groups")
    inputs = "block1.conv0.0.0.weight"
    if not has(state, inputs, None, None, 3, 3):
        return None
    multiple = 4 * _scales(widths)[0]
    version_name = _VERSIONS.get(tuple(version), "of no published version")
    limits = {"multiple": multiple, "overlap": min(_WIDEST_OVERLAP, 4 * multiple)}
    memory = _BYTES * state[inputs].shape[1]
    return row(
        state, FAMILY, version_name, _SOURCE, "rife:Rife4", bytes_per_pixel=memory, **limits
    )


def _detect_paper(state: StateDict) -> ModelSpec | None:
    last = (f"block{k}.lastconv.weight" for k in range(len(_PAPER_SCALES)))
    if not all(has(state, name, None, FLOWS + MASK, 4, 4) for name in last):
        return None
    if (
        not has(state, _FIRST, None, None, 3, 3)
        or "contextnet.conv1.conv1.0.weight" not in state
    ):
        return None
    reads_time = state[_FIRST].shape[1] > 2 * COLOURS
    limits = {"multiple": 32, "bytes_per_pixel": 850, "arbitrary_timestep": reads_time}
    name = "RIFEm" if reads_time else FAMILY
    return row(state, name, "of the paper", _SOURCE, "rife:RifePaper", **limits)


def _widths(shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    widths: list[int] = []
    while len(shape := shapes.get(f"block{len(widths)}.conv0.1.0.weight", ())) == 4:
        widths.append(shape[0])
    return tuple(widths)


def _scales(widths: tuple[int, ...]) -> tuple[int, ...]:
    return _LITE_SCALES if widths[4:] == (_LITE,) else _SCALES[len(widths)]


def _last_of_encoder(shapes: Mapping[str, Sequence[int]]) -> str | None:
    return next(
        (last for last in _ENCODERS if len(shapes.get(f"{last}.weight", ())) == 4), None
    )


class Estimates:
    """The sum of the flows so far, and with ``adds_mask`` of the masks, at full size."""

    def __init__(self, *, adds_mask: bool) -> None:
        self._summed = FLOWS + MASK * adds_mask
        self._total = self._others = torch.zeros(())
        self._factor = 1.0

    def add(self, estimate: Tensor, factor: float) -> Tensor:
        """Add an estimate, (B, 5 or more, h, w), ``factor`` times smaller than the picture.

        The flows are in pixels of the smaller picture. The result is the part that was
        summed.
        """
        flows = estimate[:, :FLOWS] * factor
        change = resize(torch.cat((flows, estimate[:, FLOWS : self._summed]), 1), factor)
        self._total = change + self._total
        self._others = estimate[:, self._summed :]
        self._factor = factor
        return change

    def at_scale(self, factor: float) -> tuple[Tensor, Tensor]:
        """Return the flows, (B, 4, h, w), and mask and features, (B, 1 or more, h, w).

        Both are reduced to 1 / ``factor`` of the picture's size, and so is the unit of the
        flows.
        """
        total = resize(self._total, 1 / factor)
        flows = total[:, :FLOWS] / factor
        mask = total[:, FLOWS:]
        if not self._others.shape[1]:
            return flows, mask
        # The mean of a cell's middle is the value at its centre: coarser scales are linear
        # there.
        first = max(factor, 1)
        others = resize(resize(self._others, self._factor / first), first / factor)
        return flows, torch.cat((mask, others), 1)

    def warp(self, pictures: list[Tensor], factor: float) -> list[Tensor]:
        """Return x0 and x1, moved by the flows and reduced to 1 / ``factor``."""
        flows = self._total[:, :FLOWS]
        if factor < _CELL:
            pairs = zip(pictures, flows.chunk(2, 1), strict=True)
            return [resize(warp(x, flow), 1 / factor) for x, flow in pairs]
        # Only the four pixels in the middle of each cell are read.
        cell = round(factor)
        sides = flows.shape[2:]
        device = flows.device
        starts = (torch.arange(cell // 2 - 1, side, cell, device=device) for side in sides)
        rows, columns = (torch.stack((first, first + 1), 1).flatten() for first in starts)
        flows = flows.index_select(2, rows).index_select(3, columns)
        y, x = (
            torch.linspace(-1, 1, side, device=device)[lines]
            for side, lines in zip(sides, (rows, columns), strict=True)
        )
        steps = [2 / max(side - 1, 1) for side in sides]
        result = []
        for picture, flow in zip(pictures, flows.chunk(2, 1), strict=True):
            grid = torch.stack(
                (x + flow[:, 0] * steps[1], y[:, None] + flow[:, 1] * steps[0]), -1
            )
            result.append(F.avg_pool2d(sample(picture, grid), 2))
        return result


class Rife4(Published):
    """A RIFE 4.x network of any version."""

    def __init__(self, spec: ModelSpec, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__(spec, shapes)
        self._engine_of: EngineOf | None = None  # None if the network can be trained
        self._rows: dict[str, HiddenLayers] = {}

    def fuse(self, engine_of: EngineOf) -> None:
        for name in self.shapes:
            if name.endswith(".beta"):
                fold(*self.both(name.removesuffix("beta") + "conv"), self.tensor(name))
        self._engine_of = engine_of
        self.unfit()  # makes all rows, before several threads use these

    def estimate(
        self, seen: list[Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        last = _last_of_encoder(self.shapes)
        if last is not None:
            features = pair.of_each("features", partial(self._encoded, last))
            seen = [torch.cat(sources, 1) for sources in zip(seen, features, strict=True)]
        motion, far = self._motion(seen, pair.timestep, pair.scale)
        # Other devices always compute the doubled scales, which takes a quarter more time,
        # because the CPU would have to wait for the decision.
        if far is not None and (far.device.type != "cpu" or far.any()):
            multiple = self.spec.multiple * max(2, round(2 / pair.scale))
            wide = [pad_to_multiple(x, multiple) for x in seen]
            doubled, _ = self._motion(wide, pair.timestep, pair.scale / 2)
            height, width = seen[0].shape[2:]
            motion = torch.where(far, doubled[..., :height, :width], motion)
        return motion[:, :FLOWS], motion[:, FLOWS:].sigmoid(), None

    def _motion(
        self, seen: list[Tensor], timestep: Tensor, scale: float
    ) -> tuple[Tensor, Tensor | None]:
        """Return the flows and the mask, (B, 5, H, W).

        ``seen``: colours and features of x0 and x1. For 4.0 and 4.1 also return the items,
        (B, 1, 1, 1), whose motion is so far after two blocks that the network starts again
        with all scales doubled; otherwise None.
        """
        encodes = seen[0].shape[1] > COLOURS
        # Up to 4.6 blocks add to the mask; later they replace it.
        total = Estimates(adds_mask=not encodes)
        far = None
        for number, size in enumerate(_scales(_widths(self.shapes))):
            factor = size / scale
            warped = (
                total.warp(seen, factor)
                if number
                else [resize(x, 1 / factor) for x in seen]
            )
            inputs = [x[:, :COLOURS] for x in warped]
            if encodes:
                inputs += [x[:, COLOURS:] for x in warped]
            inputs.append(timestep.expand(-1, 1, *warped[0].shape[2:]))
            if number:
                flows, others = total.at_scale(factor)
                inputs += [others, flows]
            motion = self.block(f"block{number}", inputs)
            change = total.add(motion, factor * inputs[0].shape[3] / motion.shape[3])
            if number == _DECISIVE and "block0.conv0.0.1.weight" in self.shapes:
                to_x0, to_x1 = change[:, :FLOWS].abs().chunk(2, 1)
                far = (to_x0.amax((1, 2, 3), True) > _FAR) & (
                    to_x1.amax((1, 2, 3), True) > _FAR
                )
        flows, mask = total.at_scale(1)
        return torch.cat((flows, mask[:, :MASK]), 1), far

    def block(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Map inputs of one size to a change of the estimate, float32.

        Before 4.2, a single skip is around all hidden layers, and rectifiers have slopes.
        From 4.5 on, each hidden layer has a skip, and a pixel shuffle doubles the size of
        the result.
        """
        start = [f"{name}.conv0.{k}" for k in range(2)]
        reduced = self._active(start, joined(inputs, self.dtype), 2)
        hidden = self._active([f"{name}.convblock.{k}" for k in range(_DEPTH)], reduced)
        if f"{name}.lastconv.0.weight" in self.shapes:
            # Block 0 alone does not read an estimate.
            first, second = (self.shapes[f"block{k}.conv0.0.0.weight"][1] for k in (0, 1))
            return shuffled(self.deconv(f"{name}.lastconv.0", hidden), second - first)
        if f"{name}.conv0.0.1.weight" in self.shapes:
            hidden = hidden + reduced
        return self.deconv(f"{name}.lastconv", hidden).float().contiguous()

    def _active(self, names: Sequence[str], x: Tensor, stride: int = 1) -> Tensor:
        """Apply layers one after the other, each a convolution and a rectifier."""
        if self._engine_of is not None:
            if names[0] not in self._rows:
                self._rows[names[0]] = HiddenLayers(
                    lambda: [self._layer(name, stride) for name in names],
                    x.shape[1],
                    self._engine_of,
                )
            return self._rows[names[0]].apply(x)
        for name in names:
            x = self._trained(name, x, stride)
        return x

    def _trained(self, name: str, x: Tensor, stride: int) -> Tensor:
        if f"{name}.1.weight" in self.shapes:
            return self.layer(name, x, stride)
        result = self.conv(self._convolution(name), x, stride)
        if f"{name}.beta" in self.shapes:
            beta = self.tensor(f"{name}.beta").to(x.dtype)
            if beta.shape != (1, x.shape[1], 1, 1):
                raise ValueError(name)
            result = torch.addcmul(x, result, beta)
        return F.leaky_relu_(result, SLOPE)

    def _layer(self, name: str, stride: int) -> HiddenLayer:
        slopes = f"{name}.1.weight"
        rectifier = self.tensor(slopes) if slopes in self.shapes else SLOPE
        return HiddenLayer(*self.both(self._convolution(name)), stride, rectifier)

    def _convolution(self, name: str) -> str:
        if f"{name}.beta" in self.shapes:
            return f"{name}.conv"
        return name if f"{name}.weight" in self.shapes else f"{name}.0"

    def _encoded(self, last: str, pictures: Tensor) -> Tensor:
        hidden = joined(colours_of(pictures), self.dtype)
        for number, name in enumerate(_ENCODERS[last]):
            stride = 1 if number else 2
            if last == _PAIR:  # without a rectifier
                hidden = self.conv(name, hidden, stride)
            else:
                hidden = self._active([name], hidden, stride)
        return self.deconv(last, hidden).float().contiguous()


class RifePaper(Rife4):
    """RIFE or RIFEm, with blocks as in 4.0; the first block shows which of both."""

    def estimate(self, seen: list[Tensor], pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        total = Estimates(adds_mask=True)
        reads_time = self.tensor(_FIRST).shape[1] > 2 * COLOURS
        for number, size in enumerate(_PAPER_SCALES):
            factor = size / pair.scale
            inputs = [resize(x, 1 / factor) for x in seen]
            if reads_time:
                inputs.append(pair.timestep.expand(-1, 1, *inputs[0].shape[2:]))
            if number:
                flows, mask = total.at_scale(factor)
                inputs += [*total.warp(seen, factor), mask, flows]
            total.add(self.block(f"block{number}", inputs), 2 * factor)
        flows, mask = total.at_scale(1)
        features = [
            self._context(x, f) for x, f in zip(seen, flows.chunk(2, 1), strict=True)
        ]
        first = [*seen, *total.warp(seen, 1), mask, flows]
        residual = self.correction(first, list(zip(*features, strict=True)))
        return flows, mask.sigmoid(), residual

    def _context(self, picture: Tensor, flow: Tensor) -> list[Tensor]:
        """Return features at half, a quarter … of the picture's size, moved by a flow."""
        features = [joined([picture], self.dtype)]
        for level in range(LEVELS):
            features.append(self.halved(f"contextnet.conv{level + 1}", features[-1]))
        return warp_all(features[1:], resize(flow, 0.5) * 0.5)
