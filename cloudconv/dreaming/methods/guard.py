"""Check each composed picture for silhouettes that have moved, and put them back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import resized, small_copy
from cloudconv.dreaming.vitals.silhouette import Silhouettes

_RIM = 5  # pixels of the compared picture that a repair reaches beyond a fault
_SOFT = 1.5  # sigma of the edge of a repair
_SPARE = 2.0  # levels beyond the least level of the sky


class SilhouetteGuard:
    """A repair of pictures whose silhouettes differ from all frames of the clip."""

    def __init__(self, material: Material) -> None:
        """Measure the silhouettes of the clip."""
        pictures = [material.glance(k) for k in range(len(material))]
        self._silhouettes = Silhouettes(pictures, material.fixed.cpu().numpy())

    def repaired(self, picture: Tensor, still: Tensor) -> Tensor:
        """Return a picture (3, H, W) with its silhouettes in place.

        A lost dark place is taken from ``still``, the last real frame; a dark shape in the sky is
        lightened to the least level that the clip has there.
        """
        clip = self._silhouettes
        if not clip.known:
            return picture
        small = small_copy(picture, clip.size[::-1])
        lost, grown = clip.faults(small)
        if not (lost.any() or grown.any()):
            return picture
        share = self._spread(lost.astype(np.float32), picture)
        missing = np.where(grown, clip.least - clip.luma(small) + _SPARE, 0).astype(np.float32)
        lift = self._spread(missing / 255, picture)
        return torch.lerp(picture, still, share) + lift

    def _spread(self, values: Any, picture: Tensor) -> Tensor:
        """Return values (h, w), widened and with a soft edge, at the picture's size: (1, H, W)."""
        wide = cv2.dilate(values, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8))
        soft = torch.from_numpy(cv2.GaussianBlur(wide, (0, 0), _SOFT))[None]
        return resized(soft, picture.shape[-2:]).to(picture.device)
