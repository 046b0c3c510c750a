"""Find silhouettes in a composed picture that differ from the clip, and restore them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import resized, small_copy
from cloudconv.dreaming.vitals.silhouette import Silhouettes

# Lengths are in pixels of the small picture that is compared with the clip.
_MOST = 0.005  # of the picture: larger faults cannot be repaired without a trace
_RIM = 5  # distance by which a repair extends beyond a fault
_SOFT = 1.5  # sigma of the edge of a repair
_SPARE = 2.0  # levels by which a repaired sky exceeds the clip's least level


class SilhouetteGuard:
    """The silhouettes of a clip, for the repair of pictures whose silhouettes differ."""

    def __init__(self, material: Material) -> None:
        """Measure the silhouettes of the clip in all frames of the material."""
        pictures = [material.glance(k) for k in range(len(material))]
        self._silhouettes = Silhouettes(pictures, material.fixed.cpu().numpy())

    def repaired(self, picture: Tensor, still: Tensor) -> Tensor:
        """Return the picture, (3, H, W) in [0, 1], with the silhouettes of the clip.

        A silhouette that is too bright is copied from ``still``, the last real frame, (3, H, W). A
        dark shape in the sky is lightened to the least level that the clip has at that position.
        """
        silhouettes = self._silhouettes
        if not silhouettes.known:
            return picture
        small = small_copy(picture, silhouettes.size[::-1])
        lost, grown = silhouettes.faults(small)
        if not 0 < (lost | grown).mean() < _MOST:
            return picture
        opacity = self._spread(lost.astype(np.float32), picture)
        missing = np.where(grown, silhouettes.least - silhouettes.luma(small) + _SPARE, 0).astype(
            np.float32
        )
        lift = self._spread(missing / 255, picture)
        return torch.lerp(picture, still, opacity) + lift

    def _spread(self, values: Any, picture: Tensor) -> Tensor:
        """Return values (h, w), dilated, blurred and resized to the picture: (1, H, W)."""
        wide = cv2.dilate(values, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8))
        soft = torch.from_numpy(cv2.GaussianBlur(wide, (0, 0), _SOFT))[None]
        return resized(soft, picture.shape[-2:]).to(picture.device)
