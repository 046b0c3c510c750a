"""Define IFRNet in three sizes: S, base and L.

Source: Kong et al., IFRNet: Intermediate Feature Refine Network for Efficient Frame Interpolation,
CVPR 2022 (arXiv 2205.14620; ltkong218/IFRNet, MIT). An encoder computes features of both pictures
at four sizes. Decoders, coarse to fine, estimate the flows together with the features of the new
picture, and at last a mask and a correction of the colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, Memo, once
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, pad_to_multiple, resize, warp
from cloudconv.models.published import Published, StateDict, has, row
from cloudconv.models.published.unet import layer

_LEVELS = 4
_FLOWS, _MASK, _TIME = 4, 1, 1
_NAMES: dict[tuple[int, ...], str] = {
    (24, 36, 54, 72): "S",
    (32, 48, 72, 96): "base",
    (64, 96, 144, 192): "L",
}


FAMILY = "IFRNet"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the IFRNet that tensors show; None for other networks."""
    firsts = [f"encoder.pyramid{level + 1}.0.0.weight" for level in range(_LEVELS)]
    side = "decoder4.convblock.1.conv2.0.weight"
    if not all(has(state, name, None, None, None, None) for name in (*firsts, side)):
        return None
    widths = tuple(state[name].shape[0] for name in firsts)
    kernel = state[firsts[0]].shape[2]
    if kernel % 2 == 0:
        return None
    return row(
        FAMILY,
        _NAMES.get(widths, "of no published size"),
        "Kong et al., CVPR 2022",
        "ifrnet:Ifrnet",
        {"widths": widths, "side": state[side].shape[0], "kernel": kernel},
        multiple=16,
        bytes_per_pixel=300 + 24 * widths[0],
    )


class Ifrnet(Published):
    """An IFRNet with ``widths`` channels of the features at half, a quarter … of the size.

    The side branch of a residual block changes ``side`` channels. ``kernel`` is the side of the
    first convolution's kernel.
    """

    remembers = True
    middle_is_optional = True  # weights for Vimeo make the middle only, those for GoPro any time

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...], side: int, kernel: int) -> None:
        super().__init__(spec)
        self.encoder = _Encoder(widths, kernel)
        coarser = [*widths[1:], 0]
        for level, width in enumerate(widths):
            # Both pictures' features, and the new picture's from the coarser decoder.
            hidden = 3 * width if coarser[level] else 2 * width
            inputs = hidden + (_FLOWS if coarser[level] else _TIME)
            outputs = _FLOWS + (widths[level - 1] if level else _MASK + COLOURS)
            self.add_module(f"decoder{level + 1}", _Decoder(inputs, hidden, outputs, side))

    def overall(self, pictures: Sequence[Tensor], scale: float) -> dict[str, Tensor]:
        """See ``Interpolator.overall``."""
        padded = [pad_to_multiple(x[:, :COLOURS], self.multiple(scale)) for x in pictures]
        return {"mean": _mean(torch.stack(padded).float().clamp(0, 1))}

    def estimate(
        self,
        seen: list[Tensor],
        timestep: Tensor,
        scale: float,
        mean: Tensor | None = None,
        memo: Memo | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Published.estimate``.

        ``mean``: of all samples of both whole pictures, (B, 1, 1, 1); None if these are whole.
        """
        features = once(memo, "features", lambda: self._features(torch.stack(seen), scale, mean))
        flows, others = features[-1][:0], features[-1][:0]
        for level in reversed(range(_LEVELS)):
            f0, f1 = features[level].chunk(2)
            if level == _LEVELS - 1:
                inputs = [f0, f1, timestep.expand(-1, 1, *f0.shape[2:])]
            else:
                moved = [warp(f, flow) for f, flow in zip((f0, f1), flows.chunk(2, 1), strict=True)]
                inputs = [others, *moved, flows]
            made = self.get_submodule(f"decoder{level + 1}")(*inputs)
            change, others = made[:, :_FLOWS].float(), made[:, _FLOWS:]
            flows = change + 2 * resize(flows, 2) if level < _LEVELS - 1 else change
        mask, residual = torch.split(others.float(), [_MASK, COLOURS], 1)
        flows, mask = resize(flows / scale, 1 / scale), resize(mask.sigmoid(), 1 / scale)
        return flows, mask, resize(residual, 1 / scale)

    def _features(self, pair: Tensor, scale: float, mean: Tensor | None) -> list[Tensor]:
        mean = _mean(pair) if mean is None else mean
        found: list[Tensor] = self.encoder(resize((pair - mean).flatten(0, 1), scale))
        return found


def _mean(pair: Tensor) -> Tensor:
    """Return the mean of each item of (2, B, 3, H, W): (B, 1, 1, 1)."""
    return pair.mean((0, 2, 3, 4), keepdim=True)[0]


class _Encoder(nn.Module):
    """Features of a picture at four sizes."""

    def __init__(self, widths: tuple[int, ...], kernel: int) -> None:
        super().__init__()
        inputs = COLOURS
        for level, width in enumerate(widths):
            side = 3 if level else kernel
            pyramid = nn.Sequential(layer(inputs, width, 2, side), layer(width, width))
            self.add_module(f"pyramid{level + 1}", pyramid)
            inputs = width

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) float32 to features at half, a quarter … of the size."""
        features = [joined([pictures], next(self.parameters()).dtype)]
        for level in range(_LEVELS):
            features.append(self.get_submodule(f"pyramid{level + 1}")(features[-1]))
        return features[1:]


class _Decoder(nn.Module):
    """A decoder, which doubles the size."""

    def __init__(self, inputs: int, hidden: int, outputs: int, side: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            layer(inputs, hidden),
            _Residual(hidden, side),
            nn.ConvTranspose2d(hidden, outputs, 4, 2, 1),
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map inputs, (B, C, h, w), to (B, outputs, 2h, 2w)."""
        made: Tensor = self.convblock(joined(inputs, next(self.parameters()).dtype))
        return made


class _Residual(nn.Module):
    """A residual block, whose last ``side`` channels pass through further layers."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self._side = side
        self.conv1, self.conv3 = layer(width, width), layer(width, width)
        self.conv2, self.conv4 = layer(side, side), layer(side, side)
        self.conv5 = nn.Conv2d(width, width, 3, 1, 1)
        self.prelu = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        made = self._with_side(self.conv1(x), self.conv2)
        made = self._with_side(self.conv3(made), self.conv4)
        result: Tensor = self.prelu(self.conv5(made).add_(x))
        return result

    def _with_side(self, x: Tensor, layers: nn.Module) -> Tensor:
        """Return ``x`` with its last channels replaced by what the layers make of them."""
        if torch.is_grad_enabled():
            return torch.cat((x[:, : -self._side], layers(x[:, -self._side :])), 1)
        side = x[:, -self._side :]
        side.copy_(layers(side))
        return x
