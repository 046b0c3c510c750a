"""Divide the values of a test between the tiers ``full`` and ``slow``."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
MODELS = [
    "cloud-turbo",
    pytest.param("cloud-best", marks=pytest.mark.full),
    pytest.param("rife-4.6", marks=pytest.mark.full),
]
"""Models that move pictures: the fastest one, and those of the tier ``full``."""


def first_full(values: Iterable[Any]) -> list[Any]:
    """Return parameters: the first value is in the tier ``full``, the others in ``slow``.

    The first value is the one that finds most faults.
    """
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=pytest.mark.slow if number else pytest.mark.full,
        )
        for number, value in enumerate(values)
    ]
