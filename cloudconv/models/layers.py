"""Forecast a background under the camera's motion, and things that move before it.

See :mod:`cloudconv.forecasting`. Layers of this kind: Wang and Adelson, Representing Moving Images
with Layers, 1994. Each part of a forecast is a part of the last frame, moved once, or background
that an earlier frame shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cloudconv.models.base import Predictor
from cloudconv.models.flow import measured_flow

if TYPE_CHECKING:
    from cloudconv.forecasting.scene import Scene


class LayersPredictor(Predictor):
    """A forecast by layers; frames before the context show the background behind things."""

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``; no gradient passes through the measured motion."""
        return next(self._steps(context, 1))

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        scenes = [_scene(frames) for frames in context]
        for step in range(1, steps + 1):
            yield torch.cat([scene.after(step) for scene in scenes])


def _scene(frames: Tensor) -> Scene:
    """Return the layers of (T, 3, H, W), oldest first."""
    from cloudconv.forecasting.scene import scene_of  # OpenCV: every command loads this module

    shown = frames.detach().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu()
    latest_first = [np.ascontiguousarray(picture) for picture in shown.flip(0).numpy()]
    return scene_of(latest_first, frames[-1:].float(), measured_flow)
