"""Find what lasts in a clip and is lost in a dream: fine detail, dark land, bright sky; and smears.

Detail lasts if it is at the same place in nearly all frames: land, a wall, a person who sits.
A collage may bring new sky, but must not tear such parts, whatever their brightness. Land without
detail is found by its darkness: a place that is dark in every frame must not become bright, and a
place that is bright in every frame must not become dark. No mask of the land is used, so an error
of the mask shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cloudconv.dreaming.images import COARSE_SIDE, TINY, gradients, grey, reduced, spread
from cloudconv.dreaming.vitals.features import QUANTILE, SLACK, Array, Small

_FINE = 2.0  # sigma of the blur that separates fine detail, and of the area in which detail counts
_SURE = 4.5  # least lasting detail, in median deviations over time: 3 take slow clouds for land
_CLEAR = 2.0  # the same in levels: less is noise
_DARK, _BRIGHT = 75.0, 105.0  # levels of dark land and bright sky; between the two neither counts
_SMEARED = 0.999  # least agreement of the edges around a place in a smear, at most 1
_PART = 0.005  # least limit of a silhouette and of a smear, as a fraction of the picture
_LEAST = {"smear": _PART, "silhouette": _PART, "detail": 0.014}
_SHARP = 0.54  # finest detail of moving parts, relative to their mean gradient, of solid things
_TEXT = 0.7  # the same of a page of text, whose lines come to the places of others
_STAYS = 0.08  # least fraction of the picture with lasting detail if the camera stands still


class Lasting:
    """The lasting parts of a clip; ``pictures`` are (h, w, 3) uint8.

    ``limits``: the greatest healthy values of :meth:`lost`. ``solid``: whether what moves has finer
    detail than clouds, and nothing stays in place or the detail is as fine as text: the camera
    moves before solid things, or a page scrolls.
    """

    def __init__(self, pictures: Sequence[Small]) -> None:
        """Measure what lasts, and how much of it the clip's own halves lack."""
        shown = [reduced(pictures[k], COARSE_SIDE) for k in spread(len(pictures))]
        half = len(shown) // 2
        first, second = shown[:half], shown[half:]
        self.limits = dict(_LEAST)
        for known, other in ((first, second), (second, first)) if half else ():
            self._learn(known)
            lost = [self.lost(picture) for picture in other]
            for key, most in self.limits.items():
                unseen = np.quantile([each[key] for each in lost], QUANTILE)
                self.limits[key] = max(most, SLACK * float(unseen))
        self._learn(shown)
        fineness = float(np.mean([self._fineness(picture) for picture in shown]))
        self.solid = fineness > (_SHARP if self._lasts.mean() < _STAYS else _TEXT)

    def _learn(self, pictures: Sequence[Small]) -> None:
        levels = np.stack([_brightest(picture) for picture in pictures])
        details = np.stack([_detail(picture) for picture in pictures])
        usual = np.median(details, 0)
        varies = np.median(np.abs(details - usual), 0)
        self._lasts = np.abs(usual) > np.maximum(_SURE * varies, _CLEAR)
        self._moves = _around(self._lasts.astype(np.float32)) == 0
        self._usual: Array = np.where(self._lasts, usual, 0).astype(np.float32)
        kept = np.min([_around(detail * self._usual) for detail in details], 0)
        self._least: Array = np.where(kept > 0, kept / 2, kept)
        self._dark = cv2.dilate(levels.max(0), None) < _DARK
        self._bright = cv2.erode(levels.min(0), None) > _BRIGHT
        # A dark cloud is not as dark as land.
        most = levels.max(0)[self._dark]
        self._ground = float(np.quantile(most, QUANTILE)) if len(most) else 0.0

    def _fineness(self, picture: Small) -> float:
        """Return the finest detail of the parts that move, relative to their gradient."""
        luma = grey(picture).astype(np.float32)
        slope = cv2.magnitude(*gradients(luma))
        fine = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 1))
        return float(fine[self._moves].sum() / max(slope[self._moves].sum(), TINY))

    def lost(self, picture: Small) -> dict[str, float]:
        """Return what is lost in a picture, as fractions of the picture.

        ``smear``: all edges around a place have one direction, of the places where nothing lasts.
        ``silhouette``: dark land is lost, or covers a place that is never dark. ``detail``: a place
        has half of its least lasting detail, or less. A place that is covered in a frame of the
        clip, or in other light, has little to lose.
        """
        picture = reduced(picture, COARSE_SIDE)
        x, y = gradients(grey(picture).astype(np.float32))
        xx, yy, xy = (_around(product) for product in (x * x, y * y, x * y))
        smear = self._moves & (cv2.magnitude(xx - yy, 2 * xy) > _SMEARED * (xx + yy))
        smear &= 2 * (xx + yy) > 1  # less is noise
        levels, left = _brightest(picture), _around(_detail(picture) * self._usual)
        shape = (self._dark & (levels > _BRIGHT)) | (self._bright & (levels < self._ground))
        torn = self._lasts & (left < self._least)
        return {
            "smear": float(smear.sum() / max(self._moves.sum(), 1)),
            "silhouette": float(shape.mean()),
            "detail": float(torn.mean()),
        }


def _brightest(picture: Small) -> Array:
    """Return the brightest channel, (h, w) in levels: deep blue sky is not dark, unlike land."""
    levels: Array = picture.max(2).astype(np.float32)
    return levels


def _detail(picture: Small) -> Array:
    luma = grey(picture).astype(np.float32)
    return luma - _around(luma)


def _around(values: Array) -> Array:
    blurred: Array = cv2.GaussianBlur(values, (0, 0), _FINE)
    return blurred
