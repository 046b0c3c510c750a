"""Forecast a background under the camera's motion, and things that move before it.

See :mod:`cloudconv.forecasting`. Layers of this kind: Wang and Adelson, Representing Moving Images
with Layers, 1994. Each part of a forecast is a part of the last frame, moved once, or background
that an earlier frame shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cloudconv.models.base import Predictor
from cloudconv.models.flow import measured_flow


class LayersPredictor(Predictor):
    """A forecast by layers; frames before the context show the background behind things."""

    def forward(self, context: Tensor) -> Tensor:
        """See ``Predictor.forward``; no gradient passes through the measured motion."""
        return next(self._steps(context, 1))

    def _steps(self, context: Tensor, steps: int) -> Iterator[Tensor]:
        from cloudconv.forecasting.scene import scene_of  # OpenCV: every command loads this module

        scenes = [scene_of(frames, measured_flow) for frames in context]
        for pictures in zip(*(scene.pictures(steps) for scene in scenes), strict=True):
            yield torch.cat(pictures)
