"""Find the end of the last dissolve in a few seconds of thumbnails.

While one scene dissolves into another, each picture is a weighted sum of a picture before
and of a picture after, and the weight rises evenly from 0 to 1. The details of two scenes
have nothing to do with each other, so the squares of their contrasts add up: in the middle
of a dissolve half of the contrast is gone. Motion, fire, and clouds that change their form
keep their contrast. Light and fog change it, but the scene keeps its structure: the
pictures before and after are like each other. A fade from black is a dissolve, too; a fade
to black is none, because no scene follows.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, stack

from cloudconv.images import TINY
from cloudconv.schedule.cuts import Thumbnail, unlikeness

_Values = NDArray[np.float64]
_Numbers = NDArray[np.int_] | int

_SHORTEST, _LONGEST = 0.2, 2.5  # durations of dissolves that are searched, in seconds
_LEAST_FRAMES = 4
_LONGER = 1.25  # ratio of two durations that are searched
# Factor by which thumbnails are reduced for weights, so that motion counts little.
_REDUCTION = 4
_PLACES = np.arange(1, 8)[:, None] / 8  # in a dissolve, at which pictures are compared
_MIDDLE = slice(2, 5)  # of these places
_UNEVEN = 0.2  # greatest difference of a weight from the expected one
_CONTRAST = 0.17  # the same of the squared contrast, as a part of the greatest
_UNMIXED = 0.8  # greatest part of the pictures in the middle that no weighted sum explains
_LEAST_CHANGE = 0.02  # of luma in [0, 1], apart from the mean light
_UNLIKE = 0.85  # least unlikeness of the pictures at both ends


def dissolved(thumbnails: Sequence[Tensor], rate: float) -> int | None:
    """Return the number of the first picture after the last dissolve, or None.

    ``thumbnails``: luma of successive pictures, (36, 64) each, in [0, 1]. ``rate``: the
    number of pictures in a second.
    """
    if len(thumbnails) <= _LEAST_FRAMES:
        return None
    pictures = [Thumbnail(luma) for luma in thumbnails]
    small = F.avg_pool2d(stack([picture.luma for picture in pictures])[:, None], _REDUCTION)
    flat = small.flatten(1).double()
    apart = _squares((flat - flat.mean(1, keepdim=True)).numpy())
    contrast = np.array([float(picture.detail.square().mean()) for picture in pictures])
    candidates: list[tuple[float, int, int]] = []
    span = max(float(_LEAST_FRAMES), _SHORTEST * rate)
    while span <= min(_LONGEST * rate, len(pictures) - 1):
        candidates += _candidates(apart, contrast, round(span))
        span *= _LONGER
    chosen: list[tuple[int, int]] = []
    for _, first, last in sorted(candidates, reverse=True):
        if all(last <= begin or end <= first for begin, end in chosen):
            chosen.append((first, last))
    for first, last in sorted(chosen, reverse=True):
        shows = float(thumbnails[last + _beside(last - first)].std()) >= _LEAST_CHANGE
        if shows and unlikeness(pictures[first], pictures[last]) >= _UNLIKE:
            return _end(apart, first, last)
    return None


def _squares(pictures: _Values) -> _Values:
    """Return the mean squared difference of each two of (n, values) pictures."""
    products = pictures @ pictures.T / pictures.shape[1]
    own = products.diagonal()
    apart: _Values = np.maximum(own[:, None] + own - 2 * products, 0)
    return apart


def _candidates(
    apart: _Values, contrast: _Values, span: int
) -> list[tuple[float, int, int]]:
    """Return possible dissolves over ``span`` pictures: explained change, both ends.

    The later scene is shown for at least half as long as the dissolve takes.
    """
    first = np.arange(len(apart) - span - _beside(span))
    last = first + span
    within = np.rint(first + span * _PLACES).astype(int)
    change = apart[first, last]
    weights = _weights(apart, first, last, within)
    rest = np.maximum(apart[within, first] - weights**2 * change, 0)[_MIDDLE].mean(0)
    expected = (1 - _PLACES) ** 2 * contrast[first] + _PLACES**2 * contrast[last]
    most = np.maximum(np.maximum(contrast[first], contrast[last]), TINY)
    chosen = np.flatnonzero(
        (change >= _LEAST_CHANGE**2)
        & (np.abs(weights - _PLACES).max(0) <= _UNEVEN)
        & (np.abs(contrast[within] - expected).max(0) <= _CONTRAST * most)
        & (4 * rest <= _UNMIXED**2 * change)
    )
    explained = np.sqrt(change) - np.sqrt(rest)
    return [(float(explained[k]), int(first[k]), int(last[k])) for k in chosen]


def _beside(span: int) -> int:
    return max(2, span // 2)


def _weights(apart: _Values, first: _Numbers, last: _Numbers, within: _Numbers) -> _Values:
    """Return the weight of the last picture in the sums nearest to pictures within."""
    whole = np.maximum(apart[first, last], TINY)
    weights: _Values = (apart[within, first] + whole - apart[within, last]) / (2 * whole)
    return weights


def _end(apart: _Values, first: int, last: int) -> int:
    """Return the first picture without a part of the earlier scene."""
    after = last + _beside(last - first)
    weights = _weights(apart, first, after, np.arange(first, after + 1))
    quarter, more = (int(np.argmax(weights >= share)) for share in (0.25, 0.75))
    # After an even dissolve's second picture the end follows in half the time between both.
    end = first + more + 0.7 * (more - quarter)
    return min(max(ceil(end) + 1, last), after)
