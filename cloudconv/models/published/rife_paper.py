"""Define the networks of RIFE's paper: RIFE, which makes the middle, and RIFEm, for any timestep.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294; hzwer/ECCV2022-RIFE, MIT). Three blocks, coarse to fine, estimate two
backward flows and a mask. A further network corrects the mixed picture.
"""

from __future__ import annotations

from torch import Tensor

from cloudconv.models.base import COLOURS, Memo
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, resize
from cloudconv.models.published import StateDict, has, row, shapes
from cloudconv.models.published.estimates import FLOWS, MASK, Estimates
from cloudconv.models.published.layers import moved_features
from cloudconv.models.published.rife4 import Rife4

_SCALES = (4, 2, 1)
_LEVELS = 4  # sizes of the features
_FIRST = "block0.conv0.0.0.weight"

FAMILY = "RIFE"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the network of RIFE's paper that tensors show; None for others."""
    last = (f"block{k}.lastconv.weight" for k in range(len(_SCALES)))
    if not all(has(state, name, None, FLOWS + MASK, 4, 4) for name in last):
        return None
    if not has(state, _FIRST, None, None, 3, 3) or "contextnet.conv1.conv1.0.weight" not in state:
        return None
    reads_time = state[_FIRST].shape[1] > 2 * COLOURS
    return row(
        "RIFEm" if reads_time else FAMILY,
        "of the paper",
        "Huang et al., ECCV 2022",
        "rife_paper:RifePaper",
        {"shapes": shapes(state)},
        multiple=32,
        bytes_per_pixel=850,
        arbitrary_timestep=reads_time,
    )


class RifePaper(Rife4):
    """A network of RIFE's paper, with blocks as in 4.0.

    The first block shows whether it reads the timestep (RIFEm).
    """

    remembers = False

    def estimate(
        self, seen: list[Tensor], timestep: Tensor, scale: float, memo: Memo | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Published.estimate``."""
        total = Estimates(adds_mask=True)
        reads_time = self.tensor(_FIRST).shape[1] > 2 * COLOURS
        for number, size in enumerate(_SCALES):
            factor = size / scale
            inputs = [resize(x, 1 / factor) for x in seen]
            if reads_time:
                inputs.append(timestep.expand(-1, 1, *inputs[0].shape[2:]))
            if number:
                flows, mask = total.reduced(factor)
                inputs += [*total.moved(seen, factor), mask, flows]
            total.add(self.block(f"block{number}", inputs), 2 * factor)
        flows, mask = total.reduced(1)
        features = [self._context(x, f) for x, f in zip(seen, flows.chunk(2, 1), strict=True)]
        first = [*seen, *total.moved(seen, 1), mask, flows]
        residual = self.correction(first, list(zip(*features, strict=True)))
        return flows, mask.sigmoid(), residual

    def _context(self, picture: Tensor, flow: Tensor) -> list[Tensor]:
        """Return features at half, a quarter … of the picture's size, moved by a flow."""
        features = [joined([picture], self.dtype)]
        for level in range(_LEVELS):
            features.append(self.halved(f"contextnet.conv{level + 1}", features[-1]))
        return moved_features(features[1:], resize(flow, 0.5) * 0.5)
