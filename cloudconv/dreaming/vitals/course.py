"""Compare motion with the film's, by place: things that run back, slide, slow down or hurry.

In a jump of a texture, the network moves things from one frame to another. If the other
frame is the earlier one, a wave runs back, though no frame is played backwards. In a
collage, land that is taken for sky slides with the clouds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cloudconv.dreaming.images import TINY, Floats, reduced

PLACES = 40
"""Number of places along the longer side of a picture."""

_STEADY = 0.5  # least mean motion of a place with a direction, relative to its mean speed
# Least steady motion of a clip with a direction, relative to all: less is chance.
_FEW = 0.2
# Least speed of what runs back, relative to the film's mean motion at its place.
_BACK = 0.25
_FAST = 0.9  # quantile of the mean speeds of the places, which is that of things that move
_SLIDES = 0.3  # least speed of what slides, relative to that of things that move, and …
_TIMES = 3.0  # … to the greatest speed at its place


class Course:
    """The motion of a clip by place.

    ``flows``: the backward flow from each frame of the clip to the one before, from
    :func:`by_place`. ``runs``, ``second``: the frames over which the flow is averaged for
    :meth:`against` and for :meth:`slides`. A planned jump from frame ``a`` to frame ``b``
    within ``n`` frames has the flow ``by_place(measured_flow(b, a) / n)``, in pixels of
    pictures of the same size. ``own``: the greatest result of :meth:`against` in the clip.
    """

    def __init__(self, flows: Sequence[Floats], runs: int = 1, second: int = 1) -> None:
        """Measure the mean motion."""
        mean = np.mean(flows, 0)
        speeds = np.linalg.norm(flows, axis=-1).mean(0)
        length = np.linalg.norm(mean, axis=-1)
        self._weights = length * (length > _STEADY * speeds)
        # Or there is no direction.
        self._weights *= self._weights.sum() > _FEW * speeds.sum()
        self._mean = mean / np.maximum(length, TINY)[..., None] ** 2
        self.own = max(map(self.against, means(flows, runs)))
        own = np.max([np.linalg.norm(flow, axis=-1) for flow in means(flows, second)], 0)
        self._fast = np.maximum(_SLIDES * np.quantile(speeds, _FAST), _TIMES * own)

    def against(self, flow: Floats) -> float:
        """Return the part of the clip's steady motion, from 0 to 1, that a flow runs back."""
        back = (flow * self._mean).sum(-1) < -_BACK
        return float((self._weights * back).sum() / max(self._weights.sum(), TINY))

    def slides(self, flow: Floats) -> float:
        """Return the part of the picture that moves in a flow where the clip hardly moves."""
        return float((np.linalg.norm(flow, axis=-1) > self._fast).mean())


def by_place(flow: Floats) -> Floats:
    """Return the mean of each place, of a flow or another value: at most ``PLACES`` on a side."""
    made: Floats = reduced(flow, PLACES)
    return made


def means(flows: Sequence[Any], count: int) -> list[Any]:
    """Return the means of each ``count`` successive flows or numbers, at least one."""
    starts = range(max(len(flows) - count, 0) + 1)
    return [np.mean(flows[k : k + count], 0) for k in starts]


def place_of(down: float, across: float) -> str:
    """Return the words for a place, whose distances from the upper left are from 0 to 1."""
    row = ("upper ", "", "lower ")[int(3 * down)]
    return row + ("left", "middle", "right")[int(3 * across)]
