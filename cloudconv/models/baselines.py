"""Define methods without a network, the baselines for all models, and a network for tests.

Source of the flow: dense inverse search, Kroeger et al., Fast Optical Flow using Dense
Inverse Search, ECCV 2016 (arXiv 1603.03590), in OpenCV's version. Forecasts of weather
radar usually move a velocity field along itself, too (semi-Lagrangian advection). Layers:
Wang and Adelson, Representing Moving Images with Layers, 1994.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloudconv.forecasting.sampling import sample_sharply
from cloudconv.metrics import luma
from cloudconv.models.base import Interpolator, Predictor
from cloudconv.models.ops import sampling_grid, warp
from cloudconv.models.pair import Pair
from cloudconv.transfer import upload


class Blend(Interpolator):
    """A method that mixes the two pictures linearly: ``(1 - t)·x0 + t·x1``."""

    carries_alpha = True
    follows_motion = False

    def forward(self, pair: Pair) -> Tensor:
        return torch.lerp(pair.x0, pair.x1, pair.timestep)


class Hold(Interpolator):
    """A method that repeats the earlier picture at every timestep, as a player does."""

    carries_alpha = True
    follows_motion = False

    def forward(self, pair: Pair) -> Tensor:
        return pair.x0.clone()


class Last(Predictor):
    """A method that repeats the last picture."""

    def forward(self, context: Tensor) -> Tensor:
        return context[:, -1].clone()


class Linear(Predictor):
    """A method that continues the change between the last two pictures linearly."""

    def forward(self, context: Tensor) -> Tensor:
        return 2 * context[:, -1] - context[:, -2]


class FlowPredictor(Predictor):
    """A forecast by the mean flow of the last four pairs, as a baseline for trained models.

    Velocities move with the picture. Each step extends the displacement back to the last
    frame. So each forecast samples that frame once, and later forecasts blur no more than
    the first. The mirror image of the frame enters at its edges.
    """

    @torch.no_grad()
    def forecast_from(
        self, pictures: Sequence[Callable[[], Tensor]], steps: Sequence[int]
    ) -> Iterator[Tensor]:
        """See ``Predictor.forecast_from``; only the last picture is held."""
        latest = pictures[-self.spec.context :]
        last = latest[-1]()
        velocity = torch.stack(
            [
                mean_velocity(picture()[number] for picture in latest)
                for number in range(len(last))
            ]
        )
        for displacement in displacements(velocity, steps):
            yield sample_sharply(last, sampling_grid(displacement, *last.shape[-2:]))


class LayersPredictor(FlowPredictor):
    """Things before a camera that stands go on as wholes, each by one motion.

    See :mod:`cloudconv.forecasting.scene`. Each part of a forecast is a part of the last
    frame, moved once, or background that an earlier frame shows: one of the context, or one
    before it. If the camera or most of the picture moves, the forecast is that of ``flow``.
    """

    @torch.no_grad()
    def forecast_from(
        self, pictures: Sequence[Callable[[], Tensor]], steps: Sequence[int]
    ) -> Iterator[Tensor]:
        """See ``Predictor.forecast_from``; only the last picture is held as floats."""
        latest = pictures[-(self.spec.context + self.spec.past) :]
        numbers = range(len(latest[-1]()))
        films = ([partial(_numbered, one, number) for one in latest] for number in numbers)
        for made in zip(*(self._single(film, steps) for film in films), strict=True):
            yield torch.cat(made)

    def _single(
        self, pictures: Sequence[Callable[[], Tensor]], steps: Sequence[int]
    ) -> Iterator[Tensor]:
        # Imported here, because every command loads this module, and OpenCV starts slowly.
        from cloudconv.forecasting.scene import forecast

        return forecast(pictures, steps) or super().forecast_from(pictures, steps)


def _numbered(picture: Callable[[], Tensor], number: int) -> Tensor:
    return picture()[number : number + 1]


def displacements(velocity: Tensor, steps: Sequence[int]) -> Iterator[Tensor]:
    """Yield the backward displacement to the last frame at some later steps.

    ``velocity`` and the results are (B, 2, H, W) in pixels. Velocities move with the
    picture.
    """
    displacement = torch.zeros_like(velocity)
    for step in range(1, steps[-1] + 1):
        # A point at (x, y) was at (x, y) + velocity one step before, and keeps its
        # velocity.
        velocity = warp(velocity, velocity)
        displacement = velocity + warp(displacement, velocity)
        if step in steps:
            yield displacement


def mean_velocity(frames: Iterable[Tensor]) -> Tensor:
    """Return the mean backward flow of frames: (2, H, W) in pixels per frame, detached.

    The frames are (3, H, W) each, at least two, oldest first.
    """
    from cloudconv.images import measured_flow

    # All together, because the CPU waits for each copy from a GPU.
    lit = (frame.detach().float().clamp(0, 1) for frame in frames)
    greys = torch.stack([luma(frame).mul(255).round().byte() for frame in lit])
    pictures = greys.cpu().numpy()
    flows: Any = 0
    for earlier, later in pairwise(pictures):
        flows = flows + measured_flow(later, earlier)
    mean = torch.from_numpy(flows / np.float32(len(pictures) - 1))
    return upload([mean], greys.device)[0].permute(2, 0, 1)
