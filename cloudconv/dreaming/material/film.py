"""The real frames of a clip: full-size pictures, small copies, and the flow between neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.pictures import analysis_size, grey, small_copy
from cloudconv.media.color import rgb_of
from cloudconv.media.frame import Frame
from cloudconv.models.flow import measured_flow

_Floats = NDArray[np.float32]
_Bytes = NDArray[np.uint8]

_HALF = np.float16


class Film:
    """The real frames of one scene; small copies and flow are cached.

    Args:
        frames: the frames without repeats, oldest first; at least one.
        device: the device of full-size pictures.
        size: height and width of a full-size picture.
    """

    def __init__(
        self, frames: Sequence[Frame], device: torch.device, size: tuple[int, int]
    ) -> None:
        """Store the frames without converting them."""
        self.frames = tuple(frames)
        self.device = device
        self.size = size
        self.small_size = analysis_size(*size)
        self._smalls: dict[int, _Bytes] = {}
        self._flows: dict[int, NDArray[np.float16]] = {}
        self._quick_flows: dict[int, NDArray[np.float16]] = {}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def picture(self, number: int) -> Tensor:
        """Return a frame at full size: (3, H, W) float32 RGB, nominally in [0, 1]."""
        return rgb_of(self.frames[number], self.device)

    def small(self, number: int) -> _Bytes:
        """Return a frame for analysis: (h, w, 3) uint8, the longest side at most 480."""
        kept = self._smalls.get(number)
        if kept is None:
            kept = self._smalls[number] = small_copy(self.picture(number), self.small_size)
        return kept

    def hidden(self, number: int) -> tuple[float, float]:
        """Return how much of a frame's left and right is unknown, in widths of the picture."""
        return 0.0, 0.0

    def flow(self, number: int, *, quick: bool = False) -> _Floats:
        """Return the backward flow from a frame, from 1 on, to the frame before it.

        ``quick``: a rougher flow in less time.

        Returns:
            (h, w, 2) float32, (dx, dy) in pixels of the small picture.
        """
        flows = self._quick_flows if quick else self._flows
        kept = flows.get(number)
        if kept is None:
            later, earlier = (grey(self.small(k)) for k in (number, number - 1))
            # Half precision takes half the memory, and is finer than flow can be measured.
            kept = flows[number] = measured_flow(later, earlier, quick=quick).astype(_HALF)
        return kept.astype(np.float32)
