"""Blend several pictures into one, without a seam."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from cloudconv.dreaming.planes import Group, Look, colours, held
from cloudconv.images import (
    Area,
    Floats,
    bounds,
    in_channels,
    resized,
    whole,
)

# Sides of a picture up to which all of its detail counts as coarse, in pixels.
_COARSE_SIDES = 8
# Number of strips of a picture, and their least height in pixels, because each reading
# takes time. Of a strip only the columns with a weight are read.
_STRIPS, _HEIGHT = 6, 100


def blended(pictures: Sequence[Floats], weights: Sequence[Floats]) -> Floats:
    """Blend pictures, (H, W, 3) each, without a seam.

    Fine detail is blended with sharp weights, and coarse detail with blurred weights, which
    hides the seam. The sides of the weights are at most a quarter of the pictures' sides.
    So the finest two bands have the same weights, and only small pictures need a pyramid.
    The result is the weighted mean of the full-size pictures, plus the enlarged difference
    between the pyramid's result and the weighted mean of the small pictures.

    Source: Burt and Adelson, A Multiresolution Spline With Application to Image Mosaics,
    ACM Transactions on Graphics 1983.

    Args:
        pictures: the pictures.
        weights: (h, w, 2) each, of ``weight_size``, for fine and for coarse detail; their
            sum is 1 everywhere.
    """
    smalls = [resized(picture, weights[0].shape[:2]) for picture in pictures]
    shares = [np.ascontiguousarray(weight[..., 0]) for weight in weights]
    rest = pyramid_mean(smalls, weights)
    for small, share in zip(smalls, shares, strict=True):
        rest = rest - small * in_channels(share)
    group = colours(*pictures[0].shape[:2])
    return summed(rest, shares, [held(one) for one in pictures], group, whole(group.size))


def summed(
    rest: Floats,
    shares: Sequence[Floats],
    looks: Sequence[Look],
    group: Group,
    needed: Area,
) -> Floats:
    """Return the sum of a small picture, enlarged, and of full-size pictures.

    Args:
        rest: the small picture, (h, w, 3), see :func:`blended`.
        shares: the weight of each full-size picture, (h, w).
        looks: the full-size pictures. Only the areas with a weight are looked at.
        group: the planes that are summed.
        needed: the area in which they are summed.
    """
    size = group.size
    left = 1 - sum(shares, np.zeros(rest.shape[:2], np.float32))
    result = resized(group.codes(rest, left), size)
    channels = len(group.numbers)
    for look, share in zip(looks, shares, strict=True):
        if not share.any():
            continue
        weight = resized(share, size)
        strips = max(min(_STRIPS, size[0] // _HEIGHT, len(share)), 1)
        for strip in _strips(share, strips):
            rows, columns = (
                _enlarged(span, few, side, within)
                for span, few, side, within in zip(
                    strip, share.shape, size, needed, strict=True
                )
            )
            if rows.start < rows.stop and columns.start < columns.stop:
                place = rows, columns
                own = weight[place]
                own = own if channels == 1 else in_channels(own, channels)
                cv2.accumulateProduct(look.at(group, place), own, result[place])
    return result


def _strips(share: Floats, count: int) -> Iterator[Area]:
    """Yield areas in which a weight counts, in strips of rows: little else is looked at.

    An enlarged weight also counts in the cells around its own.
    """
    around = cv2.dilate(share, np.ones((3, 3)))
    for numbers in np.array_split(np.arange(len(share)), count):
        first = int(numbers[0])
        rows, columns = bounds(around[first : first + len(numbers)])
        yield slice(first + rows.start, first + rows.stop), columns


def _enlarged(span: slice, few: int, side: int, within: slice) -> slice:
    """Return a part of ``few`` cells as pixels of a longer side, of those ``within``."""
    start, stop = (-(-end * side // few) for end in (span.start, span.stop))
    return slice(max(start, within.start), min(stop, within.stop))


def pyramid_mean(pictures: Sequence[Floats], weights: Sequence[Floats]) -> Floats:
    """Blend pictures, (h, w, 3) each, with weights, (h, w, 1 or 2) each; return (h, w, 3).

    Each band is blended with the weights at its own resolution: those of fine detail, those
    of coarse detail, or a mix. The coarsest band has two or three rows or columns, so a
    difference in light fades over a third of the picture or more.
    """
    height, width = pictures[0].shape[:2]
    share = np.float32(min(1.0, _COARSE_SIDES / max(height, width)))
    shares = [band[..., 0] + share * (band[..., -1] - band[..., 0]) for band in weights]
    if min(height, width) < 4:
        return _mean(pictures, shares)
    size = (-(-height // 2), -(-width // 2))
    coarse = [resized(picture, size) for picture in pictures]
    fine = [
        picture - resized(small, (height, width))
        for picture, small in zip(pictures, coarse, strict=True)
    ]
    smaller = [resized(band, size).reshape(*size, -1) for band in weights]
    mean = resized(pyramid_mean(coarse, smaller), (height, width)) + _mean(fine, shares)
    # The detail of an edge without the edge would be a halo.
    return mean.clip(np.min(pictures, 0), np.max(pictures, 0))


def _mean(pictures: Sequence[Floats], shares: Sequence[Floats]) -> Floats:
    total = np.zeros_like(pictures[0])
    for picture, share in zip(pictures, shares, strict=True):
        cv2.accumulateProduct(picture, in_channels(share), total)
    return total
