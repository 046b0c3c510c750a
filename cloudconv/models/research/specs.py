"""List the small models of the earlier research projects, trained again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cloudconv.models.base import Model, ModelSpec, ModelTask
from cloudconv.models.research import networks as nets

_UNET = "cloudconv; after earlier projects and Ronneberger et al. 2015 (arXiv 1505.04597)"
_LSTM = "cloudconv; after earlier research projects and Shi et al. 2015 (arXiv 1506.04214)"
_GAN = "cloudconv; after Mathieu et al. 2015 (arXiv 1511.05440)"
_SMALL = "clouds, water and small motion"
_ANY = "reconstructs any picture"
_NOISY = "trained with noise in the skip connections"
_STEADY = "slow, steady motion such as clouds; blurs after about ten frames"


def _row(
    name: str,
    context: int,
    multiple: int,
    bytes_per_pixel: int,
    overlap: int,
    network: Callable[[ModelSpec], Model],
    domain: str,
    *,
    task: ModelTask = "predict",
    origin: str = "cloudconv; after earlier research projects",
    half_precision: bool = True,
    **more: Any,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        task=task,
        context=context,
        multiple=multiple,
        bytes_per_pixel=bytes_per_pixel,
        overlap=overlap,
        network=network,
        domain=domain,
        origin=origin,
        half_precision=half_precision,
        **more,
    )


_linear = partial(_row, half_precision=False)
_middle = partial(_row, task="interpolate", origin=_UNET)
_same = partial(_row, task="reconstruct")
_auto, _skip = nets.Autoencoder, nets.SkipAutoencoder
_FOUR = nets.WIDTHS[:4]

# fmt: off
SEEDS: tuple[ModelSpec, ...] = (
    _linear("conv-channel", 1, 1, 155, 8, partial(nets.Conv, groups=3),
            "dreams in vivid, chaotic colours"),
    _linear("conv", 2, 1, 125, 8, nets.Conv, _STEADY),
    _linear("conv-modes", 4, 2, 320, 16, nets.ConvModes, "steady motion in several directions"),
    _row("conv-deep", 4, 1, 610, 16, nets.ConvDeep, "small motion; blurs after about ten frames"),
    _linear("conv-recurrent", 4, 1, 540, 16, nets.ConvRecurrent, "slow, steady motion"),
    _linear("conv-pyramid", 2, 16, 175, 64, nets.ConvPyramid, _STEADY),
    _linear("conv-pyramid-2", 2, 2, 175, 16, nets.ConvPyramid,
            "very slow motion; blurs after about ten frames"),
    _row("unet5", 5, 16, 1480, 64, nets.UNet5, f"{_SMALL}; long forecasts look painted",
         origin=_UNET),
    _row("convlstm", 4, 4, 325, 64, nets.ConvLSTM, _SMALL, origin=_LSTM),
    _row("skip-autoencoder", 4, 32, 310, 64, partial(_skip, skips="noisy"), f"{_SMALL}; {_NOISY}"),
    _row("skip-autoencoder-plain", 4, 32, 310, 64, partial(_skip, skips="plain"),
         f"{_SMALL}; plain skip connections"),
    _row("skip-autoencoder-none", 4, 32, 310, 64, partial(_skip, skips="none"),
         f"{_SMALL}; no skip connections"),
    _row("multiscale-gan", 4, 16, 1200, 96, nets.MultiscaleGan, "small motion; keeps detail",
         origin=_GAN),
    _middle("unet-middle", 2, 16, 950, 64, nets.UNetMiddle,
            f"{_SMALL}; trained with the Charbonnier loss",
            purpose="a small U-Net (Charbonnier loss)"),
    _middle("unet-middle-mse", 2, 16, 950, 64, nets.UNetMiddle,
            f"{_SMALL}; trained with the mean squared error",
            purpose="a small U-Net (squared error)"),
    _middle("unet-middle-ssim", 2, 16, 950, 64, nets.UNetMiddle,
            f"{_SMALL}; trained with structural similarity", purpose="a small U-Net (SSIM loss)"),
    _same("autoencoder", 1, 16, 245, 64, partial(_auto, widths=_FOUR, skips="none"),
          f"{_ANY}; fine detail gets lost"),
    _same("autoencoder-dense", 1, 1, 40, 64, nets.DenseAutoencoder,
          f"{_ANY} at 32x32 pixels; a reference for the others",
          purpose="a reference at 32x32 pixels"),
    _same("autoencoder-shallow", 1, 2, 80, 8, partial(_auto, widths=(16,), skips="none"),
          f"{_ANY} almost exactly"),
    _same("autoencoder-skips", 1, 16, 245, 64, partial(_auto, widths=_FOUR, skips="plain"),
          f"{_ANY}; skip connections carry most of the detail"),
    _same("autoencoder-noisy", 1, 16, 245, 64, partial(_auto, widths=_FOUR, skips="noisy"),
          f"{_ANY}; {_NOISY}"),
    _same("skip-autoencoder", 1, 32, 245, 64, partial(_auto, widths=nets.WIDTHS, skips="noisy"),
          f"{_ANY}; {_NOISY}", entry="skip-autoencoder-picture"),
)
"""The specs of the research models: name, context, multiple, bytes per pixel, overlap, network and
domain."""
