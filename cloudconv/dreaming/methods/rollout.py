"""Mode ``rollout``: feed a predictor with its own pictures, which get worse with time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.methods.base import DreamMethod
from cloudconv.models import registry
from cloudconv.models.ops import enlarged, laplacian_pyramid
from cloudconv.settings.extend import DEFAULT_PREDICTOR

_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # brightness and two differences
_BANDS = 5  # bands of detail
_SOURCE_FRAMES = 8  # number of last real frames that set the wanted detail and colours
_QUANTILES = 65
_PULL = 0.5  # fraction of the difference from the source that a correction removes
_MOST_GAIN = 1.5  # greatest gain of a band; the least gain is the inverse
_FAINT = 0.5 / 255  # amplitude of a band below which it holds noise alone
_FADE = 24  # frames in which a loop fades into its beginning


class Rollout(DreamMethod):
    """A method that predicts each frame from the frames before it, predicted ones included.

    With ``texture_keep`` each picture is corrected towards the last real frames before it is fed
    back: the amplitude of each band of detail (the statistics of Heeger and Bergen, Pyramid-Based
    Texture Analysis/Synthesis, SIGGRAPH 1995), and the histograms of brightness and colour.
    """

    def dream(
        self,
        material: Material,
        *,
        frames: int,
        seed: int,
        loop: bool = False,
        loop_to: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield predicted frames; see the base class.

        A prediction is not random, so the seed changes nothing. A prediction cannot aim at a frame
        either: in a loop the last frames fade into the first one.
        """
        options = self.options
        device = material.device
        model = registry.load_predictor(options.model or DEFAULT_PREDICTOR, device, options.dtype)
        need = model.spec.context
        numbers = [max(0, len(material) - need + k) for k in range(need)]
        context = torch.stack([material.picture(k) for k in numbers])[None]
        keep = Keeper(material) if options.texture_keep else None
        for number in range(frames):
            made = next(model.forecast_checked(context, 1))
            if keep is not None:
                made = keep(made[0])[None]
            context = torch.cat((context[:, 1:], made[:, None]), 1)
            if loop and loop_to is None:
                loop_to = made[0]
            shown = made[0]
            yield shown if loop_to is None else _faded(shown, loop_to, number, frames)


class Keeper:
    """A correction of pictures towards the detail and the colours of the material's last frames.

    Brightness and two colour differences are corrected separately, because they hardly depend on
    one another. Red, green and blue, corrected separately, would drift apart.
    """

    def __init__(self, material: Material) -> None:
        """Measure the detail and the colours of the material's last frames."""
        count = min(len(material), _SOURCE_FRAMES)
        self._axes = torch.tensor(_AXES, device=material.device)
        self._axes /= self._axes.norm(dim=1, keepdim=True)
        numbers = range(len(material) - count, len(material))
        pictures = [self._turned(material.picture(k)) for k in numbers]
        amplitudes = [[_amplitude(band) for band in _bands(picture)[0]] for picture in pictures]
        self._amplitudes = [torch.stack(level).mean(0) for level in zip(*amplitudes, strict=True)]
        self._quantiles = torch.stack([_quantiles(picture) for picture in pictures]).mean(0)

    def __call__(self, picture: Tensor) -> Tensor:
        """Return a picture, (3, H, W) RGB nominally in [0, 1], corrected towards the source."""
        # Infinite and extreme values cannot be corrected.
        picture = self._turned(picture.nan_to_num(0, 1, 0).clamp(-1, 2))
        bands, rest = _bands(picture)
        for band, wanted in zip(reversed(bands), reversed(self._amplitudes), strict=True):
            gain = (wanted / _amplitude(band).clamp_min(_FAINT)) ** _PULL
            rest = enlarged(rest, band.shape[2:]) + band * gain.clamp(1 / _MOST_GAIN, _MOST_GAIN)
        rest = rest[0]
        coloured = rest + _PULL * (self._recoloured(rest) - rest)
        return torch.einsum("ac,ahw->chw", self._axes, coloured)

    def _turned(self, picture: Tensor) -> Tensor:
        return torch.einsum("ac,chw->ahw", self._axes, picture)

    def _recoloured(self, picture: Tensor) -> Tensor:
        """Return the channels with the source's histograms.

        Each level becomes the source's level of the same rank.
        """
        made = torch.empty_like(picture)
        for channel, values, found, wanted in zip(
            made, picture, _quantiles(picture), self._quantiles, strict=True
        ):
            rank = torch.searchsorted(found, values.contiguous()).clamp_(1, _QUANTILES - 1)
            low, gap = found[rank - 1], (found[rank] - found[rank - 1]).clamp_min(1e-4)
            weight = ((values - low) / gap).clamp_(0, 1)
            channel.copy_(torch.lerp(wanted[rank - 1], wanted[rank], weight))
        return made


def _faded(picture: Tensor, target: Tensor, number: int, frames: int) -> Tensor:
    """Return the picture, mixed with the loop's target over the last frames."""
    length = min(_FADE, frames // 2)
    left = frames - number
    return picture if left > length else torch.lerp(target, picture, left / (length + 1))


def _bands(picture: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the bands of a picture (3, H, W) and the coarse rest, each as a batch of one."""
    return laplacian_pyramid(picture[None], _BANDS, least=4)


def _amplitude(band: Tensor) -> Tensor:
    """Return the root mean square of each channel: (1, 3, 1, 1)."""
    return band.square().mean((2, 3), keepdim=True).sqrt()


def _quantiles(picture: Tensor) -> Tensor:
    """Return quantiles of each channel, (3, _QUANTILES), from some 20,000 pixels."""
    step = max(1, round((picture.shape[1] * picture.shape[2] / 20_000) ** 0.5))
    ordered = picture[:, ::step, ::step].flatten(1).sort().values
    ranks = torch.linspace(0, ordered.shape[1] - 1, _QUANTILES, device=ordered.device)
    return ordered[:, ranks.round().long()].contiguous()
