"""Compare the frames of a clip, for video textures and for the choice of a mode."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import THUMB_SIDE, reduced

Floats = NDArray[np.float32]


def thumbnails(material: Material) -> Generator[float, None, Floats]:
    """Return all frames of the material as rows, see :func:`thumbnail`: (n, d) float32.

    Yields:
        The fraction of the frames that is done, from 0 to 1.
    """
    rows = []
    for k in range(len(material)):
        rows.append(thumbnail(material.glance(k)))
        yield (k + 1) / len(material)
    return np.stack(rows)


def thumbnail(small: NDArray[np.uint8]) -> Floats:
    """Return a picture (h, w, 3) as a row (d,) float32, scaled so that a distance is in levels."""
    made = reduced(small.astype(np.float32), THUMB_SIDE).ravel()
    row: Floats = (made / np.sqrt(made.size)).astype(np.float32)
    return row


def distances(rows: Floats, others: Floats | None = None) -> Floats:
    """Return the distances between all pairs of rows, in levels of 0 to 255: (n, m) float32."""
    others = rows if others is None else others
    # Double precision: the squares are large and their differences small.
    a, b = rows.astype(np.float64), others.astype(np.float64)
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)
    made: Floats = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return made
