"""Take the mean of the pictures that an open shutter sees, in linear light."""

import math
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor

from cloudconv.images import TINY
from cloudconv.media.colour.curves import curve_for
from cloudconv.media.frames.frame import Frame, FrameTask
from cloudconv.models.base import COLOURS, matted

_PIXELS = 2  # of the largest motion of a pair, for each of its pictures
_FEWEST, _MOST = 4, 16
UNKNOWN_MOTION = 8
"""The number of a pair's pictures for a model that has no motion."""


def pictures_of(motion: float) -> int:
    """Return the number of pictures that stand for a pair with a motion in pixels."""
    return min(max(math.ceil(motion / _PIXELS), _FEWEST), _MOST)


def moments(part: FrameTask, count: int) -> Iterator[tuple[Fraction, float]]:
    """Yield times between the source frames of a part, and the weight of each picture.

    ``count``: the number of pictures between the two frames of the whole pair. The mean of
    the pictures is the integral by the trapezoidal rule over what the shutter sees.
    """
    length = part.until - part.t
    steps = max(1, math.ceil(count * length))
    for step in range(steps + 1):
        weight = part.duration / steps / (2 if step in (0, steps) else 1)
        yield part.t + length * step / steps, float(weight)


class Exposure:
    """A weighted mean of pictures in linear light, on the device of the pictures.

    Pictures are (3 or 4, H, W). Colours count by their opacity. Pixels that are equal in
    all pictures do not change.
    """

    def __init__(self, like: Frame, device: torch.device) -> None:
        self._curve = curve_for(like, device)
        self._first: Tensor | None = None
        self._first_light = self._sum = torch.empty(0)  # of the differences from the first
        self._weight = 0.0

    def add(self, picture: Tensor, weight: float) -> None:
        """Add a picture, which is not changed."""
        light = self._curve.light(picture[:COLOURS])
        if len(picture) > COLOURS:
            light = matted(torch.cat((light, picture[COLOURS:])))
        self._weight += weight
        if self._first is None:
            self._first = picture
            self._first_light = light
            self._sum = torch.zeros_like(light)
        else:
            self._sum.add_(light.sub_(self._first_light), alpha=weight)

    def mean(self) -> Tensor:
        """Return the mean as coded values."""
        assert self._first is not None
        light = self._first_light + self._sum / self._weight
        colours = light[:COLOURS]
        if len(light) > COLOURS:
            colours = colours / light[COLOURS:].clamp_min(TINY)
        mean = torch.cat((self._curve.values(colours), light[COLOURS:]))
        is_still = (self._sum == 0).all(0, keepdim=True)
        return torch.where(is_still, self._first, mean)
