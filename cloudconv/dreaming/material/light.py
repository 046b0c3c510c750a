"""Follow the light of a clip, which changes slowly and by region."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.images import TINY, Bytes, Floats, centres, reduced, spread
from cloudconv.dreaming.material.material import Material
from cloudconv.metrics import luma

_Fields = NDArray[np.float64]

_REGIONS = 2  # number of regions along the longer side
_BRIGHT = 0.9  # quantile of the colours of a region that counts as light
_POWERS = 2  # degree of the polynomial in time that the light of a region follows
_DARK = 8.0  # least light of a region, in levels: a gain would make the noise of darkness bright
_MOST = 1.6  # greatest factor by which a frame is made brighter or darker
_FOLLOWS = 0.7  # greatest change of light, relative to the clip's fastest: new footage adds change
_MOST_MOVED = 0.18  # greatest logarithm of the gain for footage at another place
_WHITE = 3  # power of the luma with which a darker light loses its effect on bright parts
_SLOPE_SIDE = 48  # longest side of the picture that the slope is fitted to
_BELIEVED = 0.8  # part of the slope that counts as light: clouds have a slope by chance


class Light:
    """The light of each frame of a material, without the clouds that pass by.

    In each region a parabola in time is fitted to the colours. Only the fraction of the changes
    that the parabola explains counts, so that passing clouds do not count as light. The slope of
    the mean light over the picture, which is brighter towards the sun, is fitted as well.
    """

    def __init__(self, material: Material) -> None:
        """Fit the light of a material; the current light begins as that of the last frame."""
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
        self._log: _Fields = np.log(np.maximum(trend, _DARK)).reshape(count, *fields.shape[1:])
        steps = np.abs(np.diff(self._log.reshape(count, -1), axis=0)).mean(1)
        self._fastest = float(steps.max(initial=0))
        self._now = self._log[-1].copy()
        self._slope = _slope(np.mean(pictures, 0), material.static)

    def follow(self, frame: int) -> None:
        """Move the current light towards a frame's, more slowly than the clip's fastest change."""
        apart = self._log[frame] - self._now
        most = max(float(np.abs(apart).mean()), TINY)
        self._now += apart * min(1.0, _FOLLOWS * self._fastest / most)

    def on(self, frame: int, *, mirrored: bool = False, shift: float = 0.0) -> Tensor | None:
        """Return the gains, (3, h, w), that bring a frame to the current light; None if all are 1.

        ``mirrored``, ``shift``: the placement of the frame; the shift is in widths.
        """
        light = self._log[frame]
        light = light[:, ::-1] if mirrored else light
        # A shift by half the width brings each side to the other.
        part = min(1.0, 2 * abs(shift))
        light = (1 - part) * light + part * light[:, ::-1]
        apart = np.clip(self._now - light, -np.log(_MOST), np.log(_MOST))
        if float(np.abs(apart).max()) < 1 / 255:
            return None
        return torch.from_numpy(np.exp(apart).astype(np.float32)).permute(2, 0, 1).contiguous()

    def sampled(self, columns: Tensor, height: int) -> Tensor:
        """Return the gains that adapt columns to the light of another place of the picture.

        Args:
            columns: (w,), the column of the clip's picture that each column is from, in fractions
                of the width.
            height: the number of rows.

        Returns:
            (1, height, w): brightness alone, as colours may belong to passing clouds.
        """
        rows, here = centres(height), centres(len(columns))
        apart = _terms(rows, here) - _terms(rows, columns.clamp(0, 1))
        apart = torch.einsum("chw,c->hw", apart, self._slope)[None]
        return apart.clamp(-_MOST_MOVED, _MOST_MOVED).exp()


def lit(picture: Tensor, gain: Tensor) -> Tensor:
    """Return a picture, (..., 3, h, w) from 0 to 1, in the light of a gain.

    A darker light changes the colour of bright parts, but hardly their brightness: clipped parts
    have no detail, and would become flat grey patches.
    """
    bright = luma(picture.clamp(0, 1)).unsqueeze(-3) ** _WHITE
    return picture * gain / (1 - bright * (1 - gain.mean(-3, keepdim=True)).clamp_min(0))


def _terms(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the terms of a parabola over the picture, (5, h, w), from (h,) and (w,)."""
    y, x = torch.meshgrid(rows.float() - 0.5, columns.float() - 0.5, indexing="ij")
    return torch.stack([x, y, x * y, x * x, y * y])


def _slope(picture: NDArray[np.float64], static: Floats) -> Tensor:
    """Return the parabola, (5,), that fits the logarithm of light in a picture's moving part."""
    small = reduced(picture.astype(np.float32), _SLOPE_SIDE)
    moves = reduced(static, _SLOPE_SIDE).round() == 0
    terms = _terms(*map(centres, moves.shape)).double().numpy()[:, moves]
    used = np.concatenate([terms, np.ones_like(terms[:1])]).T
    values = np.log(np.maximum(small[moves].mean(-1), _DARK))
    # The ridge term of 1 makes the curves calm: clouds are no light.
    fit = np.linalg.solve(used.T @ used + np.eye(used.shape[1]), used.T @ values)
    return torch.from_numpy((_BELIEVED * fit[:5]).astype(np.float32))


def _field(picture: Bytes) -> _Fields:
    """Return a high quantile of each colour in large regions, (rows, columns, 3), in levels.

    The brightest parts, cloud or sky, show the light; their area depends on the weather.
    """
    half, longer = picture[::2, ::2], max(picture.shape[:2])
    rows, columns = (
        min((side + 1) // 2, max(1, round(_REGIONS * side / longer))) for side in picture.shape[:2]
    )
    found = [
        [np.quantile(part, _BRIGHT, axis=(0, 1)) for part in np.array_split(row, columns, 1)]
        for row in np.array_split(half, rows, 0)
    ]
    return np.array(found)
