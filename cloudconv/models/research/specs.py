"""List the small models of the earlier research projects, trained again."""

from __future__ import annotations

from cloudconv.models.base import ModelSpec
from cloudconv.models.research.autoencoder import (
    AUTOENCODER,
    AUTOENCODER_DENSE,
    AUTOENCODER_NOISY,
    AUTOENCODER_SHALLOW,
    AUTOENCODER_SKIPS,
    SKIP_AUTOENCODER,
    SKIP_AUTOENCODER_NONE,
    SKIP_AUTOENCODER_PICTURE,
    SKIP_AUTOENCODER_PLAIN,
)
from cloudconv.models.research.conv import CONV, CONV_CHANNEL, CONV_DEEP, CONV_MODES, CONV_RECURRENT
from cloudconv.models.research.convlstm import CONVLSTM
from cloudconv.models.research.multiscale import MULTISCALE_GAN
from cloudconv.models.research.pyramid import CONV_PYRAMID, CONV_PYRAMID_2
from cloudconv.models.research.unet import UNET5, UNET_MIDDLE, UNET_MIDDLE_MSE, UNET_MIDDLE_SSIM

SEEDS: tuple[ModelSpec, ...] = (
    CONV_CHANNEL,
    CONV,
    CONV_MODES,
    CONV_DEEP,
    CONV_RECURRENT,
    CONV_PYRAMID,
    CONV_PYRAMID_2,
    UNET5,
    CONVLSTM,
    SKIP_AUTOENCODER,
    SKIP_AUTOENCODER_PLAIN,
    SKIP_AUTOENCODER_NONE,
    MULTISCALE_GAN,
    UNET_MIDDLE,
    UNET_MIDDLE_MSE,
    UNET_MIDDLE_SSIM,
    AUTOENCODER,
    AUTOENCODER_DENSE,
    AUTOENCODER_SHALLOW,
    AUTOENCODER_SKIPS,
    AUTOENCODER_NOISY,
    SKIP_AUTOENCODER_PICTURE,
)
"""The specs of the research models, in the order of the registry's list."""
