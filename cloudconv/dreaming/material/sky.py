"""Find the sky in a single picture, which shows no motion, from its colours."""

import cv2
import numpy as np

from cloudconv.dreaming.material.land import divided
from cloudconv.images import Bytes, Mask

_SURE = 0.04  # height of the rows that are surely sky (top) and ground (bottom), relative
_NOISE = 8  # added to the deviation of both, in levels


def sky_of(picture: Bytes) -> Mask:
    """Return a mask of the sky, (h, w) bool, in a picture, (h, w, 3) uint8.

    GrabCut divides the picture, starting from the top rows as sky and the bottom rows as
    ground. Parts that are not connected to the top are ground. If top and bottom look alike
    (only clouds, only water), the whole picture counts as sky. Source: Rother, Kolmogorov
    and Blake, GrabCut, SIGGRAPH 2004, in OpenCV's implementation.
    """
    rows = max(1, round(_SURE * picture.shape[0]))
    ends = picture[:rows], picture[-rows:]
    top, bottom = (end.mean((0, 1)) for end in ends)
    spread = np.sqrt(sum(end.var((0, 1)) for end in ends).mean()) + _NOISE
    if picture.shape[0] <= 2 * rows or np.sqrt(np.square(top - bottom).mean()) < spread:
        return np.ones(picture.shape[:2], bool)
    to_top = np.square(picture - top).sum(-1) < np.square(picture - bottom).sum(-1)
    kinds = np.where(to_top, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    kinds[:rows], kinds[-rows:] = cv2.GC_FGD, cv2.GC_BGD
    sky = divided(picture, kinds).astype(np.uint8)
    _, labels = cv2.connectedComponents(sky)
    sky_labels = np.isin(labels, labels[0][sky[0] > 0])
    return sky_labels if sky_labels.any() else ~sky_labels
