"""Define FILM.

Source: Reda et al., FILM: Frame Interpolation for Large Motion, ECCV 2022 (arXiv
2202.04901; google-research/frame-interpolation, Apache-2.0; names of tensors as in dajes'
frame-interpolation-pytorch). Features of all scales share their weights. Two flows are
estimated from coarse to fine. A decoder makes the new picture from features that parts of
both flows have moved.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.models.base import maps_of
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.convolutions import SLOPE
from cloudconv.models.ops import enlarged, joined, sampling_grid, warp
from cloudconv.models.pair import Pair
from cloudconv.models.published import Published, StateDict, has, row, sides

_LEVELS = 7  # sizes at which the flows are estimated
_FUSED = 5  # sizes that the decoder reads
_DEPTH = 4  # sizes of the features of one picture
_OWN = 3  # sizes, the finest ones, that have an estimator of their own
_ESTIMATING = 4  # convolutions of an estimator before the last

# Channels at the finest size, and of the flows' estimators.
_PUBLISHED = [64, 256, 128, 64, 32]
FAMILY = "FILM"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the FILM network that tensors show; None for other networks."""
    first = "extract.extract_sublevels.convs.0.0.0.weight"
    names = ["_predictor", *(f"_predictors.{k}" for k in range(_OWN))]
    flows = [f"predict_flow.{name}._convs.0.0.weight" for name in names]
    if not all(has(state, name, None, None, 3, 3) for name in (first, *flows)):
        return None
    widths = [state[name].shape[0] for name in (first, *flows)]
    size = "of the paper" if widths == _PUBLISHED else "of no published size"
    limits = {"multiple": 1 << (_LEVELS - 1), "bytes_per_pixel": 4730}
    return row(state, FAMILY, size, "Reda et al., ECCV 2022", "film:FilmNetwork", **limits)


class FilmNetwork(Published):
    """A FILM network of any size."""

    scale_option = carries_alpha = False
    middle_is_optional = True  # trained with triplets, it knows other timesteps by scaling

    def forward(self, pair: Pair, maps: bool = False) -> Tensor:
        """See ``Interpolator.forward``. Flows and warps are float32 in any dtype."""
        pictures = _pyramid(pair.x0, pair.x1)
        features = self._features(pictures)

        def flows_of(x0: Tensor, x1: Tensor) -> list[Tensor]:
            is_all = len(x0) == len(pair.sides[0])
            return sides(
                self._flows(features if is_all else self._features(_pyramid(x0, x1)))
            )

        # Only the flows are kept: the features of two pairs would need more memory.
        flows = pair.once("flows", flows_of)
        aligned: list[list[Tensor]] = []
        for level in range(_FUSED):
            forward, backward = flows[2 * level : 2 * level + 2]
            parts = backward * pair.timestep, forward * (1 - pair.timestep)
            colours = pictures[level].chunk(2)
            details = features[level].float().chunk(2)
            warped = [
                warp(torch.cat(inputs, 1), flow)
                for *inputs, flow in zip(colours, details, parts, strict=True)
            ]
            aligned.append([*warped, *parts])
        result = self._fused(aligned)
        if not maps:
            return result
        grids = [sampling_grid(flow, *flow.shape[2:]) for flow in aligned[0][2:]]
        return torch.cat((result, maps_of(aligned[0][:2], grids)), 1)

    def _active(self, name: str, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.conv(name, x), SLOPE)

    def _features(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        levels: list[list[Tensor]] = [[] for _ in pictures]
        for start, picture in enumerate(pictures):
            x = joined([picture], self.dtype)
            for depth in range(min(_DEPTH, len(pictures) - start)):
                if depth:
                    x = F.avg_pool2d(x, 2)
                for number in range(2):
                    x = self._active(
                        f"extract.extract_sublevels.convs.{depth}.{number}.0", x
                    )
                levels[start + depth].insert(0, x)
        return [torch.cat(level, 1) for level in levels]

    def _flows(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return (2B, 2, h, w) float32 per size: flows from the first, then the second.

        ``features``: at each size, (2B, C, h, w), those of the first pictures before the
        second's.
        """
        flows: list[Tensor] = []
        for level in reversed(range(len(features))):
            own = features[level]
            other = torch.cat(features[level].chunk(2)[::-1]).float()
            flow = enlarged(2 * flows[0], own.shape[2:]) if flows else None
            x = joined([own, other if flow is None else warp(other, flow)], self.dtype)
            name = "_predictor" if level >= _OWN else f"_predictors.{_OWN - 1 - level}"
            for number in range(_ESTIMATING):
                x = self._active(f"predict_flow.{name}._convs.{number}.0", x)
            x = (
                self.conv(f"predict_flow.{name}._convs.{_ESTIMATING}.0", x)
                .float()
                .contiguous()
            )
            flows.insert(0, x if flow is None else x + flow)
        return flows

    def _fused(self, aligned: Sequence[Sequence[Tensor]]) -> Tensor:
        x = joined(aligned[-1], self.dtype)
        for number, parts in enumerate(reversed(aligned[:-1])):
            name = f"fuse.convs.{number}"
            x = F.interpolate(x, parts[0].shape[2:], mode="nearest")
            x = self.conv(f"{name}.0.0", F.pad(x, (0, 1, 0, 1)))  # a kernel of 2 x 2
            x = joined([*parts, x], self.dtype)
            for k in (1, 2):
                x = self._active(f"{name}.{k}.0", x)
        return self.conv("fuse.output_conv", x).float().contiguous()


def _pyramid(x0: Tensor, x1: Tensor) -> list[Tensor]:
    pictures = [torch.cat((x0, x1)).clamp(0, 1)]
    for _ in range(_LEVELS - 1):
        pictures.append(F.avg_pool2d(pictures[-1], 2))
    return pictures
