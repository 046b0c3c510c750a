"""Compare a clip with itself, to set limits that real footage meets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SLACK = 1.15
"""The factor by which a limit exceeds the clip's own values."""

UNSEEN_SLACK = 1.5
"""The same for values of one half of the clip, compared with the other: a rough measurement."""

QUANTILE = 0.9
"""The quantile over pictures that counts: one in ten may be outside, as in real footage."""


def quantile(values: Sequence[float] | NDArray[np.float32]) -> float:
    """Return the quantile of values that counts."""
    return float(np.quantile(values, QUANTILE))
