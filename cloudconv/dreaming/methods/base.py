"""Define the options of the modes of dreaming."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a dream; a mode ignores those that its description does not name.

    ``frames``: the number of new frames, at least 1. ``seed``: any integer from 0. ``loop``: the
    first frame of the output follows smoothly after the last one. ``loop_to``: this first frame,
    (3, H, W) RGB on the material's device, if the output begins with the source's frames; None if
    it begins with the dream. ``wind``: the motion of the sky, (dx, dy) in full-size pixels per
    frame. ``model``: the name or weights file of a predictor. ``dtype``: the precision of networks.
    """

    frames: int = 1
    seed: int = 0
    loop: bool = False
    loop_to: Tensor | None = None
    wind: tuple[float, float] | None = None
    model: str | None = None
    dtype: torch.dtype = torch.float32
