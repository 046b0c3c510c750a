"""Define the training goals: the input frames, the target frames, and the naive baseline.

A window is a run of consecutive frames of a clip. A sample is a choice of frames of one window, in
temporal order. ``indices`` are the numbers of these frames within the window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cloudconv.errors import ModelError, SettingsError
from cloudconv.models.base import (
    FOUR,
    Interpolator,
    Model,
    ModelSpec,
    OuterPictures,
    Predictor,
    Reconstructor,
)
from cloudconv.models.ops import pad_to_multiple

_NEAR = 2.0
"""Exponent of the random draw K·u², with u uniform: prefers near horizons and short gaps."""

_REACH = 6
"""The usual farthest horizon, in frames, of a model that takes the horizon as input."""
_ALONE = 0.05
"""Fraction of samples without the frame before the pair, and of those without the one after."""


@dataclass(frozen=True, slots=True)
class Made:
    """A picture that the model makes, with the pictures to compare: (B, 3, H, W) float32 each.

    ``truth`` is the true frame, and ``naive`` the picture of the naive baseline. ``levels`` are the
    model's intermediate pictures, coarse to fine. ``context`` are the T input frames, (B, T, 3, H,
    W).
    """

    picture: Tensor
    truth: Tensor
    naive: Tensor
    context: Tensor
    levels: tuple[Tensor, ...] = ()


class Goal(ABC):
    """A task to train: the choice of samples, and the pictures that a model makes of a sample."""

    naive: str
    """Name of the naive baseline."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Return the number of frames of a window."""

    @abstractmethod
    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the indices of a sample's frames within a window, in rising order."""

    @abstractmethod
    def make(self, frames: Tensor, indices: Tensor, noise: float) -> list[Made]:
        """Make the pictures of a batch of samples, with gradients.

        Args:
            frames: (B, L, 3, H, W) float32 in [0, 1].
            indices: (B, L), the numbers of the frames within the window.
            noise: standard deviation of the noise that is added to the input frames.

        Returns:
            An entry for each picture that the model makes of a sample.
        """

    @abstractmethod
    def validation_picks(self) -> list[list[int]]:
        """Return the frame indices of each sample that a validation window gives."""

    def labels(self, picks: list[int]) -> list[str]:
        """Return the names in reports of the pictures that are made of a validation sample."""
        return ["1"]

    def narrow(self) -> bool:
        """Use shorter windows from now on; return False if that is not possible."""
        return False


def window_length(spec: ModelSpec, gap: int) -> int:
    """Return the length in frames of an interpolator's window.

    A window has one gap, or three gaps if the model sees four frames.
    """
    return (3 if spec.context >= FOUR else 1) * gap + 1


class Interpolation(Goal):
    """The goal to make any frame between two source frames that are at most ``gap`` apart."""

    naive = "blend"

    def __init__(self, model: Interpolator, gap: int) -> None:
        """Create the goal.

        Raises:
            SettingsError: the model cannot make a frame inside the gap.
        """
        if not model.spec.arbitrary_timestep and gap % 2:
            raise SettingsError("gap-without-middle", model=model.spec.name, gap=gap)
        self.model, self.gap = model, gap
        self._four_frames = model.spec.context >= FOUR

    @property
    def length(self) -> int:
        """Return the length of one gap, or of three gaps if the model sees four frames."""
        return window_length(self.model.spec, self.gap) if self._four_frames else self.gap + 1

    def narrow(self) -> bool:
        """Leave out the outer frames from now on; return False if they are left out already."""
        had_outer_frames, self._four_frames = self._four_frames, False
        return had_outer_frames

    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the indices of a pair and of a frame inside the pair.

        A model that sees four frames also gets an outer frame on each side.
        """
        if self.model.spec.arbitrary_timestep:
            gap = 2 + int((self.gap - 1) * random.random() ** _NEAR)
            middle = int(random.integers(1, gap))
        else:
            gap = int(random.integers(2, self.gap + 1))
            gap -= gap % 2
            middle = gap // 2
        if not self._four_frames:
            return [0, middle, gap]
        before, after = random.random(2) < _ALONE
        return [gap * before, gap, gap + middle, 2 * gap, 3 * gap - gap * after]

    def make(self, frames: Tensor, indices: Tensor, noise: float) -> list[Made]:
        """Interpolate the middle frame; the model's stages before the last become ``levels``."""
        middle = indices.shape[1] // 2
        pair = slice(middle - 1, middle + 2, 2)
        times = indices[:, middle - 1 : middle + 2].float()
        span = times[:, 2] - times[:, 0]
        timestep = ((times[:, 1] - times[:, 0]) / span).view(-1, 1, 1, 1)
        x0, x1 = frames[:, pair].unbind(1)
        outer = None
        if self._four_frames:
            reach = (indices[:, [1, 4]] - indices[:, [0, 3]]) / span[:, None]
            outer = OuterPictures(_noisy(frames[:, 0], noise), _noisy(frames[:, 4], noise), reach)
        *earlier, made = self._stages(_noisy(x0, noise), _noisy(x1, noise), timestep, outer)
        naive = x0 + (x1 - x0) * timestep
        return [Made(made, frames[:, middle], naive, frames[:, pair], tuple(earlier))]

    def _stages(
        self, x0: Tensor, x1: Tensor, timestep: Tensor, outer: OuterPictures | None
    ) -> list[Tensor]:
        if self.model.spec.stages and self.model.training:
            return self.model.stages(x0, x1, timestep, outer)
        inputs = (x0, x1, timestep) if outer is None else (x0, x1, timestep, 1.0, outer)
        return [self.model(*inputs)]

    def validation_picks(self) -> list[list[int]]:
        """Return one sample: a frame halfway between its neighbours."""
        return [[0, 2, 3, 4, 6]] if self._four_frames else [[0, 1, 2]]


class Rollout(Goal):
    """The goal to predict ``steps`` frames, each from the frames before, real and predicted."""

    naive = "hold"

    def __init__(self, model: Predictor, steps: int) -> None:
        """Take the context's length from the model."""
        self.model, self.steps = model, steps
        self.context = model.spec.context

    @property
    def length(self) -> int:
        """Return the length of the context and of the rollout together."""
        return self.context + self.steps

    def picks(self, random: np.random.Generator) -> list[int]:
        """Return all frames of a window."""
        return list(range(self.length))

    def make(self, frames: Tensor, indices: Tensor, noise: float) -> list[Made]:
        """Predict frame after frame; the newest frame replaces the oldest one of the context."""
        context, truths = frames[:, : self.context], frames[:, self.context :].unbind(1)
        last = context[:, -1]
        seen = _noisy(context, noise)
        result = []
        for truth in truths:
            staged = self.model.spec.stages
            levels = self.model.stages(seen) if staged else [self.model(seen)]
            made = levels[-1]
            result.append(Made(made, truth, last, seen, tuple(levels[:-1])))
            seen = torch.cat((seen[:, 1:], made[:, None]), 1)
        return result

    def validation_picks(self) -> list[list[int]]:
        """Return one sample: all frames of a window."""
        return [list(range(self.length))]

    def labels(self, picks: list[int]) -> list[str]:
        """Return the horizon in frames of each picture."""
        return [str(step) for step in range(1, self.steps + 1)]


class Direct(Goal):
    """The goal to predict one frame, at most ``reach`` ahead, with a model that takes a horizon."""

    naive = "hold"

    def __init__(self, model: Predictor, reach: int) -> None:
        """Take the context's length from the model."""
        self.model, self.reach = model, reach
        self.context = model.spec.context

    @property
    def length(self) -> int:
        """Return the length of the context and of the farthest horizon together."""
        return self.context + self.reach

    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the context and one frame after it."""
        ahead = int(self.reach * random.random() ** _NEAR)
        return [*range(self.context), self.context + ahead]

    def make(self, frames: Tensor, indices: Tensor, noise: float) -> list[Made]:
        """Predict the frame at the sample's horizon."""
        context, truth = frames[:, :-1], frames[:, -1]
        horizon = (indices[:, -1] - indices[:, -2]).float()
        made = self.model(_noisy(context, noise), horizon)
        return [Made(made, truth, context[:, -1], context)]

    def validation_picks(self) -> list[list[int]]:
        """Return a sample for each of three horizons: the nearest, a third and the farthest."""
        horizons = sorted({1, -(-self.reach // 3), self.reach})
        return [[*range(self.context), self.context + h - 1] for h in horizons]

    def labels(self, picks: list[int]) -> list[str]:
        """Return the horizon in frames."""
        return [str(picks[-1] - picks[-2])]


class Reconstruction(Goal):
    """The goal to reconstruct a frame from the model's smaller representation of that frame."""

    naive = "mean colour"
    length = 1

    def __init__(self, model: Reconstructor) -> None:
        """Store the model."""
        self.model = model

    def picks(self, random: np.random.Generator) -> list[int]:
        """Return the only frame of a window."""
        return [0]

    def make(self, frames: Tensor, indices: Tensor, noise: float) -> list[Made]:
        """Reconstruct the frame."""
        truth = frames[:, 0]
        mean = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
        return [Made(self.model(_noisy(truth, noise)), truth, mean, frames)]

    def validation_picks(self) -> list[list[int]]:
        """Return one sample: the only frame."""
        return [[0]]


def goal_for(model: Model, *, rollout: int | None, gap: int) -> Goal:
    """Return the goal for the model's task.

    ``rollout`` is the number of predicted frames, or the farthest horizon; None for the usual one.
    ``gap`` is the greatest distance in frames of a pair.

    Raises:
        SettingsError: the model cannot make a frame inside the gap.
        ModelError: the model has no weights.
    """
    if not any(True for _ in model.parameters()):
        raise ModelError("nothing-to-train", model=model.spec.name)
    if isinstance(model, Interpolator):
        return Interpolation(model, gap)
    if isinstance(model, Predictor):
        if model.spec.takes_horizon:
            return Direct(model, rollout or _REACH)
        return Rollout(model, rollout or 1)
    assert isinstance(model, Reconstructor)
    return Reconstruction(model)


def padded(frames: Tensor, multiple: int) -> Tensor:
    """Return frames (B, L, C, H, W) with H and W padded to multiples of ``multiple``."""
    flat = pad_to_multiple(frames.flatten(0, 1), multiple)
    return flat.view(*frames.shape[:2], *flat.shape[1:])


def shrunk_like(picture: Tensor, other: Tensor) -> Tensor:
    """Return ``picture`` averaged down to the size of ``other``."""
    if picture.shape == other.shape:
        return picture
    return F.adaptive_avg_pool2d(picture, (other.shape[2], other.shape[3]))


def _noisy(frames: Tensor, noise: float) -> Tensor:
    return frames + noise * torch.randn_like(frames) if noise else frames
