"""Define autoencoders, which reconstruct pictures from few features, and predictors like them.

Convolutions halve the picture and double the channels, and deconvolutions reverse this, as in the
earlier research projects. Skip connections transfer detail that the narrow middle loses. With plain
skip connections the deep layers learn little. Noise in the skip connections makes the deep layers
learn the detail that the noise hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cloudconv.models.base import ModelSpec, Predictor, Reconstructor
from cloudconv.models.research.layers import active, applied, conv, zeroed

Skips = Literal["none", "plain", "noisy"]

_NOISE = 0.5
"""Standard deviation of the noise in noisy skip connections, relative to that of their signal."""


class Ladder(nn.Module):
    """A network that shrinks a picture by strided convolutions and enlarges it by deconvolutions.

    Args:
        inputs: number of input channels; there are three output channels.
        widths: channels after each convolution, finest first.
        skips: kind of skip connections: none, plain, or with noise during training.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], skips: Skips) -> None:
        """Create the layers; see the class for the arguments."""
        super().__init__()
        self.skips = skips
        self.encoder = nn.ModuleList()
        for before, after in zip((inputs, *widths), widths, strict=False):
            self.encoder.append(active(conv(before, after, 3, stride=2, groups=_groups(before))))
        self.decoder = nn.ModuleList()
        for number in reversed(range(len(widths))):
            after = widths[number - 1] if number else 3
            # Use wide kernels on the fine levels, where the seams of narrow ones would be visible.
            side, padding = (4, 1) if number < 2 else (2, 0)
            if number == len(widths) - 1:
                before, groups = widths[number], _groups(after)
            else:
                before, groups = widths[number] * (1 if skips == "none" else 2), 1
            up = nn.ConvTranspose2d(before, after, side, 2, padding, groups=groups if number else 1)
            self.decoder.append(active(up) if number else up)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 3, H, W).

        H and W are multiples of 2 to the power of the number of widths.
        """
        features: list[Tensor] = []
        made = images
        for layer in self.encoder:
            made = layer(made)
            features.append(made)
        features.pop()
        for number, layer in enumerate(self.decoder):
            if number and self.skips != "none":
                made = torch.cat((made, self._carried(features.pop())), 1)
            made = layer(made)
        return made

    def _carried(self, features: Tensor) -> Tensor:
        if self.skips == "plain" or not self.training:
            return features
        spread = features.detach().std(dim=(2, 3), keepdim=True)
        return features + _NOISE * spread * torch.randn_like(features)


def _groups(width: int) -> int:
    """Return the number of groups: convolutions of 256 channels or more are grouped."""
    return 4 if width >= 256 else 1


class Autoencoder(Reconstructor):
    """An autoencoder with one convolution and one deconvolution for each of ``widths``.

    Args:
        spec: the spec of the variant.
        widths: see :class:`Ladder`.
        skips: see :class:`Ladder`.
    """

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...], skips: Skips) -> None:
        """Create the network; see the class for the arguments."""
        super().__init__(spec)
        self.ladder = Ladder(3, widths, skips)

    def forward(self, picture: Tensor) -> Tensor:
        """See ``Reconstructor.forward``."""
        return 0.5 + applied(self.ladder, picture.clamp(0, 1) - 0.5)


class DenseAutoencoder(Reconstructor):
    """Two dense layers on a picture scaled to 32 by 32 pixels, for comparison with the others."""

    side = 32
    middle = 64

    def __init__(self, spec: ModelSpec) -> None:
        """Create the network."""
        super().__init__(spec)
        self.encoder = active(nn.Linear(3 * self.side**2, self.middle))
        self.decoder = nn.Linear(self.middle, 3 * self.side**2)

    def forward(self, picture: Tensor) -> Tensor:
        """See ``Reconstructor.forward``."""
        small = F.adaptive_avg_pool2d(picture.clamp(0, 1) - 0.5, self.side)
        made = applied(nn.Sequential(self.encoder, self.decoder), small.flatten(1)).view_as(small)
        return 0.5 + F.interpolate(made, picture.shape[2:], mode="bilinear", align_corners=False)


class SkipAutoencoder(Predictor):
    """A predictor that adds to the last frame a change computed from four stacked frames.

    The network shrinks the frames to 512 channels and enlarges the result.

    The encoder's tensors have the same names as those of :class:`Autoencoder`, so that a predictor
    can start from the weights of an autoencoder.

    Args:
        spec: the spec of the variant.
        skips: see :class:`Ladder`.
    """

    def __init__(self, spec: ModelSpec, skips: Skips) -> None:
        """Create the network; see the class for the arguments."""
        super().__init__(spec)
        self.ladder = Ladder(3 * spec.context, (*_WIDTHS, 512), skips)
        zeroed(self.ladder.decoder[-1])

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``."""
        return context[:, -1] + applied(self.ladder, context.flatten(1, 2).clamp(0, 1) - 0.5)

    def start_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Model.start_from``; only the encoder's weights are used, for the last frame."""
        result = {key: tensor for key, tensor in state.items() if ".encoder." in key}
        first = "ladder.encoder.0.0.weight"
        if first in result and result[first].shape[1] == 3:
            narrow = result[first]
            wide = narrow.new_zeros(len(narrow), 3 * self.spec.context, *narrow.shape[2:])
            wide[:, -3:] = narrow
            result[first] = wide
        return result


_WIDTHS = (32, 64, 128, 256)

AUTOENCODER = ModelSpec(
    name="autoencoder",
    task="reconstruct",
    context=1,
    multiple=16,
    network=partial(Autoencoder, widths=_WIDTHS, skips="none"),
    origin="cloudconv; after earlier research projects",
    domain="reconstructs any picture; fine detail gets lost",
    bytes_per_pixel=245,
    overlap=64,
    half_precision=True,
)

AUTOENCODER_DENSE = replace(
    AUTOENCODER,
    name="autoencoder-dense",
    multiple=1,
    network=DenseAutoencoder,
    domain="reconstructs any picture at 32x32 pixels; a reference for the others",
    purpose="a reference at 32x32 pixels",
    bytes_per_pixel=40,
)

AUTOENCODER_SHALLOW = replace(
    AUTOENCODER,
    name="autoencoder-shallow",
    multiple=2,
    network=partial(Autoencoder, widths=(16,), skips="none"),
    domain="reconstructs any picture almost exactly",
    overlap=8,
    bytes_per_pixel=80,
)

AUTOENCODER_SKIPS = replace(
    AUTOENCODER,
    name="autoencoder-skips",
    network=partial(Autoencoder, widths=_WIDTHS, skips="plain"),
    domain="reconstructs any picture; skip connections carry most of the detail",
)

AUTOENCODER_NOISY = replace(
    AUTOENCODER,
    name="autoencoder-noisy",
    network=partial(Autoencoder, widths=_WIDTHS, skips="noisy"),
    domain="reconstructs any picture; trained with noise in the skip connections",
)

SKIP_AUTOENCODER = replace(
    AUTOENCODER,
    name="skip-autoencoder",
    task="predict",
    context=4,
    multiple=32,
    network=partial(SkipAutoencoder, skips="noisy"),
    domain="clouds, water and small motion; trained with noise in the skip connections",
    bytes_per_pixel=310,
)

SKIP_AUTOENCODER_PLAIN = replace(
    SKIP_AUTOENCODER,
    name="skip-autoencoder-plain",
    network=partial(SkipAutoencoder, skips="plain"),
    domain="clouds, water and small motion; plain skip connections",
)

SKIP_AUTOENCODER_NONE = replace(
    SKIP_AUTOENCODER,
    name="skip-autoencoder-none",
    network=partial(SkipAutoencoder, skips="none"),
    domain="clouds, water and small motion; no skip connections",
)

SKIP_AUTOENCODER_PICTURE = replace(
    AUTOENCODER,
    name="skip-autoencoder",
    multiple=32,
    network=partial(Autoencoder, widths=(*_WIDTHS, 512), skips="noisy"),
    entry="skip-autoencoder-picture",
    domain="reconstructs any picture; trained with noise in the skip connections",
)
