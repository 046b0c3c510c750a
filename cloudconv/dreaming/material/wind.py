"""Measure the material's wind, and move a real frame along it.

Flow fields are backward, (2, h, w) float32, in pixels of the small picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from cloudconv.dreaming.material.material import Material, spread
from cloudconv.dreaming.pictures import (
    blurred,
    bounds,
    filled,
    moved,
    resized,
    resized_flow,
)
from cloudconv.models.ops import warp

EDGE = 0.02
"""Reach of the fade to unknown parts outside the picture and behind land, of the longer side."""

_RECENT = 4  # pairs that measure the motion of the last frame
_SMOOTH = 0.06  # sigma of the blur of the motion of a moved picture, of the longer side, at least …
_FOLD = 0.5  # … so that displacements change by this much from pixel to pixel at most
_AGO = 16  # frames before the last that a forecast shows in turn, at most
_ENOUGH = 0.85  # change of the moved last frame, relative to the clip's, from which none is shown
_FILLED = 0.15  # still fraction of a pixel from which on the whole pixel is filled
_FILLS_BY = 4.0  # displacement from which only the filled picture is used, in pixels


class Wind:
    """The mean flow of the material, ``mean``, and the flow of its last pairs, ``recent``.

    Both are continued behind still parts. ``reverse`` gives the motion of the material played
    backwards, from its first frame.
    """

    def __init__(self, material: Material, *, reverse: bool = False) -> None:
        """Measure both flows."""
        self.size = material.small_size
        self.device = material.device
        self.moving = 1 - material.land
        count = len(material)
        self.mean = self._flow(material, spread(count) if count > 1 else [], reverse)
        self.recent = self._flow(material, end_pairs(count, first=reverse), reverse)

    def _flow(self, material: Material, pairs: list[int], reverse: bool) -> Tensor:
        if not pairs:
            return torch.zeros(2, *self.size, device=self.device)
        flow = np.mean([material.flow(k) for k in pairs], 0)
        field = torch.from_numpy(flow).permute(2, 0, 1).to(self.device)
        if reverse:
            # The forward flow is approximated from the backward flow.
            field = -warp(field[None], -field[None])[0]
        return filled(field, self.moving)


def end_pairs(count: int, *, first: bool) -> list[int]:
    """Return the later frames of the pairs that give the motion at an end of the clip."""
    return list(range(1, count)[:_RECENT] if first else range(1, count)[-_RECENT:])


def unfolded(flow: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return a flow (h, w, 2) so smooth that a picture which moves for ``frames`` does not fold."""
    longest = max(flow.shape[:2])
    sigma = _SMOOTH * longest
    while sigma < 2 * longest:
        smooth = np.asarray(cv2.GaussianBlur(flow, (0, 0), sigma), np.float32)
        steps = max(float(np.abs(np.diff(smooth, axis=axis)).max(initial=0)) for axis in (0, 1))
        if frames * steps <= _FOLD:
            return smooth
        sigma *= 1.5
    return np.full_like(flow, flow.mean((0, 1)))


class Carried:
    """A real frame that moves steadily by the smooth flow of the last pairs of frames.

    Each picture is sampled only once, and does not fold for ``lasts`` frames. ``still``, (H, W),
    stays in place. ``recent``: the frames that are shown in turn; None for the picture alone.
    ``displacement``: (2, h, w), of the picture. ``sampled``: the displacement of the frame that was
    shown last.
    """

    def __init__(
        self,
        picture: Tensor,
        still: Tensor,
        wind: Wind,
        lasts: int,
        recent: Recent | None = None,
    ) -> None:
        """Start without a displacement."""
        self._wind = wind
        self._recent = recent
        self._picture = picture
        self._still = still
        self._box = bounds(still)
        self._behind = SkyBehind(still, wind.size)
        self._filled = self._behind.filled(picture)
        flow = unfolded(wind.recent.permute(1, 2, 0).cpu().numpy(), lasts)
        self._velocity = torch.from_numpy(flow).permute(2, 0, 1).to(wind.device)
        self.displacement = self.sampled = torch.zeros_like(self._velocity)
        self.age = 0

    def advance(self) -> None:
        """Move on by one step of the output."""
        self.age += 1
        self.displacement = self.age * self._velocity

    def pictures(self) -> Iterator[tuple[Tensor, None]]:
        """Yield the frames, without an end; None means that the whole picture is known."""
        while True:
            self.advance()
            yield self.picture(), None

    def picture(self) -> Tensor:
        """Return the moved picture (3, H, W), with the still parts in their place."""
        picture, filled_picture, displacement = self._picture, self._filled, self.displacement
        if self._recent is not None:
            picture, displacement = self._recent.at(self.age, self.displacement)
            filled_picture = self._behind.filled(picture)
        fade = float((torch.hypot(*self.displacement) * self._wind.moving).max() / _FILLS_BY)
        source = filled_picture if fade >= 1 else torch.lerp(picture, filled_picture, fade)
        self.sampled = displacement
        size = self._picture.shape[-2:]
        sky = moved(source, resized_flow(displacement[None], (size[0], size[1]))[0])
        # Only the box around the still parts is blended, because the pictures are large.
        sky[:, *self._box].lerp_(self._picture[:, *self._box], self._still[self._box])
        return sky


class Recent:
    """The last frames of a slow sky, each aligned to the last one.

    A single picture that moves lacks the grain of real clouds, and its clouds do not grow. So a
    forecast shows these frames in turn, at the places to which the wind carries the last one. The
    change from frame to frame is the clip's own.
    """

    def __init__(self, material: Material, wind: Wind) -> None:
        """Follow the flow back from frame to frame.

        If the wind alone makes most of the motion, only the last frame is shown.
        """
        self._material = material
        self._displacements = [torch.zeros_like(wind.mean)]
        most = 0 if _moves(material, wind) > _ENOUGH else min(_AGO, len(material) - 1)
        while len(self._displacements) <= most:
            if any(material.hidden(-1 - len(self._displacements), -1)):
                break
            flow = material.flow(len(material) - len(self._displacements))
            step = filled(torch.from_numpy(flow).permute(2, 0, 1).to(wind.device), wind.moving)
            displacement = (
                self._displacements[-1] + warp(step[None], self._displacements[-1][None])[0]
            )
            self._displacements.append(displacement)

    def at(self, age: int, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture (3, H, W) to show at an age in frames, and its displacement.

        ``displacement``, (2, h, w), is the displacement of the last frame at that age.
        """
        last = len(self._displacements) - 1
        ago = last - abs(last - age % (2 * last)) if last else 0
        picture = self._material.picture(-1 - ago)
        return picture, displacement + warp(self._displacements[ago][None], displacement[None])[0]


def _moves(material: Material, wind: Wind) -> float:
    """Return the change of the last frame that the wind moves, relative to the clip's change."""
    count = min(_AGO, len(material) - 1)
    shown = [
        torch.from_numpy(material.glance(-1 - k)).permute(2, 0, 1).float().to(wind.device)
        for k in range(count + 1)
    ]
    filmed = sum(((a - b).abs() * wind.moving).mean() for a, b in pairwise(shown))
    moved_on = ((moved(shown[0], wind.recent) - shown[0]).abs() * wind.moving).mean()
    return float(count * moved_on / torch.as_tensor(filmed).clamp_min(1e-6))


def led_up(
    material: Material, picture: Tensor, frames: int, size: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield made-up frames that lead to a picture; the last lies one frame before the picture.

    The picture is carried back against the mean wind.

    Yields:
        (3, H, W), and its known part, (h, w) of ``size``: 1 where no point is from outside.
    """
    wind = Wind(material, reverse=True)
    wind.recent = wind.mean
    carried = Carried(picture, material.matte, wind, frames)
    displacements = []
    for _ in range(frames):
        carried.advance()
        # Half precision saves memory, because dozens of fields are stored.
        displacements.append(carried.displacement.half())
    for displacement in reversed(displacements):
        carried.displacement = displacement.float()
        small = resized_flow(carried.displacement[None], size)[0]
        yield carried.picture(), inside(small, EDGE * max(size))


class SkyBehind:
    """The sky behind still parts, (H, W), continued from the sky around them.

    ``size``: (h, w) of the small picture on which the sky is continued.
    """

    def __init__(self, still: Tensor, size: tuple[int, int]) -> None:
        """Widen the still parts, so that none of their rim remains in the sky."""
        # Even a rim that covers a tenth of a pixel would be visible in the moved sky.
        fraction = (F.max_pool2d(still[None], 5, 1, 2) / _FILLED).clamp(0, 1)
        # The sky fades into its continuation, or the outline of the still parts would be visible.
        small = F.adaptive_max_pool2d(fraction, size)
        reach = max(1, round(EDGE * max(size)))
        wide = blurred(F.max_pool2d(small, 2 * reach + 1, 1, reach), reach / 2)
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


def inside(displacement: Tensor, edge: float) -> Tensor:
    """Return the certainty that each point comes from inside the picture.

    Args:
        displacement: (2, h, w) displacement in pixels.
        edge: distance outside the picture, in pixels, from which on the result is 0.

    Returns:
        (h, w) float32, 1 inside, 0 from ``edge`` pixels outside on.
    """
    return (1 - outside(displacement) / edge).clamp(0, 1)


def outside(displacement: Tensor) -> Tensor:
    """Return how far outside the picture a displacement (2, h, w) leads: (h, w), in pixels."""
    height, width = displacement.shape[-2:]
    x = displacement[0] + torch.arange(width, device=displacement.device)
    y = displacement[1] + torch.arange(height, device=displacement.device)[:, None]
    beyond_x = (-x).clamp_min(0) + (x - (width - 1)).clamp_min(0)
    beyond_y = (-y).clamp_min(0) + (y - (height - 1)).clamp_min(0)
    return torch.maximum(beyond_x, beyond_y)
