"""Follow the light of a clip, which changes slowly and by region."""

from __future__ import annotations

from copy import copy

import cv2
import numpy as np
from numpy.typing import NDArray

from cloudconv.dreaming.material.material import Material
from cloudconv.images import (
    TINY,
    Bytes,
    Floats,
    centres,
    in_channels,
    luma,
    reduced,
    spread,
)

_Fields = NDArray[np.float64]

_REGIONS = 2  # number of regions along the longer side
_BRIGHT = 0.9  # quantile of the colours of a region that counts as light
_POWERS = 2  # degree of the polynomial in time that the light of a region follows
# Least light of a region, in levels: a gain would make the noise of darkness bright.
_DARK = 8.0
_MOST = 1.6  # greatest factor by which a frame is made brighter or darker
# Greatest change of light, relative to the clip's fastest: new footage adds change.
_FOLLOWS = 0.7
_MEAN = np.full((1, 3), 1 / 3, np.float32)  # of the channels
_MOST_MOVED = 0.18  # greatest logarithm of the gain for footage at another place
_SLOPE_SIDE = 48  # longest side of the picture that the slope is fitted to
_BELIEVED = 0.8  # part of the slope that counts as light: clouds have a slope by chance


class Light:
    """The light of each frame of a material, without the clouds that pass by.

    In each region a parabola in time is fitted to the colours. Only the fraction of the
    changes that the parabola explains counts, so that passing clouds do not count as light.
    The slope of the mean light over the picture, which is brighter towards the sun, is
    fitted as well.
    """

    def __init__(self, material: Material) -> None:
        """Fit the light of a material.

        The current light begins as that of the last frame.
        """
        count = len(material)
        chosen = np.array(spread(count))
        pictures = [material.glance(int(k)) for k in chosen]
        fields = np.stack([_field(picture) for picture in pictures])
        times = (np.arange(count) - chosen.mean()) / max(count, 2)
        every = np.vander(times, min(_POWERS + 1, len(chosen)))
        terms = every[chosen]
        flat = fields.reshape(len(chosen), -1)
        fit, *_ = np.linalg.lstsq(terms, flat, rcond=None)
        varies = np.square(flat - flat.mean(0)).sum(0)
        left = np.square(flat - terms @ fit).sum(0)
        sure = np.clip(1 - left / np.maximum(varies, TINY), 0, 1)
        trend = flat.mean(0) + sure * (every @ fit - flat.mean(0))
        self._log: _Fields = np.log(np.maximum(trend, _DARK)).reshape(
            count, *fields.shape[1:]
        )
        steps = np.abs(np.diff(self._log.reshape(count, -1), axis=0)).mean(1)
        self._fastest = float(steps.max(initial=0))
        self._now = self._log[-1].copy()
        self._slope = _slope(np.mean(pictures, 0), material.static)

    def anew(self) -> Light:
        """Return the same light, whose current light is that of the last frame."""
        light = copy(self)
        light._now = self._log[-1].copy()
        return light

    def follow(self, frame: int) -> None:
        """Move the light towards a frame's, more slowly than the clip's fastest change."""
        apart = self._log[frame] - self._now
        most = max(float(np.abs(apart).mean()), TINY)
        self._now += apart * min(1.0, _FOLLOWS * self._fastest / most)

    def on(self, frame: int, *, shift: float = 0.0) -> Floats | None:
        """Return the gains, (h, w, 3), that bring a frame to the current light.

        The result is None if all are 1. ``shift``: that of the frame, in widths.
        """
        light = self._log[frame]
        # A shift by half the width brings each side to the other.
        share = min(1.0, 2 * abs(shift))
        light = (1 - share) * light + share * light[:, ::-1]
        apart = np.clip(self._now - light, -np.log(_MOST), np.log(_MOST))
        if float(np.abs(apart).max()) < 1 / 255:
            return None
        gains: Floats = np.exp(apart).astype(np.float32)
        return gains

    def gains_at(self, columns: Floats, height: int) -> Floats:
        """Return the gains that adapt columns to the light of another place of the picture.

        Args:
            columns: (w,), the column of the clip's picture that each column is from, in
                fractions of the width.
            height: the number of rows.

        Returns:
            (height, w, 1): brightness alone, as colours may belong to passing clouds.
        """
        rows, here = centres(height), centres(len(columns))
        apart = (_terms(rows, here) - _terms(rows, columns.clip(0, 1))) @ self._slope
        gains: Floats = np.exp(apart.clip(-_MOST_MOVED, _MOST_MOVED))[..., None]
        return gains


def lit(picture: Floats, gain: Floats) -> Floats:
    """Return a picture, (…, h, w, 3) from 0 to 1, in the light of a gain.

    A darker light changes the colour of bright parts, but hardly their brightness: clipped
    parts have no detail, and would become flat grey patches. The effect falls with the cube
    of the luma.
    """
    bright = luma(picture).clip(0, 1)
    is_grey = gain.shape[-1] == 1
    mean = gain[..., 0] if is_grey else cv2.transform(gain, _MEAN).reshape(bright.shape)
    kept = 1 / (1 - bright * bright * bright * np.maximum(1 - mean, 0))
    # NumPy is slow where it repeats values along a short last axis.
    factor = in_channels((mean * kept if is_grey else kept).reshape(-1, kept.shape[-1]))
    relit: Floats = picture * factor.reshape(picture.shape)
    return relit if is_grey else relit * gain


def _terms(rows: Floats, columns: Floats) -> Floats:
    """Return the terms of a parabola over the picture, (h, w, 5), from (h,) and (w,)."""
    y, x = np.meshgrid(rows - 0.5, columns - 0.5, indexing="ij")
    return np.stack([x, y, x * y, x * x, y * y], -1)


def _slope(picture: NDArray[np.float64], static: Floats) -> Floats:
    """Return the parabola, (5,), of the logarithm of light in a picture's moving part."""
    small = reduced(picture.astype(np.float32), _SLOPE_SIDE)
    moves = reduced(static, _SLOPE_SIDE).round() == 0
    terms = _terms(*map(centres, moves.shape)).astype(np.float64)[moves]
    used = np.concatenate([terms, np.ones_like(terms[:, :1])], 1)
    values = np.log(np.maximum(small[moves].mean(-1), _DARK))
    # The ridge term of 1 makes the curves calm: clouds are no light.
    fit = np.linalg.solve(used.T @ used + np.eye(used.shape[1]), used.T @ values)
    slope: Floats = (_BELIEVED * fit[:5]).astype(np.float32)
    return slope


def _field(picture: Bytes) -> _Fields:
    """Return high quantiles of colours in large regions, (rows, columns, 3), in levels.

    The brightest parts, cloud or sky, show the light; their area depends on the weather.
    """
    half = picture[::2, ::2]
    longer = max(picture.shape[:2])
    rows, columns = (
        min((side + 1) // 2, max(1, round(_REGIONS * side / longer)))
        for side in picture.shape[:2]
    )
    levels = []
    for row in np.array_split(half, rows, 0):
        blocks = np.array_split(row, columns, 1)
        levels.append([np.quantile(block, _BRIGHT, axis=(0, 1)) for block in blocks])
    return np.array(levels)
