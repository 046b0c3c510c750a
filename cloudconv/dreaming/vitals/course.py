"""Find motion against the film: things that run back, though every frame is played forwards.

In a jump of a texture, the network moves things from one frame to another. If the other frame is
the earlier one, a wave runs back, and sways with each further jump.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cloudconv.dreaming.images import TINY, Floats, reduced

PLACES = 40
"""Number of places along the longer side of a picture."""

_STEADY = 0.5  # least mean motion of a place with a direction, relative to its mean speed
_BACK = 0.25  # least speed of what runs back, relative to the film's mean motion at its place
_FEW = 0.02  # least steady motion of a clip with a direction, relative to all its motion


class Course:
    """The mean motion of a clip by place, where the place has a direction.

    ``flows``: the backward flow from each frame of the clip to the one before, from
    :func:`by_place`. A planned jump from frame ``a`` to frame ``b`` within ``n`` frames has the
    flow ``by_place(measured_flow(b, a) / n)``, in pixels of pictures of the same size. ``own``: the
    greatest result of :meth:`against` for ``lasts`` frames of the clip itself.
    """

    def __init__(self, flows: Sequence[Floats], lasts: int = 1) -> None:
        """Measure the mean motion."""
        mean, speed = np.mean(flows, 0), np.linalg.norm(flows, axis=-1).mean(0)
        length = np.linalg.norm(mean, axis=-1)
        self._weights = length * (length > _STEADY * speed)
        if self._weights.sum() <= _FEW * speed.sum():
            self._weights[:] = 0  # no direction
        self._mean = mean / np.maximum(length, TINY)[..., None] ** 2
        starts = range(max(len(flows) - lasts + 1, 1))
        self.own = max(self.against(np.mean(flows[k : k + lasts], 0)) for k in starts)

    def against(self, flow: Floats) -> float:
        """Return the part of the clip's steady motion, from 0 to 1, that a flow runs back."""
        back = (flow * self._mean).sum(-1) < -_BACK
        return float((self._weights * back).sum() / max(self._weights.sum(), TINY))


def by_place(flow: Floats) -> Floats:
    """Return the mean flow of each place: (h, w, 2), at most ``PLACES`` on a side."""
    made: Floats = reduced(flow, PLACES)
    return made
