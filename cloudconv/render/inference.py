"""Compute the new frames of one batch, with trials where motion is doubtful."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cloudconv.media.color import from_channels, to_channels
from cloudconv.media.frame import Frame, FrameTask
from cloudconv.models import fallback as blending
from cloudconv.models.base import COLOURS, Interpolator, Memo
from cloudconv.models.ops import resize
from cloudconv.render.memory import Sizes, grid
from cloudconv.render.tiling import tiled
from cloudconv.transfer import QUEUES, Arriving, download, upload

_PAIRS = 2
"""Pairs whose results are kept: CPU streams work on neighbouring frames at the same time."""


@dataclass(eq=False, slots=True)
class SourcePicture:
    """A source frame on the device; batches that run at the same time share it.

    ``trials``: the errors of the trials that reconstruct this frame; the key is the times of both
    neighbours. ``_channels`` and ``_small``: None until a batch needs the picture.
    """

    frame: Frame
    trials: dict[tuple[Fraction, Fraction], Tensor] = field(default_factory=dict)
    _channels: Tensor | None = None
    _small: Tensor | None = None
    _lock: Lock = field(default_factory=Lock)

    def channels(self, device: torch.device) -> Tensor:
        """Return RGB and opacity, if any, (3 or 4, H, W) float32; only the first call converts."""
        with self._lock:
            if self._channels is None:
                self._channels = to_channels(upload(self.frame.planes(), device), self.frame)
            return self._channels

    def small(self, device: torch.device) -> Tensor:
        """Return the colours for trials, (1, 3, h, w); only the first call reduces them."""
        if self._small is None:
            self._small = resize(self.channels(device)[None, :COLOURS], blending.SHRINK, 2)
        return self._small


class _Trial(NamedTuple):
    """A reconstruction of a filmed frame, at ``timestep`` from the frame before to that after."""

    before: SourcePicture
    target: SourcePicture
    after: SourcePicture
    timestep: Fraction

    @property
    def key(self) -> tuple[Fraction, Fraction]:
        return self.before.frame.time, self.after.frame.time


Steps = Generator[Arriving | None, None, None]
"""The computation of a batch, which yields None where the CPU would wait for the device, and last
the planes of all frames, followed by the sum of each frame's values."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A model on its device, with the sizes of batches and tiles.

    ``fallback``: blend where a trial on source frames shows that motion fails. ``fills``: repeat
    the last frame of a batch up to a power of two, at most a whole batch, because a caching
    allocator keeps memory for each size. ``memos``: see ``Interpolator.between``, of the latest
    pairs, by the times of both frames; the renderer clears them after its last frame.
    """

    model: Interpolator
    device: torch.device
    scale: float = 1.0
    fallback: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    fills: bool = False
    memos: dict[tuple[Fraction, Fraction], Memo] = field(default_factory=dict)

    @torch.inference_mode()
    def make(self, tasks: list[FrameTask], pictures: list[list[SourcePicture]]) -> Steps:
        """Make one frame for each task.

        ``tasks``: at most a batch. ``pictures``: for each task its source pictures: x0, x1, and
        the frames before and after the pair if the model or the fallback needs them.
        """
        count = len(tasks)
        whole = min(self.sizes.batch, 1 << (count - 1).bit_length())
        more = whole - count if self.fills else 0
        wanted, given = tasks + tasks[-1:] * more, pictures + pictures[-1:] * more
        columns = list(zip(*given, strict=True))
        read = [self._stack(column) for column in columns[: self.model.spec.context]]
        outer = [(task.before, task.after) for task in wanted]
        reaches = [[float(each[1]) if each else 0.0 for each in pair] for pair in outer]
        timesteps = torch.tensor([float(task.t) for task in wanted])
        memos = [self._memo(*each[:2]) for each in given]
        options = {"reach": torch.tensor(reaches), "known": memos, "leftover": self.fallback}
        new = self._network(read, timesteps, **options)[:count]
        if self.fallback:
            memo = memos[0] if self.model.remembers and len(memos) == 1 else None
            uncertainty = blending.uncertainty(new, read[0][:count], read[1][:count], memo)
            known = download([uncertainty])
            new = new[:, :-1]
            del read
            if self.device.type in QUEUES:
                yield None
            uncertain = known.planes()[0].tolist()
            if any(uncertain):
                trials = [
                    _trials(task, each) if is_uncertain else []
                    for task, each, is_uncertain in zip(tasks, pictures, uncertain, strict=True)
                ]
                self._blend(new, timesteps[:count], uncertainty, pictures, trials)
        like = tasks[0].left
        planes = [plane for each in new for plane in from_channels(each, like)]
        # A sum is finite only if all values are. The CPU checks the sums when they arrive, so the
        # device does not wait for the check.
        totals = new.sum((1, 2, 3))
        if like.planes()[0].device.type == "cpu":
            yield download([*planes, totals])
        else:
            yield download([totals], stay=planes)

    def _network(self, pictures: list[Tensor], timestep: Tensor, **options: Any) -> Tensor:
        options |= {"timestep": timestep, "scale": self.scale}
        tile = self.sizes.tile
        if tile is None:
            return self.model.between(pictures, **options)
        multiple, overlap = grid(self.model, self.scale)
        options |= {"known": None, "overall": self.model.overall(pictures[:2], self.scale)}
        run = partial(self.model.between, **options)
        return tiled(run, pictures, tile=tile, overlap=overlap, multiple=multiple)

    def _blend(
        self,
        new: Tensor,
        timestep: Tensor,
        uncertainty: Tensor,
        pictures: list[list[SourcePicture]],
        trials: list[list[_Trial]],
    ) -> None:
        """Mix plain blends into ``new``, in place, where the trials have large errors.

        Pictures are processed one by one on a CPU, all at once on a GPU.
        """
        self._try(list(chain.from_iterable(trials)))
        (timestep,) = upload([timestep], self.device)
        found = [[each.target.trials[each.key] for each in some] for some in trials]
        parts = [slice(n, n + 1) for n, some in enumerate(found) if some]
        if self.device.type != "cpu":
            parts = [slice(None)] if parts else []
        for part in parts:
            untried = torch.zeros_like(next(chain.from_iterable(found[part])))
            errors = torch.cat([sum(some, untried) for some in found[part]])
            x0, x1 = (self._stack([each[side] for each in pictures[part]]) for side in (0, 1))
            blending.mix_in_blend(
                new[part],
                x0,
                x1,
                timestep[part],
                blending.blend_weight(errors) * uncertainty[part].view(-1, 1, 1, 1),
                sharpen=self.model.sharpens,
            )

    def _try(self, trials: list[_Trial]) -> None:
        missing = {(id(t.target), *t.key): t for t in trials if t.key not in t.target.trials}
        waiting = list(missing.values())
        # The planned memory is enough for one tile, or one frame on a CPU, at a time.
        step = 1 if self.device.type == "cpu" or self.sizes.tile is not None else len(waiting)
        for start in range(0, len(waiting), max(step, 1)):
            some = waiting[start : start + step]
            *columns, times = zip(*some, strict=True)
            first, filmed, last = (
                _joined([picture.small(self.device) for picture in column]) for column in columns
            )
            timesteps = torch.tensor([float(time) for time in times])
            made = self._network([first, last], timesteps)[:, :COLOURS]
            (timestep,) = upload([timesteps], self.device)
            errors = blending.errors(made, first, filmed, last, timestep)
            for trial, error in zip(some, torch.split(errors, 1), strict=True):
                trial.target.trials[trial.key] = error

    def _memo(self, x0: SourcePicture, x1: SourcePicture) -> Memo:
        memo = self.memos.setdefault((x0.frame.time, x1.frame.time), {})
        for passed in list(self.memos)[:-_PAIRS]:
            self.memos.pop(passed, None)
        return memo

    def _stack(self, pictures: Sequence[SourcePicture]) -> Tensor:
        return _joined([picture.channels(self.device)[None] for picture in pictures])


def advance(steps: Steps) -> Arriving | Steps:
    """Continue a computation to its next ``yield``; return its result, or ``steps`` if not done."""
    return next(steps) or steps


def _joined(pictures: list[Tensor]) -> Tensor:
    # A single picture is not copied: at 3840x2160 the copy would be 100 MB.
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures)


def _trials(task: FrameTask, pictures: list[SourcePicture]) -> list[_Trial]:
    """Return the trials that reconstruct the two frames of the pair from their neighbours."""
    left, right, before, after = pictures
    trials = []
    if task.before is not None:
        trials.append(_Trial(before, left, right, 1 - 1 / (1 + task.before[1])))
    if task.after is not None:
        trials.append(_Trial(left, right, after, 1 / (1 + task.after[1])))
    return trials
