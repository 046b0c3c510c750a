"""Blending in the place of motion that explains too little.

Moving both pictures to the same moment leaves little of their difference where the motion is right.
Where nearly all of it is still there (noise, flicker, near-repeats, small things over a still
ground), moving pixels costs more than it gains. The whole picture decides, so that no seam shows.
"""

from __future__ import annotations

from torch import Tensor

from cloudconv.models.base import COLOURS

# Shares of the difference that the motion leaves over. Found on one set of real clips, confirmed on
# nine others.
TRUSTED, DOUBTED = 0.65, 0.85


def settle(result: Tensor, x0: Tensor, x1: Tensor, timestep: Tensor) -> Tensor:
    """The model's pictures where its motion can be trusted, blends where it cannot.

    Args:
        result: (B, C + 1, H, W), pictures and what is left over, from
            ``Interpolator.interpolate``.
        x0, x1: (B, C, H, W), the pictures that it was made from; colours are the first three.
        timestep: (B,) in [0, 1].

    Returns:
        (B, C, H, W): a blend in full from a leftover share of ``DOUBTED`` on, in part from
        ``TRUSTED`` on.
    """
    left = result[:, -1:].mean((1, 2, 3))
    there = (x0 - x1)[:, :COLOURS].abs().mean((1, 2, 3)).clamp_min(1e-6)
    doubt = ((left / there - TRUSTED) / (DOUBTED - TRUSTED)).clamp(0, 1).view(-1, 1, 1, 1)
    # A GPU would have to wait for the answer.
    if result.device.type == "cpu" and not bool(doubt.any()):
        return result[:, :-1]
    blend = x0 + (x1 - x0) * timestep.to(x0).view(-1, 1, 1, 1)
    return result[:, :-1].lerp(blend, doubt)
