"""Define cloud-best, cloud-fast and cloud-turbo: cloudconv's own interpolators.

The network is the IFNet of RIFE (Huang et al., ECCV 2022, arXiv 2011.06294, version 4.6; see
:mod:`cloudconv.models.rife`), fine-tuned from RIFE's weights. A gate is added: the weight of the
unmoved pictures at each pixel. ``cloud-fast`` omits the finest block. ``cloud-turbo`` omits that
block and works at half the resolution. Each model has its own weights. ``cloud-best`` and
``cloud-fast`` read four frames, not two (:mod:`cloudconv.models.refine`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cloudconv.models.base import FOUR
from cloudconv.models.rife import RIFE_46, IFNet

CLOUD_BEST = replace(
    RIFE_46,
    name="cloud-best",
    context=FOUR,
    purpose="any footage; the default",
    time=1,
    network=partial(IFNet, gated=True, refines=True),
    origin="cloudconv, started from RIFE 4.6 (Huang et al., ECCV 2022, arXiv 2011.06294)",
    domain="any live footage; quiet and noisy pictures too",
    bytes_per_pixel=390,
    sharpens=True,
)

CLOUD_FAST = replace(
    CLOUD_BEST,
    name="cloud-fast",
    purpose="long videos",
    time=0.6,
    network=partial(IFNet, sizes=(8, 4, 2), gated=True, refines=True),
    bytes_per_pixel=170,
    gpu_bytes_per_pixel=270,
)

CLOUD_TURBO = replace(
    CLOUD_BEST,
    name="cloud-turbo",
    context=2,
    purpose="slow machines, a first look",
    time=0.5,
    network=partial(IFNet, sizes=(16, 8, 4), gated=True),
    bytes_per_pixel=160,
    multiple=64,
)
