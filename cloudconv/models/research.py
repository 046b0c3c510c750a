"""Define the networks of the earlier research projects from which cloudconv developed.

Convolutions (``Conv…``) forecast; for one convolution, training finds the linear filter of
the last frames with the lowest mean error, which can continue a steady drift and nothing
else. The pyramid is that of Burt and Adelson 1983: a small kernel on a coarse level covers
the same distance as a very large one on the full picture. U-Nets (Ronneberger et al. 2015,
arXiv 1505.04597) run on pictures far larger than those of their training; such forecasts
look painted. The LSTM (Shi et al. 2015, arXiv 1506.04214) gets its own pictures during
training too. Autoencoders halve the picture and double the channels, and reverse this; skip
connections carry the detail that the narrow middle loses, and noise in them makes the deep
layers learn it. ``MultiscaleGan`` follows Mathieu et al. 2015 (arXiv 1511.05440). Before
training each predictor repeats the last frame.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import Interpolator, Predictor, Reconstructor
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.convolutions import SLOPE
from cloudconv.models.ops import enlarged, laplacian_pyramid, shrunk_like
from cloudconv.models.pair import Pair


def conv(
    inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution that keeps the size, or divides it by ``stride``."""
    return nn.Conv2d(
        inputs, outputs, side, stride, side // 2, groups=groups, padding_mode="replicate"
    )


def active(layer: nn.Module) -> nn.Sequential:
    """Return ``layer`` followed by a leaky rectifier."""
    return nn.Sequential(layer, nn.LeakyReLU(SLOPE))


def zeroed(layer: nn.Module) -> nn.Module:
    """Set all weights of ``layer`` to zero, so that a network starts by copying a frame."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def repeating(layer: nn.Conv2d, scatter: float = 0.0) -> nn.Conv2d:
    """Set the weights of ``layer`` to repeat its last three input channels, and return it.

    The outputs are a multiple of three, in the order red, green, blue. ``scatter`` is the
    standard deviation of noise on the weights: without it, kernels that start equal would
    learn the same.
    """
    middle = layer.kernel_size[0] // 2
    with torch.no_grad():
        layer.weight.normal_(0, scatter)
        for output in range(layer.out_channels):
            # A layer with one group per colour has a single input channel per output.
            source = layer.weight.shape[1] - 3 + output % 3 if layer.groups == 1 else 0
            layer.weight[output, source, middle, middle] += 1
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def applied(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's output for ``images`` as float32, computed in its own dtype."""
    dtype = next(network.parameters()).dtype
    result: Tensor = network(images.to(dtype))
    return result.float()


_SIDE = 11


class Conv(Predictor):
    """One convolution of all channels of the last frames, or one per channel of the last.

    With a convolution for each channel (3 groups), the channels of repeated forecasts drift
    apart into vivid colours. Dreams can use this effect.
    """

    def __init__(self, spec: ModelSpec, groups: int = 1) -> None:
        super().__init__(spec)
        self.kernel = repeating(conv(3 * spec.context, 3, _SIDE, groups=groups))

    def forward(self, context: Tensor) -> Tensor:
        return applied(self.kernel, context.flatten(1, 2))


class ConvModes(Predictor):
    """Kernels for one direction of motion each, whose results a small network mixes.

    Source of such kernels: Jia et al., Dynamic Filter Networks, 2016 (arXiv 1605.09673).
    """

    modes = 8

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        inputs = 3 * self.spec.context
        self.kernel = repeating(conv(inputs, 3 * self.modes, _SIDE), scatter=1e-3)
        self.gate = nn.Sequential(
            active(conv(inputs, 24, 5, stride=2)),
            active(conv(24, 24, 5)),
            conv(24, self.modes, 3),
        )

    def forward(self, context: Tensor) -> Tensor:
        stacked = context.flatten(1, 2)
        modes = applied(self.kernel, stacked).view(
            len(stacked), self.modes, 3, *stacked.shape[2:]
        )
        small = applied(self.gate, stacked.clamp(0, 1))
        gate = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        return (gate.softmax(1)[:, :, None] * modes).sum(1)


class ConvDeep(Predictor):
    """Four convolutions with non-linearities; their result is added to the last frame."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.layers = nn.Sequential(
            active(conv(3 * self.spec.context, 32, 7)),
            active(conv(32, 32, 5)),
            active(conv(32, 32, 5)),
            zeroed(conv(32, 3, 5)),
        )

    def forward(self, context: Tensor) -> Tensor:
        return context[:, -1] + applied(self.layers, context.flatten(1, 2).clamp(0, 1))


class ConvRecurrent(Predictor):
    """A convolution of the last frame and of a state that summarises earlier frames."""

    width = 16

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.remember = conv(self.width + 3, self.width, 7)
        self.kernel = repeating(conv(self.width + 3, 3, _SIDE), scatter=1e-3)

    def forward(self, context: Tensor) -> Tensor:
        batch, count, _, height, width = context.shape
        memory = context.new_zeros(batch, self.width, height, width)
        for number in range(count - 1):
            seen = torch.cat((memory, context[:, number].clamp(0, 1)), 1)
            memory = torch.tanh(applied(self.remember, seen))
        return applied(self.kernel, torch.cat((memory, context[:, -1]), 1))


class ConvPyramid(Predictor):
    """A 5 by 5 convolution per level, from bands of the last frames to the next frame's.

    The multiple of the spec, a power of two, sets the number of levels.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        levels = spec.multiple.bit_length()
        self.levels = nn.ModuleList(
            repeating(conv(3 * spec.context, 3, 5)) for _ in range(levels)
        )

    def forward(self, context: Tensor) -> Tensor:
        bands, rest = laplacian_pyramid(context.flatten(1, 2), len(self.levels) - 1)
        picture = applied(self.levels[-1], rest)
        for band, layer in zip(reversed(bands), reversed(self.levels[:-1]), strict=True):
            picture = enlarged(picture, band.shape[2:]) + applied(layer, band)
        return picture


class UNet(nn.Module):
    """A U-Net: strided convolutions shrink, bilinear steps enlarge, skip connections join.

    ``widths`` are the channels of each level. The first level has the picture's size, and
    each other one half the size of the level before.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.entry = active(conv(inputs, widths[0], 3))
        self.down = nn.ModuleList(
            nn.Sequential(active(conv(a, b, 3, stride=2)), active(conv(b, b, 3)))
            for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(active(conv(a + b, a, 3)) for a, b in pairwise(widths))
        self.exit = zeroed(conv(widths[0], 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 3, H, W)."""
        features = [self.entry(images)]
        for layer in self.down:
            features.append(layer(features[-1]))
        current = features.pop()
        for layer in reversed(self.up):
            large = F.interpolate(
                current, scale_factor=2, mode="bilinear", align_corners=False
            )
            current = layer(torch.cat((features.pop(), large), 1))
        result: Tensor = self.exit(current)
        return result


class UNet5(Predictor):
    """A U-Net of five stacked frames (fifteen channels).

    Its result is added to the last frame.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.network = UNet(3 * self.spec.context, (24, 48, 96, 128, 128))

    def forward(self, context: Tensor) -> Tensor:
        return context[:, -1] + applied(self.network, context.flatten(1, 2).clamp(0, 1))


class UNetMiddle(Interpolator):
    """A U-Net of two frames; its result is added to their mean."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.network = UNet(6, (16, 32, 48, 64, 96))

    def forward(self, pair: Pair) -> Tensor:
        """Return the middle frame (timestep 0.5); see ``Interpolator.forward``."""
        both = torch.cat((pair.x0, pair.x1), 1)
        return (pair.x0 + pair.x1) / 2 + applied(self.network, both.clamp(0, 1))


_WIDTH = 48
CellState = tuple[Tensor, Tensor]


class ConvLSTM(Predictor):
    """An encoder and a decoder of two recurrent layers each, at a quarter of the size.

    ``look`` reduces a picture to that size. ``paint`` makes the change of the last picture.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.look = nn.Sequential(_normed(3, 32, stride=2), _normed(32, _WIDTH, stride=2))
        self.encoder = nn.ModuleList((_Cell(_WIDTH), _Cell(_WIDTH)))
        self.decoder = nn.ModuleList((_Cell(_WIDTH), _Cell(_WIDTH)))
        self.paint = nn.Sequential(
            _normed(_WIDTH + 3 * 16, _WIDTH),
            zeroed(conv(_WIDTH, 3 * 16, 3)),
            nn.PixelShuffle(4),
        )

    def _steps(self, context: Tensor, steps: Sequence[int]) -> Iterator[Tensor]:
        dtype = self.dtype
        last = context[:, -1]
        states: list[CellState | None] = [None, None]
        for picture in context.clamp(0, 1).to(dtype).unbind(1):
            _through(self.encoder, self.look(picture), states)
        for step in range(1, steps[-1] + 1):
            seen = last.clamp(0, 1).to(dtype)
            features = _through(self.decoder, self.look(seen), states)
            change = self.paint(torch.cat((features, F.pixel_unshuffle(seen, 4)), 1))
            last = last + change.float()
            if step in steps:
                yield last


def _through(
    cells: nn.ModuleList, features: Tensor, states: list[CellState | None]
) -> Tensor:
    for number, cell in enumerate(cells):
        state: CellState = cell(features, states[number])
        states[number] = state
        features = state[0]
    return features


def _normed(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    first = conv(inputs, outputs, 3, stride=stride)
    norm = nn.BatchNorm2d(outputs)
    rectifier = nn.LeakyReLU(SLOPE)
    return nn.Sequential(OrderedDict(conv=first, norm=norm, active=rectifier))


class _Cell(nn.Module):
    """One convolutional LSTM layer without peephole connections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = conv(2 * width, 4 * width, 3)

    def forward(self, images: Tensor, state: CellState | None) -> CellState:
        hidden, memory = (torch.zeros_like(images),) * 2 if state is None else state
        retain, write, show, new = self.gates(torch.cat((images, hidden), 1)).chunk(4, 1)
        # The added 1 opens the forget gate of an untrained cell, so that it retains its
        # memory.
        memory = torch.sigmoid(retain + 1) * memory + torch.sigmoid(write) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(memory), memory


Skips = Literal["none", "plain", "noisy"]

_NOISE = 0.5
"""Standard deviation of the noise in noisy skip connections, relative to that of their
signal."""


class Ladder(nn.Module):
    """A network of strided convolutions that shrink, and deconvolutions that enlarge.

    ``widths``: the channels after each convolution, finest first. Noise is added in
    training only.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], skips: Skips) -> None:
        super().__init__()
        self.skips = skips
        self.encoder = nn.ModuleList()
        for before, after in zip((inputs, *widths), widths, strict=False):
            self.encoder.append(
                active(conv(before, after, 3, stride=2, groups=_groups(before)))
            )
        self.decoder = nn.ModuleList()
        for number in reversed(range(len(widths))):
            after = widths[number - 1] if number else 3
            # Use wide kernels on the fine levels, where the seams of narrow ones would be
            # visible.
            side, padding = (4, 1) if number < 2 else (2, 0)
            is_first = number == len(widths) - 1
            before = widths[number] * (1 if is_first or skips == "none" else 2)
            groups = _groups(after) if is_first else 1
            up = nn.ConvTranspose2d(before, after, side, 2, padding, groups=groups)
            self.decoder.append(active(up) if number else up)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 3, H, W)."""
        features = [images]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        result = features.pop()
        for number, layer in enumerate(self.decoder):
            if number and self.skips != "none":
                result = torch.cat((result, self._with_noise(features.pop())), 1)
            result = layer(result)
        return result

    def _with_noise(self, features: Tensor) -> Tensor:
        if self.skips == "plain" or not self.training:
            return features
        spread = features.detach().std(dim=(2, 3), keepdim=True)
        return features + _NOISE * spread * torch.randn_like(features)


def _groups(width: int) -> int:
    """Return the number of groups: convolutions of 256 channels or more are grouped."""
    return 4 if width >= 256 else 1


class Autoencoder(Reconstructor):
    """An autoencoder with one convolution and one deconvolution for each of ``widths``."""

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...], skips: Skips) -> None:
        super().__init__(spec)
        self.ladder = Ladder(3, widths, skips)

    def forward(self, picture: Tensor) -> Tensor:
        return 0.5 + applied(self.ladder, picture.clamp(0, 1) - 0.5)


class DenseAutoencoder(Reconstructor):
    """Two dense layers on a picture of 32 by 32 pixels, for comparison with the others."""

    side = 32
    middle = 64

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.encoder = active(nn.Linear(3 * self.side**2, self.middle))
        self.decoder = nn.Linear(self.middle, 3 * self.side**2)

    def forward(self, picture: Tensor) -> Tensor:
        small = F.adaptive_avg_pool2d(picture.clamp(0, 1) - 0.5, self.side)
        decoded = applied(
            nn.Sequential(self.encoder, self.decoder), small.flatten(1)
        ).view_as(small)
        return 0.5 + F.interpolate(
            decoded, picture.shape[2:], mode="bilinear", align_corners=False
        )


class SkipAutoencoder(Predictor):
    """A predictor that adds to the last frame a change computed from four stacked frames.

    The encoder's tensors have the same names as those of :class:`Autoencoder`, so that a
    predictor can start from the weights of an autoencoder.
    """

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...], skips: Skips) -> None:
        super().__init__(spec)
        self.ladder = Ladder(3 * spec.context, widths, skips)
        zeroed(self.ladder.decoder[-1])

    def forward(self, context: Tensor) -> Tensor:
        return context[:, -1] + applied(
            self.ladder, context.flatten(1, 2).clamp(0, 1) - 0.5
        )

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Model.start_from``.

        Only the encoder's weights are used, for the last frame.
        """
        result = {key: tensor for key, tensor in state.items() if ".encoder." in key}
        first = "ladder.encoder.0.0.weight"
        if first in result and result[first].shape[1] == 3:
            result[first] = F.pad(result[first], (0, 0, 0, 0, 3 * self.spec.context - 3, 0))
        return result


_PARTS = (16, 4, 2, 1)


class Discriminators(nn.Module):
    """Four discriminators, one for each size, that read a picture and its context."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.critics = nn.ModuleList(
            nn.Sequential(
                active(conv(3 * (spec.context + 1), 32, 3)),
                active(conv(32, 64, 3, stride=2)),
                active(conv(64, 64, 3, stride=2)),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(64 * 4, 1),
            )
            for _ in _PARTS
        )

    def forward(self, context: Tensor, picture: Tensor) -> list[Tensor]:
        """Return the logits, (B, 1), for each size.

        Values above 0 mean a true next ``picture``.
        """
        both = torch.cat((context.flatten(1, 2), picture), 1)
        pairs = zip(_PARTS, self.critics, strict=True)
        return [critic(F.avg_pool2d(both, factor)) for factor, critic in pairs]


class MultiscaleGan(Predictor):
    """Four generators, coarse to fine.

    The guess of the first generator is the last frame. The guess of each other generator is
    the last frame plus the enlarged change that the generator before has forecast.
    """

    staged = True
    discriminators = Discriminators

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        inputs = 3 * (spec.context + 1)
        self.generators = nn.ModuleList(
            nn.Sequential(
                active(conv(inputs, 32, 5)),
                active(conv(32, 64, 3)),
                active(conv(64, 64, 3)),
                active(conv(64, 32, 3)),
                zeroed(conv(32, 3, 5)),
            )
            for _ in _PARTS
        )

    def forward(self, context: Tensor) -> Tensor:
        return self.stages(context)[-1]

    def stages(self, context: Tensor) -> list[Tensor]:
        """Return the forecast at 1/16, 1/4, 1/2 and all of the size, each (B, 3, h, w)."""
        stacked = context.flatten(1, 2)
        pictures: list[Tensor] = []
        for factor, generator in zip(_PARTS, self.generators, strict=True):
            seen = F.avg_pool2d(stacked, factor)
            last = seen[:, -3:]
            # Enlarge only the change of the coarser forecast: the enlarged forecast itself
            # would lack the detail of the last frame.
            guess = last
            if pictures:
                change = pictures[-1] - shrunk_like(last, pictures[-1])
                guess = last + enlarged(change, last.shape[2:])
            inputs = torch.cat((seen, guess), 1).clamp(0, 1)
            pictures.append(guess + applied(generator, inputs))
        return pictures
