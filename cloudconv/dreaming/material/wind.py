"""Measure the material's wind, and move a real frame along it.

Flow fields are backward, (2, h, w) float32, in pixels of the small picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material
from cloudconv.dreaming.pictures import (
    TINY,
    blurred,
    bounds,
    filled,
    moved,
    resized,
    resized_flow,
    weight_size,
)

EDGE = 0.02
"""Reach of the fade to unknown parts outside the picture and behind land, of the longer side."""

_RECENT = 4  # pairs that measure the motion of the last frame
_CAUTION = 0.25  # part of its way by which a moved point counts as nearer to the edge
_SMOOTH = 0.06  # sigma of the blur of the motion of a moved picture, of the longer side, at least …
_FOLD = 0.5  # … so that displacements change by this much from pixel to pixel at most
_TURNS = 16  # frames that a picture of a slow sky shows in turn, at most
_ENOUGH = 0.85  # change of the moved frame, relative to the clip's, from which none is shown
_FILLED = 0.15  # still fraction of a pixel from which on the whole pixel is filled
_FILLS_BY = 4.0  # displacement from which only the filled picture is used, in pixels


def mean_flow(material: Material, pairs: list[int]) -> Tensor:
    """Return the mean flow of pairs, continued behind still parts: (2, h, w), 0 without a pair.

    ``pairs``: the later frames of the pairs. The flow is backward, in small pixels per frame.
    """
    flow = torch.from_numpy(mean_of_pairs(material, pairs)).permute(2, 0, 1)
    return filled(flow.to(material.device), 1 - material.land)


def mean_of_pairs(material: Material, pairs: list[int]) -> NDArray[np.float32]:
    """Return the mean flow of pairs as measured: (h, w, 2), 0 without a pair."""
    flows = [material.flow(k) for k in pairs]
    return np.mean(flows, 0) if flows else np.zeros((*material.small_size, 2), np.float32)


def end_pairs(count: int, *, first: bool) -> list[int]:
    """Return the later frames of the pairs that give the motion at an end of the clip."""
    return list(range(1, count)[:_RECENT] if first else range(1, count)[-_RECENT:])


def unfolded(flow: Tensor, frames: int) -> Tensor:
    """Return a flow (2, h, w) so smooth that a picture which moves for ``frames`` does not fold."""
    measured = flow.permute(1, 2, 0).cpu().numpy()
    smooth, longest = np.full_like(measured, measured.mean((0, 1))), max(flow.shape)
    sigma = _SMOOTH * longest
    while sigma < 2 * longest:
        found = np.asarray(cv2.GaussianBlur(measured, (0, 0), sigma))
        steps = max(float(np.abs(np.diff(found, axis=axis)).max(initial=0)) for axis in (0, 1))
        if frames * steps <= _FOLD:
            smooth = found
            break
        sigma *= 1.5
    return torch.from_numpy(smooth).permute(2, 0, 1).to(flow.device)


class Drift:
    """Frames, the first and last of which move steadily before and after their times.

    ``frames``: a function that returns a frame, (3, H, W), by its number from 0 to ``count`` - 1.
    ``behind``: the sky behind the still parts. ``flows``: (2, h, w) backward flow per frame at the
    first and at the last frame, so smooth that pictures do not fold, on the device of the pictures.
    ``turns``: the number of frames that are shown in turn, so that clouds of a slow sky change
    their form. ``mirrors``: a mirror image continues each picture, because repeated edges are
    visible as streaks.
    """

    def __init__(
        self,
        frames: Callable[[int], Tensor],
        count: int,
        behind: SkyBehind,
        flows: Sequence[Tensor],
    ) -> None:
        """Store the frames and their motion."""
        self.flows, self.count, self.behind, self.turns = flows, count, behind, 0
        self.mirrors = True
        self._frames = frames
        self._ends: dict[int, tuple[Tensor, Tensor]] = {}
        self._ends = {k: self._shown(k) for k in {0, count - 1}}
        self._fastest = [float(torch.hypot(*flow).max()) for flow in self.flows]

    def over(self, skies: Sequence[Tensor]) -> Drift:
        """Return the same motion of other pictures, (3, h, w) each, that show only sky.

        Before and after their times one frame is shown, not several in turn, and edges are
        repeated: a choice of footage would take a mirror image for clouds.
        """
        made = copy(self)
        made._frames = skies.__getitem__
        made.behind = SkyBehind(torch.zeros(skies[0].shape[1:]), (1, 1))
        made.flows = [resized_flow(flow[None], skies[0].shape[1:])[0].cpu() for flow in self.flows]
        made._ends, made.turns, made.mirrors = {}, 0, False
        return made

    def frame(self, k: int) -> int:
        """Return the number of the frame that a picture shows."""
        return self._moved(k)[0]

    def picture(self, k: int) -> Tensor:
        """Return the frame ``k``, or the moved picture: (3, H, W)."""
        number, by = self._moved(k)
        if not by:
            return self._frames(number)
        fade = min(abs(by) * self._fastest[k > 0] / _FILLS_BY, 1)
        if fade == 1:
            return self.sky(k)
        picture = torch.lerp(*self._shown(number), fade)
        return moved(picture, by * self.flows[k > 0], mirrors=self.mirrors)

    def sky(self, k: int) -> Tensor:
        """Return the picture with sky in place of its still parts: (3, H, W)."""
        number, by = self._moved(k)
        if not by:
            return self.behind.filled(self._frames(number))
        return moved(self._shown(number)[1], by * self.flows[k > 0], mirrors=self.mirrors)

    def covers(self, k: int, size: tuple[int, int]) -> Tensor:
        """Return the known part of a picture: (h, w) of ``size``, 0 for points from outside."""
        if not self._outside(k):
            return torch.ones(size, device=self.flows[0].device)
        return inside(self.displacement(k, size), EDGE * max(size))

    def displacement(self, k: int, size: tuple[int, int]) -> Tensor:
        """Return the displacement, (2, h, w) of ``size``, of a picture from its frame's time."""
        return resized_flow(self._outside(k) * self.flows[k > 0][None], size)[0]

    def _outside(self, k: int) -> int:
        return k if k < 0 else max(k - self.count + 1, 0)

    def _moved(self, k: int) -> tuple[int, int]:
        """Return the number of the frame that a picture shows, and for how long it has moved."""
        away, way = self._outside(k), 1 if k > 0 else -1
        ago = self.turns - abs(self.turns - abs(away) % max(2 * self.turns, 1))
        return min(max(k, 0), self.count - 1) - way * ago, away + way * ago

    def _shown(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a frame, and the same without still parts."""
        kept = self._ends.get(number)
        if kept is None:
            picture = self._frames(number)
            kept = picture, self.behind.filled(picture)
        return kept


def drift_of(material: Material, lasts: int) -> Drift:
    """Return the frames of a material, which drift by the motion at both ends of the clip.

    ``lasts``: the greatest number of frames that a picture moves.
    """
    count = len(material)
    flows = [
        unfolded(mean_flow(material, end_pairs(count, first=one)), lasts) for one in (True, False)
    ]
    behind = SkyBehind(material.matte, weight_size(*material.size))
    drift = Drift(material.picture, count, behind, flows)
    if _moves(material, drift.flows[1]) < _ENOUGH and not any(material.hidden(0, -1)):
        drift.turns = min(_TURNS, count - 1)
    return drift


def _moves(material: Material, flow: Tensor) -> float:
    """Return the change of the last frame that a flow moves, relative to the clip's change.

    A change of the whole picture is light and does not count.
    """
    count, moving = min(_TURNS, len(material) - 1), 1 - material.land
    shown = [
        torch.from_numpy(material.glance(-1 - k)).permute(2, 0, 1).float().to(flow.device)
        for k in range(count + 1)
    ]

    def change(one: Tensor, two: Tensor) -> Tensor:
        apart = one - two
        return ((apart - apart.mean((1, 2), keepdim=True)).abs() * moving).mean()

    filmed = sum(change(a, b) for a, b in pairwise(shown))
    moved_on = change(moved(shown[0], flow), shown[0])
    return float(count * moved_on / torch.as_tensor(filmed).clamp_min(TINY))


class SkyBehind:
    """The sky behind still parts, (H, W), continued from the sky around them.

    ``size``: (h, w) of the small picture on which the sky is continued.
    """

    def __init__(self, still: Tensor, size: tuple[int, int]) -> None:
        """Widen the still parts, so that none of their rim remains in the sky."""
        # Even a rim that covers a tenth of a pixel would be visible in the moved sky.
        fraction = (_widened(still[None], 2) / _FILLED).clamp(0, 1)
        # The sky fades into its continuation, or the outline of the still parts would be visible.
        small = F.adaptive_max_pool2d(fraction, size)
        reach = max(1, round(EDGE * max(size)))
        wide = blurred(_widened(small, reach), reach / 2)
        fraction = torch.maximum(fraction, resized(wide, still.shape))
        self._known = 1 - F.adaptive_max_pool2d(fraction, size)[0]
        self._box = bounds(fraction[0])
        self._fraction = fraction[0][self._box]
        self._size = size

    def filled(self, picture: Tensor) -> Tensor:
        """Return a picture (3, H, W) with sky in place of its still parts."""
        if not self._fraction.numel():
            return picture
        behind = filled(resized(picture, self._size), self._known)
        made = picture.clone()
        made[:, *self._box].lerp_(
            resized(behind, picture.shape[-2:])[:, *self._box], self._fraction
        )
        return made


def _widened(parts: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(parts, 2 * reach + 1, 1, reach)


def inside(displacement: Tensor, edge: float) -> Tensor:
    """Return the certainty that each point comes from inside the picture.

    Args:
        displacement: (2, h, w) displacement in pixels.
        edge: distance from the edge of the picture, in pixels, in which the result falls to 0.

    Returns:
        (h, w) float32, 1 inside and where nothing moves, 0 outside, where the edge is continued as
        streaks.
    """
    return (1 - outside(displacement, edge) / edge).clamp(0, 1)


def outside(displacement: Tensor, margin: float = 0) -> Tensor:
    """Return how far outside the picture a displacement (2, h, w) leads: (h, w), in pixels.

    Points that have moved count as nearer to the edge, by at most ``margin`` pixels.
    """
    height, width = displacement.shape[-2:]
    mx, my = (_CAUTION * displacement.abs()).clamp_max(margin)
    x = displacement[0] + torch.arange(width, device=displacement.device)
    y = displacement[1] + torch.arange(height, device=displacement.device)[:, None]
    beyond_x = (mx - x).clamp_min(0) + (x + mx - (width - 1)).clamp_min(0)
    beyond_y = (my - y).clamp_min(0) + (y + my - (height - 1)).clamp_min(0)
    return torch.maximum(beyond_x, beyond_y)
