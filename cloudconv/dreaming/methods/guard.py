"""Guard the parts that stay in place: restore moved silhouettes, and find parts that would tear."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.material.silhouette import Silhouettes
from cloudconv.dreaming.pictures import resized, small_copy
from cloudconv.events import Warned

# Lengths are in pixels of the small picture that is compared with the clip.
_MOST = 0.005  # of the picture: larger faults cannot be repaired without a trace
_RIM = 5  # distance by which a repair extends beyond a fault
_SOFT = 1.5  # sigma of the edge of a repair
_SPARE = 2.0  # levels by which a repaired sky exceeds the clip's least level
_FIXED = 0.05  # least fixed part of the picture whose matte is checked
_STIRS = 0.22  # greatest fraction of moving pixels inside the fixed parts for a collage


def tears_of(material: Material) -> Warned | None:
    """Return a warning if many pixels inside the fixed parts move, as twigs in the wind do.

    A collage pastes the still pixels of such parts and moves the others, which tears the parts.
    The fraction of the inside that moves is at most 0.04 in the skies, among 22 filmed ones, for
    which a collage is chosen. The fraction is 0.16 in the example clip, whose trees stand still
    before compressed clouds, and 0.28 in a palm that a collage tears.
    """
    fixed = material.fixed.cpu().numpy()
    inside = cv2.erode(fixed, np.ones((5, 5))) > 0
    if fixed.mean() < _FIXED or not inside.any():
        return None
    fraction = float((material.static[inside] < 0.5).mean())
    return Warned("tears-parts", {"share": fraction}) if fraction > _STIRS else None


def repaired(picture: Tensor, still: Tensor, silhouettes: Silhouettes) -> Tensor:
    """Return the picture, (3, H, W) in [0, 1], with the silhouettes of the clip.

    A silhouette that is too bright is copied from ``still``, the last real frame, (3, H, W). A
    dark shape in the sky is lightened to the least level that the clip has at that position.
    """
    if not silhouettes.known:
        return picture
    small = small_copy(picture, silhouettes.size[::-1])
    lost, grown = silhouettes.faults(small)
    if not 0 < (lost | grown).mean() < _MOST:
        return picture
    opacity = _spread(lost.astype(np.float32), picture)
    missing = np.where(grown, silhouettes.least - silhouettes.luma(small) + _SPARE, 0)
    return torch.lerp(picture, still, opacity) + _spread(np.float32(missing / 255), picture)


def _spread(values: Any, picture: Tensor) -> Tensor:
    """Return values (h, w), dilated, blurred and resized to the picture: (1, H, W)."""
    wide = cv2.dilate(values, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8))
    soft = torch.from_numpy(cv2.GaussianBlur(wide, (0, 0), _SOFT))[None]
    return resized(soft, picture.shape[-2:]).to(picture.device)
