"""What is measured on small pictures: motion, and what stands still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.methods.compositing import resized

_Floats = NDArray[np.float32]
_Bytes = NDArray[np.uint8]

LONGEST_SIDE = 480
"""Of the pictures that motion is measured on, in pixels."""

_SLOW = 0.15  # pixels of the small picture a frame; slower counts as standing still
_SLOW_SHARE = 0.01  # of the picture; a smaller region is part of what is around it
_SLOW_BLUR = 4.0  # pixels of the small picture


def analysis_size(height: int, width: int) -> tuple[int, int]:
    """Height and width for analysis: the same shape, the longest side at most 480."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def small_copy(picture: Tensor, size: tuple[int, int]) -> _Bytes:
    """A picture averaged over areas: (3, H, W) nominally in [0, 1] to (h, w, 3) uint8.

    What is no number becomes black.
    """
    height, width = size
    picture = picture.detach().float()
    if picture.shape[1:] != size:
        if picture.is_cuda:
            picture = F.interpolate(picture[None], size, mode="area")[0]
        else:
            # Five times as fast as torch, and exact where the factor is not whole.
            area, full = cv2.INTER_AREA, picture.cpu().numpy()
            planes = [cv2.resize(p, (width, height), interpolation=area) for p in full]
            picture = torch.from_numpy(np.stack(planes))
    levels = picture.nan_to_num(0, 1, 0).clamp_(0, 1).mul_(255).round_().byte()
    made: _Bytes = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return made


def grey(picture: _Bytes) -> _Bytes:
    """(h, w, 3) uint8 to (h, w)."""
    luma: _Bytes = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return luma


def resized_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """A field of displacements at another size: (B, 2, h, w) to (B, 2, H, W), pixels with it."""
    height, width = size
    if flow.shape[-2:] == (height, width):
        return flow
    factors = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])
    large = torch.stack([resized(field.float(), (height, width)) for field in flow])
    return large.mul_(factors[:, None, None])


def mean_flow(flows: Sequence[_Floats], shares: Sequence[Tensor | None]) -> _Floats:
    """The mean of fields (h, w, C), each where its share (h, w) says; None for everywhere.

    Zero where none of them says anything.
    """
    total: Any = np.zeros_like(flows[0])
    weight: Any = np.full((*flows[0].shape[:2], 1), 1e-6, np.float32)
    for flow, share in zip(flows, shares, strict=True):
        known = np.float32(1) if share is None else share.cpu().numpy()[..., None]
        total += known * flow
        weight += known
    mean: _Floats = total / weight
    return mean


def slow_parts(flows: Sequence[_Floats], shares: Sequence[Tensor | None]) -> _Floats:
    """Where nothing moves in any of the flows (h, w, 2): (h, w) float32, 0 or 1.

    Speed is averaged over time and blurred; connected regions over 1 % of the picture count.
    ``shares``: where each flow counts, as for :func:`mean_flow`.
    """
    height, width = flows[0].shape[:2]
    speed: Any = mean_flow([np.hypot(flow[..., :1], flow[..., 1:]) for flow in flows], shares)[
        ..., 0
    ]
    speed = cv2.GaussianBlur(speed, (0, 0), _SLOW_BLUR * max(height, width) / LONGEST_SIDE + 0.5)
    slow = (speed < _SLOW).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(slow)
    large = stats[:, cv2.CC_STAT_AREA] >= _SLOW_SHARE * height * width
    large[0] = False
    kept: _Floats = large[labels].astype(np.float32)
    return kept
