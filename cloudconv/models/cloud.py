"""cloud-best, cloud-fast and cloud-turbo: cloudconv's own interpolators, started from RIFE 4.6.

The network is the IFNet of RIFE (Huang et al., ECCV 2022, arXiv 2011.06294, version 4.6; see
:mod:`cloudconv.models.rife`) with a gate towards the unmoved pictures, fine-tuned. The three
differ in how closely they look: ``cloud-fast`` is without the finest block, and ``cloud-turbo``
without it and at half the resolution, each with its own weights.
"""

from __future__ import annotations

from cloudconv.models.base import ModelSpec
from cloudconv.models.rife import IFNet

_ORIGIN = "cloudconv, started from RIFE 4.6 (Huang et al., ECCV 2022, arXiv 2011.06294)"
_DOMAIN = "any live footage; quiet and noisy pictures too"


def _best() -> IFNet:
    return IFNet(CLOUD_BEST, gated=True)


def _fast() -> IFNet:
    return IFNet(CLOUD_FAST, (8, 4, 2), gated=True)


def _turbo() -> IFNet:
    return IFNet(CLOUD_TURBO, (16, 8, 4), gated=True)


CLOUD_BEST = ModelSpec(
    name="cloud-best",
    task="interpolate",
    context=2,
    arbitrary_timestep=True,
    multiple=32,
    build=_best,
    weights="cloud-best",
    parameters=5_308_848,
    licence="MIT",
    origin=_ORIGIN,
    domain=_DOMAIN,
    scale_option=True,
    bytes_per_pixel=280,
    overlap=128,
    half_precision=True,
    fallback_option=True,
)

CLOUD_FAST = ModelSpec(
    name="cloud-fast",
    task="interpolate",
    context=2,
    arbitrary_timestep=True,
    multiple=32,
    build=_fast,
    weights="cloud-fast",
    parameters=4_965_752,
    licence="MIT",
    origin=_ORIGIN,
    domain=_DOMAIN,
    scale_option=True,
    bytes_per_pixel=160,
    overlap=128,
    half_precision=True,
    fallback_option=True,
)

CLOUD_TURBO = ModelSpec(
    name="cloud-turbo",
    task="interpolate",
    context=2,
    arbitrary_timestep=True,
    multiple=64,
    build=_turbo,
    weights="cloud-turbo",
    parameters=4_965_752,
    licence="MIT",
    origin=_ORIGIN,
    domain=_DOMAIN,
    scale_option=True,
    bytes_per_pixel=160,
    overlap=128,
    half_precision=True,
    fallback_option=True,
)
