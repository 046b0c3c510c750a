"""What each task asks of a model: which frames it sees, which it must make, what is naive.

A sample's frames are in the order of time. ``places`` numbers them within their window.
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
    Around,
    Interpolator,
    Model,
    ModelSpec,
    Predictor,
    Reconstructor,
)
from cloudconv.models.ops import pad_to_multiple

_NEAR = 2.0
"""How much oftener near horizons and short gaps are drawn than far ones: K·u² of a uniform u."""


_REACH = 6
_ALONE = 0.05
"""How many samples lack the frame before the pair, or that after it, as at cuts."""


@dataclass(frozen=True, slots=True)
class Made:
    """A made picture beside the true and the naive one: (B, 3, H, W) float32 each.

    ``levels``: coarser or earlier versions that a model made on its way, coarse to fine.
    ``context``: what it was made from, (B, T, 3, H, W).
    """

    picture: Tensor
    truth: Tensor
    naive: Tensor
    context: Tensor
    levels: tuple[Tensor, ...] = ()


class Goal(ABC):
    """One task: how samples are drawn for it, and what comes of them."""

    naive: str
    """What the naive baseline is called."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Frames of a window."""

    @abstractmethod
    def picks(self, random: np.random.Generator) -> list[int]:
        """The frames of a window that a sample takes, rising."""

    @abstractmethod
    def make(self, frames: Tensor, places: Tensor, noise: float) -> list[Made]:
        """Run the model, differentiably.

        Args:
            frames: (B, L, 3, H, W) float32 in [0, 1].
            places: (B, L) whole numbers.
            noise: standard deviation of what is added to the model's input.
        """

    @abstractmethod
    def validation_picks(self) -> list[list[int]]:
        """The samples that each validation window gives."""

    def labels(self, picks: list[int]) -> list[str]:
        """What each picture that comes of a validation sample is called in reports."""
        return ["1"]

    def narrow(self) -> bool:
        """Make do with shorter windows from now on; False where that cannot be done."""
        return False


def window_length(spec: ModelSpec, gap: int) -> int:
    """Frames from which an interpolator learns: a gap, or three for one that looks at four."""
    return (3 if spec.context >= FOUR else 1) * gap + 1


class Interpolation(Goal):
    """From two frames, any of those between them, which are ``gap`` apart at most."""

    naive = "blend"

    def __init__(self, model: Interpolator, gap: int) -> None:
        if gap < 2:
            raise SettingsError("gap-too-small", gap=gap)
        if not model.spec.arbitrary_timestep and gap % 2:
            raise SettingsError("gap-without-middle", model=model.spec.name, gap=gap)
        self.model, self.gap = model, gap
        self._around = model.spec.context >= FOUR

    @property
    def length(self) -> int:
        return window_length(self.model.spec, self.gap) if self._around else self.gap + 1

    def narrow(self) -> bool:
        wide, self._around = self._around, False
        return wide

    def picks(self, random: np.random.Generator) -> list[int]:
        if self.model.spec.arbitrary_timestep:
            gap = 2 + int((self.gap - 1) * random.random() ** _NEAR)
            middle = int(random.integers(1, gap))
        else:
            gap = int(random.integers(2, self.gap + 1))
            gap -= gap % 2
            middle = gap // 2
        if not self._around:
            return [0, middle, gap]
        before, after = random.random(2) < _ALONE
        return [gap * before, gap, gap + middle, 2 * gap, 3 * gap - gap * after]

    def make(self, frames: Tensor, places: Tensor, noise: float) -> list[Made]:
        middle = places.shape[1] // 2
        pair = slice(middle - 1, middle + 2, 2)
        times = places[:, middle - 1 : middle + 2].float()
        span = times[:, 2] - times[:, 0]
        timestep = ((times[:, 1] - times[:, 0]) / span).view(-1, 1, 1, 1)
        x0, x1 = frames[:, pair].unbind(1)
        around = None
        if self._around:
            reach = (places[:, [1, 4]] - places[:, [0, 3]]) / span[:, None]
            around = Around(_noisy(frames[:, 0], noise), _noisy(frames[:, 4], noise), reach)
        *earlier, made = self._stages(_noisy(x0, noise), _noisy(x1, noise), timestep, around)
        naive = x0 + (x1 - x0) * timestep
        return [Made(made, frames[:, middle], naive, frames[:, pair], tuple(earlier))]

    def _stages(
        self, x0: Tensor, x1: Tensor, timestep: Tensor, around: Around | None
    ) -> list[Tensor]:
        if self.model.spec.stages and self.model.training:
            return self.model.stages(x0, x1, timestep, around)
        given = (x0, x1, timestep) if around is None else (x0, x1, timestep, 1.0, around)
        return [self.model(*given)]

    def validation_picks(self) -> list[list[int]]:
        return [[0, 2, 3, 4, 6]] if self._around else [[0, 1, 2]]


class Rollout(Goal):
    """From the context, the ``steps`` frames that follow, each seeing those made before it."""

    naive = "hold"

    def __init__(self, model: Predictor, steps: int) -> None:
        self.model, self.steps = model, steps
        self.context = model.spec.context

    @property
    def length(self) -> int:
        return self.context + self.steps

    def picks(self, random: np.random.Generator) -> list[int]:
        return list(range(self.length))

    def make(self, frames: Tensor, places: Tensor, noise: float) -> list[Made]:
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
        return [list(range(self.length))]

    def labels(self, picks: list[int]) -> list[str]:
        return [str(step) for step in range(1, self.steps + 1)]


class Direct(Goal):
    """From the context, one frame up to ``reach`` ahead: for models that are told the horizon."""

    naive = "hold"

    def __init__(self, model: Predictor, reach: int) -> None:
        self.model, self.reach = model, reach
        self.context = model.spec.context

    @property
    def length(self) -> int:
        return self.context + self.reach

    def picks(self, random: np.random.Generator) -> list[int]:
        ahead = int(self.reach * random.random() ** _NEAR)
        return [*range(self.context), self.context + ahead]

    def make(self, frames: Tensor, places: Tensor, noise: float) -> list[Made]:
        context, truth = frames[:, :-1], frames[:, -1]
        horizon = (places[:, -1] - places[:, -2]).float()
        made = self.model(_noisy(context, noise), horizon)
        return [Made(made, truth, context[:, -1], context)]

    def validation_picks(self) -> list[list[int]]:
        horizons = sorted({1, -(-self.reach // 3), self.reach})
        return [[*range(self.context), self.context + h - 1] for h in horizons]

    def labels(self, picks: list[int]) -> list[str]:
        return [str(picks[-1] - picks[-2])]


class Reconstruction(Goal):
    """A frame again, through the model's narrow middle."""

    naive = "mean colour"
    length = 1

    def __init__(self, model: Reconstructor) -> None:
        self.model = model

    def picks(self, random: np.random.Generator) -> list[int]:
        return [0]

    def make(self, frames: Tensor, places: Tensor, noise: float) -> list[Made]:
        truth = frames[:, 0]
        mean = truth.mean(dim=(2, 3), keepdim=True).expand_as(truth)
        return [Made(self.model(_noisy(truth, noise)), truth, mean, frames)]

    def validation_picks(self) -> list[list[int]]:
        return [[0]]


def goal_for(model: Model, *, rollout: int | None, gap: int) -> Goal:
    """The goal that fits the model's task; ``rollout`` None for the usual reach.

    Raises:
        SettingsError: a gap that the model can't be trained on.
        ModelError: a method without anything to train.
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
    """(B, L, C, H, W) with sides that the network takes."""
    flat = pad_to_multiple(frames.flatten(0, 1), multiple)
    return flat.view(*frames.shape[:2], *flat.shape[1:])


def shrunk_like(picture: Tensor, other: Tensor) -> Tensor:
    """``picture`` averaged down to the size of ``other``."""
    if picture.shape == other.shape:
        return picture
    return F.adaptive_avg_pool2d(picture, (other.shape[2], other.shape[3]))


def _noisy(frames: Tensor, noise: float) -> Tensor:
    return frames + noise * torch.randn_like(frames) if noise else frames
