"""List the small models of the earlier research projects, trained again."""

from __future__ import annotations

from cloudconv.models.base import ModelSpec
from cloudconv.models.research import autoencoder, conv, convlstm, multiscale, pyramid, unet

SEEDS: tuple[ModelSpec, ...] = (
    conv.CONV_CHANNEL,
    conv.CONV,
    conv.CONV_MODES,
    conv.CONV_DEEP,
    conv.CONV_RECURRENT,
    pyramid.CONV_PYRAMID,
    pyramid.CONV_PYRAMID_2,
    unet.UNET5,
    convlstm.CONVLSTM,
    autoencoder.SKIP_AUTOENCODER,
    autoencoder.SKIP_AUTOENCODER_PLAIN,
    autoencoder.SKIP_AUTOENCODER_NONE,
    multiscale.MULTISCALE_GAN,
    unet.UNET_MIDDLE,
    unet.UNET_MIDDLE_MSE,
    unet.UNET_MIDDLE_SSIM,
    autoencoder.AUTOENCODER,
    autoencoder.AUTOENCODER_DENSE,
    autoencoder.AUTOENCODER_SHALLOW,
    autoencoder.AUTOENCODER_SKIPS,
    autoencoder.AUTOENCODER_NOISY,
    autoencoder.SKIP_AUTOENCODER_PICTURE,
)
"""The specs of the research models, in the order of the registry's list."""
