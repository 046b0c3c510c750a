"""Define FILM.

Source: Reda et al., FILM: Frame Interpolation for Large Motion, ECCV 2022 (arXiv 2202.04901;
google-research/frame-interpolation, Apache-2.0; names of tensors as in dajes'
frame-interpolation-pytorch). Features of all scales share their weights. Two flows are estimated
from coarse to fine. A decoder makes the new picture of the pictures and features that parts of both
flows move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import COLOURS, Interpolator, Memo, once
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import enlarged, joined, warp
from cloudconv.models.published import StateDict, has, row

_LEVELS = 7  # sizes at which the flows are estimated
_FUSED = 5  # sizes that the decoder reads
_DEPTH = 4  # sizes of the features of one picture
_OWN = 3  # sizes, the finest ones, that have an estimator of their own
_FLOW = 2  # channels
_SLOPE = 0.2


_PUBLISHED = {"width": 64, "flow_widths": (256, 128, 64, 32)}
FAMILY = "FILM"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the FILM network that tensors show; None for other networks."""
    first = "extract.extract_sublevels.convs.0.0.0.weight"
    names = ["_predictor", *(f"_predictors.{k}" for k in range(_OWN))]
    flows = [f"predict_flow.{name}._convs.0.0.weight" for name in names]
    if not all(has(state, name, None, None, 3, 3) for name in (first, *flows)):
        return None
    widths = tuple(state[name].shape[0] for name in flows)
    options = {"width": state[first].shape[0], "flow_widths": widths}
    return row(
        FAMILY,
        "of the paper" if options == _PUBLISHED else "of no published size",
        "Reda et al., ECCV 2022",
        "film:FilmNetwork",
        options,
        multiple=1 << (_LEVELS - 1),
        bytes_per_pixel=4030,
        gpu_bytes_per_pixel=4730,
    )


class _Conv(nn.Sequential):
    """A convolution that keeps the size, and perhaps a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, is_active: bool = True) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, padding=(kernel - 1) // 2))
        self._is_even, self._is_active = kernel % 2 == 0, is_active

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        made: Tensor = self[0](F.pad(x, (0, 1, 0, 1)) if self._is_even else x)
        return F.leaky_relu_(made, _SLOPE) if self._is_active else made


class FilmNetwork(Interpolator):
    """A FILM network with ``width`` channels of the features at the finest size.

    ``flow_widths`` are the channels of the estimators of the flow, coarse to fine.
    """

    fallback = remembers = True
    middle_is_optional = True  # trained with triplets, it knows other timesteps by scaling

    def __init__(self, spec: ModelSpec, width: int, flow_widths: tuple[int, ...]) -> None:
        super().__init__(spec)
        self.extract = _Extract(width)
        self.predict_flow = _Flows(width, flow_widths)
        self.fuse = _Fuse(width)

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        timestep: Tensor,
        scale: float = 1.0,
        leftover: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        """See ``Interpolator.forward``. Flows and warps are float32 in any dtype."""
        pictures = [torch.cat((x0, x1)).clamp(0, 1)]
        for _ in range(_LEVELS - 1):
            pictures.append(F.avg_pool2d(pictures[-1], 2))
        features = self.extract(pictures)
        # The features would need more memory than the flows, for two pairs.
        flows = once(memo, "flows", lambda: self.predict_flow(features))
        aligned: list[list[Tensor]] = []
        for level in range(_FUSED):
            forward, backward = flows[level].chunk(2)
            parts = backward * timestep, forward * (1 - timestep)
            shown, known = pictures[level].chunk(2), features[level].float().chunk(2)
            moved = [
                warp(torch.cat(each, 1), flow)
                for *each, flow in zip(shown, known, parts, strict=True)
            ]
            aligned.append([*moved, *parts])
        result: Tensor = self.fuse(aligned)
        if not leftover:
            return result
        first, second = (x[:, :COLOURS] for x in aligned[0][:2])
        return torch.cat((result, (first - second).abs().mean(1, keepdim=True)), 1)


class _Extract(nn.Module):
    """Features of a picture at all sizes, which have the same meaning at most sizes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        levels = []
        inputs = COLOURS
        for level in range(_DEPTH):
            wide = width << level
            levels.append(nn.Sequential(_Conv(inputs, wide, 3), _Conv(wide, wide, 3)))
            inputs = wide
        self.extract_sublevels = nn.ModuleDict({"convs": nn.ModuleList(levels)})

    def forward(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Map pictures, (B, 3, h, w), to features of the same sizes."""
        convs: Any = self.extract_sublevels["convs"]
        dtype = next(self.parameters()).dtype
        found: list[list[Tensor]] = [[] for _ in pictures]
        for start, picture in enumerate(pictures):
            x = joined([picture], dtype)
            for level in range(start, min(start + _DEPTH, len(pictures))):
                if level > start:
                    x = F.avg_pool2d(x, 2)
                x = convs[level - start](x)
                found[level].insert(0, x)
        return [torch.cat(each, 1) for each in found]


class _Flows(nn.Module):
    """Flows between two pictures, coarse to fine."""

    def __init__(self, width: int, flow_widths: tuple[int, ...]) -> None:
        super().__init__()
        widths = [width * ((1 << (k + 1)) - 1) for k in range(_DEPTH)]
        coarse, *own = (
            _Estimator(2 * features, flow)
            for features, flow in zip(reversed(widths), flow_widths, strict=True)
        )
        self._predictor, self._predictors = coarse, nn.ModuleList(own)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the flow at each size, (2B, 2, h, w) float32: from the first, from the second.

        ``features``: at each size, (2B, C, h, w), those of the first pictures before the second's.
        """
        flows: list[Tensor] = []
        for level in reversed(range(len(features))):
            own, other = features[level], torch.cat(features[level].chunk(2)[::-1]).float()
            estimate = self._predictor if level >= _OWN else self._predictors[_OWN - 1 - level]
            if flows:
                flow = enlarged(2 * flows[0], own.shape[2:])
                flows.insert(0, estimate(own, warp(other, flow)) + flow)
            else:
                flows.append(estimate(own, other))
        return flows


class _Estimator(nn.Module):
    """Convolutions that estimate a flow, or its correction."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self._convs = nn.Sequential(
            _Conv(inputs, width, 3),
            _Conv(width, width, 3),
            _Conv(width, width, 3),
            _Conv(width, width // 2, 1),
            _Conv(width // 2, _FLOW, 1, is_active=False),
        )

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Map features, (B, C, h, w) each, to (B, 2, h, w) float32."""
        made: Tensor = self._convs(joined([own, other], next(self.parameters()).dtype))
        return made.float().contiguous()


class _Fuse(nn.Module):
    """The decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        read = [
            2 * (width * ((1 << min(k + 1, _DEPTH)) - 1) + COLOURS + _FLOW) for k in range(_FUSED)
        ]
        levels = []
        inputs = read[-1]
        for level in reversed(range(_FUSED - 1)):
            wide = width << min(level, _OWN)
            levels.append(
                nn.ModuleList(
                    (
                        _Conv(inputs, wide, 2, is_active=False),
                        _Conv(read[level] + wide, wide, 3),
                        _Conv(wide, wide, 3),
                    )
                )
            )
            inputs = wide
        self.convs = nn.ModuleList(levels)
        self.output_conv = nn.Conv2d(inputs, COLOURS, 1)

    def forward(self, aligned: Sequence[Sequence[Tensor]]) -> Tensor:
        """Map the parts of each size, (B, C, h, w), to (B, 3, H, W) float32."""
        dtype = self.output_conv.weight.dtype
        x = joined(aligned[-1], dtype)
        for parts, layers in zip(reversed(aligned[:-1]), self.convs, strict=True):
            assert isinstance(layers, nn.ModuleList)
            x = layers[0](F.interpolate(x, parts[0].shape[2:], mode="nearest"))
            x = layers[2](layers[1](joined([*parts, x], dtype)))
        made: Tensor = self.output_conv(x)
        return made.float().contiguous()
