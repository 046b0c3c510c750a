"""Divide pictures into places, and name them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from cloudconv.dreaming.images import reduced

PLACES = 40
"""Number of places along the longer side of a picture."""


def by_place(values: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of each place, at most ``PLACES`` on a side."""
    return reduced(values, PLACES)


def place_of(row: int, column: int, shape: tuple[int, ...]) -> str:
    """Return the words for a place, by its number in a picture of places."""
    vertical = ("upper ", "", "lower ")[3 * row // shape[0]]
    return vertical + ("left", "middle", "right")[3 * column // shape[1]]
