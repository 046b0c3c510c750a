"""Forecast by continuing the measured motion, of the whole picture or of layers.

Source of the flow: dense inverse search, Kroeger et al., Fast Optical Flow using Dense Inverse
Search, ECCV 2016 (arXiv 1603.03590), in OpenCV's version. Forecasts of weather radar usually move a
velocity field along itself, too (semi-Lagrangian advection). Layers of this kind: Wang and Adelson,
Representing Moving Images with Layers, 1994.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.sampling import sharp
from cloudconv.metrics import luma
from cloudconv.models.base import Predictor
from cloudconv.models.ops import sampling_grid, warp
from cloudconv.transfer import upload


class FlowPredictor(Predictor):
    """A forecast by the mean flow of the last four pairs, as a baseline for trained models.

    Velocities move with the picture. Each step extends the displacement back to the last frame. So
    each forecast samples that frame once, and later forecasts blur no more than the first. The
    mirror image of the frame enters at its edges.
    """

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        last = context[:, -1]
        velocity = torch.stack([mean_velocity(frames) for frames in context])
        for displacement in displacements(velocity, steps):
            yield sharp(last, sampling_grid(displacement, *last.shape[-2:]))


class LayersPredictor(Predictor):
    """A background under the camera's motion, and things before it; see ``forecasting.scene``.

    Each part of a forecast is a part of the last frame, moved once, or background that an earlier
    frame shows: one of the context, or one before it.
    """

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        from cloudconv.forecasting.scene import scene_of  # OpenCV: every command loads this module

        scenes = [scene_of(frames) for frames in context]
        for pictures in zip(*(scene.pictures(steps) for scene in scenes), strict=True):
            yield torch.cat(pictures)


def displacements(velocity: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield the backward displacement to the last frame at each later step.

    ``velocity`` and the results are (B, 2, H, W) in pixels. Velocities move with the picture.
    """
    displacement = torch.zeros_like(velocity)
    for _ in range(steps):
        # A point at (x, y) was at (x, y) + velocity one step before, and keeps its velocity.
        velocity = warp(velocity, velocity)
        displacement = velocity + warp(displacement, velocity)
        yield displacement


def mean_velocity(frames: Tensor) -> Tensor:
    """Return the mean backward flow of (T, 3, H, W): (2, H, W) in pixels per frame, detached."""
    from cloudconv.forecasting.camera import measured_flow

    grey = luma(frames.detach().float().clamp(0, 1))
    pictures = (grey * 255).round().byte().cpu().numpy()
    flows = [measured_flow(later, earlier) for earlier, later in pairwise(pictures)]
    (mean,) = upload([torch.from_numpy(np.mean(flows, 0))], frames.device)
    return mean.permute(2, 0, 1)
