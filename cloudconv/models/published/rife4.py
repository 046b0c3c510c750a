"""Define RIFE 4.0 to 4.26: one network whose settings come from the tensors.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294), and the authors' practical line (hzwer/Practical-RIFE, MIT). Blocks, coarse
to fine, estimate two backward flows and a mask. Each block reads the pictures moved by the flows so
far, at the block's scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, Memo, once
from cloudconv.models.blocks import SLOPE, Active, Block, Fusible, Style
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, pad_to_multiple, resize
from cloudconv.models.published import Published, StateDict, has, row
from cloudconv.models.published.estimates import FLOWS, MASK, Estimates

_TIME = 1  # channels
_BYTES = 26  # of peak memory for each padded pixel and input channel of a block
_LITE_LAST = (24,)  # width of the fifth block of 4.25.lite, which alone has other scales
_DECISIVE = 1  # number, from 0, of the block after which 4.0 and 4.1 test for far motion
_FAR = 32  # pixels
_WIDEST_OVERLAP = 256  # pixels

Encoder = Literal["none", "pair", "list", "named"]


@dataclass(frozen=True, slots=True)
class Rife4Settings:
    """The settings of a RIFE 4.x network."""

    widths: tuple[int, ...]  # for each block, the channels of its hidden layers
    scales: tuple[int, ...]  # the factor by which each block's input is smaller than the picture
    # ``prelu``: hidden convolutions with PReLU, and one skip around all (4.0 and 4.1). ``leaky``:
    # with LeakyReLU, without a skip. ``beta``: the result of each convolution is weighted by
    # ``beta`` and added to its input.
    style: Style
    outputs: int  # of the last convolution; a pixel shuffle makes a quarter if the style is `beta`
    handed: int = 0  # features that a block hands to the next one
    encoder: Encoder = "none"  # none, two layers, or four layers with either names
    hidden: int = 0  # channels of the encoder's hidden layers
    features: int = 0  # channels of the encoder's result
    groups: int = 1  # of the hidden convolutions

    @property
    def adds_mask(self) -> bool:
        """Return whether blocks add to the mask, as up to 4.6; later they replace the mask."""
        return self.encoder == "none"

    @property
    def inputs(self) -> int:
        """Return the number of input channels of all blocks but the first."""
        return 2 * (COLOURS + self.features) + _TIME + FLOWS + MASK + self.handed

    def found(self) -> ModelSpec:
        """Return the row of a network with these settings."""
        multiple = 4 * self.scales[0]
        return row(
            FAMILY,
            _VERSIONS.get(self, "of no published version"),
            "Huang et al., ECCV 2022",
            "rife4:Rife4",
            {"settings": self},
            multiple=multiple,
            bytes_per_pixel=_BYTES * self.inputs,
            overlap=min(_WIDEST_OVERLAP, 4 * multiple),
        )


_BASE, _LITE, _FIVE = (192, 128, 96, 64), (128, 96, 64, 48), (192, 128, 96, 64, 32)
_USUAL, _COARSER, _COARSEST = (8, 4, 2, 1), (16, 8, 4, 2, 1), (32, 16, 8, 4, 1)

_VERSIONS = {
    Rife4Settings(_BASE, _USUAL, "prelu", 5): "4.0 or 4.1",
    Rife4Settings(_BASE, _USUAL, "leaky", 5): "4.2 to 4.4",
    Rife4Settings(_BASE, _USUAL, "beta", 20): "4.5",
    Rife4Settings(_BASE, _USUAL, "beta", 24): "4.6",
    Rife4Settings(_BASE, _USUAL, "beta", 24, 0, "pair", 16, 4): "4.7 to 4.9",
    Rife4Settings(_BASE, _USUAL, "beta", 24, 0, "list", 32, 8): "4.10 to 4.12",
    Rife4Settings(_LITE, _USUAL, "beta", 24, 0, "list", 32, 4): "4.12.lite or 4.13.lite",
    Rife4Settings(
        _BASE, _USUAL, "beta", 24, 0, "named", 32, 8
    ): "4.13 to 4.15, 4.17 to 4.19, or 4.24",
    Rife4Settings(_BASE, _USUAL, "beta", 24, 0, "named", 32, 8, 2): "4.14.lite",
    Rife4Settings(_LITE, _USUAL, "beta", 24, 0, "named", 16, 4): "4.15.lite to 4.17.lite",
    Rife4Settings((384, 192, 96, 48), _USUAL, "beta", 24, 0, "named", 32, 8): "4.20",
    Rife4Settings((256, 192, 96, 48), _USUAL, "beta", 52, 8, "named", 32, 8): "4.21 to 4.23",
    Rife4Settings((192, 128, 64, 32), _USUAL, "beta", 52, 8, "named", 16, 4): "4.22.lite",
    Rife4Settings(_FIVE, _COARSER, "beta", 52, 8, "named", 16, 4): "4.25 or 4.26",
    Rife4Settings((*_BASE, 24), _COARSEST, "beta", 52, 8, "named", 16, 4): "4.25.lite",
    Rife4Settings((384, 256, 192, 128, 64), _COARSER, "beta", 52, 8, "named", 16, 4): "4.25.heavy",
    Rife4Settings(_FIVE, _COARSER, "beta", 52, 8, "named", 16, 16): "4.26.heavy",
}

_LAYERS = {
    "pair": ("0", "1"),
    "list": ("0", "2", "4", "6"),
    "named": ("cnn0", "cnn1", "cnn2", "cnn3"),
}
"""Names of the convolutions of each kind of encoder."""


FAMILY = "RIFE"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the RIFE 4.x network that tensors show; None for other networks."""
    widths: tuple[int, ...] = ()
    while has(state, f"block{len(widths)}.conv0.1.0.weight", None, None, 3, 3):
        widths += (state[f"block{len(widths)}.conv0.1.0.weight"].shape[0],)
    if len(widths) not in (len(_USUAL), len(_COARSER)):
        return None
    scales = _USUAL if len(widths) == len(_USUAL) else _COARSER
    if widths[4:] == _LITE_LAST:
        scales = _COARSEST
    if has(state, "block0.lastconv.weight", None, FLOWS + MASK, 4, 4):
        style: Style = "prelu" if has(state, "block0.conv0.0.1.weight", None) else "leaky"
        return Rife4Settings(widths, scales, style, FLOWS + MASK).found()
    if not (
        has(state, "block1.lastconv.0.weight", None, None, 4, 4)
        and has(state, "block1.conv0.0.0.weight", None, None, 3, 3)
        and has(state, "block1.convblock.0.conv.weight", None, None, 3, 3)
    ):
        return None
    encoder, hidden, features = _encoder_of(state)
    inputs = state["block1.conv0.0.0.weight"].shape[1]
    handed = inputs - 2 * (COLOURS + features) - _TIME - FLOWS - MASK
    convolution = state["block1.convblock.0.conv.weight"].shape
    outputs = state["block1.lastconv.0.weight"].shape[1]
    if handed < 0 or outputs < 4 * (FLOWS + MASK + handed) or convolution[0] % convolution[1]:
        return None
    groups = convolution[0] // convolution[1]
    if any(width % groups for width in widths):
        return None
    coder = encoder, hidden, features
    return Rife4Settings(widths, scales, "beta", outputs, handed, *coder, groups).found()


def _encoder_of(state: StateDict) -> tuple[Encoder, int, int]:
    """Return the kind of the encoder, its hidden channels, and the channels of its result."""
    kinds: tuple[Encoder, ...] = ("pair", "list", "named")
    for kind in kinds:
        last = f"encode.{_LAYERS[kind][-1]}.weight"
        if has(state, last, None, None, 4, 4):
            return kind, *state[last].shape[:2]
    return "none", 0, 0


class Rife4(Published):
    """A RIFE 4.x network."""

    remembers = True

    def __init__(self, spec: ModelSpec, settings: Rife4Settings) -> None:
        super().__init__(spec)
        self._settings = settings
        estimate = FLOWS + MASK + settings.handed
        for number, width in enumerate(settings.widths):
            inputs = settings.inputs if number else settings.inputs - estimate
            made, groups, style = settings.outputs // 4, settings.groups, settings.style
            block = Block(inputs, width, estimate, made, groups=groups, style=style)
            self.add_module(f"block{number}", block)
        self.encode = None if settings.encoder == "none" else _Features(settings)

    def estimate(
        self, seen: list[Tensor], timestep: Tensor, scale: float, memo: Memo | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """See ``Published.estimate``."""
        motion, far = self._motion(seen, timestep, scale, memo)
        # Other devices than a CPU compute the doubled scales always, for a quarter of the time
        # more, because the CPU would have to wait for the decision.
        if far is not None and (far.device.type != "cpu" or far.any()):
            multiple = self.spec.multiple * max(2, round(2 / scale))
            wide = [pad_to_multiple(x, multiple) for x in seen]
            doubled, _ = self._motion(wide, timestep, scale / 2)
            height, width = seen[0].shape[2:]
            motion = torch.where(far, doubled[..., :height, :width], motion)
        return motion[:, :FLOWS], motion[:, FLOWS:].sigmoid(), None

    def _motion(
        self, seen: list[Tensor], timestep: Tensor, scale: float, memo: Memo | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the flows and the mask, (B, 5, H, W), of all blocks.

        For 4.0 and 4.1 also return the items, (B, 1, 1, 1), whose motion is so far after two blocks
        that the network starts again with all scales doubled; otherwise None.
        """
        encode = self.encode
        if encode is not None:
            features = once(memo, "features", lambda: encode(torch.cat(seen)).chunk(2))
            seen = [torch.cat(each, 1) for each in zip(seen, features, strict=True)]
        total = Estimates(adds_mask=self._settings.adds_mask)
        far = None
        for number, size in enumerate(self._settings.scales):
            factor = size / scale
            moved = total.moved(seen, factor) if number else [resize(x, 1 / factor) for x in seen]
            inputs = [x[:, :COLOURS] for x in moved]
            if encode is not None:
                inputs += [x[:, COLOURS:] for x in moved]
            inputs.append(timestep.expand(-1, 1, *moved[0].shape[2:]))
            if number:
                flows, others = total.reduced(factor)
                inputs += [others, flows]
            made = self.get_submodule(f"block{number}")(*inputs)
            total.add(made, factor if self._settings.style == "beta" else 2 * factor)
            if number == _DECISIVE and self._settings.style == "prelu":
                far = total.is_far(_FAR)
        flows, mask = total.reduced(1)
        return torch.cat((flows, mask[:, :MASK]), 1), far


class _Features(Fusible):
    """The encoder, which computes features of a picture at full size."""

    def __init__(self, settings: Rife4Settings) -> None:
        super().__init__()
        *names, last = _LAYERS[settings.encoder]
        hidden = settings.hidden
        for number, name in enumerate(names):
            conv = nn.Conv2d(hidden if number else COLOURS, hidden, 3, 1 if number else 2, 1)
            self.add_module(name, conv)
            if settings.encoder != "pair":
                self.add_module(f"active{number}", nn.LeakyReLU(SLOPE, True))
        self.add_module(last, nn.ConvTranspose2d(hidden, settings.features, 4, 2, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, 3, H, W) float32 to (B, features, H, W) float32."""
        hidden = joined([pictures], next(self.parameters()).dtype)
        for layer in self.children():
            hidden = layer(hidden)
        return hidden.float().contiguous()

    def fuse(self) -> None:
        for name, following in pairwise([*self._modules]):
            if following.startswith("active"):
                self.add_module(name, Active(self.get_submodule(name)))
                self.add_module(following, nn.Identity())
