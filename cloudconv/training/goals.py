"""Define the training goals: the input frames, the target frames, and the naive baseline.

A window is a run of frames of a clip. A sample is a choice of frames of one window, in
temporal order. ``indices`` are the numbers of these frames within the window.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from cloudconv.errors import ModelError, SettingsError
from cloudconv.models.base import Interpolator, Model, Predictor, Reconstructor
from cloudconv.models.catalogue import ModelSpec
from cloudconv.models.ops import pad_to_multiple
from cloudconv.models.pair import Pair

_NEAR = 2.0  # exponent of a uniform random number, so that near horizons are more frequent


@dataclass(frozen=True, slots=True)
class Prediction:
    """A picture that the model makes, the true and the naive picture: (B, 3, H, W) float32.

    ``context`` are the input frames, (B, T, 3, H, W); ``levels`` are coarser pictures.
    """

    picture: Tensor
    truth: Tensor
    naive: Tensor
    context: Tensor
    levels: tuple[Tensor, ...] = ()


Predictions = list[Prediction]
M = TypeVar("M", bound=Model)


class Goal(ABC, Generic[M]):
    """A task to train: the choice of samples, and the pictures that a model makes."""

    naive: str
    """Name of the naive baseline."""
    length: int
    """Number of frames of a window."""

    @abstractmethod
    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the indices of a sample's frames within a window, in rising order."""

    @abstractmethod
    def make(self, model: M, frames: Tensor, indices: Tensor, noise: float) -> Predictions:
        """Return the pictures that the model makes of a batch of samples, with gradients.

        ``frames`` are (B, L, 3, H, W) float32 in [0, 1], and ``indices`` (B, L) their
        numbers within the window. ``noise`` is the standard deviation of noise that the
        input gets.
        """

    @abstractmethod
    def validation(self) -> list[tuple[list[int], list[str]]]:
        """Return a validation window's samples: indices, and labels of made pictures.

        The label of a forecast is the number of frames ahead.
        """


class InterpolationGoal(Goal[Interpolator]):
    """The goal to make any frame between two source frames at most ``gap`` apart."""

    naive = "blend"

    def __init__(self, spec: ModelSpec, gap: int) -> None:
        if not spec.arbitrary_timestep and gap % 2:
            raise SettingsError(
                f"gap-without-middle: {spec.name} makes only the frame in the middle of "
                f"two, and a gap of {gap} has no middle frame: give an even number."
            )
        self.spec = spec
        self.gap = gap
        self.length = gap + 1

    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the indices of a pair and of a frame inside."""
        if self.spec.arbitrary_timestep:
            gap = 2 + int((self.gap - 1) * random.random() ** _NEAR)
            middle = int(random.integers(1, gap))
        else:
            gap = int(random.integers(2, self.gap + 1))
            gap -= gap % 2
            middle = gap // 2
        return [0, middle, gap]

    def make(
        self, model: Interpolator, frames: Tensor, indices: Tensor, noise: float
    ) -> Predictions:
        """Interpolate the middle frame.

        The model's stages before the last become ``levels``.
        """
        times = indices.float()
        timestep = (times[:, 1] - times[:, 0]) / (times[:, 2] - times[:, 0])
        x0, truth, x1 = frames.unbind(1)
        both = Pair.of([_noisy(x0, noise), _noisy(x1, noise)], timestep)
        staged = model.staged and model.training
        *earlier, picture = model.stages(both) if staged else [model(both)]
        naive = torch.lerp(x0, x1, timestep.view(-1, 1, 1, 1))
        return [Prediction(picture, truth, naive, frames[:, ::2], tuple(earlier))]

    def validation(self) -> list[tuple[list[int], list[str]]]:
        return [([0, 1, 2], ["1"])]


class Forecast(Goal[Predictor]):
    """The goal to predict ``ahead`` frames one by one, each from the frames before it."""

    naive = "hold"

    def __init__(self, spec: ModelSpec, ahead: int) -> None:
        self.context = spec.context
        self.ahead = ahead
        self.length = spec.context + ahead

    def picks(self, random: np.random.Generator) -> list[int]:
        return list(range(self.length))

    def make(
        self, model: Predictor, frames: Tensor, indices: Tensor, noise: float
    ) -> Predictions:
        context = frames[:, : self.context]
        truths = frames[:, self.context :].unbind(1)
        last = context[:, -1]
        seen = _noisy(context, noise)
        result = []
        for truth in truths:
            *earlier, picture = model.stages(seen) if model.staged else [model(seen)]
            result.append(Prediction(picture, truth, last, seen, tuple(earlier)))
            seen = torch.cat((seen[:, 1:], picture[:, None]), 1)
        return result

    def validation(self) -> list[tuple[list[int], list[str]]]:
        return [
            (list(range(self.length)), [str(step) for step in range(1, self.ahead + 1)])
        ]


class Direct(Forecast):
    """The goal to predict one of ``ahead`` frames with a model that takes a horizon."""

    def picks(self, random: np.random.Generator) -> list[int]:
        ahead = int(self.ahead * random.random() ** _NEAR)
        return [*range(self.context), self.context + ahead]

    def make(
        self, model: Predictor, frames: Tensor, indices: Tensor, noise: float
    ) -> Predictions:
        context, truth = frames[:, :-1], frames[:, -1]
        horizon = (indices[:, -1] - indices[:, -2]).float()
        picture = model(_noisy(context, noise), horizon)
        return [Prediction(picture, truth, context[:, -1], context)]

    def validation(self) -> list[tuple[list[int], list[str]]]:
        """Return a sample for three horizons: 1, a third of the farthest, the farthest."""
        horizons = sorted({1, -(-self.ahead // 3), self.ahead})
        return [([*range(self.context), self.context + h - 1], [str(h)]) for h in horizons]


class Reconstruction(Goal[Reconstructor]):
    """The goal to reconstruct a frame from the model's smaller representation of it."""

    naive = "mean colour"
    length = 1

    def picks(self, random: np.random.Generator) -> list[int]:
        return [0]

    def make(
        self, model: Reconstructor, frames: Tensor, indices: Tensor, noise: float
    ) -> Predictions:
        truth = frames[:, 0]
        mean = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
        return [Prediction(model(_noisy(truth, noise)), truth, mean, frames)]

    def validation(self) -> list[tuple[list[int], list[str]]]:
        return [([0], ["1"])]


def goal_for(spec: ModelSpec, *, rollout: int | None, gap: int) -> Goal[Any]:
    """Return the goal for a model's task.

    ``gap`` is the greatest distance of a pair in frames.
    """
    if not spec.parameters:
        raise ModelError(
            f"nothing-to-train: {spec.name} has no weights, so there is nothing to train: "
            "choose a network."
        )
    if spec.task == "interpolate":
        return InterpolationGoal(spec, gap)
    if spec.task == "reconstruct":
        return Reconstruction()
    if spec.cls.takes_horizon:
        return Direct(spec, rollout or 1)
    return Forecast(spec, rollout or 1)


def padded(frames: Tensor, multiple: int) -> Tensor:
    """Return frames (B, L, C, H, W) with H and W padded to multiples of ``multiple``."""
    flat = pad_to_multiple(frames.flatten(0, 1), multiple)
    return flat.view(*frames.shape[:2], *flat.shape[1:])


def _noisy(frames: Tensor, noise: float) -> Tensor:
    return frames + noise * torch.randn_like(frames) if noise else frames
