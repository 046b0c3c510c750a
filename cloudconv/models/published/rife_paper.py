"""Define the networks of RIFE's paper: RIFE, which makes the middle, and RIFEm, for any timestep.

Source: Huang et al., Real-Time Intermediate Flow Estimation for Video Frame Interpolation, ECCV
2022 (arXiv 2011.06294; hzwer/ECCV2022-RIFE, MIT). Three blocks, coarse to fine, estimate two
backward flows and a mask. A further network corrects the mixed picture.
"""

from __future__ import annotations

from torch import Tensor, nn

from cloudconv.models.base import COLOURS
from cloudconv.models.blocks import Block
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import joined, resize
from cloudconv.models.published import Published, StateDict, has, row
from cloudconv.models.published.estimates import FLOWS, MASK, Estimates
from cloudconv.models.published.unet import TwoLayers, Unet, moved_features

_SCALES = (4, 2, 1)
_WIDTH = 16
_LEVELS = 4


FAMILY = "RIFE"


def detect(state: StateDict) -> ModelSpec | None:
    """Return the network of RIFE's paper that tensors show; None for others."""
    last = (f"block{k}.lastconv.weight" for k in range(len(_SCALES)))
    if not all(has(state, name, None, FLOWS + MASK, 4, 4) for name in last):
        return None
    first = "block0.conv0.0.0.weight"
    if not has(state, first, None, None, 3, 3) or "contextnet.conv1.conv1.0.weight" not in state:
        return None
    widths = tuple(state[f"block{k}.lastconv.weight"].shape[0] for k in range(len(_SCALES)))
    reads_time = state[first].shape[1] > 2 * COLOURS
    return row(
        "RIFEm" if reads_time else FAMILY,
        "of the paper",
        "Huang et al., ECCV 2022",
        "rife_paper:RifePaper",
        {"widths": widths, "reads_time": reads_time},
        multiple=32,
        bytes_per_pixel=850,
        arbitrary_timestep=reads_time,
    )


class RifePaper(Published):
    """A network of RIFE's paper; ``widths`` are the channels of each block's hidden layers.

    ``reads_time``: whether the network reads the timestep (RIFEm); RIFE makes the middle only.
    """

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...], *, reads_time: bool) -> None:
        super().__init__(spec)
        self._reads_time = reads_time
        for number, width in enumerate(widths):
            inputs = 2 * COLOURS + reads_time
            if number:
                inputs += 2 * COLOURS + MASK + FLOWS
            self.add_module(f"block{number}", Block(inputs, width, FLOWS + MASK, style="prelu"))
        self.contextnet = _Context()
        self.unet = Unet(4 * COLOURS + MASK + FLOWS, _WIDTH)

    def estimate(
        self, seen: list[Tensor], timestep: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Published.estimate``."""
        total = Estimates(seen[0].shape[2:], adds_mask=True)
        for number, size in enumerate(_SCALES):
            factor = size / scale
            inputs = [resize(x, 1 / factor) for x in seen]
            if self._reads_time:
                inputs.append(timestep.expand(-1, 1, *inputs[0].shape[2:]))
            if number:
                flows, mask = total.reduced(factor)
                inputs += [*total.moved(seen, factor), mask, flows]
            total.add(self.get_submodule(f"block{number}")(*inputs), 2 * factor)
        flows, mask = total.reduced(1)
        features = [
            self.contextnet(x, flow) for x, flow in zip(seen, flows.chunk(2, 1), strict=True)
        ]
        first = [*seen, *total.moved(seen, 1), mask, flows]
        residual = self.unet(first, list(zip(*features, strict=True)))
        return flows, mask.sigmoid(), residual


class _Context(nn.Module):
    """Features of a picture at four sizes, moved by a flow."""

    def __init__(self) -> None:
        super().__init__()
        for level in range(_LEVELS):
            inputs = _WIDTH << (level - 1) if level else COLOURS
            self.add_module(f"conv{level + 1}", TwoLayers(inputs, _WIDTH << level))

    def forward(self, picture: Tensor, flow: Tensor) -> list[Tensor]:
        """Return (B, C, h, w) float32 at half, a quarter … of the picture's size."""
        features = [joined([picture], next(self.parameters()).dtype)]
        for level in range(_LEVELS):
            features.append(self.get_submodule(f"conv{level + 1}")(features[-1]))
        return moved_features(features[1:], resize(flow, 0.5) * 0.5)
