"""Measure what is wrong between two pictures, beyond what is usual in the film.

The network of a texture moves the earlier and the later picture to the middle. Their
difference is the *residual*: what no motion explains. Pairs of the film that are as far
apart have a residual too: fire and rain change as much.
"""

import cv2
import numpy as np
import torch

from cloudconv.doubts import by_place
from cloudconv.images import Bytes, Floats, as_picture, tensor_of
from cloudconv.models import registry
from cloudconv.models.base import Made
from cloudconv.models.pair import Pair

NETWORK = "cloud-best"
"""The network that makes the pictures of a jump."""


def residual_of(first: Bytes, last: Bytes) -> Floats:
    """Return the levels of areas as large as a thing that no motion explains, (h, w).

    They are by place, see :func:`cloudconv.doubts.by_place`.
    """
    network = registry.shared(NETWORK, "cpu", torch.float32)
    pair = Pair.of([tensor_of(as_picture(picture))[None] for picture in (first, last)], 0.5)
    with torch.inference_mode():
        middle = Made.of(network.between(pair, maps=True))
    left = 255 * by_place(np.abs(middle.residual[0, 0].numpy()))
    return cv2.GaussianBlur(left, (0, 0), 1, borderType=cv2.BORDER_CONSTANT)
