"""Define IFRNet in three sizes: S, base and L.

Source: Kong et al., IFRNet: Intermediate Feature Refine Network for Efficient Frame
Interpolation, CVPR 2022 (arXiv 2205.14620; ltkong218/IFRNet, MIT). An encoder computes
features of both pictures at four sizes. Decoders, coarse to fine, estimate the flows
together with the features of the new picture, and at last a mask and a correction of the
colours.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import COLOURS
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, pad_to_multiple, resize, warp
from cloudconv.models.pair import Pair
from cloudconv.models.published import (
    FLOWS,
    MASK,
    Published,
    StateDict,
    colours_of,
    has,
    row,
    sides,
)

_LEVELS = 4
_SAMPLES = (0, 2, 3, 4)  # axes of an item's samples in pairs (2, B, 3, H, W)
_NAMES: dict[tuple[int, ...], str] = {
    (24, 36, 54, 72): "S",
    (32, 48, 72, 96): "base",
    (64, 96, 144, 192): "L",
}

FAMILY = "IFRNet"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the IFRNet that tensors show; None for other networks."""
    firsts = [f"encoder.pyramid{level + 1}.0.0.weight" for level in range(_LEVELS)]
    if not all(has(state, name, None, None, None, None) for name in firsts):
        return None
    widths = tuple(state[name].shape[0] for name in firsts)
    size = _NAMES.get(widths, "of no published size")
    limits = {"multiple": 16, "bytes_per_pixel": 300 + 24 * widths[0]}
    return row(state, FAMILY, size, "Kong et al., CVPR 2022", "ifrnet:Ifrnet", **limits)


class Ifrnet(Published):
    """An IFRNet of any size."""

    # Weights for Vimeo make the middle only, those for GoPro any time.
    middle_is_optional = True

    def estimate(self, seen: list[Tensor], pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Published.estimate``.

        Tiles get the mean of all samples of both whole pictures.
        """
        whole = pair.whole
        find = partial(self._mean, pair.scale)
        mean = None if whole is None else whole.once("mean", find)
        features = pair.once("features", partial(self._features, pair.scale, mean))
        flows = others = features[-1][:0]
        for level in reversed(range(_LEVELS)):
            f0, f1 = features[2 * level : 2 * level + 2]
            if level == _LEVELS - 1:
                inputs = [f0, f1, pair.timestep.expand(-1, 1, *f0.shape[2:])]
            else:
                warped = [
                    warp(f, flow)
                    for f, flow in zip((f0, f1), flows.chunk(2, 1), strict=True)
                ]
                inputs = [others, *warped, flows]
            decoded = self._decoded(f"decoder{level + 1}.convblock", inputs)
            change = decoded[:, :FLOWS].float()
            others = decoded[:, FLOWS:]
            flows = change + 2 * resize(flows, 2) if level < _LEVELS - 1 else change
        mask, residual = torch.split(others.float(), [MASK, COLOURS], 1)
        scale = pair.scale
        flows = resize(flows / scale, 1 / scale)
        mask = resize(mask.sigmoid(), 1 / scale)
        return flows, mask, resize(residual, 1 / scale)

    def _mean(self, scale: float, *pictures: Tensor) -> list[Tensor]:
        padded = [pad_to_multiple(x, self.multiple(scale)) for x in colours_of(*pictures)]
        return [torch.stack(padded).mean(_SAMPLES, keepdim=True)[0]]

    def _features(
        self, scale: float, mean: Sequence[Tensor] | None, *pictures: Tensor
    ) -> list[Tensor]:
        """Return features of x0 and x1, (B, C, h, w) each, at 1/2, 1/4 … of the size."""
        (own,) = mean or self._mean(scale, *pictures)
        centred = torch.stack(colours_of(*pictures)) - own
        features = [joined([resize(centred.flatten(0, 1), scale)], self.dtype)]
        for level in range(_LEVELS):
            name = f"encoder.pyramid{level + 1}"
            features.append(
                self.layer(f"{name}.1", self.layer(f"{name}.0", features[-1], 2))
            )
        return sides(features[1:])

    def _decoded(self, name: str, inputs: list[Tensor]) -> Tensor:
        x = result = self.layer(f"{name}.0", joined(inputs, self.dtype))
        for whole, side in ((1, 2), (3, 4)):
            result = self.layer(f"{name}.1.conv{whole}", result)
            result = self._with_side(f"{name}.1.conv{side}", result)
        result = self.conv(f"{name}.1.conv5", result).add_(x)
        return self.deconv(
            f"{name}.2", F.prelu(result, self.tensor(f"{name}.1.prelu.weight"))
        )

    def _with_side(self, name: str, x: Tensor) -> Tensor:
        """Return ``x`` with its last channels replaced by what a layer makes of them."""
        count = self.tensor(f"{name}.0.weight").shape[0]
        return torch.cat((x[:, :-count], self.layer(name, x[:, -count:])), 1)
