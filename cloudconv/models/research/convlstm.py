"""Forecast with convolutional LSTM layers, which keep a state from frame to frame.

Source: Shi et al., Convolutional LSTM Network, 2015 (arXiv 1506.04214). An encoder reads the frames
before the forecast. A decoder continues from the encoder's last state. Batch norm follows Ioffe and
Szegedy 2015 (arXiv 1502.03167). The decoder receives its own pictures during training too (no
teacher forcing), so that training and use have the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor
from cloudconv.models.research.layers import SLOPE, conv, zeroed

_WIDTH = 48
CellState = tuple[Tensor, Tensor]


class ConvLSTM(Predictor):
    """An encoder and a decoder of two recurrent layers each, at a quarter of the frame's size.

    ``look`` reduces a picture to that size. ``paint`` makes the change of the last picture, at full
    size.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.look = nn.Sequential(_Normed(3, 32, stride=2), _Normed(32, _WIDTH, stride=2))
        self.encoder = nn.ModuleList((_Cell(_WIDTH), _Cell(_WIDTH)))
        self.decoder = nn.ModuleList((_Cell(_WIDTH), _Cell(_WIDTH)))
        self.paint = nn.Sequential(
            _Normed(_WIDTH + 3 * 16, _WIDTH), zeroed(conv(_WIDTH, 3 * 16, 3)), nn.PixelShuffle(4)
        )

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        return next(self._steps(context, 1))

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        """Yield ``steps`` forecasts; the decoder reads each picture that it makes."""
        dtype = self.dtype
        states: list[CellState | None] = [None, None]
        for number in range(context.shape[1]):
            _through(self.encoder, self.look(_seen(context[:, number], dtype)), states)
        last = context[:, -1]
        for _ in range(steps):
            seen = _seen(last, dtype)
            features = _through(self.decoder, self.look(seen), states)
            change = self.paint(torch.cat((features, F.pixel_unshuffle(seen, 4)), 1))
            last = last + change.float()
            yield last


def _seen(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a picture in the range and the dtype of the network's input."""
    return picture.clamp(0, 1).to(dtype)


def _through(cells: nn.ModuleList, features: Tensor, states: list[CellState | None]) -> Tensor:
    """Return the features after all cells, and update their ``states``."""
    for number, cell in enumerate(cells):
        state: CellState = cell(features, states[number])
        states[number] = state
        features = state[0]
    return features


class _Normed(nn.Module):
    """A convolution, batch norm, and a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, 3, stride=stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(images)), SLOPE)


class _Cell(nn.Module):
    """One convolutional LSTM layer without peephole connections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = conv(2 * width, 4 * width, 3)

    def forward(self, images: Tensor, state: CellState | None) -> CellState:
        hidden, memory = (torch.zeros_like(images),) * 2 if state is None else state
        retain, write, show, new = self.gates(torch.cat((images, hidden), 1)).chunk(4, 1)
        # The added 1 opens the forget gate of an untrained cell, so that it retains its memory.
        memory = torch.sigmoid(retain + 1) * memory + torch.sigmoid(write) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(memory), memory


CONVLSTM = ModelSpec(
    name="convlstm",
    task="predict",
    context=4,
    multiple=4,
    network=ConvLSTM,
    origin="cloudconv; after earlier research projects and Shi et al. 2015 (arXiv 1506.04214)",
    domain="clouds, water and small motion",
    bytes_per_pixel=325,
    overlap=64,
    half_precision=True,
)
