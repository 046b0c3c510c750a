"""Compute the new frames of one batch on the device, with trials and blends where needed."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from cloudconv.media.color import (
    alpha_from_float,
    alpha_to_float,
    color_space,
    from_rgb,
    to_rgb,
)
from cloudconv.media.formats import layout
from cloudconv.media.frame import Frame
from cloudconv.media.pictures import Sources
from cloudconv.models import fallback as blending
from cloudconv.models.base import COLOURS, Around, Interpolator
from cloudconv.models.ops import resize
from cloudconv.render.memory import grid
from cloudconv.render.tiling import tiled
from cloudconv.render.transfer import Arriving, Transfers
from cloudconv.timeline import FramePlan


class Task(NamedTuple):
    """A planned frame with the source frames that the plan names."""

    plan: FramePlan
    sources: Sources


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A source frame on the device.

    ``channels``: RGB and opacity, if any, (3 or 4, H, W) float32; None after a lack of memory.
    ``trials``: errors of the trials that reconstruct the frame, by the times of both neighbours.
    """

    frame: Frame
    channels: Future[Tensor | None]
    trials: dict[tuple[Fraction, Fraction], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A reconstruction of the filmed frame ``target`` from ``before`` and ``after``.

    ``timestep`` is the position of the target between the two, from 0 to 1.
    """

    before: SourcePicture
    target: SourcePicture
    after: SourcePicture
    timestep: Fraction

    @property
    def key(self) -> tuple[Fraction, Fraction]:
        return self.before.frame.time, self.after.frame.time


@dataclass(frozen=True, slots=True)
class DoubtedBatch:
    """New frames of the network, (B, C, H, W), before trials and blends.

    ``doubts``: (B,) in [0, 1] on the device. ``known``: the same values on their way to the host.
    """

    tasks: list[Task]
    sources: list[list[SourcePicture]]
    made: Tensor
    timestep: Tensor
    doubts: Tensor
    known: Arriving


@dataclass(frozen=True, slots=True)
class Inference:
    """A model on its device, with the sizes of batches and tiles.

    ``fallback``: replace pictures by blends where motion fails on filmed frames. ``tile``: the side
    of tiles in pixels; None for whole frames. ``fills``: compute batches of powers of two only,
    because a caching allocator keeps memory for each size.
    """

    model: Interpolator
    device: torch.device
    dtype: torch.dtype
    transfers: Transfers
    scale: float = 1.0
    fallback: bool = False
    batch: int = 1
    tile: int | None = None
    fills: bool = False

    @torch.inference_mode()
    def channels(self, frame: Frame) -> Tensor:
        """Return a source frame on the device as RGB and opacity, (3 or 4, H, W) float32."""
        form = layout(frame.pix_fmt)
        planes = self.transfers.up(frame.planes())
        alpha = [alpha_to_float(planes.pop(), form)] if form.alpha else []
        space = color_space(frame.tags, form, frame.width, frame.height)
        rgb = to_rgb(planes, form, space)
        return torch.cat((rgb, *alpha)) if alpha else rgb

    @torch.inference_mode()
    def make(
        self, tasks: list[Task], sources: list[list[SourcePicture]]
    ) -> Arriving | DoubtedBatch:
        """Make the frames of at most ``batch`` tasks from the pictures that each of them needs.

        On a device that queues its work, frames of a model with a fallback are returned with their
        doubts, for :meth:`settle`. Otherwise the planes of all frames are returned, then the sums
        of the frames' values.
        """
        count = len(tasks)
        whole = min(self.batch, 1 << (count - 1).bit_length())
        over = whole - count if self.fills else 0
        filled, seen = [*tasks, *tasks[-1:] * over], [*sources, *sources[-1:] * over]
        columns = islice(zip(*seen, strict=True), self.model.spec.context)
        pictures = [_stack([each.channels.result() for each in column]) for column in columns]
        reaches = [
            [0.0 if o is None else float(o.reach) for o in (task.plan.before, task.plan.after)]
            for task in filled
        ]
        timesteps = [float(task.plan.timestep) for task in filled]
        timestep, reach = self.transfers.up([torch.tensor(timesteps), torch.tensor(reaches)])
        result = self._network(pictures, timestep, reach, leftover=self.fallback)[:count]
        if not self.fallback:
            return self._down(tasks, result)
        doubts = blending.doubts(result, *(picture[:count] for picture in pictures[:2]))
        known = self.transfers.down([doubts])
        made = DoubtedBatch(tasks, sources, result[:, :-1], timestep[:count], doubts, known)
        # Without a queue of copies the doubts are known already.
        return made if self.transfers.queues else self.settle(made)

    @torch.inference_mode()
    def settle(self, batch: DoubtedBatch) -> Arriving:
        """Run the trials of doubted frames, blend where trials say so, and return all planes."""
        tasks, sources, made = batch.tasks, batch.sources, batch.made
        found = [
            _trials(task, pictures) if doubt else []
            for task, pictures, doubt in zip(
                tasks, sources, batch.known.planes()[0].tolist(), strict=True
            )
        ]
        self._try([trial for trials in found for trial in trials])
        for some in self._groups([bool(trials) for trials in found]):
            shown = [
                torch.stack([trial.target.trials[trial.key] for trial in trials]).sum(0)
                for trials in found[some]
                if trials
            ]
            nothing = torch.zeros_like(shown[0])
            each = [shown.pop(0) if trials else nothing for trials in found[some]]
            weight = blending.blend_weight(torch.cat(each)) * batch.doubts[some].view(-1, 1, 1, 1)
            x0, x1 = (
                _stack([pictures[side].channels.result() for pictures in sources[some]])
                for side in (0, 1)
            )
            blending.mix_in_blend(
                made[some],
                x0,
                x1,
                batch.timestep[some],
                weight,
                sharpen=self.model.spec.restores_texture,
            )
        return self._down(tasks, made)

    def _groups(self, tried: list[bool]) -> list[slice]:
        """Return the frames that are blended together: one each on a CPU, the batch on a GPU."""
        if self.device.type == "cpu":
            return [slice(n, n + 1) for n, is_tried in enumerate(tried) if is_tried]
        return [slice(None)] if any(tried) else []

    def _try(self, trials: list[_Trial]) -> None:
        """Run the trials that have no result yet: one by one on a CPU, in one batch on a GPU."""
        missing = {
            (id(trial.target), *trial.key): trial
            for trial in trials
            if trial.key not in trial.target.trials
        }
        waiting = list(missing.values())
        # The memory is planned for one tile at a time.
        step = 1 if self.device.type == "cpu" or self.tile is not None else len(waiting)
        for start in range(0, len(waiting), max(step, 1)):
            some = waiting[start : start + step]
            used = {
                id(picture): picture
                for each in some
                for picture in (each.before, each.target, each.after)
            }
            small = {
                key: resize(_stack([picture.channels.result()])[:, :COLOURS], blending.SHRINK, 2)
                for key, picture in used.items()
            }
            first, filmed, last = (
                _joined([small[id(picture)] for picture in column])
                for column in zip(
                    *((each.before, each.target, each.after) for each in some), strict=True
                )
            )
            moments = [float(trial.timestep) for trial in some]
            (timestep,) = self.transfers.up([torch.tensor(moments)])
            made = self._network([first, last], timestep)[:, :COLOURS]
            errors = blending.errors(made, first, filmed, last, timestep)
            for trial, error in zip(some, torch.split(errors, 1), strict=True):
                trial.target.trials[trial.key] = error

    def _network(
        self,
        pictures: list[Tensor],
        timestep: Tensor,
        reach: Tensor | None = None,
        *,
        leftover: bool = False,
    ) -> Tensor:
        """Return the model's pictures for a pair, and the frames before and after it, if any."""
        x0, x1 = pictures[:2]
        if x0.shape[1] > COLOURS and not self.model.spec.carries_alpha:
            colours = [x[:, :COLOURS] for x in pictures]
            made = self._network(colours, timestep, reach, leftover=leftover)
            alpha = x0[:, COLOURS:].lerp(x1[:, COLOURS:], timestep.view(-1, 1, 1, 1))
            return torch.cat((made[:, :COLOURS], alpha, made[:, COLOURS:]), 1)

        def run(a: Tensor, b: Tensor, *outer: Tensor) -> Tensor:
            around = None if reach is None or not outer else Around(outer[0], outer[1], reach)
            return self.model.interpolate(
                a, b, timestep, scale=self.scale, around=around, leftover=leftover
            )

        if self.tile is None:
            return run(*pictures)
        multiple, overlap = grid(self.model, self.scale)
        return tiled(run, *pictures, tile=self.tile, overlap=overlap, multiple=multiple)

    def _down(self, tasks: list[Task], result: Tensor) -> Arriving:
        """Start the copy of the planes of all frames, then of the sums of their values.

        Planes of pictures that are on the device stay there. The sums show on arrival whether all
        values are finite, so that the device need not stop for the check.
        """
        like = tasks[0].sources.left
        planes = [plane for each in result for plane in _planes(like, each)]
        totals = result.sum((1, 2, 3))
        if like.planes()[0].device.type == "cpu":
            return self.transfers.down([*planes, totals])
        return self.transfers.down([totals], stay=planes)


def _stack(pictures: list[Tensor | None]) -> Tensor:
    present = [picture for picture in pictures if picture is not None]
    if len(present) < len(pictures):
        raise MemoryError("a source frame did not fit")
    # A single picture is not copied: at 3840x2160 that would be 100 MB.
    return present[0][None] if len(present) == 1 else torch.stack(present)


def _joined(pictures: list[Tensor]) -> Tensor:
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures)


def _trials(task: Task, pictures: list[SourcePicture]) -> list[_Trial]:
    """Return the trials that reconstruct the frames of the pair from those beside them."""
    left, right, before, after = pictures
    plan = task.plan
    trials = []
    if plan.before is not None:
        reach = plan.before.reach
        trials.append(_Trial(before, left, right, reach / (1 + reach)))
    if plan.after is not None:
        trials.append(_Trial(left, right, after, 1 / (1 + plan.after.reach)))
    return trials


def _planes(like: Frame, channels: Tensor) -> list[Tensor]:
    """Return the planes of a picture (3 or 4, H, W) in the pixel format of another frame."""
    form = layout(like.pix_fmt)
    space = color_space(like.tags, form, like.width, like.height)
    planes = list(from_rgb(channels[:COLOURS], form, space))
    if form.alpha:
        planes.append(alpha_from_float(channels[COLOURS:], form))
    return planes
